"""Checks of arguments that users set in configuration files and on the command line."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any


def _is_integer(value: Any) -> bool:
    """Whether a value is an integer, NumPy's included, and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_fields(place: str, fields: Iterable[str], known: Iterable[str]) -> None:
    """Checks the names of fields. Configurations keep unknown ones, so that a misspelt field would have no effect.

    Args:
        place: what the fields belong to, for the error.
        fields: the names.
        known: the names that exist.

    Raises:
        ValueError: with the first unknown field.

    Example:

    >>> check_fields("lexical", ["hiden_size"], ["hidden_size", "dropout"])
    Traceback (most recent call last):
    ...
    ValueError: lexical has no field 'hiden_size'; did you mean 'hidden_size'?
    """
    known = list(known)
    for field in fields:
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}."
            raise ValueError(f"{place} has no field {field!r}; {hint}")


def check_misspelt(function: Callable[..., Any], names: Iterable[str]) -> None:
    """Refuses further arguments whose names are almost those of a parameter. Such an argument would have no effect.

    Args:
        function: a class or function that keeps further arguments.
        names: the further arguments.

    Raises:
        ValueError: with the first such argument, and the parameter.

    Example:

    >>> def tokenizer(num_buckets, **kwargs): pass
    >>> check_misspelt(tokenizer, ["num_bucket"])
    Traceback (most recent call last):
    ...
    ValueError: tokenizer has no argument 'num_bucket'; did you mean 'num_buckets'?
    """
    known = list(inspect.signature(function).parameters)
    for name in names:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near and name not in known:
            raise ValueError(f"{function.__name__} has no argument {name!r}; did you mean {near[0]!r}?")


def check_misspelt_fields(config: Any, names: Iterable[str]) -> None:
    """Refuses further fields of a configuration whose names are almost those of its own fields.

    transformers keeps every further field, so a saved configuration may have any. A misspelt one would have no effect.

    Args:
        config: the configuration.
        names: the further fields.

    Raises:
        ValueError: with the first such field, and the field of the configuration.

    Example:

    >>> from class_hf import LexicalConfig
    >>> LexicalConfig(hiden_size=64)
    Traceback (most recent call last):
    ...
    ValueError: LexicalConfig has no field 'hiden_size'; did you mean 'hidden_size'?
    """
    kind = type(config)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in names:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near and name not in known and name not in kind.attribute_map and not hasattr(kind, name):
            raise ValueError(f"{kind.__name__} has no field {name!r}; did you mean {near[0]!r}?")


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


def check_number(
    name: str, value: Any, least: float | None = None, above: float | None = None, below: float | None = None
) -> float:
    """Checks that an argument is a finite number in a range.

    Args:
        name: name of the argument.
        value: its value.
        least: smallest value that is accepted; None for no bound.
        above: largest value that is too small; None for no bound.
        below: smallest value that is too large; None for no bound.

    Returns:
        The value.

    Raises:
        ValueError: if it is not a number, not finite, or out of the range.

    Example:

    >>> check_number("dropout", 0.1, least=0, below=1)
    0.1
    >>> check_number("margin", float("nan"), above=0)
    Traceback (most recent call last):
    ...
    ValueError: `margin` is nan; expected a finite number above 0.
    """
    is_finite = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    bounds = {"of at least": least, "above": above, "below": below}
    if (
        not is_finite
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        limits = " and ".join(f"{words} {bound}" for words, bound in bounds.items() if bound is not None)
        raise ValueError(f"`{name}` is {value!r}; expected a finite number {limits}".rstrip() + ".")
    return value


def has_word(text: str) -> bool:
    """Whether a text has a letter or a digit of any script. A text without has no meaning for a model.

    >>> has_word("An ester."), has_word("酯"), has_word("?! ...")
    (True, True, False)
    """
    return any(map(str.isalnum, text))
