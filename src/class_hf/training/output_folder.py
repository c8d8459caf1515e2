"""The output folder of a run: what it may hold before the run starts, and who may write to it."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from class_hf.utils.json_text import JsonValue

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "run.lock"
# A run writes these before its first checkpoint. Starting again loses nothing if they are replaced.
_EARLY = {
    LOCK_NAME,
    "plan.json",
    "load_report.json",
    "difficulty.npz",
    "left_out.csv",
    "plots/plan.png",
    "plots/dry_run_plan.png",
    "runs",
}
# A run writes these at its end. With --overwrite they are removed before the new run starts.
_RESULTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "metrics.json",
    "ranks.npz",
    "log_history.json",
    "train_summary.json",
    "README.md",
    "adapter",
)


class OutputFolderError(ValueError):
    """The output folder cannot be used."""


def check_run_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuses a folder in which the run would mix its files with other files.

    Args:
        folder: the output folder; it need not exist.
        resume: whether an earlier run in the folder is to be resumed.
        overwrite: whether the files of an earlier run, or other files, may be replaced.

    Raises:
        OutputFolderError: if the folder is a file, the current folder or one above it, or holds what must not be lost.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(f"--output_dir {folder} is a file. Choose another --output_dir.")
    absolute = folder.resolve()
    if Path.cwd().resolve().is_relative_to(absolute) or absolute == Path.home().resolve():
        raise OutputFolderError(
            f"--output_dir {folder} is the current folder, a folder above it, or the home folder. Choose a folder of "
            "the run's own."
        )
    if overwrite or not folder.is_dir():
        return
    present = sorted(_files(folder) - _EARLY)
    checkpoints = [name for name in present if name.startswith(PREFIX_CHECKPOINT_DIR)]
    finished = "train_summary.json" in present
    if resume and (checkpoints or not finished):
        foreign = [] if checkpoints or (folder / "plan.json").is_file() else present
    elif finished:
        raise OutputFolderError(
            f"{folder} already holds a finished run. Choose another --output_dir, or pass --overwrite."
        )
    elif checkpoints or ((folder / "plan.json").is_file() and set(present) & set(_RESULTS)):
        raise OutputFolderError(
            f"{folder} holds an unfinished run. Resume it with --resume_from_checkpoint true, choose another "
            "--output_dir, or pass --overwrite."
        )
    else:
        foreign = present
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise OutputFolderError(
            f"{folder} holds other files ({', '.join(foreign[:3])}{more}). Choose another --output_dir, or pass "
            "--overwrite."
        )


def refuse_inputs(folder: Path, names: Iterable[str | None]) -> None:
    """Refuses a folder that has the name of a data set or a model which the run reads.

    The results would replace the input. Where the name is an id of the Hub, the next command would load the results
    in its place.

    Args:
        folder: the output folder.
        names: folders or ids of the Hub. None is ignored.

    Raises:
        OutputFolderError: if a name is the folder.

    >>> refuse_inputs(Path("me/new"), ["me/base", None])
    """
    for name in names:
        if name is not None and Path(name).expanduser().resolve() == folder.resolve():
            raise OutputFolderError(f"--output_dir {folder} is also what the run reads. Choose another --output_dir.")


def _files(folder: Path) -> set[str]:
    """Names in a folder; those of `plots` with their folder's name."""
    names = {path.name for path in folder.iterdir()}
    if "plots" in names and (folder / "plots").is_dir():
        names.remove("plots")
        names |= {f"plots/{path.name}" for path in (folder / "plots").iterdir()}
    return names


def remove_earlier_run(folder: Path) -> None:
    """Removes the checkpoints and results of an earlier run. Other files stay.

    Args:
        folder: the output folder.
    """
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if path.is_dir():
            shutil.rmtree(path)
    for name in _RESULTS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check_lock(folder: Path) -> bool:
    """Refuses a folder into which another process trains.

    Args:
        folder: the output folder; it need not exist.

    Returns:
        Whether this process holds the lock.

    Raises:
        OutputFolderError: if a living process holds the lock, or a process of another host.
    """
    path = folder / LOCK_NAME
    holder = _read(path)
    if holder is None:
        return False
    if all(holder.get(key) == value for key, value in _identity(os.getpid()).items()):
        return True
    if _lives(holder):
        started = holder.get("started")
        if isinstance(started, int | float):
            started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
        raise OutputFolderError(
            f"{folder} is written by process {holder.get('pid')} on host {holder.get('host')} (since {started}). "
            f"Wait for it, stop it, or choose another --output_dir. If it is dead, remove {path}."
        )
    return False


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keeps other processes from training into the same folder.

    The lock is the file `run.lock` with the process id, the host and the start time. The lock of a dead process of
    this host is taken over, and the files that it was writing are removed. The same process may enter several times.

    Args:
        folder: the output folder; it is created if necessary.

    Raises:
        OutputFolderError: if a living process holds the lock, or a process of another host.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with run_lock(folder):
    ...     (folder / "run.lock").is_file()
    True
    >>> (folder / "run.lock").exists()
    False
    """
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    with _alone(folder):
        nested = check_lock(folder)
        if path.exists() and not nested:
            _remove_half_written(folder)
        if not nested:
            path.write_text(json.dumps({**_identity(os.getpid()), "started": time.time()}), encoding="utf-8")
    try:
        yield
    finally:
        if not nested:
            path.unlink(missing_ok=True)
        if created and not any(folder.iterdir()):
            folder.rmdir()  # nothing was written


def _remove_half_written(folder: Path) -> None:
    """Removes what a killed run was writing: safetensors writes to `.tmpXXXXXX` first, and renames."""
    for place in (folder, *folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")):
        for path in place.glob(".tmp??????"):
            if path.is_file():
                path.unlink()


def _identity(pid: int) -> dict[str, JsonValue]:
    """A process id with the host and the start of the process, because ids are used again."""
    return {"pid": pid, "host": socket.gethostname(), "process_start": _process_start(pid)}


def _process_start(pid: int) -> str | None:
    """When a process started, in clock ticks after boot; None for a zombie, and where there is no /proc."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except (OSError, ValueError, IndexError):
        return None


def _read(path: Path) -> dict[str, JsonValue] | None:
    """The holder of a lock; None if there is no lock, or one that was not written to its end."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def _lives(holder: dict[str, JsonValue]) -> bool:
    """Whether the holder of a lock may still write. A process of another host may."""
    if holder.get("host") != socket.gethostname():
        return True
    pid = holder.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, and belongs to another user
    return holder.get("process_start") == _process_start(pid)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process of this host at a time looks at the lock and takes it."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
