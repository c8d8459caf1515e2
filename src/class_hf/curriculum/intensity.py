"""Intensity: how hard each step trains, rising through the curriculum."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

IntensityMode = Literal["constant", "scheduled", "adaptive"]
IntensityAction = Literal["sharpness", "focus", "step_size"]


class Intensity(NamedTuple):
    """What the intensity does to one step; the defaults do nothing.

    Attributes:
        sharpness: factor of the logits, in (0, 1].
        focus: exponent of the pair weights `w_i = (1 - p_i) ** focus`, 0 or more.
        step_size: factor of the learning rate, in (0, 1].
    """

    sharpness: float = 1.0
    focus: float = 0.0
    step_size: float = 1.0


class IntensitySchedule:
    """CLASS's rising intensity of learning; the definition is ours.

    A constant factor of the loss does nothing under Adam, so kappa in [start, 1] acts where it counts, and each
    action can be switched off:

    - `sharpness`: the logits are multiplied by kappa, so that early steps see softer targets;
    - `focus`: pair i weighs `(1 - p_i) ** (gamma kappa)`, with p_i the probability of its true match (the focal
      weight of Lin et al., 2017, here of a pair), normalised to mean 1 over the global batch;
    - `step_size`: the learning rate is multiplied by kappa.

    kappa itself is 1 (`constant`), follows the competence (`scheduled`), or rises with the running in-batch
    accuracy and never falls (`adaptive`), so that a stage that is mastered is trained harder.

    Args:
        mode: `constant`, `scheduled` or `adaptive`.
        actions: any of `sharpness`, `focus`, `step_size`; none switches the intensity off.
        start: kappa at the start, in (0, 1].
        gamma: exponent of the focus at kappa = 1, 0 or more.
        momentum: share of the old value in the running accuracy of `adaptive`, in [0, 1).

    Raises:
        ValueError: if an argument is not known or out of its range.

    Example:

    >>> schedule = IntensitySchedule("scheduled", actions=["sharpness"], start=0.5)
    >>> schedule.at(competence=0.3, start_competence=0.3), schedule.at(competence=1.0, start_competence=0.3)
    (Intensity(sharpness=0.5, focus=0.0, step_size=1.0), Intensity(sharpness=1.0, focus=0.0, step_size=1.0))
    """

    def __init__(
        self,
        mode: IntensityMode = "constant",
        *,
        actions: Sequence[IntensityAction] = (),
        start: float = 0.5,
        gamma: float = 1.0,
        momentum: float = 0.95,
    ):
        if mode not in get_args(IntensityMode):
            raise ValueError(f"intensity {mode!r} is not known; choose one of {', '.join(get_args(IntensityMode))}.")
        unknown = sorted(set(actions) - set(get_args(IntensityAction)))
        if unknown:
            raise ValueError(
                f"intensity action {unknown[0]!r} is not known; choose among {', '.join(get_args(IntensityAction))}."
            )
        if not 0.0 < start <= 1.0:
            raise ValueError(f"the intensity start is {start}; expected a factor in (0, 1].")
        if not gamma >= 0.0:
            raise ValueError(f"the focus exponent gamma is {gamma}; expected 0 or more.")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"the momentum of the running accuracy is {momentum}; expected a share in [0, 1).")
        self.mode = mode
        self.actions = tuple(sorted(set(actions)))
        self.start = float(start)
        self.gamma = float(gamma)
        self.momentum = float(momentum)
        self._accuracy = 0.0
        self._adaptive_kappa = self.start

    def kappa(self, competence: float, start_competence: float) -> float:
        """kappa in [start, 1] at the given competence; `start_competence` is the competence of the first epoch."""
        if self.mode == "constant":
            return 1.0
        if self.mode == "adaptive":
            return self._adaptive_kappa
        if start_competence >= 1.0:
            return 1.0
        done = (competence - start_competence) / (1.0 - start_competence)
        return self.start + (1.0 - self.start) * min(1.0, max(0.0, done))

    def at(self, competence: float, start_competence: float) -> Intensity:
        """What the intensity does at the given competence."""
        kappa = self.kappa(competence, start_competence)
        return Intensity(
            sharpness=kappa if "sharpness" in self.actions else 1.0,
            focus=self.gamma * kappa if "focus" in self.actions else 0.0,
            step_size=kappa if "step_size" in self.actions else 1.0,
        )

    def update(self, accuracy: float) -> None:
        """Takes in the in-batch accuracy in [0, 1] of one optimizer step; only `adaptive` learns from it.

        Under several processes pass the accuracy of the global batch, so that all processes keep the same kappa.
        """
        if self.mode != "adaptive":
            return
        if not 0.0 <= accuracy <= 1.0:
            raise ValueError(f"the in-batch accuracy is {accuracy}; expected a share in [0, 1].")
        self._accuracy = self.momentum * self._accuracy + (1.0 - self.momentum) * accuracy
        self._adaptive_kappa = max(self._adaptive_kappa, self.start + (1.0 - self.start) * self._accuracy)

    def settings(self) -> dict[str, Any]:
        """The arguments it was made with, under the names that a run's arguments have."""
        return {
            "intensity_mode": self.mode,
            "intensity_actions": list(self.actions),
            "intensity_start": self.start,
            "intensity_gamma": self.gamma,
            "intensity_momentum": self.momentum,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on: the running accuracy and the adaptive kappa."""
        return {"accuracy": self._accuracy, "adaptive_kappa": self._adaptive_kappa}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what [`state_dict`] gave."""
        self._accuracy = float(state["accuracy"])
        self._adaptive_kappa = float(state["adaptive_kappa"])
