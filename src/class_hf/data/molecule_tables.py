"""Reads a table of molecules from a file, or from a saved data set, into a `Dataset`."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, load_from_disk
from datasets.table import InMemoryTable
from rdkit import rdBase

from class_hf.data.columns import check_mapping, checked_mapping, numbered_note
from class_hf.data.smiles import ASCII_SPACE
from class_hf.data.tables import (
    FileTable,
    choose_columns,
    find_format,
    read_table,
    refuse_encoding,
    refuse_nested,
    source_file,
    structure_first,
    warn_flat,
)
from class_hf.data.text_files import Notes, OnError, Record, SourceFile, as_text

logger = logging.getLogger(__name__)

# Columns of a table that was read from a file: where each row is, and why the reader cannot use it (null if it can).
PLACE, FAULT = "_place", "_read_fault"
_CHUNK = 10_000
_ID_BLOCK = 100_000  # rows whose ids are looked at together
# Increase it when the same file is read differently, so that older cached tables are not used.
_CACHE_VERSION = 2


def read_molecules(
    path: str | Path,
    smiles_column: str | None = None,
    id_column: str | None = None,
    description_column: str | None = None,
    split: str | None = None,
    *,
    column_mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    on_error: OnError = "raise",
    required: str = "smiles",
) -> Dataset:
    """Reads a table of molecules with the columns `smiles`, `id` and `description`; `id` and `description` are
    optional.

    All other columns are kept. A column that has one of these names but another meaning, or whose name begins with
    `_`, is renamed to `NAME_of_table`. The SMILES are not checked; [`MoleculeIndex.build`] does that. Columns of text
    files stay text, so an id `007` keeps its zeros.

    In SDF files the molecule is the mol block and the id is the title. Where the title is empty, the id is the first
    usual id property. A part `|...|` after a SMILES is a CXSMILES extension in all formats.

    Args:
        path (`str` or `Path`): a CSV, TSV, Parquet, JSON Lines, SDF or SMILES file, compressed with gzip or not, or a
            folder of `Dataset.save_to_disk`.
        smiles_column, id_column, description_column (`str`, *optional*): names of columns. Default: the usual names
            ([`class_hf.data.columns.SYNONYMS`]), in upper and lower case. SMILES with stereochemistry are preferred.
        split (`str`, *optional*): split of a folder with several.
        column_mapping (`dict`, *optional*): column of the table to `"smiles"`, `"id"` or `"description"`.
        encoding (`str`, *optional*): encoding of text files. Default: UTF-8, or what a byte order mark says.
        on_error (`str`, *optional*, defaults to `"raise"`): `"raise"` at malformed rows, or `"drop"`: mark them, so
            that [`MoleculeIndex.build`] drops them. Under `"drop"`, lines that are not UTF-8 are read as Windows-1252.
        required (`str`, *optional*, defaults to `"smiles"`): the column that the table must have; `"description"` for
            a table of texts.

    Returns:
        The molecules. A table from a file also has the columns `_place` (file and line of each row) and `_read_fault`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is malformed or has no molecule, or a column is missing or ambiguous.

    Example:

    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.csv").write_text("ChEMBL ID;Smiles;Weight\\nCHEMBL545;CCO;46.07\\n")
    >>> read_molecules(folder / "a.csv").select_columns(["id", "smiles", "Weight"])[0]
    {'id': 'CHEMBL545', 'smiles': 'CCO', 'Weight': '46.07'}
    """
    path = Path(path).expanduser()
    mapping = merge_columns(column_mapping, smiles_column, id_column, description_column)
    if path.is_dir():
        refuse_encoding(path.name, encoding)
        return _with_id_note(path.name, _named_columns(path.name, _read_folder(path, split), mapping, required))
    if split is not None:
        raise ValueError(f"{str(path)!r} is a file, which has no splits; remove --split {split!r}.")
    file = source_file(path, encoding, on_error)
    if find_format(file) == "parquet":
        refuse_encoding(file.name, encoding)
        check_parquet(file)
        return _with_id_note(file.name, _named_columns(file.name, Dataset.from_parquet(str(path)), mapping, required))
    return _with_id_note(file.name, _read_file(file, mapping, required))


def merge_columns(column_mapping: Mapping[str, str] | None, *names: str | None) -> dict[str, str]:
    """The column mapping with the columns for SMILES, ids and captions that arguments name."""
    mapping = dict(column_mapping or {})
    for column, name in zip(("smiles", "id", "description"), names, strict=False):
        if name is not None:
            mapping[name] = column
    mapping = checked_mapping(mapping)
    for column in ("split", "keep"):
        if column in mapping.values():
            raise ValueError(f"column_mapping is {mapping}; a table of molecules needs no {column!r}. Leave it out.")
    return mapping


def check_parquet(file: SourceFile) -> None:
    """Refuses a Parquet file that cannot be read or has no row; `datasets` would fail with a long traceback."""
    if not any(True for _ in islice(read_table(file).records, 1)):
        raise ValueError(f"{file.name} has columns and no rows; expected molecules.")


def _read_folder(path: Path, split: str | None) -> Dataset:
    """A data set that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    try:
        data = load_from_disk(str(path))
    except FileNotFoundError as error:
        raise ValueError(
            f"{str(path)!r} is a folder that Dataset.save_to_disk did not write. Name the file with the molecules."
        ) from error
    if not isinstance(data, DatasetDict):
        return data
    if split not in data:
        raise ValueError(f"{str(path)!r} has the splits {sorted(data)}; name one by --split, not {split!r}.")
    return data[split]


