"""Metrics and intervals against hand-computed values."""

import numpy as np
import pytest

from class_hf.evaluation.metrics import bootstrap_intervals, metrics_by_quartile, retrieval_metrics


def test_by_hand():
    row = retrieval_metrics([1, 2, 10, 10.5, 50], candidates=60)
    assert row == {
        "hits@1": 0.2,
        "hits@10": 0.6,
        "mrr": pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 10.5 + 1 / 50) / 5),
        "mean_rank": pytest.approx(14.7),
        "median_rank": 10.0,
        "queries": 5,
        "candidates": 60,
    }


def test_intervals_hold_the_value_shrink_with_queries_and_repeat():
    ranks = np.random.default_rng(0).integers(1, 100, 2000)
    few, many = bootstrap_intervals(ranks[:100], 100), bootstrap_intervals(ranks, 100)
    assert many == bootstrap_intervals(ranks, 100)
    row = retrieval_metrics(ranks, 100)
    for name, (low, high) in many.items():
        assert low < row[name] < high
        assert high - low < few[name][1] - few[name][0]


def test_interval_width_is_the_binomial_one():
    ranks = np.array([1] * 300 + [50] * 700)
    low, high = bootstrap_intervals(ranks, 100, samples=4000)["hits@1"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 1000), rel=0.1)


def test_quartiles_go_from_easy_to_hard_and_cover_all():
    difficulty = np.random.default_rng(1).random(103)
    rows = metrics_by_quartile(1 + np.argsort(np.argsort(difficulty)), difficulty, 103)
    assert [row["queries"] for row in rows] == [26, 26, 26, 25]
    means = [row["mean_rank"] for row in rows]
    assert means == sorted(means) and rows[0]["difficulty"][1] <= rows[1]["difficulty"][0]


def test_fewer_queries_than_quartiles():
    assert len(metrics_by_quartile([1, 2], [0.1, 0.2], 5)) == 2


@pytest.mark.parametrize("ranks", ([], [[1, 2]], [0.5], [7], [float("nan")]))
def test_bad_ranks(ranks):
    with pytest.raises(ValueError, match="ranks"):
        retrieval_metrics(ranks, candidates=6)


def test_bad_level_and_difficulty():
    with pytest.raises(ValueError, match="level is 95"):
        bootstrap_intervals([1], 2, level=95)
    with pytest.raises(ValueError, match="difficulty of shape"):
        metrics_by_quartile([1, 2], [0.5], 3)
