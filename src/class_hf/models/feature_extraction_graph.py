"""Turns SMILES into graphs of categorical atom and bond features, as one compact blob per molecule."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdCIPLabeler

from .configuration_graph import ATOM_FEATURES, BOND_FEATURES, FEATURE_VERSION
from .feature_extraction_base import MoleculeFeatureExtractor
from .smiles import shared_molecule

_HEADER = struct.Struct("<HHH")  # layout version, number of atoms, number of bonds; all indices are uint16 too
_NUM_ATOM_FEATURES = len(ATOM_FEATURES)
_NUM_BOND_FEATURES = len(BOND_FEATURES)
_BOND_ENDS_BYTES = 4  # begin and end atom, uint16 each

# RDKit's documentation names 600 iterations for a 20 kDa protein, and about a second for 1,250,000 iterations.
_MAX_CIP_ITERATIONS = 100_000
_ATOM_STEREO = {"R": 1, "S": 2, "r": 3, "s": 4}
_BOND_STEREO = {"E": 1, "Z": 2, "e": 3, "z": 4}
_UNLABELLED = 5

# RDKit's numbering of hybridisations differs between releases, so indices are fixed here.
_HYBRIDISATION = {
    Chem.HybridizationType.UNSPECIFIED: 0,
    Chem.HybridizationType.S: 1,
    Chem.HybridizationType.SP: 2,
    Chem.HybridizationType.SP2: 3,
    Chem.HybridizationType.SP2D: 4,
    Chem.HybridizationType.SP3: 5,
    Chem.HybridizationType.SP3D: 6,
    Chem.HybridizationType.SP3D2: 7,
}
_OTHER_HYBRIDISATION = 8
_BOND_TYPE = {
    Chem.BondType.SINGLE: 1,
    Chem.BondType.DOUBLE: 2,
    Chem.BondType.TRIPLE: 3,
    Chem.BondType.AROMATIC: 4,
    Chem.BondType.DATIVE: 5,
}
_NO_TAG = Chem.ChiralType.CHI_UNSPECIFIED
_NO_STEREO = Chem.BondStereo.STEREONONE


class MoleculeGraphFeatureExtractor(MoleculeFeatureExtractor):
    r"""Turns SMILES into the graphs that [`MoleculeGraphModel`] reads.

    Each feature is a small categorical index (`ATOM_FEATURES` and `BOND_FEATURES` in `configuration_graph.py` list
    them). It depends on the molecule and not on how the SMILES is written. Stereo is therefore encoded by CIP labels
    (Hanson et al., 2018; RDKit's `rdCIPLabeler`) and not by `@` and `@@`. A centre without such a label keeps RDKit's
    older label, if it has one. Hydrogens are counted on their atom, except those that RDKit keeps as atoms: isotopes,
    ions and H2.

    These differences are not encoded: geometries other than tetrahedral (cis- and transplatin), axial chirality
    (allenes, atropisomers), the direction of a dative bond, and atom-map numbers.

    Args:
        version (`int`, *optional*, defaults to 1): layout of the features. Only the current version is accepted.
        atom_feature_sizes (F_a `int`, *optional*): number of categories of each atom feature. Only the current sizes
            are accepted.
        bond_feature_sizes (F_b `int`, *optional*): number of categories of each bond feature. Only the current sizes
            are accepted.

    Raises:
        ValueError: if the layout, for instance of a checkpoint, is not the one that this code writes.

    Example:

    ```python
    >>> from class_hf import MoleculeGraphFeatureExtractor
    >>> extractor = MoleculeGraphFeatureExtractor()
    >>> batch = extractor(["CCO", "[Na+].[Cl-]"])
    >>> {name: tuple(tensor.shape) for name, tensor in batch.items()}
    {'atom_features': (5, 10), 'atom_counts': (2,), 'bond_index': (2, 2), 'bond_features': (2, 4)}

    ```
    """

    model_input_names = ["atom_features", "atom_counts", "bond_index", "bond_features"]

    def __init__(
        self,
        version: int = FEATURE_VERSION,
        atom_feature_sizes: Sequence[int] = tuple(ATOM_FEATURES.values()),
        bond_feature_sizes: Sequence[int] = tuple(BOND_FEATURES.values()),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.atom_feature_sizes = list(atom_feature_sizes)
        self.bond_feature_sizes = list(bond_feature_sizes)
        expected = (self.version, self.atom_feature_sizes, self.bond_feature_sizes)
        written = (FEATURE_VERSION, [*ATOM_FEATURES.values()], [*BOND_FEATURES.values()])
        if expected != written:
            raise ValueError(
                f"this checkpoint expects graph features of version {expected[0]} with atom sizes {expected[1]} "
                f"and bond sizes {expected[2]}, but this code writes version {written[0]} with {written[1]} and "
                f"{written[2]}. Load it with the release that saved it, or train it again."
            )

    def encode(self, smiles: str) -> bytes:
        """Encodes one molecule as one blob.

        Args:
            smiles: a SMILES that RDKit can parse. Several fragments, single ions and `*` are allowed.

        Returns:
            Little-endian bytes: layout version, N and E (uint16 each), atom features (N, F_a) uint8, begin and end
            atoms of the bonds (E, 2) uint16, bond features (E, F_b) uint8. Each bond occurs once. About 18 bytes per
            atom.

        Raises:
            ValueError: if the SMILES is invalid or too large (see [`parse_smiles`]).
        """
        mol = shared_molecule(smiles)
        atom_stereo, bond_stereo = _stereo(mol)
        common_isotopes = _common_isotopes()
        rings = mol.GetRingInfo()
        atoms, bonds = bytearray(), bytearray()
        ends: list[int] = []
        for index, atom in enumerate(mol.GetAtoms()):
            number, isotope = atom.GetAtomicNum(), atom.GetIsotope()
            atoms += bytes(
                (
                    number,
                    min(atom.GetDegree(), 12),
                    min(max(atom.GetFormalCharge(), -7), 7) + 7,
                    min(max(32 + isotope - common_isotopes[number], 1), 63) if isotope else 0,
                    # With explicit hydrogens: deuterium is an atom in RDKit, but heavy water should resemble water.
                    min(atom.GetTotalNumHs(includeNeighbors=True), 8),
                    atom_stereo.get(index, 0),
                    atom.GetIsAromatic(),
                    min(rings.MinAtomRingSize(index), 20),
                    _HYBRIDISATION.get(atom.GetHybridization(), _OTHER_HYBRIDISATION),
                    min(atom.GetNumRadicalElectrons(), 5),
                )
            )
        for index, bond in enumerate(mol.GetBonds()):
            ends += (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
            bonds += bytes(
                (
                    _BOND_TYPE.get(bond.GetBondType(), 0),
                    bond_stereo.get(index, 0),
                    bond.GetIsConjugated(),
                    bond.IsInRing(),
                )
            )
        header = _HEADER.pack(FEATURE_VERSION, mol.GetNumAtoms(), mol.GetNumBonds())
        return header + atoms + np.array(ends, "<u2").tobytes() + bonds

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules in one ragged batch without padding.

        Args:
            blobs: B results of [`~MoleculeGraphFeatureExtractor.encode`], at least one.

        Returns:
            The inputs of [`MoleculeGraphModel`], tensors for A atoms and E bonds in total. `atom_features`
            (A, atom features) uint8. `atom_counts` (B,) int64. `bond_index` (2, E) int64: the two atoms of each bond,
            as numbers from 0 to A - 1. `bond_features` (E, bond features) uint8.

        Raises:
            ValueError: if there are no blobs, or one is damaged or has another layout version.
        """
        if len(blobs) == 0:
            raise ValueError("collate needs at least one molecule, got none.")
        atoms, ends, bonds, sizes = [], [], [], []
        for row, blob in enumerate(blobs):
            num_atoms, num_bonds = _read_header(blob, row)
            ends_start = _HEADER.size + num_atoms * _NUM_ATOM_FEATURES
            bonds_start = ends_start + num_bonds * _BOND_ENDS_BYTES
            atoms.append(blob[_HEADER.size : ends_start])
            ends.append(blob[ends_start:bonds_start])
            bonds.append(blob[bonds_start:])
            sizes.append((num_atoms, num_bonds))
        atom_counts, bond_counts = np.array(sizes, np.int64).T
        first_atoms = np.cumsum(atom_counts) - atom_counts
        bond_index = np.frombuffer(b"".join(ends), "<u2").reshape(-1, 2).astype(np.int64)
        bond_index += np.repeat(first_atoms, bond_counts)[:, None]
        return {
            "atom_features": _rows(atoms, _NUM_ATOM_FEATURES),
            "atom_counts": torch.from_numpy(atom_counts.copy()),
            "bond_index": torch.from_numpy(np.ascontiguousarray(bond_index.T)),
            "bond_features": _rows(bonds, _NUM_BOND_FEATURES),
        }


def _stereo(mol: Chem.Mol) -> tuple[dict[int, int], dict[int, int]]:
    """Stereo categories of stereo centres and of stereo bonds, by index."""
    centres = [atom for atom in mol.GetAtoms() if atom.GetChiralTag() != _NO_TAG]
    double_bonds = [bond for bond in mol.GetBonds() if bond.GetStereo() != _NO_STEREO]
    if not centres and not double_bonds:
        return {}, {}
    mol = Chem.Mol(mol)  # the labeler writes on it
    # The older labels are read first. The labeler removes those that it cannot confirm (for instance, it considers
    # [1*] and [2*] equal), and all of them if it fails.
    older_atoms = {atom.GetIdx(): _label(atom) for atom in centres}
    older_bonds = {bond.GetIdx(): str(bond.GetStereo()).removeprefix("STEREO") for bond in double_bonds}
    try:
        rdCIPLabeler.AssignCIPLabels(mol, maxRecursiveIterations=_MAX_CIP_ITERATIONS)
    except RuntimeError:  # the molecule is so symmetric that the iterations ran out
        atoms, bonds = older_atoms, older_bonds
    else:
        atoms = {index: _label(mol.GetAtomWithIdx(index)) or older for index, older in older_atoms.items()}
        bonds = {index: _label(mol.GetBondWithIdx(index)) or older for index, older in older_bonds.items()}
    return (
        {index: _ATOM_STEREO.get(label, _UNLABELLED) for index, label in atoms.items()},
        {index: _BOND_STEREO.get(label, _UNLABELLED) for index, label in bonds.items()},
    )


def _label(part: Chem.Atom | Chem.Bond) -> str:
    """The CIP label of an atom or a bond; empty without one."""
    return part.GetProp("_CIPCode") if part.HasProp("_CIPCode") else ""


@lru_cache(maxsize=1)
def _common_isotopes() -> tuple[int, ...]:
    """Mass number of the commonest isotope by atomic number, (119,); 0 for the wildcard."""
    table = Chem.GetPeriodicTable()
    return tuple(table.GetMostCommonIsotope(number) for number in range(ATOM_FEATURES["atomic_number"]))


def _read_header(blob: bytes, row: int) -> tuple[int, int]:
    """Number of atoms and of bonds in a blob. Raises ValueError if its version or its length is wrong."""
    version, num_atoms, num_bonds = _HEADER.unpack_from(blob) if len(blob) >= _HEADER.size else (None, 0, 0)
    if version != FEATURE_VERSION:
        raise ValueError(
            f"blob {row} starts with layout version {version}, expected {FEATURE_VERSION}. "
            "It was prepared by another release or another feature extractor: prepare the molecules again."
        )
    expected = _HEADER.size + num_atoms * _NUM_ATOM_FEATURES + num_bonds * (_BOND_ENDS_BYTES + _NUM_BOND_FEATURES)
    if len(blob) != expected:
        raise ValueError(
            f"blob {row} has {len(blob)} bytes, expected {expected} for {num_atoms} atoms and {num_bonds} "
            "bonds. It is damaged: prepare the molecules again."
        )
    return num_atoms, num_bonds


def _rows(parts: list[bytes], width: int) -> torch.Tensor:
    """Concatenates rows of bytes into a (rows, width) uint8 tensor."""
    # A bytearray, since torch warns about read-only memory.
    return torch.from_numpy(np.frombuffer(bytearray().join(parts), np.uint8).reshape(-1, width))
