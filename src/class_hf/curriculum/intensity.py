"""Intensity: how strongly each step trains. It increases during the curriculum."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from class_hf.curriculum.pacing import rule_name
from class_hf.utils.json_text import JsonValue

IntensityMode = Literal["constant", "scheduled", "adaptive"]
IntensityAction = Literal["sharpness", "focus", "step_size"]
_START = 0.5
_GAMMA = 1.0
_MOMENTUM = 0.95


class Intensity(NamedTuple):
    """The effect of the intensity on one step. The defaults have no effect.

    Attributes:
        sharpness: factor of the logits, in (0, 1].
        focus: exponent of the pair weights `w_i = (1 - p_i) ** focus`, 0 or more.
        step_size: factor of the learning rate, in (0, 1].
    """

    sharpness: float = 1.0
    focus: float = 0.0
    step_size: float = 1.0


class IntensitySchedule:
    """Increases the intensity of learning during the curriculum.

    CLASS (arXiv 2502.11633) increases the intensity but does not publish how; this definition is the package's own. A
    constant factor of the loss has no effect under Adam. So kappa in [start, 1] acts on one or several of these:

    - `sharpness`: the logits are multiplied by kappa, so that early steps have a flatter softmax;
    - `focus`: pair i has the weight `(1 - p_i) ** (gamma kappa)`, where p_i is the probability of its true match (the
      focal weight of Lin et al., 2017). The weights are normalised to mean 1 over the global batch;
    - `step_size`: the learning rate is multiplied by kappa.

    kappa depends on the mode. `constant`: it is 1. `scheduled`: it follows the competence. `adaptive`: it increases
    with the running in-batch accuracy and never decreases. A function: it is the function's value at the competence.

    Args:
        mode: `constant`, `scheduled`, `adaptive`, or a function of the competence with values in (0, 1].
        actions: any of `sharpness`, `focus`, `step_size`. Without actions the intensity has no effect.
        start: kappa at the start, in (0, 1].
        gamma: exponent of the focus weights at kappa = 1, 0 or more.
        momentum: share of the old value in the running accuracy of `adaptive`, in [0, 1).

    Raises:
        ValueError: if an argument is not known or out of range, or is set and neither the mode nor an action reads it.

    Example:

    >>> schedule = IntensitySchedule("scheduled", actions=["sharpness"], start=0.5)
    >>> [schedule.at(competence=competence, start_competence=0.3).sharpness for competence in (0.3, 1.0)]
    [0.5, 1.0]
    """

    def __init__(
        self,
        mode: IntensityMode | Callable[[float], float] = "constant",
        *,
        actions: Sequence[IntensityAction] = (),
        start: float = _START,
        gamma: float = _GAMMA,
        momentum: float = _MOMENTUM,
    ):
        if not callable(mode) and mode not in get_args(IntensityMode):
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
        # Without actions nothing is refused, so that a command line can switch the intensity of a recipe off.
        unread = [
            ("start", start, _START, mode in ("scheduled", "adaptive"), "the intensity to 'scheduled' or 'adaptive'"),
            ("gamma", gamma, _GAMMA, "focus" in actions, "the action 'focus'"),
            ("momentum", momentum, _MOMENTUM, mode == "adaptive", "the intensity to 'adaptive'"),
        ]
        for name, value, default, is_read, remedy in unread:
            if actions and value != default and not is_read:
                raise ValueError(
                    f"{name} is {value:g}, which has no effect with the intensity {rule_name(mode)!r} and the actions "
                    f"{', '.join(actions)}. Leave it out (it is {default:g}), or set {remedy}."
                )
        self.mode = mode
        self.actions = tuple(sorted(set(actions)))
        self.start = float(start)
        self.gamma = float(gamma)
        self.momentum = float(momentum)
        self._accuracy = 0.0
        self._adaptive_kappa = self.start

    def kappa(self, competence: float, start_competence: float) -> float:
        """kappa in [start, 1].

        Args:
            competence: share of the pairs that the current epoch admits.
            start_competence: share of the pairs that the first epoch admits.
        """
        if callable(self.mode):
            value = float(self.mode(competence))
            if not 0.0 < value <= 1.0:
                raise ValueError(f"the intensity function is {value} at competence {competence:g}; expected (0, 1].")
            return value
        if self.mode == "constant":
            return 1.0
        if self.mode == "adaptive":
            return self._adaptive_kappa
        if start_competence >= 1.0:
            return 1.0
        done = (competence - start_competence) / (1.0 - start_competence)
        return self.start + (1.0 - self.start) * min(1.0, max(0.0, done))

    def at(self, competence: float, start_competence: float) -> Intensity:
        """The effect of the intensity at a competence. The arguments are those of `kappa`."""
        if not self.actions:
            return Intensity()
        kappa = self.kappa(competence, start_competence)
        return Intensity(
            sharpness=kappa if "sharpness" in self.actions else 1.0,
            focus=self.gamma * kappa if "focus" in self.actions else 0.0,
            step_size=kappa if "step_size" in self.actions else 1.0,
        )

    def update(self, accuracy: float) -> None:
        """Adds the in-batch accuracy of one optimizer step. Only `adaptive` uses it.

        Args:
            accuracy: in [0, 1]. With several processes, pass the accuracy of the global batch, so that kappa is the
                same in each process.

        Raises:
            ValueError: if the accuracy is out of range.
        """
        if self.mode != "adaptive":
            return
        if not 0.0 <= accuracy <= 1.0:
            raise ValueError(f"the in-batch accuracy is {accuracy}; expected a share in [0, 1].")
        self._accuracy = self.momentum * self._accuracy + (1.0 - self.momentum) * accuracy
        self._adaptive_kappa = max(self._adaptive_kappa, self.start + (1.0 - self.start) * self._accuracy)

    def settings(self) -> dict[str, JsonValue]:
        """The arguments of the schedule, under the names that they have in a run's arguments."""
        return {
            "intensity_mode": rule_name(self.mode),
            "intensity_actions": list(self.actions),
            "intensity_start": self.start,
            "intensity_gamma": self.gamma,
            "intensity_momentum": self.momentum,
        }

    def state_dict(self) -> dict[str, float]:
        """The state that a checkpoint needs to resume: the running accuracy and the adaptive kappa."""
        return {"accuracy": self._accuracy, "adaptive_kappa": self._adaptive_kappa}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restores the state that `state_dict` returned."""
        self._accuracy = float(state["accuracy"])
        self._adaptive_kappa = float(state["adaptive_kappa"])
