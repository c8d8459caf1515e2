"""The captions of a table of molecules: the column `description`, and further captions of the same molecules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, List, Value

# Column with lists of captions, for molecules that have more than the one in `description`.
FURTHER = "further_descriptions"
_BLOCK = 10_000


def with_captions(pairs: DatasetDict) -> Dataset:
    """The candidate pool of a data set of pairs, with the captions that its molecules have in the pairs.

    The first caption of a molecule is its `description`. If a molecule has several, the others are in the column
    `further_descriptions`, so that the molecule is one row and each of its captions is indexed.

    Args:
        pairs: the splits of pairs, and `pool`.

    >>> pairs = Dataset.from_dict({"id": ["a", "a"], "description": ["an acid", "a solid"]})
    >>> pool = Dataset.from_dict({"id": ["a", "b"], "smiles": ["CC(=O)O", "C"]})
    >>> table = with_captions(DatasetDict(train=pairs, pool=pool))
    >>> table["description"][:], table["further_descriptions"][:]
    (['an acid', ''], [['a solid'], []])
    """
    captions: dict[str, list[str]] = {}
    for split, rows in pairs.items():
        if split != "pool":
            for molecule_id, caption in zip(rows["id"][:], rows["description"][:], strict=True):
                known = captions.setdefault(molecule_id, [])
                if caption not in known:
                    known.append(caption)
    pool = pairs["pool"]
    of_rows = [captions.get(molecule_id, []) for molecule_id in pool["id"][:]]
    table = pool.add_column("description", [texts[0] if texts else "" for texts in of_rows])
    if any(len(texts) > 1 for texts in of_rows):
        table = table.add_column(FURTHER, [texts[1:] for texts in of_rows], feature=List(Value("string")))
    return table


def has_further(table: Dataset) -> bool:
    """Whether a table has a column of lists with further captions."""
    feature: Any = table.features.get(FURTHER)
    return isinstance(feature, List) and getattr(feature.feature, "dtype", None) in ("string", "large_string")


def distinct_captions(table: Dataset) -> tuple[list[str], np.ndarray]:
    """The different captions of a table, and for each the first row that has it.

    >>> distinct_captions(Dataset.from_dict({"description": ["an acid", None, "an acid", "a base"]}))
    (['an acid', 'a base'], array([0, 3]))
    >>> distinct_captions(Dataset.from_dict({"description": ["an acid"], "further_descriptions": [["a solid"]]}))
    (['an acid', 'a solid'], array([0, 0]))
    """
    rows: dict[str, int] = {}
    for row, texts in enumerate(texts_of_rows(table)):
        for caption in texts:
            rows.setdefault(caption, row)
    return list(rows), np.fromiter(rows.values(), np.int64, len(rows))


def texts_of_rows(table: Dataset | Mapping[str, Sequence[Any]]) -> Iterator[list[str]]:
    """All captions of each row of a table or of a block of rows. A table without captions has no rows here.

    >>> list(texts_of_rows({"description": ["an acid", None], "further_descriptions": [["a solid"], None]}))
    [['an acid', 'a solid'], []]
    """
    if isinstance(table, Dataset):
        columns = ["description"] if "description" in table.column_names else []
        columns += [FURTHER] if has_further(table) else []
        captions = table.select_columns(columns)
        for start in range(0, len(table) if columns else 0, _BLOCK):
            yield from texts_of_rows(captions[start : start + _BLOCK])
        return
    further = table.get(FURTHER)
    first = table.get("description") or [None] * len(further or ())
    for caption, others in zip(first, further or [()] * len(first), strict=True):
        texts = (caption, *(others if isinstance(others, list | tuple) else ()))
        yield [text for text in texts if isinstance(text, str) and text.strip()]
