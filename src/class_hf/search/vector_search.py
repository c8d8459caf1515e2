"""Search for the k best rows of a matrix: by exact products, or with one-bit codes as a first stage."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# With more candidates than this, one-bit codes preselect. Exact search over this many takes about 50 ms.
EXACT_UP_TO = 200_000
# The codes preselect this many candidates for each hit.
OVERSAMPLING = 10
# The recall@10 that an index aims at, and the numbers of candidates for each hit that it tries for that.
LEAST_RECALL = 0.97
_EFFORTS = (OVERSAMPLING, 20, 40, 80)
_SAMPLE = 200  # queries that measure the recall
_MIN_BITS = 512
# Rows that are multiplied at a time. A memory-mapped file then need not fit into memory.
_BLOCK = 65_536


def top_rows(
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    rows: np.ndarray | None = None,
    penalties: np.ndarray | None = None,
    block_size: int = _BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k rows with the largest products.

    Args:
        vectors (`np.ndarray` (N, D) `float32`): the candidates. They may be memory-mapped.
        queries (`np.ndarray` (B, D) `float32`): the queries.
        k (`int`): number of rows. Fewer are returned if there are fewer candidates.
        rows (`np.ndarray` (M,), *optional*): the candidate rows in increasing order. Default: all rows.
        penalties (`np.ndarray` (N,), *optional*): numbers that are subtracted from the products of each row.
        block_size (`int`, defaults to 65,536): rows that are multiplied at a time. It has no effect on the result.

    Returns:
        `tuple`: products (B, k') `float32` in decreasing order, and their rows (B, k') `int64`, where k' is the
        smaller of k and the number of candidates. Equal products are in the order of their rows.

    Raises:
        ValueError: If a product is not finite.

    >>> scores, rows = top_rows(np.eye(3, dtype=np.float32), np.array([[0, 2, 1]], np.float32), 2)
    >>> scores.tolist(), rows.tolist()
    ([[2.0, 1.0]], [[1, 2]])
    """
    count = len(vectors) if rows is None else len(rows)
    scores = np.empty((len(queries), count), np.float32)
    for start in range(0, count, block_size):
        block = slice(start, min(start + block_size, count))
        chosen = block if rows is None else rows[block]
        with np.errstate(all="ignore"):  # checked below
            np.matmul(queries, vectors[chosen].T, out=scores[:, block])
        if penalties is not None:
            scores[:, block] -= penalties[chosen]
    if not np.isfinite(scores).all():
        raise ValueError("the vectors of the index are not all finite: the index is damaged. Build it again.")
    positions = _top_positions(scores, min(k, count))
    return np.take_along_axis(scores, positions, axis=1), positions if rows is None else rows[positions]


def _top_positions(scores: np.ndarray, k: int) -> np.ndarray:
    """(B, k) positions of the largest values in decreasing order; equal values in the order of their positions."""
    count = scores.shape[1]
    if k == 0:
        return np.empty((len(scores), 0), np.int64)
    result = np.empty((len(scores), k), np.int64)
    for row, values in enumerate(scores):
        # Take all values that reach the k-th largest. A partition alone picks any of those that are equal to it.
        threshold = np.partition(values, count - k)[count - k]
        reaching = np.flatnonzero(values >= threshold)
        result[row] = reaching[np.argsort(-values[reaching], kind="stable")[:k]]
    return result


class Codes(NamedTuple):
    """One-bit codes of N vectors.

    Attributes:
        bits (`np.ndarray` (N, W / 8) `uint8`): signs of W projections.
        projection (`np.ndarray` (D, W) `float32`): the projections.
    """

    bits: np.ndarray
    projection: np.ndarray


def compute_codes(vectors: np.ndarray, seed: int = 0) -> Codes:
    """Computes one-bit codes: the signs of W = 2 D random projections, at least 512.

    The projections are orthogonal in groups of D, which estimates angles better than independent projections do
    (super-bit locality-sensitive hashing, Ji et al., 2012). A vector of 256 numbers becomes 64 bytes.

    Args:
        vectors (`np.ndarray` (N, D) `float32`): the vectors. They may be memory-mapped.
        seed (`int`, defaults to 0): seed of the projections.

    Returns:
        [`Codes`]: bits and projections.

    >>> compute_codes(np.eye(8, dtype=np.float32)).bits.shape
    (8, 64)
    """
    projection = random_projection(vectors.shape[1], seed)
    blocks = [signs(vectors[start : start + _BLOCK], projection) for start in range(0, len(vectors), _BLOCK)]
    return Codes(np.concatenate(blocks), projection)


