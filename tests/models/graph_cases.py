"""Molecules with rare features, and a tiny graph tower."""

import torch
from rdkit import Chem

from class_hf.models.configuration_graph import MoleculeGraphConfig
from class_hf.models.modeling_graph import MoleculeGraphModel

CHOLESTEROL = "C[C@H](CCCC(C)C)[C@H]1CC[C@@H]2[C@@]1(CC[C@H]3[C@H]2CC=C4[C@@]3(CC[C@@H](C4)O)C)C"
RETINAL = "CC1=C(C(CCC1)(C)C)/C=C/C(=C/C=C/C(=C/C=O)/C)/C"
INOSITOL = "O[C@H]1[C@H](O)[C@@H](O)[C@H](O)[C@H](O)[C@@H]1O"
MOLECULES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    CHOLESTEROL,
    RETINAL,
    INOSITOL,
    "C[N+](C)(C)CC(=O)[O-].[Na+].[Cl-]",
    "[2H]C([2H])([2H])O",
    "[NH3]->[Pt](Cl)(Cl)<-[NH3]",
    "*c1ccncc1",
]
ODDITIES = ["[Na+]", "[H+]", "[H][H]", "*", "C", "[Na+].[Cl-]", "C" * 574, "[H-].[Li+]"]
# Pairs that differ in one respect only.
TWINS = {
    "enantiomers": ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),
    "diastereomers": ("C[C@H](O)[C@H](O)C(=O)O", "C[C@H](O)[C@@H](O)C(=O)O"),
    "unspecified centre": ("C[C@H](N)C(=O)O", "CC(N)C(=O)O"),
    "enantiomeric sulfoxides": ("C[S@](=O)CC", "C[S@@](=O)CC"),
    "centre between isotopes of a wildcard": ("[1*][C@](F)(Cl)[2*]", "[1*][C@@](F)(Cl)[2*]"),
    "cis and trans in a ring": ("C[C@H]1CC[C@@H](C)CC1", "C[C@H]1CC[C@H](C)CC1"),
    "pseudoasymmetric": ("C[C@@H]1CCC[C@H](C)[C@H]1O", "C[C@@H]1CCC[C@H](C)[C@@H]1O"),
    "E and Z": ("C/C=C/C(=O)O", "C/C=C\\C(=O)O"),
    "unspecified double bond": ("C/C=C/C(=O)O", "CC=CC(=O)O"),
    "charge": ("CC(=O)O", "CC(=O)[O-]"),
    "charges of an ion": ("[Fe+2]", "[Fe+3]"),
    "radical": ("[CH3]", "C"),
    "deuterium": ("CO", "[2H]CO"),
    "deuterium and tritium": ("[2H]CO", "[3H]CO"),
    "carbon-13": ("CO", "[13CH3]O"),
    "carbon-13 and -14": ("[13CH3]O", "[14CH3]O"),
    "named natural isotope": ("CO", "[12CH3]O"),
    "iodine": ("CI", "C[131I]"),
    "iodine-125 and -131": ("C[125I]", "C[131I]"),
    "fluorine-18": ("CF", "C[18F]"),
    "one fragment more": ("CC(=O)[O-].[Na+]", "CC(=O)[O-].[K+]"),
    "hydrogen and proton": ("[H][H]", "[H+]"),
    "bond order": ("CC=O", "CCO"),
}


def tiny_config(**changes):
    return MoleculeGraphConfig(**{"hidden_size": 16, "num_layers": 2, "num_heads": 2, **changes})


def tiny_model(seed=0, **changes):
    torch.manual_seed(seed)
    return MoleculeGraphModel(tiny_config(**changes)).eval()


def random_smiles(smiles, count):
    mol = Chem.MolFromSmiles(smiles)
    return Chem.MolToRandomSmilesVect(mol, count, randomSeed=1)
