"""A study's file: arms of a recipe, all checked before the first one is trained."""

import contextlib
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from class_hf.config.arguments import DataArguments, ModelArguments
from class_hf.config.parsing import parse_recipe
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.utils.suggestions import did_you_mean

_KEYS = ("recipe", "seeds", "common", "arms", "baselines")
SOURCES = ("data_dir", "dataset_name", "demo")
_OWN = ("output_dir", "seed", "resume_from_checkpoint", "dry_run")  # set by the study for every run


@dataclass(frozen=True)
class Study:
    """What a study's file says; `recipe` holds the values of the recipe's file."""

    name: str
    recipe: dict[str, Any]
    seeds: list[int]
    common: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    baselines: list[str]


@dataclass
class _Unchecked(CurriculumTrainingArguments):
    """Takes the arguments' names, types and choices; the values are for the runs to check, on their device."""

    def __post_init__(self) -> None:
        pass


def read_study(path: Path) -> Study:
    """Reads and checks a study, every arm's arguments included.

    Raises:
        ValueError: says what is wrong, where, and what is allowed.
    """
    values = read_mapping(path, "the study")
    for key in values:
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}; {did_you_mean(key, _KEYS)} (in {path})")
    if not isinstance(values.get("recipe"), str):
        raise ValueError(
            f"{path}: recipe is {values.get('recipe')!r}; expected the path of a recipe, from the study's folder."
        )
    seeds = values.get("seeds", [0, 1, 2])
    whole = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path}: seeds is {seeds!r}; expected a list of different whole numbers.")
    arms = values.get("arms")
    if not isinstance(arms, dict) or not arms:
        raise ValueError(f"{path}: arms is {arms!r}; expected a mapping of names to arguments.")
    baselines = values.get("baselines", [arm for arm in ("none", "random") if arm in arms])
    if not isinstance(baselines, list):
        raise ValueError(f"{path}: baselines is {baselines!r}; expected a list of arms.")
    study = Study(
        name=path.stem,
        recipe=read_mapping(path.parent / values["recipe"], "the recipe"),
        seeds=seeds,
        common=values.get("common") or {},
        arms={str(arm): {} if given is None else given for arm, given in arms.items()},
        baselines=baselines,
    )
    for arm in study.baselines:
        if arm not in study.arms:
            raise ValueError(f"baselines: unknown arm {arm!r}; {did_you_mean(arm, study.arms)} (in {path})")
    earlier: list[str] = []
    for arm, given in study.arms.items():
        if not re.fullmatch(r"[\w.+-]+", arm) or arm in ("difficulty", ".", ".."):
            raise ValueError(
                f"{path}: {arm!r} cannot name an arm (it names a folder): use letters, digits and _ . + -"
            )
        _check_arm(study, arm, given, earlier, path)
        earlier.append(arm)
    return study


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file; `what` names it in errors.

    Raises:
        ValueError: if there is no such file, or no mapping in it.
    """
    if not path.is_file():
        raise ValueError(f"{what} {str(path)!r} does not exist.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{what} {str(path)!r} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{what} {str(path)!r} must be a mapping.")
    return values


def _check_arm(study: Study, arm: str, given: Any, earlier: list[str], path: Path) -> None:
    """Finds wrong names, types and choices before the first run starts."""
    for place, values, refused in (("common", study.common, _OWN), (f"arm {arm!r}", given, (*_OWN, *SOURCES))):
        if not isinstance(values, dict):
            raise ValueError(f"{path}: {place} is {values!r}; expected a mapping of arguments to values.")
        for key in refused:
            if key in values:
                raise ValueError(f"{path}: {place} sets {key}, which the study sets for every run. Leave it out.")
    if "same_steps_as" in given and given["same_steps_as"] not in earlier:
        raise ValueError(
            f"{path}: arm {arm!r} has same_steps_as {given['same_steps_as']!r}; expected an arm above it"
            f" ({', '.join(earlier) or 'there is none'})."
        )
    values = {key: value for key, value in settings(study, arm, 0).items() if key != "same_steps_as"}
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder, "arm.yaml")
        recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
        try:
            with contextlib.redirect_stderr(said):
                parse_recipe([str(recipe)], (DataArguments, ModelArguments, _Unchecked), "train")
        except (ValueError, SystemExit) as error:
            message = str(error) if isinstance(error, ValueError) else said.getvalue().strip().splitlines()[-1]
            raise ValueError(f"{path}: arm {arm!r}: {message.replace(f' (in {recipe})', '')}") from error


def settings(study: Study, arm: str, seed: int) -> dict[str, Any]:
    """The recipe of a run, but for its data and with `same_steps_as` as it stands."""
    values = {**study.recipe, **study.common, **study.arms[arm], "seed": seed}
    return {key: value for key, value in values.items() if key not in (*SOURCES, "output_dir")}
