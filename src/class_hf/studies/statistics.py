"""Statistics of a study: arms and seeds on the same queries, compared with baselines.

Each run ranks the same queries, so runs are compared query by query. Two things vary between runs: the training seed,
and the sample of queries. An interval covers both.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from class_hf.utils.json_text import JsonValue

PRIMARY = "full.text_to_molecule"
SAMPLES = 10_000
_TAILS = (0.025, 0.975)


class Curve(NamedTuple):
    """The MRR of a run at its evaluations, in the order of training.

    Args:
        steps: (T,) optimizer steps.
        seconds: (T,) wall time of the training, without the evaluations.
        mrr: (T,) mean reciprocal rank.
        cpu_seconds: (T,) CPU time of the training, without the evaluations; None if it was not logged.
    """

    steps: np.ndarray
    seconds: np.ndarray
    mrr: np.ndarray
    cpu_seconds: np.ndarray | None = None


class Run(NamedTuple):
    """The results of one arm with one seed.

    Args:
        arm: name of the arm.
        seed: of the training.
        ids: (Q,) ids of the queries.
        ranks: (Q,) ranks of the true candidates, by `pool.direction`.
        steps: optimizer steps of the run.
        seconds: wall time of the training, without the evaluations.
        pairs_seen: training pairs over all steps, repeated ones included.
        curve: the evaluations during training.
        cpu_seconds: CPU time of the training, without the evaluations; None if it was not measured.
        tokens_seen: text tokens over all steps; None if they were not counted.
    """

    arm: str
    seed: int
    ids: np.ndarray
    ranks: dict[str, np.ndarray]
    steps: int
    seconds: float
    pairs_seen: int
    curve: Curve
    cpu_seconds: float | None = None
    tokens_seen: int | None = None


def read_curve(log_history: Sequence[Mapping[str, Any]]) -> Curve:
    """Reads the evaluations from the logs of a trainer, and subtracts their own time.

    Args:
        log_history: `trainer.state.log_history`. Entries without `eval_mrr` and `wall_seconds` are skipped.

    >>> read_curve([{"loss": 2.0, "step": 5}, {"eval_mrr": 0.1, "eval_runtime": 2.0, "wall_seconds": 7.0, "step": 10}])
    Curve(steps=array([10]), seconds=array([5.]), mrr=array([0.1]), cpu_seconds=None)
    """
    logs = [entry for entry in log_history if "eval_mrr" in entry and "wall_seconds" in entry]

    def times(clock: str, evaluation: str) -> np.ndarray:
        return np.array([entry[clock] for entry in logs]) - np.cumsum([entry[evaluation] for entry in logs])

    has_cpu = bool(logs) and all("cpu_seconds" in entry for entry in logs)
    return Curve(
        np.array([entry["step"] for entry in logs], dtype=np.int64),
        times("wall_seconds", "eval_runtime"),
        np.array([entry["eval_mrr"] for entry in logs], dtype=np.float64),
        times("cpu_seconds", "eval_cpu_seconds") if has_cpu else None,
    )


def summarise_seeds(values: Sequence[float] | np.ndarray) -> dict[str, JsonValue]:
    """Mean and spread over the seeds.

    Args:
        values: (S,) one number for each seed.

    Returns:
        `mean`; `sd`, the standard deviation of a single run with n - 1; `interval_95` of the mean by Student's t. The
        last two are None for one seed.

    >>> [round(bound, 2) for bound in summarise_seeds([1.0, 2.0, 3.0])["interval_95"]]
    [-0.48, 4.48]
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if values.size < 2:
        return {"mean": mean, "sd": None, "interval_95": None}
    sd = float(values.std(ddof=1))
    # `stats.t.interval` returns NaN for a spread of zero, which step counts have.
    half = float(stats.t.ppf(_TAILS[1], values.size - 1)) * sd / values.size**0.5
    return {"mean": mean, "sd": sd, "interval_95": [mean - half, mean + half]}


@lru_cache(maxsize=4)
def _query_counts(queries: int, samples: int, seed: int) -> np.ndarray:
    """(samples, Q) float32 counts of each query in each resample, the same for all comparisons."""
    generator = np.random.default_rng([seed, 0])
    return generator.multinomial(queries, np.full(queries, 1.0 / queries), size=samples).astype(np.float32)


def bootstrap_over_queries(values: np.ndarray, *, samples: int = SAMPLES, seed: int = 0) -> list[float]:
    """Percentile bootstrap interval of the mean over the queries, at 95 % (Efron & Tibshirani, 1993, chapter 13).

    `scipy.stats.bootstrap` would draw new resamples for each arm. Here all comparisons of a study share them, and each
    takes one matrix product.

    Args:
        values: (S, Q) one number for each seed and query. The seeds are averaged first.
        samples: number of resamples.
        seed: of the resampling.

    Returns:
        The lower and the upper bound.
    """
    means = _query_counts(values.shape[1], samples, seed) @ values.mean(axis=0) / values.shape[1]
    return [float(bound) for bound in np.quantile(means, _TAILS)]


