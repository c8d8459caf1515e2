"""How similar rows of one modality are to the training rows: to the nearest ones, or on average to all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from scipy.sparse import csr_array

from class_hf.difficulty.neighbours import SIMILARITIES, mean_nearest, nearest, run_blocks, sums
from class_hf.difficulty.pair_features import first_by_hash
from class_hf.difficulty.sparse_rows import Rows, sketch

ANCHORS = 1024

# Terms in more than this share of the rows are multiplied as dense columns by BLAS. The others are multiplied through
# their postings. Dense columns cost N^2 a term. Postings cost the squared number of rows with the term, and each of
# their products takes about 100 times as long.
FREQUENT_SHARE = 0.05

# Dot products that a thread holds: 32 MiB of float32.
MAX_DOTS = 2**23

# The index: components of a sketch, lists read for a query, and candidates that are scored exactly.
_SKETCH = 512
PROBES = 64
CANDIDATES = 64


class ModalitySimilarity(Protocol):
    """A fitted similarity to the training rows, of one modality."""

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) float64 scores of rows that were not fitted."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """Mean similarity to the k nearest rows, exact. Time is O(N^2) for N rows.

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
        """Also returns the (N,) scores of the rows themselves. No row is its own neighbour."""
        similarities, _ = nearest(rows.dense(), neighbours, similarity)
        return cls(rows, similarity, neighbours), mean_nearest(similarities, neighbours)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) scores of other rows."""
        similarities, _ = nearest(self.rows.dense(), self.neighbours, self.similarity, rows.dense())
        return mean_nearest(similarities, self.neighbours)


@dataclass(frozen=True, eq=False)
class NearestByTerms:
    """Mean cosine to the k nearest rows, exact, for rows with very many columns. Time is O(N^2) for N rows.

    Attributes:
        columns: (V,) the new place of each term. The C frequent terms come first.
        frequent: (N, C) float32 weights of the frequent terms.
        postings, rows, weights: the other terms in CSR form with one row per term.
        squares: (N,) float32 squared length of each row.
        neighbours: k.
        max_dots: dot products that a thread holds at once. It changes the memory, not the result.
    """

    columns: np.ndarray
    frequent: np.ndarray
    postings: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    squares: np.ndarray
    neighbours: int
    max_dots: int = MAX_DOTS

    @classmethod
    def fit(
        cls, rows: Rows, neighbours: int, *, frequent_share: float = FREQUENT_SHARE, max_dots: int = MAX_DOTS
    ) -> tuple["NearestByTerms", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves. No row is its own neighbour.

        Args:
            rows: the base.
            neighbours: k.
            frequent_share: terms in more than this share of the rows become dense columns. It changes the time, not
                the result.
            max_dots: see the attribute.
        """
        counts = np.bincount(rows.columns, minlength=rows.width)
        is_frequent = counts > frequent_share * len(rows)
        columns = np.empty(len(counts), np.int64)
        columns[np.argsort(~is_frequent, kind="stable")] = np.arange(len(counts))
        head, tail = _split_columns(rows.matrix, columns, int(is_frequent.sum()))
        tail = tail.T.tocsr()
        fitted = cls(columns, head, tail.indptr, tail.indices, tail.data, rows.squares, neighbours, max_dots)
        return fitted, fitted._score(rows, is_base=True)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) scores of other rows."""
        return self._score(rows, is_base=False)

    def dots(self, matrix: csr_array) -> np.ndarray:
        """(B, N) float32 dot products of (B, V) rows with the base."""
        shape = (len(self.columns) - self.frequent.shape[1], len(self.squares))
        postings = csr_array((self.weights, self.rows, self.postings), shape=shape)
        head, tail = _split_columns(matrix, self.columns, self.frequent.shape[1])
        # With torch, because NumPy would start its own threads inside each of our threads.
        return tail @ postings + (torch.from_numpy(head) @ torch.from_numpy(self.frequent).T).numpy()

    def _score(self, rows: Rows, *, is_base: bool) -> np.ndarray:
        matrix, block = rows.matrix, max(1, self.max_dots // len(self.squares))

        def score(start: int) -> np.ndarray:
            part = slice(start, start + block)
            similarities = self.dots(matrix[part])
            similarities /= np.sqrt(rows.squares[part])[:, None]
            similarities /= np.sqrt(self.squares)
            if is_base:
                diagonal = np.arange(len(similarities))
                similarities[diagonal, start + diagonal] = -1
            return mean_nearest(similarities, self.neighbours)

        return np.concatenate(run_blocks(score, range(0, len(rows), block)))


def _split_columns(matrix: csr_array, columns: np.ndarray, head: int) -> tuple[np.ndarray, csr_array]:
    """Moves the columns to their new places; the first `head` of them become a dense array."""
    moved = csr_array((matrix.data, columns[matrix.indices], matrix.indptr), shape=matrix.shape)
    return moved[:, :head].toarray(), moved[:, head:]


@dataclass(frozen=True, eq=False)
class NearestIndexed:
    """Mean similarity to the k nearest rows that an index finds. Time is about O(N^1.5) for N rows.

    k-means distributes sketches of 512 components ([`sketch`]) over 2 sqrt(N) lists, which faiss keeps as an inverted
    file. The lists nearest to a query yield candidates, whose similarities are then computed exactly. Where fewer than
    k candidates are found, the missing ones count as 0. So a score is never above the exact one. faiss only adds
    integers in float32 here, so neither threads nor the number of queries change a result.

    Attributes:
        rows: the base.
        similarity: a name of [`SIMILARITIES`].
        neighbours: k.
        index: the bytes of the index.
        probes: lists that are read for a query. More find more of the nearest rows, and take longer.
        candidates: rows that are scored exactly for a query; at least 2 k.
    """

    rows: Rows
    similarity: str
    neighbours: int
    index: np.ndarray
    probes: int = PROBES
    candidates: int = CANDIDATES

    @classmethod
    def fit(
        cls,
        rows: Rows,
        similarity: str,
        neighbours: int,
        *,
        probes: int = PROBES,
        candidates: int = CANDIDATES,
    ) -> tuple["NearestIndexed", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves. No row is its own neighbour.

        Raises:
            ImportError: if faiss is not installed.
        """
        faiss = load_faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        # k-means needs at least 39 rows per list, and more than 64 of them do not help.
        lists = max(1, min(int(2 * len(rows) ** 0.5), len(rows) // 39))
        kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatL2(_SKETCH), _SKETCH, lists, kind, faiss.METRIC_L2, False)
        index.cp.int_centroids = True
        index.cp.niter = 6
        index.nprobe = probes
        sample = np.unique(np.linspace(0, len(rows) - 1, 64 * lists).astype(np.int64))
        index.train(_sketches(rows.take(sample)))
        for block in rows.blocks():
            index.add(_sketches(block))
        faiss.omp_set_num_threads(threads)
        fitted = cls(rows, similarity, neighbours, faiss.serialize_index(index), probes, candidates)
        return fitted, fitted._score(rows, is_base=True)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) scores of other rows."""
        return self._score(rows, is_base=False)

    def _score(self, rows: Rows, *, is_base: bool) -> np.ndarray:
        faiss, index, k = load_faiss(), _open_index(self), self.neighbours
        base = self.rows.matrix

        def score(start: int) -> np.ndarray:
            faiss.omp_set_num_threads(1)
            block = rows.take(slice(start, start + 512))
            _, candidates = index.search(_sketches(block), max(self.candidates, 2 * k))
            queries = np.repeat(np.arange(len(block)), candidates.shape[1])
            dots = np.asarray(block.matrix[queries].multiply(base[candidates.ravel()]).sum(axis=1), np.float32)
            parts = dots.reshape(candidates.shape), block.squares[:, None], self.rows.squares[candidates]
            similarities = SIMILARITIES[self.similarity](*map(torch.from_numpy, parts)).numpy()
            similarities[candidates < 0] = 0
            if is_base:
                similarities[candidates == np.arange(start, start + len(block))[:, None]] = -np.inf
            return mean_nearest(similarities, k)

        return np.concatenate(run_blocks(score, range(0, len(rows), 512)))


def _sketches(rows: Rows) -> np.ndarray:
    """(N, 512) float32 sketches of the rows."""
    return sketch(rows.columns, rows.weights, rows.offsets, _SKETCH).dense().astype(np.float32)


# In a cache and not in an attribute, so that the fitted state remains plain arrays.
@lru_cache(maxsize=2)
def _open_index(fitted: NearestIndexed) -> Any:
    """The index of a fitted similarity, as faiss reads it."""
    return load_faiss().deserialize_index(fitted.index)


def load_faiss() -> Any:
    """Imports faiss.

    Raises:
        ImportError: if it is not installed; the message says what to do.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "With more pairs than exact_up_to, faiss finds their neighbours, and faiss is not installed. Run "
            '`pip install faiss-cpu`, raise exact_up_to, or set neighbours="all".'
        ) from error
    return faiss


