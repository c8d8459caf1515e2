"""Tables that a caller holds: data sets with a format, data frames, Arrow tables and lists of rows."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable


def plain_rows(dataset: Dataset) -> Dataset:
    """A data set whose rows hold Python objects.

    The formats of NumPy and torch cut zero bytes from the end of binary values, and a format of some columns hides the
    others. A transform of the caller's own (`with_transform`) is kept.

    Args:
        dataset: a data set with any format.

    >>> rows = Dataset.from_dict({"features": [bytes(4)]})
    >>> len(rows.with_format("numpy")[0]["features"]), len(plain_rows(rows.with_format("numpy"))[0]["features"])
    (0, 4)
    """
    columns: Any = dataset.format["columns"]
    is_plain = dataset.format["type"] is None and set(columns) == set(dataset.column_names)
    return dataset if is_plain or dataset.format["type"] == "custom" else dataset.with_format(None)


def as_table(rows: Any, name: str) -> Dataset:
    """Rows of a caller as a data set of Python objects.

    Args:
        rows: a `datasets.Dataset`, a pandas `DataFrame`, a pyarrow `Table`, a mapping of columns, or rows as mappings
            in a list or in another sequence, such as a torch data set.
        name: what the rows are, for the error.

    Raises:
        ValueError: if the rows are something else.

    >>> as_table([{"smiles": "C"}, {"smiles": "CC"}], "the molecules")["smiles"][:]
    ['C', 'CC']
    >>> as_table("molecules.csv", "the molecules")
    Traceback (most recent call last):
    ValueError: the molecules are a str; expected a datasets.Dataset, a pandas DataFrame or a list of rows.
    """
    if isinstance(rows, Dataset):
        return plain_rows(rows)
    if type(rows).__module__.startswith("pandas") and hasattr(rows, "columns"):
        return Dataset.from_pandas(rows, preserve_index=False)
    if isinstance(rows, pa.Table):
        return Dataset(InMemoryTable(rows))
    if isinstance(rows, Mapping):
        if any(hasattr(value, "column_names") for value in rows.values()):
            raise ValueError(f"{name} hold several splits ({', '.join(map(str, rows))}). Pass one of them.")
        if all(hasattr(value, "__len__") and not isinstance(value, str | bytes) for value in rows.values()):
            return Dataset.from_dict({column: list(values) for column, values in rows.items()})
    elif hasattr(rows, "__len__") and hasattr(rows, "__getitem__") and not isinstance(rows, str | bytes):
        listed = [rows[row] for row in range(len(rows))]
        if all(isinstance(row, Mapping) for row in listed):
            return Dataset.from_list([dict(row) for row in listed])
    raise ValueError(
        f"{name} are a {type(rows).__name__}; expected a datasets.Dataset, a pandas DataFrame or a list of rows."
    )
