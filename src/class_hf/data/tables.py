"""The one reader of tables: the rows of a file of any known format, as text."""

import gzip
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from class_hf.data.columns import candidates, normalise, pick_columns, shown
from class_hf.data.delimited import check_header, read_delimited
from class_hf.data.line_files import read_json_lines, read_smiles_file
from class_hf.data.sdf import read_sdf
from class_hf.data.smiles import smiles_fault
from class_hf.data.text_files import Notes, Record, SourceFile, as_text, open_binary, read_sample

logger = logging.getLogger(__name__)

FORMATS = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".sdf", ".smi")
# Endings of files in a folder of splits.
PAIR_FORMATS = (".tsv", ".txt", ".csv", ".parquet", ".jsonl")
_ENDINGS = {
    "delimited": (".csv", ".tsv", ".tab", ".txt"),
    "parquet": (".parquet", ".pq"),
    "json": (".jsonl", ".ndjson", ".json"),
    "sdf": (".sdf", ".sd", ".mol"),
    "smiles": (".smi", ".smiles", ".ism", ".can", ".cxsmiles"),
}


class FileTable(NamedTuple):
    """The rows of a file.

    Attributes:
        name: the file, for errors.
        format: `"delimited"`, `"parquet"`, `"json"`, `"sdf"` or `"smiles"`.
        header: the column names.
        records: the rows.
        notes: what was changed while reading; complete after the last row.
        is_text2mol: whether the file is in Text2Mol's format.
    """

    name: str
    format: str
    header: list[str]
    records: Iterator[Record]
    notes: Notes
    is_text2mol: bool = False


def find_format(file: SourceFile) -> str:
    """The format of a file, by the ending of its name, else by its content.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is no file, cannot be read as text, or its content contradicts its ending.
    """
    if not os.path.lexists(file.path):
        raise FileNotFoundError(f"{str(file.path)!r} does not exist; expected a table in a file.")
    if not file.path.is_file():
        raise ValueError(f"{str(file.path)!r} is no file; expected a table.")
    with open_binary(file) as stream:
        is_parquet = stream.read(4) == b"PAR1"
    named = next((name for name, endings in _ENDINGS.items() if file.suffix in endings), None)
    if is_parquet:
        return "parquet"
    if named == "parquet":
        raise ValueError(f"{file.name} is not a Parquet file, although its name says so.")
    if named:
        return named
    sample = read_sample(file)
    if "\nM  END" in sample or "\n$$$$" in sample:
        return "sdf"
    return "json" if sample.lstrip().startswith("{") else "delimited"


def read_table(file: SourceFile) -> FileTable:
    """Opens a table of any known format: CSV, TSV, SMILES, SDF, JSON Lines or Parquet, compressed with gzip or not.

    All values are text; a missing value is None or empty. Under `file.on_error="raise"`, a malformed row is an error
    that names file and line. Under `"drop"` it is a record with a `fault`.

    Args:
        file: the file.

    Returns:
        The header and an iterator over the rows.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is malformed or empty; also while iterating.
    """
    format_, notes = find_format(file), Notes()
    if format_ == "delimited":
        table = read_delimited(file, notes)
        return FileTable(file.name, format_, table.header, table.records, notes, table.is_text2mol)
    if format_ == "smiles":
        header, records = read_smiles_file(file, notes)
        return FileTable(file.name, format_, header, records, notes)
    if format_ == "parquet":
        return _read_parquet(file, notes)
    # The columns of these formats are known after the last row only.
    kept = list(read_sdf(file, notes) if format_ == "sdf" else read_json_lines(file, notes))
    header = list(dict.fromkeys(chain.from_iterable(record.values for record in kept)))
    return FileTable(file.name, format_, header, iter(kept), notes)


