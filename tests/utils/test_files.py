"""Folders that appear when they are complete, and lose nothing that was there before."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from class_hf.utils.files import atomic_folder, report_full_disk, temporary_file, write_text

MARK = "index.json"


def write(folder, text="new", **kwargs):
    with atomic_folder(folder, MARK, **kwargs) as temporary:
        (temporary / MARK).write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_appear_meanwhile_are_kept(tmp_path, overwrite):
    folder = tmp_path / "out"
    if overwrite:
        write(folder, "old")
    with pytest.raises(FileExistsError, match="was changed by another process in the meantime: not replaced"):
        with atomic_folder(folder, MARK, overwrite) as temporary:
            (temporary / MARK).write_text("new")
            folder.mkdir(exist_ok=True)
            (folder / "thesis.tex").write_text("years of work")
    assert names(tmp_path) == ["out"]
    assert names(folder) == ([MARK] if overwrite else []) + ["thesis.tex"]
    assert not overwrite or (folder / MARK).read_text() == "old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_writers_the_first_to_end_wins(tmp_path, overwrite):
    folder = tmp_path / "out"
    if overwrite:
        write(folder, "old")
    with pytest.raises(FileExistsError, match="another process"):
        with atomic_folder(folder, MARK, overwrite) as temporary:
            (temporary / MARK).write_text("second")
            write(folder, "first", overwrite=overwrite)
    assert (folder / MARK).read_text() == "first" and names(tmp_path) == ["out"]


def test_an_empty_folder_and_a_link_are_written_to(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "target") == [MARK]


def test_the_current_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    for folder in (".", "..", tmp_path / "a"):
        with pytest.raises(ValueError, match="is the current folder or contains it"):
            write(folder, overwrite=True)
    write("b")


KILLED = """
import sys, time
from class_hf.utils import files
if sys.argv[2] == "between":  # the two renames of the swap
    rename = files.Path.rename
    def slow(path, target):
        rename(path, target)
        if path.name == "out":
            print("ready", flush=True)
            time.sleep(60)
    files.Path.rename = slow
with files.atomic_folder(sys.argv[1], "index.json", True) as temporary:
    (temporary / "index.json").write_text("new")
    if sys.argv[2] == "during":
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["during", "between"])
def test_what_a_killed_process_leaves_is_removed_and_the_old_folder_comes_back(tmp_path, moment):
    folder = tmp_path / "out"
    write(folder, "old")
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder, moment], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(names(tmp_path)) == (2 if moment == "during" else 1)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write(folder)
    assert names(tmp_path) == ["out"] and (folder / MARK).read_text() == "old"


def test_a_running_writer_keeps_its_temporary_folder(tmp_path):
    folder = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder, "during"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    write(folder)
    assert len(names(tmp_path)) == 2
    process.kill()
    process.wait()
    process.stdout.close()
    write(folder, overwrite=True)
    assert names(tmp_path) == ["out"]


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    kept = [f".a.json.{os.getppid()}", ".a.json.txt", f".b.json.{ended.pid}", f".a.json.x.{ended.pid}", ".a.json"]
    for name in (f".a.json.{ended.pid}", f".a.json.{10**30}", *kept):
        (tmp_path / name).write_text("old")
    write_text(tmp_path / "a.json", "new")
    assert names(tmp_path) == sorted(["a.json", *kept]) and (tmp_path / "a.json").read_text() == "new"


def test_a_full_disk_names_the_file_or_folder(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    message = r"out(\.json)? cannot be written: the disk is full"
    with pytest.raises(OSError, match=message), temporary_file(tmp_path / "out.json") as temporary:
        temporary.write_text("a part")
        raise full
    with pytest.raises(OSError, match=message), atomic_folder(tmp_path / "out"):
        raise shutil.Error([("a", "b", str(full))])
    with pytest.raises(OSError, match=message), report_full_disk("out"):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 8401152 vs 8401044")
    assert names(tmp_path) == []