def compare(arm: np.ndarray, baseline: np.ndarray, *, samples: int = SAMPLES, seed: int = 0) -> dict[str, Any]:
    """Paired difference of two arms, with its interval and p-values.

    Seeds and queries are resampled independently of each other, since each seed meets each query (the pigeonhole
    bootstrap; Owen, 2007, Annals of Applied Statistics 1, section 3). With few seeds the bootstrap underestimates
    their spread, so the paired t-test over the seeds is reported too.

    Args:
        arm: (S, Q) one number for each seed and query; larger is better.
        baseline: (S, Q) of the same seeds and queries, in the same order.
        samples: number of resamples. No p-value is below 2 / (samples + 1).
        seed: of the resampling.

    Returns:
        `difference` (arm minus baseline), `interval_95`, `p` (two-sided, bootstrap), `p_seeds` (two-sided paired
        t-test over the seeds, None for one seed), `seeds` and `queries` (their numbers).

    Raises:
        ValueError: if the shapes differ.

    >>> result = compare(np.array([[0.6, 1.0], [0.7, 0.9]]), np.array([[0.5, 0.5], [0.5, 0.5]]))
    >>> round(result["difference"], 2), result["seeds"], result["queries"]
    (0.3, 2, 2)
    """
    if arm.shape != baseline.shape or arm.ndim != 2:
        raise ValueError(f"shapes {arm.shape} and {baseline.shape}; expected two equal shapes (seeds, queries).")
    difference = arm - baseline
    seeds, queries = difference.shape
    weights = np.random.default_rng([seed, 1]).multinomial(seeds, np.full(seeds, 1.0 / seeds), size=samples)
    means = (weights * (_query_counts(queries, samples, seed) @ difference.T)).sum(axis=1) / (seeds * queries)
    smaller_tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return {
        "difference": float(difference.mean()),
        "interval_95": [float(bound) for bound in np.quantile(means, _TAILS)],
        "p": min(1.0, 2.0 * (1 + smaller_tail) / (samples + 1)),
        "p_seeds": _paired_t_test(difference.mean(axis=1)),
        "seeds": seeds,
        "queries": queries,
    }


def _paired_t_test(differences: np.ndarray) -> float | None:
    """Two-sided p-value of the paired t-test for differences (S,); None for one of them."""
    if differences.size < 2:
        return None
    if differences.std() == 0.0:  # scipy returns NaN
        return float(differences.mean() == 0.0)
    with warnings.catch_warnings():
        # Differences that are equal up to rounding: p is 0 either way.
        warnings.filterwarnings("ignore", message="Precision loss occurred", category=RuntimeWarning)
        return float(stats.ttest_1samp(differences, 0.0).pvalue)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for testing all of them (Holm, 1979). The chance of any false alarm stays below the level.

    >>> adjust_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors))
    return [float(value) for value in adjusted[np.argsort(order, kind="stable")]]


def compare_by_quartile(arm: np.ndarray, baseline: np.ndarray, difficulty: np.ndarray) -> list[dict[str, Any]]:
    """Compares two arms in each quarter of the queries, from the easiest to the hardest.

    Args:
        arm: (S, Q), as for [`compare`].
        baseline: (S, Q), as for [`compare`].
        difficulty: (Q,) difficulty of the queries.

    Returns:
        The results of [`compare`]: four, or one for each query if there are fewer than four queries.
    """
    quarters = np.array_split(np.argsort(difficulty, kind="stable"), 4)
    return [compare(arm[:, rows], baseline[:, rows], samples=2000) for rows in quarters if rows.size]


def time_to_reach(curve: Curve, target: float) -> dict[str, float] | None:
    """Time and steps after which a run first has an MRR, interpolated between its evaluations.

    Args:
        curve: evaluations of the run.
        target: the MRR to reach.

    Returns:
        `seconds`, `steps` and, if they were logged, `cpu_seconds`; those of the first evaluation if it has the MRR
        already. None if no evaluation has it.

    >>> time_to_reach(Curve(np.array([10, 20]), np.array([1.0, 2.0]), np.array([0.1, 0.3])), 0.2)
    {'seconds': 1.5, 'steps': 15.0}
    """
    reached = np.flatnonzero(curve.mrr >= target)
    if not reached.size:
        return None
    columns = {"seconds": curve.seconds, "steps": curve.steps, "cpu_seconds": curve.cpu_seconds}
    last = int(reached[0])
    before = max(0, last - 1)
    share = 1.0 if last == 0 else (target - curve.mrr[before]) / (curve.mrr[last] - curve.mrr[before])
    return {
        name: float(values[before] + share * (values[last] - values[before]))
        for name, values in columns.items()
        if values is not None
    }


