"""The statistics of a study: arms x seeds on the same queries, compared with baselines.

Every run ranks the same queries, so runs are compared query by query. Two things vary from run to run, and a number
is only as good as its interval over both: the training seed, and which queries happen to be asked.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

PRIMARY = "full.text_to_molecule"
SAMPLES = 10_000
_TAILS = (0.025, 0.975)


class Curve(NamedTuple):
    """The MRR of a run at its evaluations: (T,) each, in the order of training."""

    steps: np.ndarray
    seconds: np.ndarray
    mrr: np.ndarray


class Run(NamedTuple):
    """One arm trained with one seed.

    `ids` (Q,) are the queries, `ranks` their ranks (Q,) by `pool.direction`, `seconds` the wall time of the training
    without the evaluations in it.
    """

    arm: str
    seed: int
    ids: np.ndarray
    ranks: dict[str, np.ndarray]
    steps: int
    seconds: float
    pairs_seen: int
    curve: Curve


def curve_of(log_history: Sequence[Mapping[str, Any]]) -> Curve:
    """The evaluations among a trainer's logs, in training time: that of all evaluations so far is taken off.

    >>> curve_of([{"loss": 2.0, "step": 5}, {"eval_mrr": 0.1, "eval_runtime": 2.0, "wall_seconds": 7.0, "step": 10}])
    Curve(steps=array([10]), seconds=array([5.]), mrr=array([0.1]))
    """
    logs = [entry for entry in log_history if "eval_mrr" in entry and "wall_seconds" in entry]
    evaluating = np.cumsum([entry["eval_runtime"] for entry in logs])
    return Curve(
        np.array([entry["step"] for entry in logs], dtype=np.int64),
        np.array([entry["wall_seconds"] for entry in logs], dtype=np.float64) - evaluating,
        np.array([entry["eval_mrr"] for entry in logs], dtype=np.float64),
    )


def over_seeds(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """`mean`, `sd` (of a single run, n - 1) and `interval_95` of the mean by Student's t; None where one seed is all.

    >>> [round(bound, 2) for bound in over_seeds([1.0, 2.0, 3.0])["interval_95"]]
    [-0.48, 4.48]
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if values.size < 2:
        return {"mean": mean, "sd": None, "interval_95": None}
    sd = float(values.std(ddof=1))
    half = float(stats.t.ppf(_TAILS[1], values.size - 1)) * sd / values.size**0.5
    return {"mean": mean, "sd": sd, "interval_95": [mean - half, mean + half]}


@lru_cache(maxsize=4)
def _query_counts(queries: int, samples: int, seed: int) -> np.ndarray:
    """(samples, Q) float32: how often a resample of the queries holds each; the same for every comparison."""
    generator = np.random.default_rng([seed, 0])
    return generator.multinomial(queries, np.full(queries, 1.0 / queries), size=samples).astype(np.float32)


def over_queries(values: np.ndarray, *, samples: int = SAMPLES, seed: int = 0) -> list[float]:
    """Percentile bootstrap interval of 95 % over the queries (Efron & Tibshirani, 1993, chapter 13).

    Args:
        values: (S, Q) one number a seed and query; the seeds are averaged first.
        samples: number of resamples.
        seed: of the resampling.
    """
    means = _query_counts(values.shape[1], samples, seed) @ values.mean(axis=0) / values.shape[1]
    return [float(bound) for bound in np.quantile(means, _TAILS)]