def _named_columns(where: str, table: Dataset, mapping: Mapping[str, str], required: str) -> Dataset:
    """A typed table with this package's column names; smiles, ids and captions as text."""
    if not len(table):
        raise ValueError(f"{where} has no rows; expected molecules.")
    check_mapping(mapping, {where: table.column_names})
    chosen = choose_columns(where, table.column_names, (required,), _others(required), mapping)
    refuse_nested(where, table, [table.column_names[position] for position in chosen.values()])
    notes = Notes()
    names = new_names(table.column_names, chosen, notes)
    log_notes(where, table.column_names, chosen, notes.messages())
    table = table.rename_columns({old: new for old, new in names.items() if old != new})
    for column in chosen:
        if table.features[column].dtype not in ("string", "large_string"):
            texts = [as_text(value) for value in table[column][:]]
            order = table.column_names
            feature = datasets.Value("string")
            table = table.remove_columns(column).add_column(column, texts, feature=feature).select_columns(order)
    return table


def _others(required: str) -> list[str]:
    return [column for column in ("smiles", "id", "description") if column != required]


def new_names(header: list[str], chosen: Mapping[str, int], notes: Notes) -> dict[str, str]:
    """The name of each column of a table in the result."""
    names = {header[position]: column for column, position in chosen.items()}
    for name in header:
        if name in names:
            continue
        new = name
        if name in ("smiles", "id", "description") or name.startswith("_"):
            new = f"{name.lstrip('_')}_of_table"
            while new in header or new in names.values():
                new += "_"
            notes.renamed[name] = new
        names[name] = new
    return names


