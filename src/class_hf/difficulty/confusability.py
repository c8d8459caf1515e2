"""How alike a pair and the other training pairs are, in text and in molecule."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from class_hf.difficulty.measures import (
    MeanToAnchors,
    MeanToCentroid,
    Measure,
    Nearest,
    NearestByTerms,
    NearestIndexed,
)
from class_hf.difficulty.pair_features import Frequencies, PairFeatures, Ragged
from class_hf.difficulty.sparse_rows import Rows, mix, sketch

FINGERPRINT_BITS = 2048
HASHED_TERMS = 1024
TEXT_SIMILARITIES = ("tfidf", "hashed")

# A caption's term weights are integers and its vector is at most this long, so that every dot product, and
# every partial sum of one, is an integer below 2^24. float32 holds those exactly: the result depends neither
# on the order of the summation nor, therefore, on batch size, threads, BLAS library or machine.
_LENGTH = 4095


@dataclass(frozen=True, eq=False)
class Confusability:
    """How similar a pair is to other training pairs, in each modality: on average over its k nearest ones, or
    over all. Ours.

    A pair whose neighbours look alike is hard to tell from them, so it scores high. Neighbours are also what a
    model learns a pair from, so pairs without any score low here and can still be retrieved badly:
    [`~class_hf.difficulty.alignment.Alignment`] measures that, and the two may disagree. So do neighbours and
    the mean over all: the second says how typical a pair is.

    - text: cosine of TF-IDF vectors over words and pairs of adjacent words, with idf =
      log((1 + N) / (1 + df)) + 1 (the smoothed form of scikit-learn). A term that no training caption holds
      (df = 0) lengthens the vector as well, as the terms of one caption only do within the training pairs.
      ``"hashed"`` adds the terms up in 1,024 components at random signs ([`sketch`]), of 8 bits each.
    - molecule: Tanimoto similarity of Morgan fingerprints (radius 2, chirality, 2,048 bits).

    Similarities are exact: each dot product is a sum of integers in float32 (a caption's weights are rounded
    to 1/4,095 of its length, or to 1/127 when hashed). Another pair with the same caption or molecule is a
    neighbour at similarity 1. How neighbours are found, and in what time for N pairs:

    - up to ``exact_up_to`` pairs all are compared, in O(N^2);
    - above, an index proposes candidates, in about O(N^1.5) ([`NearestIndexed`]);
    - ``"all"`` needs no neighbours and takes O(N): the mean cosine is the product with the centroid, exactly;
      the mean Tanimoto similarity is estimated from 1,024 anchors ([`MeanToAnchors`]).

    Attributes:
        terms: document frequencies of the captions' terms.
        text, molecule: the measures.
        text_similarity: ``"tfidf"`` or ``"hashed"``.
    """

    terms: Frequencies
    text: Measure
    molecule: Measure
    text_similarity: str

    @classmethod
    def fit(
        cls,
        pairs: PairFeatures,
        neighbours: int | Literal["all"],
        text_similarity: str = "tfidf",
        exact_up_to: int = 100_000,
    ) -> tuple["Confusability", np.ndarray]:
        """Measure N > k training pairs; also returns their raw scores, (N, 2) for text and molecule."""
        found, counts = terms_of(pairs.words)
        terms = Frequencies.of(found)
        text = vectors_of(found, counts, terms, text_similarity)
        molecule = fingerprints(pairs.fragments)
        fitted: tuple[tuple[Measure, np.ndarray], tuple[Measure, np.ndarray]]
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
        """Raw scores (B, 2), text and molecule, of pairs that were not fitted."""
        text = vectors_of(*terms_of(pairs.words), self.terms, self.text_similarity)
        return np.stack([self.text.score(text), self.molecule.score(fingerprints(pairs.fragments))], axis=1)


def fingerprints(fragments: Ragged) -> Rows:
    """(N, 2048) 0/1 rows: Morgan substructure ids folded to bits, as RDKit's bit vectors are."""
    bits, _ = Ragged(fragments.values % FINGERPRINT_BITS, fragments.offsets).distinct()
    ones = np.ones(len(bits.values), np.float32)
    return Rows(
        bits.values.astype(np.int32), ones, bits.offsets, FINGERPRINT_BITS, np.diff(bits.offsets).astype(np.float32)
    )


def terms_of(words: Ragged) -> tuple[Ragged, np.ndarray]:
    """Each row's distinct words and pairs of adjacent words, as 64-bit hashes, and how often each occurs."""
    rows = words.rows
    together = rows[1:] == rows[:-1]
    bigrams = mix(words.values[:-1], words.values[1:])[together]
    values = np.concatenate([words.values, bigrams])
    return Ragged.count(values, np.concatenate([rows, rows[1:][together]]), len(words))


def vectors_of(found: Ragged, counts: np.ndarray, terms: Frequencies, text_similarity: str) -> Rows:
    """Captions' TF-IDF vectors in integers: (N, V) over the known terms, or hashed to (N, 1024)."""
    places, known = terms.find(found.values)
    documents = np.where(known, terms.counts[places], 0)
    weights = counts * (np.log((1 + terms.total) / (1 + documents)) + 1)
    if text_similarity == "hashed":
        return sketch(found.values, weights, found.offsets, HASHED_TERMS)
    rows = found.rows
    lengths = np.sqrt(np.bincount(rows, weights**2, minlength=len(found)))
    weights = np.floor(_LENGTH * weights / lengths[rows]).astype(np.float32)
    squares = np.bincount(rows, weights.astype(np.float64) ** 2, minlength=len(found)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[known], minlength=len(found)))])
    shape = (len(found), len(terms.terms))
    return Rows.of(csr_array((weights[known], places[known], offsets), shape=shape), squares)
