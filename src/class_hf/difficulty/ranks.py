"""Ranks of scores, and the rank correlation of two columns."""

import warnings

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr


def rank_among(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rank of each value in [0, 1] among sorted reference values.

    The rank is (number below + half the number equal) / N. For a value that is one of the references this is
    (mid-rank - 1/2) / N, with ranks counted from 1. So equal values get equal ranks, and the ranks of the references
    average 1/2. Ranking the ranks of the references again does not change them.

    Args:
        values: (B,) raw scores.
        reference: (N,) raw scores of the training pairs, ascending.

    Returns:
        (B,) float64 ranks.

    >>> rank_among(np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.2, 0.2])).tolist()
    [0.125, 0.625, 1.0]
    """
    below = np.searchsorted(reference, values, side="left")
    up_to = np.searchsorted(reference, values, side="right")
    return (below + up_to) / (2 * len(reference))


def spearman(left: np.ndarray, right: np.ndarray) -> float | None:
    """Spearman's rank correlation of two columns, with ties at their mid-rank.

    Args:
        left, right: (N,) numbers.

    Returns:
        The correlation, rounded to 12 digits. None where a column is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0]))
    0.5
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        correlation = float(spearmanr(left, right).statistic)
    return None if np.isnan(correlation) else round(correlation, 12)
