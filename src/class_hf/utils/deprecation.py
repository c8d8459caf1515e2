"""Warnings about modules and names that moved."""

import warnings

REMOVED_IN = "0.3"


def warn_moved(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warns that a module or a name has moved.

    Args:
        old: the old name, which still works.
        new: the new name.
        stacklevel (`int`, *optional*, defaults to 3): frames between this call and the line of the user.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_moved("class_hf.adapters", "class_hf.backbones.adapters")
    >>> print(caught[0].message)
    class_hf.adapters moved to class_hf.backbones.adapters; the old name is removed in 0.3.
    """
    message = f"{old} moved to {new}; the old name is removed in {REMOVED_IN}."
    warnings.warn(message, FutureWarning, stacklevel=stacklevel)
