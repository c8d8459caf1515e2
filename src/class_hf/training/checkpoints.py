"""Which checkpoints of a run are complete, so that a run can be resumed from them."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from class_hf.utils.distributed import rank, world_size
from class_hf.utils.files import file_digest, write_json

logger = logging.getLogger(__name__)

CURRICULUM_STATE_NAME = "curriculum_state.json"
LOSS_STATE_NAME = "loss_state.safetensors"
MANIFEST_NAME = "manifest.json"


def write_manifest(folder: str | Path) -> None:
    """Writes the names, sizes and SHA-256 hashes of all files of a checkpoint. It is the last file of a checkpoint.

    Hashing takes about 0.6 s for each GB, from the page cache of the files that were just written.

    Args:
        folder: the checkpoint, with the files of all processes.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "weights").write_bytes(b"12345")
    >>> write_manifest(folder)
    >>> print(fault_of(folder))
    None
    >>> _ = (folder / "weights").write_bytes(b"12344")
    >>> fault_of(folder)
    'weights was changed or is damaged (its SHA-256 is not that of manifest.json)'
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path)}
        for path in paths
    }
    write_json(folder / MANIFEST_NAME, {"files": files})


def fault_of(folder: str | Path) -> str | None:
    """What makes a checkpoint incomplete.

    Args:
        folder: the checkpoint.

    Returns:
        The first file that is missing, has another size or another hash, with what is wrong; None if there is none.
    """
    folder = Path(folder)
    try:
        files = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))["files"]
        entries = [(name, int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()]
    except FileNotFoundError:
        return f"{MANIFEST_NAME} is missing: the checkpoint was not written to its end"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST_NAME} cannot be read"
    for name, size, _ in entries:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
    for name, _, digest in entries:
        if file_digest(folder / name) != digest:
            return f"{name} was changed or is damaged (its SHA-256 is not that of {MANIFEST_NAME})"
    return None


def last_complete_checkpoint(output_dir: str) -> str:
    """The newest complete checkpoint in a folder. Each incomplete one that is skipped is logged with its fault.

    Args:
        output_dir: the output folder of a run.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: if there is none.
    """
    root = Path(output_dir)
    folders = [folder for folder in root.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if folder.name.split("-")[-1].isdigit()]
    for folder in sorted(folders, key=lambda path: int(path.name.split("-")[-1]), reverse=True):
        fault = fault_of(folder)
        if fault is None:
            return os.fspath(folder)
        logger.warning("Skipping %s: %s.", folder, fault)
    raise ValueError(
        f"{output_dir!r} holds no complete checkpoint to resume from. Start without resume_from_checkpoint."
    )


def choose_checkpoint(resume: str | bool | None, output_dir: str | Path) -> str | None:
    """The checkpoint from which a run resumes. The main process looks, so that all processes take the same one.

    Args:
        resume: True for the newest complete checkpoint in `output_dir`, a folder for that checkpoint, or None.
        output_dir: the output folder of the run.

    Returns:
        The folder of the checkpoint. None if `resume` is None or False, or if it is True and there is no complete
        checkpoint: the run then starts from the beginning, and a log line says so.

    Raises:
        ValueError: if the folder named by `resume` is not a complete checkpoint.

    >>> choose_checkpoint(None, "outputs/demo") is None
    True
    """
    if not resume:
        return None
    message: list[Any] = [None, None]
    if rank() == 0:
        if resume is True or str(resume).lower() == "true":
            try:
                message[0] = last_complete_checkpoint(str(output_dir))
            except ValueError:
                logger.warning("%s holds no complete checkpoint: the run starts from the beginning.", output_dir)
        else:
            message[0] = str(resume)
            is_checkpoint = (Path(str(resume)) / CURRICULUM_STATE_NAME).is_file()
            message[1] = fault_of(str(resume)) if is_checkpoint else "it is no checkpoint of this trainer"
    if world_size() > 1:
        broadcast_object_list(message)
    checkpoint, fault = message
    if fault is not None:
        raise ValueError(f"{checkpoint} cannot be resumed from: {fault}. Choose another checkpoint, or `true`.")
    return checkpoint
