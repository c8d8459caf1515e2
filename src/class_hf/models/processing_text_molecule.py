"""Processors: they encode captions and molecules as compact blobs, and join blobs to batches."""

import hashlib
import inspect
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from rdkit import Chem
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from .argument_checks import check_bool, check_integer
from .caption_blobs import CaptionStructures, CaptionTokens, pack_tokens
from .chemical_names import read_names as structures_named
from .chemical_names import reader_versions
from .configuration_text_molecule import MOLECULE_PREFIX, NAMED_INPUT_NAMES, NAMED_PREFIX
from .smiles import parse_smiles
from .tokenization_lexical import check_caption

TEXT_INPUT_NAMES = ("input_ids", "text_offsets")
_LEAST_TOKENS = 3  # [CLS], one token, [SEP]
_PLACEHOLDER = "C"  # the structure of a batch in which no caption names one


class MoleculeFeaturizer(Protocol):
    """What a processor needs of a feature extractor."""

    model_input_names: list[str]

    def encode(self, smiles: str) -> bytes:
        """Encodes one molecule as a blob. Raises ValueError for an invalid SMILES."""

    def collate(self, blobs: Sequence[bytes]) -> Mapping[str, torch.Tensor]:
        """Joins encoded molecules: the inputs of the molecule tower."""