def _read_parquet(file: SourceFile, notes: Notes) -> FileTable:
    """A Parquet file, its values as text."""
    refuse_encoding(file.name, file.encoding)
    try:
        with open_binary(file) as stream:
            compressed = isinstance(stream, gzip.GzipFile)
            source: Any = pa.BufferReader(stream.read()) if compressed else str(file.path)
        parquet = pq.ParquetFile(source)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file.name} cannot be read as Parquet: {first_line(error)}") from error

    def records() -> Iterator[Record]:
        number = 0
        nested = tuple(field.name for field in parquet.schema_arrow if pa.types.is_nested(field.type))
        try:
            for batch in parquet.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield Record(f"row {number}", {name: as_text(value) for name, value in row.items()}, nested=nested)
        except (pa.ArrowException, OSError, OverflowError) as error:  # the last for dates beyond the year 9999
            raise ValueError(f"{file.name} cannot be read as Parquet: {first_line(error)}") from error

    header = check_header(file.name, parquet.schema_arrow.names, "its schema")
    return FileTable(file.name, "parquet", header, records(), notes)


def choose_columns(
    name: str, header: Sequence[str], wanted: Iterable[str], optional: Iterable[str], column_mapping: Mapping[str, str]
) -> dict[str, int]:
    """Finds the columns of a table, as [`pick_columns`]; a file without a header is named as such.

    Args:
        name: the table, for errors.
        header: its column names.
        wanted: columns that it must have.
        optional: columns that are left out if it has none.
        column_mapping: column of the table to column of this package.

    Returns:
        Position in the header by column.

    Raises:
        ValueError: if a column is missing or ambiguous.
    """
    wanted = [*wanted, *(column for column in optional if candidates(header, column, column_mapping))]
    if "smiles" in wanted and not candidates(header, "smiles", column_mapping):
        molecule = next((text for text in header if len(text) > 1 and smiles_fault(text) is None), None)
        if molecule is not None:
            raise ValueError(
                f"{name} has no header: its first line {shown(header)} holds the SMILES {molecule!r}. Add a line "
                "with column names, such as smiles and id."
            )
    return pick_columns(name, header, wanted, column_mapping)


def structure_first(format_: str, column_mapping: Mapping[str, str]) -> dict[str, str]:
    """The column mapping of a file. In an SDF file, structure and title have priority over unmapped properties.

    >>> structure_first("sdf", {"PUBCHEM_SMILES": "smiles"})
    {'id': 'id', 'PUBCHEM_SMILES': 'smiles'}
    """
    mapped = column_mapping.values()
    fixed = {column: column for column in ("smiles", "id") if format_ == "sdf" and column not in mapped}
    return fixed | dict(column_mapping)


def warn_flat(name: str, column: str, has_stereo: bool) -> None:
    """Warns if SMILES come from a column that has no stereochemistry in the files of PubChem."""
    if normalise(column).startswith(("canonical", "connectivity")) and not has_stereo:
        logger.warning(
            "%s: the SMILES are taken from the column %r and have no stereochemistry. Name a better column with "
            "--smiles_column if there is one.",
            name,
            column,
        )


def refuse_encoding(name: str, encoding: str | None) -> None:
    """Refuses an encoding for a source that is no text file, because it would have no effect."""
    if encoding is not None:
        raise ValueError(f"--encoding is {encoding!r}, but {name} is no text file. Leave the argument out.")


def refuse_nested(where: str, dataset: Any, names: Iterable[str]) -> None:
    """Refuses a data set in which a column that must be text holds lists or objects.

    Raises:
        ValueError: names the column.
    """
    for name in names:
        if pa.types.is_nested(dataset.features.arrow_schema.field(name).type):
            raise ValueError(f"{where}: the column {name!r} holds lists or objects; expected a text in each row.")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def source_file(path: Path, encoding: str | None, on_error: str) -> SourceFile:
    """A file of this machine as a source, called by its name."""
    return SourceFile(path.name, path, encoding, "drop" if on_error == "drop" else "raise")
