"""Requirement 20, scoring: how close scores by a fitted sample come to those of the complete table, and what all cost.

    python benchmarks/score_sample.py --data_dir DATA [--rows 8000] [--sample 2000] [--cost_rows 10000 40000]

`class-hf score TABLE` fits on a sample of a large table. Here the sample and all pairs are fitted, and the scores of
the pairs outside the sample are compared. Alignment's reference models are random: two seeds, each fitted on all
pairs, give the largest correlation that one can expect of a sample. Confusability is also compared with its index over
all pairs. The cost of that index is measured with made-up pairs: amides, and captions of sentences of the pairs.
"""

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from amides import amides_of_chebi20
from common import arguments, bar, finish, load, peak_during, skipped
from scipy.stats import spearmanr

from class_hf.difficulty.scorer import DifficultyScorer

Pairs = Mapping[str, list[str]]


def take(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    """Some rows of the pairs."""
    return {name: [column[row] for row in rows] for name, column in pairs.items()}


def scores(fitted_on: Pairs, pairs: Pairs, definition: str, **options: Any) -> np.ndarray:
    """(N,) difficulty of the pairs under a scorer that is fitted on others or on the same."""
    return np.array(DifficultyScorer(definition, **options).fit(fitted_on)(pairs)["difficulty"])


def made_up_pairs(pairs: Pairs, data_dir: Path, count: int) -> Pairs:
    """Amides with captions of sentences of the pairs."""
    generator = random.Random(0)
    sentences = [sentence for caption in pairs["description"] for sentence in caption.split(". ")]
    return {
        "id": [str(row) for row in range(count)],
        "smiles": amides_of_chebi20(data_dir, count),
        "description": [". ".join(generator.sample(sentences, 3)) for _ in range(count)],
    }


def cost_of_index(pairs: Pairs) -> dict[str, float]:
    """CPU milliseconds and bytes of memory a pair, of confusability with an index of all pairs."""
    scorer = DifficultyScorer("confusability", exact_up_to=0)
    began = time.process_time()
    memory = peak_during(lambda: scorer.fit(pairs))
    seconds = time.process_time() - began
    count = len(pairs["id"])
    return {"pairs": count, "cpu_ms_a_pair": round(1e3 * seconds / count, 2), "bytes_a_pair": round(memory / count)}


def main() -> None:
    args = arguments(
        __doc__,
        rows={"type": int, "default": 8_000, "help": "pairs of the complete table"},
        sample={"type": int, "default": 2_000, "help": "pairs of the sample"},
        cost_rows={"type": int, "nargs": "*", "default": [10_000, 40_000], "help": "made-up pairs"},
    )
    train = load(args.data_dir)["train"]
    rows = np.random.default_rng(0).permutation(len(train))[: args.rows]
    pairs = {name: train.select(rows)[name][:] for name in ("id", "smiles", "description")}
    sample = take(pairs, range(args.sample))
    others = take(pairs, range(args.sample, len(rows)))

    def correlation(left: np.ndarray, right: np.ndarray) -> float:
        return float(spearmanr(left, right).statistic)

    title = f"20 scoring, {args.sample:,} of {len(rows):,} pairs fitted"
    results = []
    for definition in ("complexity", "confusability", "alignment"):
        complete = scores(pairs, others, definition)
        rho = correlation(scores(sample, others, definition), complete)
        results.append(skipped(f"{title}, {definition}: Spearman with all", "-", "no bar", rho))
        print(definition, rho, flush=True)
        if definition == "alignment":
            rho = correlation(scores(pairs, others, definition, seed=1), complete)
            name = "20 scoring, alignment: Spearman of two seeds, all pairs fitted"
            results.append(skipped(name, "-", "no bar", rho))
            print("two seeds", rho, flush=True)
        if definition == "confusability":
            rho = correlation(scores(pairs, others, definition, exact_up_to=0), complete)
            results.append(bar("20 scoring, confusability: Spearman of an index of all with all", ">=", 0.97, rho))
            print("index", rho, flush=True)
    costs = []
    for count in args.cost_rows if args.data_dir else ():
        costs.append(cost_of_index(made_up_pairs(pairs, args.data_dir, count)))
        print(costs[-1], flush=True)
    finish(results, args.output, cost_of_the_index=costs)


if __name__ == "__main__":
    main()
