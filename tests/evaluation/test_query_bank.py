"""The penalties equal their formulas, and change ranks as a full sort does."""

import numpy as np
import pytest
import torch

from class_hf.evaluation.query_bank import bank_penalties
from class_hf.evaluation.ranks import rank_in_pools


def random(rows, columns=8, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def unit(vectors):
    return torch.nn.functional.normalize(vectors.float(), dim=-1).double().numpy()


@pytest.mark.parametrize("block_size", (1, 7, 1000))
def test_half_of_the_mean_of_the_nearest_equals_a_full_sort(block_size):
    candidates, bank = random(30), random(40, seed=1)
    expected = np.sort(unit(candidates) @ unit(bank).T, axis=1)[:, -10:].mean(1) / 2
    assert np.allclose(bank_penalties(candidates, bank, "nearest", block_size=block_size).numpy(), expected, atol=1e-7)
    everything = (unit(candidates) @ unit(bank[:6]).T).mean(1) / 2
    assert np.allclose(bank_penalties(candidates, bank[:6], "nearest").numpy(), everything, atol=1e-7)


@pytest.mark.parametrize("block_size", (1, 7, 1000))
def test_softmax_ranks_as_the_share_of_a_candidates_mass(block_size):
    """Bogolin et al., equation 4: exp(scale s) over its sum with the bank."""
    queries, candidates, bank = random(9, seed=2), random(30), random(40, seed=1)
    penalties = bank_penalties(candidates, bank, scale=12.0, block_size=block_size).numpy()
    mass = np.exp(12.0 * unit(candidates) @ unit(bank).T).mean(1)
    assert np.allclose(penalties, np.log(mass) / 12.0, atol=1e-12)
    cosines = unit(queries) @ unit(candidates).T
    np.testing.assert_array_equal(np.argsort(cosines - penalties), np.argsort(np.exp(12.0 * cosines) / mass))


def test_the_soft_mean_lies_between_the_mean_and_the_largest():
    candidates, bank = random(30), random(40, seed=1)
    cosines = torch.from_numpy(unit(candidates) @ unit(bank).T)
    for scale, expected in ((1e-6, cosines.mean(1)), (1e6, cosines.amax(1))):
        torch.testing.assert_close(bank_penalties(candidates, bank, scale=scale), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ("softmax", "nearest"))
def test_equal_candidates_are_penalised_alike_in_blocks_of_any_shape(method):
    candidates = random(1, 794).expand(171, -1)
    penalties = bank_penalties(candidates, random(141, 794, seed=1), method, 9.0, block_size=50)
    assert penalties.max() - penalties.min() < 1e-14


@pytest.mark.parametrize(
    "bank, kwargs, message",
    [
        (random(0), {"scale": 1.0}, "bank is empty"),
        (random(4), {"method": "mean"}, "method is 'mean'"),
        (random(4), {}, "scale is None"),
        (random(4), {"scale": -1.0}, "scale is -1.0"),
    ],
)
def test_wrong_arguments_are_refused(bank, kwargs, message):
    with pytest.raises(ValueError, match=message):
        bank_penalties(random(3), bank, **kwargs)


@pytest.mark.parametrize("penalised", (("text",), ("molecule",), ("text", "molecule")))
def test_penalties_move_ranks_as_a_full_sort_says(penalised):
    texts, molecules, further = random(20), random(50, seed=1), random(30, seed=2)
    molecules[3] = molecules[2]  # a tie must stay one
    gold = torch.arange(20)
    penalties = {"text": random(50, 1, seed=3).flatten(), "molecule": random(50, 1, seed=4).flatten()}
    penalties["molecule"][3] = penalties["molecule"][2]
    chosen = {f"{side}_penalties": penalties[side] for side in penalised}
    ranks = rank_in_pools(texts, molecules, gold, further, block_size=7, **chosen)

    zero = np.zeros(50)
    a, b = (penalties[side].double().numpy() if side in penalised else zero for side in ("text", "molecule"))
    scores = unit(torch.cat([texts, further])) @ unit(molecules).T - a[:, None] - b

    def mean_ranks(rows):
        gaps = rows - rows[np.arange(20), np.arange(20)][:, None]
        gaps[np.abs(gaps) <= 1e-7] = 0
        return ((gaps > 0).sum(1) + ((gaps == 0).sum(1) + 1) / 2).tolist()

    assert ranks["full"][0].tolist() == mean_ranks(scores[:20])
    assert ranks["full"][1].tolist() == mean_ranks(scores.T[:20])
    assert ranks["split"][0].tolist() == mean_ranks(scores[:20, :20])
    assert ranks["split"][1].tolist() == mean_ranks(scores[:20, :20].T)
    plain = rank_in_pools(texts, molecules, gold, further)
    assert ranks["full"][0].tolist() != plain["full"][0].tolist() or "molecule" not in penalised
