"""The k best rows of a matrix, exactly, by matrix products."""

import numpy as np

# Rows that are multiplied at a time: what is read from a memory-mapped file then need not fit into memory.
_BLOCK = 65_536


def top_rows(
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    rows: np.ndarray | None = None,
    penalties: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows with the largest products.

    Args:
        vectors: (N, D) float32; may be memory-mapped.
        queries: (B, D) float32.
        k: how many; fewer come back if there are fewer rows.
        rows: (M,) the rows to choose among, rising. Default: all.
        penalties: (N,) numbers that are taken off each row's products.

    Returns:
        products (B, k') float32, falling, and the rows (B, k') int64, k' = min(k, N or M). Of equal products the
        first row wins.

    >>> scores, rows = top_rows(np.eye(3, dtype=np.float32), np.array([[0, 2, 1]], np.float32), 2)
    >>> scores.tolist(), rows.tolist()
    ([[2.0, 1.0]], [[1, 2]])
    """
    count = len(vectors) if rows is None else len(rows)
    scores = np.empty((len(queries), count), np.float32)
    for start in range(0, count, _BLOCK):
        part = slice(start, min(start + _BLOCK, count))
        chosen = part if rows is None else rows[part]
        np.matmul(queries, vectors[chosen].T, out=scores[:, part])
        if penalties is not None:
            scores[:, part] -= penalties[chosen]
    places = _top(scores, min(k, count))
    return np.take_along_axis(scores, places, axis=1), places if rows is None else rows[places]


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """(B, k) places of the largest values, falling; equal ones by place."""
    count = scores.shape[1]
    if k == 0:
        return np.empty((len(scores), 0), np.int64)
    result = np.empty((len(scores), k), np.int64)
    for row, values in enumerate(scores):
        # All that reach the k-th largest value: a partition alone picks any of those that are equal to it.
        least = np.partition(values, count - k)[count - k]
        reach = np.flatnonzero(values >= least)
        result[row] = reach[np.argsort(-values[reach], kind="stable")[:k]]
    return result