def compare(arm: np.ndarray, baseline: np.ndarray, *, samples: int = SAMPLES, seed: int = 0) -> dict[str, Any]:
    """The paired difference of two arms, with its interval and p-values.

    Seeds and queries are resampled at once, each on its own, since every seed meets every query (the pigeonhole
    bootstrap; Owen, 2007, Annals of Applied Statistics 1, section 3). With few seeds it sees too little of their
    spread; the t-test over the seeds alone stands beside it.

    Args:
        arm, baseline: (S, Q) a number each seed and query, in the same order; the larger the better.
        samples: number of resamples; no p-value is below 2 / (samples + 1).
        seed: of the resampling.

    Returns:
        `difference` (arm less baseline), `interval_95`, `p` (two-sided, bootstrap), `p_seeds` (two-sided, paired
        t-test over the seeds; None with one seed), `seeds`, `queries`.

    Raises:
        ValueError: if the shapes differ.
    """
    if arm.shape != baseline.shape or arm.ndim != 2:
        raise ValueError(f"shapes {arm.shape} and {baseline.shape}; expected (seeds, queries), the same of both.")
    difference = arm - baseline
    seeds, queries = difference.shape
    weights = np.random.default_rng([seed, 1]).multinomial(seeds, np.full(seeds, 1.0 / seeds), size=samples)
    drawn = (weights * (_query_counts(queries, samples, seed) @ difference.T)).sum(axis=1) / (seeds * queries)
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return {
        "difference": float(difference.mean()),
        "interval_95": [float(bound) for bound in np.quantile(drawn, _TAILS)],
        "p": min(1.0, 2.0 * (1 + rarer) / (samples + 1)),
        "p_seeds": _paired_t(difference.mean(axis=1)),
        "seeds": seeds,
        "queries": queries,
    }


def _paired_t(differences: np.ndarray) -> float | None:
    """Two-sided p-value of Student's t for differences (S,) of mean zero."""
    if differences.size < 2:
        return None
    mean, error = differences.mean(), differences.std(ddof=1) / differences.size**0.5
    if error == 0.0:
        return float(mean == 0.0)
    return float(2.0 * stats.t.sf(abs(mean / error), differences.size - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for testing all of them (Holm, 1979): the chance of any false alarm stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors))
    return [float(value) for value in adjusted[np.argsort(order, kind="stable")]]


def by_quartile(arm: np.ndarray, baseline: np.ndarray, difficulty: np.ndarray) -> list[dict[str, Any]]:
    """[`compare`] in each quarter of the queries, from the easiest to the hardest; fewer if queries are few.

    Args:
        arm, baseline: (S, Q).
        difficulty: (Q,) of the queries; its quartiles are taken among the queries.
    """
    parts = np.array_split(np.argsort(difficulty, kind="stable"), 4)
    return [compare(arm[:, part], baseline[:, part], samples=2000) for part in parts if part.size]


def reach(curve: Curve, target: float) -> tuple[float, float] | None:
    """Seconds and steps after which a run first has the MRR `target`, interpolated between evaluations.

    The first evaluation if that has it already; None if no evaluation has it.
    """
    above = np.flatnonzero(curve.mrr >= target)
    if not above.size:
        return None
    last = int(above[0])
    if last == 0:
        return float(curve.seconds[0]), float(curve.steps[0])
    share = (target - curve.mrr[last - 1]) / (curve.mrr[last] - curve.mrr[last - 1])
    seconds, steps = (float(line[last - 1] + share * (line[last] - line[last - 1])) for line in curve[1::-1])
    return seconds, steps


