"""Evidence for and against a caption and a molecule belonging together.

Two kinds of judges give evidence, and neither has seen the pair that it judges. *Neighbours*: captions similar to a
caption vote for their molecules, and molecules similar to a molecule vote for their captions. *References*: a small
model ranks the half of the pairs that it was not trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array

from class_hf.difficulty.confusability import terms_of
from class_hf.difficulty.neighbours import nearest, run_blocks
from class_hf.difficulty.pair_features import Frequencies, PairFeatures, Ragged, first_by_hash
from class_hf.difficulty.reference import EncodedPairs, embed_pairs, split_halves, train_reference
from class_hf.difficulty.sparse_rows import sketch
from class_hf.utils.threads import single_thread

# Components of a sketch of one modality. Fewer make more collisions: 512 lowers the AUC on ChEBI-20.
WIDTH = 1024

# Neighbours that vote, and the exponent of their similarity. 32 to 64 neighbours rank about equally well.
NEIGHBOURS = 32
_SHARPNESS = 2

# Candidates among which a partner is ranked.
CANDIDATES = 1024

# Rows that are judged at a time.
_BLOCK = 2048


def sketch_terms(terms: Ragged, counts: np.ndarray) -> np.ndarray:
    """Sketches of rows of terms, weighted by their rarity.

    Args:
        terms: N rows of distinct 64-bit hashes.
        counts: (T,) how often each term occurs in its row.

    Returns:
        (N, 1024) int8. A term that no other row has does not count.
    """
    frequencies = Frequencies.of(terms)
    places, _ = frequencies.find(terms.values)
    documents = frequencies.counts[places]
    weights = np.sqrt(counts) * (np.log((1 + frequencies.total) / (1 + documents)) + 1)
    return sketch(terms.values, np.where(documents > 1, weights, 0.0), terms.offsets, WIDTH).dense()


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The nearest rows of each row in one modality.

    Attributes:
        sketches: (N, 1024) int8.
        rows: (N, K) int64 row numbers of the neighbours, the nearest first.
        similarities: (N, K) float32 cosines.
    """

    sketches: np.ndarray
    rows: np.ndarray
    similarities: np.ndarray

    @classmethod
    def find(cls, sketches: np.ndarray, count: int, bank: np.ndarray | None = None) -> "Neighbourhood":
        """Finds the nearest rows.

        Args:
            sketches: (N, 1024) int8.
            count: K.
            bank: sorted numbers of the rows among which neighbours are searched. Default: all rows.
        """
        if bank is None:
            similarities, rows = nearest(sketches, count, "cosine")
            return cls(sketches, rows, similarities)
        similarities, places = nearest(sketches[bank], count + 1, "cosine", sketches)
        rows = bank[places]
        # A row of the bank finds itself; the other rows drop the last of their K + 1 neighbours.
        is_kept = rows != np.arange(len(rows))[:, None]
        is_kept[is_kept.all(axis=1), -1] = False
        return cls(sketches, rows[is_kept].reshape(-1, count), similarities[is_kept].reshape(-1, count))

    def weights(self, rows: np.ndarray, trust: np.ndarray) -> csr_array:
        """(B, N) weight of each neighbour's vote; the weights of a row add up to 1."""
        weights = np.maximum(self.similarities[rows], 0.0) ** _SHARPNESS * trust[self.rows[rows]]
        weights = (weights / (weights.sum(axis=1, keepdims=True) + 1e-9)).astype(np.float32)
        offsets = np.arange(0, weights.size + 1, weights.shape[1])
        return csr_array((weights.ravel(), self.rows[rows].ravel(), offsets), shape=(len(rows), len(self.rows)))


@dataclass(frozen=True, eq=False)
class Votes:
    """Judges pairs by the votes of similar captions and similar molecules.

    Attributes:
        text, molecule: the neighbourhoods.
        trust: (N,) weight of each pair's vote, in [0, 1].
        candidates: sorted numbers of the rows among which partners are ranked.
    """

    text: Neighbourhood
    molecule: Neighbourhood
    trust: np.ndarray
    candidates: np.ndarray

    def predict_molecules(self, rows: np.ndarray) -> torch.Tensor:
        """(B, 1024) L2-normalised mean sketch of the molecules of similar captions."""
        return _normalise(self.text.weights(rows, self.trust) @ self.molecule.sketches.astype(np.float32))

    def predict_captions(self, rows: np.ndarray) -> torch.Tensor:
        """(B, 1024) L2-normalised mean sketch of the captions of similar molecules."""
        return _normalise(self.molecule.weights(rows, self.trust) @ self.text.sketches.astype(np.float32))

    def judge(self, text_rows: np.ndarray, molecule_rows: np.ndarray) -> np.ndarray:
        """Evidence against the caption of one row belonging to the molecule of another, or of the same, row.

        Args:
            text_rows: (B,) rows of the captions.
            molecule_rows: (B,) rows of the molecules.

        Returns:
            (B, 4) float64 logits of the share of candidates that fit better: molecules for the caption's votes, votes
            of captions for the molecule, captions for the molecule's votes, and votes of molecules for the caption.
        """
        all_text, all_molecules = self.text.sketches, self.molecule.sketches
        candidates = self.candidates
        columns = [
            _normalise(all_molecules[candidates]),
            self.predict_molecules(candidates),
            _normalise(all_text[candidates]),
            self.predict_captions(candidates),
        ]

        def run(start: int) -> np.ndarray:
            texts, molecules = text_rows[start : start + _BLOCK], molecule_rows[start : start + _BLOCK]
            voted_molecules, voted_captions = self.predict_molecules(texts), self.predict_captions(molecules)
            own_molecules, own_captions = _normalise(all_molecules[molecules]), _normalise(all_text[texts])
            by_text = (voted_molecules * own_molecules).sum(dim=1)
            by_molecule = (voted_captions * own_captions).sum(dim=1)
            queries = (voted_molecules, own_molecules, voted_captions, own_captions)
            true = (by_text, by_text, by_molecule, by_molecule)
            shares = [
                share_above(query @ column.T, score)
                for query, column, score in zip(queries, columns, true, strict=True)
            ]
            return np.stack([np.log(share / (1 - share)) for share in shares], axis=1)

        return np.concatenate(run_blocks(run, range(0, len(text_rows), _BLOCK)))


