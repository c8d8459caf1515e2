"""Run the arms of a study, each in a process of its own, and write the report."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import load_from_disk

from class_hf.config.recipe_files import recipes_folder
from class_hf.config.yaml_files import read_mapping
from class_hf.plots.study import plot_curves, plot_quartiles
from class_hf.studies.definition import DATA_SOURCES, Study, run_settings
from class_hf.studies.report import study_markdown
from class_hf.studies.statistics import Run, curve_of, summarise
from class_hf.training.checkpoints import last_complete_checkpoint
from class_hf.utils.files import write_json, write_text

TRAIN, SCORE = (recipes_folder() / name for name in ("train.py", "score.py"))
# By it the report divides the queries of all arms into quartiles; runs without a difficulty of their own get it too.
REFERENCE = ("alignment-mean-seed_0", ["--definition", "alignment", "--seed", "0"])


class RunFailed(ValueError):
    """A run or a scoring ended with an error; the message says where its log is and how it ends."""


# -- the runs -------------------------------------------------------------------------------------------------------


def data_source(study: Study, data_dir: str | None) -> list[str]:
    """Where the pairs come from, as arguments of recipes/score.py."""
    if data_dir is not None:
        return ["--data_dir", str(Path(data_dir).resolve()) if Path(data_dir).exists() else data_dir]
    values = {**study.recipe, **study.common}
    if values.get("demo"):
        return ["--demo"]
    for key in ("data_dir", "dataset_name"):
        if values.get(key):
            return ["--data_dir", str(values[key])]
    raise ValueError("the recipe names no data: pass --data_dir, a folder with the pairs.")


def same_study(
    study: Study, output: Path, *, data_dir: str | None, launch: str | None, report_only: bool
) -> dict[str, Any]:
    """What all runs of a folder share, or their numbers would not compare: `data` and `launch`.

    Raises:
        ValueError: if the folder's runs have others.
    """
    file = output / "study.json"
    if report_only:
        if not file.is_file():
            raise ValueError(f"{output} holds no study (no study.json): there is nothing to report.")
        return json.loads(file.read_text())
    shared = {"data": data_source(study, data_dir), "launch": shlex.split(launch or "")}
    if not (output / "difficulty" / REFERENCE[0] / "summary.json").is_file():  # or nothing was made of them yet
        write_json(file, shared)
    for key, value in json.loads(file.read_text()).items():
        if value != shared[key]:
            raise ValueError(
                f"the runs in {output} have {key} {shlex.join(value)!r}, now it is {shlex.join(shared[key])!r}. "
                "Give the same again, or choose another --output_dir."
            )
    return shared


def refuse_changed(study: Study, arm: str, seed: int, output: Path) -> None:
    """A finished run answers for the settings it was made with.

    Raises:
        ValueError: if the study now has others for it.
    """
    folder = output / arm / f"seed_{seed}"
    if not (folder / "train_summary.json").is_file():
        return
    try:
        changes = differences(folder.with_suffix(".yaml"), resolved(study, arm, seed, output))
    except RunFailed:
        return  # the arm whose steps it took is gone, and will be trained anew
    if changes:
        raise ValueError(
            f"{folder} was finished with other settings ({changes}). Give the arm another name, choose another "
            f"--output_dir, or remove {folder} to train it again."
        )


def differences(file: Path, values: dict[str, Any]) -> str:
    """What of a run's settings is not as in its file; empty if all is."""
    old = read_mapping(file, "the settings") if file.is_file() else {}
    # Where the scored data lies follows from the rest, and moves with the study's folder.
    keys = [key for key in {**old, **values} if key not in DATA_SOURCES and old.get(key) != values.get(key)]
    return ", ".join(f"{key} {old.get(key)!r} -> {values.get(key)!r}" for key in keys)