def summarise(
    runs: Sequence[Run],
    baselines: Sequence[str],
    difficulty: Mapping[str, float] | None = None,
    *,
    reach_margin: float = 0.0,
) -> dict[str, Any]:
    """Computes all numbers of the report of a study.

    Args:
        runs: the finished runs, in the order of the arms.
        baselines: names of the arms that the others are tested against. The first sets the quality to reach.
        difficulty: difficulty of each query, by its id. None leaves out the quartiles.
        reach_margin: MRR by which the quality to reach is below the best evaluation of the first baseline.

    Returns:
        `queries`, their number; by arm: `arms` (quality and cost), `curves` (means over the seeds), `reach`; by
        baseline and arm: `tests`, `quartiles`.

    Raises:
        ValueError: if there is no run, or the runs ranked different queries.
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
    query_difficulty = None if difficulty is None else np.array([difficulty[query] for query in ids.tolist()])
    tests: dict[str, dict[str, Any]] = {}
    quartiles: dict[str, dict[str, Any]] = {}
    for name in baselines:
        tests[name], quartiles[name] = {}, {}
        for arm, by_seed in arms.items():
            seeds = sorted(set(by_seed) & set(arms[name]))
            if arm == name or not seeds:
                continue
            values, reference = (_reciprocal_ranks([side[seed] for seed in seeds]) for side in (by_seed, arms[name]))
            tests[name][arm] = compare(values, reference)
            if query_difficulty is not None:
                quartiles[name][arm] = compare_by_quartile(values, reference, query_difficulty)
        adjusted = adjust_holm([test["p"] for test in tests[name].values()])
        for test, value in zip(tests[name].values(), adjusted, strict=True):
            test["p_holm"] = value
    return {
        "queries": len(ids),
        "arms": {arm: _summarise_arm(list(by_seed.values())) for arm, by_seed in arms.items()},
        "curves": {arm: _mean_curve(list(by_seed.values())) for arm, by_seed in arms.items()},
        "reach": {arm: _reach_by_seed(by_seed, arms[baselines[0]], reach_margin) for arm, by_seed in arms.items()}
        if baselines
        else {},
        "tests": tests,
        "quartiles": quartiles,
    }


def _reciprocal_ranks(runs: Sequence[Run], key: str = PRIMARY) -> np.ndarray:
    """(S, Q) reciprocal ranks of the runs of an arm."""
    return np.stack([1.0 / run.ranks[key] for run in runs])


def _summarise_arm(runs: list[Run]) -> dict[str, Any]:
    """Quality and cost of an arm over its seeds."""
    reciprocal = _reciprocal_ranks(runs)
    ranks = np.stack([run.ranks[PRIMARY] for run in runs])
    return {
        "seeds": sorted(run.seed for run in runs),
        "mrr": {**summarise_seeds(reciprocal.mean(axis=1)), "interval_95_queries": bootstrap_over_queries(reciprocal)},
        **{f"hits@{k}": summarise_seeds((ranks <= k).mean(axis=1)) for k in (1, 10)},
        "mrr_by_pool": {key: summarise_seeds(_reciprocal_ranks(runs, key).mean(axis=1)) for key in runs[0].ranks},
        "steps": summarise_seeds([run.steps for run in runs]),
        "seconds": summarise_seeds([run.seconds for run in runs]),
        "cpu_seconds": _summarise_measured([run.cpu_seconds for run in runs]),
        "pairs_seen": summarise_seeds([run.pairs_seen for run in runs]),
        "tokens_seen": _summarise_measured([run.tokens_seen for run in runs]),
    }


def _summarise_measured(values: Sequence[float | None]) -> dict[str, JsonValue] | None:
    """As [`summarise_seeds`]; None if a run did not measure it."""
    known = [value for value in values if value is not None]
    return summarise_seeds(known) if len(known) == len(values) else None


def _mean_curve(runs: list[Run]) -> dict[str, list[float]]:
    """The curve of an arm, averaged over its seeds at the steps that all of them evaluated."""
    steps = sorted(set.intersection(*(set(run.curve.steps.tolist()) for run in runs)))
    rows = [np.searchsorted(run.curve.steps, steps) for run in runs]
    names = ["seconds", "mrr"] + (["cpu_seconds"] if all(run.curve.cpu_seconds is not None for run in runs) else [])
    mean = {
        name: np.mean([getattr(run.curve, name)[row] for run, row in zip(runs, rows, strict=True)], axis=0).tolist()
        for name in names
    }
    pairs_per_step = runs[0].pairs_seen / runs[0].steps
    return {"steps": steps, "pairs_seen": [step * pairs_per_step for step in steps], **mean}


def _reach_by_seed(
    runs: Mapping[int, Run], baseline: Mapping[int, Run], margin: float
) -> dict[int, dict[str, float] | None]:
    """Time and steps to the best MRR of the baseline with the same seed less the margin; None if it is not reached."""
    results: dict[int, dict[str, float] | None] = {}
    for seed in sorted(set(runs) & set(baseline)):
        if not baseline[seed].curve.mrr.size:
            continue
        target = float(baseline[seed].curve.mrr.max()) - margin
        point = time_to_reach(runs[seed].curve, target)
        results[seed] = None if point is None else {"mrr": target, **point}
    return results
