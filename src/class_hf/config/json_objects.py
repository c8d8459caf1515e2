"""Parses the arguments that hold a JSON object."""

import json
from typing import Any

MAX_CHARACTERS = 100_000


def parse_json_object(name: str, text: str) -> dict[str, Any]:
    """Parses a JSON object from an argument.

    Args:
        name: name of the argument, for errors.
        text: the value of the argument.

    Returns:
        The object.

    Raises:
        ValueError: if the text is not a JSON object, is longer than 100,000 characters, repeats a key, or holds NaN or
            infinity.

    >>> parse_json_object("text_config", '{"hidden_size": 64}')
    {'hidden_size': 64}
    >>> parse_json_object("text_config", '{"hidden_size": 64, "hidden_size": 128}')
    Traceback (most recent call last):
    ValueError: text_config sets 'hidden_size' twice; remove one.
    """
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{name} has {len(text):,} characters; expected at most {MAX_CHARACTERS:,}.")

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                raise _WrongObject(f"{name} sets {key!r} twice; remove one.")
            values[key] = value
        return values

    def refuse(constant: str) -> None:
        raise _WrongObject(f"{name} holds {constant}; expected finite numbers.")

    try:
        value = json.loads(text, object_pairs_hook=build, parse_constant=refuse)
    except _WrongObject as error:
        raise ValueError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is {shown!r}; expected JSON such as '{{\"hidden_size\": 256}}'.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {shown!r}; expected a JSON object of fields and values.")
    return value


class _WrongObject(ValueError):
    """The text is JSON, and its content is refused."""
