"""Reads the pairs of a data set from files of any known format, each file into a [`Table`]."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from class_hf.data.columns import PAIR_COLUMNS, POOL_COLUMNS, numbered_note
from class_hf.data.keep import is_kept
from class_hf.data.sdf import pubchem_smiles
from class_hf.data.tables import (
    PAIR_FORMATS,
    FileTable,
    choose_columns,
    read_table,
    refuse_nested,
    source_file,
    structure_first,
    warn_flat,
)
from class_hf.data.text_files import SourceFile, as_text

logger = logging.getLogger(__name__)

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
    "pool": ("pool", "molecules"),
}


@dataclass(frozen=True)
class Table:
    """Rows of one split, as text.

    Attributes:
        where: file name or data set id, for errors.
        columns: column of this package to the text of each row; a missing value is `""`.
        header: all column names of the source.
        places: where each row is (`"train.tsv line 3"`); None if the source is no file.
        faults: row to why the reader cannot use it.
        notes: what was changed while reading.
    """

    where: str
    columns: dict[str, list[str]]
    header: tuple[str, ...]
    places: list[str] | None = None
    faults: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def split_of(name: str) -> str | None:
    """The split that a file stem or split name means, or None.

    >>> [split_of(name) for name in ("Training", "dev", "mol2vec_ChEBI_20_val", "molecules", "README")]
    ['train', 'validation', 'validation', 'pool', None]
    """
    stem = name.strip().lower().removeprefix("mol2vec_chebi_20_")
    return next((split for split, names in _SPLIT_NAMES.items() if stem in names), None)


def find_files(folder: Path, encoding: str | None = None, on_error: str = "raise") -> dict[str, SourceFile]:
    """Finds the files of a folder that hold a split or the pool, by their names.

    Args:
        folder: the folder. Its files are called `train`/`training`, `validation`/`val`/`valid`/`dev`, `test` and
            `molecules`/`pool`, in any case, and end in `.tsv`, `.txt`, `.csv`, `.parquet` or `.jsonl`, or one of these
            and `.gz`.
        encoding: encoding of the files. Default: UTF-8.
        on_error: `"raise"` or `"drop"`, for malformed rows.

    Returns:
        The file of each split, and of `"pool"`.

    Raises:
        FileNotFoundError: if no split is found.
        ValueError: if two files have the name of the same split.
    """
    files: dict[str, SourceFile] = {}
    for path in sorted(folder.iterdir()):
        file = source_file(path, encoding, on_error)
        stem = path.name[: path.name.lower().find(file.suffix)] if file.suffix else path.name
        split = split_of(stem)
        if split is None or file.suffix not in PAIR_FORMATS or not path.is_file():
            continue
        if split in files:
            raise ValueError(f"{folder}: {files[split].name} and {path.name} both hold the {split} split; keep one.")
        files[split] = file
    if not files.keys() - {"pool"}:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise FileNotFoundError(
            f"{folder} holds no file of pairs (its files: {names}). Expected train, validation or test with the "
            f"ending {', '.join(PAIR_FORMATS)}; other names of the splits are training, val, valid and dev."
        )
    return files


def read_files(files: Mapping[str, SourceFile], column_mapping: Mapping[str, str]) -> dict[str, Table]:
    """Reads the files of a data set, each in any format of [`read_table`].

    Text2Mol's files (no header; CID, mol2vec embedding, description) have no SMILES. These are joined by CID from the
    file of the pool, or from the `*.sdf` files of the same folder.

    Args:
        files: the file of each split and of `"pool"`; or one file as `"all"`, with the pairs of all splits. Such a
            file can have a column `split`. It needs no column `id`; its rows are then numbered from 1. Pairs whose
            column `keep` is no are left out.
        column_mapping: column of the files to column of this package, for names that are not recognised.

    Returns:
        A table for each file.

    Raises:
        ValueError: if a file is malformed, has no rows, or lacks a column.
        FileNotFoundError: if the molecules of Text2Mol's files are missing.
    """
    tables: dict[str, Table] = {}
    smiles_of: dict[str, str] | None = None
    # The pool first: Text2Mol's files may need its SMILES.
    for split in sorted(files, key=lambda split: split != "pool"):
        file = files[split]
        table = read_table(file)
        if table.is_text2mol:
            if smiles_of is None:
                smiles_of = _find_smiles(file, tables.get("pool"))
            tables[split] = _text2mol_table(table, smiles_of)
        else:
            wanted = {"pool": POOL_COLUMNS, "all": ("smiles", "description")}.get(split, PAIR_COLUMNS)
            optional = {"pool": (), "all": ("id", "split", "keep")}.get(split, ("keep",))
            tables[split] = _without_marked(_pair_table(table, wanted, optional, column_mapping), file.on_error)
    return tables


def read_table_columns(
    file: SourceFile,
    wanted: Sequence[str],
    optional: Sequence[str],
    column_mapping: Mapping[str, str],
    pool: Table | None = None,
) -> Table:
    """Reads some columns of a file, in any format of [`read_table`]. Rows whose column `keep` is no are left out.

    Args:
        file: the file.
        wanted: columns of this package.
        optional: columns that are read if the file has them.
        column_mapping: column of the file to column of this package, for names that are not recognised.
        pool: the pool of the data set, which has the SMILES of a file in Text2Mol's format.

    Raises:
        ValueError: if the file is malformed, has no rows, or lacks a column.
        FileNotFoundError: if the molecules of a file in Text2Mol's format are missing.
    """
    table = read_table(file)
    if table.is_text2mol:
        return _text2mol_table(table, _find_smiles(file, pool))
    return _without_marked(_pair_table(table, wanted, (*optional, "keep"), column_mapping), file.on_error)


def _pair_table(
    source: FileTable, wanted: Sequence[str], optional: Sequence[str], column_mapping: Mapping[str, str]
) -> Table:
    """The wanted columns of a file."""
    mapping = structure_first(source.format, column_mapping)
    chosen = choose_columns(source.name, source.header, wanted, optional, mapping)
    names = {column: source.header[position] for column, position in chosen.items()}
    columns: dict[str, list[str]] = {column: [] for column in names}
    places: list[str] = []
    faults: dict[int, str] = {}
    for row, record in enumerate(source.records):
        for column, name in names.items():
            columns[column].append(record.values.get(name) or "")
        places.append(f"{source.name} {record.place}")
        fault = record.fault or record.nested_fault(names.values())
        if fault is not None:
            faults[row] = fault
    if not places:
        raise ValueError(f"{source.name} has a header and no rows; remove the file, or add rows.")
    # An SDF file without titles has an id column whose values are all empty.
    has_ids = "id" in columns and ("id" not in optional or any(value and value.strip() for value in columns["id"]))
    if not has_ids and "id" in (*wanted, *optional):
        columns["id"] = [str(number) for number in range(1, len(places) + 1)]
    if "smiles" in names and source.format != "sdf":
        stereo = any(mark in smiles for smiles in columns["smiles"] for mark in "@/\\")
        warn_flat(source.name, names["smiles"], stereo)
    messages = source.notes.messages()
    if not has_ids and "id" in optional:
        numbered = numbered_note(source.header, [name for name in chosen if name != "id"], chosen.values())
        messages += [numbered] if numbered else []
    notes = tuple(f"{source.name}: {message}" for message in messages)
    return Table(source.name, columns, tuple(source.header), places, faults, notes)


def _without_marked(table: Table, on_error: str) -> Table:
    """The rows of a table that its column `keep` keeps, without this column.

    Rows are left out before they are checked, so a marked row may be broken.

    Raises:
        ValueError: if no row is kept, or under `on_error="raise"` for another value than yes or no.
    """
    if "keep" not in table.columns:
        return table
    columns = dict(table.columns)
    answers = [is_kept(value) for value in columns.pop("keep")]
    faults = dict(table.faults)
    for row, answer in enumerate(answers):
        if answer is None and row not in faults:
            value = table.columns["keep"][row]
            if on_error == "raise":
                place = f"{table.where} row {row}" if table.places is None else table.places[row]
                raise ValueError(
                    f"{place}: keep is {value!r}; expected yes or no, true or false, 1 or 0. Correct "
                    "it, or rename the column if it does not mark pairs to leave out."
                )
            faults[row] = f"its keep {value!r} is neither yes nor no"
    rows = [row for row, answer in enumerate(answers) if answer is not False]
    if not rows:
        raise ValueError(f"{table.where}: the column keep leaves out all {len(answers):,} pairs. Keep some of them.")
    left_out = len(answers) - len(rows)
    note = f"{table.where}: {left_out:,} of {len(answers):,} pairs left out by the column keep"
    return Table(
        table.where,
        {name: [values[row] for row in rows] for name, values in columns.items()},
        table.header,
        None if table.places is None else [table.places[row] for row in rows],
        {position: faults[row] for position, row in enumerate(rows) if row in faults},
        (*table.notes, note),
    )


def table_from_dataset(
    dataset: Any, where: str, wanted: Sequence[str], column_mapping: Mapping[str, str], on_error: str = "raise"
) -> Table:
    """The wanted columns of a data set, as text. Pairs whose column `keep` is no are left out.

    Args:
        dataset (`datasets.Dataset`): one split.
        where: its name in errors.
        wanted: columns of this package.
        column_mapping: column of the data set to column of this package, for names that are not recognised.
        on_error: `"raise"` or `"drop"`, for a `keep` that is neither yes nor no.

    Raises:
        ValueError: if a column is missing, or there is no row.
    """
    if not len(dataset):
        raise ValueError(f"{where} has no rows.")
    header = dataset.column_names
    optional = ("keep",) if "description" in wanted else ()
    chosen = choose_columns(where, header, wanted, optional, column_mapping)
    refuse_nested(where, dataset, [header[position] for position in chosen.values()])
    columns = {
        column: [as_text(value) or "" for value in dataset[header[position]][:]] for column, position in chosen.items()
    }
    return _without_marked(Table(where, columns, tuple(header)), on_error)


def _find_smiles(file: SourceFile, pool: Table | None) -> dict[str, str]:
    """SMILES by CID for Text2Mol's files, from the pool or from SDF files."""
    if pool is not None:
        return dict(zip(map(str.strip, pool.columns["id"]), pool.columns["smiles"], strict=True))
    folder = file.path.parent
    sources = [source_file(path, file.encoding, "drop") for path in sorted(folder.iterdir())]
    sources = [source for source in sources if source.suffix == ".sdf"]
    if not sources:
        raise FileNotFoundError(
            f"{file.name} is in Text2Mol's format, which has no SMILES (its "
            "ChEBI_defintions_substructure_corpus.cp holds substructure ids only). Put Text2Mol's *.sdf "
            f"files, or a molecules.tsv with the columns CID, SMILES and split, into {folder}."
        )
    return {cid: smiles for source in sources for cid, smiles in pubchem_smiles(source).items()}


def _text2mol_table(source: FileTable, smiles_of: Mapping[str, str]) -> Table:
    """The pairs of a file in Text2Mol's format, with their SMILES."""
    ids, descriptions, places = [], [], []
    faults: dict[int, str] = {}
    for row, record in enumerate(source.records):
        ids.append((record.values["id"] or "").strip())
        descriptions.append(record.values["description"] or "")
        places.append(f"{source.name} {record.place}")
        if record.fault is not None:
            faults[row] = record.fault
    if not any(cid in smiles_of for cid in ids):
        raise ValueError(
            f"{source.name}: none of its {len(ids)} CIDs ({', '.join(ids[:3])}, ...) is among the "
            f"{len(smiles_of)} molecules of the *.sdf files or molecules.tsv; add the file that holds them."
        )
    columns = {"id": ids, "smiles": [smiles_of.get(cid, "") for cid in ids], "description": descriptions}
    return Table(source.name, columns, header=(), places=places, faults=faults)
