"""Outputs appear whole: written aside, then renamed."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def write_text(path: str | Path, text: str) -> None:
    """Writes a text so that a reader sees the old file or the whole new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON in the same way."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    """Writes a compressed `.npz` in the same way."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    aside.replace(path)


@contextmanager
def atomic_folder(folder: str | Path, mark: str | None = None, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place at the end; an error leaves nothing behind.

    Args:
        folder: what is to be written.
        mark: a file that only such folders hold. None: a folder that holds something is never replaced.
        overwrite: replace a folder that has the mark.

    Raises:
        FileExistsError: if `folder` holds something without the mark, or `overwrite` is not set.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if mark is None or not overwrite:
            way_out = "" if mark is None else ", or pass --overwrite"
            raise FileExistsError(f"{folder} is not empty. Choose another --output_dir{way_out}.")
        if not (folder / mark).is_file():
            raise FileExistsError(f"{folder} was not written by this recipe (it has no {mark}): not replaced.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within a file system.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
