"""Scored data sets on the Hub."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import DatasetDict

POOL = "pool"  # the configuration of a scored data set that holds the candidate molecules


def load_scored(repo_id: str) -> "DatasetDict | None":
    """A scored data set of the Hub with its pool and difficulty columns; None if the name stands for anything else."""
    from datasets import DatasetDict, get_dataset_config_names, load_dataset

    try:
        if set(get_dataset_config_names(repo_id)) != {"pairs", POOL}:
            return None
    except Exception:  # no such data set, no network: what loads it next has the clear error
        return None
    pairs, pool = load_dataset(repo_id, "pairs"), load_dataset(repo_id, POOL)
    if any("difficulty" not in rows.column_names for rows in pairs.values()):
        return None
    return DatasetDict({**pairs, **pool})
