"""The contribution of an atom equals the score without the atom, counted and embedded by hand."""

import os
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from rdkit import Chem, RDConfig

from class_hf import (
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeFusedFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
)
from class_hf.evaluation.explain import MAX_ATOMS, _occluded, atom_contributions
from class_hf.models.substructures import COUNTERS, environments, occurrences

TEXT = "The molecule is a carboxylic acid ester of a phenol."
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
ODD = [
    "[13CH4]",
    "[2H]O[2H]",
    "C[N+](C)(C)CC([O-])=O.[Na+].[Cl-]",
    "*CC[1*]",
    "C/C=C/C[C@H](N)O",
    "C1CC1C2CC2",
    "[H][H]",
    "c1ccc2c(c1)[nH]c1ccccc12",
]


@pytest.fixture(scope="module")
def molecules():
    with open(os.path.join(RDConfig.RDDataDir, "NCI", "first_5K.smi")) as file:
        lines = [line.split()[0] for line in islice(file, 0, 5000, 50)]
    return [*ODD, *(smiles for smiles in lines if Chem.MolFromSmiles(smiles))]


@pytest.fixture(scope="module")
def fingerprint():
    extractor = MoleculeFingerprintFeatureExtractor(num_buckets=4096, substructures=list(COUNTERS))
    processor = TextMoleculeProcessor(LexicalTokenizer(num_buckets=512), extractor)
    return tiny("fingerprint", num_buckets=4096, embedding_size=16, intermediate_size=16), processor


@pytest.fixture(scope="module")
def graph():
    processor = TextMoleculeProcessor(LexicalTokenizer(num_buckets=512), MoleculeGraphFeatureExtractor())
    return tiny("graph", num_layers=2), processor


@pytest.fixture(scope="module")
def fused():
    extractor = MoleculeFusedFeatureExtractor(fingerprint={"num_buckets": 4096})
    sizes = {"fingerprint_config": {"num_buckets": 4096, "hidden_size": 16}, "graph_config": {"hidden_size": 16}}
    return tiny("fused", **sizes), TextMoleculeProcessor(LexicalTokenizer(num_buckets=512), extractor)


def tiny(molecule, **sizes):
    torch.manual_seed(0)
    return TextMoleculeDualEncoderModel.from_towers(
        text="lexical",
        molecule=molecule,
        text_kwargs={"num_buckets": 512, "embedding_size": 16, "hidden_size": 16, "intermediate_size": 16},
        molecule_kwargs=sizes if molecule == "fused" else {"hidden_size": 16, **sizes},
        projection_dim=16,
    )


def cosine(model, processor, smiles, text):
    model.eval()
    with torch.no_grad():
        outputs = model(**processor(text=text, smiles=smiles))
    return float(outputs.text_embeds[0] @ outputs.molecule_embeds[0])


def test_occurrences_are_what_is_counted(molecules):
    for smiles in molecules:
        molecule = Chem.MolFromSmiles(smiles)
        counts = Counter(name for name, _ in occurrences(molecule, 2))
        assert counts == environments(molecule, 2), smiles
        for further, count in COUNTERS.items():
            further_counts = Counter(name for name, _ in occurrences(molecule, 2, [further])) - counts
            assert further_counts == count(molecule), (smiles, further)


def test_environments_cover_all_atoms_within_their_radius(molecules):
    for smiles in molecules[:60]:
        molecule = Chem.MolFromSmiles(smiles)
        within = [set(np.flatnonzero(row <= 2)) for row in Chem.GetDistanceMatrix(molecule)]
        balls = {frozenset(np.flatnonzero(row <= r)) for row in Chem.GetDistanceMatrix(molecule) for r in (0, 1, 2)}
        environments_found = {frozenset(atoms) for _, atoms in occurrences(molecule, 2)}
        assert environments_found <= balls, smiles
        # A small fragment is reached at a smaller radius, and is counted once.
        assert set().union(*environments_found) == set().union(*within) == set(range(molecule.GetNumAtoms()))


def test_fingerprint_contributions_are_scores_of_smaller_bags(fingerprint):
    model, processor = fingerprint
    extractor = processor.feature_extractor
    contributions = atom_contributions(model, processor, ASPIRIN, text=TEXT)
    molecule = Chem.MolFromSmiles(ASPIRIN)
    complete = cosine(model, processor, ASPIRIN, TEXT)
    text = model.get_text_features(**processor(text=TEXT))[0]
    for atom in range(molecule.GetNumAtoms()):
        seen = Counter(n for n, atoms in occurrences(molecule, 2, extractor.substructures) if atom not in atoms)
        blob = extractor.pack(seen)
        with torch.no_grad():
            without = model.get_molecule_features(**processor.collate_molecules([blob]))[0] @ text
        assert contributions[atom] == pytest.approx(complete - float(without), abs=1e-6)


