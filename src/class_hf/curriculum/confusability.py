"""How alike a pair's nearest neighbours among the training pairs are, in text and in molecule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from class_hf.curriculum.complexity import Frequencies, PairFeatures, Ragged

FINGERPRINT_BITS = 2048

# A caption's term weights are integers and its vector is at most this long, so that every dot product, and
# every partial sum of one, is an integer below 2^24. float32 holds those exactly: the result depends neither
# on the order of the summation nor, therefore, on batch size, threads, BLAS library or machine.
_LENGTH = 4095

# Terms in more than this share of the rows are multiplied as dense columns (BLAS), the others through their
# postings. The first costs N^2 a term, the second the squared number of rows with the term, but each product
# takes about 100 times as long.
_FREQUENT = 0.05

# Dot products held at a time: 32 MiB of float32, whatever N.
_MAX_DOTS = 2**23


@dataclass(frozen=True)
class ExactDots:
    """Non-negative integer rows, ready for exact dot products with other such rows.

    Attributes:
        columns: (V,) where each term went: the C frequent ones first.
        frequent: (N, C) float32 weights of the frequent terms.
        postings, rows, weights: the other terms in CSR form with one row a term, that is where it occurs.
        squares: (N,) float32 squared length of each row.
    """

    columns: np.ndarray
    frequent: np.ndarray
    postings: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, matrix: csr_array) -> "ExactDots":
        """Take the (N, V) rows that others are compared with."""
        counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
        is_frequent = counts > _FREQUENT * matrix.shape[0]
        columns = np.empty(len(counts), np.int64)
        columns[np.argsort(~is_frequent, kind="stable")] = np.arange(len(counts))
        head, tail = _split(matrix, columns, int(is_frequent.sum()))
        tail = tail.T.tocsr()
        return cls(columns, head, tail.indptr, tail.indices, tail.data, squared_lengths(matrix))

    def __len__(self) -> int:
        return len(self.squares)

    def products(self, matrix: csr_array) -> Iterator[tuple[slice, np.ndarray]]:
        """Blocks of the (B, N) dot products with (B, V) rows: which of the B rows, and their products."""
        block = max(1, _MAX_DOTS // len(self))
        shape = (len(self.columns) - self.frequent.shape[1], len(self))
        postings = csr_array((self.weights, self.rows, self.postings), shape=shape)
        for start in range(0, matrix.shape[0], block):
            part = slice(start, min(start + block, matrix.shape[0]))
            head, tail = _split(matrix[part], self.columns, self.frequent.shape[1])
            yield part, tail @ postings + head @ self.frequent.T


def _split(matrix: csr_array, columns: np.ndarray, head: int) -> tuple[np.ndarray, csr_array]:
    moved = csr_array((matrix.data, columns[matrix.indices], matrix.indptr), shape=matrix.shape)
    return moved[:, :head].toarray(), moved[:, head:]


def squared_lengths(matrix: csr_array) -> np.ndarray:
    """(N,) float32 squared Euclidean length of each row."""
    return np.asarray(matrix.multiply(matrix).sum(axis=1), np.float32).ravel()


def tanimoto(dots: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tanimoto similarity of bit sets from common bits (B, N) and on-bits (B,) and (N,)."""
    union = np.add.outer(a, b)
    union -= dots
    return np.divide(dots, union, out=union)


