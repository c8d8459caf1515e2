"""Similarity of one modality to the training pairs: the nearest pairs, or the mean over all pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import torch
from scipy.sparse import csr_array

from class_hf.difficulty.neighbours import SIMILARITIES, mean_nearest, nearest, spread, sums
from class_hf.difficulty.sparse_rows import Rows, sketch

ANCHORS = 1024

# Terms in more than this share of the rows are multiplied as dense columns (BLAS), the others through their
# postings. The first costs N^2 a term, the second the squared number of rows with the term, but each product
# takes about 100 times as long.
_FREQUENT = 0.05

# Dot products held at a time by a thread: 32 MiB of float32, whatever N.
_MAX_DOTS = 2**23

# The index: components of a sketch, lists that are read for a query, and candidates that are scored exactly.
_SKETCH = 512
_PROBES = 64
_CANDIDATES = 64


class Measure(Protocol):
    """A fitted similarity to the training pairs, of one modality."""

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) float64 scores of rows that were not fitted."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """Mean similarity to the k nearest rows, exact. O(N^2) for N rows.

    Attributes:
        rows: the base.
        similarity: a name of [`SIMILARITIES`].
        neighbours: k.
    """

    rows: Rows
    similarity: str
    neighbours: int

    @classmethod
    def fit(cls, rows: Rows, similarity: str, neighbours: int) -> tuple["Nearest", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves, of which none is its own neighbour."""
        similarities, _ = nearest(rows.dense(), neighbours, similarity)
        return cls(rows, similarity, neighbours), mean_nearest(similarities, neighbours)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) scores of other rows."""
        similarities, _ = nearest(self.rows.dense(), self.neighbours, self.similarity, rows.dense())
        return mean_nearest(similarities, self.neighbours)


@dataclass(frozen=True, eq=False)
class NearestByTerms:
    """Mean cosine to the k nearest rows, exact, for rows of very many columns. O(N^2) for N rows.

    Attributes:
        columns: (V,) where each term went: the C frequent ones first.
        frequent: (N, C) float32 weights of the frequent terms.
        postings, rows, weights: the other terms in CSR form with one row a term, that is where it occurs.
        squares: (N,) float32 squared length of each row.
        neighbours: k.
    """

    columns: np.ndarray
    frequent: np.ndarray
    postings: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    squares: np.ndarray
    neighbours: int

    @classmethod
    def fit(cls, rows: Rows, neighbours: int) -> tuple["NearestByTerms", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves, of which none is its own neighbour."""
        counts = np.bincount(rows.columns, minlength=rows.width)
        is_frequent = counts > _FREQUENT * len(rows)
        columns = np.empty(len(counts), np.int64)
        columns[np.argsort(~is_frequent, kind="stable")] = np.arange(len(counts))
        head, tail = _split(rows.matrix, columns, int(is_frequent.sum()))
        tail = tail.T.tocsr()
        fitted = cls(columns, head, tail.indptr, tail.indices, tail.data, rows.squares, neighbours)
        return fitted, fitted._score(rows, is_base=True)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) scores of other rows."""
        return self._score(rows, is_base=False)

    def dots(self, matrix: csr_array) -> np.ndarray:
        """(B, N) float32 dot products with (B, V) rows."""
        shape = (len(self.columns) - self.frequent.shape[1], len(self.squares))
        postings = csr_array((self.weights, self.rows, self.postings), shape=shape)
        head, tail = _split(matrix, self.columns, self.frequent.shape[1])
        # By torch, because NumPy would start threads of its own in each of ours.
        return tail @ postings + (torch.from_numpy(head) @ torch.from_numpy(self.frequent).T).numpy()

    def _score(self, rows: Rows, *, is_base: bool) -> np.ndarray:
        matrix, block = rows.matrix, max(1, _MAX_DOTS // len(self.squares))

        def score(start: int) -> np.ndarray:
            part = slice(start, start + block)
            similarities = self.dots(matrix[part])
            similarities /= np.sqrt(rows.squares[part])[:, None]
            similarities /= np.sqrt(self.squares)
            if is_base:
                own = np.arange(len(similarities))
                similarities[own, start + own] = -1
            return mean_nearest(similarities, self.neighbours)

        return np.concatenate(spread(score, range(0, len(rows), block)))


def _split(matrix: csr_array, columns: np.ndarray, head: int) -> tuple[np.ndarray, csr_array]:
    moved = csr_array((matrix.data, columns[matrix.indices], matrix.indptr), shape=matrix.shape)
    return moved[:, :head].toarray(), moved[:, head:]


@dataclass(frozen=True, eq=False)
class NearestIndexed:
    """Mean similarity to the k nearest rows that an index finds. About O(N^1.5) for N rows.

    Sketches of 512 components ([`sketch`]) are kept in 2 sqrt(N) lists by k-means, an inverted file of faiss. The
    64 lists nearest to a query yield 64 candidates (2 k if that is more), whose similarities are then exact; where
    fewer than k are found, the others count as 0. All that faiss adds up are integers in float32, so neither
    threads nor the number of queries change a result. It is never above the exact score.

    Attributes:
        rows, similarity, neighbours: as of [`Nearest`].
        index: the bytes of the index.
    """

    rows: Rows
    similarity: str
    neighbours: int
    index: np.ndarray

    @classmethod
    def fit(cls, rows: Rows, similarity: str, neighbours: int) -> tuple["NearestIndexed", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves, of which none is its own neighbour.

        Raises:
            ImportError: if faiss is not installed.
        """
        faiss = load_faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        # k-means wants at least 39 rows a list, and no more than 64 of them help.
        lists = max(1, min(int(2 * len(rows) ** 0.5), len(rows) // 39))
        kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatL2(_SKETCH), _SKETCH, lists, kind, faiss.METRIC_L2, False)
        index.cp.int_centroids = True
        index.cp.niter = 6
        index.nprobe = _PROBES
        sample = np.unique(np.linspace(0, len(rows) - 1, 64 * lists).astype(np.int64))
        index.train(_sketches(rows.take(sample)))
        for block in rows.blocks():
            index.add(_sketches(block))
        faiss.omp_set_num_threads(threads)
        fitted = cls(rows, similarity, neighbours, faiss.serialize_index(index))
        return fitted, fitted._score(rows, is_base=True)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) scores of other rows."""
        return self._score(rows, is_base=False)

    def _score(self, rows: Rows, *, is_base: bool) -> np.ndarray:
        faiss, index, k = load_faiss(), _opened(self), self.neighbours
        base = self.rows.matrix

        def score(start: int) -> np.ndarray:
            faiss.omp_set_num_threads(1)
            block = rows.take(slice(start, start + 512))
            _, found = index.search(_sketches(block), max(_CANDIDATES, 2 * k))
            asked = np.repeat(np.arange(len(block)), found.shape[1])
            dots = np.asarray(block.matrix[asked].multiply(base[found.ravel()]).sum(axis=1), np.float32)
            parts = dots.reshape(found.shape), block.squares[:, None], self.rows.squares[found]
            similarities = SIMILARITIES[self.similarity](*map(torch.from_numpy, parts)).numpy()
            similarities[found < 0] = 0
            if is_base:
                similarities[found == np.arange(start, start + len(block))[:, None]] = -np.inf
            return mean_nearest(similarities, k)

        return np.concatenate(spread(score, range(0, len(rows), 512)))


def _sketches(rows: Rows) -> np.ndarray:
    return sketch(rows.columns, rows.weights, rows.offsets, _SKETCH).dense().astype(np.float32)


# Behind a cache, and not an attribute: the state stays plain arrays.
@lru_cache(maxsize=2)
def _opened(fitted: NearestIndexed) -> Any:
    return load_faiss().deserialize_index(fitted.index)


def load_faiss() -> Any:
    """The module, or an error that says what to install."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "More pairs than exact_up_to: their neighbours are found by faiss, which is not installed. Run "
            '`pip install faiss-cpu`, raise exact_up_to, or take neighbours="all".'
        ) from error
    return faiss


