"""Engines that hand out shard numbers: this process, local processes, Dask and Ray.

An engine knows nothing of the work. It calls one picklable function with numbers and yields the results as they come.
"""

import multiprocessing
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait as wait_for_end
from threading import RLock, Thread
from typing import Any, TypeVar

from tqdm import tqdm

Result = TypeVar("Result")
Work = Callable[[int], Result]

# A shard whose worker dies this often stops the run.
_TRIES = 3
# Shards that a cluster has at a time, for each of its workers.
_AHEAD = 4


def run_work(
    work: Work[Result], numbers: Sequence[int], workers: int = 1, scheduler: str | None = None
) -> Generator[Result, None, None]:
    """Calls a function with each number.

    Args:
        work: the function. It can be pickled, and may be called more than once with a number.
        numbers: the numbers.
        workers (`int`, defaults to 1): processes on this machine. 1 is this process.
        scheduler (`str`, *optional*): a cluster in place of local processes: `tcp://HOST:PORT` of a Dask scheduler (or
            `tls://`), or `ray://HOST:PORT` of Ray's client server.

    Yields:
        The results, in any order.

    Raises:
        ValueError: If the scheduler has another form.
        RuntimeError: If a worker dies several times with the same number.

    >>> list(run_work(abs, [-1, -2]))
    [1, 2]
    """
    if scheduler is not None:
        if workers != 1:
            raise ValueError("--workers starts local processes; with --scheduler the cluster decides. Pass one.")
        if not re.fullmatch(r"(tcp|tls|ray)://[^/\s]+:\d+/?", scheduler):
            raise ValueError(f"--scheduler is {scheduler!r}; expected tcp://HOST:PORT (Dask) or ray://HOST:PORT.")
        if scheduler.startswith(("tcp://", "tls://")):
            yield from _dask(work, numbers, scheduler)
        else:
            yield from _ray(work, numbers, scheduler)
    elif workers == 1:
        yield from map(work, numbers)
    else:
        yield from _processes(work, numbers, workers)


def _processes(work: Work[Result], numbers: Sequence[int], workers: int) -> Iterator[Result]:
    """Local processes. When one dies, all are replaced, and their shards are repeated."""
    remaining = list(numbers)
    broken: Counter[int] = Counter()
    while remaining:
        with _pool(min(workers, len(remaining))) as pool:
            tasks = {pool.submit(work, number): number for number in remaining}
            try:
                for task in _as_completed(tasks):
                    result = task.result()
                    remaining.remove(tasks[task])
                    yield result
            except BrokenProcessPool as error:
                broken.update(remaining[:workers])  # they are handed out in this order
                often = [number for number, times in broken.items() if times >= _TRIES]
                if often:
                    raise RuntimeError(
                        f"a worker was killed {_TRIES} times in the shards {often[0]} to {often[-1]}, perhaps because "
                        "memory was short. Use fewer --workers or a smaller --batch_size."
                    ) from error


def _as_completed(tasks: dict[Future[Any], int]) -> Iterator[Future[Any]]:
    """The tasks as they end, in the order of their numbers among those that ended together."""
    waiting = set(tasks)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from sorted(done, key=tasks.__getitem__)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end with this one, and at once after an error or Ctrl-C."""
    before = set(multiprocessing.active_children())
    # Not fork: torch and RDKit have threads.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Prepares a process of the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C
    tqdm.set_lock(RLock())  # the default lock is a semaphore, which leaks when the process is killed
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A pool's processes would wait for ever for a driver that was killed.
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for_end([sentinel])
    os._exit(1)


def _dask(work: Work[Result], numbers: Sequence[int], address: str) -> Iterator[Result]:
    """A Dask cluster. The scheduler repeats the shards of a worker that dies."""
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ImportError('--scheduler tcp://... needs Dask: pip install "class-hf[dask]".') from error
    try:
        client = Client(address, timeout=30, set_as_default=False)
    except OSError as error:
        raise OSError(f"the Dask scheduler {address} does not answer. Start it by `dask scheduler`.") from error
    with client:
        ahead = _AHEAD * max(sum(client.nthreads().values()), 1)
        waiting = iter(numbers)
        tasks = as_completed(loop=client.loop, raise_errors=False)

        def submit(count: int) -> None:
            for number in islice(waiting, count):
                tasks.add(client.submit(work, number, pure=False))

        submit(ahead)
        for task in tasks:
            result = task.result()
            yield result
            task.release()
            submit(1)


def _ray(work: Work[Result], numbers: Sequence[int], address: str) -> Iterator[Result]:
    """A Ray cluster. Ray repeats the shards of a worker that dies. An open connection of this process is used."""
    try:
        import ray
    except ImportError as error:
        raise ImportError('--scheduler ray://... needs Ray: pip install "class-hf[ray]".') from error
    connects = not ray.is_initialized()
    if connects:
        ray.init(address, log_to_driver=False)
    try:
        remote = ray.remote(max_retries=_TRIES - 1)(_call)
        shared = ray.put(work)
        ahead = _AHEAD * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        waiting = iter(numbers)
        tasks = [remote.remote(shared, number) for number in islice(waiting, ahead)]
        while tasks:
            done, tasks = ray.wait(tasks)
            yield ray.get(done[0])
            tasks += [remote.remote(shared, number) for number in islice(waiting, 1)]
    finally:
        if connects:
            ray.shutdown()


def _call(work: Work[Result], number: int) -> Result:
    return work(number)
