"""Outputs appear whole: written aside, then renamed."""

import json
import os
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
