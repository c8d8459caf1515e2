"""Joins requests that arrive together into batches, with a limit on how many may wait."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class QueueIsFull(Exception):
    """Too many queries wait."""


class NobodyWaits(Exception):
    """All clients of a batch have stopped waiting, for instance at the time limit of a request."""


class Batcher(Generic[Job, Result]):
    """Runs jobs in batches in threads of its own.

    While a batch runs, jobs collect for the next one. A job that finds a free thread starts at once, so batching adds
    no waiting time. If a batch fails, its jobs are run one by one, so that each gets its own error.

    A thread cannot be ended from outside. So `run` gets a function that it calls between the parts of long work. That
    function raises [`NobodyWaits`] if no client of the batch waits any longer, which ends the batch.

    Args:
        run: computes the results of a batch of jobs, from the jobs and that function. It is called in a thread.
        max_batch (`int`): size of a batch. A larger job is a batch alone.
        max_waiting (`int`): total size of the jobs that may wait.
        threads (`int`, defaults to 1): batches that run at the same time.

    Example:

    >>> async def example():
    ...     batcher = Batcher(lambda jobs, check: [2 * job for job in jobs], max_batch=8, max_waiting=100)
    ...     results = await asyncio.gather(*(batcher.submit(number) for number in range(3)))
    ...     batcher.close()
    ...     return results
    >>> asyncio.run(example())
    [0, 2, 4]
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job], Callable[[], None]], Sequence[Result]],
        max_batch: int,
        max_waiting: int,
        threads: int = 1,
    ):
        self._run, self.max_batch, self.max_waiting = run, max_batch, max_waiting
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="class_hf_batch")
        self._waiting: deque[tuple[Job, int, asyncio.Future[Result]]] = deque()
        self._free = threads
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references
        self.waiting = 0

    async def submit(self, job: Job, size: int = 1) -> Result:
        """Runs a job in one of the next batches.

        Args:
            job: the job.
            size (`int`, defaults to 1): what it adds to the size of a batch.

        Returns:
            Its result.

        Raises:
            QueueIsFull: If the jobs that wait have reached their limit.
        """
        if self.waiting and self.waiting + size > self.max_waiting:
            raise QueueIsFull
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, size, future))
        self.waiting += size
        self._start()
        return await future

    def close(self) -> None:
        """Ends the threads after their batches."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> None:
        """Starts a batch for each free thread."""
        while self._free and (batch := self._take()):
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._run_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[tuple[Job, asyncio.Future[Result]]]:
        """The next batch. Jobs whose client has stopped waiting are left out."""
        batch: list[tuple[Job, asyncio.Future[Result]]] = []
        total = 0
        while self._waiting and (not batch or total + self._waiting[0][1] <= self.max_batch):
            job, size, future = self._waiting.popleft()
            self.waiting -= size
            if not future.done():
                batch.append((job, future))
                total += size
        return batch

    async def _run_batch(self, batch: list[tuple[Job, asyncio.Future[Result]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            outcomes = await loop.run_in_executor(self._executor, self._outcomes, batch)
        except RuntimeError as error:  # the threads have ended
            outcomes = [error] * len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._free += 1
        self._start()

    def _outcomes(self, batch: Sequence[tuple[Job, asyncio.Future[Result]]]) -> Sequence[Result | Exception]:
        def check() -> None:
            if all(future.done() for _, future in batch):
                raise NobodyWaits

        try:
            check()
            return self._run([job for job, _ in batch], check)
        except Exception as error:
            if len(batch) == 1 or isinstance(error, NobodyWaits):
                return [error] * len(batch)
            return [outcome for part in batch for outcome in self._outcomes([part])]
