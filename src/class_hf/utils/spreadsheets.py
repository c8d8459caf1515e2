"""CSV that is safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

# Spreadsheets run a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guard_formula(value: Any) -> Any:
    """Puts an apostrophe before text that a spreadsheet would run as a formula. Numbers stay unchanged.

    Args:
        value: the cell.

    Returns:
        The value, or a guarded text.

    >>> guard_formula("=SUM(A1)"), guard_formula("-1.5"), guard_formula(-1.5), guard_formula("CCO")
    ("'=SUM(A1)", '-1.5', -1.5, 'CCO')
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def format_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV text, with a header line. Cells that look like a formula are guarded.

    Args:
        columns: the header.
        rows: the cells of each row.

    Returns:
        The text, with one line feed after each row.

    >>> format_csv(["id", "caption"], [["a", "=1+1"], ["b", "An acid, weak."]]).splitlines()
    ['id,caption', "a,'=1+1", 'b,"An acid, weak."']
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([guard_formula(name) for name in columns])
    writer.writerows([[guard_formula(value) for value in row] for row in rows])
    return buffer.getvalue()
