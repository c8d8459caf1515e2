"""Reads the finished runs of a study, and writes its report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_from_disk

from class_hf.plots.study import plot_curves, plot_quartiles
from class_hf.studies.definition import Study
from class_hf.studies.report import study_markdown
from class_hf.studies.statistics import Run, read_curve, summarise
from class_hf.utils.files import write_json, write_text

# The difficulty by which the report divides the queries into quartiles. Arms that need no difficulty read its dataset.
REFERENCE = ("alignment-mean-seed_0", ["--definition", "alignment", "--seed", "0"])


def training_seconds(summary: Mapping[str, float]) -> float:
    """Wall time of a training without its evaluations."""
    return summary["wall_seconds"] - summary["evaluation_seconds"]


def read_run(arm: str, seed: int, folder: Path) -> tuple[Run, dict[str, Any]]:
    """Reads a finished run.

    Args:
        arm: name of the arm.
        seed: of the run.
        folder: output folder of the run.

    Returns:
        The run, and the content of its `train_summary.json`.
    """
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
        curve=read_curve(json.loads((folder / "log_history.json").read_text())),
    )
    return run, summary


def write_report(
    study: Study, planned: Sequence[tuple[str, int]], output: Path, shared: Mapping[str, Any], command: str
) -> None:
    """Compares all finished runs and writes `report.md`, `report.json` and the pictures.

    Args:
        study: the study.
        planned: arm and seed of each run of the study.
        output: folder of the study.
        shared: see [`share_settings`].
        command: the command that runs the study, for the report.

    Raises:
        ValueError: if no run is finished.
    """
    planned = sorted(planned, key=lambda run: (list(study.arms).index(run[0]), run[1]))
    folders = {(arm, seed): output / arm / f"seed_{seed}" for arm, seed in planned}
    finished = [run for run in planned if (folders[run] / "train_summary.json").is_file()]
    if not finished:
        raise ValueError(f"no run in {output} is finished: there is nothing to report.")
    runs, summaries = zip(*(read_run(*run, folders[run]) for run in finished), strict=True)
    queries = load_from_disk(str(output / "difficulty" / REFERENCE[0] / "dataset"))["validation"]
    difficulty = dict(zip(queries["id"][:], queries["difficulty"][:], strict=True))
    first = folders[finished[0]]
    metrics = json.loads((first / "metrics.json").read_text())
    report = {
        "name": study.name,
        "data": "class_hf demo (synthetic)" if shared["data"] == ["--demo"] else Path(shared["data"][1]).name,
        "training_pairs": json.loads((first / "plan.json").read_text())["num_pairs"],
        "candidates": metrics["pools"]["full"]["text_to_molecule"]["candidates"],
        "command": command,
        "environments": count_environments(summaries),
        "baselines": study.baselines,
        "reference": REFERENCE[0],
        "missing": [f"{arm} seed {seed}" for arm, seed in planned if (arm, seed) not in finished],
        **summarise(runs, study.baselines, difficulty),
    }
    pictures = {
        "curves.png": plot_curves(report["curves"], study.baselines, output / "curves.png"),
        "quartiles.png": plot_quartiles(report["quartiles"], output / "quartiles.png"),
    }
    write_json(output / "report.json", report)
    write_text(output / "report.md", study_markdown(report, [name for name, path in pictures.items() if path]))
    print(f"{len(finished)} of {len(planned)} runs compared in {output / 'report.md'}")


def count_environments(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The different machines and versions of the runs, with the number of runs on each.

    >>> count_environments([{"environment": {"cores": 2}, "processes": 1}] * 3)
    [{'cores': 2, 'processes': 1, 'runs': 3}]
    """
    machines: dict[str, dict[str, Any]] = {}
    for summary in summaries:
        machine = {**summary["environment"], "processes": summary["processes"]}
        machines.setdefault(json.dumps(machine), {**machine, "runs": 0})["runs"] += 1
    return list(machines.values())
