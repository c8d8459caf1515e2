"""Hubness is the mean cosine to the nearest of the bank; as a penalty it moves ranks as a full sort says."""

import numpy as np
import pytest
import torch

from class_hf.evaluation.query_bank import hubness
from class_hf.evaluation.ranks import rank_in_pools


def random(rows, columns=8, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def unit(vectors):
    return torch.nn.functional.normalize(vectors.float(), dim=-1).double().numpy()


@pytest.mark.parametrize("block_size", (1, 7, 1000))
def test_hubness_equals_a_full_sort(block_size):
    candidates, bank = random(30), random(40, seed=1)
    expected = np.sort(unit(candidates) @ unit(bank).T, axis=1)[:, -5:].mean(1)
    assert np.allclose(hubness(candidates, bank, 5, block_size).numpy(), expected, atol=1e-7)
    everything = (unit(candidates) @ unit(bank).T).mean(1)
    assert np.allclose(hubness(candidates, bank, 99).numpy(), everything, atol=1e-7)


def test_equal_candidates_are_equal_hubs_in_blocks_of_any_shape():
    candidates = random(1, 794).expand(171, -1)
    assert len(hubness(candidates, random(141, 794, seed=1), block_size=50).unique()) == 1


def test_what_makes_no_bank_is_refused():
    with pytest.raises(ValueError, match="bank is empty"):
        hubness(random(3), random(0))
    with pytest.raises(ValueError, match="neighbours is 0"):
        hubness(random(3), random(4), neighbours=0)


@pytest.mark.parametrize("penalised", (("text",), ("molecule",), ("text", "molecule")))
def test_penalties_move_ranks_as_a_full_sort_says(penalised):
    texts, molecules, further = random(20), random(50, seed=1), random(30, seed=2)
    molecules[3] = molecules[2]  # a tie must stay one
    gold = torch.arange(20)
    penalties = {"text": random(50, 1, seed=3).flatten(), "molecule": random(50, 1, seed=4).flatten()}
    penalties["molecule"][3] = penalties["molecule"][2]
    given = {f"{side}_penalties": penalties[side] for side in penalised}
    ranks = rank_in_pools(texts, molecules, gold, further, block_size=7, **given)

    zero = np.zeros(50)
    a, b = (penalties[side].double().numpy() if side in penalised else zero for side in ("text", "molecule"))
    scores = unit(torch.cat([texts, further])) @ unit(molecules).T - a[:, None] - b

    def mean_ranks(rows):
        gaps = rows - rows[np.arange(20), np.arange(20)][:, None]
        gaps[np.abs(gaps) < 1e-9] = 0
        return ((gaps > 0).sum(1) + ((gaps == 0).sum(1) + 1) / 2).tolist()

    assert ranks["full"][0].tolist() == mean_ranks(scores[:20])
    assert ranks["full"][1].tolist() == mean_ranks(scores.T[:20])
    assert ranks["split"][0].tolist() == mean_ranks(scores[:20, :20])
    assert ranks["split"][1].tolist() == mean_ranks(scores[:20, :20].T)
    plain = rank_in_pools(texts, molecules, gold, further)
    assert ranks["full"][0].tolist() != plain["full"][0].tolist() or "molecule" not in penalised
