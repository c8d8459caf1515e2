"""Processors: captions and molecules to compact blobs once, and blobs to batches many times."""

import hashlib
import inspect
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .chemical_names import read_names as structures_named
from .chemical_names import reader_versions
from .configuration_text_molecule import MOLECULE_PREFIX, NAMED_INPUT_NAMES, NAMED_PREFIX
from .tokenization_lexical import split_sentences

TEXT_INPUT_NAMES = ("input_ids", "text_offsets")
_STAND_IN = "C"


class CaptionTokens:
    """A caption's token ids with the bounds of its sentences, as one blob.

    Layout, little-endian int32: prefix length, suffix length, number of sentences S, S sentence lengths, then the
    ids: prefix (for instance [CLS]), the sentences one after the other, suffix (for instance [SEP]).
    """

    @staticmethod
    def pack(prefix: np.ndarray, sentences: Sequence[np.ndarray], suffix: np.ndarray) -> bytes:
        """Joins the parts of one caption."""
        head = [len(prefix), len(suffix), len(sentences), *(len(sentence) for sentence in sentences)]
        return np.concatenate([head, prefix, *sentences, suffix]).astype("<i4").tobytes()

    @staticmethod
    def unpack(blob: bytes) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Prefix, sentences and suffix of one caption: int32 arrays."""
        values = np.frombuffer(blob, dtype="<i4")
        bounds = np.cumsum([3 + values[2], values[0], *values[3 : 3 + values[2]], values[1]])
        parts = [values[bounds[i] : bounds[i + 1]] for i in range(len(bounds) - 1)]
        return parts[0], parts[1:-1], parts[-1]

    @staticmethod
    def join(
        blobs: Sequence[bytes], dropout: float = 0.0, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of B captions one after the other, (T,) int32, and where each begins, (B + 1,) int32.

        With `dropout` each sentence but the first is left out with that probability (ours). The first sentence of a
        ChEBI caption says what the molecule is; the others add roles and relations, a third of which repeat word by
        word in other captions.
        """
        # All captions at once: a loop over them would take as long as hashing their words anew.
        values = np.frombuffer(b"".join(blobs), dtype="<i4")
        ends = np.cumsum([len(blob) // 4 for blob in blobs])
        starts = np.concatenate([[0], ends[:-1]])
        sentences = values[starts + 2]
        # The segments of each caption: head, prefix, its sentences, suffix.
        first = np.cumsum(sentences + 3) - (sentences + 3)
        lengths = np.empty(int((sentences + 3).sum()), np.int64)
        kept = np.ones(len(lengths), bool)
        lengths[first], kept[first] = sentences + 3, False
        lengths[first + 1], lengths[first + 2 + sentences] = values[starts], values[starts + 1]
        place = np.arange(sentences.sum()) - np.repeat(np.cumsum(sentences) - sentences, sentences)
        segment = np.repeat(first + 2, sentences) + place
        lengths[segment] = values[np.repeat(starts + 3, sentences) + place]
        if dropout > 0.0 and generator is not None:
            later = segment[place > 0]
            kept[later] = generator.random(len(later)) >= dropout
        offsets = np.concatenate([[0], np.cumsum(np.add.reduceat(lengths * kept, first))]).astype(np.int32)
        return values[np.repeat(kept, lengths)].astype(np.int32, copy=False), offsets


class CaptionStructures:
    """A caption's blob, and the encoded structures that it names with what stands around them, as one blob.

    Layout, little-endian int32: bytes of the caption's blob, number of structures K, 2 K byte lengths; then the
    caption's blob, the structures one after the other, and the ids of the tokens around each.
    """

    LAYOUT = "surroundings"  # to be changed with the layout: blobs of another one are not taken from a cache

    @staticmethod
    def pack(caption: bytes, structures: dict[bytes, list[int]]) -> bytes:
        """Joins the parts of one caption: its blob, and by structure the ids of the tokens around it."""
        parts = [caption, *structures, *(np.array(ids, dtype="<i4").tobytes() for ids in structures.values())]
        head = [len(caption), len(structures), *map(len, parts[1:])]
        return np.array(head, dtype="<i4").tobytes() + b"".join(parts)

    @staticmethod
    def unpack(blob: bytes) -> tuple[bytes, dict[bytes, np.ndarray]]:
        """The caption's blob, and by structure the ids (int32) of the tokens around it."""
        size, count = np.frombuffer(blob, dtype="<i4", count=2)
        lengths = np.frombuffer(blob, dtype="<i4", count=2 * count, offset=8)
        bounds = np.cumsum([8 + 8 * count, size, *lengths])
        caption, *parts = [blob[bounds[i] : bounds[i + 1]] for i in range(len(bounds) - 1)]
        ids = [np.frombuffer(part, dtype="<i4") for part in parts[count:]]
        return caption, dict(zip(parts[:count], ids, strict=True))


class TextMoleculeProcessor(ProcessorMixin):
    """Tokenizer and molecule featurizer of a dual encoder.

    Preparation is split in two, so that no epoch but the first pays for tokenization or RDKit: `encode_text` and
    `encode_molecules` give one compact blob an item, to be stored; `collate` joins blobs into a batch.

    Args:
        tokenizer: the text tower's tokenizer; [`LexicalTokenizer`] or any other.
        feature_extractor: the molecule tower's featurizer.
        max_text_length: captions are cut to so many tokens; ignored by the lexical tower.
        read_names: a caption comes with the structures that it names, each once, encoded as molecules are, and with
            what stands around the names (see [`class_hf.models.chemical_names.read_names`]); for a model with
            `read_names`. Needs py2opsin, chemicals and Java.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> sorted(processor(text=["An alcohol."], smiles=["CCO"]))
    ['input_ids', 'molecule_fragment_ids', 'molecule_fragment_offsets', 'text_offsets']
    """

    def __init__(
        self,
        tokenizer: Any,
        feature_extractor: Any,
        max_text_length: int = 256,
        read_names: bool = False,
        **kwargs: Any,
    ):
        super().__init__(tokenizer, feature_extractor, **kwargs)
        if max_text_length < 3:
            raise ValueError(f"`max_text_length` is {max_text_length}; expected at least 3 tokens.")
        self.max_text_length = max_text_length
        self.read_names = read_names

    @property
    def model_input_names(self) -> list[str]:
        """Names of a batch: the caption's, and the molecule side's with its prefix."""
        molecule = self.feature_extractor.model_input_names
        structure = getattr(self._names_extractor, "model_input_names", molecule)
        named = [*(NAMED_PREFIX + name for name in structure), *NAMED_INPUT_NAMES] if self.read_names else []
        return [*TEXT_INPUT_NAMES, *named, *(MOLECULE_PREFIX + name for name in molecule)]

    # -- captions ---------------------------------------------------------------------------------------------

    def encode_text(self, texts: Sequence[str]) -> list[bytes]:
        """One blob a caption: ids and sentence bounds (see [`CaptionTokens`]), and what it names if that is read.

        Raises:
            ValueError: if a caption is empty; names it by its place.
            ImportError, OSError: if names are to be read, and what reads them is not installed.
        """
        for place, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"caption {place} of the batch is {text!r}; expected a non-empty text.")
        captions = self._encode_captions(texts)
        if not self.read_names:
            return captions
        encoded: dict[str, bytes | None] = {}
        blobs = []
        for caption, named in zip(captions, structures_named(texts), strict=True):
            # What two names have in common counts once, with what stands around each.
            structures: dict[bytes, list[int]] = {}
            for smiles, around in named:
                if smiles not in encoded:
                    encoded[smiles] = self._encode_or_none(smiles)
                blob = encoded[smiles]
                if blob is not None:
                    # The model reduces the hash to its own number of ids.
                    structures.setdefault(blob, []).extend(zlib.crc32(token.encode()) & 0x7FFFFFFF for token in around)
            blobs.append(CaptionStructures.pack(caption, structures))
        return blobs

    def _encode_or_none(self, smiles: str) -> bytes | None:
        """A structure that a name stands for; None if RDKit does not take it."""
        try:
            return self._encode_structure(smiles)
        except ValueError:
            return None

    @property
    def _names_extractor(self) -> Any:
        """What encodes named structures, if they are not encoded as molecules are."""
        return getattr(getattr(self, "feature_extractor", None), "names_extractor", None)

    def _encode_structure(self, smiles: str) -> bytes:
        own = self._names_extractor
        return self.encode_molecules([smiles])[0] if own is None else own.encode(smiles)

    def _collate_structures(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        own = self._names_extractor
        molecules = self.collate_molecules(blobs) if own is None else own.collate(blobs)
        return {NAMED_PREFIX + name.removeprefix(MOLECULE_PREFIX): value for name, value in molecules.items()}

    def _encode_captions(self, texts: Sequence[str]) -> list[bytes]:
        if hasattr(self.tokenizer, "encode_sentences"):
            nothing = np.array([], dtype=np.int32)
            return [CaptionTokens.pack(nothing, self.tokenizer.encode_sentences(text), nothing) for text in texts]
        fast = self.tokenizer.is_fast
        encoded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_text_length,
            return_special_tokens_mask=True,
            return_offsets_mapping=fast,
        )
        offsets = encoded["offset_mapping"] if fast else [None] * len(texts)
        columns = (texts, encoded["input_ids"], encoded["special_tokens_mask"], offsets)
        return [_pack_tokens(*row) for row in zip(*columns, strict=True)]

    def collate_text(
        self, blobs: Sequence[bytes], sentence_dropout: float = 0.0, generator: np.random.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        """Joins encoded captions: `input_ids` (T,) and `text_offsets` (B + 1,), int32. The model pads what it must.

        With `read_names` also the structures: the molecule tower's inputs with the prefix `named_`, and `named_rows`
        (K,) int64, the caption that names each, and the tokens around the names: `named_context_ids` (N,) and
        `named_context_offsets` (K + 1,), int32. Dropped sentences keep theirs: `name_dropout` is the model's. Where
        nothing is named there is one structure of no caption, of row B, since not every tower runs on none.
        """
        named: dict[str, torch.Tensor] = {}
        if self.read_names:
            captions, structures = zip(*map(CaptionStructures.unpack, blobs), strict=True)
            found = [blob for own in structures for blob in own]
            around = [ids for own in structures for ids in own.values()]
            rows = np.repeat(np.arange(len(blobs)), [len(own) for own in structures])
            if not found:
                found, rows = [self._encode_structure(_STAND_IN)], np.array([len(blobs)])
                around = [np.array([], dtype=np.int32)]
            context = (np.concatenate(around, dtype=np.int32), np.cumsum([0, *map(len, around)], dtype=np.int32))
            own = dict(zip(NAMED_INPUT_NAMES, map(torch.from_numpy, (rows, *context)), strict=True))
            named = {**self._collate_structures(found), **own}
            blobs = captions
        ids, offsets = CaptionTokens.join(blobs, sentence_dropout, generator)
        return {"input_ids": torch.from_numpy(ids), "text_offsets": torch.from_numpy(offsets), **named}

    # -- molecules --------------------------------------------------------------------------------------------

    def encode_molecules(self, smiles: Sequence[str]) -> list[bytes]:
        """One blob a molecule.

        Raises:
            ValueError: if RDKit cannot parse a SMILES; names it.
        """
        return [self.feature_extractor.encode(one) for one in smiles]

    def collate_molecules(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules; the tower's input names with the prefix `molecule_`."""
        return {MOLECULE_PREFIX + name: value for name, value in self.feature_extractor.collate(blobs).items()}

    # -- both -------------------------------------------------------------------------------------------------

    def __call__(
        self, text: str | Sequence[str] | None = None, smiles: str | Sequence[str] | None = None, **kwargs: Any
    ) -> BatchFeature:
        """A batch straight from captions, molecules or both.

        Raises:
            ValueError: if neither is given, or a caption or SMILES is bad.
        """
        if text is None and smiles is None:
            raise ValueError("neither `text` nor `smiles` is given; pass at least one.")
        batch: dict[str, torch.Tensor] = {}
        if text is not None:
            batch |= self.collate_text(self.encode_text([text] if isinstance(text, str) else list(text)))
        if smiles is not None:
            molecules = [smiles] if isinstance(smiles, str) else list(smiles)
            batch |= self.collate_molecules(self.encode_molecules(molecules))
        return BatchFeature(batch)

    def content_key(self) -> str:
        """Hash of all that decides what `encode_text` and `encode_molecules` give: the key of their caches."""
        parts = [type(self).__name__, json.dumps(self.to_dict(), sort_keys=True, default=str)]
        if self.read_names:
            parts += [*reader_versions(), CaptionStructures.LAYOUT]
        for name in self.get_attributes():
            part = getattr(self, name)
            if "tokenizer" in name:
                parts += [type(part).__name__, _tokenizer_content(part)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class TextSmilesProcessor(TextMoleculeProcessor):
    """The processor of a dual encoder whose molecule tower reads SMILES as text.

    Args:
        tokenizer: the text tower's tokenizer.
        molecule_tokenizer: the molecule tower's tokenizer, over SMILES.
        max_text_length, max_smiles_length: captions and SMILES are cut to so many tokens.
        read_names: see [`TextMoleculeProcessor`].
    """

    def __init__(
        self,
        tokenizer: Any,
        molecule_tokenizer: Any,
        max_text_length: int = 256,
        max_smiles_length: int = 256,
        read_names: bool = False,
        **kwargs: Any,
    ):
        self.molecule_tokenizer: Any = molecule_tokenizer
        ProcessorMixin.__init__(self, tokenizer, molecule_tokenizer, **kwargs)
        self.max_text_length = max_text_length
        self.max_smiles_length = max_smiles_length
        self.read_names = read_names

    @property
    def model_input_names(self) -> list[str]:
        """Names of a batch."""
        named = [*(NAMED_PREFIX + name for name in TEXT_INPUT_NAMES), *NAMED_INPUT_NAMES] if self.read_names else []
        return [*TEXT_INPUT_NAMES, *named, *(MOLECULE_PREFIX + name for name in TEXT_INPUT_NAMES)]

    def encode_molecules(self, smiles: Sequence[str]) -> list[bytes]:
        """One blob of int32 token ids a SMILES.

        Raises:
            ValueError: if a SMILES is empty.
        """
        for place, one in enumerate(smiles):
            if not isinstance(one, str) or not one.strip():
                raise ValueError(f"SMILES {place} of the batch is {one!r}; expected a non-empty SMILES.")
        encoded = self.molecule_tokenizer(list(smiles), truncation=True, max_length=self.max_smiles_length)
        return [np.array(ids, dtype="<i4").tobytes() for ids in encoded["input_ids"]]

    def collate_molecules(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """`molecule_input_ids` (T,) and `molecule_text_offsets` (B + 1,), int32."""
        offsets = np.cumsum([0] + [len(blob) // 4 for blob in blobs], dtype=np.int32)
        ids = np.frombuffer(b"".join(blobs), dtype="<i4").astype(np.int32)
        names = (MOLECULE_PREFIX + name for name in TEXT_INPUT_NAMES)
        return dict(zip(names, map(torch.from_numpy, (ids, offsets)), strict=True))


def _pack_tokens(text: str, ids: list[int], special: list[int], offsets: list[tuple[int, int]] | None) -> bytes:
    """One tokenized caption with its sentence bounds; one sentence if the tokenizer knows no offsets."""
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
    owner = np.searchsorted(np.array(ends), starts, side="right")
    sentences = [inner[owner == number] for number in range(len(ends))]
    # A cut caption may end before its last sentences.
    return CaptionTokens.pack(tokens[:first], [part for part in sentences if part.size], tokens[last:])


def _tokenizer_content(tokenizer: Any) -> str:
    """What decides a tokenizer's ids, without the bookkeeping that it changes while it works."""
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        return json.dumps({**content, "truncation": None, "padding": None}, sort_keys=True)
    names = [name for name in inspect.signature(type(tokenizer).__init__).parameters if hasattr(tokenizer, name)]
    settings = {name: getattr(tokenizer, name) for name in names}
    return json.dumps([tokenizer.get_vocab(), settings], sort_keys=True, default=str)