@dataclass(frozen=True, eq=False)
class MeanToCentroid:
    """Mean cosine to all rows, exact: the dot product with the sum of the L2-normalised rows. Time is O(N).

    Attributes:
        total: (V,) float64, the sum of the L2-normalised rows.
        size: N.
    """

    total: np.ndarray
    size: int

    @classmethod
    def of(cls, rows: Rows) -> "MeanToCentroid":
        """Takes the rows that others are compared with."""
        return cls(np.bincount(rows.columns, _normalised(rows)[0], minlength=rows.width), len(rows))

    @classmethod
    def fit(cls, rows: Rows) -> tuple["MeanToCentroid", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves. No row is compared with itself."""
        fitted = cls.of(rows)
        return fitted, fitted.score(rows, is_fitted=np.ones(len(rows)))

    def score(self, rows: Rows, is_fitted: np.ndarray | float = 0) -> np.ndarray:
        """(B,) scores of rows.

        Args:
            rows: B rows.
            is_fitted: (B,) 1 for a row that is one of the fitted rows, and is not compared with itself; else 0.
        """
        weights, places = _normalised(rows)
        totals = np.bincount(places, weights * self.total[rows.columns], minlength=len(rows))
        return (totals - is_fitted * (rows.squares > 0)) / (self.size - is_fitted)


@dataclass(frozen=True, eq=False)
class MeanToAnchors:
    """Mean Tanimoto similarity to all rows, estimated from a fixed sample of them. Time is O(N) for N rows.

    The anchors are the rows whose ids have the smallest hashes, so their choice does not depend on the order of the
    rows. With at most as many rows as anchors, all rows are anchors and the mean is exact. Otherwise the mean over the
    anchors is multiplied by a ratio: the mean cosine to all rows, which is known exactly, over the mean cosine to the
    anchors (a ratio estimate: Cochran, "Sampling Techniques", 1977, chapter 6). Cosine and Tanimoto similarity to the
    anchors are correlated, so most of the sampling error cancels in the ratio.

    Attributes:
        anchors: the sample.
        to_all, to_anchors: the mean cosines.
    """

    anchors: Rows
    to_all: MeanToCentroid
    to_anchors: MeanToCentroid

    @classmethod
    def fit(cls, rows: Rows, ids: Sequence[str], *, anchors: int = ANCHORS) -> tuple["MeanToAnchors", np.ndarray]:
        """Also returns the (N,) scores of the rows themselves. No row is compared with itself.

        Args:
            rows: the base, 0/1 weights.
            ids: N names of the rows.
            anchors: size of the sample. More anchors give a smaller error, and take longer.
        """
        chosen = first_by_hash(ids, anchors)
        sample = rows.take(chosen)
        fitted = cls(sample, MeanToCentroid.of(rows), MeanToCentroid.of(sample))
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
        # A row that shares no bit with any anchor has a mean of 0 by each similarity.
        return tanimoto * np.divide(cosine, to_anchors, out=np.ones(len(rows)), where=tanimoto > 0)


def _normalised(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """(T,) float64 weights of the L2-normalised rows, and the row of each weight."""
    places = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    return rows.weights / np.sqrt(rows.squares.astype(np.float64))[places], places
