"""Leaves out the pairs that a user marked with `keep` = `no`, in the table of pairs or in a table of suspects."""

import csv
from collections import Counter
from pathlib import Path

from datasets import Dataset

_DROPPED = {"no", "n", "0", "0.0", "false"}
_KEPT = {"yes", "y", "1", "1.0", "true", ""}


def is_kept(value: str) -> bool | None:
    """Whether a cell of a column `keep` keeps its pair; None if it says neither. An empty cell keeps the pair.

    >>> [is_kept(value) for value in ("Yes", "FALSE", "1", "", "maybe")]
    [True, False, True, True, None]
    """
    answer = value.strip().lower()
    return True if answer in _KEPT else False if answer in _DROPPED else None


def read_dropped(path: str | Path) -> list[tuple[str, str]]:
    """The pairs that a table marks to be left out.

    Args:
        path: CSV with the columns `id` and `keep`, such as the `suspects.csv` of `class-hf suspects`. `keep` is `yes`
            or `no`; an empty cell keeps the pair.

    Returns:
        Id and description of each pair whose `keep` is `no`. Without a column `description` it is empty.

    Raises:
        ValueError: if the file is missing, is no such table, or has another value of `keep`; names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"drop_suspects: there is no file {str(path)!r}. Make one with class-hf suspects.")
    dropped = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            # Spreadsheets of some countries write semicolons.
            reader = csv.DictReader(file, delimiter=";" if header.count(";") > header.count(",") else ",")
            columns = list(reader.fieldnames or [])
            missing = [repr(name) for name in ("id", "keep") if name not in columns]
            if missing:
                raise ValueError(
                    f"{path} has no column {' and '.join(missing)}; its columns are {', '.join(columns) or 'none'}."
                )
            for row in reader:
                answer = is_kept(row["keep"] or "")
                if answer is None:
                    raise ValueError(f"{path} line {reader.line_num}: keep is {row['keep']!r}; expected yes or no.")
                if not answer:
                    dropped.append((row["id"], row.get("description") or ""))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8. Save it as CSV in UTF-8.") from error
    return dropped


def drop_marked(pairs: Dataset, path: str | Path) -> Dataset:
    """Leaves out the pairs that a table marks with `keep` = `no`.

    Args:
        pairs: pairs with the columns `id` and `description`.
        path: see [`read_dropped`]. An id that several pairs share needs the column `description`.

    Returns:
        The other pairs, in their order.

    Raises:
        ValueError: if a marked pair is not in the data set, nothing remains, and as [`read_dropped`].
    """
    ids, descriptions = pairs["id"][:], pairs["description"][:]
    counts = Counter(ids)
    dropped = set()
    for name, description in read_dropped(path):
        # The table has an apostrophe in front of text that a spreadsheet would run as a formula.
        name = name[1:] if name not in counts and name.startswith("'") else name
        if name not in counts:
            raise ValueError(f"{path}: the training pairs have no id {name!r}. Use the table of this data set.")
        if counts[name] == 1:
            dropped.add((name, ""))
        elif not description:
            raise ValueError(f"{path}: {counts[name]} pairs have the id {name!r}. Keep the column description.")
        else:
            dropped |= {(name, description), (name, description.removeprefix("'"))}
    rows = [
        row
        for row, (name, description) in enumerate(zip(ids, descriptions, strict=True))
        if not dropped & {(name, description), (name, "")}
    ]
    if not rows:
        raise ValueError(f"{path} leaves out all {len(ids)} training pairs. Set keep to yes for some of them.")
    return pairs.select(rows) if len(rows) < len(ids) else pairs
