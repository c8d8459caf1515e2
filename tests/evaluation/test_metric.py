"""The metric and the evaluator of the `evaluate` library give the metrics of this package."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from conftest import tiny_model
from datasets import concatenate_datasets
from transformers import pipeline

from class_hf import RetrievalEvaluator, TextMoleculeRetrievalEvaluator, prepare_molecules, prepare_pairs
from class_hf.evaluation.evaluate_metric import TextMoleculeRetrieval
from class_hf.evaluation.metrics import ranks_of_scores
from class_hf.evaluation.ranks import rank_partners

SCRIPT = Path(__file__).parents[2] / "metrics" / "text_molecule_retrieval"


@pytest.fixture(scope="module")
def metric():
    return evaluate.load(str(SCRIPT), keep_in_memory=True)


@pytest.fixture(scope="module")
def vectors():
    """Queries (7, 4), candidates (9, 4) of which two are equal, and the true ones."""
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (torch.randn(rows, 4, generator=generator) for rows in (7, 9))
    candidates[8] = candidates[3]
    return queries, candidates, torch.tensor([0, 3, 8, 3, 1, 2, 5])


def test_ranks_of_scores_are_ranks_of_cosines(vectors):
    queries, candidates, true = vectors
    scores = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(candidates).T
    scores[:, 8] = scores[:, 3]
    np.testing.assert_array_equal(ranks_of_scores(scores.numpy(), true.numpy()), rank_partners(*vectors))


def test_the_script_is_the_packages_metric(metric, vectors):
    queries, candidates, true = vectors
    assert metric.name == "text_molecule_retrieval"
    inputs = {"predictions": queries, "references": true}
    at_once = metric.compute(**inputs, candidates=candidates, bootstrap_samples=50)
    assert at_once == TextMoleculeRetrieval(keep_in_memory=True).compute(
        **{name: value.tolist() for name, value in inputs.items()}, candidates=candidates.numpy(), bootstrap_samples=50
    )
    assert at_once["mrr"] == (1 / rank_partners(*vectors)).mean() and len(at_once["interval_95"]["mrr"]) == 2
    for part in (slice(0, 3), slice(3, 7)):
        metric.add_batch(predictions=queries[part], references=true[part])
    assert metric.compute(candidates=candidates, bootstrap_samples=50) == at_once


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"predictions": [[1.0, 0.0], [1.0]], "references": [0, 1]}, "rows of different lengths"),
        ({"predictions": [[1.0, 0.0]], "references": [2]}, "one of the 2 candidates"),
        ({"predictions": [[1.0, float("nan")]], "references": [0]}, "not all numbers"),
        ({"predictions": [[1.0, 0.0]], "references": [0], "candidates": [[1.0]]}, "2 numbers each, candidates 1"),
        ({"predictions": [[1.0, 0.0]], "references": [1], "candidates": [[1.0, 0.0]]}, "one of the 1 candidates"),
    ],
)
def test_wrong_input_is_named(metric, inputs, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(**inputs)


def test_evaluator_gives_the_numbers_of_the_package(pairs, processor, metric):
    queries, others, model = pairs.select(range(10)), pairs.select(range(10, 24)), tiny_model()
    expected = RetrievalEvaluator(
        prepare_pairs(queries, processor),
        prepare_molecules(pairs, processor),
        captions=prepare_pairs(others, processor),
        processor=processor,
        bootstrap_samples=50,
    )(model)["pools"]
    pipe = pipeline("molecule-feature-extraction", model=model, processor=processor, device="cpu")
    everything = concatenate_datasets([others, queries])
    for direction in ("text_to_molecule", "molecule_to_text"):
        evaluator = TextMoleculeRetrievalEvaluator(direction)
        for name, pool in (("full", everything), ("split", None)):
            known = {key: value for key, value in expected[name][direction].items() if key != "by_difficulty_quartile"}
            result = evaluator.compute(pipe, queries, pool, strategy="bootstrap", n_resamples=50, metric=metric)
            assert {key: result[key] for key in known} == known
            assert set(result) - set(known) == {
                "total_time_in_seconds",
                "samples_per_second",
                "latency_in_seconds",
            }
    same = evaluator.compute(model, queries, processor=processor, device="cpu")
    assert same["mrr"] == expected["split"]["molecule_to_text"]["mrr"] and "interval_95" not in same


def test_evaluator_refuses_wrong_inputs(pairs, processor):
    pipe = pipeline("molecule-feature-extraction", model=tiny_model(), processor=processor, device="cpu")
    evaluator, few = TextMoleculeRetrievalEvaluator(), pairs.select(range(4))
    for arguments, message in (
        ((pipe, pairs, few), "20 of the 24 queries are not in the pool of 4, for instance id 'm04'"),
        ((pipe, few, concatenate_datasets([few, few])), "8 rows but 4 different ids"),
        ((pipe, few.remove_columns("description")), "description"),
        ((lambda texts: texts, few), "task is None"),
        ((None, few), "model_or_pipeline is not given"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluator.compute(*arguments)
    with pytest.raises(ValueError, match="direction is 'both'"):
        TextMoleculeRetrievalEvaluator("both")
