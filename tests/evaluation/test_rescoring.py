"""The first candidates are re-ranked by the pair score."""

import json

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import rows_of_pairs
from recipe_scripts import load_recipe_script
from tiny_orma import tiny_orma, tiny_processor

from class_hf import RetrievalEvaluator, prepare_pairs
from class_hf.evaluation.ranks import rank_partners
from class_hf.evaluation.rescoring import rerank, score_pairs, shortlist
from class_hf.evaluation.retrieval_evaluator import DIRECTIONS

QUERIES = 6


@pytest.fixture(scope="module")
def data():
    prepared = prepare_pairs(datasets.Dataset.from_dict(rows_of_pairs(16)), tiny_processor())
    pool = prepared.select(np.random.default_rng(0).permutation(16))
    return prepared.select(range(QUERIES)), pool, prepared.select(range(QUERIES, 16))


def evaluator(data, k, **kwargs):
    pairs, pool, captions = data
    return RetrievalEvaluator(
        pairs, pool, captions, processor=tiny_processor(), bootstrap_samples=0, rescore_top_k=k, **kwargs
    )


def ranks_of_matrix(scores, gold):
    true = scores[np.arange(len(gold)), gold][:, None]
    return (scores > true + 1e-5).sum(1) + ((np.abs(scores - true) <= 1e-5).sum(1) + 1) / 2


def full_matrix(model, texts, molecules):
    with torch.no_grad():
        text = model(**tiny_processor()(text=texts["description"][:]))
        molecule = model(**tiny_processor()(smiles=molecules["smiles"][:]))
        rows = torch.cartesian_prod(torch.arange(len(texts)), torch.arange(len(molecules))).T
        return model.fine_scores(text, molecule, *rows).view(len(texts), len(molecules)).numpy()


@pytest.mark.parametrize("batch_size", (3, 256))
def test_the_complete_pool_re_scored_is_the_ranking_by_the_full_score(data, batch_size):
    model = tiny_orma().eval()
    evaluation = evaluator(data, k=100, batch_size=batch_size)
    embeddings = evaluation.embeddings(model)
    ranks = evaluation.rescored_ranks(model, embeddings, evaluation.ranks(embeddings))
    pairs, pool, captions = data
    gold, each = evaluation.gold.numpy(), np.arange(QUERIES)
    everything = datasets.concatenate_datasets([pairs, captions])
    scores = full_matrix(model, everything, pool)  # captions by molecules
    expected = {
        ("full", "text_to_molecule"): ranks_of_matrix(scores[:QUERIES], gold),
        ("full", "molecule_to_text"): ranks_of_matrix(scores[:, gold].T, each),
        ("split", "text_to_molecule"): ranks_of_matrix(scores[:QUERIES, gold], each),
        ("split", "molecule_to_text"): ranks_of_matrix(scores[:QUERIES, gold].T, each),
    }
    for (pool_name, direction), values in expected.items():
        np.testing.assert_array_equal(ranks[pool_name][direction][0], values, err_msg=f"{pool_name} {direction}")
    plain = evaluation.ranks(embeddings)
    assert any((plain[pool][side][0] != values).any() for (pool, side), values in expected.items())


def test_beyond_the_shortlist_nothing_moves(data):
    model, k = tiny_orma().eval(), 4
    evaluation = evaluator(data, k)
    embeddings = evaluation.embeddings(model)
    plain = evaluation.ranks(embeddings)
    after_all = evaluation.rescored_ranks(model, embeddings, plain)
    for pool in plain:
        for direction in DIRECTIONS:
            before, after = plain[pool][direction][0], after_all[pool][direction][0]
            np.testing.assert_array_equal(after[before > k], before[before > k])
            assert (after[before <= k] <= k).all()


@pytest.mark.parametrize("k", (None, 0))
def test_without_k_nothing_is_re_scored(data, k):
    model = tiny_orma().eval()
    report = evaluator(data, k)(model)
    assert report == evaluator(data, None)(model)
    assert "rescored_top_k" not in report and "pools_before_rescoring" not in report


