"""Ranks of scores, and the rank correlation of two columns."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


def rank_among(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rank of each value in [0, 1] among sorted reference values.

    (number below + half the number equal) / N. For a value that is itself among the references this is
    its mid-rank, (mid-rank - 1/2) / N with ranks from 1, so equal values get equal ranks, and the ranks
    of the references average 1/2. Applied to ranks it changes nothing. The definition is ours.

    Args:
        values: (B,) raw scores.
        reference: (N,) raw scores of the training pairs, ascending.

    >>> rank_among(np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.2, 0.2])).tolist()
    [0.125, 0.625, 1.0]
    """
    below = np.searchsorted(reference, values, side="left")
    up_to = np.searchsorted(reference, values, side="right")
    return (below + up_to) / (2 * len(reference))


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation of two columns (N,), ties at mid-rank; None where a column is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0]))
    0.5
    """
    a, b = (rank_among(values, np.sort(values)) for values in (a, b))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 12)
