"""The claim of recipes/chebi20/fast_cpu.yaml: its quality, and what its curriculum saves against the baseline.

    python benchmarks/fast_cpu.py --data_dir DATA [--seeds 0 1 2] [--output benchmarks/results/fast_cpu.json]

Arms: the recipe as it is; `random`, the control with the same growth and random membership; `none`, the baseline of
full epochs; and `none, equal steps`, the baseline cut to the recipe's number of steps. Each arm is trained with each
seed, the arms in turn so that a load on the machine meets all of them, and evaluated on validation in full. Difficulty
is scored once for all; its cost is reported and counted in the time of the recipe. Exit status 1 if a bar is missed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from class_hf.files import write_json

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "chebi20" / "fast_cpu.yaml"
ARMS = ("recipe", "random", "none", "none, equal steps")
METRICS = ("hits@1", "hits@10", "mrr", "mean_rank")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def execute(script: str, *arguments: object) -> float:
    """Runs a recipe script; its seconds."""
    command = [sys.executable, str(ROOT / "recipes" / script), *map(str, arguments)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def run(arm: str, seed: int, steps: int | None, scored: Path, output: Path) -> dict[str, Any]:
    """Trains one arm; `steps` is the length of the recipe's own run."""
    extra: list[object] = [] if arm == "recipe" else ["--curriculum_order", arm.split(",")[0]]
    if arm == "none, equal steps":
        extra += ["--max_steps", steps]
    seconds = execute("train.py", RECIPE, "--data_dir", scored, "--output_dir", output, "--seed", seed, *extra)
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


def mean(runs: list[dict[str, Any]], arm: str, *keys: str) -> float:
    values = []
    for one in runs:
        if one["arm"] == arm:
            value: Any = one
            for key in keys:
                value = value[key]
            values.append(value)
    return statistics.fmean(values)


def bars(runs: list[dict[str, Any]], scoring_seconds: float) -> list[dict[str, Any]]:
    """Each bar with what was measured, means over the seeds."""
    steps = mean(runs, "recipe", "steps") / mean(runs, "none", "steps")
    seconds = mean(runs, "recipe", "train_seconds") / mean(runs, "none", "train_seconds")
    lost = mean(runs, "none", "full", "mrr") - mean(runs, "recipe", "full", "mrr")
    everything = scoring_seconds + mean(runs, "recipe", "all_seconds")
    full, split = "validation, full pool, text to molecule: ", "validation, split pool, text to molecule: "
    checks = [
        (full + "Hits@10", ">=", 0.62, mean(runs, "recipe", "full", "hits@10")),
        (full + "MRR", ">=", 0.33, mean(runs, "recipe", "full", "mrr")),
        (split + "MRR", ">=", 0.68, mean(runs, "recipe", "split", "mrr")),
        ("scoring, training and evaluation, seconds", "<=", 480, everything),
        ("steps, curriculum over none", "<=", 0.80, steps),
        ("training wall time, curriculum over none", "<=", 0.80, seconds),
        ("full-pool MRR lost against none", "<=", 0.005, lost),
    ]
    return [
        {
            "requirement": name,
            "bar": f"{sign} {limit}",
            "measured": round(value, 4),
            "met": value >= limit if sign == ">=" else value <= limit,
        }
        for name, sign, limit, value in checks
    ]


def table(runs: list[dict[str, Any]]) -> str:
    """The arms in Markdown: means over the seeds, and the spread of the MRR."""
    lines = [
        "| arm | steps | training seconds | Hits@1 | Hits@10 | MRR | spread of MRR | split MRR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        values = [one["full"]["mrr"] for one in runs if one["arm"] == arm]
        cells = [f"{mean(runs, arm, 'steps'):.0f}", f"{mean(runs, arm, 'train_seconds'):.0f}"]
        cells += [f"{mean(runs, arm, 'full', name):.3f}" for name in ("hits@1", "hits@10", "mrr")]
        cells += [f"{min(values):.3f} to {max(values):.3f}", f"{mean(runs, arm, 'split', 'mrr'):.3f}"]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with ChEBI-20")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "fast_cpu.json")
    args = parser.parse_args()
    definition = ",".join(yaml.safe_load(RECIPE.read_text())["difficulty_definition"])
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scored = folder / "scored"
        scoring = execute("score.py", "--data_dir", args.data_dir, "--output_dir", scored, "--definition", definition)
        for seed in args.seeds:
            for arm in ARMS:
                steps = next((one["steps"] for one in runs if one["arm"] == "recipe"), None)
                runs.append(run(arm, seed, steps, scored, folder / f"{ARMS.index(arm)}-{seed}"))
                print(json.dumps(runs[-1]), flush=True)
    results = bars(runs, scoring)
    write_json(
        args.output,
        {
            "command": f"python benchmarks/fast_cpu.py --data_dir DATA --seeds {' '.join(map(str, args.seeds))}",
            "machine": machine(),
            "scoring_seconds": round(scoring, 1),
            "bars": results,
            "runs": runs,
        },
    )
    print(table(runs))
    for row in results:
        print(f"{row['requirement']:<52} {row['bar']:>9} {row['measured']:>10} {'met' if row['met'] else 'MISSED'}")
    sys.exit(0 if all(row["met"] for row in results) else 1)


if __name__ == "__main__":
    main()
