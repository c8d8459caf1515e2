"""How a database names the columns of an indexed table, and keeps their types."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

_PLAIN = re.compile(r"[^\W\d]\w*( \w+)*")
_BLOCK = 8_192


def stored_names(features: Features, taken: Collection[str], longest: int = 60) -> dict[str, str]:
    """The name of each column in a database. Names that a database could not keep become `column_N`.

    Args:
        features: the columns.
        taken: names that the store uses itself. Such a column becomes `NAME_of_table`.
        longest (`int`, defaults to 60): most bytes in a name.

    >>> from datasets import Value
    >>> features = Features({name: Value("string") for name in ("id", "vendor", "weight", "a.b", "Weight")})
    >>> stored_names(features, {"weight"})
    {'id': 'id', 'vendor': 'vendor', 'weight': 'weight_of_table', 'a.b': 'column_3', 'Weight': 'column_4'}
    """
    names: dict[str, str] = {}
    used = {name.lower() for name in taken}
    for place, name in enumerate(features):
        new = f"{name}_of_table" if name.lower() in used else name
        if not _PLAIN.fullmatch(new) or len(new.encode()) > longest or new.lower() in used:
            new = f"column_{place}"
            while new in used:
                new += "_"
        used.add(new.lower())
        names[name] = new
    return names


def table_features(table: Dataset) -> Features:
    """The types of the columns of a table, without the properties."""
    return Features({name: kind for name, kind in table.features.items() if not name.startswith("_")})


def arrow_blocks(table: Dataset, rows: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Rows of a table as Arrow tables of up to 8,192 rows, with their places in `rows`."""
    arrow = table.with_format("arrow")
    for start in range(0, len(rows), _BLOCK):
        places = np.arange(start, min(start + _BLOCK, len(rows)))
        yield places, arrow[rows[places].tolist()]


def with_penalties(vectors: np.ndarray, penalties: np.ndarray | None) -> np.ndarray:
    """Vectors (n, D + 1) with the negative penalties, if there are any.

    A query has 1 there if it subtracts the penalties, and 0 otherwise, so one search by dot products does both.
    """
    if penalties is None:
        return vectors
    return np.concatenate([vectors, -penalties[:, None].astype(np.float32)], axis=1)


def query_vectors(queries: np.ndarray, config: Mapping[str, Any], side: str, use_penalties: bool) -> np.ndarray:
    """Queries for vectors of [`with_penalties`]."""
    if side != "molecule" or config["query_bank"] is None:
        return queries
    return np.concatenate([queries, np.full((len(queries), 1), float(use_penalties), np.float32)], axis=1)
