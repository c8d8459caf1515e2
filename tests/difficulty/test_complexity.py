"""Tests of class_hf.difficulty.complexity."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from class_hf.difficulty.complexity import Complexity
from class_hf.difficulty.pair_features import Frequencies, PairFeatures, Ragged
from class_hf.difficulty.ranks import rank_among

TEXTS = [
    "The molecule is an alcohol.",
    "The molecule is an acid.",
    "The molecule is an alcohol, an alcohol and a solvent of the trade.",
    "The molecule is a zwitterion isolated from Bufo marinus, the cane toad of the tropics.",
]
SMILES = ["CCO", "CC(=O)O", "C1CCCCC1O", "C[C@H](N)C(=O)O"]
IDS = ["a", "b", "c", "d"]


def complexity(texts=TEXTS, smiles=SMILES):
    return Complexity.fit(PairFeatures([str(i) for i in range(len(texts))], texts, smiles))


def test_words_are_runs_of_letters_and_digits_in_lower_case():
    pairs = PairFeatures(["x", "y"], ["N(6)-Acetyl_lysine", "ACETYL n 6 lysine"], ["C", "C"])
    assert np.diff(pairs.words.offsets).tolist() == [4, 4]
    assert set(pairs.words.values[:4]) == set(pairs.words.values[4:])


def test_sizes_count_atoms_rings_and_stereo_marks():
    pairs = PairFeatures(["x", "y", "z"], ["w", "w", "w"], ["C[C@H](N)C(=O)O", "C/C=C\\C", "c1ccc2ccccc2c1.[Na+]"])
    assert pairs.sizes.tolist() == [[6, 0, 1], [4, 0, 1], [11, 2, 0]]


def test_fragments_folded_are_the_bits_of_rdkit():
    pairs = PairFeatures(IDS, TEXTS, SMILES)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048, includeChirality=True)
    for i, smiles in enumerate(SMILES):
        ids = pairs.fragments.values[pairs.fragments.offsets[i] : pairs.fragments.offsets[i + 1]]
        expected = generator.GetFingerprint(Chem.MolFromSmiles(smiles)).GetOnBits()
        assert set((ids % 2048).tolist()) == set(expected)


def test_distinct_sorts_and_counts_within_each_row():
    rows = Ragged.of([[3, 1, 3], [], [2, 2]], np.uint64)
    distinct, counts = rows.distinct()
    assert distinct.values.tolist() == [1, 3, 2]
    assert distinct.offsets.tolist() == [0, 2, 2, 3]
    assert counts.tolist() == [1, 2, 2]


def test_rank_among_gives_mid_ranks():
    reference = np.array([1.0, 2.0, 2.0, 5.0])
    ranks = rank_among(np.array([0.0, 1.0, 2.0, 3.0, 5.0, 9.0]), reference)
    assert ranks.tolist() == [0.0, 0.125, 0.5, 0.75, 0.875, 1.0]
    own = rank_among(reference, reference)
    assert own.mean() == 0.5
    assert (rank_among(own, own) == own).all()


def test_a_rare_word_weighs_the_same_in_a_training_caption_and_in_a_new_one():
    training = Ragged.of([[1], [1], [1, 7]], np.uint64)
    frequencies = Frequencies.of(training)
    seen = frequencies.rarity(Ragged.of([[7]], np.uint64), seen=True)
    # Without row 2, the word 7 is as unknown to the two others as 8 is to them.
    others = Frequencies.of(Ragged.of([[1], [1]], np.uint64))
    new = others.rarity(Ragged.of([[8]], np.uint64), seen=False)
    assert seen == new == np.log(3)


def test_rarity_counts_each_word_once():
    frequencies = Frequencies.of(Ragged.of([[1, 2], [1], [1]], np.uint64))
    once, repeated = Ragged.of([[1, 2]], np.uint64), Ragged.of([[1, 2, 2, 2]], np.uint64)
    assert frequencies.rarity(once, seen=True) == frequencies.rarity(repeated, seen=True)


def test_long_captions_of_rare_words_and_large_stereo_molecules_score_high():
    _, raw = complexity()
    assert raw[:, 0].argmax() == 3
    assert raw[:, 1].argmin() == 0
    assert raw[:, 1].argmax() in (2, 3)


def test_equal_pairs_score_equally():
    _, raw = complexity([*TEXTS, TEXTS[0]], [*SMILES, SMILES[0]])
    assert (raw[0] == raw[4]).all()


def test_new_pairs_are_ranked_among_the_training_pairs():
    fitted, raw = complexity()
    longest = "Unheard words " * 40
    new = fitted.score(PairFeatures(["x", "y"], [longest, "acid"], ["C[C@H](Cl)[C@@H]1CC2CC1C=C2Br", "C"]))
    assert new[0, 0] == 1.0
    assert new[0, 1] > raw[:, 1].max()
    assert new[1, 0] < raw[:, 0].min() + 0.5
    assert ((new >= 0) & (new <= 1)).all()


def test_reading_names_the_row_of_a_smiles_that_does_not_parse():
    with pytest.raises(ValueError, match=r"row 17 \(id b\): RDKit cannot parse the SMILES 'C1CC\('.*drop"):
        len(PairFeatures(["a", "b"], ["x", "y"], ["C", "C1CC("], rows=[16, 17]).fragments)
    with pytest.raises(ValueError, match=r"^id b: the SMILES is ''; expected a non-empty string"):
        len(PairFeatures(["a", "b"], ["x", "y"], ["C", ""]).sizes)


@pytest.mark.parametrize("caption", ["", "  ", "...?!"])
def test_reading_names_the_row_of_a_caption_without_words(caption):
    with pytest.raises(ValueError, match=r"id a: the description .* has no word"):
        PairFeatures(["a"], [caption], ["C"])
