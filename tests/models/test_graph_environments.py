"""Distinct atoms and environments, against a set of their features."""

import torch
from graph_cases import MOLECULES, ODDITIES, TWINS

from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor
from class_hf.models.graph_environments import MoleculeGraph, find_environments


def test_environments_equal_their_features():
    molecules = [*MOLECULES, *ODDITIES, *(smiles for pair in TWINS.values() for smiles in pair), *MOLECULES]
    batch = MoleculeGraphFeatureExtractor()(molecules)
    source, target = batch["bond_index"].flatten(), batch["bond_index"].flip(0).flatten()
    bonds = batch["bond_features"].repeat(2, 1)
    graph = MoleculeGraph(source, target, bonds, torch.zeros(0), batch["atom_counts"])
    found = find_environments(batch["atom_features"], batch["bond_features"], graph)

    atoms = [tuple(row) for row in batch["atom_features"].tolist()]
    messages = [[] for _ in atoms]
    for i, j, bond in zip(source.tolist(), target.tolist(), bonds.tolist(), strict=True):
        messages[j].append((atoms[i], tuple(bond)))
    environments = [(atom, tuple(sorted(around))) for atom, around in zip(atoms, messages, strict=True)]
    for expected, numbers in ((atoms, found.kind.tolist()), (environments, found.environment.tolist())):
        assert len(set(expected)) == len(set(numbers)) == len(set(zip(expected, numbers, strict=True)))
    assert [atoms[example] for example in found.examples] == [
        atoms[found.kind.tolist().index(kind)] for kind in range(len(found.examples))
    ]

    # Each environment receives the messages of one of its atoms.
    received = [[] for _ in found.graph.centre]
    kinds = [atoms[example] for example in found.examples.tolist()]
    reduced = found.graph
    for i, j, bond in zip(reduced.source.tolist(), reduced.target.tolist(), reduced.bonds.tolist(), strict=True):
        received[j].append((kinds[i], tuple(bond)))
    for number, (centre, around) in enumerate(zip(reduced.centre.tolist(), received, strict=True)):
        assert environments[found.environment.tolist().index(number)] == (kinds[centre], tuple(sorted(around)))


def test_batch_without_bonds():
    nothing, none = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.uint8)
    graph = MoleculeGraph(nothing, nothing, torch.zeros(0, 16), torch.zeros(3), torch.tensor([3]))
    found = find_environments(torch.tensor([[3], [4], [3]], dtype=torch.uint8), none, graph)
    assert len(found.examples) == len(found.graph.centre) == 2 and len(found.graph.target) == 0
