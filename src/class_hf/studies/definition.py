"""Reads the file of a study, and checks all its arms before the first one is trained."""

import contextlib
import io
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from transformers import TrainingArguments

from class_hf.config.arguments import DataArguments, ModelArguments
from class_hf.config.parsing import parse_recipe
from class_hf.config.recipe_files import find_file
from class_hf.config.yaml_files import read_mapping
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.utils.suggestions import did_you_mean

DATA_SOURCES = ("data_dir", "dataset_name", "demo")
# How the pairs are read. Scoring needs these; training on scored pairs refuses them.
DATA_OPTIONS = (
    *("smiles_column", "text_column", "id_column", "column_mapping", "encoding"),
    *("extra_train", "replace_captions"),
)
_KEYS = (
    "recipe",
    "seeds",
    "choose_seeds",
    "confirm_seeds",
    "learning_rates",
    "common",
    "arms",
    "baselines",
    "candidates",
    "reach_margin",
)
# What an arm can have in common with an arm above it.
EQUAL_COSTS = ("same_steps_as", "same_pairs_as", "same_tokens_as", "same_time_as")
# What a study writes next to the folders of its arms.
_OWN_FILES = ("difficulty", "study.json", "report.json", "report.md", "curves.png", "quartiles.png")
# Arguments that the study sets for each run.
_SET_BY_STUDY = ("output_dir", "seed", "resume_from_checkpoint", "dry_run")


