"""Reads files with a molecule on each line: SMILES files and JSON Lines."""

import json
from collections.abc import Iterator
from typing import Any

from class_hf.data.columns import is_smiles_name
from class_hf.data.delimited import check_header, read_delimited
from class_hf.data.smiles import smiles_fault, split_name
from class_hf.data.text_files import Line, Notes, Record, SourceFile, as_text, read_lines

_CHECKED = 10  # first lines of a SMILES file in which the order of the fields is checked
_MAX_DEPTH = 100


def read_smiles_file(file: SourceFile, notes: Notes) -> tuple[list[str], Iterator[Record]]:
    """Reads a SMILES file: a SMILES on each line, with its CXSMILES extension, and a name after white space.

    A first line with column names is a header: `SMILES Name`, or several columns separated by tabs or spaces.

    Args:
        file: the file.
        notes: counts changes.

    Returns:
        The column names, `["smiles", "id"]` without a header, and the rows. A missing name is None.

    Raises:
        ValueError: if the file has no molecule, or its second field holds the SMILES.
    """
    lines = [line for line, _ in zip(_filled(file, Notes()), range(_CHECKED), strict=False)]
    if not lines:
        raise ValueError(f"{file.name} holds no molecule; expected a SMILES on each line.")
    head = lines[0].text.lstrip("#").split()
    if any(is_smiles_name(name) for name in head) and smiles_fault(head[0]) is not None:
        if len(lines) == 1:
            raise ValueError(f"{file.name} holds no molecule, only the header {lines[0].text!r}.")
        if "\t" in lines[0].text:
            table = read_delimited(file, notes)
            return [name.lstrip("#") for name in table.header], _without_marks(table.records)
        if len(head) > 2 or not is_smiles_name(head[0]):
            names = check_header(file.name, head, f"line {lines[0].number}")
            return names, _columns(file, names, notes)
        return ["smiles", "id"], _smiles_lines(file, notes, skip=1)
    fields = [line.text.split() for line in lines]
    if all(len(row) > 1 and smiles_fault(row[0]) and not smiles_fault(row[1]) for row in fields):
        raise ValueError(
            f"{file.name} line {lines[0].number}: the second field {fields[0][1]!r} is a SMILES, the first "
            f"{fields[0][0]!r} is not. Put the SMILES first, or add a header line such as 'id smiles'."
        )
    return ["smiles", "id"], _smiles_lines(file, notes)


def _filled(file: SourceFile, notes: Notes) -> Iterator[Line]:
    """The lines that are not blank."""
    return (line for line in read_lines(file, notes) if line.text.strip())


def _smiles_lines(file: SourceFile, notes: Notes, skip: int = 0) -> Iterator[Record]:
    """A record of SMILES and name for each line."""
    for count, line in enumerate(_filled(file, notes)):
        if count >= skip:
            smiles, name = split_name(line.text)
            yield Record(f"line {line.number}", {"smiles": smiles, "id": name or None})


def _columns(file: SourceFile, names: list[str], notes: Notes) -> Iterator[Record]:
    """A record for each line below a header of several columns that are separated by white space."""
    for count, line in enumerate(_filled(file, notes)):
        fields = line.text.split()
        if not count:
            continue
        if len(fields) == len(names):
            yield Record(f"line {line.number}", dict(zip(names, fields, strict=True)))
            continue
        fault = f"has {len(fields)} fields where the header has {len(names)}"
        if file.on_error == "raise":
            raise ValueError(f"{file.name} line {line.number} {fault}. Correct the line, or pass --on_error drop.")
        yield Record(f"line {line.number}", dict.fromkeys(names), f"it {fault}")


def _without_marks(records: Iterator[Record]) -> Iterator[Record]:
    """Records whose column names have no leading #."""
    for record in records:
        yield record._replace(values={name.lstrip("#"): value for name, value in record.values.items()})


def read_json_lines(file: SourceFile, notes: Notes) -> Iterator[Record]:
    """Reads JSON Lines: an object on each line, whose keys are the columns. Values become text, null becomes None.

    A file that is one JSON array of objects is read too.

    Args:
        file: the file.
        notes: counts changes.

    Raises:
        ValueError: if the file is empty, or under `on_error="raise"` a line is no JSON object.
    """
    count = 0
    for line in _filled(file, notes):
        count += 1
        text = line.text.strip()
        if count == 1 and text.startswith("["):
            yield from _json_array(file, notes)
            return
        yield _json_record(file, f"line {line.number}", text)
    if not count:
        raise ValueError(f"{file.name} is empty; expected a JSON object on each line.")


def _json_record(file: SourceFile, place: str, text: str) -> Record:
    """The record of a JSON object."""
    try:
        value = _parse(text)
        fault = None if isinstance(value, dict) else f"is a JSON {type(value).__name__}, expected an object"
        if "\\ud" in text.lower():  # the escape of half a character, which no encoding has without its other half
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        value, fault = {}, f"is not valid text: {error.object[error.start]!r} is half of a character"
    except (ValueError, RecursionError) as error:
        # Python's parser fails at about 1,000 levels, with a RecursionError.
        reason = f"nested deeper than {_MAX_DEPTH} levels" if isinstance(error, RecursionError) else str(error)
        value, fault = {}, f"is not a valid JSON object: {reason}"
    if fault is None:
        nested = tuple(name for name, item in value.items() if isinstance(item, list | dict))
        return Record(place, {name: _as_text(item) for name, item in value.items()}, nested=nested)
    if file.on_error == "raise":
        raise ValueError(
            f"{file.name} {place} {fault}. Correct it, or pass --on_error drop to skip and list such rows."
        )
    return Record(place, {}, f"it {fault}")


def _parse(text: str) -> Any:
    """Parses JSON with a limit on its depth; a repeated key is an error."""
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        depth = 0
        for character in text:
            depth += (character in "[{") - (character in "]}")
            if depth > _MAX_DEPTH:
                raise RecursionError
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a repeated key is an error, because one of its values would be lost."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is repeated")
    return value


def _json_array(file: SourceFile, notes: Notes) -> Iterator[Record]:
    """The records of a file that is one JSON array."""
    text = "\n".join(line.text for line in read_lines(file, notes))
    try:
        values = _parse(text)
    except (ValueError, RecursionError) as error:
        reason = f"nested deeper than {_MAX_DEPTH} levels" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{file.name} is not valid JSON: {reason}.") from error
    for number, value in enumerate(values, start=1):
        yield _json_record(file, f"item {number}", json.dumps(value))


def _as_text(value: Any) -> str | None:
    """A JSON value as text; null and NaN are None."""
    if isinstance(value, (str, int, float, type(None))) and not isinstance(value, bool):
        return as_text(value)
    return json.dumps(value, ensure_ascii=False)
