"""Any value as JSON that every reader accepts."""

import json
import math
from typing import Any, TypeAlias

# A value that JSON has. A dictionary of these is a JSON object.
JsonValue: TypeAlias = dict[str, "JsonValue"] | list["JsonValue"] | str | int | float | bool | None


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON. NaN and infinity, which JSON does not have, become null. Other types become text.

    Args:
        value: lists and dictionaries of any values.
        indent (`int`, *optional*): spaces of each level. Default: everything is on one line.

    >>> json_text({"logS": float("nan"), "id": "a"})
    '{"logS": null, "id": "a"}'
    """
    options: dict[str, Any] = {"ensure_ascii": False, "default": str, "indent": indent, "allow_nan": False}
    try:
        return json.dumps(value, **options)
    except ValueError:
        return json.dumps(_finite(value), **options)


def _finite(value: Any) -> Any:
    """The value with None for each number that is not finite."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
