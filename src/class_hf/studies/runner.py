"""Runs the arms of a study, each run in its own process."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from class_hf.config.recipe_files import recipes_folder
from class_hf.config.yaml_files import read_mapping
from class_hf.studies.definition import DATA_OPTIONS, DATA_SOURCES, EQUAL_COSTS, Planned, Study, run_settings
from class_hf.studies.equal_costs import (
    CostUnknown,
    equal_steps,
    measure_factor,
    training_cpu_seconds,
    training_seconds,
)
from class_hf.studies.results import REFERENCE
from class_hf.training.checkpoints import last_complete_checkpoint
from class_hf.training.output_folder import OutputFolderError, run_lock
from class_hf.utils.files import write_json, write_text
from class_hf.utils.plugins import code_digest

TRAIN, SCORE = (recipes_folder() / name for name in ("train.py", "score.py"))

# In the name of a folder with scores, before the hash of the code of a definition of the user's own.
_CODE = "-code_"


class RunFailed(ValueError):
    """A run or a scoring failed. The message has the path of its log and the last line."""


def data_source(study: Study, data_dir: str | None) -> list[str]:
    """The source of the pairs, and how they are read.

    Args:
        study: the study; its recipe may name a source, and options such as an encoding or further training pairs.
        data_dir: folder or Hub id that overrides the recipe.

    Returns:
        Arguments of `class-hf score`.

    Raises:
        ValueError: if there is no source.
    """
    values = {**study.recipe, **study.common}
    if data_dir is not None:
        source = ["--data_dir", str(Path(data_dir).resolve()) if Path(data_dir).exists() else data_dir]
    else:
        key, named = _named_source(study)
        source = ["--demo"] if key == "demo" else ["--data_dir", str(named)]
    for name in DATA_OPTIONS:
        value = values.get(name)
        if value not in (None, []):
            words = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
            source += [f"--{name}", *map(str, words)]
    return source


def _named_source(study: Study) -> tuple[str, Any]:
    """The argument that names the data, and its value. A source in `common` replaces that of the recipe."""
    recipe = {key: value for key, value in study.recipe.items() if key not in study.common}
    for values in (study.common, recipe):
        named = [(key, values[key]) for key in DATA_SOURCES if values.get(key)]
        if len(named) > 1:
            raise ValueError(f"{named[0][0]} and {named[1][0]} both name the data of the study. Remove one of them.")
        if named:
            return named[0]
    raise ValueError("the recipe names no data; pass --data_dir, a folder with the pairs.")


def share_settings(
    study: Study,
    output: Path,
    *,
    data_dir: str | None,
    launch: str | None,
    report_only: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Reads or writes the settings that all runs of a folder share. Otherwise their numbers would not be comparable.

    Args:
        study: the study.
        output: its folder.
        data_dir: see [`data_source`].
        launch: command that starts a run.
        report_only: whether the settings are only read.
        dry_run: whether the settings are only compared with those in the folder, if there are any.

    Returns:
        `name`, that of the study, `data`, the arguments of the data source, and `launch`, the words of the command.

    Raises:
        ValueError: if the runs in the folder have other settings, or if its settings are missing.
    """
    file = output / "study.json"
    if report_only:
        if not file.is_file():
            raise ValueError(f"{output} holds no study (no study.json).")
        shared = json.loads(file.read_text())
        passed: dict[str, Any] = {"name": study.name}
        passed |= {} if data_dir is None else {"data": data_source(study, data_dir)}
        passed |= {} if launch is None else {"launch": shlex.split(launch)}
        _check_shared(output, shared, {**shared, **passed})
        return shared
    shared = {"name": study.name, "data": data_source(study, data_dir), "launch": shlex.split(launch or "")}
    if not (output / "difficulty" / REFERENCE[0] / "summary.json").is_file():  # nothing depends on it yet
        if dry_run:
            return shared
        write_json(file, shared)
    if not file.is_file():
        raise ValueError(
            f"{output} holds scores but no study.json, so their data are not known. Choose another --output_dir."
        )
    _check_shared(output, json.loads(file.read_text()), shared)
    return shared