def test_packing_all_occurrences_is_encoding(fingerprint, molecules):
    extractor = fingerprint[1].feature_extractor
    for smiles in molecules[:60]:
        names = occurrences(Chem.MolFromSmiles(smiles), extractor.radius, extractor.substructures)
        assert extractor.pack(Counter(name for name, _ in names)) == extractor.encode(smiles)


def test_occluded_bags_are_packed_counts(fingerprint, molecules):
    extractor = fingerprint[1].feature_extractor
    for smiles in molecules[:40]:
        molecule = Chem.MolFromSmiles(smiles)
        found = list(occurrences(molecule, extractor.radius, extractor.substructures))
        for atom, blob in enumerate(_occluded(molecule, fingerprint[1])):
            assert blob == extractor.pack(Counter(name for name, atoms in found if atom not in atoms)), (smiles, atom)


def test_graph_contributions_are_scores_with_a_wildcard(graph):
    model, processor = graph
    contributions = atom_contributions(model, processor, "CC(=O)Oc1ccccc1", text=TEXT)
    by_hand = [
        *("*C(=O)Oc1ccccc1", "C*(=O)Oc1ccccc1", "CC(=*)Oc1ccccc1", "CC(=O)*c1ccccc1", "CC(=O)O*1ccccc1"),
        *("CC(=O)Oc1*cccc1", "CC(=O)Oc1c*ccc1", "CC(=O)Oc1cc*cc1", "CC(=O)Oc1ccc*c1", "CC(=O)Oc1cccc*1"),
    ]
    complete = cosine(model, processor, "CC(=O)Oc1ccccc1", TEXT)
    expected = [complete - cosine(model, processor, smiles, TEXT) for smiles in by_hand]
    np.testing.assert_allclose(contributions, expected, atol=1e-5)


@pytest.mark.parametrize("tower", ["fingerprint", "graph", "fused"])
def test_equivalent_atoms_contribute_equally_in_any_notation(tower, request):
    model, processor = request.getfixturevalue(tower)
    benzene = atom_contributions(model, processor, "c1ccccc1", text=TEXT)
    np.testing.assert_allclose(benzene, benzene[0], atol=1e-6)
    ethanol, reversed_ethanol = (atom_contributions(model, processor, smiles, text=TEXT) for smiles in ("CCO", "OCC"))
    np.testing.assert_allclose(ethanol, reversed_ethanol[::-1], atol=1e-6)
    assert np.abs(ethanol).max() > 1e-4


def test_every_molecule_can_lose_every_atom_in_a_graph(graph, molecules):
    model, processor = graph
    for smiles in molecules[:60]:
        contributions = atom_contributions(model, processor, smiles, like="CCO")
        assert contributions.shape == (Chem.MolFromSmiles(smiles).GetNumAtoms(),) and np.isfinite(contributions).all()


def test_training_mode_and_batches_change_nothing(fingerprint):
    model, processor = fingerprint
    model.eval()
    expected = atom_contributions(model, processor, ASPIRIN, like="c1ccccc1O")
    model.train()
    contributions = atom_contributions(model, processor, ASPIRIN, like="c1ccccc1O", batch_size=3)
    np.testing.assert_allclose(contributions, expected, atol=1e-6)
    assert model.training


@pytest.mark.parametrize("tower", ["fingerprint", "graph", "fused"])
def test_several_molecules_at_once_are_each_alone(tower, request):
    model, processor = request.getfixturevalue(tower)
    together = atom_contributions(model, processor, [ASPIRIN, "CCO", ASPIRIN, "C"], text=TEXT, batch_size=5)
    alone = [atom_contributions(model, processor, smiles, text=TEXT) for smiles in (ASPIRIN, "CCO", ASPIRIN, "C")]
    for several, single in zip(together, alone, strict=True):
        np.testing.assert_allclose(several, single, atol=1e-6)
    assert atom_contributions(model, processor, [], text=TEXT) == []


@pytest.mark.parametrize(
    ("smiles", "queries", "message"),
    [
        ("CCO", {}, "neither was passed"),
        ("CCO", {"text": "an alcohol", "like": "CC"}, "both were passed"),
        ("C1CC", {"text": "an alcohol"}, "cannot parse"),
        ("C" * (MAX_ATOMS + 1), {"text": "an alcohol"}, f"at most {MAX_ATOMS}"),
    ],
)
def test_bad_input_is_named(fingerprint, smiles, queries, message):
    with pytest.raises(ValueError, match=message):
        atom_contributions(*fingerprint, smiles, **queries)
