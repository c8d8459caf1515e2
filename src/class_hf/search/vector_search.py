"""Vector search: the k best rows of a matrix, by exact products, or preselected by one-bit codes if it is large."""

from typing import Any, NamedTuple

import numpy as np

# Candidates among which the codes are searched; up to so many a matrix product takes some 50 ms, and misses nothing.
EXACT_UP_TO = 200_000
# Candidates by their codes that are scored exactly, over the number asked for.
OVERSAMPLING = 10
_LEAST_BITS = 512
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


class Codes(NamedTuple):
    """One-bit codes of N vectors.

    Attributes:
        bits: (N, W / 8) uint8, signs of W projections.
        projection: (D, W) float32.
    """

    bits: np.ndarray
    projection: np.ndarray


def encode(vectors: np.ndarray, seed: int = 0) -> Codes:
    """The codes of (N, D) vectors, which may be memory-mapped: W = 2 D signs of random projections, at least 512.

    The projections are orthogonal D at a time, which estimates angles better than independent ones do (super-bit
    locality-sensitive hashing, Ji et al., 2012). Vectors of 256 numbers become 64 bytes.

    >>> encode(np.eye(8, dtype=np.float32)).bits.shape
    (8, 64)
    """
    dimension = vectors.shape[1]
    width = -(-max(2 * dimension, _LEAST_BITS) // 64) * 64
    generator = np.random.default_rng(seed)
    bases = [np.linalg.qr(generator.standard_normal((dimension, dimension)))[0] for _ in range(-(-width // dimension))]
    projection = np.concatenate(bases, axis=1)[:, :width].astype(np.float32)
    blocks = [_signs(vectors[start : start + _BLOCK], projection) for start in range(0, len(vectors), _BLOCK)]
    return Codes(np.concatenate(blocks), projection)


def top_rows_by_codes(
    vectors: np.ndarray,
    codes: Codes,
    queries: np.ndarray,
    k: int,
    rows: np.ndarray | None = None,
    penalties: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As [`top_rows`], among the `OVERSAMPLING` x k rows whose codes differ least from the query's.

    Raises:
        ImportError: if faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("an index of this size needs faiss: pip install 'class-hf[faiss]'.") from error
    bits: Any = codes.bits if rows is None else codes.bits[rows]
    candidates = min(OVERSAMPLING * k, len(bits))
    _, places = faiss.knn_hamming(_signs(queries, codes.projection), bits, candidates)
    found = []
    for query, near in zip(queries, np.sort(places), strict=True):
        found.append(top_rows(vectors, query[None], k, near if rows is None else rows[near], penalties))
    return np.concatenate([scores for scores, _ in found]), np.concatenate([chosen for _, chosen in found])


def _signs(vectors: np.ndarray, projection: np.ndarray) -> np.ndarray:
    return np.packbits(vectors @ projection > 0, axis=1)
