"""Warnings about names that moved or that a later release removes."""

import warnings

REMOVED_IN = "0.3"


def warn_moved(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warns that a module or a name has a new place.

    Args:
        old: the place that still works.
        new: the place to use.
        stacklevel: frames between this call and the user's line.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_moved("class_hf.adapters", "class_hf.backbones.adapters")
    >>> print(caught[0].message)
    class_hf.adapters moved to class_hf.backbones.adapters; the old place goes in 0.3.
    """
    message = f"{old} moved to {new}; the old place goes in {REMOVED_IN}."
    warnings.warn(message, FutureWarning, stacklevel=stacklevel)
