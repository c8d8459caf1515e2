"""Arms that spend as much as another arm: as many steps, pairs, text tokens, or as much time."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from class_hf.studies.definition import Planned, Study, run_settings
from class_hf.utils.files import write_json

FILE = "steps_over_source.json"
# A run is kept if what it spent differs by at most this share.
_TOLERANCE = 0.02


class CostUnknown(ValueError):
    """The cost that an arm has in common with another one is not known."""


def training_seconds(summary: Mapping[str, Any]) -> float:
    """Wall time of a training without its evaluations."""
    return summary["wall_seconds"] - summary["evaluation_seconds"]


def training_cpu_seconds(summary: Mapping[str, Any]) -> float | None:
    """CPU time of a training without its evaluations; None for runs of versions that did not measure it."""
    if "cpu_seconds" not in summary:
        return None
    return summary["cpu_seconds"] - summary["evaluation_cpu_seconds"]


def time_of(summary: Mapping[str, Any]) -> float:
    """The time by which trainings are compared.

    CPU time on a CPU, because wall time depends on what else the machine does. Wall time on a GPU, whose work CPU time
    does not show. Both without the evaluations.

    Args:
        summary: content of a `train_summary.json`.

    Returns:
        Seconds.
    """
    cpu = training_cpu_seconds(summary)
    return training_seconds(summary) if cpu is None or summary["environment"]["gpu"] else cpu


def cost_of(summary: Mapping[str, Any], key: str) -> float:
    """What a run spent of a cost.

    Args:
        summary: content of its `train_summary.json`.
        key: one of [`EQUAL_COSTS`][class_hf.studies.definition.EQUAL_COSTS].

    Raises:
        CostUnknown: if the run did not measure it.
    """
    if key == "same_time_as":
        return time_of(summary)
    name = {"same_steps_as": "steps", "same_pairs_as": "pairs_seen", "same_tokens_as": "tokens_seen"}[key]
    if not summary.get(name):
        raise CostUnknown(f"{key} cannot be used: the training counted no {name.replace('_', ' ')}.")
    return summary[name]


def equal_steps(study: Study, run: Planned, output: Path) -> int | None:
    """The steps of a run that has a cost in common with another arm.

    Args:
        study: the study.
        run: the run.
        output: folder of the study.

    Returns:
        The steps of the other arm with the same seed, times the factor that the arm's first run has measured. Before
        that the factor is 1 for time, and follows from the batch sizes for pairs and tokens. None for an arm that has
        its own number of steps.

    Raises:
        CostUnknown: if the other arm has no plan with this seed yet.
    """
    source = study.source_of(run.arm)
    if source is None:
        return None
    return max(1, round(_source_steps(study, run, source, output) * _steps_factor(study, run.arm, source, output)))


def _source_steps(study: Study, run: Planned, source: tuple[str, str], output: Path) -> int:
    """The steps of the other arm with the seed of the run. Early stopping can end it before its plan does."""
    key, arm = source
    rates = sorted(study.learning_rates, key=lambda rate: rate != run.rate)
    others = [Planned(arm, run.seed, rate) for rate in rates]
    finished = next((other for other in others if other.is_finished(output)), None)
    if finished is not None:
        return _summary(finished, output)["steps"]
    plans = [other.folder(output) / "plan.json" for other in others]
    plan = next((file for file in plans if file.is_file()), None)
    if plan is None:
        raise CostUnknown(
            f"it takes the {key[5:-3]} of arm {arm!r}, which was not run with seed {run.seed}. Run that arm first."
        )
    return json.loads(plan.read_text())["total_steps"]


def _steps_factor(study: Study, arm: str, source: tuple[str, str], output: Path) -> float:
    """Steps of an arm over those of its source."""
    if source[0] == "same_steps_as":
        return 1.0
    measured = _read_factor(study, arm, source, output)
    if measured:
        return measured["factor"]
    if source[0] == "same_time_as":
        return 1.0
    return _batch(study, source[1]) / _batch(study, arm)


def _batch(study: Study, arm: str) -> float:
    """Pairs of a step in one process."""
    values = {**study.recipe, **study.common, **study.arms[arm]}
    return float(values.get("per_device_train_batch_size", 8)) * float(values.get("gradient_accumulation_steps", 1))


def measure_factor(study: Study, run: Planned, output: Path) -> bool:
    """Measures with the first run of an arm how many steps it takes to spend as much as the other arm.

    The cost is compared with that of a step over all finished runs of the other arm. Later runs of the arm use the
    same factor of the steps.

    Args:
        study: the study.
        run: a finished run.
        output: folder of the study.

    Returns:
        Whether the run has to be trained again, with the number of steps that was measured. Time is corrected once,
        because it varies by chance. Pairs and tokens are corrected twice: the steps of a run need not cost the same.

    Raises:
        CostUnknown: if the cost was not measured, or no run of the other arm is finished. The run then counts as not
            finished.
    """
    source = study.source_of(run.arm)
    if source is None or source[0] == "same_steps_as":
        return False
    earlier = _read_factor(study, run.arm, source, output)
    if earlier.get("done"):
        return False
    summary = run.folder(output) / "train_summary.json"
    try:
        ratio = _ratio_to_source(study, run, source, output)
    except CostUnknown:
        summary.unlink()
        raise
    used = _steps_factor(study, run.arm, source, output)
    corrections = earlier.get("corrections", 0)
    # A run has a whole number of steps.
    is_close = abs(ratio - 1) <= max(_TOLERANCE, 0.5 / json.loads(summary.read_text())["steps"])
    done = is_close or corrections == (1 if source[0] == "same_time_as" else 2)
    if not done:
        summary.unlink()  # first: an interruption here measures again
    result = {"factor": used if done else used / ratio, "corrections": corrections + (not done), "done": done}
    identity = {"source": list(source), "settings": _settings_digest(study, run.arm, source)}
    write_json(output / run.arm / FILE, {**identity, **result, "measured_with": run.label})
    return not done


def _read_factor(study: Study, arm: str, source: tuple[str, str], output: Path) -> dict[str, Any]:
    """What was measured for an arm with this source and these settings; empty if nothing was."""
    file = output / arm / FILE
    measured = json.loads(file.read_text()) if file.is_file() else {}
    digest = _settings_digest(study, arm, source)
    is_valid = measured.get("source") == list(source) and measured.get("settings", digest) == digest
    return measured if is_valid else {}


def _settings_digest(study: Study, arm: str, source: tuple[str, str]) -> str:
    """Hash of the settings of an arm and of its source, which the cost of a step depends on."""
    settings = [run_settings(study, Planned(name, 0)) for name in (arm, source[1])]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _ratio_to_source(study: Study, run: Planned, source: tuple[str, str], output: Path) -> float:
    """What a run spent, over what the other arm spends in its number of steps."""
    key, arm = source
    seeds = sorted({*study.seeds, *study.confirm_seeds, run.seed})
    others = [Planned(arm, seed, rate) for seed in seeds for rate in study.learning_rates]
    summaries = [_summary(each, output) for each in others if each.is_finished(output)]
    if not summaries:
        raise CostUnknown(f"it takes the {key[5:-3]} of arm {arm!r}, of which no run is finished.")
    step = sum(cost_of(each, key) for each in summaries) / sum(each["steps"] for each in summaries)
    return cost_of(_summary(run, output), key) / (step * _source_steps(study, run, source, output))


def _summary(run: Planned, output: Path) -> dict[str, Any]:
    return json.loads((run.folder(output) / "train_summary.json").read_text())


def compare_costs(
    study: Study, summaries: Mapping[str, Mapping[int, Mapping[str, Any]]]
) -> dict[str, dict[str, str | float]]:
    """How close arms came to the cost that they have in common with another arm.

    Args:
        study: the study.
        summaries: contents of the `train_summary.json` of finished runs, by arm and seed.

    Returns:
        By arm: `cost` (one of `EQUAL_COSTS`), `source` and `ratio`, the cost over that of the source, over the seeds
        that both have.
    """
    result: dict[str, dict[str, str | float]] = {}
    for arm, by_seed in summaries.items():
        source = study.source_of(arm)
        if source is None:
            continue
        key, other = source
        seeds = sorted(set(by_seed) & set(summaries.get(other, {})))
        if seeds:
            own, of_source = (_total([summaries[name][seed] for seed in seeds], key) for name in (arm, other))
            result[arm] = {"cost": key, "source": other, "ratio": own / of_source}
    return result


def _total(summaries: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(cost_of(summary, key) for summary in summaries)
