"""Tests whether easy pairs first are better than the same growth in random order, over the runs of several studies.

    python benchmarks/order.py --studies OUTPUT [OUTPUT ...]

OUTPUT is an output folder of `class-hf ablate`, for instance of `chebi20_names.yaml` and `chebi20_fused.yaml`. Their
runs have different towers and the same queries, growth and number of steps. The measure is the MRR from text to
molecule in the full pool, paired by study, seed and query. The seeds of all studies are resampled together
(`class_hf.studies.statistics.compare`). Skips without studies.
"""

import json
from pathlib import Path

import common
import numpy as np

from class_hf.studies.statistics import PRIMARY, compare

NAME = "order: MRR of easy first less that of random growth, lower end of the 95 % interval"


def main() -> None:
    args = common.arguments(
        __doc__,
        studies={"nargs": "+", "type": Path, "help": "output folders of class-hf ablate"},
        arm={"default": "easy_linear", "help": "arm with easy pairs first"},
        baseline={"default": "random_linear", "help": "arm with the same growth in random order"},
    )
    if args.studies is None:
        print("skipped: needs --studies")
        return
    queries, pairs = None, {}
    for study in args.studies:
        for folder in sorted((study / args.arm).glob("seed_[0-9]*/")):
            other = study / args.baseline / folder.name
            if not (other / "ranks.npz").exists():
                continue
            (ids, values), (other_ids, reference) = (reciprocal_ranks(run) for run in (folder, other))
            queries = ids if queries is None else queries
            if not (np.array_equal(ids, queries) and np.array_equal(other_ids, queries)):
                raise ValueError(f"{folder} or {other} ranked other queries than the earlier runs.")
            if steps(folder) != steps(other):
                raise ValueError(
                    f"{folder} took {steps(folder)} steps, {other} {steps(other)}; expected the same number."
                )
            pairs[f"{study.name} {folder.name}"] = values, reference
    if not pairs:
        raise ValueError(f"no study has a seed of {args.arm!r} and {args.baseline!r}.")
    arm, baseline = (np.stack(rows) for rows in zip(*pairs.values(), strict=True))
    result = compare(arm, baseline)
    by_pair = dict(zip(pairs, (arm - baseline).mean(axis=1).tolist(), strict=True))
    for name, difference in by_pair.items():
        print(f"{name:<40} {difference:+.4f}")
    print(result)
    common.finish(
        [common.bar(NAME, ">=", 0.0, result["interval_95"][0])],
        args.output,
        arm=args.arm,
        baseline=args.baseline,
        by_pair=by_pair,
        together=result,
    )


def reciprocal_ranks(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the queries of a run (Q,), and their reciprocal ranks (Q,)."""
    with np.load(folder / "ranks.npz") as file:
        return file["id"], 1.0 / file[PRIMARY]


def steps(folder: Path) -> int:
    """Number of steps of a run."""
    return json.loads((folder / "train_summary.json").read_text(encoding="utf-8"))["steps"]


if __name__ == "__main__":
    main()
