"""Turns SMILES into graphs of three levels, atoms, motifs and molecule, for ORMA."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import BRICS

from .feature_extraction_graph import MoleculeGraphFeatureExtractor
from .smiles import parse_smiles

# Layout version, number of bytes of the graph's blob, number of motifs, sum of the motifs' sizes.
_HEADER = struct.Struct("<HIHI")
_VERSION = 1


def motifs_of(mol: Chem.Mol) -> list[tuple[int, ...]]:
    """Splits a molecule into motifs.

    BRICS (Degen et al., 2008) cuts the molecule into pieces. A piece with at most one ring is a motif. A piece with
    several rings is split further: each ring is a motif, and each connected group of its other atoms is a motif. The
    two atoms of a bond between fused rings belong to both motifs.

    ORMA splits as HiMol does (Zang et al., 2023). This function differs from HiMol in one point: HiMol keeps all atoms
    outside the rings as one motif.

    Args:
        mol: a sanitised molecule.

    Returns:
        The atom indices of each motif, ascending; the motifs are sorted by their atoms. Every atom is in at least one
        motif.

    Example:

    >>> motifs_of(Chem.MolFromSmiles("CC(=O)Nc1ccccc1"))  # BRICS cuts both bonds of an amide's nitrogen
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
    for piece in _connected_parts(neighbours, neighbours):
        # BRICS cuts no bond of a ring, so a ring lies in one piece.
        piece_rings = [ring for ring in rings if ring <= piece]
        if len(piece_rings) < 2:
            motifs.add(tuple(sorted(piece)))
            continue
        motifs.update(tuple(sorted(ring)) for ring in piece_rings)
        motifs.update(tuple(sorted(part)) for part in _connected_parts(piece.difference(*piece_rings), neighbours))
    return sorted(motifs)


def _connected_parts(atoms: Iterable[int], neighbours: dict[int, list[int]]) -> list[set[int]]:
    """The connected components of the subgraph on `atoms`."""
    unvisited, parts = set(atoms), []
    while unvisited:
        stack, part = [unvisited.pop()], set()
        while stack:
            atom = stack.pop()
            part.add(atom)
            reached = unvisited.intersection(neighbours[atom])
            unvisited -= reached
            stack += reached
        parts.append(part)
    return parts


class OrmaFeatureExtractor(MoleculeGraphFeatureExtractor):
    r"""Turns SMILES into the graphs that [`OrmaModel`] reads: the graph of the base class, and motifs ([`motifs_of`]).

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
        """Encodes one molecule as one blob.

        Args:
            smiles: a SMILES, as for the base class.

        Returns:
            Little-endian bytes: layout version (uint16), length of the graph's blob (uint32), number of motifs M
            (uint16), sum of their sizes K (uint32); the graph's blob, as the base class writes it; the motifs' sizes
            (M,) and their atoms (K,), both uint16.

        Raises:
            ValueError: if the SMILES is invalid or too large, as for the base class.
        """
        graph = super().encode(smiles)
        motifs = motifs_of(parse_smiles(smiles))
        sizes = [len(motif) for motif in motifs]
        header = _HEADER.pack(_VERSION, len(graph), len(motifs), sum(sizes))
        return header + graph + np.array([*sizes, *sum(motifs, ())], "<u2").tobytes()

    def collate(self, blobs: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Joins encoded molecules in one ragged batch.

        Args:
            blobs: B results of `encode`, at least one.

        Returns:
            The tensors of the base class, and for M motifs with K atoms in total: `motif_atoms` (K,) int64, indices
            among the atoms of the batch, `motif_sizes` (M,) int64 and `motif_counts` (B,) int64.

        Raises:
            ValueError: if a blob is damaged or has another layout.
        """
        graphs, sizes, atoms, counts = [], [], [], []
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
            atoms.append(blob[end + 2 * motifs :])
            counts.append((motifs, total))
        batch = super().collate(graphs)
        motif_counts, totals = np.array(counts, np.int64).T
        atom_counts = batch["atom_counts"].numpy()
        first_atoms = np.repeat(np.cumsum(atom_counts) - atom_counts, totals)
        return {
            **batch,
            "motif_atoms": torch.from_numpy(np.frombuffer(b"".join(atoms), "<u2") + first_atoms),
            "motif_sizes": torch.from_numpy(np.frombuffer(b"".join(sizes), "<u2").astype(np.int64)),
            "motif_counts": torch.from_numpy(motif_counts.copy()),
        }
