"""A killed and resumed run ends with the weights of an uninterrupted run. Two processes train as one."""

import json
import signal
from pathlib import Path

import pytest
import torch
from run_forked import run_processes
from run_trainer import build, train_and_save


def settings_for(folder: Path, **args):
    base = {
        "output_dir": str(folder),
        "num_train_epochs": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 3,
        "seed": 5,
        "curriculum_start": 0.4,
        "intensity_mode": "adaptive",
        "intensity_actions": ["sharpness", "focus", "step_size"],
        "intensity_momentum": 0.5,
    }
    return {"args": {**base, **args}}


def run(settings: dict, processes: int = 1) -> None:
    """Trains in processes of their own, which must end well."""
    for done in run_processes(train_and_save, settings, processes=processes):
        assert done.returncode == 0, done.stderr


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "final.pt")


def logged(folder: Path, key: str) -> list[float]:
    return [entry[key] for entry in json.loads((folder / "log.json").read_text()) if key in entry]


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


CASES = {
    "one process, accumulation, workers": (
        1,
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "dataloader_num_workers": 2},
    ),
    "two processes, accumulation, compression": (
        2,
        {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 2,
            "ddp_gradient_compression": "fp16",
            "max_grad_norm": 0.0,  # the gradients stay those that were exchanged
        },
    ),
}


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_equals_straight(case, tmp_path):
    processes, args = CASES[case]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run(settings_for(straight, **args), processes)

    settings = settings_for(killed, **args)
    dead = run_processes(train_and_save, {**settings, "kill_at": 7}, processes=processes)
    assert -signal.SIGKILL in [done.returncode for done in dead] and not (killed / "final.pt").exists()
    assert (killed / "checkpoint-6").is_dir()
    run({**settings, "resume": True}, processes)

    assert_same(weights(straight), weights(killed))
    assert logged(straight, "intensity") == logged(killed, "intensity")
    assert logged(straight, "loss") == logged(killed, "loss")
    # The counts of the checkpoint are continued, over all processes.
    assert logged(straight, "pairs_seen") == logged(killed, "pairs_seen")
    assert logged(straight, "pairs_seen")[:3] == [4, 8, 12]
    assert processes > 1 or logged(straight, "tokens_seen") == logged(killed, "tokens_seen")
    assert sorted(seconds := logged(killed, "cpu_seconds")) == seconds
    if "ddp_gradient_compression" in args:
        assert set(json.loads((straight / "reductions.json").read_text())) == {1}


def test_resumed_in_the_same_process_equals_straight(tmp_path):
    """At every step of the run, and at the end of an epoch."""
    straight = build(settings_for(tmp_path / "a", save_steps=1, per_device_train_batch_size=4))
    straight.train()
    total = straight.plan.total_steps
    for step in (1, straight.plan.steps_per_epoch[0], total - 1, total):
        resumed = build(settings_for(tmp_path / "b", save_strategy="no"))
        resumed.train(str(tmp_path / "a" / f"checkpoint-{step}"))
        assert resumed.state.global_step == total
        assert_same(straight.model.state_dict(), resumed.model.state_dict())
        assert resumed.optimizer.param_groups[0]["lr"] == straight.optimizer.param_groups[0]["lr"] == 0.0


@pytest.mark.distributed
def test_two_processes_draw_the_plan_and_train_as_one(tmp_path):
    """The global batches are the plan's, and the weights those of one process (towers without dropout aside)."""
    trainer = build(settings_for(tmp_path / "plan", per_device_train_batch_size=4))
    ids = [f"m{row:02d}" for row in trainer.plan.order()]
    args = {"per_device_train_batch_size": 2, "save_strategy": "no"}
    two = tmp_path / "two"
    run({**settings_for(two, **args), "trace": str(tmp_path / "rank")}, processes=2)
    ranks = [[json.loads(line) for line in (tmp_path / f"rank{rank}").read_text().splitlines()] for rank in (0, 1)]
    ranks = [[batch for batch in rank if len(batch) == 2] for rank in ranks]
    drawn = [row for first, second in zip(*ranks, strict=True) for row in (*first, *second)]
    assert drawn == ids


