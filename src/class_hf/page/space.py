"""Writes a folder that runs as a Hugging Face Space."""

import json
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import requires, version
from pathlib import Path

from huggingface_hub import RepoCard
from packaging.requirements import Requirement
from transformers import AutoConfig

from class_hf._version import __version__
from class_hf.config.recipe_files import recipes_folder
from class_hf.hub.card_text import license_fields
from class_hf.search.index import MoleculeIndex
from class_hf.utils.files import atomic_folder, write_text

SPACE_CARD = """---
title: Molecule search
emoji: ⚗️
colorFrom: green
colorTo: blue
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
{license}
short_description: Find molecules by a description, and captions by a molecule
---

# Molecule search

Describe a molecule in words, and see the nearest molecules of a pool with their scores. Or draw a molecule, and see
the nearest captions.

{package}
"""
_VENDORED = """\
The folder `class_hf` is a copy of version {version} of the package, so that the Space needs no release of it.
`requirements.txt` holds the versions of the other packages with which the Space was written."""
_REQUIRED = "The Space installs `class_hf` as `{package}`."
_NAMES = ("chemicals", "py2opsin")


def export_space(
    folder: str,
    locations: Sequence[str],
    model: str | None,
    arguments: Sequence[str],
    package: str | None,
    license: str | None,
    overwrite: bool,
) -> None:
    """Writes a folder that runs as a Space: the page, the package, the indexes, and their model if it is local.

    Args:
        folder (`str`): the folder to write.
        locations (list of `str`): folders of the indexes.
        model (`str`, *optional*): the model of the indexes. Default: the model that they name.
        arguments (list of `str`): further arguments of the page.
        package (`str`, *optional*): requirement by which the Space installs this package. Default: the Space contains
            a copy of it.
        license (`str`, *optional*): licence of the Space. Default: that of the Space that is replaced, or that of the
            model's card, or `unknown`.
        overwrite (`bool`): replace an existing Space.

    Raises:
        ValueError: If an index is not a folder, or the indexes name several models.
        FileExistsError: If the folder is not empty.
    """
    for location in locations:
        if not Path(location).is_dir():
            raise ValueError(
                f"the index {location!r} is not a folder. A Space contains its indexes, so each must be a folder."
            )
    names = {model or MoleculeIndex.load(location).config["model"] for location in locations}
    if None in names:
        raise ValueError("an index does not name its model; name the model of the Space with --model.")
    if len(names) != 1:
        raise ValueError(
            f"a Space has one model, but the indexes name {sorted(map(str, names))}. Write one Space for each model."
        )
    [name] = names
    license_lines = _license_lines(license, [Path(folder), Path(name)])
    words = ["--index", *(f"indexes/{number}_{Path(location).name}" for number, location in enumerate(locations))]
    with atomic_folder(folder, "app.py", overwrite) as temporary:
        for location, target in zip(locations, words[1:], strict=True):
            shutil.copytree(location, temporary / target)
        if Path(name).is_dir():
            shutil.copytree(name, temporary / "model", ignore=shutil.ignore_patterns("checkpoint-*", "runs", "*.npz"))
        words += ["--model", "model" if Path(name).is_dir() else name, *arguments]
        write_text(temporary / "app.py", f"from class_hf.recipes.app import main\n\nmain({json.dumps(words)})\n")
        if package is None:
            _copy_package(temporary / "class_hf")
            note = _VENDORED.format(version=__version__)
        else:
            note = _REQUIRED.format(package=package)
        reads_names = bool(getattr(AutoConfig.from_pretrained(name), "read_names", False))
        has_codes = any(next(Path(location).rglob("*_codes.npy"), None) for location in locations)
        needed = requirements(package, [*(_NAMES if reads_names else ()), *(["faiss-cpu"] if has_codes else [])])
        if reads_names:
            write_text(temporary / "packages.txt", "default-jre-headless\n")
        write_text(temporary / "requirements.txt", needed)
        card = SPACE_CARD.format(
            gradio=version("gradio"),
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            license=license_lines,
            package=note,
        )
        write_text(temporary / "README.md", card)


def requirements(package: str | None, further: Sequence[str] = ()) -> str:
    """The text of `requirements.txt`.

    Args:
        package (`str`, *optional*): requirement of this package. Default: the packages that it needs, in the
            installed versions.
        further (list of `str`): names of further packages.
    """
    # The free hardware has no GPU. The builds of torch without CUDA save gigabytes.
    lines = ["--extra-index-url https://download.pytorch.org/whl/cpu"]
    if package is not None:
        return "\n".join([*lines, "torch", package, *further]) + "\n"
    parsed = map(Requirement, requires("class-hf") or [])
    names = [part.name for part in parsed if part.marker is None or part.marker.evaluate({"extra": "app"})]
    # A local version such as 2.13.0+cpu is a build of 2.13.0.
    lines += [f"{name}=={version(name).partition('+')[0]}" for name in sorted({*names, *further})]
    return "\n".join(lines) + "\n"


def _copy_package(target: Path) -> None:
    """Copies this package and its recipes."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(Path(__file__).parents[1], target, ignore=ignore)
    shutil.copytree(recipes_folder(), target / "recipes", ignore=ignore, dirs_exist_ok=True)


def _license_lines(chosen: str | None, folders: Sequence[Path]) -> str:
    """The licence as lines of the card: the chosen one, or that of the first card in the folders."""
    if chosen is not None:
        fields = license_fields(chosen)
    else:
        cards = (folder / "README.md" for folder in folders)
        data = (RepoCard.load(card, ignore_metadata_errors=True).data.to_dict() for card in cards if card.is_file())
        fields = next((found for found in data if "license" in found), {"license": "unknown"})
    return "\n".join(f"{key}: {fields[key]}" for key in ("license", "license_name", "license_link") if key in fields)
