"""What a pair is made of, and how complex each half of it is.

The features read here (words of a caption, substructures of a molecule) are also what
[`~class_hf.difficulty.confusability.Confusability`] compares.
"""

from dataclasses import dataclass

import numpy as np

from class_hf.difficulty.pair_features import Frequencies, PairFeatures
from class_hf.difficulty.ranks import rank_among


@dataclass(frozen=True)
class Complexity:
    """How much there is to read in a caption, and in a molecule. The definition is ours; sentence length and
    word rarity as difficulty follow Platanios et al. (2019, section 3.1).

    - text: mean of two ranks: the number of words, and the rarity of the words
      (mean negative log document frequency).
    - molecule: mean of four ranks: heavy atoms, rings, stereo marks (chiral atoms and E/Z bonds), and the
      rarity of the Morgan substructures of radius 2 (the same mean over substructures).

    Every rank is taken among the training pairs, see [`rank_among`]. The state is plain arrays.

    Attributes:
        words, substructures: document frequencies in the training pairs.
        text_parts, molecule_parts: (N, 2) and (N, 4), each column the ascending values of the training pairs.
    """

    words: Frequencies
    substructures: Frequencies
    text_parts: np.ndarray
    molecule_parts: np.ndarray

    @classmethod
    def fit(cls, pairs: PairFeatures) -> tuple["Complexity", np.ndarray]:
        """Count the training pairs; also returns their raw scores, (N, 2) for text and molecule."""
        words = Frequencies.of(pairs.words.distinct()[0])
        substructures = Frequencies.of(pairs.fragments)
        parts = _parts(pairs, words, substructures, seen=True)
        fitted = cls(words, substructures, *(np.sort(part, axis=0) for part in parts))
        return fitted, fitted._mean_ranks(*parts)

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """Raw scores (B, 2), text and molecule, of pairs that were not fitted."""
        return self._mean_ranks(*_parts(pairs, self.words, self.substructures, seen=False))

    def _mean_ranks(self, text: np.ndarray, molecule: np.ndarray) -> np.ndarray:
        halves = (text, self.text_parts), (molecule, self.molecule_parts)
        return np.stack([_ranks(values, reference).mean(axis=1) for values, reference in halves], axis=1)


def _parts(
    pairs: PairFeatures, words: Frequencies, substructures: Frequencies, *, seen: bool
) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.diff(pairs.words.offsets)
    text = np.stack([lengths, words.rarity(pairs.words, seen=seen)], axis=1)
    rarity = substructures.rarity(pairs.fragments, seen=seen)
    return text, np.concatenate([pairs.sizes, rarity[:, None]], axis=1)


def _ranks(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    columns = range(values.shape[1])
    return np.stack([rank_among(values[:, c], reference[:, c]) for c in columns], axis=1)
