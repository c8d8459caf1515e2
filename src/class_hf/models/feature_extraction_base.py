"""The base of all feature extractors: each molecule is encoded as one blob, and blobs are joined to a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import BatchFeature, FeatureExtractionMixin

from .argument_checks import check_misspelt


class MoleculeFeatureExtractor(FeatureExtractionMixin):
    """Base of the feature extractors. A subclass defines `encode`, `collate` and `model_input_names`."""

    model_input_names: list[str]

    def __init__(self, **kwargs: Any):
        check_misspelt(type(self), kwargs)
        super().__init__(**kwargs)

    def encode(self, smiles: str) -> bytes:
        """Encodes one molecule. Raises ValueError if the SMILES is invalid or too large."""
        raise NotImplementedError

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules: results of `encode` to the inputs of the molecule tower."""
        raise NotImplementedError

    def versions(self) -> list[str]:
        """Versions of other packages on which the results of `encode` depend, apart from RDKit. Default: none."""
        return []

    def __call__(self, smiles: str | Sequence[str], return_tensors: str | None = "pt") -> BatchFeature:
        """Encodes and joins one SMILES or several.

        Args:
            smiles: one SMILES, or B of them.
            return_tensors: `"pt"` or `"np"`. Default `"pt"`.

        Returns:
            The output of `collate`.

        Raises:
            ValueError: if a SMILES is invalid or too large.
        """
        molecules = [smiles] if isinstance(smiles, str) else list(smiles)
        blobs = [self.encode(molecule) for molecule in molecules]
        return BatchFeature(self.collate(blobs), tensor_type=return_tensors)
