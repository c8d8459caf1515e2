"""Retrieval metrics as NumPy functions of the ranks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

HITS_AT = (1, 10)


def retrieval_metrics(ranks: Sequence[float] | np.ndarray, candidates: int) -> dict[str, float]:
    """Computes Hits@1, Hits@10, MRR, mean rank and median rank.

    Args:
        ranks (`np.ndarray`): (Q,) the rank of the true candidate of each query. 1 is the best. A tie has the mean of
            its ranks, so halves occur.
        candidates (`int`): number of candidates that were ranked.

    Returns:
        `hits@1` and `hits@10` (fractions), `mrr`, `mean_rank`, `median_rank`, `queries` and `candidates`.

    Raises:
        ValueError: if there are no ranks, or a rank is outside [1, candidates].

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
    """Ranks the true candidate of each query by given scores. Equal scores get their mean rank.

    Args:
        scores (`np.ndarray`): (Q, P) scores of any scale. Higher is better. Only equal scores are ties.
        true (`np.ndarray`): (Q,) the column of the true candidate of each query.

    Returns:
        (Q,) float64 ranks. 1 is the best.

    Raises:
        ValueError: if `true` does not fit the scores, or a score is NaN.

    Example:

    >>> ranks_of_scores(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([1])).tolist()
    [2.5]
    """
    queries, candidates = scores.shape
    if true.shape != (queries,) or not ((true >= 0) & (true < candidates)).all():
        raise ValueError(f"`true` must name one of the {candidates} candidates for each of {queries} queries.")
    if np.isnan(scores).any():
        raise ValueError("the scores are not all numbers: the model has diverged.")
    true_scores = np.take_along_axis(scores, true[:, None], axis=1)
    above, equal = (scores > true_scores).sum(1), (scores == true_scores).sum(1)
    return above + (equal + 1) / 2


def bootstrap_intervals(
    ranks: Sequence[float] | np.ndarray, candidates: int, *, samples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, list[float]]:
    """Computes percentile bootstrap intervals over the queries (Efron & Tibshirani, 1993, chapter 13).

    An interval shows how much a metric would change with other queries of the same kind. It does not cover the
    variation between training seeds.

    Args:
        ranks (`np.ndarray`): (Q,) ranks.
        candidates (`int`): number of candidates.
        samples (`int`, *optional*, defaults to 1000): number of resamples.
        level (`float`, *optional*, defaults to 0.95): coverage, in (0, 1).
        seed (`int`, *optional*, defaults to 0): seed of the resampling.

    Returns:
        [low, high] for `hits@1`, `hits@10`, `mrr` and `mean_rank`.

    Raises:
        ValueError: if the ranks are malformed, or the level is outside (0, 1).

    Example:

    >>> bootstrap_intervals([1, 1, 1], candidates=5)["mrr"]
    [1.0, 1.0]
    """
    values = _checked(ranks, candidates)
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level is {level}; expected a coverage in (0, 1), for instance 0.95.")
    statistics = {f"hits@{k}": (values <= k).astype(np.float64) for k in HITS_AT}
    statistics |= {"mrr": 1.0 / values, "mean_rank": values}
    stacked = np.stack(list(statistics.values()))  # (S, Q)
    generator = np.random.default_rng(seed)
    # Multinomial counts give the same resamples as drawn indices, without an array of samples x Q indices.
    # scipy.stats.bootstrap makes that array.
    counts = generator.multinomial(values.size, np.full(values.size, 1.0 / values.size), size=samples)
    means = stacked @ counts.T / values.size  # (S, samples)
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    bounds = np.quantile(means, tails, axis=1)  # (2, S)
    return {name: [float(low), float(high)] for name, (low, high) in zip(statistics, bounds.T, strict=True)}


def metrics_by_quartile(
    ranks: Sequence[float] | np.ndarray, difficulty: Sequence[float] | np.ndarray, candidates: int
) -> list[dict[str, Any]]:
    """Computes the metrics of each quarter of the queries, from the easiest to the hardest.

    Args:
        ranks (`np.ndarray`): (Q,) ranks.
        difficulty (`np.ndarray`): (Q,) difficulty of the queries. The quartiles are those of the queries.
        candidates (`int`): number of candidates.

    Returns:
        Four dictionaries as of [`retrieval_metrics`], each with `difficulty` [low, high]. Fewer than four queries
        give fewer dictionaries.

    Raises:
        ValueError: if the ranks are malformed, or there is not one difficulty per rank.

    Example:

    >>> [row["mean_rank"] for row in metrics_by_quartile([4, 3, 2, 1], [0.9, 0.5, 0.2, 0.1], candidates=4)]
    [1.0, 2.0, 3.0, 4.0]
    """
    values, hard = _checked(ranks, candidates), np.asarray(difficulty, dtype=np.float64)
    if hard.shape != values.shape:
        raise ValueError(f"{values.size} ranks but difficulty of shape {hard.shape}; expected one per query.")
    quarters = [rows for rows in np.array_split(np.argsort(hard, kind="stable"), 4) if rows.size]
    return [
        {**retrieval_metrics(values[rows], candidates), "difficulty": [float(hard[rows[0]]), float(hard[rows[-1]])]}
        for rows in quarters
    ]


def _checked(ranks: Sequence[float] | np.ndarray, candidates: int) -> np.ndarray:
    """The ranks as float64, after a check of their shape and range."""
    values = np.asarray(ranks, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"ranks have the shape {values.shape}; expected (queries,) with at least one query.")
    if not ((values >= 1.0) & (values <= candidates)).all():
        raise ValueError(f"ranks lie in [{values.min()}, {values.max()}]; expected [1, {candidates}].")
    return values
