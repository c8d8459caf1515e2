"""Torch on one thread, and the memory of a process with many threads or large tensors."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


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
    return _set_malloc((_M_ARENA_MAX, pools))


def keep_freed_memory(most: int = 2**30) -> bool:
    """Lets this process reuse large blocks of freed memory. Without it, glibc returns each to the system at once.

    A training step allocates and frees the gradients of the embedding tables. Each time, the system has to clear the
    pages again. For tables of 134 MB this takes a quarter of the CPU time of a step.

    Args:
        most (`int`, *optional*, defaults to 2**30): bytes of a block, and of all free memory at the end of the heap,
            that are kept.

    Returns:
        `bool`: whether the system's allocator is glibc's and takes the setting, so that it has an effect.

    >>> keep_freed_memory() or platform.libc_ver()[0] != "glibc"
    True
    """
    return _set_malloc((_M_MMAP_THRESHOLD, most), (_M_TRIM_THRESHOLD, most), (_M_TOP_PAD, 2**26))


def limit_shape_caches(shapes: int = 16) -> None:
    """Lets oneDNN keep what it prepared for a few shapes only, in place of 1,024. Call it before the first model runs.

    On a CPU, torch computes GELU and some other functions with oneDNN, which keeps memory for each new shape. The
    batches of a training are ragged, so that each has new shapes: 13 MB for each step of `best_cpu`, 4 GB in the end.
    Variables of the environment that are set stay as they are.

    Args:
        shapes (`int`, *optional*, defaults to 16): number of shapes of each kind.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # of oneDNN, and of torch's layer above it
        os.environ.setdefault(name, str(shapes))


def _set_malloc(*settings: tuple[int, int]) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([bool(mallopt(name, value)) for name, value in settings])
