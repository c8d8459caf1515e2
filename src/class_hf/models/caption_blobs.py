"""Compact blobs of encoded captions: token ids with the bounds of sentences, and the structures that they name."""

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from .tokenization_lexical import split_sentences


class CaptionTokens:
    """Packs a caption's token ids and the bounds of its sentences in one blob.

    Layout, little-endian int32: length of the prefix, length of the suffix, number of sentences S, S lengths of
    sentences, then the ids: prefix (for instance [CLS]), the sentences, suffix (for instance [SEP]).

    Example:

    >>> blob = CaptionTokens.pack(np.array([101]), [np.array([5, 6]), np.array([7])], np.array([102]))
    >>> ids, offsets = CaptionTokens.join([blob, blob])
    >>> ids.tolist(), offsets.tolist()
    ([101, 5, 6, 7, 102, 101, 5, 6, 7, 102], [0, 5, 10])
    """

    @staticmethod
    def pack(prefix: np.ndarray, sentences: Sequence[np.ndarray], suffix: np.ndarray) -> bytes:
        """Packs the parts of one caption."""
        header = [len(prefix), len(suffix), len(sentences), *(len(sentence) for sentence in sentences)]
        return np.concatenate([header, prefix, *sentences, suffix]).astype("<i4").tobytes()

    @staticmethod
    def unpack(blob: bytes) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Returns prefix, sentences and suffix of one caption, int32."""
        values = np.frombuffer(blob, dtype="<i4")
        bounds = np.cumsum([3 + values[2], values[0], *values[3 : 3 + values[2]], values[1]])
        pieces = [values[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
        return pieces[0], pieces[1:-1], pieces[-1]

    @staticmethod
    def join(
        blobs: Sequence[bytes], dropout: float = 0.0, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Joins B packed captions with T tokens in total.

        Args:
            blobs: packed captions.
            dropout: probability that a sentence is left out; the first sentence is always kept. The first sentence of
                a ChEBI caption says what the molecule is. The others add roles and relations, a third of which occur
                word by word in other captions.
            generator: source of the random numbers. None disables the dropout.

        Returns:
            The ids (T,) int32, and where each caption begins, (B + 1,) int32.
        """
        # All captions at once: a loop would take as long as hashing their words again.
        values = np.frombuffer(b"".join(blobs), dtype="<i4")
        ends = np.cumsum([len(blob) // 4 for blob in blobs])
        starts = np.concatenate([[0], ends[:-1]])
        sentences = values[starts + 2]
        # The segments of each caption: header, prefix, its sentences, suffix.
        first = np.cumsum(sentences + 3) - (sentences + 3)
        lengths = np.empty(int((sentences + 3).sum()), np.int64)
        kept = np.ones(len(lengths), bool)
        lengths[first], kept[first] = sentences + 3, False
        lengths[first + 1], lengths[first + 2 + sentences] = values[starts], values[starts + 1]
        number = np.arange(sentences.sum()) - np.repeat(np.cumsum(sentences) - sentences, sentences)
        segment = np.repeat(first + 2, sentences) + number
        lengths[segment] = values[np.repeat(starts + 3, sentences) + number]
        if dropout > 0.0 and generator is not None:
            later = segment[number > 0]
            kept[later] = generator.random(len(later)) >= dropout
        offsets = np.concatenate([[0], np.cumsum(np.add.reduceat(lengths * kept, first))]).astype(np.int32)
        return values[np.repeat(kept, lengths)].astype(np.int32, copy=False), offsets


class CaptionStructures:
    """Packs a caption's blob, the structures that it names, and the tokens around their names in one blob.

    Layout, little-endian int32: number of bytes of the caption's blob, number of structures K, 2 K lengths in bytes;
    then the caption's blob, the structures' blobs, and the ids of the tokens around each structure's names.
    """

    LAYOUT = "surroundings"  # part of the cache key: change it with the layout, so that old blobs are not reused

    @staticmethod
    def pack(caption: bytes, structures: dict[bytes, list[int]]) -> bytes:
        """Packs a caption's blob and, by structure, the ids of the tokens around its names."""
        pieces = [caption, *structures, *(np.array(ids, dtype="<i4").tobytes() for ids in structures.values())]
        header = [len(caption), len(structures), *map(len, pieces[1:])]
        return np.array(header, dtype="<i4").tobytes() + b"".join(pieces)

    @staticmethod
    def unpack(blob: bytes) -> tuple[bytes, dict[bytes, np.ndarray]]:
        """Returns the caption's blob and, by structure, the ids (int32) of the tokens around its names."""
        # Without NumPy, since each header has only a few numbers.
        size, count = struct.unpack_from("<2i", blob)
        lengths = struct.unpack_from(f"<{2 * count}i", blob, 8)
        bounds = accumulate((8 + 8 * count, size, *lengths))
        caption, *pieces = [blob[start:end] for start, end in pairwise(bounds)]
        ids = [np.frombuffer(part, dtype="<i4") for part in pieces[count:]]
        return caption, dict(zip(pieces[:count], ids, strict=True))


def pack_tokens(text: str, ids: list[int], special: list[int], offsets: list[tuple[int, int]] | None) -> bytes:
    """The blob of a tokenized caption. Without offsets, which slow tokenizers lack, it is one sentence."""
    tokens, mask = np.array(ids, dtype=np.int32), np.array(special, dtype=bool)
    body = np.flatnonzero(~mask)
    if body.size == 0:
        return CaptionTokens.pack(tokens, [tokens[:0]], tokens[:0])
    first, last = int(body[0]), int(body[-1]) + 1
    inner = tokens[first:last]
    if offsets is None:
        return CaptionTokens.pack(tokens[:first], [inner], tokens[last:])
    ends, position = [], 0
    for sentence in split_sentences(text):
        position = text.index(sentence, position) + len(sentence)
        ends.append(position)
    starts = np.array([offset[0] for offset in offsets[first:last]])
    sentence_of = np.searchsorted(np.array(ends), starts, side="right")
    sentences = [inner[sentence_of == number] for number in range(len(ends))]
    # A truncated caption may end before its last sentences.
    return CaptionTokens.pack(tokens[:first], [part for part in sentences if part.size], tokens[last:])
