"""The features of a molecular graph do not depend on how a SMILES is written, and tell similar molecules apart."""

import pickle

import numpy as np
import pytest
import torch
from graph_cases import CHOLESTEROL, MOLECULES, ODDITIES, TWINS, random_smiles

from class_hf.models.configuration_graph import ATOM_FEATURES, BOND_FEATURES
from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor


@pytest.fixture(scope="module")
def extractor():
    return MoleculeGraphFeatureExtractor()


def atom_column(extractor, smiles, name):
    return extractor(smiles)["atom_features"][:, list(ATOM_FEATURES).index(name)].tolist()


def bond_column(extractor, smiles, name):
    return extractor(smiles)["bond_features"][:, list(BOND_FEATURES).index(name)].tolist()


@pytest.mark.parametrize(
    ("smiles", "name", "values"),
    [
        ("*[Og]", "atomic_number", [0, 118]),
        ("CC(C)(C)C", "degree", [1, 4, 1, 1, 1]),
        ("[Fe+3].[Cl-].[C-12]", "formal_charge", [10, 6, 0]),
        ("[12CH3]I", "isotope", [32, 0]),
        ("[2H].[13CH4].[11CH4].[18F-].[125I-].[131I-]", "isotope", [33, 33, 31, 31, 30, 36]),
        ("[1C].[999C].[1*].[2*]", "isotope", [21, 63, 33, 34]),
        ("[2H]O[2H].O.[CH4].[Na+]", "hydrogens", [0, 2, 0, 2, 4, 0]),
        ("C[C@@H](O)[C@@H](O)Cl.CC(O)F", "chirality", [0, 1, 0, 2, 0, 0, 0, 0, 0, 0]),
        ("C[C@H]1CC[C@@H](C)CC1", "chirality", [0, 4, 0, 0, 4, 0, 0, 0]),
        ("C[C@H]1CC[C@H](C)CC1", "chirality", [0, 3, 0, 0, 3, 0, 0, 0]),
        ("N[Pt@SP1](N)(Cl)Cl", "chirality", [0, 5, 0, 0, 0]),
        ("c1ccccc1C", "aromatic", [1, 1, 1, 1, 1, 1, 0]),
        ("C1CC1C2CCC2C", "ring_size", [3, 3, 3, 4, 4, 4, 4, 0]),
        ("C1" + "C" * 29 + "1", "ring_size", [20] * 30),
        ("[Na+].C#CC=CC", "hybridisation", [1, 2, 2, 3, 3, 5]),
        ("[CH3].[CH2].O=O.[C+9]", "radical_electrons", [1, 2, 0, 0, 5]),
    ],
)
def test_atom_features(extractor, smiles, name, values):
    assert atom_column(extractor, smiles, name) == values


@pytest.mark.parametrize(
    ("smiles", "name", "values"),
    [
        ("CC=CC#C", "type", [1, 2, 1, 3]),
        ("C$C.[NH3]->[Fe]", "type", [0, 5]),
        ("c1ccoc1", "type", [4] * 5),
        ("C/C=C/C=C\\C=CC", "stereo", [0, 1, 0, 2, 0, 0, 0]),
        ("C=CC=CC", "conjugated", [1, 1, 1, 0]),
        ("C1CC1C", "in_ring", [1, 1, 0, 1]),
    ],
)
def test_bond_features(extractor, smiles, name, values):
    assert bond_column(extractor, smiles, name) == values


def test_features_stay_below_their_sizes(extractor):
    batch = extractor([*MOLECULES, *ODDITIES, *(smiles for pair in TWINS.values() for smiles in pair)])
    assert (batch["atom_features"].amax(0) < torch.tensor(extractor.atom_feature_sizes)).all()
    assert (batch["bond_features"].amax(0) < torch.tensor(extractor.bond_feature_sizes)).all()


def content(extractor, smiles):
    """The atoms and bonds in a blob, without their order."""
    batch = {name: tensor.numpy() for name, tensor in extractor(smiles).items()}
    atoms = [row.tobytes() for row in batch["atom_features"]]
    ends = [tuple(sorted((atoms[begin], atoms[end]))) for begin, end in batch["bond_index"].T]
    bonds = [row.tobytes() for row in batch["bond_features"]]
    return sorted(atoms), sorted(zip(ends, bonds, strict=True))