def _read_file(file: SourceFile, mapping: dict[str, str], required: str) -> Dataset:
    """A text or structure file, through a cache on disk, so that large tables are mapped into memory."""
    table = read_table(file)
    check_mapping(mapping, {file.name: table.header})
    if table.is_text2mol:
        raise ValueError(f"{file.name} is in Text2Mol's format, which has no SMILES. Name a table with SMILES.")
    mapping = structure_first(table.format, mapping)
    chosen = choose_columns(file.name, table.header, (required,), _others(required), mapping)
    names = new_names(table.header, chosen, table.notes)
    folder = Path(datasets.config.HF_DATASETS_CACHE, "class_hf_tables")
    version = _CACHE_VERSION if required == "smiles" else (_CACHE_VERSION, required)
    key = repr((version, rdBase.rdkitVersion, file.name, file.encoding, file.on_error, sorted(mapping.items())))
    target = folder / _digest(file.path, key)
    if not datasets.is_caching_enabled():
        data = pa.Table.from_batches(_batches(table, names), _schema(names))
        log_notes(file.name, table.header, chosen, table.notes.messages())
        return Dataset(InMemoryTable(data))
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            new = Path(scratch, "table")
            new.mkdir()
            with pa.OSFile(str(new / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, _schema(names)) as writer:
                for batch in _batches(table, names):
                    writer.write_batch(batch)
            (new / "notes.json").write_text(json.dumps(table.notes.messages()), encoding="utf-8")
            try:
                new.rename(target)
            except OSError:
                if not target.is_dir():  # otherwise another process wrote the same table first
                    raise
    messages = json.loads((target / "notes.json").read_text(encoding="utf-8"))
    log_notes(file.name, table.header, chosen, messages)
    return Dataset.from_file(str(target / "rows.arrow"))


def log_notes(name: str, header: Sequence[str], chosen: Mapping[str, int], messages: Iterable[str]) -> None:
    """Warns about what was changed while a table was read, and of rows that are numbered.

    Args:
        name: the table.
        header: its column names.
        chosen: position in the header by column of this package.
        messages: what was changed.
    """
    numbered = numbered_note(header, chosen, chosen.values())
    for message in [*messages, *([numbered] if numbered else [])]:
        logger.warning("%s: %s.", name, message)


def _with_id_note(name: str, table: Dataset) -> Dataset:
    """Warns about rows without an id in a table that has ids. Returns the table."""
    if "id" not in table.column_names:
        return table
    missing, first = 0, 0
    for number, batch in enumerate(table.select_columns("id").with_format("arrow").iter(_ID_BLOCK)):
        empty = pc.fill_null(pc.equal(batch["id"], ""), True)
        if not missing:
            first = number * _ID_BLOCK + pc.index(empty, True).as_py()
        missing += pc.sum(empty).as_py() or 0
    if missing:
        place = table[first][PLACE].removeprefix(f"{name} ") if PLACE in table.column_names else f"row {first}"
        logger.warning(
            "%s: %s of %s rows have no id (the first: %s). Their ids are their row numbers, from 0.",
            name, f"{missing:,}", f"{len(table):,}", place,
        )  # fmt: skip
    return table


def _digest(path: Path, key: str) -> str:
    """A hash of a key and of a file's content."""
    digest = hashlib.sha256(key.encode())
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _schema(names: Mapping[str, str]) -> pa.Schema:
    """All columns are text."""
    return pa.schema([(name, pa.string()) for name in (*names.values(), PLACE, FAULT)])


def _batches(table: FileTable, names: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file as Arrow batches."""
    records = iter(table.records)
    has_stereo, count = False, 0
    smiles = next((old for old, new in names.items() if new == "smiles"), None)
    texts = [old for old, new in names.items() if new in ("smiles", "id", "description")]
    while chunk := list(islice(records, _CHUNK)):
        count += len(chunk)
        structures = [row.values.get(smiles) or "" for row in chunk] if smiles else []
        has_stereo = has_stereo or any(mark in structure for structure in structures for mark in "@/\\")
        columns = [[_stripped(row, old) for row in chunk] for old in names]
        columns.append([f"{table.name} {row.place}" for row in chunk])
        columns.append([row.fault or row.nested_fault(texts) for row in chunk])
        yield pa.RecordBatch.from_arrays([pa.array(values, pa.string()) for values in columns], schema=_schema(names))
    if not count:
        raise ValueError(f"{table.name} has a header and no rows; expected molecules.")
    if table.format != "sdf" and smiles is not None:
        warn_flat(table.name, smiles, has_stereo)


def _stripped(record: Record, column: str) -> str | None:
    """A value without ASCII white space around it."""
    value = record.values.get(column)
    return None if value is None else value.strip(ASCII_SPACE)