def cosine(dots: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of vectors from dot products (B, N) and squared lengths (B,) and (N,)."""
    similarities = dots / np.sqrt(a)[:, None]
    similarities /= np.sqrt(b)
    return similarities


def nearest_mean(
    base: ExactDots,
    queries: csr_array,
    squares: np.ndarray,
    similarity: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    neighbours: int,
    *,
    is_base: bool = False,
) -> np.ndarray:
    """Mean similarity of each query to its nearest rows of the base; exact, in O(B N) time and O(N) memory.

    Args:
        base: N rows.
        queries: (B, V) rows.
        squares: (B,) their squared lengths.
        similarity: [`tanimoto`] or [`cosine`].
        neighbours: k, how many rows of the base to average over.
        is_base: the queries are the base's own rows, in order: none is its own neighbour. k < N then.

    Returns:
        (B,) float64.
    """
    means = np.empty(queries.shape[0])
    for part, dots in base.products(queries):
        similarities = similarity(dots, squares[part], base.squares)
        if is_base:
            similarities[np.arange(len(similarities)), np.arange(part.start, part.stop)] = -1
        nearest = np.partition(similarities, len(base) - neighbours, axis=1)[:, -neighbours:]
        # Sorted, because the mean of equal values must not depend on the order that partition leaves.
        means[part] = np.sort(nearest, axis=1).mean(axis=1, dtype=np.float64)
    return means


@dataclass(frozen=True)
class Confusability:
    """Mean similarity of a pair to its k nearest other training pairs, in each modality. Ours.

    A pair whose neighbours look alike is hard to tell from them, so it scores high. Neighbours are also what a
    model learns a pair from, so pairs without any score low here and can still be retrieved badly:
    [`~class_hf.curriculum.alignment.Alignment`] measures that, and the two may disagree.

    - text: cosine of TF-IDF vectors over words and pairs of adjacent words, with idf =
      log((1 + N) / (1 + df)) + 1 (the smoothed form of scikit-learn). A term that no training caption holds
      (df = 0) lengthens the vector as well, as the terms of one caption only do within the training pairs.
    - molecule: Tanimoto similarity of Morgan fingerprints (radius 2, chirality, 2,048 bits).

    Both are exact: each dot product is a sum of integers in float32 (a caption's weights are rounded down to
    1/4,095 of its length). Another pair with the same caption or molecule is a neighbour at similarity 1.

    Attributes:
        terms: document frequencies of the captions' terms.
        text, molecule: the training pairs' term weights and fingerprint bits.
        neighbours: k.
    """

    terms: Frequencies
    text: ExactDots
    molecule: ExactDots
    neighbours: int

    @classmethod
    def fit(cls, pairs: PairFeatures, neighbours: int) -> tuple["Confusability", np.ndarray]:
        """Index N > k training pairs; also returns their raw scores, (N, 2) for text and molecule."""
        found, counts = terms_of(pairs.words)
        terms = Frequencies.of(found)
        text, text_squares = weigh(found, counts, terms)
        bits = fingerprints(pairs.fragments)
        fitted = cls(terms, ExactDots.of(text), ExactDots.of(bits), neighbours)
        return fitted, fitted._score(text, text_squares, bits, is_base=True)

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """Raw scores (B, 2), text and molecule, of pairs that were not fitted."""
        text, text_squares = weigh(*terms_of(pairs.words), self.terms)
        return self._score(text, text_squares, fingerprints(pairs.fragments), is_base=False)

    def _score(self, text: csr_array, squares: np.ndarray, bits: csr_array, *, is_base: bool) -> np.ndarray:
        k = self.neighbours
        of_text = nearest_mean(self.text, text, squares, cosine, k, is_base=is_base)
        on_bits = squared_lengths(bits)
        of_molecule = nearest_mean(self.molecule, bits, on_bits, tanimoto, k, is_base=is_base)
        return np.stack([of_text, of_molecule], axis=1)


def fingerprints(fragments: Ragged) -> csr_array:
    """(N, 2048) 0/1 float32: Morgan substructure ids folded to bits, as RDKit's bit vectors are."""
    bits, _ = Ragged(fragments.values % FINGERPRINT_BITS, fragments.offsets).distinct()
    ones = np.ones(len(bits.values), np.float32)
    return csr_array((ones, bits.values.astype(np.int64), bits.offsets), shape=(len(bits), FINGERPRINT_BITS))


def terms_of(words: Ragged) -> tuple[Ragged, np.ndarray]:
    """Each row's distinct words and pairs of adjacent words, as 64-bit hashes, and how often each occurs."""
    rows = words.rows
    together = rows[1:] == rows[:-1]
    bigrams = _mix(words.values[:-1], words.values[1:])[together]
    values = np.concatenate([words.values, bigrams])
    return Ragged.count(values, np.concatenate([rows, rows[1:][together]]), len(words))


def _mix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A 64-bit hash of ordered pairs of 64-bit hashes (SplitMix64's finaliser; products wrap round)."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + right
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(31))


def weigh(found: Ragged, counts: np.ndarray, terms: Frequencies) -> tuple[csr_array, np.ndarray]:
    """Integer TF-IDF weights (N, V) of the known terms, and (N,) squared lengths over all of the terms."""
    places, known = terms.find(found.values)
    documents = np.where(known, terms.counts[places], 0)
    weights = counts * (np.log((1 + terms.total) / (1 + documents)) + 1)
    rows = found.rows
    lengths = np.sqrt(np.bincount(rows, weights**2, minlength=len(found)))
    weights = np.floor(_LENGTH * weights / lengths[rows]).astype(np.float32)
    squares = np.bincount(rows, weights.astype(np.float64) ** 2, minlength=len(found)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[known], minlength=len(found)))])
    shape = (len(found), len(terms.terms))
    return csr_array((weights[known], places[known], offsets), shape=shape), squares
