"""Ranks equal a full sort, in one direction and in both, whatever the blocks; ties are ties."""

import numpy as np
import pytest
import torch

from class_hf.evaluation.ranks import rank_in_pools, rank_partners


def random(rows, columns=8, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def brute_force(queries, candidates, gold):
    """Mean ranks of ties by counting in float64."""
    u, v = (torch.nn.functional.normalize(side, dim=-1).double().numpy() for side in (queries, candidates))
    scores = u @ v.T
    gaps = scores - scores[np.arange(len(u)), gold][:, None]
    gaps[np.abs(gaps) < 1e-12] = 0.0
    return ((gaps > 0).sum(1) + ((gaps == 0).sum(1) + 1) / 2).tolist()


def with_twins(embeddings):
    """Every third row equals the row before."""
    embeddings = embeddings.clone()
    embeddings[2::3] = embeddings[1::3][: len(embeddings[2::3])]
    return embeddings


@pytest.mark.parametrize("block_size", (1, 7, 64, 1000))
def test_equals_a_full_sort(block_size):
    queries, candidates = random(60), random(90, seed=1)
    gold = torch.randint(0, 90, (60,), generator=torch.Generator().manual_seed(2))
    ranks = rank_partners(queries, candidates, gold, block_size)
    u, v = (torch.nn.functional.normalize(side, dim=-1) for side in (queries, candidates))
    order = (u @ v.T).argsort(dim=1, descending=True)
    assert ranks.tolist() == ((order == gold[:, None]).nonzero()[:, 1] + 1).tolist()
    assert ranks.tolist() == brute_force(queries, candidates, gold)


def test_ties_get_their_mean_rank():
    candidates = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert rank_partners(query, candidates, torch.tensor([1, 3])).tolist() == [2.0, 1.0]


@pytest.mark.parametrize(("dimension", "queries"), [(3, 2), (794, 141), (533, 11)])
def test_a_collapsed_model_is_at_chance(dimension, queries):
    # The larger two are shapes at which a float32 product gives equal columns different last bits.
    candidates = random(1, dimension).expand(171, -1)
    ranks = rank_in_pools(random(queries, dimension, seed=1), candidates, torch.arange(queries))["full"][0]
    assert set(ranks.tolist()) == {86.0}
    assert set(rank_partners(candidates, candidates, torch.arange(171), block_size=50).tolist()) == {86.0}


def test_what_float32_cannot_order_is_ordered_in_float64():
    # All cosines with the query are within a few roundings of 1, and several of a block are decided one by one.
    generator = torch.Generator().manual_seed(0)
    query = torch.nn.functional.normalize(random(4, 16), dim=-1)
    near = query[:, None] + 1e-4 * torch.randn(4, 3, 16, generator=generator)
    candidates = torch.cat([near.flatten(0, 1), random(300, 16, seed=3)])
    gold = torch.tensor([0, 4, 8, 9])
    ranks = rank_partners(query, candidates, gold)
    assert ranks.tolist() == brute_force(query, candidates, gold) and set(ranks) <= {1.0, 2.0, 3.0}


def test_less_precise_products_change_nothing():
    texts, molecules, gold = random(40), random(70, seed=1), torch.arange(40)
    exact = rank_partners(texts, molecules, gold)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rank_partners(texts, molecules, gold).tolist() == exact.tolist()


def test_the_length_of_a_vector_does_not_matter():
    queries, candidates, gold = random(9, 4), random(9, 4, seed=1), torch.arange(9)
    stretched = candidates * torch.rand(9, 1, generator=torch.Generator().manual_seed(2)).add(0.1)
    assert rank_partners(queries, candidates, gold).tolist() == rank_partners(queries, stretched, gold).tolist()


@pytest.mark.parametrize("block_size", (9, 64))
@pytest.mark.parametrize("shared", (False, True), ids=("one text a molecule", "shared molecules"))
def test_one_pass_equals_four(block_size, shared):
    texts, molecules, further = with_twins(random(50)), with_twins(random(80, seed=1)), with_twins(random(30, seed=2))
    gold = torch.randperm(80, generator=torch.Generator().manual_seed(3))[:50]
    if shared:
        gold[:5] = gold[5:10]
    own, captions, each = molecules[gold], torch.cat([texts, further]), torch.arange(50)
    ranks = rank_in_pools(texts, molecules, gold, further, block_size)
    passes = {
        "full": ((texts, molecules, gold), (own, captions, each)),
        "split": ((texts, own, each), (own, texts, each)),
    }
    for pool, both in passes.items():
        for together, alone in zip(ranks[pool], both, strict=True):
            assert together.tolist() == rank_partners(*alone, block_size=1000).tolist() == brute_force(*alone)
    assert any(rank % 1 for rank in ranks["split"][0])  # there are ties


def test_without_further_texts_the_pools_of_texts_are_equal():
    ranks = rank_in_pools(random(20), random(20, seed=1), torch.arange(20))
    for full, split in zip(ranks["full"], ranks["split"], strict=True):
        assert full.tolist() == split.tolist()


def test_every_similarity_is_computed_once_and_in_blocks(monkeypatch):
    sizes = []
    matmul = torch.Tensor.__matmul__

    def counting(left, right):
        if left.dtype == torch.float32:
            sizes.append(len(left) * right.shape[1])
        return matmul(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", counting)
    rank_in_pools(random(100), random(170, seed=1), torch.arange(100), random(60, seed=2), block_size=25)
    probes = 3 * 25 * 25  # the first block of each of the three parts is computed twice, to see how precise it is
    assert sum(sizes) == 100 * 170 + 60 * 100 + probes and max(sizes) == 25 * 25


def test_bad_input():
    with pytest.raises(ValueError, match="gold must name"):
        rank_partners(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="candidates are not all finite"):
        rank_partners(torch.ones(1, 3), torch.full((2, 3), float("nan")), torch.tensor([0]))
    with pytest.raises(ValueError, match="molecules are not all finite"):
        rank_in_pools(torch.ones(1, 3), torch.full((2, 3), float("nan")), torch.tensor([0]))
