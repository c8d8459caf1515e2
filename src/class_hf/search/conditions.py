"""Comparisons on the columns of an indexed table, as in `logS < -2 and vendor = "x"`."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from class_hf.utils.suggestions import did_you_mean

MAX_WHERE = 1_000

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COMPARISON = re.compile(
    r"""\s*(?:`(?P<quoted>[^`]+)`|(?P<column>[^\W\d][\w.]*))
    \s*(?P<operator><=|>=|!=|==|=|<|>)
    \s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s"'`<>=]+))
    \s*(?:(?P<end>$)|\band\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_FUNCTIONS = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "=": pc.equal,
    "!=": pc.not_equal,
}


class Condition(NamedTuple):
    """One comparison.

    Attributes:
        column (`str`): name of a column.
        operator (`str`): one of `<`, `<=`, `>`, `>=`, `=` and `!=`.
        value (`float`, `bool` or `str`): the value to compare with.
    """

    column: str
    operator: str
    value: float | bool | str

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.value!r}"


@lru_cache(maxsize=256)
def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Parses comparisons that are joined by `and`.

    A column is a plain name, or any name between backquotes. A value is a number, `true`, `false`, or text. Text with
    spaces needs quotes, and a number in quotes is text. Text can only be compared by `=` and `!=`. A row without a
    value meets no comparison.

    Args:
        text (`str`): the comparisons.

    Raises:
        ValueError: If the text has another form.

    >>> for condition in parse_conditions('logS < -2 and `vendor name` = "A and B"'):
    ...     print(condition)
    logS < -2.0
    vendor name = 'A and B'
    """
    expected = "expected comparisons such as 'logS < -2 and vendor = \"x\"'."
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"where is {text!r}; {expected}")
    if len(text) > MAX_WHERE:
        raise ValueError(f"where has {len(text):,} characters; the limit is {MAX_WHERE:,}.")
    conditions, start = [], 0
    while True:
        match = _COMPARISON.match(text, start)
        if match is None:
            raise ValueError(f"where is {text!r}, which cannot be read from {text[start : start + 30]!r}; {expected}")
        conditions.append(_condition(match))
        if match["end"] is not None:
            return tuple(conditions)
        start = match.end()


def _condition(match: re.Match[str]) -> Condition:
    column = match["quoted"] or match["column"]
    operator = "=" if match["operator"] == "==" else match["operator"]
    word = match["word"]
    value: float | bool | str
    if word is None:
        value = match["double"] if match["double"] is not None else match["single"]
    elif re.fullmatch(_NUMBER, word):
        value = float(word)
    elif word.lower() in ("true", "false"):
        value = word.lower() == "true"
    else:
        value = word
    if not isinstance(value, float) and operator not in ("=", "!="):
        raise ValueError(
            f"where compares {column!r} with the text {value!r} by {operator}; text allows = and != only."
        )
    return Condition(column, operator, value)


def column_kind(column_type: Any) -> str:
    """The kind of a column of Arrow type: `"number"`, `"boolean"`, `"text"` or `"other"`.

    >>> column_kind(pa.int8()), column_kind(pa.string())
    ('number', 'text')
    """
    if pa.types.is_boolean(column_type):
        return "boolean"
    if pa.types.is_integer(column_type) or pa.types.is_floating(column_type) or pa.types.is_decimal(column_type):
        return "number"
    return "text" if pa.types.is_string(column_type) or pa.types.is_large_string(column_type) else "other"


def check_conditions(conditions: tuple[Condition, ...], kinds: dict[str, str]) -> None:
    """Checks that each column exists and has values of the right kind.

    Args:
        conditions: the comparisons.
        kinds (`dict`): the kind of each column, from [`column_kind`].

    Raises:
        ValueError: If a column does not exist, or its values are of another kind.
    """
    for condition in conditions:
        if condition.column not in kinds:
            raise ValueError(
                f"where names the column {condition.column!r}, which the index does not have; "
                f"{did_you_mean(condition.column, kinds)}"
            )
        kind = kinds[condition.column]
        wanted = {bool: "boolean", float: "number", str: "text"}[type(condition.value)]
        if kind != wanted:
            raise ValueError(
                f"where compares the column {condition.column!r} ({kind}) with {condition.value!r} ({wanted}); "
                f"expected a value of the kind {kind}."
            )


def evaluate_condition(column: "pa.ChunkedArray", condition: Condition) -> np.ndarray:
    """Evaluates a comparison on a column.

    Args:
        column (`pyarrow.ChunkedArray`): N values.
        condition: the comparison.

    Returns:
        `np.ndarray` (N,) `bool`. A missing value does not pass.

    >>> evaluate_condition(pa.chunked_array([[1.0, None, 3.0]]), Condition("x", ">", 2.0)).tolist()
    [False, False, True]
    """
    result = _FUNCTIONS[condition.operator](column, pa.scalar(condition.value))
    return pc.fill_null(result, False).to_numpy().astype(bool)