def test_the_report_says_what_was_re_scored(data):
    model = tiny_orma().train()
    report = evaluator(data, 5)(model)
    assert model.training
    assert report["rescored_top_k"] == 5
    assert report["pools_before_rescoring"] == evaluator(data, None)(model)["pools"]
    for directions in report["pools"].values():
        assert {values["rescored_top_k"] for values in directions.values()} == {5}


def test_the_recipe_re_scores(data, tmp_path, capsys):
    pairs = datasets.Dataset.from_dict(rows_of_pairs(16))
    splits = {"train": pairs.select(range(8)), "validation": pairs.select(range(8, 16)), "pool": pairs}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "data"))
    tiny_orma().save_pretrained(tmp_path / "model"), tiny_processor().save_pretrained(tmp_path / "model")
    script = load_recipe_script("evaluate")
    arguments = ["--model", tmp_path / "model", "--data_dir", tmp_path / "data", "--output", tmp_path / "m.json"]
    script.main([*map(str, arguments), "--rescore_top_k", "3", "--bootstrap_samples", "0"])
    report = json.loads((tmp_path / "m.json").read_text())
    assert report["rescored_top_k"] == 3 and set(report["pools_before_rescoring"]) == {"full", "split"}
    assert "with the first 3 re-ranked" in capsys.readouterr().out


def test_a_model_without_a_full_score(data, model, prepared, processor):
    with pytest.raises(ValueError, match="TextMoleculeDualEncoderModel has no fine_scores"):
        RetrievalEvaluator(prepared, processor=processor, rescore_top_k=3)(model)
    with pytest.raises(ValueError, match="rescore_top_k is -1"):
        RetrievalEvaluator(prepared, processor=processor, rescore_top_k=-1)


def test_candidates_that_tie_with_the_last_come_along():
    candidates = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]), dim=1)
    queries, gold = torch.tensor([[2.0, 0.1]]), torch.tensor([2])
    assert shortlist(queries, candidates, gold, k=2)[1].tolist() == [0, 1, 2]
    assert shortlist(queries, candidates, gold, k=1)[1].tolist() == []
    assert shortlist(queries, candidates, gold, k=99)[1].tolist() == [0, 1, 2, 3]


def test_shortlists_in_blocks_agree_with_the_ranks():
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (torch.randn(n, 4, generator=generator) for n in (40, 90))
    gold = torch.randint(0, 90, (40,), generator=generator)
    ranks = rank_partners(queries, candidates, gold)
    for block_size in (1, 512):
        selected, _ = shortlist(queries, candidates, gold, 20, block_size)
        assert np.bincount(selected, minlength=40).tolist() == [20 if rank <= 20 else 0 for rank in ranks]


def test_ties_among_the_re_scored_get_their_mean_rank():
    queries, candidates = np.zeros(4, int), np.arange(4)
    scores = np.array([0.5, 0.5, 0.7, 0.5])
    assert rerank(np.array([1.0]), queries, candidates, scores, np.array([1])).tolist() == [3.0]


@pytest.mark.parametrize("held_batches", (None, 1, 2))
def test_pairs_are_scored_once_and_outer_members_encoded_once(held_batches):
    generator = np.random.default_rng(0)
    outer_rows, inner_rows = generator.integers(0, 30, 200), generator.integers(0, 50, 200)
    seen, scored = [], []

    def encode(rows):
        return {"value": torch.from_numpy(rows).double()}

    def encode_outer(rows):
        seen.extend(rows.tolist())
        return encode(rows)

    def score(outer, inner, outer_places, inner_places):
        scored.append(len(outer_places))
        return outer["value"][outer_places] * 100 + inner["value"][inner_places]

    scores = score_pairs(score, encode_outer, encode, outer_rows, inner_rows, 4, held_batches)
    np.testing.assert_array_equal(scores, outer_rows * 100 + inner_rows)
    assert sorted(seen) == sorted(set(outer_rows)) and sum(scored) == len(
        set(zip(outer_rows, inner_rows, strict=True))
    )


def test_no_query_with_its_partner_within_reach():
    nothing = np.array([], dtype=int)
    assert score_pairs(None, None, None, nothing, nothing).tolist() == []
    assert rerank(np.array([7.0]), nothing, nothing, np.array([]), np.array([3])).tolist() == [7.0]
