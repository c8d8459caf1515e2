"""Difficulty as density: how many other training pairs are similar, in text and in molecule."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from tqdm.auto import tqdm

from class_hf.difficulty.confusability import fingerprints, terms_of, vectors_of
from class_hf.difficulty.neighbours import counts_above, similarities_of
from class_hf.difficulty.pair_features import Frequencies, PairFeatures, first_by_hash
from class_hf.difficulty.sparse_rows import SKETCH_LENGTH, Rows
from class_hf.models.mol2vec import Mol2vecVectors

# Pairs whose similarities give the threshold: queries, and rows that they are compared with.
_QUERIES, _CANDIDATES = 1_000, 10_000
_CAPTIONS_AT_ONCE, _MAX_TOKENS = 64, 256


@dataclass(frozen=True)
class DensitySettings:
    """Settings of [`Density`].

    Args:
        quantile: share of the similarities between training pairs that lie below the threshold, in (0, 1).
        text_model: *optional*, folder or Hub id of a sentence encoder. Default: TF-IDF vectors, hashed to 1,024
            components.
        mol2vec: *optional*, file of mol2vec vectors, see [`Mol2vecVectors.read`]. Default: Morgan fingerprints.

    Raises:
        ValueError: if the quantile is out of range.

    >>> DensitySettings(quantile=1.0)
    Traceback (most recent call last):
    ValueError: density_quantile is 1.0; expected a number above 0 and below 1.
    """

    quantile: float = 0.99
    text_model: str | None = None
    mol2vec: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"density_quantile is {self.quantile!r}; expected a number above 0 and below 1.")


@dataclass(frozen=True, eq=False)
class SimilarRows:
    """Counts the rows of a base that are similar to a row.

    Attributes:
        rows: the base, at most `exact_up_to` of the training rows.
        similarity: `"cosine"` or `"tanimoto"`.
        threshold: smallest similarity of a similar row.
    """

    rows: Rows
    similarity: str
    threshold: float

    @classmethod
    def fit(
        cls, rows: Rows, similarity: str, quantile: float, ids: Sequence[str], exact_up_to: int
    ) -> tuple["SimilarRows", np.ndarray]:
        """Chooses the threshold and counts.

        Args:
            rows: N training rows.
            similarity: `"cosine"` or `"tanimoto"`.
            quantile: share of the similarities below the threshold.
            ids: N names of the pairs, which choose samples.
            exact_up_to: number of rows in the base. With more training rows, a sample of so many is the base.

        Returns:
            The fitted counter, and (N,) the share of the other base rows that are similar to each training row.
        """
        queries, candidates = first_by_hash(ids, _QUERIES), first_by_hash(ids, _CANDIDATES)
        sample = similarities_of(rows.take(candidates).dense(), similarity, rows.take(queries).dense())
        others = queries[:, None] != candidates[None, :]
        threshold = float(np.quantile(sample[others], quantile))
        members = np.zeros(len(rows), bool)
        members[first_by_hash(ids, exact_up_to)] = True
        fitted = cls(rows.take(np.flatnonzero(members)), similarity, threshold)
        # A row of the base is similar to itself, except an empty one if the threshold is above 0.
        itself = members & ((rows.squares > 0) | (threshold <= 0))
        return fitted, (fitted._counts(rows) - itself) / np.maximum(len(fitted.rows) - members, 1)

    def score(self, rows: Rows) -> np.ndarray:
        """(B,) the share of the base that is similar to each of B other rows."""
        return self._counts(rows) / len(self.rows)

    def _counts(self, rows: Rows) -> np.ndarray:
        base = self.rows.dense()
        blocks = [counts_above(base, self.threshold, self.similarity, block.dense()) for block in rows.blocks()]
        return np.concatenate(blocks)


@dataclass(frozen=True, eq=False)
class Density:
    """The share of the training pairs whose similarity is at least a threshold, in each modality.

    CLASS measures difficulty by the number of similar samples (arXiv:2502.11633). Its threshold, and whether many
    similar samples mean hard or easy, are not published. Here the threshold is a quantile of the similarities between
    training pairs, and many similar pairs are hard. `curriculum_order: hard_first` is the other direction.

    - text: cosine of hashed TF-IDF vectors as in [`~class_hf.difficulty.confusability.Confusability`], or of the mean
      token states of a sentence encoder;
    - molecule: Tanimoto similarity of Morgan fingerprints (radius 2, with chirality, 2,048 bits), or cosine of mol2vec
      vectors.

    Vectors of floats are rounded to 8 bits, so similarities are exact, and counts do not depend on the batch, the
    threads or the machine. Only the vectors of a sentence encoder may differ by rounding between batches and machines.

    Time is O(N^2) for N <= `exact_up_to` pairs, which are compared in blocks. With more pairs each is
    compared with a sample of `exact_up_to`, so time is O(N).

    Attributes:
        terms: document frequencies of the captions' terms; None with a sentence encoder.
        text, molecule: the fitted counters.
        text_model: name of the sentence encoder, or None.
        vectors: mol2vec vectors, or None.

    >>> texts = ["An acid.", "An acid.", "A steroid.", "An ether."]
    >>> pairs = PairFeatures(list("abcd"), texts, ["CC(=O)O", "CCC(=O)O", "C1CCCCC1", "COC"])
    >>> _, raw = Density.fit(pairs, DensitySettings(quantile=0.9))
    >>> raw.round(2).tolist()
    [[0.33, 0.33], [0.33, 0.33], [0.0, 0.0], [0.0, 0.0]]
    """

    terms: Frequencies | None
    text: SimilarRows
    molecule: SimilarRows
    text_model: str | None
    vectors: Mol2vecVectors | None

    @classmethod
    def fit(
        cls, pairs: PairFeatures, settings: DensitySettings | None = None, exact_up_to: int = 100_000
    ) -> tuple["Density", np.ndarray]:
        """Counts the similar pairs of N training pairs.

        Args:
            pairs: the training pairs.
            settings: *optional*, the settings.
            exact_up_to: with more pairs, each is compared with a sample of so many.

        Returns:
            The fitted definition, and (N, 2) raw scores of the pairs, text and molecule.

        Raises:
            ValueError: if the vectors of molecules cannot be read.
            OSError: if the sentence encoder cannot be loaded.
        """
        settings = settings or DensitySettings()
        terms = Frequencies.of(terms_of(pairs.words)[0]) if settings.text_model is None else None
        vectors = Mol2vecVectors.read(settings.mol2vec) if settings.mol2vec is not None else None
        text = _text_rows(pairs, terms, settings.text_model)
        molecule = _molecule_rows(pairs, vectors)
        of_text, text_shares = SimilarRows.fit(text, "cosine", settings.quantile, pairs.ids, exact_up_to)
        kind = "tanimoto" if vectors is None else "cosine"
        of_molecule, molecule_shares = SimilarRows.fit(molecule, kind, settings.quantile, pairs.ids, exact_up_to)
        fitted = cls(terms, of_text, of_molecule, settings.text_model, vectors)
        return fitted, np.stack([text_shares, molecule_shares], axis=1)

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """(B, 2) raw scores, text and molecule, of pairs that were not fitted."""
        text = self.text.score(_text_rows(pairs, self.terms, self.text_model))
        molecule = self.molecule.score(_molecule_rows(pairs, self.vectors))
        return np.stack([text, molecule], axis=1)


def _text_rows(pairs: PairFeatures, terms: Frequencies | None, text_model: str | None) -> Rows:
    if text_model is not None:
        return _rounded(embed_captions(pairs.descriptions, text_model))
    assert terms is not None
    return vectors_of(*terms_of(pairs.words), terms, "hashed")


def _molecule_rows(pairs: PairFeatures, vectors: Mol2vecVectors | None) -> Rows:
    if vectors is None:
        return fingerprints(pairs.fragments)
    return _rounded(np.stack([vectors.sum_of(smiles) for smiles in pairs.smiles]))


def _rounded(vectors: np.ndarray) -> Rows:
    """(N, D) vectors as whole numbers of length 127 up to rounding."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return Rows.of(csr_array(np.rint(SKETCH_LENGTH * vectors / np.maximum(lengths, 1e-30)).astype(np.float32)))


