"""Prints hits as a table of text."""

from collections.abc import Sequence
from typing import Any

from class_hf.search.query import Hit

# Characters of a value of the user's table.
MAX_VALUE = 24


def hit_table(hits: Sequence[Hit], width: int, *, columns: Sequence[str] = (), are_captions: bool = False) -> str:
    """The hits as lines of text, with a line of column names.

    SMILES and captions are cut so that a line fits, if ids and values of `columns` leave at least 40 characters.

    Args:
        hits: in the order of their ranks.
        width (`int`): characters of a line.
        columns (list of `str`, *optional*): columns of the indexed table to print, such as those of a condition.
        are_captions (`bool`, defaults to `False`): whether the hits are captions, which then have more room.

    Returns:
        `str`: the table, or a line that says that there is no hit.

    >>> print(hit_table([Hit(1, 0.5, "a", "CCO", {"logS": -2.25})], 60, columns=["logS"]))
    rank   score  id   logS  SMILES
       1   0.500  a   -2.25  CCO
    """
    if not hits:
        return "no molecule passes the filters"
    shown = [name for name in columns if name != "description" and any(name in hit.fields for hit in hits)]
    blocks = [_aligned("id", [hit.id for hit in hits], None)]
    blocks += [_aligned(name, [hit.fields.get(name) for hit in hits], MAX_VALUE) for name in shown]
    has_captions = any(hit.fields.get("description") for hit in hits)
    remaining = max(width - 14 - sum(len(block[0]) + 2 for block in blocks), 40)
    smiles_width = remaining if not has_captions else remaining // 4 if are_captions else remaining // 2
    rows = zip(*blocks, strict=True)
    lines = [f"{'rank':>4}  {'score':>6}  {'  '.join(next(rows))}  {'SMILES':<{smiles_width}}"]
    lines[0] += "  caption" if has_captions else ""
    for hit, cells in zip(hits, rows, strict=True):
        line = f"{hit.rank:>4}  {hit.score:>6.3f}  {'  '.join(cells)}  {cut(hit.smiles, smiles_width):<{smiles_width}}"
        caption = " ".join((hit.fields.get("description") or "").split())
        lines.append(line + (f"  {cut(caption, remaining - smiles_width - 2)}" if has_captions else ""))
    return "\n".join(line.rstrip() for line in lines)


def _aligned(name: str, values: Sequence[Any], max_width: int | None) -> list[str]:
    """A name and the values below it, in one width. Numbers are on the right."""
    texts = [" ".join(name.split()), *map(format_value, values)]
    if max_width is not None:
        texts = [cut(text, max_width) for text in texts]
    width = max(map(len, texts))
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return [text.rjust(width) if are_numbers else text.ljust(width) for text in texts]


def format_value(value: Any) -> str:
    """A value of a table in one line. Floating-point numbers have six digits.

    >>> format_value(-2.180000066757202), format_value(True), format_value("A  and\\nB"), format_value(None)
    ('-2.18', 'true', 'A and B', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


def cut(text: str, width: int) -> str:
    """The text, or its beginning and `...`.

    >>> cut("an alcohol", 7)
    'an a...'
    """
    return text if len(text) <= width else text[: width - 3] + "..."