def summarise(
    runs: Sequence[Run], baselines: Sequence[str], difficulty: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """All numbers of a study's report.

    Args:
        runs: the finished ones, in the order of the arms.
        baselines: arms that the others are tested against; `best quality` means that of the first.
        difficulty: of every query by its id, one and the same for all arms; None leaves the quartiles out.

    Returns:
        `queries`, and by arm: `arms` (quality, cost), `curves` (means over the seeds), `reach`; by baseline and arm:
        `tests`, `quartiles`.

    Raises:
        ValueError: if there is no run, or the runs have ranked different queries.
    """
    if not runs:
        raise ValueError("no run is finished: there is nothing to report.")
    ids = runs[0].ids
    for run in runs:
        if not np.array_equal(run.ids, ids):
            raise ValueError(
                f"{run.arm} seed {run.seed} and {runs[0].arm} seed {runs[0].seed} ranked different queries. Train all "
                "arms on the same data."
            )
    arms: dict[str, dict[int, Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, {})[run.seed] = run
    baselines = [name for name in baselines if name in arms]
    hard = None if difficulty is None else np.array([difficulty[one] for one in ids.tolist()])
    tests: dict[str, dict[str, Any]] = {}
    quartiles: dict[str, dict[str, Any]] = {}
    for name in baselines:
        tests[name], quartiles[name] = {}, {}
        for arm, own in arms.items():
            seeds = sorted(set(own) & set(arms[name]))
            if arm == name or not seeds:
                continue
            pair = [_reciprocal([one[seed] for seed in seeds]) for one in (own, arms[name])]
            tests[name][arm] = compare(pair[0], pair[1])
            if hard is not None:
                quartiles[name][arm] = by_quartile(pair[0], pair[1], hard)
        adjusted = holm([test["p"] for test in tests[name].values()])
        for test, value in zip(tests[name].values(), adjusted, strict=True):
            test["p_holm"] = value
    return {
        "queries": len(ids),
        "arms": {arm: _arm(list(own.values())) for arm, own in arms.items()},
        "curves": {arm: _mean_curve(list(own.values())) for arm, own in arms.items()},
        "reach": {arm: _reach_of(own, arms[baselines[0]]) for arm, own in arms.items()} if baselines else {},
        "tests": tests,
        "quartiles": quartiles,
    }


def _reciprocal(runs: Sequence[Run], key: str = PRIMARY) -> np.ndarray:
    """(S, Q) reciprocal ranks."""
    return np.stack([1.0 / run.ranks[key] for run in runs])


def _arm(runs: list[Run]) -> dict[str, Any]:
    reciprocal = _reciprocal(runs)
    ranks = np.stack([run.ranks[PRIMARY] for run in runs])
    return {
        "seeds": sorted(run.seed for run in runs),
        "mrr": {**over_seeds(reciprocal.mean(axis=1)), "interval_95_queries": over_queries(reciprocal)},
        **{f"hits@{k}": over_seeds((ranks <= k).mean(axis=1)) for k in (1, 10)},
        "mrr_by_pool": {key: over_seeds(_reciprocal(runs, key).mean(axis=1)) for key in runs[0].ranks},
        "steps": over_seeds([run.steps for run in runs]),
        "seconds": over_seeds([run.seconds for run in runs]),
        "pairs_seen": over_seeds([run.pairs_seen for run in runs]),
    }


def _mean_curve(runs: list[Run]) -> dict[str, list[float]]:
    """The curve of an arm, averaged over its seeds at the steps that all of them evaluated."""
    steps = sorted(set.intersection(*(set(run.curve.steps.tolist()) for run in runs)))
    rows = [np.searchsorted(run.curve.steps, steps) for run in runs]
    mean = {
        name: np.mean([getattr(run.curve, name)[row] for run, row in zip(runs, rows, strict=True)], axis=0).tolist()
        for name in ("seconds", "mrr")
    }
    batch = runs[0].pairs_seen / runs[0].steps
    return {"steps": steps, "pairs_seen": [step * batch for step in steps], **mean}


def _reach_of(own: Mapping[int, Run], baseline: Mapping[int, Run]) -> dict[int, dict[str, float] | None]:
    """By seed: the seconds and steps to the baseline's best MRR with that seed; None if it is not reached."""
    found: dict[int, dict[str, float] | None] = {}
    for seed in sorted(set(own) & set(baseline)):
        if not baseline[seed].curve.mrr.size:
            continue
        target = float(baseline[seed].curve.mrr.max())
        at = reach(own[seed].curve, target)
        found[seed] = None if at is None else {"mrr": target, "seconds": at[0], "steps": at[1]}
    return found