def resolved(study: Study, arm: str, seed: int, output: Path) -> dict[str, Any]:
    """The settings of a run, the steps of another arm filled in.

    Raises:
        RunFailed: if that arm has no plan yet.
    """
    values = run_settings(study, arm, seed)
    other = values.pop("same_steps_as", None)
    if other is not None:
        plan = output / other / f"seed_{seed}" / "plan.json"
        if not plan.is_file():
            raise RunFailed(
                f"it takes the steps of arm {other!r}, which was not run with seed {seed}: run that first."
            )
        values["max_steps"] = json.loads(plan.read_text())["total_steps"]
    return values


def run_all(
    study: Study,
    runs: list[tuple[str, int]],
    output: Path,
    launch: list[str],
    keep_models: bool,
) -> bool:
    """Trains what is not finished, the arms in turn, so that a load on the machine meets all; whether any failed."""
    todo = [(arm, seed) for arm, seed in runs if not (output / arm / f"seed_{seed}" / "train_summary.json").is_file()]
    print(f"{study.name}: {len(runs)} runs, {len(runs) - len(todo)} finished before", flush=True)
    failed, began = 0, time.perf_counter()
    for number, (arm, seed) in enumerate(todo, start=1):
        place = f"[{number}/{len(todo)}] {arm} seed {seed}"
        try:
            told = train(study, arm, seed, output, launch)
        except RunFailed as error:
            failed += 1
            print(f"{place}: FAILED: {error}", flush=True)
            continue
        folder = output / arm / f"seed_{seed}"
        if not keep_models:
            for heavy in (*folder.glob("checkpoint-*"), *folder.glob("*.safetensors")):
                shutil.rmtree(heavy) if heavy.is_dir() else heavy.unlink()
        left = (time.perf_counter() - began) / number * (len(todo) - number)
        print(f"{place}: {told}; about {left / 60:.0f} min left", flush=True)
    return failed > 0


def train(study: Study, arm: str, seed: int, output: Path, launch: list[str]) -> str:
    """Trains one run in a process of its own, going on with it if it was begun; what became of it in a line."""
    values = resolved(study, arm, seed, output)
    folder = output / arm / f"seed_{seed}"
    file, log = folder.with_suffix(".yaml"), folder.with_suffix(".log")
    data = scored(values, output)
    resume = False
    if folder.exists():
        if not file.is_file():
            raise RunFailed(f"{folder} is none of this study's runs: it has no {file.name} beside it. Move it away.")
        resume = not differences(file, values) and has_whole_checkpoint(folder)
        if not resume:
            shutil.rmtree(folder)
    write_text(file, yaml.safe_dump({**values, "data_dir": str(data)}, sort_keys=False))
    command = [*launch, str(TRAIN), str(file), "--output_dir", str(folder)]
    execute(command + (["--resume_from_checkpoint", "true"] if resume else []), log, append=resume)
    if not (folder / "train_summary.json").is_file():
        raise RunFailed(f"it ended without an error and without a train_summary.json; see {log}.")
    summary = json.loads((folder / "train_summary.json").read_text())
    mrr = json.loads((folder / "metrics.json").read_text())["pools"]["full"]["text_to_molecule"]["mrr"]
    told = f"MRR {mrr:.4f}, {summary['steps']:,} steps, {training_seconds(summary):.0f} s"
    return f"{told}, resumed" if resume else told


def has_whole_checkpoint(folder: Path) -> bool:
    try:
        last_complete_checkpoint(str(folder))
    except ValueError:
        return False
    return True


def score_reference(study: Study, output: Path, source: list[str]) -> None:
    """Reads and checks the data, and scores it by the reference, if that is not done yet.

    Raises:
        RunFailed: if the data is not as it should be.
    """
    folder = output / "difficulty" / REFERENCE[0]
    on_error = {**study.recipe, **study.common}.get("on_error", "raise")
    score(folder, [*source, "--on_error", on_error, *REFERENCE[1]])


def scored(values: dict[str, Any], output: Path) -> Path:
    """The folder with the data scored as a run needs it, made if no run before needed it."""
    reference = output / "difficulty" / REFERENCE[0]
    if values.get("curriculum_order", "easy_first") in ("none", "random"):
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
    if "alignment" in definition:  # the others draw nothing at random
        name += f"-seed_{values['seed']}"
        options += ["--seed", str(values["seed"])]
    folder = output / "difficulty" / name
    # From the reference, whose rows are checked already; the new columns take the place of the old.
    score(folder, ["--data_dir", str(reference), *options])
    return folder