def test_accumulation_and_workers_draw_the_plan(tmp_path):
    for number, args in enumerate(
        (
            {"per_device_train_batch_size": 4},
            {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        )
    ):
        settings = settings_for(tmp_path / str(number), save_strategy="no", **args)
        trainer = build({**settings, "trace": str(tmp_path / f"rows{number}_")})
        trainer.train()
        lines = (tmp_path / f"rows{number}_0").read_text().splitlines()
        assert [row for line in lines for row in json.loads(line)] == [f"m{row:02d}" for row in trainer.plan.order()]


def test_a_checkpoint_that_was_not_written_to_its_end_is_skipped(tmp_path, caplog):
    settings = settings_for(tmp_path, save_steps=3)
    straight = build(settings)
    straight.train()
    steps = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*"))
    last = tmp_path / f"checkpoint-{steps[-1]}"
    (last / "trainer_state.json").write_text((last / "trainer_state.json").read_text()[:50])
    before_last = tmp_path / f"checkpoint-{steps[-2]}"
    (before_last / "rng_state.pth").write_bytes((before_last / "rng_state.pth").read_bytes()[:100])
    resumed = build(settings)
    resumed.train(resume_from_checkpoint=True)
    assert f"Skipping {last}: trainer_state.json has 50 bytes" in caplog.text
    assert f"Skipping {before_last}: rng_state.pth has 100 bytes" in caplog.text
    assert_same(straight.model.state_dict(), resumed.model.state_dict())


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    build(settings_for(tmp_path)).train()
    other = build(settings_for(tmp_path, curriculum_start=0.5))
    with pytest.raises(ValueError, match=r"made with other settings \(start 0.4 -> 0.5\)"):
        other.train(resume_from_checkpoint=True)
    other = build(settings_for(tmp_path, curriculum_end="0.8"))
    with pytest.raises(ValueError, match=r"made with other settings \(.*end"):
        other.train(resume_from_checkpoint=True)
    other = build(settings_for(tmp_path, intensity_gamma=2.0))
    with pytest.raises(ValueError, match=r"other settings \(intensity_gamma 1.0 -> 2.0\)"):
        other.train(resume_from_checkpoint=True)


def test_nothing_to_resume(tmp_path, caplog):
    """`True` starts from the beginning; a folder that is no checkpoint is refused."""
    straight = build(settings_for(tmp_path / "straight"))
    straight.train()
    trainer = build(settings_for(tmp_path / "empty"))
    trainer.train(resume_from_checkpoint=True)
    assert "holds no complete checkpoint: the run starts from the beginning" in caplog.text
    assert_same(straight.model.state_dict(), trainer.model.state_dict())
    (tmp_path / "foreign").mkdir()
    with pytest.raises(ValueError, match="no checkpoint of this trainer"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "foreign"))


CHUNKED = {
    "one process": (1, {"per_device_train_batch_size": 8, "forward_chunk_size": 3}),
    "accumulation and two processes": (
        2,
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "forward_chunk_size": 1},
    ),
}


@pytest.mark.distributed
@pytest.mark.parametrize("case", CHUNKED)
def test_chunked_batches_train_as_complete_ones(case, tmp_path):
    """Cached gradients through the Trainer, ragged molecules included; one all-reduce per step, not one per chunk."""
    processes, args = CHUNKED[case]
    same = {"save_strategy": "no", "logging_steps": 1, "intensity_mode": "scheduled", "intensity_momentum": 0.95}
    settings = {"dropout": 0.0}
    whole = dict(args, per_device_train_batch_size=args["per_device_train_batch_size"] * processes)
    whole.pop("forward_chunk_size")
    straight = build({**settings_for(tmp_path / "whole", **same, **whole), **settings})
    straight.train()
    chunked = tmp_path / "chunked"
    run({**settings_for(chunked, **same, **args), **settings}, processes)
    losses = [entry["loss"] for entry in straight.state.log_history if "loss" in entry]
    assert logged(chunked, "loss") == pytest.approx(losses, abs=1e-4)
    assert logged(chunked, "in_batch_accuracy") == pytest.approx(
        [entry["in_batch_accuracy"] for entry in straight.state.log_history if "in_batch_accuracy" in entry]
    )
    for name, value in straight.model.state_dict().items():
        torch.testing.assert_close(weights(chunked)[name], value, atol=2e-4, rtol=1e-3, msg=lambda t, n=name: n + t)
    if processes > 1:
        counts = json.loads((chunked / "reductions.json").read_text())
        assert len(counts) == straight.state.global_step and set(counts) == {1}


def test_chunked_run_resumed_equals_straight(tmp_path):
    args = {"per_device_train_batch_size": 8, "forward_chunk_size": 3}
    straight = build(settings_for(tmp_path / "a", save_steps=1, **args))
    straight.train()
    resumed = build(settings_for(tmp_path / "b", save_strategy="no", **args))
    resumed.train(str(tmp_path / "a" / "checkpoint-2"))
    assert_same(straight.model.state_dict(), resumed.model.state_dict())
