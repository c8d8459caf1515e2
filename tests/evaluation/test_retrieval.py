import numpy as np
import pytest
import torch
from conftest import tiny_model

from class_hf import RetrievalEvaluator
from class_hf.evaluation.embedding import embed
from class_hf.evaluation.query_bank import bank_penalties
from class_hf.evaluation.retrieval_evaluator import captions_of_other_splits


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
    assert len(captions_of_other_splits(splits, "validation")) == 20
    assert captions_of_other_splits({"validation": prepared}, "validation") is None


@pytest.mark.parametrize("method", ("softmax", "nearest"))
def test_a_query_bank_stands_beside_the_plain_numbers(prepared, processor, model, method):
    queries, others = prepared.select(range(8)), prepared.select(range(8, 24))
    arguments = dict(captions=others, processor=processor, bootstrap_samples=0)
    plain = RetrievalEvaluator(queries, prepared, **arguments)
    evaluator = RetrievalEvaluator(queries, prepared, query_bank=others, bank_method=method, **arguments)
    report = evaluator(model)
    assert report["pools"] == plain(model)["pools"]
    assert (report["query_bank"]["pairs"], report["query_bank"]["method"]) == (16, method)
    embeddings = evaluator.embeddings(model)
    assert embeddings["logit_scale"] == model.logit_scale()
    texts, molecules = embeddings["text_embeds"], embeddings["molecule_embeds"]
    scores = texts.double() @ molecules.double().T
    scores -= bank_penalties(molecules, embeddings["bank_text_embeds"], method, float(embeddings["logit_scale"]))
    gold = scores.gather(1, evaluator.gold[:, None])
    expected = 1 + (scores > gold + 1e-9).sum(1) + ((scores - gold).abs() <= 1e-9).sum(1).sub(1) / 2
    ranks = evaluator.query_bank_ranks(embeddings)["full"]["text_to_molecule"][0]
    assert ranks.tolist() == expected.tolist()
    assert ranks.tolist() != evaluator.ranks(embeddings)["full"]["text_to_molecule"][0].tolist()


def test_a_bank_must_not_hold_what_is_tested(prepared, processor, model):
    with pytest.raises(ValueError, match="4 of the query bank's pairs are tested on, for instance id 'm04'"):
        RetrievalEvaluator(
            prepared.select(range(8)), prepared, processor=processor, query_bank=prepared.select(range(4, 24))
        )
    with pytest.raises(ValueError, match="there is no query bank"):
        evaluator = RetrievalEvaluator(prepared, processor=processor)
        evaluator.query_bank_ranks(evaluator.embeddings(model))