@pytest.mark.parametrize("smiles", MOLECULES)
def test_content_does_not_depend_on_how_the_smiles_is_written(extractor, smiles):
    writings = random_smiles(smiles, 8)
    assert len(set(writings)) > 1
    assert all(content(extractor, writing) == content(extractor, smiles) for writing in writings)


def test_labels_when_the_cip_labeler_gives_up(extractor):
    """The second fragment is so symmetric that RDKit's labeler exceeds its iterations, for the first fragment too."""
    symmetric = "[C@@H]1(C)" + "[C@H](C)" * 60 + "[C@@H]1C"
    smiles = f"C[C@@H](O)[C@H](Cl)/C=C/C=C\\C.{symmetric}"
    assert atom_column(extractor, smiles, "chirality")[:4] == [0, 1, 0, 1]
    assert set(atom_column(extractor, smiles, "chirality")[4:]) <= {0, 5}  # there are no older labels r and s
    assert bond_column(extractor, smiles, "stereo")[4:9] == [0, 1, 0, 2, 0]


def test_batch_layout(extractor):
    batch = extractor(["CCO", "[Na+]", "C=C"])
    assert list(batch) == extractor.model_input_names
    assert batch["atom_features"].dtype == batch["bond_features"].dtype == torch.uint8
    assert batch["atom_counts"].tolist() == [3, 1, 2]
    assert batch["bond_index"].tolist() == [[0, 1, 4], [1, 2, 5]]
    assert batch["atom_features"][:, 0].tolist() == [6, 6, 8, 11, 6, 6]
    assert batch["bond_features"][:, 0].tolist() == [1, 1, 2]


def test_batch_without_bonds(extractor):
    batch = extractor(["[Na+]", "*.*", "[H+]"])
    assert batch["atom_counts"].tolist() == [1, 2, 1]
    assert batch["bond_index"].shape == (2, 0)
    assert batch["bond_features"].shape == (0, len(BOND_FEATURES))


def test_blob_is_compact(extractor):
    assert len(extractor.encode("CCO")) == 6 + 3 * len(ATOM_FEATURES) + 2 * (4 + len(BOND_FEATURES))


def test_call_takes_one_smiles_and_gives_numpy(extractor):
    batch = extractor("CCO", return_tensors="np")
    assert all(isinstance(array, np.ndarray) for array in batch.values())
    assert batch["atom_counts"].tolist() == [3]


def test_rdkit_is_silent(extractor, capfd):
    extractor("[H+]")  # RDKit warns of hydrogens without neighbours
    with pytest.raises(ValueError):
        extractor("C1CC(")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("smiles", ["C1CC(", "c1cccc1", "C(C)(C)(C)(C)C", "no_molecule"])
def test_unparsable_smiles(extractor, smiles):
    with pytest.raises(ValueError, match="RDKit cannot parse the SMILES") as error:
        extractor.encode(smiles)
    assert repr(smiles) in str(error.value)


@pytest.mark.parametrize("smiles", ["", "  ", None, 5])
def test_no_smiles(extractor, smiles):
    with pytest.raises(ValueError, match=f"the SMILES is {smiles!r}; expected a non-empty string"):
        extractor.encode(smiles)


def test_collate_refuses_what_it_cannot_read(extractor):
    blob = extractor.encode("CCO")
    with pytest.raises(ValueError, match="at least one molecule"):
        extractor.collate([])
    with pytest.raises(ValueError, match="blob 1 starts with layout version 7, expected 1.*prepare the molecules"):
        extractor.collate([blob, b"\x07\x00" + blob[2:]])
    with pytest.raises(ValueError, match="blob 0 has 51 bytes, expected 52 for 3 atoms and 2 bonds"):
        extractor.collate([blob[:-1]])
    with pytest.raises(ValueError, match="blob 0 starts with layout version None"):
        extractor.collate([b""])


def test_extractor_saved_equals_loaded(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    loaded = MoleculeGraphFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict() == pickle.loads(pickle.dumps(extractor)).to_dict()
    assert loaded.encode(CHOLESTEROL) == extractor.encode(CHOLESTEROL)


@pytest.mark.parametrize(
    "layout", [{"version": 2}, {"atom_feature_sizes": [119, 13]}, {"bond_feature_sizes": [6, 6, 2, 3]}]
)
def test_extractor_of_another_layout(layout):
    with pytest.raises(ValueError, match="expects graph features of version .* but this code writes version 1"):
        MoleculeGraphFeatureExtractor(**layout)
