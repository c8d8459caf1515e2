"""Reads the finished runs of a study, and writes its report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_from_disk

from class_hf.plots.study import plot_curves, plot_quartiles
from class_hf.studies.choice import choose_rates, runs_to_confirm
from class_hf.studies.definition import Planned, Study
from class_hf.studies.equal_costs import compare_costs, training_cpu_seconds, training_seconds
from class_hf.studies.report import study_markdown
from class_hf.studies.statistics import Run, read_curve, summarise
from class_hf.utils.files import write_json, write_text

# The difficulty by which the report divides the queries into quartiles. Arms that need no difficulty read its dataset.
REFERENCE = ("alignment-mean-seed_0", ["--definition", "alignment", "--seed", "0"])


def read_run(planned: Planned, output: Path) -> tuple[Run, dict[str, Any]]:
    """Reads a finished run.

    Args:
        planned: the run.
        output: folder of the study.

    Returns:
        The run, and the content of its `train_summary.json`.
    """
    folder = planned.folder(output)
    summary = json.loads((folder / "train_summary.json").read_text())
    with np.load(folder / "ranks.npz") as file:
        ranks = dict(file)
    run = Run(
        arm=planned.arm,
        seed=planned.seed,
        ids=ranks.pop("id"),
        ranks=ranks,
        steps=summary["steps"],
        seconds=training_seconds(summary),
        pairs_seen=summary["pairs_seen"],
        curve=read_curve(json.loads((folder / "log_history.json").read_text())),
        cpu_seconds=training_cpu_seconds(summary),
        tokens_seen=summary.get("tokens_seen"),
    )
    return run, summary


def read_finished(planned: Sequence[Planned], output: Path) -> dict[Planned, tuple[Run, dict[str, Any]]]:
    """Reads the runs that are finished, with the contents of their `train_summary.json`."""
    return {run: read_run(run, output) for run in planned if run.is_finished(output)}


def plan_confirmation(study: Study, output: Path) -> list[Planned]:
    """The runs with held-out seeds that the finished runs call for, see [`runs_to_confirm`].

    Raises:
        ValueError: if a run is missing on which the choice depends.
    """
    if not study.confirm_seeds:
        return []
    finished = read_finished(study.plan(study.seeds), output)
    return runs_to_confirm(study, {planned: run for planned, (run, _) in finished.items()})


def write_report(
    study: Study, planned: Sequence[Planned], output: Path, shared: Mapping[str, Any], command: str
) -> None:
    """Compares all finished runs and writes `report.md`, `report.json` and the pictures.

    Args:
        study: the study.
        planned: the runs of the study. Those with held-out seeds are reported apart.
        output: folder of the study.
        shared: see [`share_settings`].
        command: the command that runs the study, for the report.

    Raises:
        ValueError: if no run is finished.
    """
    seeds = sorted({run.seed for run in planned} - set(study.confirm_seeds))
    finished = read_finished([*study.plan(seeds), *planned], output)
    if not finished:
        raise ValueError(f"no run in {output} is finished: there is nothing to report.")
    rates = choose_rates(study, {run: result for run, (result, _) in finished.items()})
    best = {arm: choice["best"] for arm, choice in rates.items()}
    chosen = [run for run in finished if run.rate == best.get(run.arm, 1.0)]
    chosen.sort(key=lambda run: (list(study.arms).index(run.arm), run.seed))
    main = [run for run in chosen if run.seed not in study.confirm_seeds]
    queries = load_from_disk(str(output / "difficulty" / REFERENCE[0] / "dataset"))["validation"]
    difficulty = dict(zip(queries["id"][:], queries["difficulty"][:], strict=True))
    first = next(iter(finished)).folder(output)
    metrics = json.loads((first / "metrics.json").read_text())
    summaries = [summary for _, summary in finished.values()]
    environments = count_environments(summaries)

    def compared(runs: Sequence[Planned]) -> dict[str, Any]:
        by_arm: dict[str, dict[int, Any]] = {}
        for run in runs:
            by_arm.setdefault(run.arm, {})[run.seed] = finished[run][1]
        numbers = summarise(
            [finished[run][0] for run in runs], study.baselines, difficulty, reach_margin=study.reach_margin
        )
        return {**numbers, "equal_costs": compare_costs(study, by_arm)}

    report = {
        "name": study.name,
        "data": name_data(shared["data"]),
        "training_pairs": json.loads((first / "plan.json").read_text())["num_pairs"],
        "candidates": metrics["pools"]["full"]["text_to_molecule"]["candidates"],
        "command": command,
        "environments": environments,
        "baselines": study.baselines,
        "reference": REFERENCE[0],
        "reach_margin": study.reach_margin,
        "missing": [run.label for run in planned if run not in finished],
        "learning_rates": rates if len(study.learning_rates) > 1 else {},
        **compared(main),
    }
    held_out = [run for run in chosen if run in planned and run.seed in study.confirm_seeds]
    if held_out:
        report["confirmed"] = {"seeds": sorted({run.seed for run in held_out}), **compared(held_out)}
    has_cpu = all("cpu_seconds" in curve for curve in report["curves"].values())
    report["clock"] = "cpu_seconds" if has_cpu and not any(machine["gpu"] for machine in environments) else "seconds"
    pictures = {
        "curves.png": plot_curves(report["curves"], study.baselines, output / "curves.png", clock=report["clock"]),
        "quartiles.png": plot_quartiles(report["quartiles"], output / "quartiles.png"),
    }
    write_json(output / "report.json", report)
    write_text(output / "report.md", study_markdown(report, [name for name, path in pictures.items() if path]))
    print(f"{len(planned) - len(report['missing'])} of {len(planned)} runs compared in {output / 'report.md'}")


def name_data(source: Sequence[str]) -> str:
    """The name of the data of a study, with the files that change the training pairs.

    Args:
        source: see [`data_source`][class_hf.studies.runner.data_source].

    >>> name_data(["--data_dir", "/data/chebi20", "--extra_train", "more.tsv"])
    'chebi20 with --extra_train more.tsv'
    """
    is_demo = source[0] == "--demo"
    name, rest = ("class_hf demo (synthetic)", source[1:]) if is_demo else (Path(source[1]).name, source[2:])
    changes: list[str] = []
    is_change = False
    for word in rest:
        if word.startswith("--"):
            is_change = word in ("--extra_train", "--replace_captions")
        if is_change:
            changes.append(word if word.startswith("--") else Path(word).name)
    return f"{name} with {' '.join(changes)}" if changes else name


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
