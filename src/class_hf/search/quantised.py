"""The k best rows of a large matrix: a search of one-bit codes, whose best candidates are scored exactly."""

from typing import Any, NamedTuple

import numpy as np

from class_hf.search.exact import top_rows

# Candidates among which the codes are searched; up to so many a matrix product takes some 50 ms, and misses nothing.
EXACT_UP_TO = 200_000
# Candidates by their codes that are scored exactly, over the number asked for.
OVERSAMPLING = 10
_LEAST_BITS = 512
_BLOCK = 65_536


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
