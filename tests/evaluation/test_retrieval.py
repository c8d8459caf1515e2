import numpy as np
import pytest
import torch
from conftest import tiny_model

from class_hf import RetrievalEvaluator
from class_hf.evaluation.retrieval import captions_besides, embed, rank_partners


def brute_force(queries, candidates, gold):
    u = queries.numpy() / np.linalg.norm(queries.numpy(), axis=1, keepdims=True)
    v = candidates.numpy() / np.linalg.norm(candidates.numpy(), axis=1, keepdims=True)
    scores = u @ v.T
    order = np.argsort(-scores, axis=1, kind="stable")
    return [list(order[row]).index(gold[row]) + 1 for row in range(len(u))]


@pytest.mark.parametrize("block_size", (1, 7, 64, 1000))
def test_equals_a_full_sort(block_size):
    generator = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(60, 8, generator=generator), torch.randn(90, 8, generator=generator)
    gold = torch.randint(0, 90, (60,), generator=generator)
    assert rank_partners(queries, candidates, gold, block_size).tolist() == brute_force(queries, candidates, gold)


def test_ties_get_their_mean_rank():
    candidates = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert rank_partners(query, candidates, torch.tensor([1, 3])).tolist() == [2.0, 1.0]
    collapsed = rank_partners(torch.ones(2, 3), torch.ones(11, 3), torch.tensor([0, 10]))
    assert collapsed.tolist() == [6.0, 6.0]  # a collapsed model is at chance, not at rank 1


def test_the_length_of_a_vector_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    queries, candidates = torch.randn(9, 4, generator=generator), torch.randn(9, 4, generator=generator)
    gold = torch.arange(9)
    stretched = candidates * torch.rand(9, 1, generator=generator).add(0.1)
    assert rank_partners(queries, candidates, gold).tolist() == rank_partners(queries, stretched, gold).tolist()


def test_bad_input():
    with pytest.raises(ValueError, match="gold must name"):
        rank_partners(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="candidates are not all finite"):
        rank_partners(torch.ones(1, 3), torch.full((2, 3), float("nan")), torch.tensor([0]))


def test_both_pools_both_directions(prepared, processor, model):
    queries, others = prepared.select(range(8)), prepared.select(range(8, 24))
    pool = prepared.select([*range(23, -1, -1)])
    evaluator = RetrievalEvaluator(queries, pool, captions=others, processor=processor, bootstrap_samples=50)
    report = evaluator(model)
    sizes = {
        (name, direction): row["candidates"]
        for name, both in report["pools"].items()
        for direction, row in both.items()
    }
    assert sizes == {
        ("full", "text_to_molecule"): 24,
        ("full", "molecule_to_text"): 24,
        ("split", "text_to_molecule"): 8,
        ("split", "molecule_to_text"): 8,
    }
    full, split = report["pools"]["full"]["text_to_molecule"], report["pools"]["split"]["text_to_molecule"]
    assert full["mean_rank"] >= split["mean_rank"] and full["queries"] == 8
    assert set(full["interval_95"]) == {"hits@1", "hits@10", "mrr", "mean_rank"}
    assert [row["queries"] for row in full["by_difficulty_quartile"]] == [2, 2, 2, 2]


def test_gold_follows_the_ids_not_the_rows(prepared, processor, model):
    shuffled = prepared.select(np.random.default_rng(0).permutation(24))
    ranks = []
    for pool in (prepared, shuffled):
        evaluator = RetrievalEvaluator(prepared, pool, processor=processor)
        ranks.append(evaluator.ranks(evaluator.embeddings(model))["full"]["text_to_molecule"][0].tolist())
    assert ranks[0] == ranks[1]


def test_embedding_does_not_depend_on_the_batch_and_keeps_the_mode(prepared, processor):
    from class_hf import TextMoleculeCollator

    model = tiny_model(dropout=0.5).train()
    collator = TextMoleculeCollator(processor)
    for side in ("text", "molecule"):
        one, many = (embed(model, prepared, collator, side, batch_size) for batch_size in (1, 24))
        torch.testing.assert_close(one, many)
    assert model.training


def test_a_molecule_outside_the_pool_is_named(prepared, processor):
    with pytest.raises(ValueError, match="1 of the 24 molecules .* id 'm05'"):
        RetrievalEvaluator(prepared, prepared.filter(lambda row: row["id"] != "m05"), processor=processor)


def test_captions_besides(prepared):
    splits = {"train": prepared.select(range(20)), "validation": prepared.select(range(20, 24))}
    assert len(captions_besides(splits, "validation")) == 20
    assert captions_besides({"validation": prepared}, "validation") is None
