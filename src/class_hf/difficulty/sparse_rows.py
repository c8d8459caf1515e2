"""Sparse rows of integer weights, and their dense sketches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

# Rows that are unpacked together where the caller does not need all of them at once.
BLOCK = 8192

# Euclidean length of a sketch: each component then fits into 8 bits.
SKETCH_LENGTH = 127


@dataclass(frozen=True, eq=False)
class Rows:
    """N sparse rows of integers, as plain arrays. SciPy's matrices change their attributes when they are used.

    Attributes:
        columns: (T,) int, the column of each weight, row after row.
        weights: (T,) float32.
        offsets: (N + 1,) int, where each row starts.
        width: number of columns.
        squares: (N,) float32, squared length of each row.

    >>> rows = Rows.of(csr_array(np.array([[1, 0, 2], [0, 0, 3]], np.float32)))
    >>> len(rows), rows.squares.tolist(), rows.take([1]).dense().tolist()
    (2, [5.0, 9.0], [[0, 0, 3]])
    """

    columns: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    width: int
    squares: np.ndarray

    @classmethod
    def of(cls, matrix: csr_array, squares: np.ndarray | None = None) -> "Rows":
        """Takes the rows of a matrix (N, width).

        Args:
            matrix: float32 weights, whole numbers.
            squares: (N,) squared lengths. Default: computed from the matrix.
        """
        if squares is None:
            squares = np.asarray(matrix.multiply(matrix).sum(axis=1), np.float32).ravel()
        return cls(matrix.indices, matrix.data, matrix.indptr, matrix.shape[1], squares)

    def __len__(self) -> int:
        return len(self.squares)

    @property
    def matrix(self) -> csr_array:
        """The rows as a SciPy matrix, (N, width)."""
        return csr_array((self.weights, self.columns, self.offsets), shape=(len(self), self.width))

    def take(self, rows: Any) -> "Rows":
        """The chosen rows. `rows` is a slice, or (B,) row numbers."""
        return Rows.of(self.matrix[rows], self.squares[rows])

    def blocks(self, size: int = BLOCK) -> Iterator["Rows"]:
        """All rows in order, in blocks of at most `size` rows."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def dense(self) -> np.ndarray:
        """The rows as an (N, width) int8 array. The weights must fit into 8 bits."""
        matrix = self.matrix
        return csr_array((matrix.data.astype(np.int8), matrix.indices, matrix.indptr), shape=matrix.shape).toarray()


def sketch(columns: np.ndarray, weights: np.ndarray, offsets: np.ndarray, width: int) -> Rows:
    """Hashes the columns of sparse rows to fewer columns, with random signs.

    This is a sparse random projection (Weinberger et al., "Feature hashing for large scale multitask learning", 2009,
    section 2). Cosines keep their expected value, with a standard deviation of at most about 1 / sqrt(width).
    Nothing is fitted, and no row depends on another.

    Args:
        columns: (T,) integers of any size, row after row.
        weights: (T,) numbers.
        offsets: (N + 1,) where each row starts.
        width: number of columns of the result.

    Returns:
        N rows of whole numbers, each of Euclidean length 127 up to rounding. A row is empty where its terms cancel.

    >>> rows = sketch(np.array([7, 900, 7]), np.ones(3), np.array([0, 2, 3]), width=16)
    >>> rows.dense().shape, rows.squares.tolist()
    ((2, 16), [16200.0, 16129.0])
    """
    mixed = mix(columns.astype(np.uint64), np.uint64(0))
    signed = np.where(mixed >> np.uint64(63), weights, -weights).astype(np.float64)
    places = (mixed % np.uint64(width)).astype(np.int64)
    # The offsets are copied because adding up equal columns changes them in place.
    matrix = csr_array((signed, places, offsets.copy()), shape=(len(offsets) - 1, width))
    matrix.sum_duplicates()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    lengths = np.sqrt(np.bincount(rows, matrix.data**2, minlength=matrix.shape[0]))
    matrix.data = np.rint(SKETCH_LENGTH * matrix.data / np.maximum(lengths, 1e-30)[rows]).astype(np.float32)
    matrix.eliminate_zeros()
    return Rows.of(matrix)


def mix(left: np.ndarray, right: np.ndarray | np.uint64) -> np.ndarray:
    """A 64-bit hash of ordered pairs of 64-bit integers. This is SplitMix64's finaliser; products wrap around.

    >>> a, b = np.array([1], np.uint64), np.array([2], np.uint64)
    >>> bool(mix(a, b)[0] == mix(b, a)[0])
    False
    """
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + right
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
