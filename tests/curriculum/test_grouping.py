"""Similar pairs are in one batch, and the batches depend only on the plan."""

import numpy as np
import pytest

from class_hf import CurriculumPlan
from class_hf.curriculum.grouping import group_similar, pair_vectors
from class_hf.difficulty.pair_features import PairFeatures

KINDS = 8
CAPTIONS = ("acid", "ester", "steroid", "lipid", "peptide", "sugar", "amine", "alcohol")
SMILES = ("CC(=O)O", "CC(=O)OC", "C1CCCC1", "CCCCCCCC", "NCC(=O)NC", "OC1CCOC1", "CCN", "CCO")


def alike(each=6):
    """`each` pairs of each kind, in the order of the kinds."""
    rows = [(kind, number) for kind in range(KINDS) for number in range(each)]
    ids = [f"{kind}-{number:02d}" for kind, number in rows]
    captions = [f"The molecule is a {CAPTIONS[kind]}, number {number}." for kind, number in rows]
    return PairFeatures(ids, captions, [SMILES[kind] + "C" * (number % 2) for kind, number in rows])


def plan(pairs=None, **kwargs):
    pairs = alike() if pairs is None else pairs
    settings = dict(epochs=4, batch_size=12, order="random", start=0.5, group_size=6) | kwargs
    return CurriculumPlan(ids=pairs.ids, vectors=pair_vectors(pairs), **settings)


def test_vectors_are_whole_numbers_of_one_length_whatever_the_order_of_rows():
    pairs = alike()
    vectors = pair_vectors(pairs)
    assert vectors.shape == (48, 1024) and vectors.dtype == np.float32
    assert np.array_equal(vectors, np.rint(vectors)) and np.abs(vectors).max() <= 127
    for half in (vectors[:, :512], vectors[:, 512:]):
        assert np.allclose(np.linalg.norm(half, axis=1), 127, rtol=0.03)
    order = np.random.default_rng(0).permutation(48)
    shuffled = PairFeatures(*([column[i] for i in order] for column in (pairs.ids, pairs.descriptions, pairs.smiles)))
    assert np.array_equal(pair_vectors(shuffled), vectors[order])


def test_alike_pairs_are_nearer():
    vectors = pair_vectors(alike())
    kind = np.repeat(np.arange(KINDS), 6)
    dots = vectors @ vectors.T
    same = kind[:, None] == kind
    assert dots[same].mean() > 3 * dots[~same].mean()


def test_terms_of_a_single_pair_join_it_to_no_other():
    pairs = PairFeatures(list("ab"), ["one two", "three four"], ["CC", "O"])
    assert not pair_vectors(pairs).any()


@pytest.mark.parametrize("size", (1, 5, 6, 48, 100))
def test_grouping_keeps_all_rows(size):
    rows = np.random.default_rng(0).permutation(48)
    grouped = group_similar(rows, pair_vectors(alike()), size, np.random.default_rng(1))
    assert sorted(grouped.tolist()) == list(range(48))


def kinds_in_a_batch(made):
    batches = [batch // 6 for epoch in range(made.epochs) for batch in made.epoch_order(epoch).reshape(-1, 12)]
    return np.mean([len(set(batch)) for batch in batches])


def test_a_batch_holds_few_kinds_and_each_epoch_others():
    made = plan(start=1.0)
    assert len({tuple(made.epoch_order(epoch)) for epoch in range(4)}) == 4
    assert 2 <= kinds_in_a_batch(made) < 4 < 6 < kinds_in_a_batch(plan(start=1.0, group_size=1))


def test_the_members_of_an_epoch_are_the_same_with_groups_and_without():
    grouped, plain = plan(batch_size=6, order="none"), plan(batch_size=6, order="none", group_size=1)
    assert grouped.steps_per_epoch == plain.steps_per_epoch
    for epoch in range(4):
        assert sorted(grouped.epoch_order(epoch)) == sorted(plain.epoch_order(epoch))


def test_groups_start_at_the_epoch_that_is_set():
    late, plain, grouped = plan(group_from=0.5), plan(group_size=1), plan()
    for epoch in range(4):
        assert np.array_equal(late.epoch_order(epoch), (plain if epoch < 2 else grouped).epoch_order(epoch))


def test_the_order_of_the_rows_does_not_matter():
    pairs = alike()
    order = np.random.default_rng(5).permutation(48)
    shuffled = PairFeatures(*([column[i] for i in order] for column in (pairs.ids, pairs.descriptions, pairs.smiles)))
    assert [pairs.ids[i] for i in plan(pairs).order()] == [shuffled.ids[i] for i in plan(shuffled).order()]


def test_plans_with_other_groups_are_other_plans():
    prints = {plan().fingerprint(), plan(group_size=1).fingerprint(), plan(group_size=3).fingerprint()}
    prints.add(plan(PairFeatures(alike().ids, alike().descriptions[::-1], alike().smiles)).fingerprint())
    assert len(prints) == 4
    assert plan().fingerprint() == plan().fingerprint()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="group size is 0"):
        plan(group_size=0)
    with pytest.raises(ValueError, match="start at 1.5"):
        plan(group_from=1.5)
    with pytest.raises(ValueError, match="groups of 6 need a vector of each of the 48 pairs; got none"):
        CurriculumPlan(num_pairs=48, epochs=1, batch_size=12, order="none", group_size=6)
