"""Collators: prepared rows to a flat dict of tensors, or to a list of such dicts for chunked forwards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from class_hf.data.prepare import MOLECULE_FEATURES, PAIR_KEYS, POOLED, TEXT_FEATURES, pair_keys
from class_hf.utils.column_names import WRONG_PROBABILITY
from class_hf.utils.protocols import Processor


class TextMoleculeCollator:
    """Collates rows of [`prepare_pairs`] or [`prepare_molecules`] into a batch of tensors.

    A batch holds the modalities that its rows have: captions, molecules, or captions and molecules.

    Args:
        processor ([`TextMoleculeProcessor`]): the processor that prepared the rows.
        sentence_dropout (`float`, *optional*, defaults to 0.0): probability of dropping each sentence of a caption
            except the first, in [0, 1). Use it in training only.
        seed (`int`, *optional*, defaults to 0): seed of the sentence dropout. The dropped sentences depend only on
            the seed and on the rows of the batch. A resumed run therefore drops the same sentences as an
            uninterrupted run, with any number of workers.

    Raises:
        ValueError: if `sentence_dropout` is not in [0, 1).

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeProcessor
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> blobs = processor.encode_text(["An alcohol. It is small."])
    >>> sorted(TextMoleculeCollator(processor)([{"text_features": blobs[0]}]))
    ['input_ids', 'text_offsets']
    """

    def __init__(self, processor: Processor, sentence_dropout: float = 0.0, seed: int = 0):
        if not 0.0 <= sentence_dropout < 1.0:
            raise ValueError(f"sentence_dropout is {sentence_dropout}; expected a probability in [0, 1).")
        self.processor = processor
        self.sentence_dropout = sentence_dropout
        self.seed = seed

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collates B rows.

        Args:
            features: B prepared rows with the same columns.

        Returns:
            The tensors of the processor, `pair_keys` (B, 2) int64 if the rows have keys, and `pair_weights` (B,)
            float32, the probability that each pair is right, if the rows have a `wrong_probability`.

        Raises:
            KeyError: if the rows hold no prepared features, or if sentence dropout needs keys that they lack.
            ValueError: if `sentence_dropout` is set and the rows hold cached caption vectors.
        """
        first = features[0]
        if not {TEXT_FEATURES, MOLECULE_FEATURES, *POOLED.values()} & set(first):
            raise KeyError(
                f"the rows have the columns {sorted(first)}; expected {TEXT_FEATURES!r} or {MOLECULE_FEATURES!r}. "
                "Prepare the data set with `prepare_pairs` first."
            )
        if any(isinstance(value, np.bytes_) for value in first.values()):
            raise ValueError(
                "the rows have the format of NumPy, which cuts zero bytes from the end of features. Pass the data set "
                "with_format(None)."
            )
        batch: dict[str, torch.Tensor] = {}
        keys = pair_keys(features) if all(name in first for name in PAIR_KEYS) else None
        if POOLED["text"] in first and self.sentence_dropout > 0.0:
            raise ValueError(
                f"sentence_dropout is {self.sentence_dropout}, but the rows hold cached vectors of complete captions "
                f"({POOLED['text']}). Set sentence_dropout to 0, or do not cache the outputs of the text tower."
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
                    raise KeyError(
                        f"sentence dropout needs the columns {PAIR_KEYS}. Prepare the rows with `prepare_pairs`."
                    )
                generator = np.random.default_rng([self.seed, *(keys[:, 0] & 0xFFFFFFFF).tolist()])
            batch |= self.processor.collate_text(blobs, self.sentence_dropout, generator)
        if MOLECULE_FEATURES in first and POOLED["molecule"] not in first:
            batch |= self.processor.collate_molecules([feature[MOLECULE_FEATURES] for feature in features])
        if keys is not None:
            batch["pair_keys"] = torch.from_numpy(keys)
        if WRONG_PROBABILITY in first:
            probabilities = np.array([feature[WRONG_PROBABILITY] for feature in features], np.float32)
            batch["pair_weights"] = torch.from_numpy(1 - probabilities)
        return batch


class ChunkedCollator:
    """Collates a batch into several chunks, for batches that exceed the memory (see [`cached_gradient_loss`]).

    Rows with prepared captions are grouped by caption length. This reduces padding and gives the chunks about equal
    memory; a chunk then holds `chunk_size` rows on average. Other rows keep their order. The order of the pairs does
    not change a contrastive loss.

    Args:
        collator (`Callable`): collates the rows of each chunk.
        chunk_size (`int`): rows per chunk, on average.

    Example:

    >>> ChunkedCollator(lambda rows: {"sum": sum(rows)}, chunk_size=2)([1, 2, 3])
    {'chunks': [{'sum': 3}, {'sum': 3}]}
    """

    def __init__(self, collator: Any, chunk_size: int):
        self.collator = collator
        self.chunk_size = chunk_size

    def __call__(self, features: Sequence[Any]) -> dict[str, list[Any]]:
        """Collates B rows into `{"chunks": [batch, ...]}`, with ceil(B / chunk_size) chunks."""
        first = features[0]
        if isinstance(first, dict) and TEXT_FEATURES in first and POOLED["text"] not in first:
            lengths = np.array([len(feature[TEXT_FEATURES]) // 4 for feature in features])
            groups = group_by_length(lengths, -(-len(features) // self.chunk_size))
        else:
            rows = np.arange(len(features))
            groups = [rows[start : start + self.chunk_size] for start in range(0, len(rows), self.chunk_size)]
        return {"chunks": [self.collator([features[row] for row in group]) for group in groups]}


def group_by_length(lengths: np.ndarray, count: int) -> list[np.ndarray]:
    """Groups rows by length, longest first, so that all groups need about the same memory.

    The activations of a transformer for L tokens take about L (34 + 5 L / 64) bytes times its width (Korthikanti et
    al., 2022, equation 2, with heads of size 64). Each cut is at the row boundary nearest to an equal share of the
    total. Each group holds at least one row.

    Args:
        lengths: (B,) tokens of each row.
        count: number of groups, at most B.

    Returns:
        `count` arrays of row numbers.

    >>> [rows.tolist() for rows in group_by_length(np.array([10, 90, 12, 50, 40]), 2)]
    [[1], [3, 4, 2, 0]]
    """
    rows = np.argsort(-lengths, kind="stable")
    cost = np.concatenate([[0.0], np.cumsum(lengths[rows] * (34 + 5 * lengths[rows] / 64))])
    targets = cost[-1] * np.arange(1, count) / count
    # cost[i] is the cost of the first i rows: the first boundary at or above the target, or the one before it.
    cuts = np.searchsorted(cost, targets, side="left")
    cuts -= (cuts > 0) & (targets - cost[cuts - 1] < cost[cuts] - targets)
    for position in range(len(cuts)):  # at least one row on each side of each cut
        lowest = (cuts[position - 1] if position else 0) + 1
        cuts[position] = np.clip(cuts[position], lowest, len(rows) - (len(cuts) - position))
    return np.split(rows, cuts)
