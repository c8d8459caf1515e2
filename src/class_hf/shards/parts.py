"""The two files of a shard: its rows, and its rejects."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from class_hf.data.molecule_tables import FAULT, PLACE
from class_hf.data.validation import DroppedRow
from class_hf.shards.folder import ShardFolder, part_name, rejects_name

_SHOWN = 5
_REJECTS = pa.schema(
    [("row", pa.int64()), ("place", pa.string()), ("id", pa.string()), ("input", pa.string()), ("reason", pa.string())]
)


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


def write_shard(
    folder: ShardFolder,
    number: int,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    rejects: Sequence[Reject],
    row_group_size: int,
    **format: Any,
) -> None:
    """Writes the files of a shard. The part appears last, because its name says that the shard is complete.

    Args:
        folder: of the parts.
        number: of the shard.
        schema: of the part.
        tables: its rows. Reading them may append to `rejects`.
        rejects: rows that cannot be used.
        row_group_size: largest number of rows in a row group.
        format: further arguments of `pyarrow.parquet.ParquetWriter`.
    """
    with folder.new_file(part_name(number)) as path:
        with pq.ParquetWriter(path, schema, **format) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=row_group_size)
        if rejects:
            with folder.new_file(rejects_name(number)) as rejects_path:
                columns = [list(values) for values in zip(*rejects, strict=True)]
                pq.write_table(pa.table(columns, schema=_REJECTS), rejects_path, compression="zstd")


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
