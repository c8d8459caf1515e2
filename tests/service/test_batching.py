"""Requests that arrive together share a batch, errors reach only their own job, and a full queue refuses."""

import asyncio
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from class_hf.service.batching import Batcher, NobodyWaits, QueueIsFull


class Recorder:
    """Doubles numbers, and records the batches. The first batch waits until it is released."""

    def __init__(self):
        self.batches, self.released = [], threading.Event()

    def __call__(self, jobs, check):
        self.batches.append(list(jobs))
        assert self.released.wait(10)
        check()
        if 13 in jobs:
            raise ValueError("13 is refused")
        return [2 * job for job in jobs]


def run(scenario, **settings):
    recorder = Recorder()
    batcher = Batcher(recorder, **{"max_batch": 4, "max_waiting": 6, **settings})
    try:
        return asyncio.run(scenario(batcher, recorder)), recorder
    finally:
        recorder.released.set()
        batcher.close()


async def submit(batcher, jobs, size=1):
    """Tasks of jobs that have reached the queue."""
    tasks = [asyncio.ensure_future(batcher.submit(job, size)) for job in jobs]
    await asyncio.sleep(0)
    return tasks


def test_jobs_that_arrive_together_share_a_batch():
    async def scenario(batcher, recorder):
        tasks = await submit(batcher, range(7))
        assert batcher.waiting == 6
        recorder.released.set()
        return await asyncio.gather(*tasks)

    results, recorder = run(scenario)
    assert results == [0, 2, 4, 6, 8, 10, 12]
    assert recorder.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_full_queue_refuses_and_a_large_job_runs_alone():
    async def scenario(batcher, recorder):
        tasks = await submit(batcher, [0]) + await submit(batcher, [1], size=100)
        with pytest.raises(QueueIsFull):
            await batcher.submit(2)
        recorder.released.set()
        return await asyncio.gather(*tasks)

    results, recorder = run(scenario)
    assert results == [0, 2] and recorder.batches == [[0], [1]]


def test_an_error_reaches_its_own_job_only():
    async def scenario(batcher, recorder):
        tasks = await submit(batcher, [0, 1, 13, 3])
        recorder.released.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results, _ = run(scenario)
    assert results[:2] == [0, 2] and str(results[2]) == "13 is refused" and results[3] == 6


def test_a_job_without_a_waiting_client_is_not_run():
    async def scenario(batcher, recorder):
        tasks = await submit(batcher, range(3))
        tasks[1].cancel()
        await asyncio.sleep(0)
        recorder.released.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results, recorder = run(scenario)
    assert results[::2] == [0, 4] and recorder.batches == [[0], [2]]


def test_several_threads_run_batches_at_once():
    async def scenario(batcher, recorder):
        tasks = await submit(batcher, range(3))
        while len(recorder.batches) < 2:
            await asyncio.sleep(0.001)
        recorder.released.set()
        return await asyncio.gather(*tasks)

    results, recorder = run(scenario, threads=2)
    assert results == [0, 2, 4] and sorted(recorder.batches[:2]) == [[0], [1]]


def test_a_batch_that_no_client_waits_for_ends_at_its_next_check():
    ended = []

    def work(jobs, check):
        for _ in range(1000):
            time.sleep(0.002)
            try:
                check()
            except NobodyWaits:
                ended.append(jobs)
                raise
        return jobs

    async def scenario():
        batcher = Batcher(work, max_batch=4, max_waiting=9)
        first, *others = await submit(batcher, range(3))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.1)
        assert ended == [[0]]
        others[0].cancel()  # a client of the next batch still waits
        await asyncio.sleep(0.05)
        assert ended == [[0]] and not others[1].done()
        others[1].cancel()
        await asyncio.sleep(0.1)
        batcher.close()

    asyncio.run(scenario())
    assert ended == [[0], [1, 2]]
