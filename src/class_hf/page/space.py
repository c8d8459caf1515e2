"""A folder that runs as a Hugging Face Space."""

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
short_description: Find molecules from words, and words from a molecule
---

# Molecule search

Describe a molecule in words and see the nearest ones of a pool, drawn and scored; or draw one and see the captions
nearest to it. Made with `class_hf`.
"""


def export_space(
    folder: str, locations: Sequence[str], model: str | None, urls: Sequence[str] | None, package: str, overwrite: bool
) -> None:
    """Writes a folder that runs as a Space: the page, its requirements, the indexes, and their model if it is local.

    Raises:
        ValueError: if an index is no folder, or the indexes name several models.
        FileExistsError: if the folder holds something.
    """
    if any(not Path(location).is_dir() for location in locations):
        raise ValueError(f"a Space carries its indexes with it; of {list(locations)} not all are folders.")
    names = {model or MoleculeIndex.load(location).config["model"] for location in locations}
    if len(names) != 1 or None in names:
        raise ValueError(f"a Space has one model, the indexes name {sorted(map(str, names))}. Write a Space for each.")
    [name] = names
    arguments = ["--index", *(f"indexes/{number}_{Path(one).name}" for number, one in enumerate(locations))]
    with atomic_folder(folder, "app.py", overwrite) as aside:
        for location, target in zip(locations, arguments[1:], strict=True):
            shutil.copytree(location, aside / target)
        if Path(name).is_dir():
            shutil.copytree(name, aside / "model", ignore=shutil.ignore_patterns("checkpoint-*", "runs", "*.npz"))
        arguments += ["--model", "model" if Path(name).is_dir() else name]
        arguments += ["--id_url", *urls] if urls else []
        write_text(aside / "app.py", f"from class_hf.recipes.app import main\n\nmain({json.dumps(arguments)})\n")
        if _reads_names(name):
            package = f"{package}\npy2opsin\nchemicals"
            write_text(aside / "packages.txt", "default-jre-headless\n")
        # On the free hardware there is no GPU; the index of torch's builds without CUDA saves gigabytes.
        write_text(
            aside / "requirements.txt", f"--extra-index-url https://download.pytorch.org/whl/cpu\ntorch\n{package}\n"
        )
        write_text(aside / "README.md", SPACE_CARD.format(gradio=version("gradio")))


def _reads_names(model: str) -> bool:
    """Whether a model reads chemical names, for which its Space needs OPSIN, Java and a table of names."""
    return bool(getattr(AutoConfig.from_pretrained(model), "read_names", False))
