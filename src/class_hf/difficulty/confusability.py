"""Difficulty as confusability: how similar a pair is to the other training pairs, in text and in molecule."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from class_hf.difficulty.pair_features import Frequencies, PairFeatures, Ragged
from class_hf.difficulty.similarities import (
    MeanToAnchors,
    MeanToCentroid,
    ModalitySimilarity,
    Nearest,
    NearestByTerms,
    NearestIndexed,
)
from class_hf.difficulty.sparse_rows import Rows, mix, sketch

FINGERPRINT_BITS = 2048
HASHED_TERMS = 1024
TEXT_SIMILARITIES = ("tfidf", "hashed")

# The weights of a caption are integers, and its vector has at most this length. Then each dot product, and each
# partial sum of one, is an integer below 2^24, which float32 holds exactly. So the result does not depend on the order
# of the summation, the batch size, the threads, the BLAS library or the machine.
_LENGTH = 4095


@dataclass(frozen=True, eq=False)
class Confusability:
    """Mean similarity of a pair to its k nearest training pairs, or to all of them, in each modality.

    A pair with similar neighbours is hard to distinguish from them, so it scores high. But a model also learns a pair
    from its neighbours: pairs without neighbours score low here and can still be retrieved badly.
    [`~class_hf.difficulty.alignment.Alignment`] measures that instead, and the two may disagree. The mean over all
    pairs measures how typical a pair is, and may disagree with the mean over the nearest ones.

    - text: cosine of TF-IDF vectors over words and pairs of adjacent words, with idf = log((1 + N) / (1 + df)) + 1
      (the smoothed form of scikit-learn). A term that no training caption contains (df = 0) also lengthens the vector.
      With `text_similarity="hashed"` the terms are hashed to 1,024 components of 8 bits with random signs
      ([`sketch`]).
    - molecule: Tanimoto similarity of Morgan fingerprints (radius 2, with chirality, 2,048 bits).

    Similarities are exact for vectors of integers: the weights of a caption are rounded to 1/4,095 of its length, or
    to 1/127 if hashed. Another pair with the same caption or molecule is a neighbour with similarity 1.

    Time for N pairs:

    - up to `exact_up_to` pairs: all are compared, O(N^2);
    - more: an index proposes candidates, about O(N^1.5) ([`NearestIndexed`]);
    - `neighbours="all"`: no neighbours are searched, O(N). The mean cosine is the dot product with the centroid,
      exact. The mean Tanimoto similarity is estimated from 1,024 anchors ([`MeanToAnchors`]).

    Attributes:
        terms: document frequencies of the captions' terms.
        text, molecule: the fitted similarities.
        text_similarity: `"tfidf"` or `"hashed"`.

    >>> texts, smiles = ["An acid.", "An acid.", "A steroid."], ["CC(=O)O", "CCC(=O)O", "C1CCCCC1"]
    >>> _, raw = Confusability.fit(PairFeatures(["a", "b", "c"], texts, smiles), neighbours=1)
    >>> raw.round(2).tolist()
    [[1.0, 0.42], [1.0, 0.42], [0.0, 0.08]]
    """

    terms: Frequencies
    text: ModalitySimilarity
    molecule: ModalitySimilarity
    text_similarity: str

    @classmethod
    def fit(
        cls,
        pairs: PairFeatures,
        neighbours: int | Literal["all"],
        text_similarity: str = "tfidf",
        exact_up_to: int = 100_000,
    ) -> tuple["Confusability", np.ndarray]:
        """Compares N training pairs with each other.

        Args:
            pairs: the training pairs.
            neighbours: k, smaller than N, or `"all"`.
            text_similarity: `"tfidf"` or `"hashed"`.
            exact_up_to: with more pairs, faiss finds the neighbours.

        Returns:
            The fitted definition, and (N, 2) raw scores of the pairs, text and molecule.
        """
        distinct, counts = terms_of(pairs.words)
        terms = Frequencies.of(distinct)
        text = vectors_of(distinct, counts, terms, text_similarity)
        molecule = fingerprints(pairs.fragments)
        fitted: tuple[tuple[ModalitySimilarity, np.ndarray], tuple[ModalitySimilarity, np.ndarray]]
        if neighbours == "all":
            fitted = MeanToCentroid.fit(text), MeanToAnchors.fit(molecule, pairs.ids)
        elif len(pairs) > exact_up_to:
            fitted = (
                NearestIndexed.fit(text, "cosine", neighbours),
                NearestIndexed.fit(molecule, "tanimoto", neighbours),
            )
        else:
            by_terms = text_similarity == "tfidf"
            fitted = (
                NearestByTerms.fit(text, neighbours) if by_terms else Nearest.fit(text, "cosine", neighbours),
                Nearest.fit(molecule, "tanimoto", neighbours),
            )
        (of_text, text_scores), (of_molecule, molecule_scores) = fitted
        return cls(terms, of_text, of_molecule, text_similarity), np.stack([text_scores, molecule_scores], axis=1)

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """(B, 2) raw scores, text and molecule, of pairs that were not fitted."""
        text = vectors_of(*terms_of(pairs.words), self.terms, self.text_similarity)
        return np.stack([self.text.score(text), self.molecule.score(fingerprints(pairs.fragments))], axis=1)


def fingerprints(fragments: Ragged) -> Rows:
    """Folds Morgan substructure ids to bits, as RDKit's bit vectors do.

    Args:
        fragments: N rows of substructure ids.

    Returns:
        N 0/1 rows of 2,048 columns.

    >>> fingerprints(PairFeatures(["a"], ["Water."], ["O"]).fragments).dense().sum()
    np.int64(1)
    """
    bits, _ = Ragged(fragments.values % FINGERPRINT_BITS, fragments.offsets).distinct()
    ones = np.ones(len(bits.values), np.float32)
    return Rows(
        bits.values.astype(np.int32), ones, bits.offsets, FINGERPRINT_BITS, np.diff(bits.offsets).astype(np.float32)
    )


def terms_of(words: Ragged) -> tuple[Ragged, np.ndarray]:
    """Each row's distinct words and pairs of adjacent words.

    Args:
        words: N rows of 64-bit hashes of words.

    Returns:
        N rows of 64-bit hashes of terms, and (T,) how often each occurs in its row.
    """
    rows = words.rows
    is_adjacent = rows[1:] == rows[:-1]
    bigrams = mix(words.values[:-1], words.values[1:])[is_adjacent]
    values = np.concatenate([words.values, bigrams])
    return Ragged.count(values, np.concatenate([rows, rows[1:][is_adjacent]]), len(words))


def vectors_of(distinct: Ragged, counts: np.ndarray, terms: Frequencies, text_similarity: str) -> Rows:
    """TF-IDF vectors of captions, in integers.

    Args:
        distinct: N rows of distinct terms, of [`terms_of`].
        counts: (T,) how often each term occurs in its row.
        terms: document frequencies of V terms in the training pairs.
        text_similarity: `"tfidf"` or `"hashed"`.

    Returns:
        N rows of V columns, or of 1,024 columns if hashed.
    """
    places, known = terms.find(distinct.values)
    documents = np.where(known, terms.counts[places], 0)
    weights = counts * (np.log((1 + terms.total) / (1 + documents)) + 1)
    if text_similarity == "hashed":
        return sketch(distinct.values, weights, distinct.offsets, HASHED_TERMS)
    rows = distinct.rows
    lengths = np.sqrt(np.bincount(rows, weights**2, minlength=len(distinct)))
    weights = np.floor(_LENGTH * weights / lengths[rows]).astype(np.float32)
    squares = np.bincount(rows, weights.astype(np.float64) ** 2, minlength=len(distinct)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[known], minlength=len(distinct)))])
    shape = (len(distinct), len(terms.terms))
    return Rows.of(csr_array((weights[known], places[known], offsets), shape=shape), squares)
