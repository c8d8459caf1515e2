"""Ranges of numeric arguments, for command lines and for dataclasses."""

import argparse
import math
from dataclasses import dataclass
from typing import Any

MAX_INTEGER = 2**31 - 1


@dataclass(frozen=True)
class NumberRange:
    """The numbers that an argument accepts.

    As the `type` of an argument of argparse it converts and checks a word. [`check`] checks a value.

    Args:
        integer: whether only integers are accepted.
        low: the smallest number.
        high: the largest number.
        open_low: whether `low` itself is refused.
        open_high: whether `high` itself is refused.

    >>> positive_integer("3")
    3
    >>> share.check("text_weight", 1.5)
    Traceback (most recent call last):
    ValueError: text_weight is 1.5; expected a number in [0, 1].
    >>> positive_integer("0")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: '0' is not accepted; expected an integer of at least 1
    """

    integer: bool = False
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __call__(self, word: str) -> Any:
        """Converts a word of a command line."""
        try:
            value = int(word) if self.integer else float(word)
        except (ValueError, OverflowError):
            value = math.nan
        if not self.accepts(value):
            raise argparse.ArgumentTypeError(f"{word[:40]!r} is not accepted; expected {self}")
        return value

    def accepts(self, value: object) -> bool:
        """Whether a value is in the range. NaN and infinity never are."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        if self.integer and (not isinstance(value, int) or abs(value) > MAX_INTEGER):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def check(self, name: str, value: Any) -> None:
        """Checks a value.

        Args:
            name: name of the argument, for the error.
            value: the value; None means that the argument is not set.

        Raises:
            ValueError: if the value is out of range.
        """
        if value is not None and not self.accepts(value):
            raise ValueError(f"{name} is {value!r}; expected {self}.")

    def __str__(self) -> str:
        noun = "an integer" if self.integer else "a number"
        if math.isinf(self.low) and math.isinf(self.high):
            return noun
        if math.isinf(self.high):
            return f"{noun} above {self.low:g}" if self.open_low else f"{noun} of at least {self.low:g}"
        return f"{noun} in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


integer = NumberRange(integer=True)
positive_integer = NumberRange(integer=True, low=1)
non_negative_integer = NumberRange(integer=True, low=0)
port_number = NumberRange(integer=True, low=0, high=65535)
number = NumberRange()
non_negative = NumberRange(low=0)
positive = NumberRange(low=0, open_low=True)
share = NumberRange(low=0, high=1)
probability = NumberRange(low=0, high=1, open_high=True)
