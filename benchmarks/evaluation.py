"""Requirement 12, evaluation: both directions in one streamed pass over the similarities.

    python benchmarks/evaluation.py [--data_dir DATA] [--size 33010] [--output FILE]

The data is N random pairs of L2-normalised vectors, as many as ChEBI-20 has molecules. A tenth of them are duplicates,
so that there are ties. The reference is the double argsort, which released codes of this field use. It ranks a few
hundred queries in each direction over all N candidates. Its time is the same for each query, so times per query are
compared. Needs no data.
"""

import numpy as np
import torch
import torch.nn.functional as F
from common import Timing, arguments, bar, best_of, finish

from class_hf.evaluation.ranks import TIE_TOLERANCE, rank_in_pools, rank_partners

DIMENSION = 256
SORTED_QUERIES = 256


def pairs(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts and molecules (N, D). A tenth of each are duplicates."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(size, DIMENSION, generator=generator)
    molecules = texts + 3 * torch.randn(size, DIMENSION, generator=generator)
    twins = size // 10
    molecules[-twins:] = molecules[:twins]
    texts[-2 * twins : -twins] = texts[:twins]
    return F.normalize(texts, dim=-1), F.normalize(molecules, dim=-1)


def double_argsort(queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor) -> np.ndarray:
    """Ranks of the true candidates from 1, by sorting. Ties have any order."""
    scores = queries @ candidates.T
    places = scores.argsort(dim=1, descending=True).argsort(dim=1)
    return (places.gather(1, gold[:, None])[:, 0] + 1).numpy()


def counted_in_float64(queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor) -> np.ndarray:
    """Ranks with mean ranks of ties, from the complete matrix in float64."""
    scores = queries.double() @ candidates.double().T
    gaps = scores - scores.gather(1, gold[:, None])
    gaps[gaps.abs() <= TIE_TOLERANCE] = 0.0
    return ((gaps > 0).sum(1) + ((gaps == 0).sum(1) + 1) / 2).numpy()


def main() -> None:
    args = arguments(__doc__, size={"type": int, "default": 33_010, "help": "number of pairs"})
    texts, molecules = pairs(args.size)
    each = torch.arange(args.size)
    few = torch.arange(0, args.size, max(args.size // SORTED_QUERIES, 1))
    sorted_both_ways = (texts[few], molecules, few), (molecules[few], texts, few)
    results: dict[str, tuple[np.ndarray, ...]] = {}

    def two_directions() -> None:
        results["both"] = rank_in_pools(texts, molecules, each)["full"]

    def one_direction() -> None:
        results["one"] = (rank_partners(texts, molecules, each),)

    def argsort() -> None:
        results["argsort"] = tuple(double_argsort(*direction) for direction in sorted_both_ways)

    timings: dict[str, Timing] = best_of({"both": two_directions, "one": one_direction, "argsort": argsort})
    results["other"] = (rank_partners(molecules, texts, each),)
    alone = results["one"] + results["other"]
    differing = sum(int((a != b).sum()) for a, b in zip(results["both"], alone, strict=True))
    counted = tuple(counted_in_float64(*direction) for direction in sorted_both_ways)
    wrong = sum(int((a[few] != b).sum()) for a, b in zip(results["both"], counted, strict=True))
    # A sorted position among ties is not a mean rank. Without ties the two must be equal.
    without_ties = [values % 1 == 0 for values in counted]
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
        untied_share=float(np.mean([mask.mean() for mask in without_ties])),
        mean_rank=[float(values.mean()) for values in results["both"]],
        argsort_places_equal=float(
            np.mean(
                [
                    np.mean(a[few][m] == b[m])
                    for a, b, m in zip(results["both"], results["argsort"], without_ties, strict=True)
                ]
            )
        ),
    )


if __name__ == "__main__":
    main()