def embed_captions(captions: Sequence[str], model: str) -> np.ndarray:
    """Embeds captions by the mean of a transformer's token states, without the padding.

    Args:
        captions: N captions.
        model: folder or Hub id of a model with a tokenizer. At most 256 tokens of a caption are read.

    Returns:
        (N, H) float32.

    Raises:
        OSError: if the model cannot be loaded.
    """
    import torch  # these imports take seconds, and only this function needs them

    from class_hf.models.ragged_text import mean_pool

    tokenizer, encoder = _load(model)
    parts = []
    starts = range(0, len(captions), _CAPTIONS_AT_ONCE)
    # Captions of similar length share a batch, which reduces padding.
    order = np.argsort([len(caption) for caption in captions], kind="stable")
    with torch.no_grad():
        for start in tqdm(starts, desc="Embedding captions", delay=1.0, disable=None):
            chosen = [captions[row] for row in order[start : start + _CAPTIONS_AT_ONCE]]
            batch = tokenizer(chosen, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
            batch = batch.to(encoder.device)
            states = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            parts.append(mean_pool(states, batch["attention_mask"]).float().cpu().numpy())
    return np.concatenate(parts)[np.argsort(order)]


@lru_cache(maxsize=1)
def _load(model: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = AutoModel.from_pretrained(model).eval()
    return AutoTokenizer.from_pretrained(model), encoder.to(torch.accelerator.current_accelerator() or "cpu")
