import pytest
import torch
from rdkit import Chem

from class_hf import MoleculeFingerprintConfig, MoleculeFingerprintFeatureExtractor, MoleculeFingerprintModel


def ids(smiles, **kwargs):
    return sorted(MoleculeFingerprintFeatureExtractor(**kwargs)(smiles)["fragment_ids"].tolist())


@pytest.mark.parametrize(
    "smiles", ["CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)O", "[Na+].[Cl-]", r"C/C=C\C", "[2H]C([2H])O"]
)
def test_any_writing_of_a_molecule_gives_the_same_ids(smiles):
    molecule = Chem.MolFromSmiles(smiles)
    for seed in range(3):
        other = Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed + 1)[0]
        assert ids(other) == ids(smiles)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CCCCCCCCCO", "CCCCCCCCCCO"),  # counts between powers of two
        ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),  # enantiomers
        ("CC(=O)O", "CC(=O)[O-]"),  # charge
        ("CCO", "[13CH3]CO"),  # isotope
        ("OCCO", "OCC(O)CO"),
        ("CCCCCCO", "CCCCCCCO"),  # the count of a fragment alone
    ],
)
def test_different_molecules_differ(one, other):
    assert ids(one) != ids(other)


def test_counts_in_unary():
    one, two = (set(ids(smiles, radius=0, num_buckets=10**6, substructures=())) for smiles in ("C", "[Na+].[Na+]"))
    assert len(one) == 1 and len(two) == 2


def test_collate_equals_single():
    extractor = MoleculeFingerprintFeatureExtractor()
    smiles = ["CCO", "c1ccccc1", "[Na+]"]
    batch = extractor(smiles)
    for row, one in enumerate(smiles):
        start, end = batch["fragment_offsets"][row : row + 2].tolist()
        assert torch.equal(batch["fragment_ids"][start:end], extractor(one)["fragment_ids"])


@pytest.mark.parametrize("smiles", ["C1CC(", "", "   ", "xyz"])
def test_bad_smiles_are_named(smiles):
    with pytest.raises(ValueError, match="RDKit cannot parse the SMILES"):
        MoleculeFingerprintFeatureExtractor().encode(smiles)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`radius` is -1"):
        MoleculeFingerprintFeatureExtractor(radius=-1)
    with pytest.raises(ValueError, match="`num_buckets` is 0"):
        MoleculeFingerprintFeatureExtractor(num_buckets=0)
    with pytest.raises(ValueError, match="'ring'; choose among torsions, composition"):
        MoleculeFingerprintFeatureExtractor(substructures=("ring",))


def test_saved_equals_loaded(tmp_path):
    extractor = MoleculeFingerprintFeatureExtractor(
        radius=1, num_buckets=321, count_thresholds=(1, 5), substructures=("pieces",)
    )
    extractor.save_pretrained(tmp_path)
    loaded = MoleculeFingerprintFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.encode("CCCCCCCCO") == extractor.encode("CCCCCCCCO")
    model = MoleculeFingerprintModel(MoleculeFingerprintConfig(num_buckets=321, hidden_size=8)).eval()
    model.save_pretrained(tmp_path)
    again = MoleculeFingerprintModel.from_pretrained(tmp_path)
    batch = extractor(["CCO", "CCN"])
    assert torch.equal(model(**batch).pooler_output, again(**batch).pooler_output)
