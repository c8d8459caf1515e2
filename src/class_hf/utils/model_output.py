"""Reads a model's output, whatever form it has."""

from collections.abc import Mapping
from typing import Any


def output_fields(outputs: Any) -> dict[str, Any]:
    """The fields of a mapping (`ModelOutput` is one), a named tuple, or an object with attributes.

    >>> output_fields({"text_embeds": 1})
    {'text_embeds': 1}
    """
    if isinstance(outputs, Mapping):
        return dict(outputs)
    return outputs._asdict() if hasattr(outputs, "_asdict") else vars(outputs)
