"""Comparisons on the columns of an indexed table, as in `logS < -2 and vendor = "x"`."""

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from class_hf.utils.suggestions import did_you_mean

MAX_WHERE = 1_000
EXACT = 2**53  # from here on, not every whole number is a `float`

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
        value (`float`, `bool` or `str`): the value to compare with. A whole number from 2^53 on is an `int`.
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
    expected = (
        "expected comparisons joined by 'and', such as 'logS < -2 and vendor = \"x\"'. A column whose name has other "
        "characters stands between backquotes, as in '`IC50 (nM)` < 400'."
    )
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
        if abs(value) >= EXACT and re.fullmatch(r"[-+]?\d+", word):
            value = int(word)
    elif word.lower() in ("true", "false"):
        value = word.lower() == "true"
    else:
        value = word
    if isinstance(value, str | bool) and operator not in ("=", "!="):
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
                f"{did_you_mean(condition.column, kinds)}{_about_backquotes(kinds)}"
            )
        kind = kinds[condition.column]
        wanted = {bool: "boolean", float: "number", int: "number", str: "text"}[type(condition.value)]
        if kind != wanted:
            raise ValueError(
                f"where compares the column {condition.column!r} ({kind}) with {condition.value!r} ({wanted}); "
                f"expected a value of the kind {kind}."
            )


def _about_backquotes(columns: Iterable[str]) -> str:
    has_others = any(not re.fullmatch(r"[^\W\d]\w*", name) for name in columns)
    return " A name with other characters than letters and digits stands between backquotes." if has_others else ""


def exact_comparison(condition: Condition, kind: pa.DataType) -> tuple[str, int | None]:
    """A comparison of a column of whole numbers, with a value of its type, so that nothing is rounded.

    Args:
        condition: the comparison with a number.
        kind (`pa.DataType`): the type of the column.

    Returns:
        `tuple`: the operator, and the value. If the value is None, all values pass for `!=` and none for `=`.

    >>> exact_comparison(Condition("x", "<", 2.5), pa.int8()), exact_comparison(Condition("x", "=", 2.0), pa.int8())
    (('<=', 2), ('=', 2))
    >>> exact_comparison(Condition("x", "<", 300.0), pa.int8()), exact_comparison(Condition("x", "=", 2.5), pa.int8())
    (('!=', None), ('=', None))
    """
    operator, value = condition.operator, condition.value
    assert not isinstance(value, str)
    least = -(2 ** (kind.bit_width - 1)) if pa.types.is_signed_integer(kind) else 0
    most = least + 2**kind.bit_width - 1
    if not least <= value <= most:
        passes = operator == "!=" or operator[0] == ("<" if value > most else ">")
        return ("!=" if passes else "="), None
    number = int(value)
    if number == value:
        return operator, number
    if operator in ("=", "!="):
        return operator, None
    return (operator[0] + "="), (math.floor(value) if operator[0] == "<" else math.ceil(value))


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
    operator, value = condition.operator, condition.value
    kind = column.type
    if pa.types.is_integer(kind):
        operator, number = exact_comparison(condition, kind)
        if number is None:
            is_valid = pc.is_valid(column).to_numpy().astype(bool)
            return is_valid & (operator == "!=")
        value = number
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        value, kind = float(value), pa.float64()
    result = _FUNCTIONS[operator](column, pa.scalar(value, kind))
    return pc.fill_null(result, False).to_numpy().astype(bool)
