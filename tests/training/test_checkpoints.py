"""A checkpoint is complete only if each of its files is; the run resumes from the newest complete one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from run_trainer import build
from test_resume import assert_same, settings_for

from class_hf.training.checkpoints import choose_checkpoint, fault_of, last_complete_checkpoint
from class_hf.training.planning import outline_plan


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A trainer after its run, with checkpoints in its output folder."""
    trainer = build(settings_for(tmp_path_factory.mktemp("finished"), save_steps=5))
    trainer.train()
    return trainer


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished.args.output_dir, tmp_path / "copy"))


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "flipped bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    else:
        path.write_bytes(bytes(content[: len(content) // 2]))


@pytest.mark.parametrize("kind", ("missing", "flipped bit", "truncated"))
def test_each_damaged_file_is_named_and_the_checkpoint_before_is_taken(copy, caplog, kind):
    newest = Path(last_complete_checkpoint(str(copy)))
    before = copy / "checkpoint-15"
    assert newest.name == "checkpoint-17"
    names = sorted(path.name for path in newest.iterdir())
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(names)
    for name in names:
        saved = (newest / name).read_bytes()
        damage(newest / name, kind)
        caplog.clear()
        assert last_complete_checkpoint(str(copy)) == str(before)
        assert (
            len(caplog.records) == 1 and "manifest.json" in caplog.text
            if name == "manifest.json"
            else name in caplog.text
        )
        (newest / name).write_bytes(saved)
    assert fault_of(newest) is None


def test_a_damaged_checkpoint_that_is_named_is_refused(copy):
    newest = copy / "checkpoint-17"
    damage(newest / "optimizer.pt", "flipped bit")
    with pytest.raises(
        ValueError, match="checkpoint-17 cannot be resumed from: optimizer.pt was changed or is damaged"
    ):
        choose_checkpoint(str(newest), copy)


def test_a_run_without_its_optimizer_resumes_from_the_checkpoint_before(finished, copy, caplog):
    (copy / "checkpoint-17" / "optimizer.pt").unlink()
    resumed = build(settings_for(copy, save_steps=5))
    resumed.train(resume_from_checkpoint=True)
    assert "Skipping" in caplog.text and "optimizer.pt is missing" in caplog.text
    assert_same(finished.model.state_dict(), resumed.model.state_dict())
    assert fault_of(copy / "checkpoint-17") is None  # written again


def test_a_checkpoint_without_optimizer_state_is_refused(tmp_path):
    build(settings_for(tmp_path, save_only_model=True)).train()
    with pytest.raises(ValueError, match="save_only_model was set"):
        build(settings_for(tmp_path, save_only_model=True)).train(True)


def test_old_checkpoints_are_removed_only_when_the_new_one_is_complete(tmp_path):
    trainer = build(settings_for(tmp_path, save_steps=3, save_total_limit=1))
    plain, seen = trainer._save_rng_state, []

    def look(folder):
        plain(folder)
        seen.append(sorted(path.name for path in tmp_path.glob("checkpoint-*") if fault_of(path) is None))

    trainer._save_rng_state = look
    trainer.train()
    assert seen[1] == ["checkpoint-3"] and all(seen[1:])
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-17"]


CHANGED = {
    "learning_rate": ({"learning_rate": 0.02}, "learning_rate 0.01 -> 0.02"),
    "optimizer": ({"optim": "sgd"}, "optim 'adamw_torch"),
    "weight decay": ({"weight_decay": 0.1}, "weight_decay 0.0 -> 0.1"),
    "schedule": ({"lr_scheduler_type": "cosine"}, "lr_scheduler_type 'linear' -> 'cosine'"),
    "gradient clipping": ({"max_grad_norm": 0.5}, "max_grad_norm 1.0 -> 0.5"),
    "micro-batches": (
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        "gradient_accumulation_steps 1 -> 2, micro_batch_size 4 -> 2",
    ),
    "batch": ({"per_device_train_batch_size": 8}, "batch_size 4 -> 8"),
    "epochs": ({"num_train_epochs": 5}, "epochs 4 -> 5"),
    "pacing": ({"curriculum_pacing": "linear"}, "pacing 'root' -> 'linear'"),
    "seed": ({"data_seed": 5, "seed": 6}, "seed 5 -> 6"),
    "dropout": ({}, r"config.*dropout 0.2 -> 0.3"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_settings_that_change_on_resume_are_refused_by_name(case, finished):
    args, message = CHANGED[case]
    settings = settings_for(finished.args.output_dir, save_steps=5, **args)
    trainer = build({**settings, **({"dropout": 0.3} if case == "dropout" else {})})
    with pytest.raises(ValueError, match=f"was made with other settings .*{message}"):
        trainer.train(True)


def test_another_compression_of_gradients_is_another_run(finished):
    trainer = build(settings_for(finished.args.output_dir, save_steps=5))
    trainer.args.ddp_gradient_compression = "fp16"
    with pytest.raises(ValueError, match="other settings .ddp_gradient_compression None -> 'fp16'"):
        trainer.check_resume(choose_checkpoint(True, str(finished.args.output_dir)))


def test_settings_that_may_change_are_applied(copy):
    trainer = build(settings_for(copy, save_steps=1, logging_steps=2, dataloader_num_workers=1))
    trainer.train(str(copy / "checkpoint-10"))
    assert sorted(int(path.name.split("-")[1]) for path in copy.glob("checkpoint-*")) == [5, *range(10, 18)]
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry][-3:] == [12, 14, 16]


def test_an_interrupted_run_leaves_a_checkpoint_and_resumes_to_equal_weights(finished, tmp_path):
    settings = settings_for(tmp_path, save_steps=5)
    with pytest.raises(KeyboardInterrupt, match="a checkpoint of step 8 is in"):
        build({**settings, "interrupt_at": 7}).train()
    assert last_complete_checkpoint(str(tmp_path)).endswith("checkpoint-8")
    assert not (tmp_path / "run.lock").exists()
    resumed = build(settings)
    resumed.train(True)
    assert_same(finished.model.state_dict(), resumed.model.state_dict())


@pytest.mark.parametrize("step", (5, 10))
def test_a_full_disk_is_one_line_and_the_run_resumes(finished, tmp_path, step, monkeypatch):
    """torch's own error about a full disk, in the middle of a checkpoint."""
    settings = settings_for(tmp_path, save_steps=5)
    trainer, plain = build(settings), torch.save

    def full(thing, path, *args, **kwargs):
        if f"checkpoint-{step}" in str(path):
            raise RuntimeError(
                "[enforce fail at inline_container.cc:800] . PytorchStreamWriter failed writing file data"
            )
        return plain(thing, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=f"checkpoint-{step} cannot be written: the disk is full"):
        trainer.train()
    assert not (tmp_path / f"checkpoint-{step}").exists()  # room for the next try
    monkeypatch.setattr(torch, "save", plain)
    resumed = build(settings)
    resumed.train(True)
    assert_same(finished.model.state_dict(), resumed.model.state_dict())


def test_the_outline_of_a_plan_is_compared_without_the_pairs(tmp_path):
    """As a dry run does. It knows neither the groups of pairs nor what `auto` leaves out."""
    settings = {"curriculum_group_size": 2, "curriculum_end": "0.9"}
    trainer = build(settings_for(tmp_path, **settings))
    state = {"settings": trainer.kept_settings(), "plan_fingerprint": trainer.plan.fingerprint()}
    (tmp_path / "curriculum_state.json").write_text(json.dumps(state))

    def check_outline(**changes):
        args = build(settings_for(tmp_path, **settings | changes)).args if changes else trainer.args
        trainer.args, trainer.plan = args, outline_plan(args, 24)
        trainer.check_resume(tmp_path, is_outline=True)

    trainer.check_resume(tmp_path)
    check_outline()
    with pytest.raises(ValueError, match=r"made with other settings \(end 0.9 -> 0.8, group_size 2 -> 4\)"):
        check_outline(curriculum_group_size=4, curriculum_end="0.8")
    trainer.args.curriculum_group_size, trainer.args.curriculum_end = 2, "auto"
    check_outline()
