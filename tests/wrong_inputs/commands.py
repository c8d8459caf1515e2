"""A correct command line of each command, and the files that wrong ones are made of."""

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from workshop import Workshop

Prepare = Callable[[Workshop, Path], None]

# A correct command line of each command, without a recipe for `train`.
TRAIN = ("{here}/recipe.yaml", "--output_dir", "{out}")
SCORE = ("--data_dir", "{data}", "--output_dir", "{out}", "--definition", "complexity")
EVALUATE = ("--model", "{model}", "--data_dir", "{data}", "--output", "{out}/metrics.json")
INDEX = ("--model", "{model}", "--molecules", "{table}", "--output_dir", "{out}")
SEARCH = ("An alcohol.", "--index", "{index}")
EXPORT = ("--model", "{model}", "--output_dir", "{out}", "--format", "sentence-transformers")
ABLATE = ("{here}/study.yaml", "--output_dir", "{out}", "--data_dir", "{data}")
APP = ("--index", "{index}")
SERVE = ("--index", "{index}", "--port", "0")
PUSH = ("--model", "{model}", "--repo_id", "somebody/model")
COMMANDS = {
    "train": TRAIN,
    "score": SCORE,
    "evaluate": EVALUATE,
    "index": INDEX,
    "search": SEARCH,
    "export": EXPORT,
    "ablate": ABLATE,
    "app": APP,
    "push": PUSH,
    "serve": SERVE,
}
RECIPE = {"curriculum_order": "random", "use_cpu": True, "per_device_train_batch_size": 4, "report_to": "none"}
STUDY = {"recipe": "recipe.yaml", "seeds": [0], "arms": {"none": {"curriculum_order": "none"}}}


def recipe(workshop: Workshop, here: Path, changes: dict | None = None) -> None:
    """Writes a correct recipe, with changes."""
    values = {**RECIPE, "data_dir": str(workshop.data), **(changes or {})}
    (here / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def study(workshop: Workshop, here: Path, **changes: object) -> None:
    """Writes a correct study and its recipe, with changes of the study."""
    recipe(workshop, here)
    (here / "study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}), encoding="utf-8")


def changed(changes: dict) -> Prepare:
    """Writes a recipe with changes."""
    return lambda workshop, here: recipe(workshop, here, changes)


def written(name: str, content: bytes | str) -> Prepare:
    """Writes one file."""

    def prepare(workshop: Workshop, here: Path) -> None:
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def default_prepare(command: str) -> Prepare | None:
    """What a correct command line of a command needs in `{here}`."""
    return {"train": recipe, "ablate": study}.get(command)


def copied(change: Callable[[Path], None]) -> Prepare:
    """Copies the model into `{here}/model` and damages the copy."""

    def prepare(workshop: Workshop, here: Path) -> None:
        shutil.copytree(workshop.model, here / "model")
        change(here / "model")

    return prepare


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def content_of(name: str, content: bytes | str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])