def _normalise(rows: np.ndarray) -> torch.Tensor:
    """Rows as L2-normalised float32; an empty row stays empty."""
    return F.normalize(torch.from_numpy(np.asarray(rows, np.float32)), dim=1)


def share_above(scores: torch.Tensor, true: torch.Tensor) -> np.ndarray:
    """The share of candidates with a higher score than the true partner, within (0, 1).

    Args:
        scores: (B, C) scores of the candidates.
        true: (B,) scores of the true partners.

    Returns:
        (B,) float64. Ties count one half, and half a candidate is added at each end.

    >>> share_above(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0.5])).tolist()
    [0.5]
    """
    above = (scores > true[:, None]).sum(dim=1) + 0.5 * (scores == true[:, None]).sum(dim=1)
    return (above.double().numpy() + 0.5) / (scores.shape[1] + 1)


@dataclass(frozen=True, eq=False)
class Reference:
    """Judges pairs by the similarity of two models, each trained on one half of the pairs and used on the other.

    Attributes:
        half: (N,) the half of each row.
        embeddings: (2, N, H) float32 embeddings of texts and molecules, by the model that has not seen the row.
        candidates: for each half, the rows among which partners are ranked.
    """

    half: np.ndarray
    embeddings: np.ndarray
    candidates: tuple[np.ndarray, np.ndarray]

    @classmethod
    def fit(
        cls, ids: Sequence[str], encoded: EncodedPairs, keep: np.ndarray, seed: int, steps: int, bar: Any
    ) -> "Reference":
        """Trains both models.

        Args:
            ids: N names.
            encoded: N encoded pairs.
            keep: (N,) bool, the pairs that may be trained on. All pairs are judged.
            seed: of the halves and of the training.
            steps: optimizer steps of each model.
            bar: a progress bar.
        """
        half = split_halves(ids, seed)
        embeddings, candidates = None, []
        names = np.asarray(ids)
        with single_thread():
            for fold in range(2):
                seen, held_out = np.flatnonzero((half == fold) & keep), np.flatnonzero(half != fold)
                model = train_reference(encoded.take(seen), seed + fold, steps, bar)
                part = embed_pairs(model.double(), encoded.take(held_out))
                if embeddings is None:
                    embeddings = np.zeros((2, len(ids), part.shape[2]), np.float32)
                embeddings[:, held_out] = part
                candidates.append(held_out[first_by_hash(names[held_out].tolist(), CANDIDATES)])
        assert embeddings is not None
        return cls(half, embeddings, (candidates[1], candidates[0]))

    def judge(self, text_rows: np.ndarray, molecule_rows: np.ndarray) -> np.ndarray:
        """(B, 2) evidence as of [`Votes`]: molecules for the caption, and captions for the molecule.

        Both rows of a pair must be of one half.
        """
        texts, molecules = (_normalise(part) for part in self.embeddings)
        result = np.empty((len(text_rows), 2))
        for half, candidates in enumerate(self.candidates):
            chosen = np.flatnonzero(self.half[text_rows] == half)

            def run(start: int, chosen: np.ndarray = chosen, candidates: np.ndarray = candidates) -> np.ndarray:
                part = chosen[start : start + _BLOCK]
                text, molecule = texts[text_rows[part]], molecules[molecule_rows[part]]
                true = (text * molecule).sum(dim=1)
                shares = (
                    share_above(text @ molecules[candidates].T, true),
                    share_above(molecule @ texts[candidates].T, true),
                )
                return np.stack([np.log(share / (1 - share)) for share in shares], axis=1)

            if len(chosen):
                result[chosen] = np.concatenate(run_blocks(run, range(0, len(chosen), _BLOCK)))
        return result


def neighbourhoods(pairs: PairFeatures, bank: np.ndarray | None) -> tuple[Neighbourhood, Neighbourhood]:
    """The neighbourhoods of captions and of molecules.

    Args:
        pairs: N pairs.
        bank: see [`Neighbourhood.find`].
    """
    size = len(pairs) if bank is None else len(bank)
    count = min(NEIGHBOURS, size - 1)
    text = sketch_terms(*terms_of(pairs.words))
    molecule = sketch_terms(pairs.fragments, np.ones(len(pairs.fragments.values)))
    return Neighbourhood.find(text, count, bank), Neighbourhood.find(molecule, count, bank)
