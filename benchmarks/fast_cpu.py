"""The claim of recipes/chebi20/fast_cpu.yaml: its quality, and what its curriculum saves against the baseline.

    python benchmarks/fast_cpu.py --data_dir DATA [--seeds 0 1 2] [--output benchmarks/results/fast_cpu.json]

Arms: the recipe as it is, the same with `--curriculum_order random` (the control: same growth, random membership),
and `--curriculum_order none` (the baseline). Each arm is trained with each seed, the arms in turn so that a load on the
machine meets all of them, and evaluated on validation in full. Difficulty is scored once, outside the training time, and
its cost is reported. Exit status 1 if a bar is missed.
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

from class_hf.files import write_json

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "chebi20" / "fast_cpu.yaml"
ARMS: dict[str, list[str]] = {
    "recipe": [],
    "random": ["--curriculum_order", "random"],
    "none": ["--curriculum_order", "none"],
}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def run(arm: str, seed: int, data_dir: Path, folder: Path) -> dict[str, Any]:
    output = folder / f"{arm}-{seed}"
    command = [sys.executable, str(ROOT / "recipes" / "train.py"), str(RECIPE), "--data_dir", str(data_dir)]
    command += ["--output_dir", str(output), "--seed", str(seed), *ARMS[arm]]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    pools = json.loads((output / "metrics.json").read_text())["pools"]
    summary = json.loads((output / "train_summary.json").read_text())
    full, split = pools["full"]["text_to_molecule"], pools["split"]["text_to_molecule"]
    return {
        "arm": arm,
        "seed": seed,
        "steps": summary["steps"],
        "train_seconds": summary["wall_seconds"],
        "all_seconds": round(time.perf_counter() - started, 1),
        "full": {name: full[name] for name in ("hits@1", "hits@10", "mrr", "mean_rank")},
        "split": {name: split[name] for name in ("hits@1", "hits@10", "mrr", "mean_rank")},
        "split_molecule_to_text": {
            name: pools["split"]["molecule_to_text"][name] for name in ("hits@1", "hits@10", "mrr", "mean_rank")
        },
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


def bars(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each bar with what was measured, means over the seeds."""
    steps = mean(runs, "recipe", "steps") / mean(runs, "none", "steps")
    seconds = mean(runs, "recipe", "train_seconds") / mean(runs, "none", "train_seconds")
    loss = mean(runs, "none", "full", "mrr") - mean(runs, "recipe", "full", "mrr")
    checks = [
        ("validation, full pool, text to molecule: Hits@10", ">= 0.62", mean(runs, "recipe", "full", "hits@10"), 0.62, 1),
        ("validation, full pool, text to molecule: MRR", ">= 0.33", mean(runs, "recipe", "full", "mrr"), 0.33, 1),
        ("validation, split pool, text to molecule: MRR", ">= 0.68", mean(runs, "recipe", "split", "mrr"), 0.68, 1),
        ("everything, seconds", "<= 480", mean(runs, "recipe", "all_seconds"), 480, -1),
        ("steps, curriculum over none", "<= 0.80", steps, 0.80, -1),
        ("training wall time, curriculum over none", "<= 0.80", seconds, 0.80, -1),
        ("full-pool MRR lost against none", "<= 0.005", loss, 0.005, -1),
    ]
    return [
        {"requirement": name, "bar": bar, "measured": round(value, 4), "met": sign * value >= sign * limit}
        for name, bar, value, limit, sign in checks
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with ChEBI-20")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "fast_cpu.json")
    args = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            for arm in ARMS:
                runs.append(run(arm, seed, args.data_dir, Path(folder)))
                print(json.dumps(runs[-1]), flush=True)
    results = bars(runs)
    report = {
        "command": f"python benchmarks/fast_cpu.py --data_dir DATA --seeds {' '.join(map(str, args.seeds))}",
        "machine": machine(),
        "bars": results,
        "runs": runs,
    }
    write_json(args.output, report)
    for row in results:
        print(f"{row['requirement']:<52} {row['bar']:>9} {row['measured']:>10} {'met' if row['met'] else 'MISSED'}")
    sys.exit(0 if all(row["met"] for row in results) else 1)


if __name__ == "__main__":
    main()
