"""A trained model in one object: captions and molecules to vectors, similarities and rankings."""

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import AutoProcessor

from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import MOLECULE_FEATURES, TEXT_FEATURES
from class_hf.evaluation.embedding import embed, evaluating
from class_hf.hub.loading import load_pretrained
from class_hf.hub.onnx_model import OnnxDualEncoder
from class_hf.utils.model_output import output_fields
from class_hf.utils.numbers import positive_integer
from class_hf.utils.protocols import Processor, RetrievalModel
from class_hf.utils.suggestions import check_choice, did_you_mean

Precision = Literal["float32", "float16", "binary", "ubinary"]
Vectors = np.ndarray | torch.Tensor | Sequence[Sequence[float]]

_PRECISIONS = ("float32", "float16", "binary", "ubinary")
_FEATURES = {"text": TEXT_FEATURES, "molecule": MOLECULE_FEATURES}
_RANK_OPTIONS = ("batch_size", "show_progress_bar", "on_error")
_BYTES = (np.dtype("uint8"), np.dtype("int8"), torch.uint8, torch.int8)
_ROWS = 1024  # rows that are featurised at a time, so that an invalid row is found quickly


class RankedMolecule(NamedTuple):
    """One molecule of a ranking.

    Attributes:
        rank: from 1.
        score: cosine with the query, in [-1, 1].
        row: row of the molecule in the given list.
        smiles: the molecule, or None if vectors were given.
    """

    rank: int
    score: float
    row: int
    smiles: str | None


