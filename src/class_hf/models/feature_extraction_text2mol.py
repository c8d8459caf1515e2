"""Molecules as Text2Mol reads them: the substructures of each atom, and the bonds between the atoms."""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from rdkit.Chem import rdFingerprintGenerator
from transformers import BatchFeature, FeatureExtractionMixin

from .feature_extraction_fingerprint import parse_smiles


@lru_cache(maxsize=8)
def _generator(radius: int, include_chirality: bool) -> Any:
    # Redundant environments too, or one of the two atoms of a diatomic molecule would miss its second substructure.
    return rdFingerprintGenerator.GetMorganGenerator(
        radius=radius, includeChirality=include_chirality, includeRedundantEnvironments=True
    )


class Text2MolFeatureExtractor(FeatureExtractionMixin):
    """Turns a SMILES into the hashed Morgan substructures around each of its atoms, and its bonds.

    An atom has one substructure for each radius from 0 on, as far as it has neighbours. A substructure that occurs n
    times in a molecule is there n times, so that a sum over it counts as mol2vec's does (Jaeger et al., 2018).
    [`MoleculeFingerprintFeatureExtractor`] cannot serve: it gives each count an id of its own, and knows no atoms.

    Args:
        radius: largest radius of a substructure, in bonds; 1 as published.
        num_buckets: number of ids. The 33,010 molecules of ChEBI-20 have 6,244 substructures, a tenth of which share
            their id with another one.
        include_chirality: whether R and S enter the substructures; as published they do not.

    Example:

    >>> batch = Text2MolFeatureExtractor()(["CCO", "[Na+].[Cl-]"])  # an ion has no neighbour, so one substructure
    >>> {name: tuple(tensor.shape) for name, tensor in batch.items()}
    {'fragment_ids': (8,), 'fragment_counts': (5,), 'atom_counts': (2,), 'bond_index': (2, 2)}
    """

    model_input_names = ["fragment_ids", "fragment_counts", "atom_counts", "bond_index"]

    def __init__(
        self, radius: int = 1, num_buckets: int = 2**16, include_chirality: bool = False, **kwargs: Any
    ) -> None:
        if radius < 0:
            raise ValueError(f"`radius` is {radius}; expected at least 0.")
        if num_buckets < 1:
            raise ValueError(f"`num_buckets` is {num_buckets}; expected at least 1.")
        self.radius = radius
        self.num_buckets = num_buckets
        self.include_chirality = include_chirality
        super().__init__(**kwargs)

    def encode(self, smiles: str) -> bytes:
        """One molecule as little-endian int32: numbers of atoms N and of bonds E, substructures of each atom (N,), the
        two atoms of each bond (E, 2), the ids, atom by atom.

        Raises:
            ValueError: if RDKit cannot parse the SMILES.
        """
        molecule = parse_smiles(smiles)
        output = rdFingerprintGenerator.AdditionalOutput()
        output.AllocateAtomToBits()
        _generator(self.radius, self.include_chirality).GetSparseCountFingerprint(molecule, additionalOutput=output)
        fragments = output.GetAtomToBits()
        ids = [zlib.crc32(str(one).encode()) % self.num_buckets for of_atom in fragments for one in of_atom]
        ends = [end for bond in molecule.GetBonds() for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())]
        head = [molecule.GetNumAtoms(), molecule.GetNumBonds(), *map(len, fragments)]
        return np.array(head + ends + ids, dtype="<i4").tobytes()

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins B encoded molecules of A atoms, E bonds and T substructures in all.

        Returns:
            `fragment_ids` (T,) int32, atom by atom; `fragment_counts` (A,) int64, substructures of each atom;
            `atom_counts` (B,) int64; `bond_index` (2, E) int64, places among the A atoms, each bond once.
        """
        ids, counts, ends = [], [], []
        sizes: list[int] = []
        for blob in blobs:
            values = np.frombuffer(blob, dtype="<i4")
            atoms, bonds = values[:2]
            of_atoms, of_bonds, of_ids = np.split(values[2:], [atoms, atoms + 2 * bonds])
            counts.append(of_atoms)
            ends.append(of_bonds.reshape(-1, 2) + sum(sizes))
            ids.append(of_ids)
            sizes.append(int(atoms))
        return {
            "fragment_ids": torch.from_numpy(np.concatenate(ids).astype(np.int32)),
            "fragment_counts": torch.from_numpy(np.concatenate(counts).astype(np.int64)),
            "atom_counts": torch.tensor(sizes),
            "bond_index": torch.from_numpy(np.ascontiguousarray(np.concatenate(ends).astype(np.int64).T)),
        }

    def __call__(self, smiles: str | Sequence[str], **kwargs: Any) -> BatchFeature:
        """Encodes and joins one SMILES or several."""
        molecules = [smiles] if isinstance(smiles, str) else list(smiles)
        return BatchFeature(self.collate([self.encode(one) for one in molecules]))
