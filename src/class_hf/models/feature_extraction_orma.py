"""Molecules as graphs of three levels, atoms, motifs and the molecule: SMILES -> one compact blob -> ragged batch."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from rdkit import Chem, rdBase
from rdkit.Chem import BRICS

from .feature_extraction_graph import MoleculeGraphFeatureExtractor

_HEADER = struct.Struct("<HIHI")  # layout version, bytes of the graph, motifs, places in motifs
_VERSION = 1


def motifs_of(mol: Chem.Mol) -> list[tuple[int, ...]]:
    """The motifs of a molecule: the atoms of each, falling apart as chemists would take the molecule apart.

    The pieces between the bonds that BRICS cuts (Degen et al., 2008); a piece with several rings becomes its rings,
    which share the atoms of fused bonds, and the connected parts of what is left of it. The rule is that of HiMol
    (Zang et al., 2023), which ORMA takes over; it keeps what is left as one motif even if it is in parts.

    Args:
        mol: a sanitised molecule.

    Returns:
        atom indices, ascending within a motif; motifs by their atoms. Every atom is in at least one motif.

    Example:

    >>> motifs_of(Chem.MolFromSmiles("CC(=O)Nc1ccccc1"))  # an amide is cut at both of its bonds
    [(0, 1, 2), (3,), (4, 5, 6, 7, 8, 9)]
    """
    cuts = {frozenset(ends) for ends, _ in BRICS.FindBRICSBonds(mol)}
    neighbours: dict[int, list[int]] = {index: [] for index in range(mol.GetNumAtoms())}
    for bond in mol.GetBonds():
        begin, end = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if frozenset((begin, end)) not in cuts:
            neighbours[begin].append(end)
            neighbours[end].append(begin)
    rings = [set(ring) for ring in mol.GetRingInfo().AtomRings()]
    motifs: set[tuple[int, ...]] = set()
    for piece in _connected(neighbours, neighbours):
        # BRICS cuts no bond of a ring, so that a ring lies in one piece.
        own = [ring for ring in rings if ring <= piece]
        if len(own) < 2:
            motifs.add(tuple(sorted(piece)))
            continue
        motifs.update(tuple(sorted(ring)) for ring in own)
        motifs.update(tuple(sorted(part)) for part in _connected(piece.difference(*own), neighbours))
    return sorted(motifs)


def _connected(atoms: Iterable[int], neighbours: dict[int, list[int]]) -> list[set[int]]:
    """The connected parts of the graph that `atoms` span."""
    left, parts = set(atoms), []
    while left:
        reached, part = [left.pop()], set()
        while reached:
            atom = reached.pop()
            part.add(atom)
            new = left.intersection(neighbours[atom])
            left -= new
            reached += new
        parts.append(part)
    return parts


class OrmaFeatureExtractor(MoleculeGraphFeatureExtractor):
    r"""Turns SMILES into the graphs that [`OrmaModel`] reads: the base class's, with motifs ([`motifs_of`]).

    Args: see [`MoleculeGraphFeatureExtractor`].

    Example:

    >>> batch = OrmaFeatureExtractor()(["CC(=O)Nc1ccccc1", "O"])
    >>> batch["motif_counts"].tolist(), batch["motif_sizes"].tolist()
    ([3, 1], [3, 1, 6, 1])
    """

    model_input_names = [
        *MoleculeGraphFeatureExtractor.model_input_names,
        "motif_atoms",
        "motif_sizes",
        "motif_counts",
    ]

    def encode(self, smiles: str) -> bytes:
        """Describe one molecule as one blob.

        Returns:
            Little-endian bytes: layout version (uint16), length of the graph's blob (uint32), motifs M (uint16) and
            places K in them (uint32); the graph's blob, as of the base class; the motifs' sizes (M,) and their atoms
            (K,), both uint16.

        Raises:
            ValueError: as the base class.
        """
        graph = super().encode(smiles)
        with rdBase.BlockLogs():
            motifs = motifs_of(Chem.MolFromSmiles(smiles))
        sizes = [len(motif) for motif in motifs]
        head = _HEADER.pack(_VERSION, len(graph), len(motifs), sum(sizes))
        return head + graph + np.array([*sizes, *sum(motifs, ())], "<u2").tobytes()

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Put molecules side by side in one ragged batch.

        Returns:
            what the base class returns, and, for M motifs with K places in all: `motif_atoms` (K,) int64, positions
            among the atoms of the batch, `motif_sizes` (M,) int64 and `motif_counts` (B,) int64.

        Raises:
            ValueError: as the base class.
        """
        graphs, sizes, places, counts = [], [], [], []
        for row, blob in enumerate(blobs):
            version, length, motifs, total = (
                _HEADER.unpack_from(blob) if len(blob) >= _HEADER.size else (None, 0, 0, 0)
            )
            end = _HEADER.size + length
            if version != _VERSION or len(blob) != end + 2 * (motifs + total):
                raise ValueError(
                    f"blob {row} is no molecule with motifs of layout version {_VERSION}: it was prepared by another "
                    "release or another feature extractor. Prepare the molecules again."
                )
            graphs.append(blob[_HEADER.size : end])
            sizes.append(blob[end : end + 2 * motifs])
            places.append(blob[end + 2 * motifs :])
            counts.append((motifs, total))
        batch = super().collate(graphs)
        motif_counts, totals = np.array(counts, np.int64).T
        atom_counts = batch["atom_counts"].numpy()
        first_atoms = np.repeat(np.cumsum(atom_counts) - atom_counts, totals)
        return {
            **batch,
            "motif_atoms": torch.from_numpy(np.frombuffer(b"".join(places), "<u2") + first_atoms),
            "motif_sizes": torch.from_numpy(np.frombuffer(b"".join(sizes), "<u2").astype(np.int64)),
            "motif_counts": torch.from_numpy(motif_counts.copy()),
        }