class Encoder:
    """Encodes captions and molecules as L2-normalised vectors of one space.

    The vectors equal those of the Trainer's evaluation. They do not depend on the order of the inputs or on the batch
    size, up to float32 rounding of about 1e-7, and equal inputs get equal vectors. Names and arguments follow `encode`
    of sentence-transformers.

    Args:
        model ([`~class_hf.utils.protocols.RetrievalModel`]): a dual encoder. It runs in evaluation mode, and its mode
            is restored.
        processor ([`TextMoleculeProcessor`]): the processor of the model.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeDualEncoderModel
    >>> from class_hf import TextMoleculeProcessor
    >>> model = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint")
    >>> encoder = Encoder(model, TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor()))
    >>> texts = encoder.encode_text(["The molecule is a primary alcohol.", "The molecule is a thiol."])
    >>> molecules = encoder.encode_molecules(["CCO", "CCS", "c1ccccc1"])
    >>> texts.shape == (2, encoder.dimension), encoder.similarity(texts, molecules).shape
    (True, (2, 3))
    >>> [hit.rank for hit in encoder.rank("a primary alcohol", ["CCO", "CCS", "c1ccccc1"], k=2)]
    [1, 2]
    """

    def __init__(self, model: RetrievalModel, processor: Processor):
        self.model, self.processor = model, processor

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        backend: Literal["torch", "onnx"] = "torch",
    ) -> "Encoder":
        """Loads a trained model.

        Args:
            name (`str`): an id `ORG/NAME` on the Hub, or a folder.
            revision (`str`, *optional*): branch, tag or commit on the Hub. Default: `main`.
            device (`str` or `torch.device`, *optional*): device of the model. Default: the accelerator if there is
                one, otherwise the CPU.
            dtype (`torch.dtype` or `str`, *optional*): float type of the model, such as `"bfloat16"`. Default: that
                of the weights file.
            backend (`str`, *optional*, defaults to `"torch"`): `"torch"`, or `"onnx"` for a model that was exported by
                `class-hf export --format onnx`. ONNX Runtime runs it in float32 on the CPU.

        Returns:
            The encoder.

        Raises:
            ValueError: if there is no such model, or it is damaged, or the type is unknown.

        Example:

        ```python
        encoder = Encoder.from_pretrained("outputs/demo")
        ```
        """
        if backend not in ("torch", "onnx"):
            raise ValueError(f"backend is {backend!r}; expected 'torch' or 'onnx'.")
        if backend == "onnx":
            if dtype not in (None, torch.float32, "float32") or str(device or "cpu") != "cpu":
                raise ValueError("an exported model runs in float32 on the CPU: leave out dtype and device.")
            exported = OnnxDualEncoder(name, revision)
            return cls(exported, AutoProcessor.from_pretrained(name, revision=revision))
        if isinstance(dtype, str):
            kind = getattr(torch, dtype, None)
            if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
                raise ValueError(f"dtype is {dtype!r}; expected 'float32', 'bfloat16' or 'float16'.")
            dtype = kind
        model, processor = load_pretrained(name, argument="the model", revision=revision)
        place = device or torch.accelerator.current_accelerator() or "cpu"
        return cls(model.to(place, dtype).eval(), processor)

    def __repr__(self) -> str:
        return f"Encoder({type(self.model).__name__}, dimension={self.dimension}, device={str(self.device)!r})"

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    @cached_property
    def dimension(self) -> int:
        """Number of components of each vector."""
        return self._embed("molecule", self.processor.encode_molecules(["C"]), 1, False).shape[1]

    def encode_text(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = 256,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        convert_to: Literal["numpy", "torch"] = "numpy",
        on_error: Literal["raise", "nan"] = "raise",
    ) -> Any:
        """Encodes descriptions of molecules.

        Args:
            texts (`str` or `Sequence[str]`): N descriptions, or one.
            batch_size (`int`, *optional*, defaults to 256): descriptions per batch.
            show_progress_bar (`bool`, *optional*): show a progress bar. Default: only on a terminal.
            precision (`str`, *optional*, defaults to `"float32"`): `"float32"`, `"float16"`, or one bit per
                component, eight to a byte: `"ubinary"` (uint8) or `"binary"` (int8), as in sentence-transformers.
            convert_to (`str`, *optional*, defaults to `"numpy"`): `"numpy"` or `"torch"` (on the CPU).
            on_error (`str`, *optional*, defaults to `"raise"`): at a row that is empty or no text: `"raise"`, or
                `"nan"` for a vector of NaN in its place.

        Returns:
            (N, D) L2-normalised vectors in the order of the inputs, or (D,) for one description.

        Raises:
            ValueError: if a row cannot be encoded and `on_error` is `"raise"`, or an argument is unknown.
        """
        return self._encode("text", texts, batch_size, show_progress_bar, precision, convert_to, on_error)

    def encode_molecules(
        self,
        smiles: str | Sequence[str],
        *,
        batch_size: int = 256,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        convert_to: Literal["numpy", "torch"] = "numpy",
        on_error: Literal["raise", "nan"] = "raise",
    ) -> Any:
        """Encodes molecules.

        Args:
            smiles (`str` or `Sequence[str]`): N molecules, or one, as SMILES.
            batch_size (`int`, *optional*, defaults to 256): as for [`encode_text`].
            show_progress_bar (`bool`, *optional*): as for [`encode_text`].
            precision (`str`, *optional*, defaults to `"float32"`): as for [`encode_text`].
            convert_to (`str`, *optional*, defaults to `"numpy"`): as for [`encode_text`].
            on_error (`str`, *optional*, defaults to `"raise"`): at a row that RDKit cannot parse: `"raise"`, or
                `"nan"` for a vector of NaN in its place.

        Returns:
            (N, D) L2-normalised vectors in the order of the inputs, or (D,) for one molecule.

        Raises:
            ValueError: as for [`encode_text`].
        """
        return self._encode("molecule", smiles, batch_size, show_progress_bar, precision, convert_to, on_error)

    @overload
    def similarity(self, a: torch.Tensor, b: Vectors) -> torch.Tensor: ...

    @overload
    def similarity(self, a: np.ndarray | Sequence[Sequence[float]], b: Vectors) -> np.ndarray: ...

    def similarity(self, a: Vectors, b: Vectors) -> Any:
        """Computes the cosine of each vector of `a` with each vector of `b`.

        Args:
            a (`np.ndarray` or `torch.Tensor`): (N, D) vectors, or (D,).
            b (`np.ndarray` or `torch.Tensor`): (M, D) vectors, or (D,).

        Returns:
            (N, M) float32 cosines, of the type of `a`. NaN where a vector is NaN.

        Raises:
            ValueError: if the vectors have different dimensions, or hold one bit per component.
        """
        if any(getattr(vectors, "dtype", None) in _BYTES for vectors in (a, b)):
            raise ValueError("the vectors hold bits (uint8 or int8), which have no cosine. Encode them in float32.")
        left, right = (torch.atleast_2d(torch.as_tensor(vectors)).cpu().float() for vectors in (a, b))
        if left.shape[1] != right.shape[1]:
            raise ValueError(
                f"the vectors have {left.shape[1]} and {right.shape[1]} components; expected equal numbers."
            )
        cosines = F.normalize(left, dim=1) @ F.normalize(right, dim=1).T
        return cosines if isinstance(a, torch.Tensor) else cosines.numpy()

    @overload
    def rank(self, text: str, smiles: Any, k: int | None = None, **options: Any) -> list[RankedMolecule]: ...

    @overload
    def rank(
        self, text: list[str], smiles: Any, k: int | None = None, **options: Any
    ) -> list[list[RankedMolecule]]: ...

    def rank(self, text: str | list[str], smiles: Any, k: int | None = None, **options: Any) -> Any:
        """Ranks molecules by their similarity to a description.

        Args:
            text (`str` or `list[str]`): a description, or several.
            smiles (`Sequence[str]`, `np.ndarray` or `torch.Tensor`): the molecules as SMILES, or their vectors from
                [`encode_molecules`] in float32 or float16.
            k (`int`, *optional*): number of molecules in the result. Default: all.
            **options: further arguments of [`encode_text`] and [`encode_molecules`]: `batch_size`,
                `show_progress_bar`, `on_error`. With `on_error="nan"`, molecules that cannot be parsed are left out.

        Returns:
            The best molecules first, as [`RankedMolecule`]. Molecules with equal scores are in the order of the list.
            For a list of descriptions, a list for each.

        Raises:
            ValueError: if k is less than 1, or an input cannot be encoded.
        """
        positive_integer.check("k", k)
        if unknown := [name for name in options if name not in _RANK_OPTIONS]:
            raise ValueError(f"rank has no argument {unknown[0]!r}; {did_you_mean(unknown[0], _RANK_OPTIONS)}")
        texts = [text] if isinstance(text, str) else text
        queries = self.encode_text(texts, convert_to="torch", **{**options, "on_error": "raise"})
        names: Sequence[str] | None = None
        is_tensor = isinstance(smiles, torch.Tensor)
        if (is_tensor or (isinstance(smiles, np.ndarray) and smiles.dtype.kind in "fiu")) and smiles.ndim == 2:
            candidates = torch.as_tensor(smiles)
            if candidates.shape[1] != self.dimension or not candidates.is_floating_point():
                raise ValueError(
                    f"the vectors of molecules have the type {candidates.dtype} and {candidates.shape[1]} components; "
                    f"expected float32 or float16 and {self.dimension}."
                )
        else:
            names = _listed(smiles, "molecules")
            candidates = self.encode_molecules(names, convert_to="torch", **options)
        # Float64 and rounded: equal molecules get equal scores, and their order is that of the list.
        scores = F.normalize(queries.double(), dim=1) @ F.normalize(candidates.cpu().double(), dim=1).T
        rankings = []
        for row in scores.numpy():
            valid = np.flatnonzero(~np.isnan(row))
            order = valid[np.argsort(-np.round(row[valid], 7), kind="stable")][:k]
            rankings.append(
                [
                    RankedMolecule(rank, float(row[place]), int(place), None if names is None else names[place])
                    for rank, place in enumerate(order, start=1)
                ]
            )
        return rankings[0] if isinstance(text, str) else rankings

    def _encode(
        self,
        side: str,
        inputs: str | Sequence[str],
        batch_size: int,
        show_progress_bar: bool | None,
        precision: str,
        convert_to: str,
        on_error: str,
    ) -> Any:
        """Checks the arguments, encodes the valid rows, and puts NaN in place of the others."""
        check_choice("precision", precision, _PRECISIONS)
        check_choice("convert_to", convert_to, ("numpy", "torch"))
        check_choice("on_error", on_error, ("raise", "nan"))
        positive_integer.check("batch_size", batch_size)
        if on_error == "nan" and precision.endswith("binary"):
            raise ValueError(f"precision {precision!r} has no NaN; use on_error='raise', or another precision.")
        rows = _listed(inputs, "texts" if side == "text" else "molecules")
        blobs = self._features(side, rows, on_error)
        valid = [row for row, blob in enumerate(blobs) if blob is not None]
        vectors = torch.full((len(rows), self.dimension), float("nan"))
        if valid:
            encoded = self._embed(side, [blob for blob in blobs if blob is not None], batch_size, show_progress_bar)
            vectors[valid] = encoded
        result = _quantise(vectors, precision)
        if isinstance(inputs, str):
            result = result[0]
        return torch.from_numpy(result) if convert_to == "torch" else result

    def _features(self, side: str, rows: list[Any], on_error: str) -> list[bytes | None]:
        """The features of each row, or None for a row that cannot be encoded."""
        encode = self.processor.encode_text if side == "text" else self.processor.encode_molecules
        kind = "a text" if side == "text" else "a SMILES"
        blobs: list[bytes | None] = []
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            if all(isinstance(row, str) for row in part):
                try:
                    blobs += encode(part)
                    continue
                except ValueError:
                    pass  # the rows are encoded one by one, to find the invalid ones
            for number, row in enumerate(part, start):
                try:
                    if not isinstance(row, str):
                        raise ValueError(f"{row!r} is a {type(row).__name__}; expected {kind}.")
                    blobs += encode([row])
                except ValueError as error:
                    if on_error == "raise":
                        raise ValueError(f"row {number}: {error} on_error='nan' gives a vector of NaN.") from error
                    blobs.append(None)
        return blobs

    def _embed(self, side: str, blobs: list[bytes], batch_size: int, show_progress_bar: bool | None) -> torch.Tensor:
        """(N, D) L2-normalised vectors of encoded rows, by the code of the evaluation."""
        places = {blob: place for place, blob in enumerate(dict.fromkeys(blobs))}
        if len(places) <= batch_size:  # one batch needs no data set, which takes longer than a light model
            collate = self.processor.collate_text if side == "text" else self.processor.collate_molecules
            batch = {name: value.to(self.device) for name, value in collate(list(places)).items()}
            with evaluating(self.model):
                output = output_fields(self.model(**batch))[f"{side}_embeds"]
            vectors = output.float().cpu()[[places[blob] for blob in blobs]]
        else:
            rows, collator = Dataset.from_dict({_FEATURES[side]: blobs}), TextMoleculeCollator(self.processor)
            vectors = embed(self.model, rows, collator, side, batch_size, progress_bar=show_progress_bar)
        if not torch.isfinite(vectors).all():
            raise ValueError("the vectors of the model are not all finite: the model has diverged.")
        return F.normalize(vectors.float(), dim=1)


def _listed(inputs: Any, name: str) -> list[Any]:
    """The rows of an argument. Mappings and tables are refused: `list` would take the names of their columns."""
    if isinstance(inputs, str):
        return [inputs]
    has_no_order = isinstance(inputs, Mapping | Set | bytes) or getattr(inputs, "ndim", 1) != 1
    if has_no_order or not isinstance(inputs, Iterable):
        raise ValueError(f"the {name} are a {type(inputs).__name__}; expected a string or a list of strings.")
    return list(inputs)


def _quantise(vectors: torch.Tensor, precision: str) -> np.ndarray:
    """The vectors in the type of a precision."""
    if precision == "float32":
        return vectors.numpy()
    if precision == "float16":
        return vectors.half().numpy()
    bits = np.packbits(vectors.numpy() > 0, axis=1)
    # As in sentence-transformers: the signed bytes are the unsigned ones minus 128.
    return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