class TextMoleculeProcessor(ProcessorMixin):
    """Tokenizer and molecule featurizer of a dual encoder.

    Preparation has two steps, so that only the first epoch pays for tokenization and RDKit. `encode_text` and
    `encode_molecules` return one compact blob per item, which a data set stores. `collate_text` and
    `collate_molecules` join blobs to a batch.

    Args:
        tokenizer: the text tower's tokenizer: [`LexicalTokenizer`] or any other.
        feature_extractor: the molecule tower's feature extractor.
        max_text_length (`int`, *optional*, defaults to 256): captions are truncated to this number of tokens, at
            least 3. [`LexicalTokenizer`] does not truncate.
        read_names (`bool`, *optional*, defaults to `False`): also encode the structures that a caption names and the
            words around the names (see [`class_hf.models.chemical_names.read_names`]), for a model with `read_names`.
            Needs py2opsin, chemicals and Java.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> sorted(processor(text=["An alcohol."], smiles=["CCO"]))
    ['input_ids', 'molecule_fragment_ids', 'molecule_fragment_offsets', 'text_offsets']
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        feature_extractor: MoleculeFeaturizer,
        max_text_length: int = 256,
        read_names: bool = False,
        **kwargs: Any,
    ):
        super().__init__(tokenizer, feature_extractor, **kwargs)
        self.max_text_length = check_integer("max_text_length", max_text_length, _LEAST_TOKENS)
        self.read_names = check_bool("read_names", read_names)

    @property
    def model_input_names(self) -> list[str]:
        """Names of a batch's tensors: those of captions, and those of molecules with the prefix `molecule_`."""
        molecule = self.feature_extractor.model_input_names
        structure = getattr(self._structure_extractor, "model_input_names", molecule)
        named = [*(NAMED_PREFIX + name for name in structure), *NAMED_INPUT_NAMES] if self.read_names else []
        return [*TEXT_INPUT_NAMES, *named, *(MOLECULE_PREFIX + name for name in molecule)]

    # -- captions ---------------------------------------------------------------------------------------------

    def encode_text(self, texts: Sequence[str]) -> list[bytes]:
        """Encodes captions.

        Args:
            texts: captions of at most 20,000 characters.

        Returns:
            One blob per caption: ids and bounds of sentences (see [`CaptionTokens`]), and with `read_names` the
            structures that it names (see [`CaptionStructures`]).

        Raises:
            ValueError: if a caption is empty or too long. The message gives its position in `texts`, from 0.
            ImportError, OSError: if names are read and OPSIN is not installed or fails.
        """
        for row, text in enumerate(texts):
            check_caption(text, f"caption {row} of the batch")
        captions = self._encode_captions(texts)
        if not self.read_names:
            return captions
        encoded: dict[str, bytes | None] = {}
        blobs = []
        for caption, named in zip(captions, structures_named(texts), strict=True):
            # Two names of one structure count once, with the words around both.
            structures: dict[bytes, list[int]] = {}
            for smiles, surroundings in named:
                if smiles not in encoded:
                    encoded[smiles] = self._encode_or_none(smiles)
                blob = encoded[smiles]
                if blob is not None:
                    # The model reduces the hashes to its number of ids.
                    hashes = (zlib.crc32(token.encode()) & 0x7FFFFFFF for token in surroundings)
                    structures.setdefault(blob, []).extend(hashes)
            blobs.append(CaptionStructures.pack(caption, structures))
        return blobs

    def _encode_or_none(self, smiles: str) -> bytes | None:
        """The blob of a named structure; None if RDKit cannot parse it."""
        try:
            return self._encode_structure(smiles)
        except ValueError:
            return None

    @property
    def _structure_extractor(self) -> MoleculeFeaturizer | None:
        """The feature extractor of named structures; None if it is that of molecules."""
        return getattr(getattr(self, "feature_extractor", None), "names_extractor", None)

    def _encode_structure(self, smiles: str) -> bytes:
        """The blob of a named structure."""
        extractor = self._structure_extractor
        return self.encode_molecules([smiles])[0] if extractor is None else extractor.encode(smiles)

    def _collate_structures(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """The tensors of named structures, with the prefix `named_`."""
        extractor = self._structure_extractor
        molecules: Mapping[str, torch.Tensor] = (
            self.collate_molecules(blobs) if extractor is None else extractor.collate(blobs)
        )
        return {NAMED_PREFIX + name.removeprefix(MOLECULE_PREFIX): value for name, value in molecules.items()}

    def _encode_captions(self, texts: Sequence[str]) -> list[bytes]:
        """One blob of [`CaptionTokens`] a caption."""
        if hasattr(self.tokenizer, "encode_sentences"):
            empty = np.array([], dtype=np.int32)
            return [CaptionTokens.pack(empty, self.tokenizer.encode_sentences(text), empty) for text in texts]
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
        return [pack_tokens(*row) for row in zip(*columns, strict=True)]

    def collate_text(
        self, blobs: Sequence[bytes], sentence_dropout: float = 0.0, generator: np.random.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        """Joins B encoded captions with T tokens, and with `read_names` K named structures, in total.

        Args:
            blobs: results of `encode_text`.
            sentence_dropout: probability that a sentence is left out; the first sentence is always kept. The names of
                a dropped sentence are kept, since the model has `name_dropout`. Default 0.
            generator: source of the random numbers. None disables the dropout.

        Returns:
            `input_ids` (T,) and `text_offsets` (B + 1,), int32, without padding. With `read_names` also the molecule
            tower's inputs with the prefix `named_`, `named_rows` (K,) int64, the caption of each structure, and the
            tokens around the names, `named_context_ids` (N,) and `named_context_offsets` (K + 1,), int32. If no
            caption names a structure, there is one placeholder of row B, since not every tower accepts an empty batch.
        """
        if not self.read_names:
            return self._collate_captions(blobs, sentence_dropout, generator)
        captions, caption_structures = zip(*map(CaptionStructures.unpack, blobs), strict=True)
        structures = [blob for by_blob in caption_structures for blob in by_blob]
        contexts = [ids for by_blob in caption_structures for ids in by_blob.values()]
        rows = np.repeat(np.arange(len(blobs)), [len(by_blob) for by_blob in caption_structures])
        if not structures:
            structures, rows = [self._encode_structure(_PLACEHOLDER)], np.array([len(blobs)])
            contexts = [np.array([], dtype=np.int32)]
        context_ids = np.concatenate(contexts, dtype=np.int32)
        context_offsets = np.cumsum([0, *map(len, contexts)], dtype=np.int32)
        arrays = (rows, context_ids, context_offsets)
        return {
            **self._collate_captions(captions, sentence_dropout, generator),
            **self._collate_structures(structures),
            **dict(zip(NAMED_INPUT_NAMES, map(torch.from_numpy, arrays), strict=True)),
        }

    @staticmethod
    def _collate_captions(
        blobs: Sequence[bytes], sentence_dropout: float, generator: np.random.Generator | None
    ) -> dict[str, torch.Tensor]:
        """The tensors of blobs of [`CaptionTokens`]."""
        ids, offsets = CaptionTokens.join(blobs, sentence_dropout, generator)
        return {"input_ids": torch.from_numpy(ids), "text_offsets": torch.from_numpy(offsets)}

    # -- molecules --------------------------------------------------------------------------------------------

    def encode_molecules(self, smiles: Sequence[str]) -> list[bytes]:
        """Encodes molecules.

        Args:
            smiles: SMILES or CXSMILES.

        Returns:
            One blob per molecule.

        Raises:
            ValueError: if a SMILES is invalid or too large. The message names it.
        """
        return [self.feature_extractor.encode(molecule) for molecule in smiles]

    def collate_molecules(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules: the molecule tower's inputs with the prefix `molecule_`."""
        return {MOLECULE_PREFIX + name: value for name, value in self.feature_extractor.collate(blobs).items()}

    # -- both -------------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        smiles: str | Sequence[str] | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Prepares a batch of captions, molecules or both. Batches are ragged, so there is no padding.

        Args:
            text: one caption, or several. Long ones are truncated to `max_text_length`.
            smiles: one SMILES, or several.
            return_tensors: `"pt"` or `"np"`. Default `"pt"`.

        Returns:
            The inputs of the model.

        Raises:
            ValueError: if there is neither `text` nor `smiles`, or if a caption or a SMILES is invalid or too large.
        """
        if text is None and smiles is None:
            raise ValueError("neither `text` nor `smiles` was passed; pass at least one.")
        for name, rows in (("text", text), ("smiles", smiles)):
            if rows is not None and len(rows) == 0:
                raise ValueError(f"`{name}` is empty; pass at least one.")
        batch: dict[str, torch.Tensor] = {}
        if text is not None:
            batch |= self.collate_text(self.encode_text([text] if isinstance(text, str) else list(text)))
        if smiles is not None:
            molecules = [smiles] if isinstance(smiles, str) else list(smiles)
            batch |= self.collate_molecules(self.encode_molecules(molecules))
        return BatchFeature(batch, tensor_type=return_tensors)

    def content_key(self) -> str:
        """Hash of everything on which the results of `encode_text` and `encode_molecules` depend: a cache key."""
        parts = [type(self).__name__, json.dumps(self.to_dict(), sort_keys=True, default=str)]
        parts += getattr(getattr(self, "feature_extractor", None), "versions", list)()
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
        molecule_tokenizer: the molecule tower's tokenizer, for SMILES.
        max_text_length (`int`, *optional*, defaults to 256): captions are truncated to this number of tokens, at
            least 3.
        max_smiles_length (`int`, *optional*, defaults to 256): SMILES are truncated to this number of tokens, at
            least 3.
        read_names (`bool`, *optional*, defaults to `False`): as for [`TextMoleculeProcessor`].

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        molecule_tokenizer: PreTrainedTokenizerBase,
        max_text_length: int = 256,
        max_smiles_length: int = 256,
        read_names: bool = False,
        **kwargs: Any,
    ):
        self.molecule_tokenizer = molecule_tokenizer
        ProcessorMixin.__init__(self, tokenizer, molecule_tokenizer, **kwargs)
        self.max_text_length = check_integer("max_text_length", max_text_length, _LEAST_TOKENS)
        self.max_smiles_length = check_integer("max_smiles_length", max_smiles_length, _LEAST_TOKENS)
        self.read_names = check_bool("read_names", read_names)

    @property
    def model_input_names(self) -> list[str]:
        """Names of a batch's tensors."""
        named = [*(NAMED_PREFIX + name for name in TEXT_INPUT_NAMES), *NAMED_INPUT_NAMES] if self.read_names else []
        return [*TEXT_INPUT_NAMES, *named, *(MOLECULE_PREFIX + name for name in TEXT_INPUT_NAMES)]

    def encode_molecules(self, smiles: Sequence[str]) -> list[bytes]:
        """Tokenizes SMILES. RDKit checks each one first.

        Args:
            smiles: SMILES, which are tokenized as they are written. RDKit rewrites a CXSMILES as a plain SMILES, with
                the stereochemistry of the extension.

        Returns:
            For each molecule its token ids, as the bytes of an int32 array.

        Raises:
            ValueError: if a SMILES is invalid or too large (see [`parse_smiles`]).
        """
        texts = [_smiles_text(molecule) for molecule in smiles]
        encoded = self.molecule_tokenizer(texts, truncation=True, max_length=self.max_smiles_length)
        return [np.array(ids, dtype="<i4").tobytes() for ids in encoded["input_ids"]]

    def collate_molecules(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded SMILES: `molecule_input_ids` (T,) and `molecule_text_offsets` (B + 1,), int32."""
        offsets = np.cumsum([0] + [len(blob) // 4 for blob in blobs], dtype=np.int32)
        ids = np.frombuffer(b"".join(blobs), dtype="<i4").astype(np.int32)
        names = (MOLECULE_PREFIX + name for name in TEXT_INPUT_NAMES)
        return dict(zip(names, map(torch.from_numpy, (ids, offsets)), strict=True))


def _smiles_text(smiles: str) -> str:
    """The text of a valid SMILES, without white space and without an extension."""
    molecule = parse_smiles(smiles)
    structure, *extension = smiles.split(None, 1)
    return Chem.MolToSmiles(molecule) if extension else structure


def _tokenizer_content(tokenizer: Any) -> str:
    """Everything on which a tokenizer's ids depend, without state that changes while it is used."""
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        return json.dumps({**content, "truncation": None, "padding": None}, sort_keys=True)
    names = [name for name in inspect.signature(type(tokenizer).__init__).parameters if hasattr(tokenizer, name)]
    settings = {name: getattr(tokenizer, name) for name in names}
    return json.dumps([tokenizer.get_vocab(), settings], sort_keys=True, default=str)
