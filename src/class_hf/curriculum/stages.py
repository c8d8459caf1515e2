"""Stages of a run: epochs that admit the same pairs, and what changes from one stage to the next."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from class_hf.curriculum.settings import PlanSettings

DEFAULT_SPAN = 0.75
# The settings with one value for each stage.
STAGE_SETTINGS = ("stage_epochs", "stage_batch_sizes", "stage_learning_rates", "stage_sharpness")


class Stage(NamedTuple):
    """What holds in a stage.

    Args:
        number: counted from 0.
        batch_size: pairs per optimizer step.
        learning_rate: factor of the learning rate.
        sharpness: factor of the logits.
    """

    number: int
    batch_size: int
    learning_rate: float = 1.0
    sharpness: float = 1.0


def stage_number(epoch: int, settings: "PlanSettings") -> int:
    """The stage of an epoch, counted from 0. `stages` pacing with k stages has k + 1: the last one admits all pairs.

    Args:
        epoch: counted from 0. After the end it is in the last stage.
        settings: of a plan.

    >>> from class_hf.curriculum.settings import PlanSettings
    >>> plan = PlanSettings(epochs=6, batch_size=4, pacing="stages", stages=2, stage_epochs=(1, 2, 3))
    >>> [stage_number(epoch, plan) for epoch in range(7)]
    [0, 1, 1, 2, 2, 2, 2]
    """
    if settings.stage_epochs:
        return sum(epoch >= end for end in [*accumulate(settings.stage_epochs)][:-1])
    if settings.pacing != "stages":
        return 0
    return min(settings.stages, math.floor(epoch / (settings.span * settings.epochs) * settings.stages))


def stage_at(epoch: int, settings: "PlanSettings") -> Stage:
    """What holds in an epoch.

    Args:
        epoch: counted from 0.
        settings: of a plan.
    """
    number = stage_number(epoch, settings)

    def factor(values: Sequence[float]) -> float:
        return values[number] if values else 1.0

    return Stage(
        number,
        round(settings.batch_size * factor(settings.stage_batch_sizes)),
        factor(settings.stage_learning_rates),
        factor(settings.stage_sharpness),
    )


def check_stages(settings: "PlanSettings") -> None:
    """Checks the settings that have one value for each stage.

    Raises:
        ValueError: if a setting has another number of values, a value is out of range, or contradicts another setting.
    """
    for name in STAGE_SETTINGS:
        values = getattr(settings, name)
        if not values:
            continue
        if settings.pacing != "stages":
            raise ValueError(f"{name} is set, but the pacing is {settings.pacing!r}; set the pacing to 'stages'.")
        if len(values) != settings.stages + 1:
            raise ValueError(
                f"{name} has {len(values)} values; expected {settings.stages + 1}: one for each of {settings.stages} "
                "stages of growth, and one for all pairs. Change it, or the number of stages."
            )
        if not all(0 < value < math.inf for value in values):
            raise ValueError(f"{name} is {list(values)}; expected numbers above 0.")
    epochs = settings.stage_epochs
    if any(count != int(count) for count in epochs):
        raise ValueError(f"stage_epochs is {list(epochs)}; expected whole numbers of epochs.")
    if epochs and sum(epochs) != settings.epochs:
        raise ValueError(
            f"stage_epochs has {sum(epochs):g} epochs in total, but the number of epochs is {settings.epochs:g}. Make "
            "them equal."
        )
    if epochs and settings.span != DEFAULT_SPAN:
        raise ValueError(
            f"stage_epochs and a pacing span of {settings.span:g} both set when the pool grows. Leave one of them out."
        )
    for share in settings.stage_batch_sizes:
        size = settings.batch_size * share
        if share > 1 or abs(size - round(size)) > 1e-6 or round(size) < 1:
            raise ValueError(
                f"stage_batch_sizes has {share:g}, which is {size:g} of the {settings.batch_size} pairs of a global "
                "batch; expected shares in (0, 1] that give whole numbers of pairs."
            )
