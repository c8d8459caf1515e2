"""Joins prepared rows into one flat dict of tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from class_hf.data.prepare import MOLECULE_FEATURES, PAIR_KEYS, POOLED, TEXT_FEATURES, pair_keys


class TextMoleculeCollator:
    """Batches rows that [`prepare_pairs`] or [`prepare_molecules`] made; a missing side is left out.

    Args:
        processor: the [`TextMoleculeProcessor`] that made them.
        sentence_dropout: probability with which a sentence of a caption, the first excepted, is left out. Use it
            in training only.
        seed: of the sentence dropout. What is dropped depends on the seed and the members of the batch alone, so
            a resumed run, with any number of workers, drops the same sentences as an uninterrupted one.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeProcessor
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> blobs = processor.encode_text(["An alcohol. It is small."])
    >>> sorted(TextMoleculeCollator(processor)([{"text_features": blobs[0]}]))
    ['input_ids', 'text_offsets']
    """

    def __init__(self, processor: Any, sentence_dropout: float = 0.0, seed: int = 0):
        if not 0.0 <= sentence_dropout < 1.0:
            raise ValueError(f"sentence_dropout is {sentence_dropout}; expected a probability in [0, 1).")
        self.processor = processor
        self.sentence_dropout = sentence_dropout
        self.seed = seed

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Args:
            features: B rows.

        Returns:
            the processor's batch, and `pair_keys` (B, 2) int64 where the rows have them.

        Raises:
            KeyError: if the rows hold neither captions nor molecules, or sentence dropout misses its keys.
            ValueError: if sentences of captions should be dropped whose vectors are computed already.
        """
        first = features[0]
        if not {TEXT_FEATURES, MOLECULE_FEATURES, *POOLED.values()} & set(first):
            raise KeyError(
                f"rows have {sorted(first)}, but neither {TEXT_FEATURES!r} nor {MOLECULE_FEATURES!r}: "
                "prepare the data set with `prepare_pairs` first."
            )
        batch: dict[str, torch.Tensor] = {}
        keys = pair_keys(features) if all(name in first for name in PAIR_KEYS) else None
        if POOLED["text"] in first and self.sentence_dropout > 0.0:
            raise ValueError(
                f"sentence_dropout is {self.sentence_dropout}, but the rows hold vectors of whole captions "
                f"({POOLED['text']}): set it to 0, or do not cache the text tower's outputs."
            )
        for name in POOLED.values():
            if name in first:
                vectors = np.frombuffer(b"".join(feature[name] for feature in features), dtype="<f4")
                batch[name] = torch.from_numpy(vectors.reshape(len(features), -1).copy())
        if TEXT_FEATURES in first and POOLED["text"] not in first:
            blobs = [feature[TEXT_FEATURES] for feature in features]
            generator = None
            if self.sentence_dropout > 0.0:
                if keys is None:
                    raise KeyError(f"sentence dropout needs the columns {PAIR_KEYS}: use `prepare_pairs`.")
                generator = np.random.default_rng([self.seed, *(keys[:, 0] & 0xFFFFFFFF).tolist()])
            batch |= self.processor.collate_text(blobs, self.sentence_dropout, generator)
        if MOLECULE_FEATURES in first and POOLED["molecule"] not in first:
            batch |= self.processor.collate_molecules([feature[MOLECULE_FEATURES] for feature in features])
        if keys is not None:
            batch["pair_keys"] = torch.from_numpy(keys)
        return batch


class ChunkedCollator:
    """Collates a batch in parts, for towers that cannot take it at once (see [`cached_gradient_loss`]).

    Prepared captions are dealt by length, so that the parts pad little and need about the same memory; a part then
    holds `chunk_size` rows on average. Other rows are dealt in their order. A contrastive loss does not depend on the
    order of its pairs.

    Args:
        collator: makes a batch of rows; sees each part as a batch of its own.
        chunk_size: rows a part, on average.

    Example:

    >>> ChunkedCollator(lambda rows: {"sum": sum(rows)}, chunk_size=2)([1, 2, 3])
    {'chunks': [{'sum': 3}, {'sum': 3}]}
    """

    def __init__(self, collator: Any, chunk_size: int):
        self.collator = collator
        self.chunk_size = chunk_size

    def __call__(self, features: Sequence[Any]) -> dict[str, list[Any]]:
        """B rows to `{"chunks": [batch, ...]}`, ceil(B / chunk_size) of them."""
        first = features[0]
        if isinstance(first, dict) and TEXT_FEATURES in first and POOLED["text"] not in first:
            lengths = np.array([len(feature[TEXT_FEATURES]) // 4 for feature in features])
            parts = deal_by_length(lengths, -(-len(features) // self.chunk_size))
        else:
            rows = np.arange(len(features))
            parts = [rows[start : start + self.chunk_size] for start in range(0, len(rows), self.chunk_size)]
        return {"chunks": [self.collator([features[row] for row in part]) for part in parts]}


def deal_by_length(lengths: np.ndarray, parts: int) -> list[np.ndarray]:
    """Rows in `parts` groups of neighbours in length, the longest first, each with about the same memory.

    A transformer's activations take about L (34 + 5 L / 64) bytes times its width for L tokens (Korthikanti et al.,
    2022, equation 2, with heads of 64).

    Args:
        lengths: (B,) tokens of each row.
        parts: number of groups, at most B.

    >>> [part.tolist() for part in deal_by_length(np.array([10, 90, 12, 50, 40]), 2)]
    [[1], [3, 4, 2, 0]]
    """
    rows = np.argsort(-lengths, kind="stable")
    cost = np.cumsum(lengths[rows] * (34 + 5 * lengths[rows] / 64))
    cuts = np.searchsorted(cost, cost[-1] * np.arange(1, parts) / parts, side="left") + 1
    # At least one row in each group, before and after every cut.
    for number in range(len(cuts)):
        lowest = (cuts[number - 1] if number else 0) + 1
        cuts[number] = np.clip(cuts[number], lowest, len(rows) - (len(cuts) - number))
    return np.split(rows, cuts)
