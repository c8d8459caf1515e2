"""Loads data sets from the Hub that already hold difficulty scores."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import DatasetDict

POOL = "pool"  # configuration of a scored data set with the candidate molecules


def load_scored(repo_id: str) -> "DatasetDict | None":
    """Loads a scored data set of the Hub.

    Args:
        repo_id: `"org/name"`.

    Returns:
        The splits of pairs with their difficulty columns, and `pool`. None if the repository does not exist, cannot be
        reached, or is no scored data set.
    """
    from datasets import DatasetDict, get_dataset_config_names, load_dataset

    try:
        if set(get_dataset_config_names(repo_id)) != {"pairs", POOL}:
            return None
    except Exception:  # the loader that is tried next reports a missing repository or network
        return None
    pairs, pool = load_dataset(repo_id, "pairs"), load_dataset(repo_id, POOL)
    if any("difficulty" not in rows.column_names for rows in pairs.values()):
        return None
    return DatasetDict({**pairs, **pool})
