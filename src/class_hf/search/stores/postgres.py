"""A store in PostgreSQL, with pgvector and RDKit's cartridge."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from class_hf.search.conditions import exact_comparison
from class_hf.search.query import MoleculeFilter
from class_hf.search.stores.base import Change, Found
from class_hf.search.stores.opening import best_first, changed_meanwhile, check_format, no_index
from class_hf.search.stores.postgres_connection import (
    check_free,
    connect,
    create_extensions,
    exists,
    prepare,
    read_identity,
    read_settings,
    replace,
    reporting,
)
from class_hf.search.stores.postgres_tables import (
    FORMAT,
    Names,
    PostgresWriter,
    add_captions,
    add_molecules,
    distance_operator,
    set_effort,
    sql_of,
)
from class_hf.search.stores.stored_columns import query_vectors, with_penalties
from class_hf.search.substructure import out_of_time

_PAGE = 10_000  # rows that are read at a time


class PostgresStore:
    """Molecules, their vectors and their properties in tables of PostgreSQL.

    | table | columns |
    |---|---|
    | TABLE | `number`, the columns, `weight` (Da), `elements`, `mol` (from `smiles`), `embedding` |
    | TABLE`_captions` | `number`, `molecule` (its number), `description`, `embedding` |
    | TABLE`_bank` | `embedding` of each caption of the query bank |
    | TABLE`_settings` | one row: settings of the index |

    A build is one transaction, and so is a change. A search with a substructure is
    `WHERE mol @> PATTERN ORDER BY embedding <=> QUERY`. With up to `exact_up_to` molecules the search is exact. With
    more, it searches a graph (HNSW), with iterative scans. If that finds fewer than k hits, the search is repeated
    exactly.

    Args:
        url (`str`): `postgresql://[USER@]HOST[:PORT]/DATABASE/[SCHEMA.]TABLE`, with parameters of libpq after `?`. A
            password in it is neither stored nor printed. The variable `PGPASSWORD` and the file `~/.pgpass` are read.

    Raises:
        ValueError: If the server cannot be reached, or there is no complete index.
        ImportError: If psycopg is not installed.
    """

    keeps_further_captions = True
    exact_up_to = 10_000

    def __init__(self, url: str):
        self.url = url
        self._is_closed = False
        self._lock = Lock()
        self._connection, table = connect(url)
        try:
            self._names = Names.of(table)
            with reporting(url):
                content = read_settings(self._connection, self._names)
                if content is None:
                    raise no_index(url)
                check_format(url, content["format"], FORMAT, content["config"]["class_hf_version"])
                prepare(self._connection)
                self._identity = read_identity(self._connection, self._names)
        except BaseException:
            self._connection.close()
            raise
        self._content = content
        self.config: dict[str, Any] = content["config"]
        self._features = Features.from_dict(content["features"])
        self._columns: dict[str, str] = content["names"]
        self.matches_substructures: bool = content["has_cartridge"]

    @staticmethod
    def check_location(url: str, overwrite: bool = False) -> None:
        """Checks that an index may be written, before any work. Raises the errors of [`create`]."""
        connection, table = connect(url)
        with connection, reporting(url):
            check_free(connection, table, overwrite)

    @classmethod
    @contextmanager
    def create(
        cls, url: str, table: Dataset, dimension: int, caption_rows: np.ndarray, overwrite: bool = False
    ) -> Iterator[PostgresWriter]:
        """As [`~class_hf.search.stores.base.VectorStore.create`]. It is one transaction.

        Raises:
            FileExistsError: If there is a table of this name, and `overwrite` is not set or it is no index.
        """
        connection, name = connect(url)
        with connection, reporting(url):
            check_free(connection, name, overwrite)
            has_cartridge = create_extensions(connection, url)
            is_replaced = exists(connection, name)
            # Searches read the old tables until the transaction ends.
            names = Names.of((*name[:-1], name[-1] + "_new") if is_replaced else name)
            with connection.transaction():
                yield PostgresWriter(connection, names, table, dimension, caption_rows, has_cartridge)
                if is_replaced:
                    replace(connection, names, Names.of(name), name)

    def nearest(
        self,
        side: str,
        queries: np.ndarray,
        k: int,
        filters: MoleculeFilter | None = None,
        use_penalties: bool = False,
    ) -> list[list[Found]]:
        """As [`~class_hf.search.stores.base.VectorStore.nearest`]. The cartridge matches the substructure here.

        Raises:
            TimeoutError: If the substructure takes longer than its limit.
        """
        statement, values = self._statement(side, filters)
        results = []
        for query in query_vectors(queries, self.config, side, use_penalties):
            with self._transaction(filters):
                rows: list[Any] = []
                for effort in [self.config.get("effort"), None] if "effort" in self.config else [None]:
                    set_effort(self._connection, effort)
                    rows = self._connection.execute(statement, [query, *values, query, k]).fetchall()
                    if len(rows) >= k:
                        break
            results.append(best_first(map(self._record, rows)))
        return results

    @contextmanager
    def _transaction(self, filters: MoleculeFilter | None = None) -> Iterator[None]:
        """One transaction at a time, because threads share the connection.

        Raises:
            ValueError: If the server cannot be reached, or another index has replaced this one.
        """
        import psycopg

        with self._lock, self._reconnected(), self._connection.transaction():
            if read_identity(self._connection, self._names) not in (self._identity, None):
                raise changed_meanwhile(self.url)
            has_limit = filters is not None and filters.substructure is not None
            if filters is not None and has_limit:
                milliseconds = str(max(int(1000 * filters.time_limit), 1))
                self._connection.execute("SELECT set_config('statement_timeout', %s, true)", [milliseconds])
            try:
                yield
            except psycopg.errors.QueryCanceled:
                if filters is None or not has_limit:
                    raise
                raise out_of_time("substructure", str(filters.substructure), filters.time_limit) from None

    @contextmanager
    def _reconnected(self) -> Iterator[None]:
        """Reports errors of the server, after a new connection if the server has ended the old one."""
        if self._connection.closed and not self._is_closed:
            connection = connect(self.url)[0]
            with reporting(self.url):
                prepare(connection)
            self._connection = connection
        with reporting(self.url):
            yield

    def _statement(self, side: str, filters: MoleculeFilter | None) -> tuple[Any, list[Any]]:
        """The search, with a place for the query, the values, the query again and k."""
        from psycopg import sql

        columns = sql.SQL(", ").join(sql.Identifier("m", stored) for stored in self._columns.values())
        if side == "text":
            return sql_of(
                "SELECT c.distance, c.number, c.description, {} FROM (SELECT number, molecule, description, "
                "embedding <=> %s AS distance FROM {} ORDER BY embedding <=> %s LIMIT %s) AS c JOIN {} AS m "
                "ON m.number = c.molecule",
                columns,
                self._names.captions,
                self._names.molecules,
            ), []
        parts, values = self._conditions(filters)
        where = sql_of("WHERE {}", sql.SQL(" AND ").join(parts)) if parts else sql.SQL("")
        operator = sql.SQL(distance_operator(self.config["query_bank"] is not None))
        # A graph gives the order of the distances alone. Without one, equal distances are in the order of the numbers.
        order = sql.SQL("" if "effort" in self.config else ", number")
        return sql_of(
            "SELECT embedding {} %s, number, NULL, {} FROM {} AS m {} ORDER BY embedding {} %s{} LIMIT %s",
            operator,
            columns,
            self._names.molecules,
            where,
            operator,
            order,
        ), values

    def _conditions(self, filters: MoleculeFilter | None) -> tuple[list[Any], list[Any]]:
        """The conditions of a filter, and their values."""
        from psycopg import sql

        if filters is None:
            return [], []
        conditions: list[tuple[Any, Any]] = []
        if filters.min_weight is not None:
            conditions.append((sql.SQL("weight >= %s"), filters.min_weight))
        if filters.max_weight is not None:
            conditions.append((sql.SQL("weight <= %s"), filters.max_weight))
        if filters.elements:
            conditions.append((sql.SQL("elements @> %s"), list(filters.elements)))
        if filters.substructure is not None and self.matches_substructures:
            conditions.append((sql.SQL("mol @> %s::qmol"), filters.substructure.split()[0]))
        for condition in filters.conditions:
            column = sql.Identifier(self._columns[condition.column])
            kind = self._features.arrow_schema.field(condition.column).type
            name = condition.operator
            value: float | bool | str | None = condition.value
            if pa.types.is_integer(kind):
                name, value = exact_comparison(condition, kind)
                if value is None:
                    conditions.append((sql_of("{} IS NOT NULL AND %s", column), name == "!="))
                    continue
            conditions.append((sql_of("{} {} %s", column, sql.SQL({"!=": "<>"}.get(name, name))), value))
            if condition.operator in (">", ">=") and pa.types.is_floating(kind):
                conditions.append((sql_of("{} <> %s", column), float("nan")))  # NaN is the largest number there
        return [part for part, _ in conditions], [value for _, value in conditions]

    def _record(self, row: Sequence[Any]) -> Found:
        distance, number, caption, *values = row
        columns = dict(zip(self._columns, values, strict=True))
        if caption is not None:
            columns["description"] = caption
        # The cosine distance is 1 minus the cosine. The other distance is the negative dot product.
        is_dot = caption is None and self.config["query_bank"] is not None
        return Found(-distance if is_dot else 1 - distance, number, columns.pop("id"), columns.pop("smiles"), columns)

    @property
    def features(self) -> Features:
        """The types of the columns."""
        return self._features

    def count(self) -> int:
        """Counts the molecules."""
        with self._transaction():
            row = self._connection.execute(sql_of("SELECT count(*) FROM {}", self._names.molecules)).fetchone()
        assert row is not None
        return row[0]

    def numbers(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of the molecules with the given ids."""
        numbers: dict[str, list[int]] = {}
        statement = sql_of("SELECT id, number FROM {} WHERE id = ANY(%s) ORDER BY number", self._names.molecules)
        with self._transaction():
            for row_id, number in self._connection.execute(statement, [list(ids)]):
                numbers.setdefault(row_id, []).append(number)
        return numbers

    def read(self, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """As [`~class_hf.search.stores.base.ChangeableStore.read`]."""
        from psycopg import sql

        stored = sql.SQL(", ").join(sql.Identifier(self._columns[name]) for name in columns)
        statement = sql_of(
            f"SELECT number, {{}} FROM {{}} WHERE number > %s ORDER BY number LIMIT {_PAGE}",
            stored,
            self._names.molecules,
        )
        last = -1
        while True:
            with self._transaction():
                rows = self._connection.execute(statement, [last]).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield dict(zip(("number", *columns), map(list, zip(*rows, strict=True)), strict=True))

    def bank(self) -> np.ndarray:
        """The vectors (M, D) of the query bank."""
        with self._transaction():
            rows = self._connection.execute(
                sql_of("SELECT embedding FROM {} ORDER BY number", self._names.bank)
            ).fetchall()
        return np.array([row[0].to_list() for row in rows], np.float32)

    def require_current(self) -> None:
        """As [`~class_hf.search.stores.base.ChangeableStore.require_current`]."""
        with self._transaction():
            self._require_current(read_settings(self._connection, self._names))

    def _require_current(self, content: dict[str, Any] | None) -> None:
        if content is None or content["config"].get("changes", 0) != self.config.get("changes", 0):
            raise changed_meanwhile(self.url)

    def change(self, change: Change) -> None:
        """As [`~class_hf.search.stores.base.ChangeableStore.change`]. It is one transaction.

        Raises:
            ValueError: If another process changes the index, or has changed it since it was opened.
        """
        names, connection = self._names, self._connection
        content = {**self._content, "config": change.config}
        with self._transaction():
            self._require_current(read_settings(connection, names, lock=True))
            connection.execute(
                sql_of("DELETE FROM {} WHERE number = ANY(%s)", names.molecules), [change.removed.tolist()]
            )
            if change.table is not None:
                rows, vectors = np.arange(len(change.numbers)), with_penalties(change.vectors, change.penalties)
                add_molecules(
                    connection, names, change.table, rows, change.numbers, vectors, self._features, self._columns
                )
            connection.execute(
                sql_of("DELETE FROM {} WHERE description = ANY(%s)", names.captions), [change.removed_captions]
            )
            add_captions(
                connection, names, change.caption_numbers, change.caption_rows, change.captions, change.caption_vectors
            )
            connection.execute(sql_of("UPDATE {} SET settings = %s", names.settings), [json.dumps(content)])
        self._content, self.config = content, change.config

    def close(self) -> None:
        """Closes the connection."""
        self._is_closed = True
        self._connection.close()
