"""The tables of an index in PostgreSQL: how they are created, filled and indexed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from class_hf.search.captions import distinct_captions
from class_hf.search.stores.stored_columns import stored_names, table_features, with_penalties
from class_hf.search.vector_search import VectorSample, measure_recall
from class_hf.utils.messages import one_line

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

FORMAT = 1
# hnsw.ef_search: candidates that a search of the graph holds.
EFFORTS = (40, 80, 160, 320, 640, 1000)
_TAKEN = ("number", "weight", "elements", "mol", "embedding", "distance")
# Columns that each table of PostgreSQL has.
_SYSTEM = ("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid")
_BLOCK = 2_000  # rows that are converted at a time
# Memory for building the graph, unless the server has more. A larger graph is built far more slowly.
_BUILD_MEMORY = "1GB"


class Names(NamedTuple):
    """The names of the tables of an index, quoted.

    Attributes:
        molecules, captions, bank, settings: the tables.
    """

    molecules: "sql.Identifier"
    captions: "sql.Identifier"
    bank: "sql.Identifier"
    settings: "sql.Identifier"

    @classmethod
    def of(cls, table: Sequence[str]) -> "Names":
        """The names for a table, `(TABLE,)` or `(SCHEMA, TABLE)`."""
        from psycopg import sql

        endings = ("", "_captions", "_bank", "_settings")
        return cls(*(sql.Identifier(*table[:-1], table[-1] + ending) for ending in endings))


class PostgresWriter:
    """Fills the tables in steps, in one transaction. See [`~class_hf.search.stores.base.StoreWriter`]."""

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        names: Names,
        table: Dataset,
        dimension: int,
        caption_rows: np.ndarray,
        has_cartridge: bool,
    ):
        self._connection, self._names, self._table = connection, names, table
        self._dimension, self._caption_rows, self._has_cartridge = dimension, caption_rows, has_cartridge
        self._features = table_features(table)
        self._columns = stored_names(self._features, (*_TAKEN, *_SYSTEM))
        self._captions = distinct_captions(table)[0]
        self._sample = VectorSample(len(table))
        self._has_bank = False
        self._is_created = False

    def add_query_bank(self, vectors: np.ndarray) -> None:
        """Stores the vectors (M, D) of the query bank, so that molecules can be added later."""
        self._has_bank = True
        self._execute("CREATE TABLE {} (number bigint PRIMARY KEY, embedding vector)", self._names.bank)
        copy_rows(
            self._connection, self._names.bank, {"number": "int8", "embedding": "vector"}, list(enumerate(vectors))
        )

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """Stores the vectors (n, D) of the rows from `start`, and their penalties (n,)."""
        if not self._is_created:
            self._create_tables(self._dimension + (penalties is not None))
        vectors = with_penalties(vectors, penalties)
        self._sample.add(start, vectors)
        numbers = np.arange(start, start + len(vectors))
        add_molecules(
            self._connection, self._names, self._table, numbers, numbers, vectors, self._features, self._columns
        )

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """Stores the vectors (n, D) of the captions from `start`."""
        numbers = np.arange(start, start + len(vectors))
        texts = self._captions[start : start + len(vectors)]
        add_captions(self._connection, self._names, numbers, self._caption_rows[numbers], texts, vectors)

    def _execute(self, statement: str, *names: Any) -> None:
        from psycopg import sql

        self._connection.execute(sql.SQL(statement).format(*names))

    def _create_tables(self, dimension: int) -> None:
        from psycopg import sql

        types = {
            "number": "bigint PRIMARY KEY",
            **{
                self._columns[name]: column_type(self._features.arrow_schema.field(name).type)
                for name in self._features
            },
            "weight": "double precision NOT NULL",
            "elements": "text[] NOT NULL",
        }
        if self._has_cartridge:
            types["mol"] = "mol GENERATED ALWAYS AS (mol_from_smiles(smiles::cstring)) STORED"
        types["embedding"] = f"vector({dimension}) NOT NULL"
        types["id"] = types["smiles"] = "text NOT NULL"
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in types.items()
        )
        self._execute("CREATE TABLE {} ({})", self._names.molecules, columns)
        self._execute(
            "CREATE TABLE {} (number bigint PRIMARY KEY, molecule bigint NOT NULL, description text NOT NULL, "
            f"embedding vector({self._dimension}) NOT NULL)",
            self._names.captions,
        )
        self._is_created = True

    def finish(self, config: dict[str, Any]) -> None:
        """Creates the indexes, measures the recall, and writes the settings."""
        molecules = self._names.molecules
        self._execute("CREATE INDEX ON {} (id)", molecules)
        self._execute("CREATE INDEX ON {} (weight)", molecules)
        self._execute("CREATE INDEX ON {} USING gin (elements)", molecules)
        if self._has_cartridge:
            self._execute("CREATE INDEX ON {} USING gist (mol)", molecules)
        if len(self._table) > config["exact_up_to"]:
            self._connection.execute(
                "SELECT set_config('maintenance_work_mem', %s, true) "
                "WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes(%s)",
                [_BUILD_MEMORY, _BUILD_MEMORY],
            )
            kind = "vector_ip_ops" if self._has_bank else "vector_cosine_ops"
            self._execute(f"CREATE INDEX ON {{}} USING hnsw (embedding {kind})", molecules)
        if len(self._captions) > config["exact_up_to"]:
            self._execute("CREATE INDEX ON {} USING hnsw (embedding vector_cosine_ops)", self._names.captions)
        self._execute("ANALYZE {}", molecules)
        if len(self._table) > config["exact_up_to"]:
            config.update(self._recall())
        self._execute("CREATE TABLE {} (settings json NOT NULL)", self._names.settings)
        content = {
            "format": FORMAT,
            "config": config,
            "features": self._features.to_dict(),
            "names": self._columns,
            "has_cartridge": self._has_cartridge,
        }
        self._connection.execute(sql_of("INSERT INTO {} VALUES (%s)", self._names.settings), [json.dumps(content)])

    def _recall(self) -> dict[str, Any]:
        operator = distance_operator(self._has_bank)
        statement = sql_of(f"SELECT number FROM {{}} ORDER BY embedding {operator} %s LIMIT 11", self._names.molecules)

        def search(effort: int | None) -> list[list[int]]:
            set_effort(self._connection, effort)
            return [
                [row[0] for row in self._connection.execute(statement, [vector])] for vector in self._sample.vectors()
            ]

        return measure_recall(search, self._sample.rows.tolist(), EFFORTS)


def sql_of(statement: str, *names: Any) -> Any:
    """A statement with quoted names in place of each `{}`."""
    from psycopg import sql

    return sql.SQL(statement).format(*names)


def distance_operator(has_bank: bool) -> str:
    """Cosine distance, or the negative dot product for vectors with a penalty, which are not L2-normalised."""
    return "<#>" if has_bank else "<=>"


def set_effort(connection: "psycopg.Connection[Any]", effort: int | None) -> None:
    """Sets the effort of the searches of a transaction. None: they are exact."""
    values = {"enable_indexscan": "on" if effort else "off"}  # a graph is only read by index scans
    if effort:
        # Without it, a filter is applied to ef_search candidates, and fewer than k may be left.
        values |= {"hnsw.ef_search": str(effort), "hnsw.iterative_scan": "relaxed_order"}
    for name, value in values.items():
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])


def column_type(kind: pa.DataType) -> str:
    """The type in PostgreSQL of a column of Arrow type.

    >>> column_type(pa.int8()), column_type(pa.float32()), column_type(pa.list_(pa.string()))
    ('bigint', 'double precision', 'jsonb')
    """
    types: list[tuple[Callable[[pa.DataType], bool], str]] = [
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_uint64, "numeric"),
        (pa.types.is_integer, "bigint"),
        (pa.types.is_floating, "double precision"),
        (pa.types.is_decimal, "numeric"),
        (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind), "text"),
        (pa.types.is_date, "date"),
        (lambda kind: pa.types.is_timestamp(kind) and kind.tz is None, "timestamp"),
        (pa.types.is_timestamp, "timestamptz"),
        (pa.types.is_duration, "interval"),
        (pa.types.is_time, "time"),
        (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), "bytea"),
    ]
    return next((name for is_kind, name in types if is_kind(kind)), "jsonb")


def add_molecules(
    connection: "psycopg.Connection[Any]",
    names: Names,
    table: Dataset,
    rows: np.ndarray,
    numbers: np.ndarray,
    vectors: np.ndarray,
    features: Features,
    columns: Mapping[str, str],
) -> None:
    """Copies rows of a table with their numbers and vectors."""
    from psycopg.types.json import Jsonb

    kinds = {name: column_type(features.arrow_schema.field(name).type) for name in columns}
    types = {"number": "int8", **{columns[name]: kind for name, kind in kinds.items()}}
    types |= {"weight": "float8", "elements": "text[]", "embedding": "vector"}
    json_columns = [name for name, kind in kinds.items() if kind == "jsonb"]

    def converted() -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(rows), _BLOCK):
            batch = table[rows[start : start + _BLOCK].tolist()]
            for name in json_columns:
                dumps = partial(_json_text, name)
                batch[name] = [None if value is None else Jsonb(value, dumps=dumps) for value in batch[name]]
            yield from zip(
                numbers[start : start + _BLOCK].tolist(),
                *(batch[name] for name in columns),
                batch["_weight"],
                batch["_elements"],
                vectors[start : start + _BLOCK],
                strict=True,
            )

    copy_rows(connection, names.molecules, types, converted())


def _json_text(column: str, value: Any) -> str:
    """A list or an object as JSON.

    >>> _json_text("x", [1.0, float("nan")])
    Traceback (most recent call last):
    ValueError: the column 'x' has [1.0, nan], which JSON in PostgreSQL cannot hold. Remove it, or write it as text.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):  # dates, bytes, NaN
        text = "\\u0000"
    if "\\u0000" in text:
        raise ValueError(
            f"the column {column!r} has {one_line(value, limit=80)}, which JSON in PostgreSQL cannot hold. "
            "Remove it, or write it as text."
        )
    return text


def add_captions(
    connection: "psycopg.Connection[Any]",
    names: Names,
    numbers: np.ndarray,
    rows: np.ndarray,
    texts: Sequence[str],
    vectors: np.ndarray,
) -> None:
    """Copies captions with their numbers, the numbers of their molecules, and their vectors."""
    types = {"number": "int8", "molecule": "int8", "description": "text", "embedding": "vector"}
    copy_rows(connection, names.captions, types, zip(numbers.tolist(), rows.tolist(), texts, vectors, strict=True))


def copy_rows(
    connection: "psycopg.Connection[Any]",
    table: "sql.Identifier",
    types: Mapping[str, str],
    rows: Iterator[tuple[Any, ...]] | Sequence[tuple[Any, ...]],
) -> None:
    """Copies rows into a table in the binary format.

    Args:
        connection: the connection, in a transaction.
        table: the table.
        types (`dict`): the type of each column.
        rows: the values of the columns.
    """
    from psycopg import sql

    columns = sql.SQL(", ").join(map(sql.Identifier, types))
    statement = sql_of("COPY {} ({}) FROM STDIN (FORMAT BINARY)", table, columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(types.values()))
        for row in rows:
            copy.write_row(row)
