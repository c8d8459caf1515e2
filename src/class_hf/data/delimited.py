"""Reads tables of delimited text: CSV with commas, semicolons or bars, TSV with or without quotes."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from class_hf.data.columns import SYNONYMS, candidates, normalise
from class_hf.data.smiles import smiles_fault
from class_hf.data.text_files import Notes, Record, SourceFile, read_lines

TEXT2MOL_HEADER = ["id", "vector", "description"]
_SEPARATORS = ",;|"
_KNOWN = {name for groups in SYNONYMS.values() for group in groups for name in group}


class DelimitedTable(NamedTuple):
    """A table of delimited text.

    Attributes:
        header: its column names.
        records: its rows.
        is_text2mol: whether the file is in Text2Mol's format, which has no header (`TEXT2MOL_HEADER`).
    """

    header: list[str]
    records: Iterator[Record]
    is_text2mol: bool = False


class _Row(NamedTuple):
    """Fields of a row, the lines that it covers, and the text of its continuation lines."""

    fields: list[str]
    first: int
    last: int
    continuation: tuple[str, ...] = ()


def read_delimited(file: SourceFile, notes: Notes) -> DelimitedTable:
    """Reads a table of delimited text. The first line decides the format.

    - A line with tabs: tab-separated. Quotes have no meaning (as in MolT5's files), unless each field of the first
      line is quoted. A field that is quoted, with the quotes inside doubled, is decoded, because pandas writes such
      fields.
    - Otherwise: separated by commas, or by semicolons or bars (`|`) if the first line has more known columns that way,
      with quotes.
    - A tab-separated line whose second field is a vector of numbers: Text2Mol's format, without a header.

    Args:
        file: the file.
        notes: counts decoded fields and lines.

    Returns:
        The header, and an iterator over the rows. Blank lines are skipped.

    Raises:
        ValueError: if the file is empty, a column name is repeated, the CSV is malformed (while iterating), or under
            `on_error="raise"` a row has another number of fields than the header. Errors name file and line.
    """
    first = next((line for line in read_lines(file, Notes()) if line.text.strip()), None)
    if first is None:
        raise ValueError(f"{file.name} is empty; expected a line with column names, and rows.")
    rows: Iterator[_Row]
    if first.text.lower().startswith("sep=") and len(first.text.strip()) == 5:  # written by Excel
        rows = islice(_quoted_rows(file, first.text.strip()[-1], False, notes), 1, None)
    elif "\t" in first.text:
        fields = first.text.strip("\r\n").split("\t")
        if all(len(text) > 1 and text[0] == text[-1] == '"' for text in fields):
            rows = _quoted_rows(file, "\t", False, notes)
        else:
            rows = _tab_rows(file, len(fields), notes)
    else:
        separator = _separator(first.text)
        rows = _quoted_rows(file, separator, f"{separator} " in first.text, notes)
    head = next(rows, None)
    if head is None:
        raise ValueError(f"{file.name} is empty; expected a line with column names, and rows.")
    if is_text2mol(head.fields):
        return DelimitedTable(TEXT2MOL_HEADER, _records(file, TEXT2MOL_HEADER, _chain(head, rows)), True)
    header = check_header(file.name, head.fields, f"line {head.first}")
    return DelimitedTable(header, _records(file, header, rows))


def is_text2mol(fields: Sequence[str]) -> bool:
    """Whether the first row of a file is in Text2Mol's format: CID, mol2vec vector, description.

    >>> is_text2mol(["1", "0.25 -1.5e-3", "An alcohol."]), is_text2mol(["id", "smiles", "text"])
    (True, False)
    """
    numbers = fields[1].split() if len(fields) == 3 else []
    try:
        return len([float(number) for number in numbers]) > 1
    except ValueError:
        return False


def check_header(name: str, fields: Sequence[str], place: str) -> list[str]:
    """Column names without white space around them; a column without a name is numbered.

    Raises:
        ValueError: if a name is repeated.

    >>> check_header("a.csv", ["", " id", "smiles"], "line 1")
    ['column_1', 'id', 'smiles']
    """
    header = [text.strip() or f"column_{number}" for number, text in enumerate(fields, start=1)]
    column, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{name} {place} has {count} columns {column!r}; rename all but one.")
    return header


def _chain(head: _Row, rows: Iterator[_Row]) -> Iterator[_Row]:
    """The first row, then the others."""
    yield head
    yield from rows


def _separator(line: str) -> str:
    """Comma, semicolon or bar, whichever makes most known columns of the header; a comma if all make the same."""

    def score(separator: str) -> tuple[int, bool, bool]:
        try:
            fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:  # a field is too long
            fields = []
        return sum(normalise(text) in _KNOWN for text in fields), len(fields) > 1, separator == ","

    return max(_SEPARATORS, key=score)


def _tab_rows(file: SourceFile, width: int, notes: Notes) -> Iterator[_Row]:
    """Rows of a tab-separated file without quoting, or with the quoting of pandas."""
    count = 0
    for line in read_lines(file, notes):
        if not line.text:
            continue
        fields = line.text.split("\t")
        if len(fields) != width and '"' in line.text and _is_quoted(file, width):
            # pandas quotes only fields that hold a tab, a quote or a line break: the rows until here read the same.
            yield from islice(_quoted_rows(file, "\t", False, Notes()), count, None)
            return
        decoded = [_unquote(text) for text in fields]
        notes.quoted += sum(new != old for new, old in zip(decoded, fields, strict=True))
        yield _Row(decoded, line.number, line.number)
        count += 1


def _unquote(text: str) -> str:
    """A field without its quotes, if it is quoted and holds doubled quotes; otherwise the field.

    >>> _unquote('"a ""b"" c"'), _unquote('"a"'), _unquote('A "b')
    ('a "b" c', '"a"', 'A "b')
    """
    if len(text) > 3 and text[0] == text[-1] == '"':
        inside = text[1:-1].replace('""', "\0")
        if '"' not in inside and "\0" in inside:
            return inside.replace("\0", '"')
    return text


def _is_quoted(file: SourceFile, width: int) -> bool:
    """Whether each row of a tab-separated file has the right number of fields if quotes have a meaning."""
    try:
        return all(len(row.fields) == width for row in _quoted_rows(file, "\t", False, Notes()))
    except ValueError:
        return False


def _quoted_rows(file: SourceFile, separator: str, skip_space: bool, notes: Notes) -> Iterator[_Row]:
    """Rows of a file with quoting, by the strict reader of Python."""
    number = 0
    texts: list[str] = []

    def lines() -> Iterator[str]:
        nonlocal number
        for line in read_lines(file, notes):
            number = line.number
            texts.append(line.text)
            yield line.text + "\n"

    reader = csv.reader(lines(), delimiter=separator, strict=True, skipinitialspace=skip_space)
    start = 1
    try:
        for fields in reader:
            if fields:
                yield _Row(fields, start, number, tuple(texts[1:]))
            start = number + 1
            texts.clear()
    except csv.Error as error:
        unclosed = number > start or "unexpected end" in str(error)
        hint = "; is a quote not closed?" if unclosed else '. Write a quote inside of a quoted field as "".'
        raise ValueError(f"{file.name} line {start} is not valid CSV: {error}{hint}") from error


def _records(file: SourceFile, header: list[str], rows: Iterator[_Row]) -> Iterator[Record]:
    """Rows as records; a row that cannot be right is an error, or is marked."""
    smiles_column = next(iter(candidates(header, "smiles", {})), None)
    for row in rows:
        fault = None
        if len(row.fields) != len(header):
            fault = f"has {len(row.fields)} fields where the header has {len(header)}"
        elif row.continuation and smiles_column is not None and _looks_merged(row, len(header), smiles_column):
            fault = f"reaches to line {row.last}, which looks like a row of its own (is a quote not closed?)"
        place = f"line {row.first}"
        if fault is None:
            yield Record(place, dict(zip(header, row.fields, strict=True)))
        elif file.on_error == "raise":
            raise ValueError(
                f"{file.name} {place} {fault}. Correct the line (a separator, quote or line break in a field?), or "
                "pass --on_error drop to skip and list such rows."
            )
        else:
            yield Record(place, dict.fromkeys(header), f"it {fault}")


def _looks_merged(row: _Row, width: int, smiles_column: int) -> bool:
    """Whether a line inside a quoted field has as many fields as the header, with a SMILES in the right one."""
    for text in row.continuation:
        for separator in f"{_SEPARATORS}\t":
            fields = text.split(separator)
            if len(fields) == width:
                smiles = fields[smiles_column].strip().strip('"')
                if smiles and smiles_fault(smiles) is None:
                    return True
    return False
