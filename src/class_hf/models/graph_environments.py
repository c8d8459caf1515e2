"""Finds the atoms of a batch of graphs that the first message-passing layer cannot tell apart.

A batch of 1,024 molecules has 26,000 atoms, but 250 distinct ones, in 3,500 distinct environments of radius 1.
"""

from typing import NamedTuple

import torch

# Of splitmix64 (Steele et al., 2014), as signed numbers.
_SEED, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


class MoleculeGraph(NamedTuple):
    """A batch, as the layers see it. Each bond occurs twice, once in each direction."""

    source: torch.Tensor  # (2E,) int64, the atom that sends a message
    target: torch.Tensor  # (2E,) int64, the atom that receives it
    bonds: torch.Tensor  # (2E, C_b) float, multi-hot bond features
    molecule: torch.Tensor  # (A,) int64, molecule of each atom
    atom_counts: torch.Tensor  # (B,) int64
    centre: torch.Tensor | None = None  # (V,) int64, the atom of each target, where targets are environments


class Environments(NamedTuple):
    """The distinct atoms and the distinct environments of a batch.

    An environment is an atom with its bonds and the bonded atoms.
    """

    examples: torch.Tensor  # (U,) int64, an atom of each kind
    kind: torch.Tensor  # (A,) int64, kind of each atom, below U
    environment: torch.Tensor  # (A,) int64, environment of each atom, below V
    graph: MoleculeGraph  # kinds of atoms send messages to environments


def find_environments(atom_features: torch.Tensor, bond_features: torch.Tensor, graph: MoleculeGraph) -> Environments:
    """Finds the distinct atoms and environments of a batch by 64-bit hashes of their features.

    The hashes of 3,500 environments collide with a probability of 1e-12.

    Args:
        atom_features (A, F_a): integers.
        bond_features (E, F_b): integers.
        graph: the batch, with 2E bonds.

    Returns:
        [`Environments`].

    Example:

    >>> from class_hf import MoleculeGraphFeatureExtractor
    >>> batch = MoleculeGraphFeatureExtractor()(["CCCC"])
    >>> source, target = batch["bond_index"].flatten(), batch["bond_index"].flip(0).flatten()
    >>> graph = MoleculeGraph(source, target, torch.zeros(6, 16), torch.zeros(4), batch["atom_counts"])
    >>> found = find_environments(batch["atom_features"], batch["bond_features"], graph)
    >>> len(found.examples), len(found.graph.centre), len(found.graph.target)  # CH3 and CH2; 1 + 2 bonds
    (2, 2, 3)
    """
    atoms = _hash_rows(*atom_features.unbind(1))
    messages = _hash_rows(atoms.index_select(0, graph.source), *bond_features.repeat(2, 1).unbind(1))
    surroundings = torch.zeros_like(atoms).index_add_(0, graph.target, messages)  # in any order of the bonds
    examples, kind = _distinct(atoms)
    first_atoms, environment = _distinct(_hash_rows(atoms, surroundings))
    is_first = torch.zeros_like(atoms, dtype=torch.bool).index_fill_(0, first_atoms, True)
    bonds = is_first.index_select(0, graph.target).nonzero().squeeze(1)
    reduced = graph._replace(
        source=kind.index_select(0, graph.source.index_select(0, bonds)),
        target=environment.index_select(0, graph.target.index_select(0, bonds)),
        bonds=graph.bonds.index_select(0, bonds),
        centre=kind.index_select(0, first_atoms),
    )
    return Environments(examples, kind, environment, reduced)


def _hash_rows(*columns: torch.Tensor) -> torch.Tensor:
    """A hash of each row: columns (M,) of integers -> (M,) int64."""
    hashes = torch.full_like(columns[0], _SEED, dtype=torch.int64)
    for column in columns:
        hashes.add_(column)
        hashes.bitwise_xor_(hashes >> 30).mul_(_FIRST)
        hashes.bitwise_xor_(hashes >> 27).mul_(_SECOND)
        hashes.bitwise_xor_(hashes >> 31)
    return hashes


def _distinct(hashes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first row of each distinct value, (U,), and the number of each row's value, (M,)."""
    values, numbers = hashes.unique(return_inverse=True)
    rows = torch.arange(len(hashes), device=hashes.device)
    # The first, so that repeated runs sum an environment's messages in the same order.
    return rows.new_full((len(values),), len(hashes)).scatter_reduce_(0, numbers, rows, "amin"), numbers
