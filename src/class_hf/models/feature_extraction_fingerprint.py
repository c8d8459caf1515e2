"""Substructures of a molecule as hashed ids."""

import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rdkit import Chem, rdBase
from transformers import BatchFeature, FeatureExtractionMixin

from .substructures import FURTHER, environments

COUNT_THRESHOLDS = (*range(1, 33), 36, 40, 48, 56, 64, 80, 96, 128)


def parse_smiles(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES.

    Raises:
        ValueError: if `smiles` is empty or RDKit cannot parse it; names the SMILES.
    """
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if isinstance(smiles, str) and smiles.strip() else None
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(f"RDKit cannot parse the SMILES {smiles!r}; expected one non-empty molecule.")
    return molecule


class MoleculeFingerprintFeatureExtractor(FeatureExtractionMixin):
    """Turns a SMILES into the hashed ids of its substructures, counts in unary.

    The substructures are the circular environments of its atoms (Morgan; Rogers & Hahn, 2010), and, as far as they
    are asked for, `torsions` (chains of four atoms), `composition` (numbers of elements, rings, charges, double bonds
    and stereo marks of the whole molecule), `ring_systems` and `pieces` (BRICS); see `substructures.py`.

    A substructure that occurs n times gives one id for each threshold t <= n, so that a bag of embeddings can
    tell one hydroxy group from three (ours). Charge, isotope, R/S and E/Z enter the environments.

    Not told apart: positions further apart than the substructures reach, and centres without an R/S label of their
    own, as in cis- and trans-1,4-dimethylcyclohexane.

    Args:
        radius: largest radius of an environment, in bonds.
        num_buckets: number of ids.
        count_thresholds: the counts that are told apart.
        substructures: what is counted beside the environments.

    Example:

    >>> extractor = MoleculeFingerprintFeatureExtractor(num_buckets=1000)
    >>> batch = extractor(["CCO", "c1ccccc1"])
    >>> batch["fragment_offsets"].shape
    torch.Size([3])
    """

    model_input_names = ["fragment_ids", "fragment_offsets"]

    def __init__(
        self,
        radius: int = 2,
        num_buckets: int = 2**16,
        count_thresholds: Sequence[int] = COUNT_THRESHOLDS,
        substructures: Sequence[str] = ("torsions", "composition"),
        **kwargs: Any,
    ):
        if radius < 0:
            raise ValueError(f"`radius` is {radius}; expected at least 0.")
        if num_buckets < 1:
            raise ValueError(f"`num_buckets` is {num_buckets}; expected at least 1.")
        for name in substructures:
            if name not in FURTHER:
                raise ValueError(f"`substructures` names {name!r}; choose among {', '.join(FURTHER)}.")
        self.radius = radius
        self.num_buckets = num_buckets
        self.count_thresholds = sorted(int(threshold) for threshold in count_thresholds)
        self.substructures = list(substructures)
        super().__init__(**kwargs)

    def encode(self, smiles: str) -> bytes:
        """The ids of one molecule as little-endian int32 bytes.

        Raises:
            ValueError: if RDKit cannot parse the SMILES.
        """
        molecule = parse_smiles(smiles)
        counts = environments(molecule, self.radius)
        for name in self.substructures:
            counts |= FURTHER[name](molecule)
        return self.pack(counts)

    def pack(self, counts: Mapping[str, int]) -> bytes:
        """The ids of counted substructures, as `encode` gives them."""
        ids = [
            zlib.crc32(f"{fragment}:{threshold}".encode()) % self.num_buckets
            for fragment, count in sorted(counts.items())
            for threshold in self.count_thresholds[: bisect_right(self.count_thresholds, count)]
        ]
        return np.array(ids, dtype="<i4").tobytes()

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules: `fragment_ids` (T,) int32 and `fragment_offsets` (B + 1,) int32."""
        offsets = np.cumsum([0] + [len(blob) // 4 for blob in blobs], dtype=np.int32)
        ids = np.frombuffer(b"".join(blobs), dtype="<i4").astype(np.int32)
        return {"fragment_ids": torch.from_numpy(ids), "fragment_offsets": torch.from_numpy(offsets)}

    def __call__(self, smiles: str | Sequence[str], **kwargs: Any) -> BatchFeature:
        """Encodes and joins one SMILES or several."""
        molecules = [smiles] if isinstance(smiles, str) else list(smiles)
        return BatchFeature(self.collate([self.encode(one) for one in molecules]))
