"""Reads the output of a model in any of the usual forms."""

from collections.abc import Mapping
from typing import Any


def output_fields(outputs: Any) -> dict[str, Any]:
    """The fields of a model's output, by name.

    Args:
        outputs: a mapping (such as a `ModelOutput`), a named tuple, or an object with attributes.

    Returns:
        The fields as a dictionary.

    >>> output_fields({"text_embeds": 1})
    {'text_embeds': 1}
    """
    if isinstance(outputs, Mapping):
        return dict(outputs)
    return outputs._asdict() if hasattr(outputs, "_asdict") else vars(outputs)


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Selects what the model reads of a batch. The loss reads the rest.

    >>> model_inputs({"input_ids": 1, "pair_keys": 2, "pair_weights": 3})
    {'input_ids': 1}
    """
    return {name: value for name, value in batch.items() if name not in ("pair_keys", "pair_weights")}