def _check_shared(output: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Compares the settings in a folder with those of now."""
    if old.get("name", new["name"]) != new["name"]:
        raise ValueError(
            f"{output} holds the study {old['name']!r}, whose report {new['name']!r} would replace. Choose another "
            "--output_dir."
        )
    for key in ("data", "launch"):
        if old[key] != new[key]:
            raise ValueError(
                f"the runs in {output} have {key} {shlex.join(old[key])!r}, but it is {shlex.join(new[key])!r} now. "
                "Pass the same value, or choose another --output_dir."
            )


def check_unchanged(study: Study, run: Planned, output: Path) -> None:
    """Checks that a finished run was made with the present settings of the study.

    Args:
        study: the study.
        run: the run.
        output: folder of the study.

    Raises:
        ValueError: with the settings that differ.
    """
    if not run.is_finished(output):
        return
    folder = run.folder(output)
    try:
        changes = list_differences(_settings_file(folder), resolve_settings(study, run, output))
    except CostUnknown:
        return  # the arm that sets the number of steps is gone, and will be trained again
    if changes:
        raise ValueError(
            f"{folder} was finished with other settings ({changes}). Give the arm another name, choose another "
            f"--output_dir, or remove {folder} to train it again."
        )


def list_differences(file: Path, values: dict[str, Any]) -> str:
    """The settings that differ from those in the file of a run, as text; empty if none does."""
    old = read_mapping(file, "the settings") if file.is_file() else {}
    # The path of the scored data depends on the other settings and on the folder of the study.
    keys = [key for key in {**old, **values} if key not in DATA_SOURCES and old.get(key) != values.get(key)]
    changes = [f"{key} {old.get(key)!r} -> {values.get(key)!r}" for key in keys]
    code = str(old.get("data_dir")).partition(_CODE)[2]  # of the definition with which its data were scored
    if code and not changes and code != code_digest(values["difficulty_definition"]):
        changes = [f"other code of difficulty_definition {values['difficulty_definition']!r}"]
    return ", ".join(changes)


def _settings_file(folder: Path) -> Path:
    """The file with the settings of a run, next to its folder."""
    return folder.with_suffix(".yaml")


def resolve_settings(study: Study, run: Planned, output: Path) -> dict[str, Any]:
    """The arguments of a run, with `same_steps_as` and its like replaced by the number of steps.

    Args:
        study: the study.
        run: the run.
        output: folder of the study.

    Raises:
        CostUnknown: if the arm that sets the number of steps has no plan yet.
    """
    # Runs train on scored pairs, which have the columns of this package and the further pairs.
    left_out = (*EQUAL_COSTS, *DATA_OPTIONS)
    values = {name: value for name, value in run_settings(study, run).items() if name not in left_out}
    steps = equal_steps(study, run, output)
    return values if steps is None else {**values, "max_steps": steps}


def run_all(
    study: Study,
    runs: Sequence[Planned],
    output: Path,
    launch: list[str],
    keep_models: bool,
) -> bool:
    """Trains the runs that are not finished.

    The arms take turns, so that another load on the machine affects all of them.

    Args:
        study: the study.
        runs: the runs.
        output: folder of the study.
        launch: words of the command that starts a run.
        keep_models: whether weights and checkpoints are kept.

    Returns:
        Whether a run failed.
    """
    todo = [run for run in runs if not run.is_finished(output)]
    print(f"{study.name}: {len(runs)} runs, {len(runs) - len(todo)} finished before", flush=True)
    failed, started = 0, time.perf_counter()
    for number, run in enumerate(todo, start=1):
        place = f"[{number}/{len(todo)}] {run.label}"
        try:
            result = train(study, run, output, launch)
            while measure_factor(study, run, output):
                print(f"{place}: {result}; trained again with the measured number of steps", flush=True)
                result = train(study, run, output, launch)
        except (RunFailed, CostUnknown) as error:
            failed += 1
            print(f"{place}: FAILED: {error}", flush=True)
            continue
        folder = run.folder(output)
        if not keep_models:
            for heavy in (*folder.glob("checkpoint-*"), *folder.glob("*.safetensors")):
                shutil.rmtree(heavy) if heavy.is_dir() else heavy.unlink()
        left = (time.perf_counter() - started) / number * (len(todo) - number)
        print(f"{place}: {result}; about {left / 60:.0f} min left", flush=True)
    return failed > 0


def train(study: Study, run: Planned, output: Path, launch: list[str]) -> str:
    """Trains one run in its own process, from its last complete checkpoint if there is one.

    Args:
        study: the study.
        run: the run.
        output: folder of the study.
        launch: words of the command that starts a run.

    Returns:
        Quality, steps and time, in one line.

    Raises:
        RunFailed: if the run fails, or its folder belongs to something else.
        CostUnknown: if the arm that sets the number of steps has no plan yet.
    """
    values = resolve_settings(study, run, output)
    folder = run.folder(output)
    file, log = _settings_file(folder), folder.with_suffix(".log")
    data = score_for_run(values, output)
    resume = False
    if folder.exists():
        if not file.is_file():
            raise RunFailed(f"{folder} is not a run of this study: there is no {file.name} next to it. Move it away.")
        resume = not list_differences(file, values) and has_complete_checkpoint(folder)
        try:
            with run_lock(folder):  # another process may be training this run
                if not resume:
                    shutil.rmtree(folder)
        except OutputFolderError as error:
            raise RunFailed(str(error)) from error
    write_text(file, yaml.safe_dump({**values, "data_dir": str(data)}, sort_keys=False))
    command = [*launch, str(TRAIN), str(file), "--output_dir", str(folder)]
    execute(command + (["--resume_from_checkpoint", "true"] if resume else []), log, append=resume)
    if not (folder / "train_summary.json").is_file():
        raise RunFailed(f"the process ended without an error and without a train_summary.json; see {log}.")
    summary = json.loads((folder / "train_summary.json").read_text())
    mrr = json.loads((folder / "metrics.json").read_text())["pools"]["full"]["text_to_molecule"]["mrr"]
    cpu = training_cpu_seconds(summary)
    result = f"MRR {mrr:.4f}, {summary['steps']:,} steps, {training_seconds(summary):.0f} s"
    result += "" if cpu is None else f" (CPU {cpu:.0f} s)"
    return f"{result}, resumed" if resume else result


def has_complete_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed."""
    try:
        last_complete_checkpoint(str(folder))
    except ValueError:
        return False
    return True


def score_reference(study: Study, output: Path, source: list[str]) -> None:
    """Reads and checks the data and scores it by the reference difficulty, unless that is done.

    Args:
        study: the study.
        output: its folder.
        source: see [`data_source`].

    Raises:
        RunFailed: if the data is faulty.
    """
    folder = output / "difficulty" / REFERENCE[0]
    values = {**study.recipe, **study.common}
    options = ["--on_error", values.get("on_error", "raise")]
    score(folder, [*source, *options, *REFERENCE[1]])


def score_for_run(values: dict[str, Any], output: Path) -> Path:
    """Scores the data as a run needs it, unless an earlier run needed the same.

    Args:
        values: arguments of the run, with its seed.
        output: folder of the study.

    Returns:
        The folder with the scored data.

    Raises:
        RunFailed: if the scoring fails.
    """
    reference = output / "difficulty" / REFERENCE[0]
    suspects = _needs_suspects(values)
    if values.get("curriculum_order", "easy_first") in ("none", "random"):
        if suspects:
            folder = output / "difficulty" / f"suspects-seed_{values['seed']}"
            options = ["--definition", "complexity", "--suspects", "--seed", str(values["seed"])]
            score(folder, ["--data_dir", str(reference), *options])
            return folder
        return reference
    definition = values.get("difficulty_definition") or ["alignment"]
    definition = [definition] if isinstance(definition, str) else definition
    combination = values.get("difficulty_combination", "mean")
    weight = float(values.get("difficulty_text_weight", 0.5))
    name = f"{'+'.join(definition)}-{combination}"
    options = ["--definition", ",".join(definition), "--combination", combination]
    if combination == "mean" and weight != 0.5:
        name += f"-text_{weight:g}"
        options += ["--text_weight", str(weight)]
    if suspects:
        name += "-suspects"
        options.append("--suspects")
    if "alignment" in definition or suspects:  # only these are random
        name += f"-seed_{values['seed']}"
        options += ["--seed", str(values["seed"])]
    if code := code_digest(definition):
        name += f"{_CODE}{code}"
    folder = output / "difficulty" / name
    # The rows of the reference are checked already. The new columns replace its own.
    score(folder, ["--data_dir", str(reference), *options])
    return folder


def _needs_suspects(values: dict[str, Any]) -> bool:
    """Whether a run needs the probability that each pair is wrong. Its arguments were checked with the study."""
    end = str(values.get("curriculum_end") or 1)
    return end == "auto" or float(end) != 1.0 or str(values.get("suspect_weights", False)).lower() in ("true", "1")


def score(folder: Path, options: list[str]) -> None:
    """Scores the pairs, unless the folder is there. The folder appears only when it is complete."""
    if not (folder / "summary.json").is_file():
        command = [sys.executable, str(SCORE), *options, "--output_dir", str(folder)]
        execute(command, folder.with_name(f"{folder.name}.log"))


def execute(command: list[str], log: Path, append: bool = False) -> None:
    """Runs a command and writes its output to a log.

    Args:
        command: the words of the command.
        log: the file.
        append: whether the log of an earlier run is continued.

    Raises:
        RunFailed: if the command fails, with the last line of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a" if append else "w", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        try:
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            raise RunFailed(f"{command[0]!r} cannot be started: {error}") from error
    if status != 0:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise RunFailed(f"status {status}; the last line of {log} is: {lines[-1] if lines else ''}")
