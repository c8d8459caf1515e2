"""The two files of a shard: its rows, and its rejects."""

import time
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rdkit import rdBase

from class_hf.data.molecule_tables import FAULT, PLACE
from class_hf.data.validation import DroppedRow, OnError
from class_hf.shards.folder import ShardFolder, part_name, rejects_name
from class_hf.utils.threads import single_thread

_SHOWN = 5
_REJECTS = pa.schema(
    [("row", pa.int64()), ("place", pa.string()), ("id", pa.string()), ("input", pa.string()), ("reason", pa.string())]
)
_lock = Lock()


class ShardReport(NamedTuple):
    """What a worker reports about a shard.

    Attributes:
        number: of the shard.
        rows: rows that were read.
        rejects: rows that cannot be used.
        seconds: CPU seconds of the worker's thread.
    """

    number: int
    rows: int
    rejects: int
    seconds: float


class Reject(NamedTuple):
    """A row that cannot be used: number in the table, file and line, id, SMILES or text, and the reason."""

    row: int
    place: str | None
    id: str | None
    input: str | None
    reason: str

    def dropped_row(self) -> DroppedRow:
        """The row as the reports of other commands name it."""
        return DroppedRow("table", self.row, self.id or "", self.reason, self.place or "table")


def place_of(table: pa.Table, position: int) -> str | None:
    """File and line of a row, if its table has them."""
    return table[PLACE][position].as_py() if PLACE in table.column_names else None


def add_reject(rejects: list[Reject], reject: Reject, on_error: OnError) -> None:
    """Appends a reject, or raises its reason.

    Raises:
        ValueError: If `on_error` is `"raise"`.

    >>> add_reject([], Reject(5, "t.csv line 7", "bad", "C1CC(", "it is no SMILES"), "raise")
    Traceback (most recent call last):
    ValueError: table row 5 (id bad, t.csv line 7): it is no SMILES. Correct it, or pass --on_error drop.
    """
    if on_error == "raise":
        raise ValueError(f"{reject.dropped_row()} Correct it, or pass --on_error drop.")
    rejects.append(reject)


def write_shard(
    folder: ShardFolder,
    number: int,
    rows: tuple[int, int],
    schema: pa.Schema,
    read: Callable[[list[Reject]], Iterable[pa.Table]],
    row_group_size: int,
    **format: Any,
) -> ShardReport:
    """Computes and writes the files of a shard, with one thread.

    The part appears last, because its name says that the shard is complete.

    Args:
        folder: of the parts.
        number: of the shard.
        rows: its first row, and the one after its last row.
        schema: of the part.
        read: yields its rows, and appends those that cannot be used to a list.
        row_group_size: largest number of rows in a row group.
        format: further arguments of `pyarrow.parquet.ParquetWriter`.

    Returns:
        A short report.

    Raises:
        OSError: If the disk is full.
    """
    # A worker of Dask can have several threads. They would only wait for each other in Python.
    with _lock, single_thread(), rdBase.BlockLogs():
        started = time.thread_time()
        rejects: list[Reject] = []
        with folder.new_file(part_name(number)) as path:
            with pq.ParquetWriter(path, schema, **format) as writer:
                for table in read(rejects):
                    writer.write_table(table, row_group_size=row_group_size)
            if rejects:
                with folder.new_file(rejects_name(number)) as rejects_path:
                    columns = [list(values) for values in zip(*rejects, strict=True)]
                    pq.write_table(pa.table(columns, schema=_REJECTS), rejects_path, compression="zstd")
        return ShardReport(number, rows[1] - rows[0], len(rejects), time.thread_time() - started)


def rows_of_shard(number: int, shard_size: int, rows: int) -> tuple[int, int]:
    """The first row of a shard, and the one after its last row.

    >>> rows_of_shard(1, 10, 15)
    (10, 15)
    """
    return number * shard_size, min((number + 1) * shard_size, rows)


def check_part(folder: ShardFolder, number: int, rows: int) -> None:
    """Checks that the files of a complete shard have all its rows. Only their ends are read.

    Raises:
        ValueError: If a file is damaged, or rows are missing.
    """
    counts = []
    for name in (part_name(number), rejects_name(number)):
        if name == part_name(number) or folder.system.isfile(f"{folder.root}/{name}"):
            with folder.open_parquet(name) as parquet:
                counts.append(parquet.metadata.num_rows)
    if sum(counts) != rows:
        raise ValueError(
            f"{folder.location}/{part_name(number)} and its rejects have {sum(counts):,} of {rows:,} rows. "
            "Delete the part and run the same command again."
        )


def read_rejects(folder: ShardFolder) -> tuple[int, list[Reject]]:
    """The number of rejects in a folder, and the first of them."""
    count = 0
    first: list[Reject] = []
    for name in folder.names():
        if name.startswith("rejects-"):
            with folder.open_parquet(name) as parquet:
                count += parquet.metadata.num_rows
                if len(first) < _SHOWN:
                    first += [Reject(**row) for row in parquet.read().slice(0, _SHOWN - len(first)).to_pylist()]
    return count, first


def print_rejects(count: int, first: Sequence[Reject]) -> None:
    """Prints the number of rejects, and the first of them."""
    if count:
        rows = "".join(f"\n  {reject.dropped_row()}" for reject in first)
        print(f"{count:,} rows rejected, the first:{rows}")  # noqa: T201


def users_columns(names: Sequence[str], needed: Sequence[str], taken: Sequence[str]) -> list[tuple[str, str]]:
    """The user's columns in a table and in its parts. A name that a part uses itself becomes `NAME_of_table`.

    Args:
        names: columns of the table.
        needed: columns that a part has under the same name.
        taken: further columns of a part.

    >>> users_columns(["smiles", "logS", "weight"], ["smiles"], ["weight"])
    [('logS', 'logS'), ('weight', 'weight_of_table')]
    """
    renamed = []
    for name in names:
        if name in (*needed, PLACE, FAULT):
            continue
        new = f"{name}_of_table" if name in taken else name
        while new != name and new in names:
            new += "_"
        renamed.append((name, new))
    return renamed