def score(folder: Path, options: list[str]) -> None:
    """Runs recipes/score.py, whose folder appears whole or not at all."""
    if not (folder / "summary.json").is_file():
        command = [sys.executable, str(SCORE), *options, "--output_dir", str(folder)]
        execute(command, folder.with_name(f"{folder.name}.log"))


def execute(command: list[str], log: Path, append: bool = False) -> None:
    """Runs a command with its output in a log.

    Raises:
        RunFailed: if it ends with an error; has the end of the log.
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
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise RunFailed(f"status {status}; the end of {log}:\n" + "\n".join(f"    {line}" for line in tail))


# -- the report -----------------------------------------------------------------------------------------------------


def training_seconds(summary: dict[str, Any]) -> float:
    return summary["wall_seconds"] - summary["evaluation_seconds"]


def read_run(arm: str, seed: int, folder: Path) -> tuple[Run, dict[str, Any]]:
    """A finished run, and its summary."""
    summary = json.loads((folder / "train_summary.json").read_text())
    with np.load(folder / "ranks.npz") as file:
        ranks = dict(file)
    run = Run(
        arm=arm,
        seed=seed,
        ids=ranks.pop("id"),
        ranks=ranks,
        steps=summary["steps"],
        seconds=training_seconds(summary),
        pairs_seen=summary["pairs_seen"],
        curve=curve_of(json.loads((folder / "log_history.json").read_text())),
    )
    return run, summary


def write_report(
    study: Study, every: list[tuple[str, int]], output: Path, shared: dict[str, Any], command: str
) -> None:
    """Compares all finished runs, in the order of the arms."""
    every = sorted(every, key=lambda one: (list(study.arms).index(one[0]), one[1]))
    folders = {(arm, seed): output / arm / f"seed_{seed}" for arm, seed in every}
    done = [one for one in every if (folders[one] / "train_summary.json").is_file()]
    if not done:
        raise ValueError(f"no run in {output} is finished: there is nothing to report.")
    runs, summaries = zip(*(read_run(*one, folders[one]) for one in done), strict=True)
    queries = load_from_disk(str(output / "difficulty" / REFERENCE[0] / "dataset"))["validation"]
    difficulty = dict(zip(queries["id"][:], queries["difficulty"][:], strict=True))
    first = folders[done[0]]
    metrics = json.loads((first / "metrics.json").read_text())
    report = {
        "name": study.name,
        "data": "class_hf demo (synthetic)" if shared["data"] == ["--demo"] else Path(shared["data"][1]).name,
        "training_pairs": json.loads((first / "plan.json").read_text())["num_pairs"],
        "candidates": metrics["pools"]["full"]["text_to_molecule"]["candidates"],
        "command": command,
        "environments": environments(summaries),
        "baselines": study.baselines,
        "reference": REFERENCE[0],
        "missing": [f"{arm} seed {seed}" for arm, seed in every if (arm, seed) not in done],
        **summarise(runs, study.baselines, difficulty),
    }
    pictures = {
        "curves.png": plot_curves(report["curves"], study.baselines, output / "curves.png"),
        "quartiles.png": plot_quartiles(report["quartiles"], output / "quartiles.png"),
    }
    write_json(output / "report.json", report)
    write_text(output / "report.md", study_markdown(report, [name for name, path in pictures.items() if path]))
    print(f"{len(done)} of {len(every)} runs compared in {output / 'report.md'}")


def environments(summaries: Any) -> list[dict[str, Any]]:
    """The different machines and versions of the runs, with the number of runs on each."""
    found: dict[str, dict[str, Any]] = {}
    for summary in summaries:
        one = {**summary["environment"], "processes": summary["processes"]}
        found.setdefault(json.dumps(one), {**one, "runs": 0})["runs"] += 1
    return list(found.values())
