"""Two hosts as network namespaces: they train as one process; a host that is killed or falls silent ends the other."""

import importlib
import sys
import time
from pathlib import Path

import pytest
import torch
from run_forked import Forked
from run_trainer import train_and_save
from transformers import TrainerCallback

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
namespaces = importlib.import_module("namespaces")

ARGS = {
    "num_train_epochs": 3,
    "learning_rate": 0.01,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "seed": 5,
    "ddp_timeout": 6,
}


class Wait(TrainerCallback):
    """Waits in the middle of a step, until the test goes on."""

    def __init__(self, path):
        self.path = Path(path)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == 3 and args.process_index == 0:
            self.path.touch()
            while self.path.exists():
                time.sleep(0.01)


def train_on_host(hosts, number, settings, wait_at=None):
    """One host's process, as `recipes/train.py` runs it."""
    import run_trainer

    from class_hf.config.command import run_command
    from class_hf.training.host_watch import watching_hosts

    hosts.enter(number)
    build = run_trainer.build

    def build_waiting(settings):
        trainer = build(settings)
        if wait_at is not None:
            trainer.add_callback(Wait(wait_at))
        return trainer

    run_trainer.build = build_waiting

    def main(words):
        from class_hf import CurriculumTrainingArguments

        args = CurriculumTrainingArguments(use_cpu=True, report_to="none", **settings["args"])
        with watching_hosts(args):
            train_and_save(settings)

    sys.exit(run_command(main, []))


def settings_for(folder, batch, **more):
    return {"args": {**ARGS, "output_dir": str(folder), "per_device_train_batch_size": batch}, "dropout": 0.0, **more}


@pytest.fixture(scope="module")
def hosts():
    reason = namespaces.allowed()
    if reason is not None:
        pytest.skip(reason)
    with namespaces.network_of(2) as made:
        yield made


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    assert Forked(train_and_save, settings_for(folder, 8)).end().returncode == 0
    return torch.load(folder / "final.pt")


def start(hosts, settings, wait_at=None):
    return [
        Forked(train_on_host, hosts, number, settings, wait_at, environment=hosts.environment(number))
        for number in range(2)
    ]


def assert_close(folder, expected):
    weights = torch.load(folder / "final.pt")
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-5)


def wait_for(path):
    end = time.monotonic() + 120
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert path.exists()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_hosts_train_as_one_process(hosts, expected, tmp_path):
    for process in start(hosts, settings_for(tmp_path, 4)):
        done = process.end()
        assert done.returncode == 0, done.stderr
    assert_close(tmp_path, expected)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("fault", ["killed", "silent"])
def test_a_lost_host_ends_the_other_and_a_resume_gives_the_same_weights(fault, hosts, expected, tmp_path):
    first, second = start(hosts, settings_for(tmp_path, 4), str(tmp_path / "waits"))
    wait_for(tmp_path / "waits")
    if fault == "killed":
        second.kill()
    else:
        hosts.unplug(1)
    (tmp_path / "waits").unlink()
    started = time.monotonic()
    done = first.end(60)
    assert done.returncode == 1 and time.monotonic() - started < 30
    line = done.stderr.strip().splitlines()[-1]
    words = "was lost" if fault == "killed" else "has been silent for 6 s"
    assert line.startswith(f"error: host {hosts.addresses[1]} {words}"), line
    if fault == "silent":
        ended = second.end(60)
        assert f"error: host {hosts.addresses[0]} has been silent" in ended.stderr, ended.stderr
        hosts.plug(1)
    else:
        second.end(1)
    for process in start(hosts, settings_for(tmp_path, 4, resume=True)):
        done = process.end()
        assert done.returncode == 0, done.stderr
    assert_close(tmp_path, expected)
