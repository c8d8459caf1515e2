"""Writes a folder that runs as a Hugging Face Space."""

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from transformers import AutoConfig

from class_hf.search.index import MoleculeIndex
from class_hf.utils.files import atomic_folder, write_text

SPACE_CARD = """---
title: Molecule search
emoji: ⚗️
colorFrom: green
colorTo: blue
sdk: gradio
sdk_version: {gradio}
app_file: app.py
license: apache-2.0
short_description: Find molecules by a description, and captions by a molecule
---

# Molecule search

Describe a molecule in words, and see the nearest molecules of a pool with their scores. Or draw a molecule, and see
the nearest captions. Made with `class_hf`.
"""


def export_space(
    folder: str, locations: Sequence[str], model: str | None, urls: Sequence[str] | None, package: str, overwrite: bool
) -> None:
    """Writes a folder that runs as a Space: the page, its requirements, the indexes, and their model if it is local.

    Args:
        folder (`str`): the folder to write.
        locations (list of `str`): folders of the indexes.
        model (`str`, *optional*): the model of the indexes. Default: the model that they name.
        urls (list of `str`): the values of `--id_url`.
        package (`str`): requirement by which the Space installs this package.
        overwrite (`bool`): replace an existing Space.

    Raises:
        ValueError: If an index is not a folder, or the indexes name several models.
        FileExistsError: If the folder is not empty.
    """
    if any(not Path(location).is_dir() for location in locations):
        raise ValueError(f"a Space contains its indexes; expected folders, got {list(locations)}.")
    names = {model or MoleculeIndex.load(location).config["model"] for location in locations}
    if len(names) != 1 or None in names:
        raise ValueError(
            f"a Space has one model, but the indexes name {sorted(map(str, names))}. Write one Space for each model."
        )
    [name] = names
    arguments = ["--index", *(f"indexes/{number}_{Path(location).name}" for number, location in enumerate(locations))]
    with atomic_folder(folder, "app.py", overwrite) as temporary:
        for location, target in zip(locations, arguments[1:], strict=True):
            shutil.copytree(location, temporary / target)
        if Path(name).is_dir():
            shutil.copytree(name, temporary / "model", ignore=shutil.ignore_patterns("checkpoint-*", "runs", "*.npz"))
        arguments += ["--model", "model" if Path(name).is_dir() else name]
        arguments += ["--id_url", *urls] if urls else []
        write_text(temporary / "app.py", f"from class_hf.recipes.app import main\n\nmain({json.dumps(arguments)})\n")
        if _reads_names(name):
            package = f"{package}\npy2opsin\nchemicals"
            write_text(temporary / "packages.txt", "default-jre-headless\n")
        # The free hardware has no GPU. The builds of torch without CUDA save gigabytes.
        write_text(
            temporary / "requirements.txt",
            f"--extra-index-url https://download.pytorch.org/whl/cpu\ntorch\n{package}\n",
        )
        write_text(temporary / "README.md", SPACE_CARD.format(gradio=version("gradio")))


def _reads_names(model: str) -> bool:
    """Whether a model reads chemical names. Then its Space needs OPSIN, Java and a table of names."""
    return bool(getattr(AutoConfig.from_pretrained(model), "read_names", False))
