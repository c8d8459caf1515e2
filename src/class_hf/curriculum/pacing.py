"""Pacing: how fast the curriculum admits the training pairs."""

import math
from collections.abc import Callable
from typing import Literal, get_args

PacingName = Literal["root", "linear", "geometric", "stages"]
Pacing = PacingName | Callable[[float], float]
# The default of each setting, and the pacings that read it.
_READERS: dict[str, tuple[float, tuple[str, ...]]] = {
    "start share": (0.3, get_args(PacingName)),
    "end share": (1.0, get_args(PacingName)),
    "power": (2.0, ("root",)),
    "number of stages": (4, ("stages",)),
}


def competence(
    progress: float,
    *,
    pacing: Pacing = "root",
    start: float = 0.3,
    power: float = 2.0,
    stages: int = 4,
    end: float = 1.0,
) -> float:
    """Share of the training pairs that the curriculum admits.

    With t the progress, c0 the start, c1 the end and p the power:

    - `root`: c(t) = (t (c1^p - c0^p) + c0^p)^(1/p). For p = 2 and c1 = 1 this is the square-root rule of Platanios et
      al. (2019, eq. 4).
    - `linear`: c(t) = t (c1 - c0) + c0, which is `root` with p = 1 (Platanios et al., 2019, eq. 3).
    - `geometric`: c(t) = c0^(1 - t) c1^t. The log of the share grows linearly, so most pairs are admitted late (the
      geometric progression of Penha & Hauff, 2020).
    - `stages`: c(t) = c0 + (c1 - c0) floor(t k) / k for k stages, the baby steps of Spitkovsky et al. (2010).
    - a function: c(t) is its value, in (0, 1]. The other arguments are refused.

    Args:
        progress: position t in the pacing span, 0 at its start and 1 at its end. Larger values count as 1.
        pacing: the name of the rule, or a function of t.
        start: share c0 admitted at t = 0, in (0, 1].
        power: exponent p of `root`, at least 1. A larger exponent admits more pairs early.
        stages: number k of stages of `stages`, at least 1.
        end: share c1 admitted at t = 1, in (0, 1]. With less than 1, the hardest pairs are never admitted. A start
            above the end counts as the end.

    Returns:
        c(t) in [start, end]. For the named rules it never decreases with t.

    Raises:
        ValueError: if an argument is out of range, or is set and the pacing does not read it.

    >>> [round(competence(t), 2) for t in (0, 0.5, 1)]
    [0.3, 0.74, 1.0]
    >>> [round(competence(t, pacing="linear", end=0.6), 2) for t in (0, 0.5, 1)]
    [0.3, 0.45, 0.6]
    >>> competence(0.5, pacing=lambda t: max(0.1, t**2))
    0.25
    """
    check_pacing(pacing, start, power, stages, end)
    if not progress >= 0:  # also refuses NaN
        raise ValueError(f"`progress` is {progress}; expected 0 or more.")
    t = min(1.0, float(progress))
    if callable(pacing):
        share = float(pacing(t))
        if not 0.0 < share <= 1.0:
            raise ValueError(
                f"the pacing function {rule_name(pacing)} is {share} at {t:g}; expected a share in (0, 1]."
            )
        return share
    if t == 1.0:
        return end  # exactly; the formulas may round
    start = min(start, end)
    if pacing == "geometric":
        share = start ** (1.0 - t) * end**t
    elif pacing == "stages":
        share = start + (end - start) * math.floor(t * stages) / stages
    else:
        p = power if pacing == "root" else 1.0
        share = (t * (end**p - start**p) + start**p) ** (1.0 / p)
    return min(end, max(start, share))


def rule_name(rule: str | Callable[[float], float]) -> str:
    """The name of a rule, or of a function with its module.

    >>> rule_name("root"), rule_name(math.sqrt)
    ('root', 'math.sqrt')
    """
    if isinstance(rule, str):
        return rule
    return f"{getattr(rule, '__module__', '')}.{getattr(rule, '__qualname__', type(rule).__name__)}"


def check_pacing(pacing: Pacing, start: float, power: float, stages: int, end: float = 1.0) -> None:
    """Checks the settings of [`competence`].

    Raises:
        ValueError: if a setting is out of range, or is set and the pacing does not read it; names the value.

    >>> check_pacing("root", start=0.3, power=2.0, stages=0)
    Traceback (most recent call last):
    ValueError: the number of stages is 0; expected at least 1.
    """
    if not callable(pacing) and pacing not in get_args(PacingName):
        raise ValueError(f"pacing {pacing!r} is not known; choose one of {', '.join(get_args(PacingName))}.")
    if not 0.0 < start <= 1.0:
        raise ValueError(f"the start share is {start}; expected a share in (0, 1], for instance 0.3.")
    if not power >= 1.0:
        raise ValueError(f"the pacing power is {power}; expected 1 (linear) or more, for instance 2 (square root).")
    if not 0.0 < end <= 1.0:
        raise ValueError(f"the end share is {end}; expected a share in (0, 1], for instance 1 to admit all pairs.")
    if stages < 1:
        raise ValueError(f"the number of stages is {stages}; expected at least 1.")
    values = {"start share": start, "end share": end, "power": power, "number of stages": stages}
    for name, (default, readers) in _READERS.items():
        if values[name] != default and (callable(pacing) or pacing not in readers):
            names = " or ".join(map(repr, readers))
            raise ValueError(
                f"the {name} is {values[name]:g}, which has no effect with the pacing {rule_name(pacing)!r}. Leave it "
                f"out (it is {default:g}), or set the pacing to {names}."
            )
