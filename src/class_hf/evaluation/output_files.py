"""Output files of an evaluation: checked before the work, and never in place of somebody else's file."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# Arrays that `class-hf evaluate --save_embeddings` writes.
EMBEDDINGS = ("text_embeds", "molecule_embeds", "gold", "caption_embeds")
PNG_METADATA = {"Description": "class-hf evaluate"}


def check_output_files(paths: Mapping[str, str | Path | None], *, overwrite: bool = False) -> None:
    """Refuses output files that cannot be written, or that replace a file of another origin.

    A file that an earlier evaluation wrote may be replaced. Any other file is only replaced with `overwrite`.

    Args:
        paths (`Mapping`): by argument, the path of a `.json`, `.npz` or `.png` file. None: the file is not written.
        overwrite (`bool`, *optional*, defaults to `False`): replace any file.

    Raises:
        ValueError: if a path is a folder or below a file, or two arguments have the same path.
        FileExistsError: if a file of another origin exists, and `overwrite` is not set.

    >>> check_output_files({"--output": "metrics.json", "--plot": "metrics.json"})
    Traceback (most recent call last):
    ...
    ValueError: --output and --plot are the same file 'metrics.json'. Give each a file of its own.
    """
    arguments: dict[Path, str] = {}
    for argument, name in paths.items():
        if name is None:
            continue
        path = Path(name)
        other = arguments.setdefault(path.absolute(), argument)
        if other != argument:
            raise ValueError(f"{other} and {argument} are the same file {str(name)!r}. Give each a file of its own.")
        if path.is_dir():
            raise ValueError(f"{argument} {str(name)!r} is a folder; expected the name of a file.")
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if not above.is_dir():
            raise ValueError(f"{argument} {str(name)!r} cannot be written: {str(above)!r} is a file, not a folder.")
        if path.exists() and not overwrite and not _is_of_an_evaluation(path):
            raise FileExistsError(
                f"{argument} {str(name)!r} exists, and no evaluation wrote it. Choose another file, or pass "
                "--overwrite."
            )


def _is_of_an_evaluation(path: Path) -> bool:
    """Whether `class-hf evaluate` wrote a file."""
    try:
        if path.suffix == ".png":
            return PNG_METADATA["Description"].encode() in path.read_bytes()[:4096]
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {"text_embeds", "molecule_embeds", "gold"} <= set(arrays.files) <= set(EMBEDDINGS)
        value = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(value, dict) and {"pools", "split", "model", "seconds", "class_hf_version"} <= set(value)
    except (OSError, ValueError, EOFError):
        return False
