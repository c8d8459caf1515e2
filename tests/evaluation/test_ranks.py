"""Ranks equal a full sort in float64, in one direction and in both, and ties get their mean rank."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from class_hf.evaluation.ranks import TIE_TOLERANCE, rank_in_pools, rank_partners


def random(rows, columns=8, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def brute_force(queries, candidates, gold):
    """Mean ranks of ties, counted in float64 with NumPy, as a user recomputes them from exported embeddings."""
    u, v = (np.asarray(side, np.float64) for side in (queries, candidates))
    u, v = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (u, v))
    scores = u @ v.T
    gaps = scores - scores[np.arange(len(u)), gold][:, None]
    above, tied = gaps > TIE_TOLERANCE, np.abs(gaps) <= TIE_TOLERANCE
    return (above.sum(1) + (tied.sum(1) + 1) / 2).tolist()


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


def test_candidates_that_float32_cannot_order_are_ordered_in_float64():
    # All cosines with the query are within a few roundings of float32 from 1, and further apart than the tolerance.
    generator = torch.Generator().manual_seed(0)
    query = torch.nn.functional.normalize(random(4, 16), dim=-1)
    near = query[:, None] + 6e-4 * torch.randn(4, 3, 16, generator=generator)
    candidates = torch.cat([near.flatten(0, 1), random(300, 16, seed=3)])
    gold = torch.tensor([0, 4, 8, 9])
    ranks = rank_partners(query, candidates, gold)
    assert ranks.tolist() == brute_force(query, candidates, gold) and set(ranks) <= {1.0, 2.0, 3.0}


# -- ties within the tolerance ------------------------------------------------------------------------------------


def noisy_twins(dimension=256, pairs=16, seed=0):
    """Queries (Q, D), candidates (3 Q, D), the true rows: each true candidate has two twins with rounding noise."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.nn.functional.normalize(torch.randn(pairs, dimension, generator=generator), dim=-1)
    queries = true + 0.05 * torch.randn(pairs, dimension, generator=generator)
    noise = 1e-8 * torch.randn(2, pairs, dimension, generator=generator)
    return queries, torch.cat([true, true + noise[0], true + noise[1]]), torch.arange(pairs)


@pytest.mark.parametrize("seed", range(2))
def test_twins_with_rounding_noise_are_tied_in_any_order_and_block(seed):
    queries, candidates, gold = noisy_twins(seed=seed)
    expected = rank_partners(queries, candidates, gold)
    assert set(expected.tolist()) == {2.0}  # the mean of 1, 2 and 3
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))
    places = torch.argsort(order)
    for block_size in (7, 512):
        assert rank_partners(queries, candidates[order], places[gold], block_size).tolist() == expected.tolist()


@pytest.mark.parametrize("shift", (0.5, 0.99, 1.01, 2.0))
def test_the_tolerance_is_of_the_cosine(shift):
    """Two candidates whose cosines with the query differ by a share of the tolerance."""
    true = 0.5
    cosines = np.array([true, true + shift * TIE_TOLERANCE])
    candidates = torch.from_numpy(np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1))
    rank = rank_partners(torch.tensor([[3.0, 0.0]], dtype=torch.float64), candidates, torch.tensor([0]))
    assert rank.tolist() == [1.5 if shift < 1 else 2.0]


def test_ranks_do_not_depend_on_threads_and_a_recomputation_agrees():
    texts, molecules = random(200, 64), with_twins(random(500, 64, seed=1))
    further, gold = random(300, 64, seed=2), torch.randperm(500, generator=torch.Generator().manual_seed(3))[:200]
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            results.append(rank_in_pools(texts, molecules, gold, further))
    finally:
        torch.set_num_threads(threads)
    for result in results:
        assert result["full"][0].tolist() == brute_force(texts, molecules, gold)
        captions = torch.cat([texts, further])
        assert result["full"][1].tolist() == brute_force(molecules[gold], captions, np.arange(200))
        assert result["split"][0].tolist() == brute_force(texts, molecules[gold], np.arange(200))


def test_normalised_and_float64_exports_have_the_same_ranks():
    queries, candidates, gold = noisy_twins(seed=5)
    expected = rank_partners(queries, candidates, gold).tolist()
    for export in (
        lambda vectors: torch.nn.functional.normalize(vectors, dim=-1),
        lambda vectors: vectors.double(),
        lambda vectors: torch.nn.functional.normalize(vectors.double(), dim=-1),
    ):
        assert rank_partners(export(queries), export(candidates), gold).tolist() == expected


# ------------------------------------------------------------------------------------------------------------------


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
    partners, captions, each = molecules[gold], torch.cat([texts, further]), torch.arange(50)
    ranks = rank_in_pools(texts, molecules, gold, further, block_size)
    passes = {
        "full": ((texts, molecules, gold), (partners, captions, each)),
        "split": ((texts, partners, each), (partners, texts, each)),
    }
    for pool, directions in passes.items():
        for together, arguments in zip(ranks[pool], directions, strict=True):
            assert together.tolist() == rank_partners(*arguments, block_size=1000).tolist() == brute_force(*arguments)
    assert any(rank % 1 for rank in ranks["split"][0])  # there are ties


def test_without_further_texts_the_pools_of_texts_are_equal():
    ranks = rank_in_pools(random(20), random(20, seed=1), torch.arange(20))
    for full, split in zip(ranks["full"], ranks["split"], strict=True):
        assert full.tolist() == split.tolist()


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        sizes = [value.numel() for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        self.size = max([self.size, *sizes])
        return result


def test_one_pass_costs_one_product_and_holds_one_block():
    texts, molecules, further = random(100), random(425, seed=1), random(150, seed=2)
    similarities = 100 * 425 + 150 * 100
    with FlopCounterMode(display=False) as flops, LargestTensor() as largest:
        rank_in_pools(texts, molecules, torch.arange(100), further, block_size=25)
    assert flops.get_total_flops() <= 1.2 * 2 * 8 * similarities  # two operations for each of 8 dimensions
    assert largest.size <= max(425 * 8, 25 * 25)  # the embeddings, or a block: never queries x candidates


def test_bad_input():
    with pytest.raises(ValueError, match="gold must name"):
        rank_partners(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="candidates are not all finite"):
        rank_partners(torch.ones(1, 3), torch.full((2, 3), float("nan")), torch.tensor([0]))
    with pytest.raises(ValueError, match="molecules are not all finite"):
        rank_in_pools(torch.ones(1, 3), torch.full((2, 3), float("nan")), torch.tensor([0]))
