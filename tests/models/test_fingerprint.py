"""The fingerprint feature extractor and its tower."""

import zlib

import numpy as np
import pytest
import torch
from rdkit import Chem

from class_hf import MoleculeFingerprintConfig, MoleculeFingerprintFeatureExtractor, MoleculeFingerprintModel


def ids(smiles, **kwargs):
    return sorted(MoleculeFingerprintFeatureExtractor(**kwargs)(smiles)["fragment_ids"].tolist())


@pytest.mark.parametrize(
    "smiles", ["CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)O", "[Na+].[Cl-]", r"C/C=C\C", "[2H]C([2H])O"]
)
def test_every_smiles_of_a_molecule_gives_the_same_ids(smiles):
    molecule = Chem.MolFromSmiles(smiles)
    for seed in range(3):
        second = Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed + 1)[0]
        assert ids(second) == ids(smiles)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("CCCCCCCCCO", "CCCCCCCCCCO"),  # counts between powers of two
        ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),  # enantiomers
        ("CC(=O)O", "CC(=O)[O-]"),  # charge
        ("CCO", "[13CH3]CO"),  # isotope
        ("OCCO", "OCC(O)CO"),
        ("CCCCCCO", "CCCCCCCO"),  # the count of a fragment alone
    ],
)
def test_different_molecules_differ(first, second):
    assert ids(first) != ids(second)


def test_counts_in_unary():
    first, two = (set(ids(smiles, radius=0, num_buckets=10**6, substructures=())) for smiles in ("C", "[Na+].[Na+]"))
    assert len(first) == 1 and len(two) == 2


def test_ids_are_hashes_of_substructure_and_threshold():
    extractor = MoleculeFingerprintFeatureExtractor(num_buckets=1000, count_thresholds=(1, 2, 4))
    texts = ["atom C:1", "atom C:2", "ring:1"]
    expected = np.array([zlib.crc32(text.encode()) % 1000 for text in texts], "<i4").tobytes()
    for _ in range(2):  # the second time from the cache
        assert extractor.pack({"ring": 1, "atom C": 3, "none": 0}) == expected


def test_collate_equals_single():
    extractor = MoleculeFingerprintFeatureExtractor()
    smiles = ["CCO", "c1ccccc1", "[Na+]"]
    batch = extractor(smiles)
    for row, molecule in enumerate(smiles):
        start, end = batch["fragment_offsets"][row : row + 2].tolist()
        assert torch.equal(batch["fragment_ids"][start:end], extractor(molecule)["fragment_ids"])


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C1CC(", "the syntax is invalid"),
        ("xyz", "the syntax is invalid"),
        ("c1cccc1", "Can't kekulize mol"),
        ("C(C)(C)(C)(C)C", "Explicit valence for atom # 0 C, 5, is greater than permitted"),
        ("CCO |junk|", "the extension is invalid"),
    ],
)
def test_the_error_names_the_smiles_and_the_reason(smiles, reason):
    with pytest.raises(ValueError, match="RDKit cannot parse the SMILES") as error:
        MoleculeFingerprintFeatureExtractor().encode(smiles)
    assert f"{smiles!r}: {reason}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": -1}, "`radius` is -1; expected an integer of at least 0"),
        ({"radius": "2"}, "`radius` is '2'; expected an integer"),
        ({"radius": True}, "`radius` is True; expected an integer"),
        ({"num_buckets": 0}, "`num_buckets` is 0"),
        ({"num_buckets": float("nan")}, "`num_buckets` is nan; expected an integer"),
        ({"count_thresholds": 3}, "`count_thresholds` is 3; expected a list of integers of at least 1"),
        ({"count_thresholds": [0, 1]}, r"`count_thresholds` is \[0, 1\]"),
        ({"substructures": ("ring",)}, "'ring'; choose among torsions, composition"),
        ({"substructures": "torsions"}, "`substructures` is 'torsions'; expected a list of names"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MoleculeFingerprintFeatureExtractor(**arguments)


def test_saved_equals_loaded(tmp_path):
    extractor = MoleculeFingerprintFeatureExtractor(
        radius=1, num_buckets=321, count_thresholds=(1, 5), substructures=("pieces",)
    )
    extractor.save_pretrained(tmp_path)
    loaded = MoleculeFingerprintFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.encode("CCCCCCCCO") == extractor.encode("CCCCCCCCO")
    model = MoleculeFingerprintModel(MoleculeFingerprintConfig(num_buckets=321, hidden_size=8)).eval()
    model.save_pretrained(tmp_path)
    loaded_model = MoleculeFingerprintModel.from_pretrained(tmp_path)
    batch = extractor(["CCO", "CCN"])
    assert torch.equal(model(**batch).pooler_output, loaded_model(**batch).pooler_output)
