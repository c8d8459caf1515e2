"""Molecules as substructures and as graphs, both in one blob."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import BatchFeature, FeatureExtractionMixin

from .feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
from .feature_extraction_graph import MoleculeGraphFeatureExtractor

_LENGTH = struct.Struct("<I")


class MoleculeFusedFeatureExtractor(FeatureExtractionMixin):
    """What [`MoleculeFusedModel`] reads: a fingerprint's ids and a graph.

    Args:
        fingerprint: arguments of [`MoleculeFingerprintFeatureExtractor`].
        graph: arguments of [`MoleculeGraphFeatureExtractor`].

    Attributes:
        names_extractor: encodes the structures that captions name, which the tower reads by their fingerprint alone.

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
        # With the defaults of today, which a later release may change.
        self.fingerprint = _arguments(self.names_extractor)
        self.graph = _arguments(self._graph_extractor)

    def to_dict(self) -> dict[str, Any]:
        """What is saved: the arguments, without the two extractors that are made of them."""
        output = super().to_dict()
        return {name: output[name] for name in output if name not in ("names_extractor", "_graph_extractor")}

    def encode(self, smiles: str) -> bytes:
        """The fingerprint's blob, with its length (uint32) before it, and the graph's.

        Raises:
            ValueError: if RDKit cannot parse the SMILES.
        """
        fingerprint = self.names_extractor.encode(smiles)
        return _LENGTH.pack(len(fingerprint)) + fingerprint + self._graph_extractor.encode(smiles)

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules: the inputs of both towers.

        Raises:
            ValueError: if `blobs` is empty, or a graph in it is damaged or of another layout.
        """
        ends = [_LENGTH.size + _LENGTH.unpack_from(blob)[0] for blob in blobs]
        fingerprints = [blob[_LENGTH.size : end] for blob, end in zip(blobs, ends, strict=True)]
        graphs = [blob[end:] for blob, end in zip(blobs, ends, strict=True)]
        return {**self.names_extractor.collate(fingerprints), **self._graph_extractor.collate(graphs)}

    def __call__(self, smiles: str | Sequence[str], **kwargs: Any) -> BatchFeature:
        """Encodes and joins one SMILES or several."""
        molecules = [smiles] if isinstance(smiles, str) else list(smiles)
        return BatchFeature(self.collate([self.encode(one) for one in molecules]))


def _arguments(extractor: FeatureExtractionMixin) -> dict[str, Any]:
    return {name: value for name, value in extractor.to_dict().items() if name != "feature_extractor_type"}
