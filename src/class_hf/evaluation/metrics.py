"""Retrieval metrics as plain NumPy functions of the ranks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

HITS_AT = (1, 10)


def retrieval_metrics(ranks: Sequence[float] | np.ndarray, candidates: int) -> dict[str, float]:
    """Hits@1, Hits@10, MRR, mean and median rank.

    Args:
        ranks: (Q,) rank of each query's true partner, from 1; ties have mean ranks, so halves occur.
        candidates: size of the pool that was ranked.

    Returns:
        `hits@1`, `hits@10` (fractions), `mrr`, `mean_rank`, `median_rank`, `queries`, `candidates`.

    Raises:
        ValueError: if there is no rank, or one is not in [1, candidates].

    Example:

    >>> retrieval_metrics([1, 2, 20], candidates=100)["hits@10"]
    0.6666666666666666
    """
    values = _checked(ranks, candidates)
    hits = {f"hits@{k}": float((values <= k).mean()) for k in HITS_AT}
    return {
        **hits,
        "mrr": float((1.0 / values).mean()),
        "mean_rank": float(values.mean()),
        "median_rank": float(np.median(values)),
        "queries": int(values.size),
        "candidates": int(candidates),
    }


def ranks_of_scores(scores: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Rank of each query's true candidate by given scores, from 1; ties get their mean rank.

    Args:
        scores: (Q, P), higher is better.
        true: (Q,) the column of each query's true candidate.

    Returns:
        (Q,) float64.

    Raises:
        ValueError: if `true` does not fit, or a score is not a number.

    Example:

    >>> ranks_of_scores(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([1])).tolist()
    [2.5]
    """
    queries, candidates = scores.shape
    if true.shape != (queries,) or not ((true >= 0) & (true < candidates)).all():
        raise ValueError(f"`true` must name one of the {candidates} candidates for each of {queries} queries.")
    if np.isnan(scores).any():
        raise ValueError("the scores are not all numbers: the model has diverged.")
    own = np.take_along_axis(scores, true[:, None], axis=1)
    above, equal = (scores > own).sum(1), (scores == own).sum(1)
    return above + (equal + 1) / 2


def bootstrap_intervals(
    ranks: Sequence[float] | np.ndarray, candidates: int, *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, list[float]]:
    """Percentile bootstrap intervals over the queries (Efron & Tibshirani, 1993, chapter 13).

    They say how much a number would move with other queries of the same kind; not with another training seed.

    Args:
        ranks: (Q,) ranks.
        candidates: size of the pool.
        samples: number of resamples.
        level: coverage, in (0, 1).
        seed: of the resampling.

    Returns:
        [low, high] for `hits@1`, `hits@10`, `mrr` and `mean_rank`.
    """
    values = _checked(ranks, candidates)
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level is {level}; expected a coverage in (0, 1), for instance 0.95.")
    statistics = {f"hits@{k}": (values <= k).astype(np.float64) for k in HITS_AT}
    statistics |= {"mrr": 1.0 / values, "mean_rank": values}
    stacked = np.stack(list(statistics.values()))  # (S, Q)
    generator = np.random.default_rng(seed)
    # Multinomial counts give the same resamples as drawn indices, without a samples x Q gather.
    counts = generator.multinomial(values.size, np.full(values.size, 1.0 / values.size), size=samples)
    means = stacked @ counts.T / values.size  # (S, samples)
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    bounds = np.quantile(means, tails, axis=1)  # (2, S)
    return {name: [float(low), float(high)] for name, (low, high) in zip(statistics, bounds.T, strict=True)}


def metrics_by_quartile(
    ranks: Sequence[float] | np.ndarray, difficulty: Sequence[float] | np.ndarray, candidates: int
) -> list[dict[str, Any]]:
    """The metrics of each quarter of the queries, from the easiest to the hardest.

    Args:
        ranks: (Q,) ranks.
        difficulty: (Q,) difficulty of the queries; its quartiles are taken among the queries.
        candidates: size of the pool.

    Returns:
        four dicts as of [`retrieval_metrics`], each with `difficulty` [low, high]; fewer if queries are few.
    """
    values, hard = _checked(ranks, candidates), np.asarray(difficulty, dtype=np.float64)
    if hard.shape != values.shape:
        raise ValueError(f"{values.size} ranks but difficulty of shape {hard.shape}; expected one a query.")
    parts = [part for part in np.array_split(np.argsort(hard, kind="stable"), 4) if part.size]
    return [
        {**retrieval_metrics(values[part], candidates), "difficulty": [float(hard[part[0]]), float(hard[part[-1]])]}
        for part in parts
    ]


def _checked(ranks: Sequence[float] | np.ndarray, candidates: int) -> np.ndarray:
    values = np.asarray(ranks, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"ranks have the shape {values.shape}; expected (queries,) with at least one query.")
    if not ((values >= 1.0) & (values <= candidates)).all():
        raise ValueError(f"ranks lie in [{values.min()}, {values.max()}]; expected [1, {candidates}].")
    return values
