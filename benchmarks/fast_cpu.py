"""Checks the claims of recipes/chebi20/fast_cpu.yaml: its quality, its time, and what a curriculum saves.

    python benchmarks/fast_cpu.py --data_dir DATA [--seeds 0 1 2] [--before COMMIT]

The arms are:

- the recipe, with all pairs in each epoch;
- `random`, a growing pool;
- `easy first`, a pool that grows from the easiest pairs by alignment, with batches of similar pairs;
- `none, equal steps`, the recipe cut to the number of steps of `easy first`;
- with `--before`, the recipe at an earlier commit of this repository.

Each arm is trained with each seed and evaluated on all validation pairs. The arms take turns, so that another load on
the machine affects all of them. The recipe, now and before, starts from the files each time: its seconds include
loading, featurising, training and evaluation.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

RECIPE = Path("recipes") / "chebi20" / "fast_cpu.yaml"
ARMS: dict[str, list[object]] = {
    "recipe": [],
    "random": ["--curriculum_order", "random"],
    "easy first": ["--curriculum_order", "easy_first", "--curriculum_group_size", 64],
    "none, equal steps": [],
}
METRICS = ("hits@1", "hits@10", "mrr", "mean_rank")


def train(root: Path, cache: Path, *arguments: object) -> float:
    """Runs the recipe of the repository at `root`. Returns its seconds from start to end."""
    command = [sys.executable, str(root / "recipes" / "train.py"), str(root / RECIPE), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "HF_DATASETS_CACHE": str(cache)}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def run(arm: str, seed: int, steps: int, roots: dict[str, Path], data_dir: Path, folder: Path) -> dict[str, Any]:
    """Trains one arm. `steps` is the number of steps of the run with a curriculum."""
    extra = list(ARMS.get(arm, []))
    if arm == "none, equal steps":
        extra += ["--max_steps", steps]
    output = folder / f"{arm}-{seed}"
    # The controls share the prepared features. A run that starts from the files has its own cache.
    cache = folder / (f"cache-{arm}-{seed}" if arm in roots else "cache-recipe-0")
    root = roots.get(arm, common.ROOT)
    seconds = train(root, cache, "--data_dir", data_dir, "--output_dir", output, "--seed", seed, *extra)
    pools = json.loads((output / "metrics.json").read_text())["pools"]
    summary = json.loads((output / "train_summary.json").read_text())
    return {
        "arm": arm,
        "seed": seed,
        "steps": summary["steps"],
        "train_seconds": summary["wall_seconds"],
        "all_seconds": round(seconds, 1),
        "full": {name: pools["full"]["text_to_molecule"][name] for name in METRICS},
        "split": {name: pools["split"]["text_to_molecule"][name] for name in METRICS},
        "split_molecule_to_text": {name: pools["split"]["molecule_to_text"][name] for name in METRICS},
    }


def values(runs: list[dict[str, Any]], arm: str, *keys: str) -> list[float]:
    """One number from each run of an arm."""
    numbers = []
    for record in runs:
        if record["arm"] == arm:
            value: Any = record
            for key in keys:
                value = value[key]
            numbers.append(value)
    return numbers


def bars(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The result rows: means over the seeds, and the best seed for times."""

    def mean(arm: str, *keys: str) -> float:
        return statistics.fmean(values(runs, arm, *keys))

    def best(arm: str, key: str) -> float:
        return min(values(runs, arm, key))

    full, split = "fast_cpu: full pool, text to molecule, ", "fast_cpu: split pool, text to molecule, "
    rows = [
        common.bar(full + "Hits@10", ">=", 0.62, mean("recipe", "full", "hits@10")),
        common.bar(full + "MRR", ">=", 0.33, mean("recipe", "full", "mrr")),
        common.bar(split + "MRR", ">=", 0.68, mean("recipe", "split", "mrr")),
        common.bar("fast_cpu: from files to evaluation, seconds", "<=", 480, best("recipe", "all_seconds")),
        common.bar(
            "fast_cpu: steps, curriculum over none", "<=", 0.80, mean("easy first", "steps") / mean("recipe", "steps")
        ),
        common.bar(
            "fast_cpu: training time, curriculum over none",
            "<=",
            0.80,
            best("easy first", "train_seconds") / best("recipe", "train_seconds"),
        ),
        common.bar(
            "fast_cpu: full-pool MRR lost against none",
            "<=",
            0.005,
            mean("recipe", "full", "mrr") - mean("easy first", "full", "mrr"),
        ),
    ]
    if values(runs, "before", "seed"):
        rows += [
            common.bar(
                "fast_cpu: from files to evaluation, time now over before",
                "<=",
                0.5,
                best("recipe", "all_seconds") / best("before", "all_seconds"),
            ),
            common.bar(
                "fast_cpu: full-pool MRR lost against before",
                "<=",
                0.005,
                mean("before", "full", "mrr") - mean("recipe", "full", "mrr"),
            ),
        ]
    return rows


def table(runs: list[dict[str, Any]]) -> str:
    """The arms as a Markdown table: means over the seeds, the best time, and the range of the MRR."""
    lines = [
        "| arm | steps | training seconds | all seconds | Hits@1 | Hits@10 | MRR | spread of MRR | split MRR |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in (*ARMS, "before"):
        mrr = values(runs, arm, "full", "mrr")
        if not mrr:
            continue
        cells = [f"{statistics.fmean(values(runs, arm, 'steps')):.0f}"]
        cells += [f"{min(values(runs, arm, key)):.0f}" for key in ("train_seconds", "all_seconds")]
        cells += [f"{statistics.fmean(values(runs, arm, 'full', key)):.3f}" for key in ("hits@1", "hits@10", "mrr")]
        cells += [f"{min(mrr):.3f} to {max(mrr):.3f}", f"{statistics.fmean(values(runs, arm, 'split', 'mrr')):.3f}"]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    args = common.arguments(
        __doc__,
        seeds={"type": int, "nargs": "+", "default": [0, 1, 2]},
        before={"metavar": "COMMIT", "help": "also train the recipe of this commit"},
    )
    if args.data_dir is None:
        sys.exit("error: the bars are for ChEBI-20; pass its folder as --data_dir.")
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        roots = {"recipe": common.ROOT}
        if args.before:
            roots["before"] = folder / "repository"
            roots["before"].mkdir()
            archive = subprocess.run(["git", "archive", args.before], cwd=common.ROOT, capture_output=True, check=True)
            subprocess.run(["tar", "-x"], cwd=roots["before"], input=archive.stdout, check=True)
        for seed in args.seeds:
            for arm in ("before", *ARMS) if args.before else ARMS:
                steps = next((record["steps"] for record in runs if record["arm"] == "easy first"), 0)
                runs.append(run(arm, seed, steps, roots, args.data_dir.resolve(), folder))
                print(json.dumps(runs[-1]), flush=True)
    print(table(runs))
    common.finish(bars(runs), args.output, runs=runs)


if __name__ == "__main__":
    main()
