"""Exchanged captions: the right number, never a right pair, near neighbours by brute force."""

import numpy as np
import pytest
from datasets import Dataset
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from class_hf.data import exchange_captions
from class_hf.data.demo.dataset import load_demo


@pytest.fixture(scope="module")
def pairs():
    return load_demo(size=200)["train"]


@pytest.mark.parametrize("among", ("random", "neighbours"))
@pytest.mark.parametrize("share", (0.0, 0.05, 0.4, 1.0))
def test_exchange_is_a_permutation_with_labels(pairs, among, share):
    result = exchange_captions(pairs, share, seed=3, among=among)
    assert result.column_names == [*pairs.column_names, "exchanged"]
    assert sorted(result["description"][:]) == sorted(pairs["description"][:])
    changed = np.array(result["description"][:]) != np.array(pairs["description"][:])
    assert changed.tolist() == result["exchanged"][:]
    assert changed.sum() == round(share * len(pairs))
    assert result["smiles"][:] == pairs["smiles"][:] and result["id"][:] == pairs["id"][:]


def test_exchange_depends_on_the_seed_only(pairs):
    again = [exchange_captions(pairs, 0.2, seed=seed)["description"][:] for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_a_larger_share_contains_a_smaller_one(pairs):
    small, large = (np.array(exchange_captions(pairs, share, 5)["exchanged"][:]) for share in (0.1, 0.3))
    assert (small <= large).all()


def test_neighbours_are_paired_greedily(pairs):
    result = exchange_captions(pairs, 1.0, among="neighbours")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in pairs["smiles"]]
    captions = pairs["description"][:]
    # All rows are chosen, in the random order that also breaks ties.
    rows = np.random.default_rng(0).permutation(len(pairs))
    edges = [
        (-DataStructs.TanimotoSimilarity(prints[rows[a]], prints[rows[b]]), a, b)
        for a in range(len(rows))
        for b in range(a + 1, len(rows))
        if captions[rows[a]] != captions[rows[b]]
    ]
    wanted = list(captions)
    free = set(range(len(rows)))
    for _, a, b in sorted(edges):
        if a in free and b in free:
            free -= {a, b}
            wanted[rows[a]], wanted[rows[b]] = captions[rows[b]], captions[rows[a]]
    assert result["description"][:] == wanted


@pytest.mark.parametrize("among", ("random", "neighbours"))
def test_a_right_pair_is_never_called_exchanged(among):
    # Ten molecules with three captions each, the SMILES written in two ways, and a caption of two molecules.
    smiles = [text for length in range(1, 11) for text in ("C" * length + "O", "O" + "C" * length, "C" * length + "O")]
    texts = [f"caption {row}" for row in range(30)]
    texts[0] = texts[5] = "shared"
    owners = {}
    for text, molecule in zip(texts, smiles, strict=True):
        owners.setdefault(text, set()).add(Chem.CanonSmiles(molecule))
    for seed in range(20):
        result = exchange_captions(Dataset.from_dict({"smiles": smiles, "description": texts}), 1.0, seed, among)
        for row in result:
            if row["exchanged"]:
                assert Chem.CanonSmiles(row["smiles"]) not in owners[row["description"]]
        assert sorted(result["description"][:]) == sorted(texts)
        # Greedy pairing can leave several rows of the same molecule without a partner.
        assert sum(result["exchanged"][:]) >= {"random": 28, "neighbours": 22}[among]


def test_equal_molecules_keep_their_captions():
    pairs = Dataset.from_dict({"smiles": ["CCO", "OCC", "C(O)C"], "description": ["a", "b", "c"]})
    for among in ("random", "neighbours"):
        result = exchange_captions(pairs, 1.0, among=among)
        assert result["description"][:] == ["a", "b", "c"] and not any(result["exchanged"][:])


@pytest.mark.parametrize(
    ("columns", "share", "among", "message"),
    [
        ({}, 1.5, "random", r"share is 1.5; expected a number in \[0, 1\]"),
        ({}, float("nan"), "random", "share is nan"),
        ({}, 0.5, "near", "among is 'near'; expected 'random' or 'neighbours'"),
        ({}, 0.2, "random", "chooses 1 of 4 rows; expected at least 2 rows"),
        ({"difficulty": [0.0] * 4}, 0.5, "random", "has the column 'difficulty'"),
        ({"smiles": ["C", "C1", "CC", "CCC"]}, 1.0, "neighbours", "cannot parse the SMILES 'C1'"),
    ],
)
def test_wrong_arguments_are_named(columns, share, among, message):
    rows = {"smiles": ["CO", "CCO", "CCCO", "CCCCO"], "description": list("abcd"), **columns}
    with pytest.raises(ValueError, match=message):
        exchange_captions(Dataset.from_dict(rows), share, among=among)


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match="has no column description"):
        exchange_captions(Dataset.from_dict({"smiles": ["C"]}), 0.5)
