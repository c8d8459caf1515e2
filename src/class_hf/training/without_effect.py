"""Training arguments that are set and have no effect, because what they belong to is switched off.

A recipe may switch something off and keep its settings. So these arguments are named and not refused. A setting that
another pacing or another intensity reads is refused by `PlanSettings` and `IntensitySchedule`.
"""

from dataclasses import MISSING, fields
from typing import Any

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.curriculum.stages import STAGE_SETTINGS


def unused_without_order(args: Any) -> list[str]:
    """Settings of the curriculum that are set, with `curriculum_order: none`.

    Args:
        args: the arguments of the run.

    Returns:
        A sentence with their names and values, or none.

    >>> from class_hf import CurriculumTrainingArguments
    >>> args = CurriculumTrainingArguments("out", use_cpu=True, curriculum_order="none", curriculum_start=0.5)
    >>> unused_without_order(args)
    ['curriculum_order is none, so curriculum_start 0.5 has no effect.']
    """
    if args.curriculum_order != "none":
        return []
    names = ["start", "power"]
    if not any(getattr(args, f"curriculum_{name}") for name in STAGE_SETTINGS):
        names += ["pacing", "stages", "span"]
    return _unused(args, "curriculum_order is none", *(f"curriculum_{name}" for name in names))


def unused_settings(args: Any, plan: CurriculumPlan) -> list[str]:
    """Other arguments that are set and have no effect: those of groups and of the intensity.

    Args:
        args: the arguments of the run.
        plan: its plan.

    Returns:
        One sentence for each reason, with the names and values.

    >>> from class_hf import CurriculumTrainingArguments
    >>> args = CurriculumTrainingArguments("out", use_cpu=True, curriculum_order="none", intensity_gamma=2.0)
    >>> unused_settings(args, CurriculumPlan(num_pairs=8, epochs=2, batch_size=4, order="none"))
    ['intensity_actions is empty, so intensity_gamma 2.0 has no effect.']
    """
    sentences = []
    if args.curriculum_group_size == 1:
        sentences += _unused(args, "curriculum_group_size is 1", "curriculum_group_from")
    elif plan.epochs - 1 < args.curriculum_group_from * plan.settings["epochs"]:
        reason = f"curriculum_group_from is {args.curriculum_group_from}, and no epoch starts after it"
        sentences += _unused(args, reason, "curriculum_group_size")
    if not args.intensity_actions:
        names = (f"intensity_{name}" for name in ("mode", "start", "gamma", "momentum"))
        return sentences + _unused(args, "intensity_actions is empty", *names)
    admits_all = args.intensity_mode == "scheduled" and plan.competence(0) == plan.end
    if args.intensity_mode == "constant" or admits_all:
        reason = "the intensity is 1 in each step"
        actions = sorted({*args.intensity_actions} - {"focus"})
        if actions:
            sentences.append(f"{reason}, so {_has_no_effect([f'the intensity action {name}' for name in actions])}.")
        sentences += _unused(args, reason, "intensity_start")
    return sentences


def _unused(args: Any, reason: str, *names: str) -> list[str]:
    """A sentence with those of the arguments that differ from their defaults, or none."""
    values = [f"{name} {getattr(args, name)}" for name in names if getattr(args, name) != _default(args, name)]
    return [f"{reason}, so {_has_no_effect(values)}."] if values else []


def _has_no_effect(names: list[str]) -> str:
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect"


def _default(args: Any, name: str) -> Any:
    field = next(field for field in fields(args) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()
