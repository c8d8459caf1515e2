"""Runs that are interrupted, resumed or refused because of what their folder holds."""

import os
import resource
import signal

# ruff: noqa: F811 (fixtures)
import pytest
from run_forked import Forked, run_script
from train_parts import ROOT, TRAIN, data_dir, flags, recipe, train  # noqa: F401

from class_hf import CurriculumTrainer
from class_hf.training.callbacks import CurriculumCallback
from class_hf.training.resuming import ResumingTrainer

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_resume_on_the_command_line(recipe, data_dir, tmp_path):
    given = {"data_dir": data_dir, "output_dir": tmp_path, "save_strategy": "steps", "save_steps": 2}
    train(recipe, **given)
    whole = (tmp_path / "model.safetensors").read_bytes()
    train(recipe, **given, resume_from_checkpoint="true")
    assert (tmp_path / "model.safetensors").read_bytes() == whole
    plan = (tmp_path / "plan.json").read_text()
    names = sorted(tmp_path.rglob("*"))
    for words in ((), ("--dry_run",)):
        with pytest.raises(
            ValueError, match=r"checkpoint-\d+ was made with other settings \(.*, seed 42 -> 9\). Resume"
        ):
            train(recipe, *words, **given, resume_from_checkpoint="true", seed=9)
        with pytest.raises(ValueError, match=r"\(difficulty_combination 'mean' -> 'max'\)"):
            train(recipe, *words, **given, resume_from_checkpoint="true", difficulty_combination="max")
    assert (tmp_path / "plan.json").read_text() == plan and sorted(tmp_path.rglob("*")) == names
    train(recipe, "--dry_run", **given, resume_from_checkpoint="true")
    (tmp_path / "train_summary.json").unlink()
    for words in ((), ("--dry_run",)):
        with pytest.raises(ValueError, match="holds an unfinished run"):
            train(recipe, *words, **given)
    with pytest.raises(ValueError, match="holds an unfinished run"):
        train(recipe, **given, resume_from_checkpoint="false")


def test_a_folder_with_other_files_needs_overwrite(recipe, data_dir, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model.safetensors").write_text("another model")
    given = {"data_dir": data_dir, "output_dir": tmp_path, "max_steps": 2}
    for words in ((), ("--dry_run",)):
        with pytest.raises(ValueError, match="holds other files"):
            train(recipe, *words, **given)
    assert (tmp_path / "model.safetensors").read_text() == "another model"
    train(recipe, "--overwrite", **given)
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "train_summary.json").is_file()
    first = (tmp_path / "model.safetensors").read_bytes()
    train(recipe, "--overwrite", **given, seed=4)
    assert (tmp_path / "model.safetensors").read_bytes() != first


def test_the_current_folder_is_refused_before_work(recipe, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is the current folder"):
        train(recipe, data_dir=data_dir, output_dir=".")
    assert not list(tmp_path.iterdir())


def test_resume_without_a_checkpoint_starts_from_the_beginning(recipe, data_dir, tmp_path, monkeypatch, caplog):
    """As after a kill while the first checkpoint was saved; twice the same command is no error."""
    given = {"data_dir": data_dir, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    train(recipe, **given, output_dir=tmp_path / "straight")
    killed = tmp_path / "killed"
    (killed / "checkpoint-2").mkdir(parents=True)
    (killed / "checkpoint-2" / "model.safetensors").write_text("half a file")
    with pytest.raises(ValueError, match="holds an unfinished run. Resume it with --resume_from_checkpoint true"):
        train(recipe, **given, output_dir=killed)
    train(recipe, **given, output_dir=killed, resume_from_checkpoint="true")
    assert "manifest.json is missing" in caplog.text and "the run starts from the beginning" in caplog.text
    for folder in (killed, tmp_path / "new"):
        train(recipe, **given, output_dir=folder, resume_from_checkpoint="true")
        weights = [path / "model.safetensors" for path in (folder, tmp_path / "straight")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    for name, value in {"learning_rate": 0.5, "sentence_dropout": 0.5, "difficulty_combination": "max"}.items():
        with pytest.raises(ValueError, match=f"made with other settings .*{name}.* -> '?{value}"):
            train(recipe, **given, output_dir=killed, resume_from_checkpoint="true", **{name: value})


def test_a_damaged_checkpoint_is_found_before_data_is_scored(recipe, data_dir, tmp_path, monkeypatch):
    train(recipe, data_dir=data_dir, output_dir=tmp_path, save_strategy="steps", save_steps=2, max_steps=2)
    checkpoint = tmp_path / "checkpoint-2"
    (checkpoint / "optimizer.pt").write_bytes((checkpoint / "optimizer.pt").read_bytes()[:99])
    monkeypatch.setattr(TRAIN, "load_splits", lambda *args, **kwargs: pytest.fail("the data was loaded"))
    with pytest.raises(ValueError, match="optimizer.pt has 99 bytes instead of"):
        train(recipe, data_dir=data_dir, output_dir=tmp_path, resume_from_checkpoint=checkpoint)


def train_interrupted(*words: str) -> None:
    """The recipe as a script; it gets SIGINT in its fourth step."""
    plain = CurriculumCallback.on_pre_optimizer_step

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, args, state, control, **kwargs)

    CurriculumCallback.on_pre_optimizer_step = interrupt
    run_script(f"{ROOT}/recipes/train.py", *words)


def train_on_a_full_disk(owner: type, step: str, *words: str) -> None:
    """The recipe as a script. From a step on, no file can be longer than 20 kB."""
    plain = getattr(owner, step)

    def limited(self, *args, **kwargs):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if step == "_save_checkpoint" else 1_000, -1))
        return plain(self, *args, **kwargs)

    setattr(owner, step, limited)
    run_script(f"{ROOT}/recipes/train.py", *words)


@pytest.mark.slow
def test_ctrl_c_and_a_full_disk_end_in_one_line(recipe, data_dir, tmp_path):
    """SIGINT while training leaves a checkpoint; so does a limit of the file size, from which the run resumes."""
    arguments = flags(data_dir=data_dir, output_dir=tmp_path / "run", save_strategy="no")
    done = Forked(train_interrupted, recipe, *arguments).end()
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"interrupted: a checkpoint of step 4 is in {tmp_path / 'run'}"
    assert (tmp_path / "run" / "checkpoint-4" / "manifest.json").is_file()
    arguments = flags(data_dir=data_dir, output_dir=tmp_path / "full", save_strategy="epoch")
    done = Forked(train_on_a_full_disk, ResumingTrainer, "_save_checkpoint", recipe, *arguments).end()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "cannot be written: the disk is full" in last
    train(
        recipe, data_dir=data_dir, output_dir=tmp_path / "full", save_strategy="epoch", resume_from_checkpoint="true"
    )


def test_a_full_disk_at_the_card_leaves_the_weights_and_the_run_finishes(recipe, data_dir, tmp_path):
    given = {"data_dir": data_dir, "save_strategy": "epoch"}
    arguments = flags(output_dir=tmp_path / "full", **given)
    done = Forked(train_on_a_full_disk, CurriculumTrainer, "create_model_card", recipe, *arguments).end()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}/full/README.md cannot be written: the disk is full")
    weights = (tmp_path / "full" / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="holds an unfinished run. Resume it with --resume_from_checkpoint true"):
        train(recipe, output_dir=tmp_path / "full", **given)
    train(recipe, output_dir=tmp_path / "full", resume_from_checkpoint="true", **given)
    assert (tmp_path / "full" / "model.safetensors").read_bytes() == weights
    assert (tmp_path / "full" / "README.md").is_file() and (tmp_path / "full" / "train_summary.json").is_file()
