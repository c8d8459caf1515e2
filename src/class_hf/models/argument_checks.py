"""Checks of arguments that users set in configuration files, for tokenizers, feature extractors and processors."""

from numbers import Integral
from typing import Any


def _is_integer(value: Any) -> bool:
    """Whether a value is an integer, NumPy's included, and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_integer(name: str, value: Any, least: int) -> int:
    """Checks that an argument is an integer of at least `least`.

    Args:
        name: name of the argument.
        value: its value.
        least: smallest value that is accepted.

    Returns:
        The value.

    Raises:
        ValueError: if it is not an integer, or too small.

    Example:

    >>> check_integer("radius", 2, 0)
    2
    >>> check_integer("radius", "two", 0)
    Traceback (most recent call last):
    ...
    ValueError: `radius` is 'two'; expected an integer of at least 0.
    """
    if not _is_integer(value) or value < least:
        raise ValueError(f"`{name}` is {value!r}; expected an integer of at least {least}.")
    return int(value)


def check_integers(name: str, values: Any, least: int) -> list[int]:
    """Checks that an argument is a list of integers of at least `least`.

    Args:
        name: name of the argument.
        values: its value.
        least: smallest integer that is accepted.

    Returns:
        The integers.

    Raises:
        ValueError: if it is not a list, or if an element is not an integer or too small.

    Example:

    >>> check_integers("line_ngrams", (6, 8), 1)
    [6, 8]
    >>> check_integers("line_ngrams", 6, 1)
    Traceback (most recent call last):
    ...
    ValueError: `line_ngrams` is 6; expected a list of integers of at least 1.
    """
    is_list = isinstance(values, list | tuple | range)
    if not is_list or not all(_is_integer(value) and value >= least for value in values):
        raise ValueError(f"`{name}` is {values!r}; expected a list of integers of at least {least}.")
    return [int(value) for value in values]


def check_bool(name: str, value: Any) -> bool:
    """Checks that an argument is `True` or `False`.

    Args:
        name: name of the argument.
        value: its value.

    Returns:
        The value.

    Raises:
        ValueError: if it is anything else.

    Example:

    >>> check_bool("include_chirality", "no")
    Traceback (most recent call last):
    ...
    ValueError: `include_chirality` is 'no'; expected True or False.
    """
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` is {value!r}; expected True or False.")
    return value
