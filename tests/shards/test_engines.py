"""The engines: each number once, deaths of workers, and the end of the driver. The work here is light."""

import operator
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from class_hf.shards.engines import run_work

DRIVER = """
    from functools import partial
    from class_hf.shards.engines import run_work
    import time
    if __name__ == "__main__":
        for number in run_work(time.sleep, [60, 60], workers=2):
            pass
"""


def die_once(folder: str, number: int) -> int:
    """Ends its process at the first call with number 3."""
    mark = Path(folder, f"{number}")
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> None:
    raise ValueError(f"row {number} is bad")


def test_each_number_once_in_local_processes():
    assert sorted(run_work(operator.neg, range(7), workers=2)) == list(range(-6, 1))


def test_a_killed_worker_is_replaced(tmp_path):
    results = list(run_work(partial(die_once, str(tmp_path)), range(6), workers=2))
    assert sorted(results) == list(range(6))


def test_a_worker_that_dies_every_time_is_one_error():
    with pytest.raises(RuntimeError, match="a worker was killed 3 times in the shards 5 to 5"):
        list(run_work(die, [5], workers=2))


def test_the_error_of_a_worker_is_that_of_the_driver():
    with pytest.raises(ValueError, match="row [45] is bad"):
        list(run_work(fail, [4, 5, 6, 7], workers=2))


def test_workers_end_with_a_killed_driver(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    driver = subprocess.Popen([sys.executable, str(script)])
    workers = []
    deadline = time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        workers = [pid for pid in children(driver.pid) if "spawn_main" in command(pid)]
    time.sleep(1.0)  # until they watch their parent
    driver.kill()
    driver.wait()
    while any("spawn_main" in command(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers) == 2 and not [pid for pid in workers if "spawn_main" in command(pid)]


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("workers", "scheduler", "words"),
    [(2, "tcp://localhost:1", "Pass one"), (1, "localhost:8786", "expected tcp://HOST:PORT")],
)
def test_other_schedulers_are_refused(workers, scheduler, words):
    with pytest.raises(ValueError, match=words):
        list(run_work(abs, [1], workers, scheduler))


def test_ray_runs_the_same_work(monkeypatch):
    """On a cluster of this process. The client protocol of `ray://` itself is Ray's."""
    ray = pytest.importorskip("ray", reason="needs ray: the extra `ray`")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    try:
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    except Exception as error:
        pytest.skip(f"Ray did not start on this machine: {error}")
    try:
        assert sorted(run_work(operator.neg, range(5), scheduler="ray://127.0.0.1:1")) == [-4, -3, -2, -1, 0]
    finally:
        ray.shutdown()
