"""Writes hits to files, and reads files of queries."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor

from class_hf.data.text_files import SourceFile, read_lines
from class_hf.models.smiles import parse_smiles
from class_hf.search.query import Hit, check_description
from class_hf.utils.files import temporary_file
from class_hf.utils.json_text import json_text
from class_hf.utils.spreadsheets import guard_formula

FORMATS = (".csv", ".json", ".parquet", ".sdf")
# The 2D layout of larger molecules can take seconds each.
MAX_LAYOUT_ATOMS = 200


def check_output(path: str | Path, overwrite: bool = False, formats: Sequence[str] = FORMATS) -> None:
    """Checks the name of an output file before any work.

    Args:
        path: the file.
        overwrite (`bool`, defaults to `False`): whether it may exist.
        formats: the allowed endings.

    Raises:
        ValueError: If the name has another ending, or is below a file.
        FileExistsError: If the file exists and `overwrite` is not set.

    >>> check_output("hits.xls")
    Traceback (most recent call last):
    ValueError: 'hits.xls': expected a file name that ends in .csv, .json, .parquet or .sdf.
    """
    path = Path(path)
    if path.suffix.lower() not in formats:
        names = f"{', '.join(formats[:-1])} or {formats[-1]}" if len(formats) > 1 else formats[0]
        raise ValueError(f"{str(path)!r}: expected a file name that ends in {names}.")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ValueError(f"{str(path)!r} cannot be written: {str(above)!r} is a file, not a folder.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists. Choose another name, or pass --overwrite.")


def write_hits(
    path: str | Path, queries: Sequence[str], results: Sequence[Sequence[Hit]], overwrite: bool = False
) -> None:
    """Writes hits with all their columns to a file. The format follows from its ending.

    Each row has the query, rank, score, id, SMILES and the columns of the indexed table. A column with one of these
    names gets the suffix `_of_table`. In CSV, text that a spreadsheet would run as a formula gets an apostrophe in
    front. SDF has a 2D structure for each hit. The file appears when it is complete.

    Args:
        path: a file with an ending in `FORMATS`.
        queries (list of `str`): the queries.
        results: the hits of each query.
        overwrite (`bool`, defaults to `False`): replace an existing file.

    Raises:
        ValueError: If the ending is unknown.
        FileExistsError: If the file exists and `overwrite` is not set.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_hits(f"{folder}/hits.csv", ["an alcohol"], [[Hit(1, 0.5, "a", "CCO", {"note": "=1+1"})]])
    ...     print(Path(folder, "hits.csv").read_text(), end="")
    query,rank,score,id,smiles,note
    an alcohol,1,0.5,a,CCO,'=1+1
    """
    check_output(path, overwrite)
    with temporary_file(path) as temporary:
        temporary.write_bytes(render_hits(Path(path).suffix.lower(), queries, results))


def render_hits(suffix: str, queries: Sequence[str], results: Sequence[Sequence[Hit]]) -> bytes:
    """The content of the file that [`write_hits`] writes.

    Args:
        suffix (`str`): one of `FORMATS`.
        queries (list of `str`): the queries.
        results: the hits of each query.
    """
    rows = [_row(query, hit) for query, hits in zip(queries, results, strict=True) for hit in hits]
    columns = list(dict.fromkeys(["query", "rank", "score", "id", "smiles", *(name for row in rows for name in row)]))
    return _RENDERERS[suffix](columns, rows)


def _row(query: str, hit: Hit) -> dict[str, Any]:
    row = {"query": query, "rank": hit.rank, "score": hit.score, "id": hit.id, "smiles": hit.smiles}
    return row | {f"{name}_of_table" if name in row else name: value for name, value in hit.fields.items()}


def _to_csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([guard_formula(name) for name in columns])
    writer.writerows([[guard_formula(_as_cell(row.get(name))) for name in columns] for row in rows])
    return file.getvalue().encode()


def _as_cell(value: Any) -> Any:
    """A list as JSON, and any other value unchanged."""
    return json_text(value) if isinstance(value, list) else value


def _to_json(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
    return (json_text(list(rows), indent=2) + "\n").encode()


def _to_parquet(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns}), file)
    return file.getvalue()


def format_sdf(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
    """The content of an SDF with a 2D structure for each row. Molecules of more than 200 atoms have no layout.

    Args:
        columns: names of the properties.
        rows: records with `id`, the title of the structure, and `smiles`.

    >>> print(format_sdf(["rank"], [{"id": "a", "smiles": "C", "rank": 1}]).decode().splitlines()[-7:])
    ['>  <rank>  (1) ', '1', '', '>  <id>  (1) ', 'a', '', '$$$$']
    """
    file = io.StringIO()
    with rdBase.BlockLogs(), Chem.SDWriter(file) as writer:
        for row in rows:
            molecule = parse_smiles(row["smiles"])
            if molecule.GetNumAtoms() <= MAX_LAYOUT_ATOMS:
                rdDepictor.Compute2DCoords(molecule)
            molecule.SetProp("_Name", _one_line(row["id"]))
            for name in columns:
                value = row.get(name)
                if value is not None and name != "id":
                    molecule.SetProp(_one_line(name).replace("<", "(").replace(">", ")"), _one_line(value))
            molecule.SetProp("id", _one_line(row["id"]))
            writer.write(molecule)
    return file.getvalue().encode()


def _one_line(value: Any) -> str:
    """Text that fits on a line of an SDF: line breaks would end the value, and `$$$$` the record."""
    text = " ".join(str(_as_cell(value)).split())
    return f" {text}" if text.startswith("$$$$") else text


_RENDERERS: dict[str, Callable[[Sequence[str], Sequence[dict[str, Any]]], bytes]] = {
    ".csv": _to_csv,
    ".json": _to_json,
    ".parquet": _to_parquet,
    ".sdf": format_sdf,
}


def read_queries(path: str | Path, encoding: str | None = None) -> list[str]:
    """Reads descriptions from a text file, one per line. Empty lines are skipped.

    Args:
        path: a text file, compressed with gzip or not. Lines end with LF, CRLF or CR.
        encoding (`str`, *optional*): its encoding. Default: UTF-8, or what a byte order mark says.

    Raises:
        ValueError: If the file is missing, has another encoding, has no queries, or a line is no query.

    >>> read_queries("nowhere.txt")
    Traceback (most recent call last):
    ValueError: 'nowhere.txt' does not exist; expected a text file with one query per line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist; expected a text file with one query per line.")
    queries = [
        check_description(line.text, f"{path.name} line {line.number}")
        for line in read_lines(SourceFile(str(path), path, encoding))
        if line.text.strip()
    ]
    if not queries:
        raise ValueError(f"{str(path)!r} has no queries; expected one per line.")
    return queries
