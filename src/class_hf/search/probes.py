"""Recognises the model that made an index by the vectors of two fixed inputs."""

from collections.abc import Sequence

import numpy as np

from class_hf.search.requests import QueryEncoder

# Two inputs whose vectors identify a model, whatever its file format, precision and device.
_PROBES = {"text": ["The molecule is a steroid ester."], "molecule": ["CC(=O)Oc1ccccc1C(=O)O"]}
SAME_MODEL = 0.999  # smallest cosine of a probe; bf16 moves one by less than 0.0002


def embed_probes(encoder: QueryEncoder) -> dict[str, list[float]]:
    """Embeds the two inputs. An index keeps the vectors.

    Args:
        encoder: the model of the index.

    Returns:
        The vectors by side.
    """
    return {side: encoder.embed_queries(side, inputs)[0].round(6).tolist() for side, inputs in _PROBES.items()}


def check_probes(
    encoder: QueryEncoder,
    stored: dict[str, list[float]],
    *,
    name: str,
    made_by: str | None,
    sides: Sequence[str] = tuple(_PROBES),
) -> None:
    """Checks that a model is the one that made an index.

    It is, if it gives the vectors that the index keeps of two fixed inputs.

    Args:
        encoder: the model.
        stored: the vectors from [`embed_probes`].
        name: name of the model, for the error.
        made_by: name of the model that made the index, for the error.
        sides: the sides that are compared.

    Raises:
        ValueError: If the cosine of a vector and the stored one is below .999.
    """
    for side in sides:
        if side not in stored:
            continue
        probe = _PROBES[side]
        vector, expected = encoder.embed_queries(side, probe)[0], np.asarray(stored[side], np.float32)
        if vector.shape != expected.shape:
            raise ValueError(
                f"the model {name!r} gives {len(vector)} numbers, but the index holds {len(expected)} each: it was "
                f"made by {made_by!r}. Load it with that model, or build it again."
            )
        if not float(vector @ expected) >= SAME_MODEL:
            raise ValueError(
                f"the model {name!r} is not the one that made the index ({made_by!r}): it gives another vector for "
                f"the {side} {probe[0]!r}. Load it with that model, or build it again."
            )
