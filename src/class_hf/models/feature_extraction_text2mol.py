"""Turns SMILES into what Text2Mol reads: the substructures of each atom, and the bonds between atoms."""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from rdkit.Chem import rdFingerprintGenerator

from .argument_checks import check_bool, check_integer
from .feature_extraction_base import MoleculeFeatureExtractor
from .smiles import parse_smiles

UNKNOWN = "UNK"  # the entry of a vocabulary for all other substructures


def _rows_of(vocabulary: Sequence[str]) -> dict[str, int]:
    """The row of each entry."""
    rows = {entry: row for row, entry in enumerate(vocabulary)}
    wrong = [entry for entry in rows if entry != UNKNOWN and not str(entry).isdecimal()]
    if wrong or len(rows) < len(vocabulary):
        fault = f"{wrong[0]!r}, which is no id of a substructure" if wrong else "an entry twice"
        raise ValueError(f"vocabulary has {fault}; expected different decimal numbers and {UNKNOWN}.")
    return rows


@lru_cache(maxsize=8)
def _generator(radius: int, include_chirality: bool) -> Any:
    """RDKit's Morgan generator."""
    # With redundant environments. Without them an atom of a diatomic molecule would lack its second substructure.
    return rdFingerprintGenerator.GetMorganGenerator(
        radius=radius, includeChirality=include_chirality, includeRedundantEnvironments=True
    )


class Text2MolFeatureExtractor(MoleculeFeatureExtractor):
    """Turns a SMILES into the hashed Morgan substructures around each atom, and the bonds.

    An atom has one substructure for each radius from 0, as far as it has neighbours. A substructure that occurs n
    times has its id n times, so a sum of embeddings counts substructures as mol2vec does (Jaeger et al., 2018).
    [`MoleculeFingerprintFeatureExtractor`] is not suitable: it gives each count another id and ignores atoms.

    Args:
        radius (`int`, *optional*, defaults to 1): largest radius of a substructure, in bonds. The default is the
            published one.
        num_buckets (`int`, *optional*, defaults to 65,536): number of ids. The 33,010 molecules of ChEBI-20 have
            6,244 substructures, a tenth of which share their id with another.
        include_chirality (`bool`, *optional*, defaults to `False`): whether R and S are part of the substructures.
            The default is the published one.
        vocabulary (`Sequence[str]`, *optional*): RDKit's ids of substructures as decimal numbers, and `UNK` for all
            others, in the order of the embedding table: the tokens of
            [`Mol2vecVectors`][class_hf.models.mol2vec.Mol2vecVectors]. Then ids are not hashed, and `num_buckets` is
            their number. Without `UNK`, other substructures are left out.
        largest_only (`bool`, *optional*, defaults to `False`): whether an atom has its largest substructure only, as
            the published graphs have.

    Raises:
        ValueError: if an argument is out of its range, or the vocabulary has an entry twice or one that is no id.

    Example:

    >>> batch = Text2MolFeatureExtractor()(["CCO", "[Na+].[Cl-]"])  # an ion without neighbours has one substructure
    >>> {name: tuple(tensor.shape) for name, tensor in batch.items()}
    {'fragment_ids': (8,), 'fragment_counts': (5,), 'atom_counts': (2,), 'bond_index': (2, 2)}
    """

    model_input_names = ["fragment_ids", "fragment_counts", "atom_counts", "bond_index"]

    def __init__(
        self,
        radius: int = 1,
        num_buckets: int = 2**16,
        include_chirality: bool = False,
        vocabulary: Sequence[str] | None = None,
        largest_only: bool = False,
        **kwargs: Any,
    ) -> None:
        self.radius = check_integer("radius", radius, 0)
        self.vocabulary = None if vocabulary is None else list(vocabulary)
        size = num_buckets if self.vocabulary is None else len(self.vocabulary)
        self.num_buckets = check_integer("num_buckets", size, 1)
        self.include_chirality = check_bool("include_chirality", include_chirality)
        self.largest_only = check_bool("largest_only", largest_only)
        self._rows = None if self.vocabulary is None else _rows_of(self.vocabulary)
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The arguments, for saving."""
        values = super().to_dict()
        del values["_rows"]
        return values

    def _ids(self, fragments: Sequence[int]) -> list[int]:
        """Rows of the embedding table for the substructures of an atom, the smallest first."""
        fragments = fragments[-1:] if self.largest_only else fragments
        if self._rows is None:
            return [zlib.crc32(str(fragment).encode()) % self.num_buckets for fragment in fragments]
        rows = (self._rows.get(str(fragment), self._rows.get(UNKNOWN)) for fragment in fragments)
        return [row for row in rows if row is not None]

    def encode(self, smiles: str) -> bytes:
        """Encodes one molecule.

        Args:
            smiles: a SMILES.

        Returns:
            Little-endian int32: number of atoms N, number of bonds E, number of substructures of each atom (N,), the
            two atoms of each bond (E, 2), the ids of one atom after those of another.

        Raises:
            ValueError: if the SMILES is invalid or too large (see [`parse_smiles`]).
        """
        molecule = parse_smiles(smiles)
        output = rdFingerprintGenerator.AdditionalOutput()
        output.AllocateAtomToBits()
        _generator(self.radius, self.include_chirality).GetSparseCountFingerprint(molecule, additionalOutput=output)
        atom_ids = [self._ids(fragments) for fragments in output.GetAtomToBits()]
        ends = [end for bond in molecule.GetBonds() for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())]
        header = [molecule.GetNumAtoms(), molecule.GetNumBonds(), *map(len, atom_ids)]
        return np.array([*header, *ends, *chain.from_iterable(atom_ids)], dtype="<i4").tobytes()

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins B encoded molecules with A atoms, E bonds and T substructures in total.

        Args:
            blobs: results of `encode`.

        Returns:
            `fragment_ids` (T,) int32, the ids of one atom after those of another; `fragment_counts` (A,) int64, number
            of substructures of each atom; `atom_counts` (B,) int64; `bond_index` (2, E) int64, indices among the A
            atoms, each bond once.
        """
        ids, counts, ends = [], [], []
        sizes: list[int] = []
        for blob in blobs:
            values = np.frombuffer(blob, dtype="<i4")
            atoms, bonds = values[:2]
            atom_counts, bond_ends, fragment_ids = np.split(values[2:], [atoms, atoms + 2 * bonds])
            counts.append(atom_counts)
            ends.append(bond_ends.reshape(-1, 2) + sum(sizes))
            ids.append(fragment_ids)
            sizes.append(int(atoms))
        return {
            "fragment_ids": torch.from_numpy(np.concatenate(ids).astype(np.int32)),
            "fragment_counts": torch.from_numpy(np.concatenate(counts).astype(np.int64)),
            "atom_counts": torch.tensor(sizes),
            "bond_index": torch.from_numpy(np.ascontiguousarray(np.concatenate(ends).astype(np.int64).T)),
        }
