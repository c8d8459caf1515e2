"""Errors about unknown names."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], otherwise: str | None = None) -> str:
    """The nearest known name as a question, or what to do instead.

    Args:
        name: the name that is not known.
        known: the names that are.
        otherwise: the words to use where no known name is near. Default: the list of all known names.

    Returns:
        The end of a sentence, without a separator before it and with its full stop.

    >>> did_you_mean("learning_rat", ["learning_rate", "seed"])
    "did you mean 'learning_rate'?"
    >>> did_you_mean("x", ["learning_rate", "seed"])
    'expected one of learning_rate, seed.'
    >>> did_you_mean("x", ["learning_rate"], otherwise="--help lists all arguments.")
    '--help lists all arguments.'
    """
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"expected one of {', '.join(known)}." if otherwise is None else otherwise


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Checks an argument that takes one of several words.

    Args:
        name: name of the argument, for the error.
        value: its value.
        known: the words.

    Raises:
        ValueError: if the value is none of them.

    >>> check_choice("on_error", "stop", ("raise", "drop"))
    Traceback (most recent call last):
    ValueError: on_error is 'stop'; expected one of raise, drop.
    """
    known = list(known)
    if value not in known:
        raise ValueError(f"{name} is {value!r}; {did_you_mean(value, known)}")
