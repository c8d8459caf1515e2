"""Sparse rows of integer weights, and their dense sketches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

# Rows that are unpacked at a time where all of them are not needed together.
BLOCK = 8192

# Euclidean length of a sketch: 8-bit integers hold each component.
SKETCH_LENGTH = 127


@dataclass(frozen=True, eq=False)
class Rows:
    """N sparse rows of integers. Plain arrays, because SciPy's matrices change their attributes when used.

    Attributes:
        columns, weights: (T,) int and float32, row after row.
        offsets: (N + 1,) where each row starts.
        width: number of columns.
        squares: (N,) float32 squared lengths of the rows.
    """

    columns: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    width: int
    squares: np.ndarray

    @classmethod
    def of(cls, matrix: csr_array, squares: np.ndarray | None = None) -> "Rows":
        """Take a matrix; its rows' squared lengths are computed if they are not given."""
        if squares is None:
            squares = np.asarray(matrix.multiply(matrix).sum(axis=1), np.float32).ravel()
        return cls(matrix.indices, matrix.data, matrix.indptr, matrix.shape[1], squares)

    def __len__(self) -> int:
        return len(self.squares)

    @property
    def matrix(self) -> csr_array:
        """(N, width)."""
        return csr_array((self.weights, self.columns, self.offsets), shape=(len(self), self.width))

    def take(self, rows: Any) -> "Rows":
        """The chosen rows."""
        return Rows.of(self.matrix[rows], self.squares[rows])

    def blocks(self) -> Iterator["Rows"]:
        """All the rows, as many at a time as are well unpacked at once."""
        for start in range(0, len(self), BLOCK):
            yield self.take(slice(start, start + BLOCK))

    def dense(self) -> np.ndarray:
        """(N, width) int8; for weights that fit."""
        matrix = self.matrix
        return csr_array((matrix.data.astype(np.int8), matrix.indices, matrix.indptr), shape=matrix.shape).toarray()


def sketch(columns: np.ndarray, weights: np.ndarray, offsets: np.ndarray, width: int) -> Rows:
    """Sparse rows with their columns hashed to ``width`` of them, at random signs and at length 127, in integers.

    A sparse random projection (Weinberger et al., "Feature hashing for large scale multitask learning", 2009,
    section 2): cosines keep their expected value, with a standard deviation of at most about 1 / sqrt(width).
    Nothing is fitted, and no row depends on another.

    Args:
        columns, weights: (T,) integers of any size, and numbers, row after row.
        offsets: (N + 1,) where each row starts.
        width: number of columns of the result.
    """
    mixed = mix(columns.astype(np.uint64), np.uint64(0))
    signed = np.where(mixed >> np.uint64(63), weights, -weights).astype(np.float64)
    places = (mixed % np.uint64(width)).astype(np.int64)
    # Copied, because adding up equal columns moves the offsets.
    matrix = csr_array((signed, places, offsets.copy()), shape=(len(offsets) - 1, width))
    matrix.sum_duplicates()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    lengths = np.sqrt(np.bincount(rows, matrix.data**2, minlength=matrix.shape[0]))
    # Where all terms of a row cancel each other out, it stays empty.
    matrix.data = np.rint(SKETCH_LENGTH * matrix.data / np.maximum(lengths, 1e-30)[rows]).astype(np.float32)
    matrix.eliminate_zeros()
    return Rows.of(matrix)


def mix(left: np.ndarray, right: np.ndarray | np.uint64) -> np.ndarray:
    """A 64-bit hash of ordered pairs of 64-bit integers (SplitMix64's finaliser; products wrap round)."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + right
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
