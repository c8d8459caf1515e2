"""Reads the file of a study, and checks all its arms before the first one is trained."""

import contextlib
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from class_hf.config.arguments import DataArguments, ModelArguments
from class_hf.config.parsing import parse_recipe
from class_hf.config.yaml_files import read_mapping
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.utils.suggestions import did_you_mean

DATA_SOURCES = ("data_dir", "dataset_name", "demo")
_KEYS = ("recipe", "seeds", "common", "arms", "baselines")
# Arguments that the study sets for each run.
_SET_BY_STUDY = ("output_dir", "seed", "resume_from_checkpoint", "dry_run")


@dataclass(frozen=True)
class Study:
    """The content of a study file.

    Args:
        name: name of the file, without its ending.
        recipe: the arguments in the recipe file that the study names.
        seeds: seeds of the runs of each arm.
        common: arguments of all arms; they override the recipe.
        arms: arguments of each arm, by its name; they override `common`.
        baselines: names of the arms that the others are compared with. The first one sets the quality to reach.
    """

    name: str
    recipe: dict[str, Any]
    seeds: list[int]
    common: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    baselines: list[str]


@dataclass
class _UncheckedTrainingArguments(CurriculumTrainingArguments):
    """The names, types and choices of the training arguments, without the checks that depend on the device.

    The study is checked on this machine, and a run may start on another one.
    """

    def __post_init__(self) -> None:
        pass


def read_study(path: Path) -> Study:
    """Reads a study file and checks it, with the arguments of all arms.

    Args:
        path: the YAML file.

    Returns:
        The study.

    Raises:
        ValueError: with the file, the faulty value and what is expected.

    >>> from class_hf.config.recipe_files import find_file
    >>> study = read_study(find_file("studies/demo", "study"))
    >>> study.baselines
    ['none', 'random']
    """
    values = read_mapping(path, "the study")
    for key in values:
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}; {did_you_mean(key, _KEYS)} (in {path})")
    recipe = values.get("recipe")
    if not isinstance(recipe, str):
        raise ValueError(f"{path}: recipe is {recipe!r}; expected the path of a recipe, relative to the study.")
    seeds = values.get("seeds", [0, 1, 2])
    are_integers = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not are_integers or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path}: seeds is {seeds!r}; expected a list of different integers of at least 0.")
    arms = values.get("arms")
    if not isinstance(arms, dict) or not arms:
        raise ValueError(f"{path}: arms is {arms!r}; expected a mapping of names to arguments.")
    baselines = values.get("baselines", [arm for arm in ("none", "random") if arm in arms])
    if not isinstance(baselines, list):
        raise ValueError(f"{path}: baselines is {baselines!r}; expected a list of names of arms.")
    study = Study(
        name=path.stem,
        recipe=read_mapping(path.parent / recipe, "the recipe"),
        seeds=seeds,
        common=values.get("common") or {},
        arms={str(arm): {} if arguments is None else arguments for arm, arguments in arms.items()},
        baselines=baselines,
    )
    for arm in study.baselines:
        if arm not in study.arms:
            raise ValueError(f"baselines: unknown arm {arm!r}; {did_you_mean(arm, study.arms)} (in {path})")
    earlier: list[str] = []
    for arm, arguments in study.arms.items():
        # The name becomes the name of a folder, next to the folder `difficulty`.
        if not re.fullmatch(r"[\w.+-]+", arm) or arm in ("difficulty", ".", ".."):
            raise ValueError(f"{path}: {arm!r} cannot be the name of an arm; use letters, digits and _ . + -")
        _check_arm(study, arm, arguments, earlier, path)
        earlier.append(arm)
    return study


def _check_arm(study: Study, arm: str, arguments: Any, earlier: Sequence[str], path: Path) -> None:
    """Checks the names, types and choices of the arguments of an arm; `earlier` are the arms above it."""
    places: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
        ("common", study.common, _SET_BY_STUDY),
        (f"arm {arm!r}", arguments, (*_SET_BY_STUDY, *DATA_SOURCES)),
    )
    for place, values, refused in places:
        if not isinstance(values, dict):
            raise ValueError(f"{path}: {place} is {values!r}; expected a mapping of arguments to values.")
        for key in refused:
            if key in values:
                raise ValueError(f"{path}: {place} sets {key}, which the study sets for each run. Remove it.")
    if "same_steps_as" in arguments and arguments["same_steps_as"] not in earlier:
        raise ValueError(
            f"{path}: arm {arm!r} has same_steps_as {arguments['same_steps_as']!r}; expected an arm above it "
            f"({', '.join(earlier) or 'there is none'})."
        )
    values = {key: value for key, value in run_settings(study, arm, 0).items() if key != "same_steps_as"}
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder, "arm.yaml")
        recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
        try:
            with contextlib.redirect_stderr(printed):
                parse_recipe([str(recipe)], (DataArguments, ModelArguments, _UncheckedTrainingArguments), "train")
        except (ValueError, SystemExit) as error:
            message = str(error) if isinstance(error, ValueError) else printed.getvalue().strip().splitlines()[-1]
            raise ValueError(f"{path}: arm {arm!r}: {message.replace(f' (in {recipe})', '')}") from error


def run_settings(study: Study, arm: str, seed: int) -> dict[str, Any]:
    """Merges the arguments of a run.

    Args:
        study: the study.
        arm: name of an arm.
        seed: of the run.

    Returns:
        The arguments of the recipe, overridden by `common` and by the arm, with the seed. Without the data source and
        the output folder. `same_steps_as` is kept.
    """
    values: Mapping[str, Any] = {**study.recipe, **study.common, **study.arms[arm], "seed": seed}
    return {key: value for key, value in values.items() if key not in (*DATA_SOURCES, "output_dir")}