def code_width(dimension: int) -> int:
    """The number of bits in the code of a vector.

    >>> code_width(8), code_width(300)
    (512, 640)
    """
    return -(-max(2 * dimension, _MIN_BITS) // 64) * 64


def random_projection(dimension: int, seed: int = 0) -> np.ndarray:
    """The projections of [`encode`]: (D, W) `float32`, orthogonal in groups of D columns."""
    width = code_width(dimension)
    generator = np.random.default_rng(seed)
    bases = [np.linalg.qr(generator.standard_normal((dimension, dimension)))[0] for _ in range(-(-width // dimension))]
    return np.concatenate(bases, axis=1)[:, :width].astype(np.float32)


def top_rows_by_codes(
    vectors: np.ndarray,
    codes: Codes,
    queries: np.ndarray,
    k: int,
    rows: np.ndarray | None = None,
    penalties: np.ndarray | None = None,
    oversampling: int = OVERSAMPLING,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k rows with the largest products among the `oversampling` x k rows that the codes preselect.

    The codes preselect the rows with the smallest Hamming distance to the query's code.

    Args:
        vectors, queries, k, rows, penalties: As for [`top_rows`].
        codes: [`compute_codes`] of the vectors.
        oversampling (`int`, defaults to 10): rows that are preselected for each hit.

    Returns:
        As [`top_rows`].

    Raises:
        ImportError: If faiss is not installed.
        ValueError: If a product is not finite.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError('an index of this size needs faiss: pip install "class-hf[faiss]".') from error
    bits = codes.bits if rows is None else codes.bits[rows]
    candidates = min(oversampling * k, len(bits))
    _, positions = faiss.knn_hamming(signs(queries, codes.projection), np.ascontiguousarray(bits), candidates)
    results = []
    for query, near in zip(queries, np.sort(positions), strict=True):
        results.append(top_rows(vectors, query[None], k, near if rows is None else rows[near], penalties))
    return np.concatenate([scores for scores, _ in results]), np.concatenate([chosen for _, chosen in results])


def measure_recall(
    search: Callable[[int | None], Sequence[Sequence[int]]],
    sample: Sequence[int],
    efforts: Sequence[int],
    least: float = LEAST_RECALL,
) -> dict[str, Any]:
    """Measures recall@10 of an approximate search against exact search. Raises the effort until it is large enough.

    The queries are a sample of the index's own vectors. The nearest vector of a query is the query itself, which is
    left out.

    Args:
        search: gives the numbers of the 11 nearest vectors of each sampled vector, with an effort, or exactly for
            None.
        sample: numbers of the sampled vectors, from [`sample_rows`].
        efforts: the efforts to try, in increasing order.
        least (`float`, defaults to 0.97): the recall that is wanted.

    Returns:
        `dict`: `recall_at_10`, and the `effort` that it was measured with.

    >>> near = {None: [[0, 1, 2], [1, 0, 2]], 1: [[0, 1, 4], [1, 4, 3]], 2: [[0, 1, 2], [1, 0, 2]]}
    >>> measure_recall(near.__getitem__, [0, 1], efforts=(1, 2, 4))
    {'recall_at_10': 1.0, 'effort': 2}
    """
    exact = [set(rows) - {row} for rows, row in zip(search(None), sample, strict=True)]
    recall = 0.0
    for effort in efforts:
        near = search(effort)
        found = [len(wanted & set(rows)) / max(len(wanted), 1) for wanted, rows in zip(exact, near, strict=True)]
        recall = float(np.mean(found))
        if recall >= least:
            break
    return {"recall_at_10": round(recall, 4), "effort": effort}


def sample_rows(count: int) -> np.ndarray:
    """The rows of the vectors that measure the recall: up to 200, evenly spaced.

    >>> sample_rows(3).tolist()
    [0, 1, 2]
    """
    return np.unique(np.linspace(0, count - 1, _SAMPLE).astype(np.int64))


class VectorSample:
    """Keeps the vectors that measure the recall, while all vectors of an index pass.

    Args:
        count (`int`): number of all vectors.
    """

    def __init__(self, count: int):
        self.rows = sample_rows(count)
        self._parts: list[np.ndarray] = []

    def add(self, start: int, vectors: np.ndarray) -> None:
        """Takes note of the vectors (n, D) of the rows from `start`."""
        places = self.rows[(self.rows >= start) & (self.rows < start + len(vectors))] - start
        self._parts.append(vectors[places])

    def vectors(self) -> np.ndarray:
        """The sampled vectors."""
        return np.concatenate(self._parts)


def measure_code_recall(vectors: np.ndarray, codes: Codes) -> dict[str, Any]:
    """Measures the recall of the search by codes. The effort is the number of candidates per hit.

    Args:
        vectors, codes: As for [`top_rows_by_codes`].

    Returns:
        As [`measure_recall`]. The recall is None without faiss.

    >>> vectors = np.random.default_rng(0).standard_normal((500, 16), np.float32)
    >>> vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    >>> measure_code_recall(vectors, compute_codes(vectors))
    {'recall_at_10': 1.0, 'effort': 10}
    """
    sample = sample_rows(len(vectors))
    k = min(11, len(vectors))
    queries = np.asarray(vectors[sample])

    def search(effort: int | None) -> Any:
        if effort is None:
            return _in_parts(vectors, queries, k).tolist()
        return top_rows_by_codes(vectors, codes, queries, k, oversampling=effort)[1].tolist()

    try:
        return measure_recall(search, sample.tolist(), _EFFORTS)
    except ImportError:  # such an index can be built, but not searched, without faiss
        return {"recall_at_10": None, "effort": OVERSAMPLING}


def _in_parts(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """(B, k) nearest rows of queries, with the products of a part of the vectors in memory at a time."""
    scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block_scores, block_rows = top_rows(vectors[start : start + _BLOCK], queries, k)
        scores = np.concatenate([scores, block_scores], axis=1)
        rows = np.concatenate([rows, block_rows + start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


def signs(vectors: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """(N, W / 8) packed signs of the projections."""
    return np.packbits(vectors @ projection > 0, axis=1)
