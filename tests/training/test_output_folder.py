"""What an output folder may hold before a run, and who may write to it."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from run_forked import Forked
from run_trainer import build
from test_resume import settings_for

from class_hf.training.output_folder import (
    LOCK_NAME,
    OutputFolderError,
    check_run_folder,
    refuse_inputs,
    remove_earlier_run,
    run_lock,
)


def hold(folder) -> None:
    """Forks a process that holds the lock of a folder, and does not wait for its end."""
    if pid := os.fork():
        print(pid)
    else:
        with run_lock(folder):
            print("held")
            time.sleep(60)
    time.sleep(60)


def test_a_second_run_is_refused_and_the_lock_of_a_killed_one_is_taken_over(tmp_path):
    parent = Forked(hold, tmp_path)
    parent.wait_for("held")
    pid = json.loads((tmp_path / LOCK_NAME).read_text())["pid"]
    parent.wait_for(str(pid))
    try:
        with pytest.raises(OutputFolderError, match=f"is written by process {pid} on host"), run_lock(tmp_path):
            pass
        with pytest.raises(OutputFolderError, match="is written by process"):
            build(settings_for(tmp_path)).train()
        assert not list(tmp_path.glob("checkpoint-*"))
    finally:
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)  # dead, and not waited for: a zombie
        with run_lock(tmp_path):
            assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
        parent.kill()
        parent.end()
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.parametrize(
    ("holder", "message"),
    [
        ({"pid": 1, "host": "another", "started": 0}, "by process 1 on host another"),
        ({"pid": 2**22 + 1, "host": socket.gethostname()}, None),  # no such process
        ({"pid": os.getppid(), "host": socket.gethostname(), "process_start": "1"}, None),  # its id was used again
        ("half a fi", None),
    ],
    ids=("another host", "dead", "id used again", "not written to its end"),
)
def test_stale_locks(holder, message, tmp_path):
    text = holder if isinstance(holder, str) else json.dumps(holder)
    (tmp_path / LOCK_NAME).write_text(text)
    (tmp_path / "checkpoint-2").mkdir()
    half_written = [tmp_path / ".tmpAb3dE9", tmp_path / "checkpoint-2" / ".tmp1Cd2Ef"]  # by safetensors
    for path in (*half_written, tmp_path / ".tmp"):
        path.touch()
    if message is None:
        with run_lock(tmp_path), run_lock(tmp_path):  # a process may enter again
            pass
        assert not (tmp_path / LOCK_NAME).exists()
        assert not any(path.exists() for path in half_written) and (tmp_path / ".tmp").exists()
    else:
        with pytest.raises(OutputFolderError, match=message), run_lock(tmp_path):
            pass
        assert (tmp_path / LOCK_NAME).read_text() == text and all(path.exists() for path in half_written)


def test_a_folder_in_which_nothing_was_written_is_removed(tmp_path):
    with run_lock(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


FOLDERS = {
    "empty": ([], None, None),
    "before the first checkpoint": (["plan.json", "difficulty.npz", "plots/plan.png"], None, None),
    "unfinished": (["plan.json", "checkpoint-3/model.safetensors"], "holds an unfinished run", None),
    "finished": (["train_summary.json", "model.safetensors"], "already holds a finished run", "a finished run"),
    "finished, with checkpoints": (["train_summary.json", "checkpoint-3/a"], "already holds a finished run", None),
    "killed in the final evaluation": (["plan.json", "model.safetensors"], "holds an unfinished run", None),
    "another model": (["model.safetensors", "config.json"], "config.json, model.safetensors", "holds other files"),
    "notes": (["notes.txt"], r"other files \(notes.txt\)", r"other files \(notes.txt\)"),
    "pictures": (["plots/mine.png"], "plots/mine.png", "plots/mine.png"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_what_a_folder_may_hold(case, tmp_path):
    names, fresh, resumed = FOLDERS[case]
    folder = tmp_path / "out"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for resume, message in ((False, fresh), (True, resumed)):
        if message is None:
            check_run_folder(folder, resume=resume, overwrite=False)
        else:
            with pytest.raises(OutputFolderError, match=message):
                check_run_folder(folder, resume=resume, overwrite=False)
        check_run_folder(folder, resume=resume, overwrite=True)


def test_folders_that_are_never_an_output_folder(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path / "inner")
    for name in (".", "..", tmp_path):
        with pytest.raises(OutputFolderError, match="the current folder, a folder above it"):
            check_run_folder(tmp_path / "inner" / name, resume=False, overwrite=True)
    with pytest.raises(OutputFolderError, match="is a file"):
        check_run_folder(tmp_path / "file", resume=False, overwrite=True)


def test_what_the_run_reads_is_never_its_output_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_inputs(tmp_path / "me" / "new", ["me/base", "lexical", None])
    for name in ("me/base", "./me/base/", str(tmp_path / "me" / "base")):
        with pytest.raises(OutputFolderError, match="me/base is also what the run reads"):
            refuse_inputs(Path("me/base"), [None, name])


def test_overwriting_keeps_other_files(tmp_path):
    for name in ("checkpoint-3/a", "model.safetensors", "notes.txt", "adapter/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    remove_earlier_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
