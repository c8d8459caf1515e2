"""The k best rows of a large matrix: a search of one-bit codes, whose best candidates are scored exactly."""

from typing import Any, NamedTuple

import numpy as np

from class_hf.search.exact import top_rows

# Molecules above which codes are searched. Below, a matrix product takes some 50 ms, and misses nothing.
EXACT_UP_TO = 200_000
# Candidates of the codes that are scored exactly, over the number asked for.
OVERSAMPLING = 10
_BLOCK = 65_536


class Codes(NamedTuple):
    """One-bit codes of N vectors.

    Attributes:
        bits: (N, D / 8) uint8: the signs of the vectors less the centre, rotated.
        centre: (D,) float32, the mean vector.
        rotation: (D, D) float32, orthogonal.
    """

    bits: np.ndarray
    centre: np.ndarray
    rotation: np.ndarray

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(B, D) to (B, D / 8) uint8."""
        return np.packbits((vectors - self.centre) @ self.rotation > 0, axis=1)


def encode(vectors: np.ndarray) -> Codes:
    """Codes of (N, D) vectors, which may be memory-mapped; D must be a multiple of 8."""
    raise NotImplementedError


def top_rows_by_codes(
    vectors: np.ndarray,
    codes: Codes,
    queries: np.ndarray,
    k: int,
    rows: np.ndarray | None = None,
    penalties: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As [`top_rows`], among the `OVERSAMPLING` x k rows whose codes differ least from each query's.

    Raises:
        ImportError: if faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("an index of this size needs faiss: pip install 'class-hf[faiss]'.") from error
    bits: Any = codes.bits if rows is None else codes.bits[rows]
    candidates = min(OVERSAMPLING * k, len(bits))
    _, places = faiss.knn_hamming(codes.encode(queries), np.ascontiguousarray(bits), candidates)
    found = []
    for query, some in zip(queries, places, strict=True):
        chosen = np.sort(some if rows is None else rows[some])
        found.append(top_rows(vectors, query[None], k, chosen, penalties))
    return np.concatenate([scores for scores, _ in found]), np.concatenate([chosen for _, chosen in found])