@dataclass(frozen=True, eq=False)
class MeanToCentroid:
    """Mean cosine to all rows, exact: the dot product with the sum of the unit vectors. O(N) for N rows.

    Attributes:
        total: (V,) float64, the sum of the rows at unit length.
        size: N.
    """

    total: np.ndarray
    size: int

    @classmethod
    def of(cls, rows: Rows) -> "MeanToCentroid":
        """Take the rows that others are compared with."""
        return cls(np.bincount(rows.columns, _units(rows)[0], minlength=rows.width), len(rows))

    @classmethod
    def fit(cls, rows: Rows) -> tuple["MeanToCentroid", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves, of which none is compared with itself."""
        fitted = cls.of(rows)
        return fitted, fitted.score(rows, own=np.ones(len(rows)))

    def score(self, rows: Rows, own: np.ndarray | float = 0) -> np.ndarray:
        """(B,) scores; ``own`` (B,) is 1 for a row that is among the fitted ones, with which it is not compared."""
        units, places = _units(rows)
        sums_ = np.bincount(places, units * self.total[rows.columns], minlength=len(rows))
        return (sums_ - own * (rows.squares > 0)) / (self.size - own)


@dataclass(frozen=True, eq=False)
class MeanToAnchors:
    """Mean Tanimoto similarity to all rows, estimated from a fixed sample of them. O(N) for N rows.

    The anchors are the 1,024 rows whose ids have the smallest hashes, whatever their order; a smaller set is taken
    as a whole, and the mean is exact. The mean over the anchors is multiplied by the ratio of the mean cosine to
    all rows, which is known exactly, and to the anchors (a ratio estimate: Cochran, "Sampling Techniques", 1977,
    chapter 6): what makes an anchor similar by one measure makes it so by the other, and the sample's luck cancels.

    Attributes:
        anchors: the sample.
        to_all, to_anchors: the mean cosines.
    """

    anchors: Rows
    to_all: MeanToCentroid
    to_anchors: MeanToCentroid

    @classmethod
    def fit(cls, rows: Rows, ids: Sequence[str]) -> tuple["MeanToAnchors", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves, of which none is compared with itself."""
        digests = [blake2b(name.encode(), digest_size=16).digest() for name in ids]
        chosen = sorted(sorted(range(len(ids)), key=digests.__getitem__)[:ANCHORS])
        anchors = rows.take(chosen)
        fitted = cls(anchors, MeanToCentroid.of(rows), MeanToCentroid.of(anchors))
        is_anchor = np.zeros(len(rows))
        is_anchor[chosen] = 1
        return fitted, fitted._score(rows, np.ones(len(rows)), is_anchor)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) scores of other rows."""
        return self._score(rows, np.zeros(len(rows)), np.zeros(len(rows)))

    def _score(self, rows: Rows, is_fitted: np.ndarray, is_anchor: np.ndarray) -> np.ndarray:
        anchors = self.anchors.dense()
        tanimoto = np.concatenate([sums(anchors, "tanimoto", block.dense()) for block in rows.blocks()])
        tanimoto = (tanimoto - is_anchor * (rows.squares > 0)) / (len(anchors) - is_anchor)
        cosine, to_anchors = self.to_all.score(rows, is_fitted), self.to_anchors.score(rows, is_anchor)
        # Without a bit in common with any anchor both means are 0.
        return tanimoto * np.divide(cosine, to_anchors, out=np.ones(len(rows)), where=tanimoto > 0)


def _units(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """(T,) weights at unit length of the row, float64, and the row of each."""
    places = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    return rows.weights / np.sqrt(rows.squares.astype(np.float64))[places], places
