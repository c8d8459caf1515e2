"""How large a difference between two arms a study of so many seeds detects, from the spread of runs that exist.

    python benchmarks/study_power.py --arm_runs RUNS/random_0/cut_auto+s1 --baseline_runs RUNS/random_0/none

Each folder holds the runs of an arm: `seed_S/ranks.npz` of `class-hf ablate`, or `seed_S.npy` of `wrong_pairs.py`.
The variance of the paired differences of reciprocal ranks is divided into seeds, queries and the rest. For each number
of seeds follow the standard error and the difference that is found with a chance of .8 at the 5 % level. Simulated
studies check both. Skips without runs.
"""

import json
from pathlib import Path

import common
import numpy as np

from class_hf.studies.power import detectable_difference, simulate_studies, spread_of
from class_hf.studies.statistics import PRIMARY

SEEDS = (1, 2, 3, 5, 10)


def main() -> None:
    args = common.arguments(
        __doc__,
        arm_runs={"type": Path, "help": "folder with the runs of an arm"},
        baseline_runs={"type": Path, "help": "folder with the runs of another arm, with the same seeds"},
        studies={"type": int, "default": 500, "help": "simulated studies for each row (default: 500)"},
    )
    if args.arm_runs is None or args.baseline_runs is None:
        print("skipped: needs --arm_runs and --baseline_runs")
        return
    arm, baseline = reciprocal_ranks(args.arm_runs), reciprocal_ranks(args.baseline_runs)
    seeds = sorted(set(arm) & set(baseline))
    difference = np.stack([arm[seed] - baseline[seed] for seed in seeds])
    spread, queries = spread_of(difference), difference.shape[1]
    rows = []
    for count in SEEDS:
        known, reported = (
            detectable_difference(spread, seeds=count, queries=queries, by_report=by_report)
            for by_report in (False, True)
        )
        found = simulate_studies(difference, [0.0, reported], seeds=count, studies=args.studies)
        row = {
            "seeds": count,
            "standard_error": spread.standard_error(count, queries),
            "detectable_known_error": known,
            "detectable_report": reported,
            "false_alarms": found["bootstrap"][0],
            "found": found["bootstrap"][1],
            "false_alarms_seeds": found["seeds"][0],
            "found_seeds": found["seeds"][1],
        }
        rows.append(row)
        print(json.dumps(row))
    common.finish(
        [
            common.bar(
                "study_power: share of false alarms, at most", "<=", 0.05, max(row["false_alarms"] for row in rows)
            )
        ],
        args.output,
        arm=args.arm_runs.name,
        baseline=args.baseline_runs.name,
        seeds=seeds,
        queries=queries,
        by_seed=difference.mean(axis=1).tolist(),
        sd_of_runs={
            name: float(np.std([runs[seed].mean() for seed in seeds], ddof=1))
            for name, runs in (("arm", arm), ("baseline", baseline))
        },
        standard_deviations={name: value**0.5 for name, value in spread._asdict().items()},
        by_number_of_seeds=rows,
    )


def reciprocal_ranks(folder: Path) -> dict[int, np.ndarray]:
    """Reciprocal ranks (Q,) in the full pool, text to molecule, by seed."""
    runs = {int(path.stem[5:]): 1.0 / np.load(path) for path in folder.glob("seed_*.npy")}
    for path in folder.glob("seed_*/ranks.npz"):
        with np.load(path) as file:
            runs[int(path.parent.name[5:])] = 1.0 / file[PRIMARY]
    return {seed: values.astype(np.float64) for seed, values in runs.items()}


if __name__ == "__main__":
    main()
