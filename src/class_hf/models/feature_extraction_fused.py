"""Turns SMILES into substructures and graphs, both in one blob."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import FeatureExtractionMixin

from .feature_extraction_base import MoleculeFeatureExtractor
from .feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
from .feature_extraction_graph import MoleculeGraphFeatureExtractor

_LENGTH = struct.Struct("<I")


class MoleculeFusedFeatureExtractor(MoleculeFeatureExtractor):
    """Turns SMILES into what [`MoleculeFusedModel`] reads: a fingerprint's ids and a graph.

    Args:
        fingerprint (`dict`, *optional*): arguments of [`MoleculeFingerprintFeatureExtractor`].
        graph (`dict`, *optional*): arguments of [`MoleculeGraphFeatureExtractor`].

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
        self, fingerprint: Mapping[str, Any] | None = None, graph: Mapping[str, Any] | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.names_extractor = MoleculeFingerprintFeatureExtractor(**(fingerprint or {}))
        self._graph_extractor = MoleculeGraphFeatureExtractor(**(graph or {}))
        # All arguments are saved, with today's defaults, which a later release may change.
        self.fingerprint = _arguments(self.names_extractor)
        self.graph = _arguments(self._graph_extractor)

    def to_dict(self) -> dict[str, Any]:
        """Returns what is saved: the arguments, without the two extractors."""
        output = super().to_dict()
        return {name: output[name] for name in output if name not in ("names_extractor", "_graph_extractor")}

    def encode(self, smiles: str) -> bytes:
        """Encodes one molecule.

        Args:
            smiles: a SMILES.

        Returns:
            The length of the fingerprint's blob (uint32), that blob, and the graph's blob.

        Raises:
            ValueError: if the SMILES is invalid or too large (see [`parse_smiles`]).
        """
        fingerprint = self.names_extractor.encode(smiles)
        return _LENGTH.pack(len(fingerprint)) + fingerprint + self._graph_extractor.encode(smiles)

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules.

        Args:
            blobs: results of `encode`, at least one.

        Returns:
            The inputs of both towers.

        Raises:
            ValueError: if there are no blobs, or a graph is damaged or has another layout.
        """
        ends = [_LENGTH.size + _LENGTH.unpack_from(blob)[0] for blob in blobs]
        fingerprints = [blob[_LENGTH.size : end] for blob, end in zip(blobs, ends, strict=True)]
        graphs = [blob[end:] for blob, end in zip(blobs, ends, strict=True)]
        return {**self.names_extractor.collate(fingerprints), **self._graph_extractor.collate(graphs)}


def _arguments(extractor: FeatureExtractionMixin) -> dict[str, Any]:
    """The arguments of a feature extractor, without its type."""
    return {name: value for name, value in extractor.to_dict().items() if name != "feature_extractor_type"}
