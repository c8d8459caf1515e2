"""What all stores check and say when an index is opened, and the order of what they find."""

from collections.abc import Iterable

from class_hf.search.stores.base import Found, hide_password


def no_index(location: str) -> ValueError:
    """The error of a location without a complete index.

    >>> str(no_index("lance:outputs/index"))
    "there is no complete index at 'lance:outputs/index'; build one with `class-hf index`."
    """
    return ValueError(f"there is no complete index at {hide_password(location)!r}; build one with `class-hf index`.")


def changed_meanwhile(location: str) -> ValueError:
    """The error of an index that another process has changed since it was opened.

    >>> str(changed_meanwhile("lance:outputs/index"))
    "another process has changed the index at 'lance:outputs/index'; open it again."
    """
    return ValueError(f"another process has changed the index at {hide_password(location)!r}; open it again.")


def check_format(location: str, number: int, newest: int, version: str) -> None:
    """Refuses an index that a later version wrote.

    Args:
        location: of the index.
        number: the format of the index.
        newest: the newest format that this version reads.
        version: the version of the package that wrote the index.

    Raises:
        ValueError: If the format is newer.

    >>> check_format("lance:index", 3, 2, "0.4")
    Traceback (most recent call last):
    ValueError: the index at 'lance:index' has format 3; this version reads up to 2. Install class_hf 0.4 or later.
    """
    if number > newest:
        raise ValueError(
            f"the index at {hide_password(location)!r} has format {number}; this version reads up to {newest}. "
            f"Install class_hf {version} or later."
        )


def best_first(found: Iterable[Found]) -> list[Found]:
    """The candidates in decreasing order of score. Equal scores are in the order of their numbers."""
    return sorted(found, key=lambda candidate: (-candidate.score, candidate.number))
