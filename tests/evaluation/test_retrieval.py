"""The evaluator ranks both directions in both pools, and reports what it was asked for."""

import numpy as np
import pytest
import torch
from conftest import tiny_model

from class_hf import RetrievalEvaluator
from class_hf.data.prepare import prepare_captions
from class_hf.evaluation.embedding import captions_of_other_splits, embed
from class_hf.evaluation.query_bank import bank_penalties
from class_hf.evaluation.settings import EvaluationSettings


def test_both_pools_both_directions(prepared, processor, model):
    queries, others = prepared.select(range(8)), prepared.select(range(8, 24))
    pool = prepared.select([*range(23, -1, -1)])
    evaluator = RetrievalEvaluator(queries, pool, captions=others, processor=processor, bootstrap_samples=50)
    report = evaluator(model)
    sizes = {
        (name, direction): row["candidates"]
        for name, directions in report["pools"].items()
        for direction, row in directions.items()
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
        single, many = (embed(model, prepared, collator, side, batch_size) for batch_size in (1, 24))
        torch.testing.assert_close(single, many)
    assert model.training


def test_a_molecule_outside_the_pool_is_named(prepared, processor):
    with pytest.raises(ValueError, match="1 of the 24 molecules .* id 'm05'"):
        RetrievalEvaluator(prepared, prepared.filter(lambda row: row["id"] != "m05"), processor=processor)


def test_captions_of_other_splits(prepared):
    splits = {"train": prepared.select(range(20)), "validation": prepared.select(range(20, 24))}
    assert len(captions_of_other_splits(splits, "validation")) == 20
    assert captions_of_other_splits({"validation": prepared}, "validation") is None


@pytest.mark.parametrize("method", ("softmax", "nearest"))
def test_a_query_bank_adds_its_metrics_to_the_report(prepared, processor, model, method):
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


def test_captions_without_a_molecule_are_a_row_of_their_own(prepared, processor, model):
    """They act on the scores of molecules as training captions do, and on nothing else."""
    queries, others = prepared.select(range(8)), prepared.select(range(8, 24))
    captions = prepare_captions(others["description"][10:16], processor)
    arguments = dict(processor=processor, bootstrap_samples=0, captions=others)
    evaluator = RetrievalEvaluator(
        queries, prepared, query_bank=others.select(range(10)), bank_captions=captions, **arguments
    )
    report, all_pairs = evaluator(model), RetrievalEvaluator(queries, prepared, query_bank=others, **arguments)(model)
    rows = [report["query_bank"], report["query_bank_with_captions"]]
    assert [(row["pairs"], row["captions"]) for row in rows] == [(10, 0), (10, 6)]
    for pool in ("full", "split"):
        few, more, both = (row["pools"][pool] for row in (*rows, all_pairs["query_bank"]))
        assert more["text_to_molecule"] == both["text_to_molecule"]
        assert more["molecule_to_text"] == few["molecule_to_text"]
    assert rows[0]["pools"]["full"] != rows[1]["pools"]["full"]

    evaluated = prepare_captions(prepared["description"][7:24], processor)
    first = prepared["description"][7][:40]
    with pytest.raises(ValueError, match=f"1 of the 17 captions of the query bank are evaluated, the first: '{first}"):
        RetrievalEvaluator(queries, prepared, query_bank=others, bank_captions=evaluated, **arguments)
    with pytest.raises(ValueError, match="bank_captions needs query_bank="):
        RetrievalEvaluator(queries, prepared, bank_captions=captions, **arguments)


def test_a_bank_must_not_hold_evaluated_pairs(prepared, processor, model):
    with pytest.raises(ValueError, match="4 of the query bank's pairs are evaluated, for instance id 'm04'"):
        RetrievalEvaluator(
            prepared.select(range(8)), prepared, processor=processor, query_bank=prepared.select(range(4, 24))
        )
    with pytest.raises(ValueError, match="there is no query bank"):
        evaluator = RetrievalEvaluator(prepared, processor=processor)
        evaluator.query_bank_ranks(evaluator.embeddings(model))


def test_equal_rows_have_equal_embeddings_and_are_embedded_once(prepared, processor, model):
    """Rows with equal features in different batches, next to rows of other lengths."""
    from class_hf import TextMoleculeCollator

    rows = [row for number in range(23) for row in (number, 5)]  # row 5 after each other row
    collator, batches = TextMoleculeCollator(processor), []

    def counting(batch):
        batches.append(len(batch))
        return collator(batch)

    for side in ("text", "molecule"):
        batches.clear()
        vectors = embed(model, prepared.select(rows), counting, side, batch_size=4)
        assert sum(batches) == 23
        equal = vectors[[place for place, row in enumerate(rows) if row == 5]]
        assert (equal == equal[0]).all() and torch.equal(
            vectors[::2], embed(model, prepared.select(range(23)), collator, side, 4)
        )


def test_twins_rank_the_same_in_any_order_and_batch(prepared, processor, model):
    """Each molecule is three times in the pool, under other ids."""
    pool = prepared.select([*range(24)] * 3)
    ids = [f"{identifier}{'' if row < 24 else row}" for row, identifier in enumerate(pool["id"][:])]
    pool = pool.remove_columns("id").add_column("id", ids)
    results = []
    for seed, batch_size in ((0, 256), (1, 7), (2, 1)):
        shuffled = pool.select(np.random.default_rng(seed).permutation(72))
        evaluator = RetrievalEvaluator(prepared, shuffled, processor=processor, batch_size=batch_size)
        results.append(evaluator.ranks(evaluator.embeddings(model))["full"]["text_to_molecule"][0].tolist())
    assert results[0] == results[1] == results[2]
    assert all(rank % 3 == 2 for rank in results[0])  # the mean of three places


def test_settings_and_old_keywords(prepared, processor):
    settings = EvaluationSettings(name="test", batch_size=8)
    evaluator = RetrievalEvaluator(prepared, processor=processor, settings=settings, bootstrap_samples=0)
    assert (evaluator.name, evaluator.settings.batch_size, evaluator.settings.bootstrap_samples) == ("test", 8, 0)
    with pytest.raises(ValueError, match="unknown argument 'bach_size' .* did you mean 'batch_size'?"):
        RetrievalEvaluator(prepared, processor=processor, bach_size=3)
