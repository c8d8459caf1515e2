"""Difficulty as complexity: how long and how rare a caption and a molecule are."""

from dataclasses import dataclass

import numpy as np

from class_hf.difficulty.pair_features import Frequencies, PairFeatures
from class_hf.difficulty.ranks import rank_among


@dataclass(frozen=True)
class Complexity:
    """How complex a caption is, and how complex a molecule is.

    - text: mean of two ranks, of the number of words and of the rarity of the words (mean negative log document
      frequency).
    - molecule: mean of four ranks, of heavy atoms, rings, stereo marks (specified chiral atoms and E/Z bonds) and the
      rarity of the Morgan substructures of radius 2.

    Each rank is taken among the training pairs, see [`rank_among`]. Sentence length and word rarity as difficulty
    follow Platanios et al. (2019, section 3.1).

    Attributes:
        words, substructures: document frequencies in the training pairs.
        text_parts: (N, 2), the sorted values of the training pairs, one column per part.
        molecule_parts: (N, 4), likewise.

    >>> texts = ["An acid.", "An alcohol isolated from Bufo marinus, the cane toad."]
    >>> _, raw = Complexity.fit(PairFeatures(["a", "b"], texts, ["C", "C[C@H](O)N"]))
    >>> raw.tolist()
    [[0.25, 0.375], [0.75, 0.625]]
    """

    words: Frequencies
    substructures: Frequencies
    text_parts: np.ndarray
    molecule_parts: np.ndarray

    @classmethod
    def fit(cls, pairs: PairFeatures) -> tuple["Complexity", np.ndarray]:
        """Counts the words and substructures of N training pairs.

        Returns:
            The fitted definition, and (N, 2) raw scores of the pairs, text and molecule.
        """
        words = Frequencies.of(pairs.words.distinct()[0])
        substructures = Frequencies.of(pairs.fragments)
        parts = _parts(pairs, words, substructures, seen=True)
        fitted = cls(words, substructures, *(np.sort(part, axis=0) for part in parts))
        return fitted, fitted._mean_ranks(*parts)

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """(B, 2) raw scores, text and molecule, of pairs that were not fitted."""
        return self._mean_ranks(*_parts(pairs, self.words, self.substructures, seen=False))

    def _mean_ranks(self, text: np.ndarray, molecule: np.ndarray) -> np.ndarray:
        modalities = (text, self.text_parts), (molecule, self.molecule_parts)
        return np.stack([_ranks(values, reference).mean(axis=1) for values, reference in modalities], axis=1)


def _parts(
    pairs: PairFeatures, words: Frequencies, substructures: Frequencies, *, seen: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(B, 2) values of the captions, and (B, 4) values of the molecules."""
    lengths = np.diff(pairs.words.offsets)
    text = np.stack([lengths, words.rarity(pairs.words, seen=seen)], axis=1)
    rarity = substructures.rarity(pairs.fragments, seen=seen)
    return text, np.concatenate([pairs.sizes, rarity[:, None]], axis=1)


def _ranks(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(B, C) rank of each value in its column."""
    columns = zip(values.T, reference.T, strict=True)
    return np.stack([rank_among(column, ascending) for column, ascending in columns], axis=1)
