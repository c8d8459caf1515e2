"""Torch on one thread, and the memory of threads."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_ARENA_MAX = -8  # of malloc.h


@contextmanager
def single_thread() -> Iterator[None]:
    """Runs the block with one torch thread, and restores the number of threads afterwards.

    >>> threads = torch.get_num_threads()
    >>> with single_thread():
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == threads
    True
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def share_memory_pools(pools: int = 2) -> bool:
    """Lets all threads of this process share a few pools of freed memory. Call it before the threads start.

    By default glibc gives each thread a pool, up to 8 for each core, and memory that is freed in a pool is not used by
    the threads of the others. In a server with many short-lived threads the process then grows for a long time.

    Args:
        pools (`int`, *optional*, defaults to 2): number of pools.

    Returns:
        `bool`: whether the system's allocator is glibc's, so that the setting has an effect.

    >>> share_memory_pools() or platform.libc_ver()[0] != "glibc"
    True
    """
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, pools))
