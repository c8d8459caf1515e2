"""Substructures counted by hand. They do not depend on how the SMILES is written."""

from collections import Counter

import pytest
from rdkit import Chem

from class_hf.models.substructures import COUNTERS, composition, environments, pieces, ring_systems, torsions


def test_composition_of_sodium_lactate():
    counts = composition(Chem.MolFromSmiles("C[C@H](O)C(=O)[O-].[Na+]"))
    assert counts == {
        "atom C": 3,
        "atom O": 3,
        "atom H": 5,
        "atom Na": 1,
        "double bond": 1,
        "stereo centre": 1,
        "fragment": 2,
    }  # the charges cancel


def test_composition_counts_rings_stereo_bonds_and_charge():
    counts = composition(Chem.MolFromSmiles(r"C/C=C\C[N+](C)(C)Cc1ccc2CCCc2c1"))
    assert (counts["ring"], counts["aromatic ring"], counts["stereo bond"], counts["positive charge"]) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    "smiles", ["[2H]C([2H])O", "[Fe+3].[Cl-].[Cl-].[Cl-]", "*CC[NH3+]", "[H+]", "OS(=O)(=O)[O-]", "[HH]"]
)
def test_elements_are_those_of_the_atoms(smiles):
    molecule = Chem.MolFromSmiles(smiles)
    atoms = Counter(f"atom {atom.GetSymbol()}" for atom in molecule.GetAtoms())
    atoms["atom H"] += sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    counts = composition(molecule)
    assert {name: count for name, count in counts.items() if name.startswith("atom")} == +atoms


def test_ring_systems_join_rings_that_share_atoms_only():
    counts = ring_systems(Chem.MolFromSmiles("Cc1ccc2ccccc2c1-c1ccccc1CC1CC1"))
    assert counts == {"rings c1ccc2ccccc2c1": 1, "rings c1ccccc1": 1, "rings C1CC1": 1}
    assert ring_systems(Chem.MolFromSmiles("C1CC12CC2")) == {"rings C1CC12CC2": 1}  # spiro: one shared atom
    assert ring_systems(Chem.MolFromSmiles("CCO")) == {}


def test_torsions_are_chains_of_four():
    assert sum(torsions(Chem.MolFromSmiles("CCCC")).values()) == 1
    assert sum(torsions(Chem.MolFromSmiles("CCCCC")).values()) == 2
    assert torsions(Chem.MolFromSmiles("CCC")) == {}


def test_pieces_are_cut_at_the_ester():
    counts = pieces(Chem.MolFromSmiles("CC(=O)OCC"))
    assert sum(counts.values()) == 3  # acetyl, oxygen, ethyl
    assert pieces(Chem.MolFromSmiles("CCCC")) == {"piece CCCC": 1}
    assert pieces(Chem.MolFromSmiles("C" * 121)) == {}


def test_environments_tell_isotopes():
    assert environments(Chem.MolFromSmiles("[13CH4]"), 0) != environments(Chem.MolFromSmiles("C"), 0)


@pytest.mark.parametrize("name", COUNTERS)
def test_every_smiles_of_a_molecule_gives_the_same_substructures(name):
    molecule = Chem.MolFromSmiles("CC(=O)Oc1ccccc1C(=O)N[C@@H](C)C(=O)OC1CCC2(CC1)OCCO2")
    counts = COUNTERS[name](molecule)
    assert counts
    for seed in range(4):
        other = Chem.MolFromSmiles(Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed + 1)[0])
        assert COUNTERS[name](other) == counts