class Planned(NamedTuple):
    """A run of a study.

    Args:
        arm: name of its arm.
        seed: of the training.
        rate: factor of the arm's learning rates.

    >>> Planned("easy", 3, 0.5).label, Planned("easy", 3, 0.5).folder(Path("out")).as_posix()
    ('easy seed 3, learning rate x0.5', 'out/easy/learning_rate_x0.5/seed_3')
    """

    arm: str
    seed: int
    rate: float = 1.0

    @property
    def label(self) -> str:
        """The name of the run in messages."""
        return f"{self.arm} seed {self.seed}" + (f", learning rate x{self.rate:g}" if self.rate != 1.0 else "")

    def folder(self, output: Path) -> Path:
        """Its output folder in the folder of the study."""
        place = output / self.arm if self.rate == 1.0 else output / self.arm / f"learning_rate_x{self.rate:g}"
        return place / f"seed_{self.seed}"

    def is_finished(self, output: Path) -> bool:
        """Whether its training ended in the folder of the study."""
        return (self.folder(output) / "train_summary.json").is_file()


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
        confirm_seeds: held-out seeds, with which only the baselines and the best candidate are trained.
        candidates: names of the arms of which the best one is confirmed. Default: all but the baselines.
        learning_rates: factors of the learning rates. Each arm is trained with each, and its best one is compared.
        reach_margin: MRR by which the quality to reach is below the best one of the first baseline.
    """

    name: str
    recipe: dict[str, Any]
    seeds: list[int]
    common: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    baselines: list[str]
    confirm_seeds: list[int] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=lambda: [1.0])
    reach_margin: float = 0.0

    def plan(self, seeds: Sequence[int]) -> list[Planned]:
        """The runs of all arms with these seeds. The arms take turns."""
        return [Planned(arm, seed, rate) for seed in seeds for arm in self.arms for rate in self.learning_rates]

    def source_of(self, arm: str) -> tuple[str, str] | None:
        """Which cost an arm has in common with another arm, and the name of that arm; None for an arm of its own.

        >>> Study("s", {}, [0], {}, {"a": {}, "b": {"same_time_as": "a"}}, []).source_of("b")
        ('same_time_as', 'a')
        """
        return next(((key, self.arms[arm][key]) for key in EQUAL_COSTS if key in self.arms[arm]), None)


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
        raise ValueError(
            f"{path}: recipe is {recipe!r}; expected the path of a recipe, relative to the study, or the name of a "
            "shipped one, such as demo."
        )
    if "seeds" in values and "choose_seeds" in values:
        raise ValueError(f"{path}: seeds and choose_seeds are the same; give one of them.")
    name = "choose_seeds" if "choose_seeds" in values else "seeds"
    seeds = _read_seeds(values.get(name, [0, 1, 2]), name, path)
    confirm_seeds = _read_seeds(values["confirm_seeds"], "confirm_seeds", path) if "confirm_seeds" in values else []
    if common := sorted({*seeds} & {*confirm_seeds}):
        raise ValueError(f"{path}: seeds {common} are in {name} and in confirm_seeds; expected different ones.")
    arms = values.get("arms")
    if not isinstance(arms, dict) or not arms:
        raise ValueError(f"{path}: arms is {arms!r}; expected a mapping of names to arguments.")
    baselines = values.get("baselines", [arm for arm in ("none", "random") if arm in arms])
    if not isinstance(baselines, list):
        raise ValueError(f"{path}: baselines is {baselines!r}; expected a list of names of arms.")
    candidates = values.get("candidates", [str(arm) for arm in arms if arm not in baselines])
    if not isinstance(candidates, list):
        raise ValueError(f"{path}: candidates is {candidates!r}; expected a list of names of arms.")
    study = Study(
        name=path.stem,
        recipe=read_mapping(_find_recipe(recipe, path), "the recipe"),
        seeds=seeds,
        common=values.get("common") or {},
        arms={str(arm): {} if arguments is None else arguments for arm, arguments in arms.items()},
        baselines=baselines,
        confirm_seeds=confirm_seeds,
        candidates=candidates,
        learning_rates=_read_rates(values.get("learning_rates", [1.0]), path),
        reach_margin=_read_margin(values.get("reach_margin", 0.0), path),
    )
    for key, names in (("baselines", study.baselines), ("candidates", study.candidates)):
        for arm in names:
            if not isinstance(arm, str) or arm not in study.arms:
                raise ValueError(f"{key}: unknown arm {arm!r}; {did_you_mean(str(arm), study.arms)} (in {path})")
    if both := [arm for arm in candidates if arm in baselines]:
        raise ValueError(f"{path}: candidates: {both[0]!r} is a baseline; name other arms.")
    if confirm_seeds and not (baselines and candidates):
        raise ValueError(f"{path}: confirm_seeds need a baseline and a candidate to confirm.")
    earlier: list[str] = []
    for arm, arguments in study.arms.items():
        # The name becomes the name of a folder.
        if arm in _OWN_FILES:
            raise ValueError(f"{path}: {arm!r} cannot be the name of an arm: the study writes a file of this name.")
        if not re.fullmatch(r"[\w.+-]+", arm) or arm in (".", ".."):
            raise ValueError(f"{path}: {arm!r} cannot be the name of an arm; use letters, digits and _ . + -")
        _check_arm(study, arm, arguments, earlier, path)
        earlier.append(arm)
    return study


def _find_recipe(name: str, path: Path) -> Path:
    """The recipe of a study: a file relative to the study, or what `class-hf train` finds by the name."""
    files = (path.parent / name, path.parent / f"{name}.yaml")
    return next((file for file in files if file.is_file()), None) or find_file(name)


def _read_seeds(seeds: Any, name: str, path: Path) -> list[int]:
    """Checks a list of seeds."""
    are_integers = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not are_integers or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path}: {name} is {seeds!r}; expected a list of different integers of at least 0.")
    return seeds


def _read_rates(rates: Any, path: Path) -> list[float]:
    """Checks the factors of the learning rates."""
    are_numbers = isinstance(rates, list) and all(type(rate) in (int, float) for rate in rates)
    in_range = are_numbers and all(0 < rate < math.inf for rate in rates)
    # The folders of the runs have six digits of the factor.
    if not in_range or 1 not in rates or len({f"{rate:g}" for rate in rates}) < len(rates):
        raise ValueError(
            f"{path}: learning_rates is {rates!r}; expected different factors above 0 with 1 among them, for instance "
            "[0.5, 1, 2]."
        )
    return [float(rate) for rate in rates]


def _read_margin(margin: Any, path: Path) -> float:
    """Checks the margin of the quality to reach."""
    if type(margin) not in (int, float) or not 0 <= margin < 1:
        raise ValueError(f"{path}: reach_margin is {margin!r}; expected an MRR in [0, 1), for instance 0.005.")
    return float(margin)


def _check_arm(study: Study, arm: str, arguments: Any, earlier: Sequence[str], path: Path) -> None:
    """Checks the names, types and choices of the arguments of an arm; `earlier` are the arms above it."""
    places: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
        ("common", study.common, _SET_BY_STUDY),
        (f"arm {arm!r}", arguments, (*_SET_BY_STUDY, *DATA_SOURCES, *DATA_OPTIONS)),
    )
    for place, values, refused in places:
        if not isinstance(values, dict):
            raise ValueError(f"{path}: {place} is {values!r}; expected a mapping of arguments to values.")
        for key in refused:
            if key in values:
                raise ValueError(f"{path}: {place} sets {key}, which the study sets for each run. Remove it.")
    costs = [key for key in EQUAL_COSTS if key in arguments]
    if misplaced := [key for key in EQUAL_COSTS if key in study.common]:
        raise ValueError(f"{path}: common sets {misplaced[0]}, which is a setting of an arm.")
    if len(costs) > 1 or (costs and "max_steps" in arguments):
        both = [*costs, "max_steps"][:2]
        raise ValueError(f"{path}: arm {arm!r} sets {both[0]} and {both[1]}; both set its steps. Remove one of them.")
    if costs and arguments[costs[0]] not in earlier:
        raise ValueError(
            f"{path}: arm {arm!r} has {costs[0]} {arguments[costs[0]]!r}; expected an arm above it "
            f"({', '.join(earlier) or 'there is none'})."
        )
    values = {key: value for key, value in run_settings(study, Planned(arm, 0)).items() if key not in EQUAL_COSTS}
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


def run_settings(study: Study, run: Planned) -> dict[str, Any]:
    """Merges the arguments of a run.

    Args:
        study: the study.
        run: the run.

    Returns:
        The arguments of the recipe, overridden by `common` and by the arm, with the seed and with the learning rates
        times the factor of the run. Without the data source and the output folder. `same_steps_as` and its like are
        kept.
    """
    values: dict[str, Any] = {**study.recipe, **study.common, **study.arms[run.arm], "seed": run.seed}
    if run.rate != 1.0:
        values.setdefault("learning_rate", TrainingArguments.learning_rate)
        for name in ("learning_rate", "text_learning_rate"):
            if values.get(name) is not None:
                values[name] = run.rate * float(values[name])
    return {key: value for key, value in values.items() if key not in (*DATA_SOURCES, "output_dir")}
