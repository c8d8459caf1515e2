"""Requirement 12, evaluation: both directions in one streamed pass over the similarities.

    python benchmarks/evaluation.py [--data_dir DATA] [--size 33010] [--output FILE]

N random pairs of unit vectors, as many as ChEBI-20 has molecules, some of them equal to others so that there are ties.
The double argsort, which the released codes of this field use, ranks a few hundred queries a direction over all N
candidates; its time is the same for every query, so it is compared by time per query. Needs no data.
"""

import numpy as np
import torch
import torch.nn.functional as F
from common import Timing, arguments, bar, best_of, finish

from class_hf.evaluation.ranks import rank_in_pools, rank_partners

DIMENSION = 256
SORTED_QUERIES = 256


def pairs(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts and molecules (N, D); a tenth of the molecules and of the texts are equal to others."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(size, DIMENSION, generator=generator)
    molecules = texts + 3 * torch.randn(size, DIMENSION, generator=generator)
    twins = size // 10
    molecules[-twins:] = molecules[:twins]
    texts[-2 * twins : -twins] = texts[:twins]
    return F.normalize(texts, dim=-1), F.normalize(molecules, dim=-1)


def double_argsort(queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor) -> np.ndarray:
    """The places of the true candidates in the sorted similarities, from 1; ties in any order."""
    scores = queries @ candidates.T
    places = scores.argsort(dim=1, descending=True).argsort(dim=1)
    return (places.gather(1, gold[:, None])[:, 0] + 1).numpy()


def counted_in_float64(queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor) -> np.ndarray:
    """Mean ranks of ties, from the whole matrix in float64."""
    scores = queries.double() @ candidates.double().T
    gaps = scores - scores.gather(1, gold[:, None])
    gaps[gaps.abs() < 1e-12] = 0.0
    return ((gaps > 0).sum(1) + ((gaps == 0).sum(1) + 1) / 2).numpy()


def main() -> None:
    args = arguments(__doc__, size={"type": int, "default": 33_010, "help": "number of pairs"})
    texts, molecules = pairs(args.size)
    each = torch.arange(args.size)
    few = torch.arange(0, args.size, max(args.size // SORTED_QUERIES, 1))
    sorted_both_ways = (texts[few], molecules, few), (molecules[few], texts, few)
    results: dict[str, tuple[np.ndarray, ...]] = {}

    def both() -> None:
        results["both"] = rank_in_pools(texts, molecules, each)["full"]

    def one() -> None:
        results["one"] = (rank_partners(texts, molecules, each),)

    def argsort() -> None:
        results["argsort"] = tuple(double_argsort(*direction) for direction in sorted_both_ways)

    timings: dict[str, Timing] = best_of({"both": both, "one": one, "argsort": argsort})
    results["other"] = (rank_partners(molecules, texts, each),)
    alone = results["one"] + results["other"]
    differing = sum(int((a != b).sum()) for a, b in zip(results["both"], alone, strict=True))
    counted = tuple(counted_in_float64(*direction) for direction in sorted_both_ways)
    wrong = sum(int((a[few] != b).sum()) for a, b in zip(results["both"], counted, strict=True))
    # A stable place among ties is not a mean rank: where there are none, the two must be equal.
    untied = [values % 1 == 0 for values in counted]
    per_query = timings["argsort"].wall / len(few) / (timings["both"].wall / args.size)
    finish(
        [
            bar(
                "12 evaluation: time, both directions over one", "<=", 1.3, timings["both"].wall / timings["one"].wall
            ),
            bar("12 evaluation: time a query, double argsort over one pass", ">=", 3.0, per_query),
            bar("12 evaluation: ranks that differ from two passes", "<=", 0, differing),
            bar("12 evaluation: ranks that differ from a float64 count", "<=", 0, wrong),
        ],
        args.output,
        pairs=args.size,
        dimension=DIMENSION,
        sorted_queries_a_direction=len(few),
        seconds={name: timing._asdict() for name, timing in timings.items()},
        ties=sum(int((values % 1 != 0).sum()) for values in alone),
        untied_share=float(np.mean([mask.mean() for mask in untied])),
        mean_rank=[float(values.mean()) for values in results["both"]],
        argsort_places_equal=float(
            np.mean(
                [
                    np.mean(a[few][m] == b[m])
                    for a, b, m in zip(results["both"], results["argsort"], untied, strict=True)
                ]
            )
        ),
    )


if __name__ == "__main__":
    main()
