"""The settings of a curriculum plan: everything that is not a property of the pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from class_hf.curriculum.pacing import Pacing, check_pacing
from class_hf.curriculum.stages import DEFAULT_SPAN, STAGE_SETTINGS, check_stages

Order = Literal["easy_first", "hard_first", "random", "none"]


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How a curriculum admits pairs and draws batches.

    Args:
        epochs: number of epochs, at least 1.
        batch_size: global batch size: pairs per optimizer step over all processes and accumulation steps.
        order: which pairs come first. `easy_first` is the curriculum. `random` (the same pool sizes, random members)
            and `hard_first` are its controls. `none` draws all pairs in each epoch.
        pacing: how the pool grows: a name, or a function c(t) of the progress t in [0, 1], see
            [`competence`][class_hf.curriculum.pacing.competence].
        start: share of the pairs in the first epoch, in (0, 1].
        power: exponent of `root` pacing, 1 or more.
        stages: number of stages of `stages` pacing, at least 1.
        end: share of the pairs that are admitted at the end, in (0, 1]. The others are never trained on: the most
            suspect pairs if the plan knows how suspect they are, else the last pairs of the order.
        span: share of the epochs after which the pool no longer grows, in (0, 1].
        seed: of the orders.
        max_steps: length of the run in steps. The plan is cut there, or continues with full epochs. Default: the run
            ends after its epochs.
        group_size: similar pairs that are drawn together, so that a batch has harder negatives. A batch of B pairs
            then has about B / group_size kinds of pairs. 1 draws at random.
        group_from: share of the epochs, in [0, 1], after which groups are drawn.
        stage_epochs: epochs of each stage of `stages` pacing, k + 1 numbers for k stages: the last stage admits all
            pairs. They set when the pool grows, in place of `span`. Default: stages of equal length.
        stage_batch_sizes: size of a batch in each stage, as a share of `batch_size` in (0, 1].
        stage_learning_rates: factor of the learning rate in each stage, above 0.
        stage_sharpness: factor of the logits in each stage, above 0.

    Raises:
        ValueError: if a setting is out of range.

    >>> PlanSettings(epochs=12, batch_size=256, pacing="linear").start
    0.3
    >>> PlanSettings(epochs=12, batch_size=0)
    Traceback (most recent call last):
    ValueError: the global batch size is 0; expected at least 1.
    """

    epochs: int
    batch_size: int
    order: Order = "easy_first"
    pacing: Pacing = "root"
    start: float = 0.3
    end: float = 1.0
    power: float = 2.0
    stages: int = 4
    span: float = DEFAULT_SPAN
    seed: int = 0
    max_steps: int | None = None
    group_size: int = 1
    group_from: float = 0.0
    stage_epochs: Sequence[int] = ()
    stage_batch_sizes: Sequence[float] = ()
    stage_learning_rates: Sequence[float] = ()
    stage_sharpness: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise ValueError(f"order {self.order!r} is not known; choose one of {', '.join(get_args(Order))}.")
        check_pacing(self.pacing, self.start, self.power, self.stages, self.end)
        if not 0.0 < self.span <= 1.0:
            raise ValueError(f"the pacing span is {self.span}; expected a share of the run in (0, 1].")
        if self.epochs != int(self.epochs) or self.epochs < 1:
            raise ValueError(
                f"the number of epochs is {self.epochs}; expected a whole number, at least 1. "
                "Set max_steps for a shorter run."
            )
        if self.batch_size < 1:
            raise ValueError(f"the global batch size is {self.batch_size}; expected at least 1.")
        if self.max_steps is not None and not (self.max_steps >= 1 and float(self.max_steps).is_integer()):
            raise ValueError(f"max_steps is {self.max_steps}; expected a whole number, at least 1, or None.")
        if self.group_size < 1:
            raise ValueError(f"the group size is {self.group_size}; expected at least 1 pair.")
        if not 0.0 <= self.group_from <= 1.0:
            raise ValueError(f"groups start at {self.group_from} of the run; expected a share in [0, 1].")
        check_stages(self)
        # Whole numbers that arrive as floats, as num_train_epochs does.
        for name in ("epochs", "batch_size", "stages", "seed", "group_size"):
            if not float(getattr(self, name)).is_integer():
                raise ValueError(f"{name} is {getattr(self, name)}; expected a whole number.")
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("start", "end", "power", "span", "group_from"):
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in STAGE_SETTINGS:
            kind = int if name == "stage_epochs" else float
            object.__setattr__(self, name, tuple(kind(value) for value in getattr(self, name)))
