"""Tests of class_hf.difficulty.alignment."""

import pickle

import numpy as np
import pytest
import torch

from class_hf.difficulty.alignment import Alignment
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.difficulty.reference import mid_ranks, split_halves

GROUPS = ["O", "N", "C(=O)O", "Cl", "c1ccccc1", "C#N", "S", "Br"]
NAMES = ["alcohol", "amine", "acid", "chloride", "arene", "nitrile", "thiol", "bromide"]


def make_pairs(indices):
    smiles = ["C" * (1 + i // 8) + GROUPS[i % 8] for i in indices]
    texts = [f"The molecule is an {NAMES[i % 8]} with {1 + i // 8} carbons." for i in indices]
    return PairFeatures([str(i) for i in indices], texts, smiles)


@pytest.fixture(scope="module")
def fitted():
    return Alignment.fit(make_pairs(range(40)), seed=0, steps=20)


def test_raw_scores_are_log_mid_ranks_within_a_half(fitted):
    _, raw = fitted
    ranks = np.exp(raw)
    assert raw.shape == (40, 2)
    assert ((ranks > 0.999) & (ranks < 20.001)).all()
    np.testing.assert_allclose(ranks * 2, np.round(ranks * 2), atol=1e-9)


def test_the_reference_ranks_better_than_chance(fitted):
    # Chance is a mean rank of 10.5 in a half of 20.
    assert np.exp(fitted[1]).mean() < 6


def test_training_is_deterministic_by_seed_and_leaves_the_global_state_alone(fitted):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    repeated, raw = Alignment.fit(make_pairs(range(40)), seed=0, steps=20)
    assert torch.equal(torch.get_rng_state(), before)
    assert (raw == fitted[1]).all()
    assert pickle.dumps(repeated) == pickle.dumps(fitted[0])
    _, other = Alignment.fit(make_pairs(range(40)), seed=1, steps=20)
    assert (other != raw).any()


def test_new_pairs_score_the_same_alone_and_together(fitted):
    whole = fitted[0].score(make_pairs(range(40, 50)))
    ones = [fitted[0].score(make_pairs([i])) for i in range(40, 50)]
    assert (np.concatenate(ones) == whole).all()
    assert torch.get_num_threads() >= 1


def test_new_pairs_score_the_same_after_pickling(fitted):
    copy = pickle.loads(pickle.dumps(fitted[0]))
    new = make_pairs(range(40, 45))
    assert (copy.score(new) == fitted[0].score(new)).all()


def test_state_is_plain_arrays(fitted):
    state = fitted[0].__dict__
    assert set(state) == {"weights", "pools"}
    assert all(type(value) is np.ndarray for weights in state["weights"] for value in weights.values())
    assert all(type(pool) is np.ndarray for pool in state["pools"])


def test_threads_are_as_before_after_scoring(fitted):
    threads = torch.get_num_threads()
    fitted[0].score(make_pairs([41]))
    assert torch.get_num_threads() == threads


def test_halves_are_balanced_and_follow_ids_not_order():
    ids = [f"pair{i}" for i in range(41)]
    half = split_halves(ids, seed=0)
    assert sorted(np.bincount(half)) == [20, 21]
    assert (split_halves(ids[::-1], seed=0)[::-1] == half).all()
    assert (split_halves(ids, seed=1) != half).any()


def test_mid_ranks_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    pool = rng.integers(-3, 4, (2, 30, 4)).astype(np.float32)  # few values: many ties
    new = rng.integers(-3, 4, (2, 7, 4)).astype(np.float32)

    def plain(query, true, others):
        return 1 + sum(o > true for o in others) + sum(o == true for o in others) / 2

    def expected(pairs, own):
        rows = []
        for i in range(pairs.shape[1]):
            true = pairs[0, i] @ pairs[1, i]
            kept = [j for j in range(30) if not (own and j == i)]
            rows.append([plain(pairs[s, i], true, [pairs[s, i] @ pool[1 - s, j] for j in kept]) for s in (0, 1)])
        return np.array(rows)

    for max_dots in (2**23, 30 * 4):
        assert (mid_ranks(pool, pool, is_pool=True, max_dots=max_dots) == expected(pool, own=True)).all()
        assert (mid_ranks(new, pool, is_pool=False, max_dots=max_dots) == expected(new, own=False)).all()


def test_no_progress_bar_where_there_is_no_terminal(capfd):
    Alignment.fit(make_pairs(range(8)), seed=0, steps=2)
    assert capfd.readouterr().err == ""
