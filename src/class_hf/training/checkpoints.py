"""Which checkpoints of a run can be resumed from."""

import json
import logging
import os
import zipfile
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)

CURRICULUM_STATE_NAME = "curriculum_state.json"
LOSS_STATE_NAME = "loss_state.safetensors"


def last_complete_checkpoint(output_dir: str) -> str:
    """The newest checkpoint in a folder that was written to its end; a run may be killed while it saves.

    Raises:
        ValueError: if there is none.
    """
    root = Path(output_dir)
    folders = [folder for folder in root.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if folder.name.split("-")[-1].isdigit()]
    for folder in sorted(folders, key=lambda one: int(one.name.split("-")[-1]), reverse=True):
        if _is_whole(folder):
            return os.fspath(folder)
        logger.warning("Passing over %s: it was not written to its end.", folder)
    raise ValueError(
        f"{output_dir!r} holds no whole checkpoint to resume from (one with trainer_state.json, "
        f"{CURRICULUM_STATE_NAME} and every process's rng_state). Start without resume_from_checkpoint."
    )


def _is_whole(folder: Path) -> bool:
    try:
        json.loads((folder / "trainer_state.json").read_text())
        state = json.loads((folder / CURRICULUM_STATE_NAME).read_text())
        processes, loss_state = state["processes"], state.get("loss_state", False)
        names = ["rng_state.pth"] if processes == 1 else [f"rng_state_{index}.pth" for index in range(processes)]
    except (OSError, ValueError, KeyError):
        return False
    if loss_state and not (folder / LOSS_STATE_NAME).is_file():
        return False
    # A file of torch is a zip, whose directory stands at its end.
    return all(zipfile.is_zipfile(folder / name) for name in names)
