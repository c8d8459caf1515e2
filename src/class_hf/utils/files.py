"""Output files and folders that appear complete or not at all: written to a temporary path, then renamed."""

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# EDQUOT is unknown on Windows.
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
# In the texts of libraries. The last two are of torch, whose files end in another way than they should.
_FULL_WORDS = ("no space left", "file too large", "quota exceeded", "pytorchstreamwriter", "inline_container")
_BLOCK = 1 << 22  # bytes that are hashed at a time


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file. A reader sees the old file or the complete new one.

    Args:
        path: the file; its folder is created if necessary.
        text: its content, written as UTF-8.

    >>> path = Path(tempfile.mkdtemp()) / "notes" / "a.txt"
    >>> write_text(path, "one")
    >>> path.read_text()
    'one'
    """
    with temporary_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file. A reader sees the old file or the complete new one.

    Args:
        path: the file; its folder is created if necessary.
        value: what `json.dumps` takes.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    """Writes a compressed `.npz` file. A reader sees the old file or the complete new one.

    Args:
        path: the file; its folder is created if necessary.
        **arrays: arrays by name.
    """
    with temporary_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextmanager
def temporary_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary file in the same folder, which takes the place of `path` when the block ends.

    An error leaves nothing behind. Temporary files that killed processes left for the same path are removed.

    Args:
        path: the file to write; its folder is created if necessary.
    """
    path = Path(path)
    with report_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        process = leftover.suffix[1:]
        if process.isdigit() and leftover.stem == f".{path.name}" and not _runs(int(process)):
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with report_full_disk(path):
            yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether a process of this machine runs."""
    if os.name == "nt":
        return True  # os.kill would end it there
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it belongs to another user
    return True


@contextmanager
def atomic_folder(folder: str | Path, mark: str | None = None, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder, which takes the place of `folder` when the block ends.

    An error leaves nothing behind. A folder that changes during the block is not replaced, so that no file of another
    process is lost. Temporary folders of killed processes are removed. If the old folder is in one of them, it is
    moved back.

    Args:
        folder: the folder to write.
        mark (`str`, *optional*): a file that only such folders contain. Without it, a folder that is not empty is
            never replaced.
        overwrite (`bool`, defaults to `False`): replace a folder that contains the mark.

    Raises:
        ValueError: If the folder is the current folder, or contains it.
        FileExistsError: If the folder is not empty, and lacks the mark or `overwrite` is not set. Also if the folder
            changes during the block.

    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with atomic_folder(f"{parent}/output") as temporary:
    ...         _ = Path(temporary, "a.txt").write_text("a")
    ...     sorted(path.name for path in Path(parent, "output").iterdir())
    ['a.txt']
    """
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    check_output_folder(folder, mark, overwrite)
    before = _snapshot(folder)
    # In the same parent folder, because a rename is atomic only within a file system.
    scratch = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-", ignore_cleanup_errors=True)
    with scratch as parent, _locked(Path(parent, _LOCK)):
        new = Path(parent, "new")
        with report_full_disk(folder):
            new.mkdir()
            yield new
        _replace(folder, new, Path(parent, "old"), before)


def check_output_folder(folder: str | Path, mark: str | None = None, overwrite: bool = False) -> None:
    """Checks that [`atomic_folder`] may write a folder. Call it before long work.

    Args:
        folder, mark, overwrite: As for [`atomic_folder`].

    Raises:
        ValueError: If the folder is the current folder, or contains it.
        FileExistsError: If the folder is not empty, and lacks the mark or `overwrite` is not set.
    """
    folder = Path(folder).resolve()
    if folder in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"{folder} is the current folder or contains it. Choose another --output_dir.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if mark is None or not overwrite:
            advice = "" if mark is None else ", or pass --overwrite"
            raise FileExistsError(f"{folder} is not empty. Choose another --output_dir{advice}.")
        if not (folder / mark).is_file():
            raise FileExistsError(f"{folder} was not written by this recipe (it has no {mark}): not replaced.")


_LOCK = "lock"


def _replace(folder: Path, new: Path, old: Path, before: dict[str, tuple[int, ...]]) -> None:
    """Moves `new` to `folder`, if `folder` is still as it was."""
    changed = f"{folder} was changed by another process in the meantime: not replaced. Run the command again."
    if _snapshot(folder) != before:
        raise FileExistsError(changed)
    if before:
        try:
            folder.rename(old)
        except FileNotFoundError as error:
            raise FileExistsError(changed) from error
        if _snapshot(old) != before:
            old.rename(folder)
            raise FileExistsError(changed)
    try:
        new.rename(folder)  # fails if another process has put something there
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise FileExistsError(changed) from error


def _snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """Inode, size and time of each file in a folder. Empty for an empty or missing folder."""
    if not folder.is_dir():
        return {}
    files = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        size_and_time = () if path.is_dir() else (status.st_size, status.st_mtime_ns)
        files[str(path.relative_to(folder))] = (status.st_ino, *size_and_time)
    return files


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock, which the system releases when the process ends."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The lock is held before the file has its name, so that nobody takes it for that of a dead process.
        temporary.rename(path)
        yield


def _remove_leftovers(folder: Path) -> None:
    """Removes the temporary folders that killed processes left. Moves the old folder back if it is in one."""
    if fcntl is None:
        return
    for lock in folder.parent.glob(f".{glob.escape(folder.name)}-*/{_LOCK}"):
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                old = lock.with_name("old")
                if old.is_dir() and not folder.exists():
                    old.rename(folder)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:  # a running process holds the lock, or has just removed it
            continue


@contextmanager
def file_lock(path: str | Path, message: str) -> Iterator[None]:
    """Holds a lock on a file. The system releases it when the process ends, however it ends.

    Args:
        path: the file. It is created, and stays.
        message (`str`): the error if another process holds the lock.

    Raises:
        ValueError: If another process holds the lock.
    """
    with open(path, "a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(message) from error
        yield


@contextmanager
def report_full_disk(path: str | Path) -> Iterator[None]:
    """Turns the errors of the libraries about a full disk into one OSError that names the path.

    torch and safetensors report a full disk by errors of their own, with a traceback.

    Args:
        path: what the block writes.

    Raises:
        OSError: if the disk is full, or a quota or a limit of the file size is reached.

    >>> with report_full_disk("model"):
    ...     raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    Traceback (most recent call last):
    OSError: model cannot be written: the disk is full, or a quota or file size limit is reached.
    """
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        message = f"{path} cannot be written: the disk is full, or a quota or file size limit is reached."
        raise OSError(message) from error


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that there is no room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        text = str(error).lower()
        if any(words in text for words in _FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def file_digest(path: str | Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal digits. Python 3.10 has no `hashlib.file_digest`."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
