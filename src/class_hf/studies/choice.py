"""Chooses learning rates and the arms to confirm, from the runs of the choosing seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from class_hf.studies.definition import Planned, Study
from class_hf.studies.statistics import PRIMARY, Run


def choose_rates(study: Study, runs: Mapping[Planned, Run]) -> dict[str, dict[str, Any]]:
    """Chooses the learning rate of each arm: the factor with the highest MRR on the validation split.

    Only seeds of the study, not those that confirm, take part. All factors of an arm are compared on the same seeds.

    Args:
        study: the study.
        runs: the finished runs.

    Returns:
        By arm: `mrr` by factor (as text, over the seeds that all factors have), `seeds`, their number, and `best`, the
        factor. Without a common seed `mrr` is empty and `best` is 1. Arms without a finished run are left out.
    """
    chosen: dict[str, dict[str, Any]] = {}
    for arm in study.arms:
        by_rate = {
            rate: {seed: runs[Planned(arm, seed, rate)] for seed in study.seeds if Planned(arm, seed, rate) in runs}
            for rate in study.learning_rates
        }
        if not any(by_rate.values()):
            continue
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in by_rate.values())))
        mrr = {rate: _mean_mrr([by_seed[seed] for seed in seeds]) for rate, by_seed in by_rate.items() if seeds}
        # Of equal ones the factor nearest to 1.
        best = max(mrr, key=lambda rate: (mrr[rate], -abs(np.log(rate)))) if mrr else 1.0
        chosen[arm] = {"mrr": {f"{rate:g}": value for rate, value in mrr.items()}, "seeds": len(seeds), "best": best}
    return chosen


def _mean_mrr(runs: Sequence[Run]) -> float:
    return float(np.mean([np.mean(1.0 / run.ranks[PRIMARY]) for run in runs]))


def runs_to_confirm(study: Study, runs: Mapping[Planned, Run]) -> list[Planned]:
    """The runs with held-out seeds: the baselines and the best candidate, each at its best learning rate.

    Args:
        study: the study.
        runs: the finished runs.

    Returns:
        The runs, in the order of the arms; with the arms whose cost they share. Empty if the study has no held-out
        seeds.

    Raises:
        ValueError: if a run is missing on which the choice depends.
    """
    if not study.confirm_seeds:
        return []
    missing = [run.label for run in study.plan(study.seeds) if run not in runs]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"nothing is chosen to confirm: {missing[0]}{more} is not finished.")
    rates = choose_rates(study, runs)
    best = max(study.candidates, key=lambda arm: rates[arm]["mrr"][f"{rates[arm]['best']:g}"])
    arms = {*study.baselines, best}
    while sources := {source[1] for arm in arms if (source := study.source_of(arm)) is not None} - arms:
        arms |= sources
    return [
        Planned(arm, seed, rates[arm]["best"]) for seed in study.confirm_seeds for arm in study.arms if arm in arms
    ]
