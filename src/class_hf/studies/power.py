"""How large a difference between two arms a study detects, from the spread of runs that exist."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from class_hf.studies.statistics import compare


class Spread(NamedTuple):
    """Variance components of the paired differences d_sq of two arms: d_sq = mean + a_s + b_q + e_sq.

    Args:
        seeds: variance of a_s, by which training seeds differ on all queries.
        queries: variance of b_q, by which queries differ with all seeds.
        rest: variance of e_sq, of one query with one seed.
    """

    seeds: float
    queries: float
    rest: float

    def standard_error(self, seeds: int, queries: int) -> float:
        """Standard error of the mean difference over so many seeds and queries."""
        return (self.seeds / seeds + self.queries / queries + self.rest / (seeds * queries)) ** 0.5

    def bootstrap_error(self, seeds: int, queries: int) -> float:
        """The standard error that the bootstrap of a study's report finds, on average.

        Resampling seeds and queries counts the rest up to three times (Owen, 2007), and few seeds too
        little. So the report's test is cautious where the rest dominates.
        """
        share = 1 - 1 / seeds
        rest = (1 + 2 * share) * self.rest / (seeds * queries)
        return (share * self.seeds / seeds + self.queries / queries + rest) ** 0.5


def spread_of(difference: np.ndarray) -> Spread:
    """Estimates the variance components of paired differences by two-way analysis of variance.

    Source: Searle, Casella & McCulloch, 1992, chapter 4 (crossed random effects, one observation in each cell).

    Args:
        difference: (S, Q) differences of the reciprocal ranks of two arms, by seed and query; S and Q at least 2.

    Returns:
        The components; a negative estimate is 0.

    Raises:
        ValueError: if there are fewer than two seeds or queries.

    >>> spread_of(np.array([[0.1, 0.3], [0.2, 0.4]]))  # seeds differ by .1, queries by .2, and nothing else
    Spread(seeds=0.005, queries=0.02, rest=0.0)
    """
    seeds, queries = difference.shape
    if seeds < 2 or queries < 2:
        raise ValueError(
            f"the differences have the shape {difference.shape}; expected at least 2 seeds and 2 queries."
        )
    by_seed, by_query, mean = difference.mean(axis=1), difference.mean(axis=0), difference.mean()
    residuals = difference - by_seed[:, None] - by_query + mean
    rest = float((residuals**2).sum()) / ((seeds - 1) * (queries - 1))
    of_seeds = float(by_seed.var(ddof=1)) - rest / queries
    of_queries = float(by_query.var(ddof=1)) - rest / seeds
    return Spread(*(round(max(0.0, value), 12) for value in (of_seeds, of_queries, rest)))


def detectable_difference(
    spread: Spread, *, seeds: int, queries: int, power: float = 0.8, level: float = 0.05, by_report: bool = True
) -> float:
    """The smallest true difference that a two-sided test of one comparison finds with the chance `power`.

    It is z(1 - level / 2) times the error that the test assumes, plus z(power) standard errors.

    Args:
        spread: variance components of the differences.
        seeds: number of seeds of each arm.
        queries: number of queries.
        power: chance of finding it.
        level: chance of a false alarm of the test.
        by_report: whether the test is that of a study's report. Otherwise it knows the standard error (z-test).

    Returns:
        A difference in MRR.

    >>> round(detectable_difference(Spread(0.0, 0.04, 0.0), seeds=3, queries=400), 4)
    0.028
    """
    error = spread.standard_error(seeds, queries)
    assumed = spread.bootstrap_error(seeds, queries) if by_report else error
    return float(stats.norm.ppf(1 - level / 2) * assumed + stats.norm.ppf(power) * error)


def simulate_studies(
    difference: np.ndarray,
    effects: Sequence[float],
    *,
    seeds: int,
    studies: int = 500,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, list[float]]:
    """The shares of simulated studies in which the tests of a report find a difference.

    A study draws the seeds' effects from a normal distribution with the estimated variance, and queries, with their
    effects and residuals, from the real ones with replacement.

    Args:
        difference: (S, Q), as for [`spread_of`].
        effects: true differences. 0 gives the share of false alarms.
        seeds: seeds of a simulated study.
        studies: number of simulated studies.
        samples: resamples of [`compare`][class_hf.studies.statistics.compare].
        seed: of the simulation.

    Returns:
        `bootstrap` and `seeds` (the paired t-test over the seeds), each with one share for each effect: how often
        p is below .05 with the sign of the effect (of any sign for an effect of 0).
    """
    spread, generator = spread_of(difference), np.random.default_rng(seed)
    mean, by_query = difference.mean(), difference.mean(axis=0)
    residuals = difference - difference.mean(axis=1, keepdims=True) - by_query + mean
    # The mean over S seeds has part of the residuals; what remains is the effect of the query itself.
    scale = (spread.queries / max(float(by_query.var(ddof=1)), 1e-30)) ** 0.5
    # Residuals were centred over S seeds, which takes 1 / S of their variance.
    residuals = residuals * (len(difference) / (len(difference) - 1)) ** 0.5
    found = {"bootstrap": np.zeros(len(effects)), "seeds": np.zeros(len(effects))}
    queries = difference.shape[1]
    for _ in range(studies):
        drawn = generator.integers(queries, size=queries)
        rest = residuals[generator.integers(len(residuals), size=(seeds, queries)), drawn]
        noise = generator.normal(0.0, spread.seeds**0.5, (seeds, 1)) + scale * (by_query - mean)[drawn] + rest
        for number, effect in enumerate(effects):
            result = compare(noise + effect, np.zeros_like(noise), samples=samples)
            agrees = effect == 0.0 or result["difference"] * effect > 0
            found["bootstrap"][number] += agrees and result["p"] < 0.05
            found["seeds"][number] += agrees and result["p_seeds"] is not None and result["p_seeds"] < 0.05
    return {name: (counts / studies).tolist() for name, counts in found.items()}
