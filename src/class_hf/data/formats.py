"""File formats in which text-molecule pairs circulate, each read into a plain :class:`Table`.

Only the shape of a file is judged here (encoding, columns, ragged rows); whether a row is a usable pair is
decided in :mod:`class_hf.data.validation`.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rdkit import Chem, rdBase

PAIR_COLUMNS = ("id", "smiles", "description")
POOL_COLUMNS = ("id", "smiles", "split")

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
    "pool": ("pool", "molecules"),
}
# Without the names of SMILES that drop stereo marks (PubChem's "canonical" SMILES): those must be asked for.
_SYNONYMS = {
    "id": ("id", "cid", "pubchem_cid", "pubchem_compound_cid", "compound_id", "chebi_id", "inchikey"),
    "smiles": ("smiles", "isosmiles", "isomeric_smiles", "isomericsmiles", "molecule"),
    "description": ("description", "desc", "caption", "text"),
    "split": ("split",),
}
_SDF_FIELD = re.compile(r"^>.*<(PUBCHEM_[A-Z_]+)>.*\n(.*)$", re.MULTILINE)
# Older and newer PubChem exports; both are the isomeric SMILES.
_SDF_SMILES = ("PUBCHEM_SMILES", "PUBCHEM_OPENEYE_ISO_SMILES")


class SourceFile(NamedTuple):
    """A file to read: ``name`` is what errors call it (a downloaded file's path says nothing to a reader)."""

    name: str
    path: Path


@dataclass(frozen=True)
class Table:
    """Rows of one split as their source has them.

    Attributes:
        where: file name or data set id, for messages.
        columns: column name (this package's) to one string a row; a missing value is ``""``.
        header: every column name of the source.
        lines: line of each row in the file, from 1; ``None`` if the source is no file.
    """

    where: str
    columns: dict[str, list[str]]
    header: tuple[str, ...]
    lines: list[int] | None = None


def split_of(name: str) -> str | None:
    """The split that a file stem or split name stands for, ``None`` if it stands for none.

    >>> [split_of(name) for name in ("Training", "dev", "mol2vec_ChEBI_20_val", "molecules", "README")]
    ['train', 'validation', 'validation', 'pool', None]
    """
    stem = name.strip().lower().removeprefix("mol2vec_chebi_20_")
    return next((split for split, names in _SPLIT_NAMES.items() if stem in names), None)


def find_files(folder: Path) -> dict[str, SourceFile]:
    """The files of a folder that hold a split or the pool, found by name.

    Args:
        folder: where to look; ``train``/``training``, ``validation``/``val``/``valid``/``dev``, ``test`` and
            ``molecules``/``pool``, ending in ``.tsv``, ``.txt`` or ``.csv``, in any case.

    Returns:
        split (or ``"pool"``) to file.

    Raises:
        FileNotFoundError: if no split is found.
        ValueError: if two files claim the same split.
    """
    found: dict[str, SourceFile] = {}
    for path in sorted(folder.iterdir()):
        split = split_of(path.stem)
        if split is None or path.suffix.lower() not in (".tsv", ".txt", ".csv") or not path.is_file():
            continue
        if split in found:
            raise ValueError(f"{folder}: {found[split].name} and {path.name} both hold the {split} split; keep one.")
        found[split] = SourceFile(path.name, path)
    if not found.keys() - {"pool"}:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise FileNotFoundError(
            f"{folder} holds no file of pairs (found: {there}). Expected train, validation or test with the "
            "ending .tsv, .txt or .csv; other names of the splits are training, val, valid and dev."
        )
    return found


def read_files(files: Mapping[str, SourceFile], column_mapping: Mapping[str, str]) -> dict[str, Table]:
    """Read the files of a data set, whichever of the known formats each is in.

    The first line tells the format: tabs make it tab separated without quoting (MolT5), otherwise it is comma
    separated with quoting. A tab separated line whose second field is a vector of numbers is Text2Mol's
    format (no header; CID, mol2vec embedding, description), and the SMILES are joined by CID from the pool's
    file or from ``*.sdf`` files beside it.

    Args:
        files: split (or ``"pool"``) to file; or ``"all"`` to one file with the pairs of all splits, which may have a
            column ``split`` and may lack ``id``; its rows are then numbered from 1.
        column_mapping: their column name to ours, for names that are not recognised.

    Returns:
        the same keys to tables.

    Raises:
        ValueError: if a file is not UTF-8, has no rows, ragged rows or missing columns, or if
            ``column_mapping`` names a column that no file has.
        FileNotFoundError: if Text2Mol's files come without a source of SMILES.
    """
    tables: dict[str, Table] = {}
    smiles_of: dict[str, str] | None = None
    # The pool first: Text2Mol's files may need its SMILES.
    for split in sorted(files, key=lambda split: split != "pool"):
        file = files[split]
        header, rows, lines = _read_rows(file)
        if _is_text2mol(header):
            if smiles_of is None:
                smiles_of = _find_smiles(file, tables.get("pool"))
            tables[split] = _text2mol_table(file, [header, *rows], [1, *lines], smiles_of)
            continue
        if not rows:
            raise ValueError(f"{file.name} has a header and no rows; remove the file or fill it.")
        wanted: tuple[str, ...] = POOL_COLUMNS if split == "pool" else PAIR_COLUMNS
        if split == "all":
            extra = [name for name in ("id", "split") if _is_named(name, header, column_mapping)]
            wanted = ("smiles", "description", *extra)
        chosen = pick_columns(file.name, header, wanted, column_mapping)
        columns = {ours: [row[index] for row in rows] for ours, index in chosen.items()}
        if "id" not in columns and split == "all":
            columns["id"] = [str(number) for number in range(1, len(rows) + 1)]
        tables[split] = Table(file.name, columns, tuple(header), lines)
    return tables


def table_from_dataset(dataset: Any, where: str, wanted: Sequence[str], column_mapping: Mapping[str, str]) -> Table:
    """The wanted columns of a :class:`datasets.Dataset` as strings.

    Args:
        dataset: one split.
        where: its name in messages.
        wanted: our names of the columns.
        column_mapping: their column name to ours, for names that are not recognised.

    Raises:
        ValueError: if a column is missing or there is no row.
    """
    if not len(dataset):
        raise ValueError(f"{where} has no rows.")
    header = dataset.column_names
    chosen = pick_columns(where, header, wanted, column_mapping)
    columns = {ours: [_as_text(value) for value in dataset[header[i]][:]] for ours, i in chosen.items()}
    return Table(where, columns, tuple(header))


def pick_columns(
    where: str, header: Sequence[str], wanted: Iterable[str], column_mapping: Mapping[str, str]
) -> dict[str, int]:
    """Position of each wanted column in a header, by ``column_mapping`` first and then by the usual synonyms.

    Raises:
        ValueError: if a column is missing, or if two could be meant.

    >>> pick_columns("a.csv", ["CID", "isosmiles", "note"], PAIR_COLUMNS, {"note": "description"})
    {'id': 0, 'smiles': 1, 'description': 2}
    """
    chosen: dict[str, int] = {}
    for ours in wanted:
        mapped = [i for i, name in enumerate(header) if column_mapping.get(name) == ours]
        candidates = mapped or [
            i for i, name in enumerate(header) if name not in column_mapping and _means(name, ours)
        ]
        names = [header[i] for i in candidates]
        if not candidates:
            raise ValueError(
                f"{where} has no column for {ours!r}; its columns are {list(header)}. "
                f'Rename the column, or pass column_mapping={{"<one of these>": "{ours}"}}.'
            )
        if len(candidates) > 1:
            raise ValueError(
                f"{where}: the columns {names} could each be {ours!r}; "
                f'choose one with column_mapping={{"{names[0]}": "{ours}"}}.'
            )
        chosen[ours] = candidates[0]
    return chosen


def _means(name: str, ours: str) -> bool:
    """Whether a column's name is a usual one for ours."""
    return name.strip().lower().replace(" ", "_") in _SYNONYMS[ours]


def _is_named(ours: str, header: Sequence[str], column_mapping: Mapping[str, str]) -> bool:
    """Whether the header has a column for ours."""
    return any(column_mapping.get(name, ours if _means(name, ours) else "") == ours for name in header)


def check_mapping(column_mapping: Mapping[str, str], tables: Iterable[Table]) -> None:
    """Refuse a mapping that would be silently without effect: a key that no table has."""
    found = {name for table in tables for name in table.header}
    unknown = [name for name in column_mapping if name not in found]
    if unknown:
        raise ValueError(f"column_mapping names {unknown}, but the columns found are {sorted(found)}.")


def sdf_smiles(path: Path) -> dict[str, str]:
    """SMILES by CID from an SDF file.

    The CID is the property ``PUBCHEM_COMPOUND_CID``, else the record's title. The SMILES is PubChem's own
    isomeric SMILES where the record carries it, else it is written by RDKit from the mol block, stereo
    included. Records that RDKit cannot read are left out.
    """
    found: dict[str, str] = {}
    with rdBase.BlockLogs():
        for record in _sdf_records(path):
            fields = dict(_SDF_FIELD.findall(record))
            cid = fields.get("PUBCHEM_COMPOUND_CID", record.split("\n", 1)[0]).strip()
            smiles = next((fields[name].strip() for name in _SDF_SMILES if name in fields), "")
            if not smiles:
                molecule = Chem.MolFromMolBlock(record)
                smiles = Chem.MolToSmiles(molecule) if molecule is not None else ""
            if cid and smiles:
                found[cid] = smiles
    return found


def _sdf_records(path: Path) -> Iterator[str]:
    record: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not record:
                _refuse_pointer(path.name, line)
            if line.startswith("$$$$"):
                yield "".join(record)
                record = []
            else:
                record.append(line)
    # A file may end without the last delimiter.
    if any(line.strip() for line in record):
        yield "".join(record)


def _read_rows(file: SourceFile) -> tuple[list[str], list[list[str]], list[int]]:
    """First line, further rows, and the line number of each further row; blank lines are skipped."""
    text = _read_text(file)
    first, _, _ = text.partition("\n")
    rows, lines = _split_tabs(text) if "\t" in first else _split_commas(file.name, text)
    if not rows:
        raise ValueError(f"{file.name} is empty.")
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ValueError(
                f"{file.name} line {line} has {len(row)} fields where the first line has {width}; mend the "
                "line (a separator or line break inside a field?)."
            )
    return [name.strip() for name in rows[0]], rows[1:], lines[1:]


def _split_tabs(text: str) -> tuple[list[list[str]], list[int]]:
    # Not str.splitlines: it also breaks at characters that captions may hold (U+2028, U+0085, form feed).
    numbered = [(i, line.removesuffix("\r")) for i, line in enumerate(text.split("\n"), 1)]
    kept = [(i, line) for i, line in numbered if line]
    return [line.split("\t") for _, line in kept], [i for i, _ in kept]


def _split_commas(name: str, text: str) -> tuple[list[list[str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{name} line {start} is not valid CSV: {error}.") from error
    return rows, lines


def _read_text(file: SourceFile) -> str:
    data = file.path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file.name} line {line} is not UTF-8 (byte 0x{data[error.start]:02x}); convert the file."
        ) from error
    _refuse_pointer(file.name, text[:100])
    return text


def _refuse_pointer(name: str, head: str) -> None:
    if head.startswith("version https://git-lfs.github.com"):
        raise ValueError(f"{name} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder.")


def _is_text2mol(first_row: Sequence[str]) -> bool:
    numbers = first_row[1].split() if len(first_row) == 3 else []
    try:
        return len([float(number) for number in numbers]) > 1
    except ValueError:
        return False


def _find_smiles(file: SourceFile, pool: Table | None) -> dict[str, str]:
    """SMILES by CID for Text2Mol's files, which carry none (neither does its substructure corpus)."""
    if pool is not None:
        return dict(zip(map(str.strip, pool.columns["id"]), pool.columns["smiles"], strict=True))
    folder = file.path.parent
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".sdf"]
    if not found:
        raise FileNotFoundError(
            f"{file.name} is in Text2Mol's format, which has no SMILES (its "
            "ChEBI_defintions_substructure_corpus.cp holds substructure ids only). Put Text2Mol's *.sdf "
            f"files, or a molecules.tsv with the columns CID, SMILES and split, into {folder}."
        )
    return {cid: smiles for path in found for cid, smiles in sdf_smiles(path).items()}


def _text2mol_table(file: SourceFile, rows: list[list[str]], lines: list[int], smiles_of: Mapping[str, str]) -> Table:
    ids = [row[0].strip() for row in rows]
    if not any(cid in smiles_of for cid in ids):
        raise ValueError(
            f"{file.name}: none of its {len(ids)} CIDs ({', '.join(ids[:3])}, ...) is among the "
            f"{len(smiles_of)} molecules of the *.sdf files or molecules.tsv; add the file that holds them."
        )
    columns = {
        "id": ids,
        "smiles": [smiles_of.get(cid, "") for cid in ids],
        "description": [row[2] for row in rows],
    }
    return Table(file.name, columns, header=(), lines=lines)


def _as_text(value: Any) -> str:
    if value is None or value != value:
        return ""
    # A column of integers with one value missing is read as floats by many tools: 2244.0 means 2244.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)
