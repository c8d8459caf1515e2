"""Which differences a study detects: variance components that are known, and simulated studies."""

import numpy as np
import pytest

from class_hf.studies.power import Spread, detectable_difference, simulate_studies, spread_of


def differences(spread: Spread, seeds: int, queries: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    by_seed, by_query, rest = (
        generator.normal(0.0, variance**0.5, shape)
        for variance, shape in zip(spread, ((seeds, 1), (1, queries), (seeds, queries)), strict=True)
    )
    return by_seed + by_query + rest


def test_the_components_are_found_again():
    spread = Spread(0.0004, 0.01, 0.08)
    found = spread_of(differences(spread, 40, 4000))
    assert tuple(found) == pytest.approx(tuple(spread), rel=0.5) and found.rest == pytest.approx(0.08, rel=0.02)
    # Without effects of seeds the estimate can be negative, and is 0.
    assert spread_of(differences(Spread(0.0, 0.0, 0.08), 3, 50)).seeds >= 0.0
    with pytest.raises(ValueError, match=r"have the shape \(1, 5\); expected at least 2 seeds"):
        spread_of(np.zeros((1, 5)))


def test_more_seeds_and_queries_detect_less():
    spread = Spread(0.00001, 0.01, 0.08)
    by_report = [detectable_difference(spread, seeds=seeds, queries=3301) for seeds in (1, 2, 3, 5, 10)]
    known = [detectable_difference(spread, seeds=seeds, queries=3301, by_report=False) for seeds in (1, 2, 3, 5, 10)]
    assert by_report == sorted(by_report, reverse=True) and known == sorted(known, reverse=True)
    # With several seeds the report's test counts the rest twice to three times; with one, it does not see the seeds.
    assert by_report[0] < known[0] and all(
        report > best for report, best in zip(by_report[1:], known[1:], strict=True)
    )
    # The largest number of seeds cannot help against the sample of queries.
    assert detectable_difference(spread, seeds=10**6, queries=3301, by_report=False) > 2.8 * (0.01 / 3301) ** 0.5


def test_simulated_studies_agree_with_the_formula():
    difference = differences(Spread(0.0, 0.0, 0.08), 5, 200)
    effect = detectable_difference(spread_of(difference), seeds=3, queries=200)
    found = simulate_studies(difference, [0.0, effect, -effect], seeds=3, studies=120, samples=400)
    assert found["bootstrap"][0] <= 0.05
    assert found["bootstrap"][1:] == pytest.approx([0.8, 0.8], abs=0.15)
    assert found["seeds"][0] <= 0.12 and found["seeds"][1] < found["bootstrap"][1]
