"""A store in LanceDB: tables in a folder or in object storage, with versions."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from class_hf.search.conditions import Condition, exact_comparison
from class_hf.search.query import MoleculeFilter
from class_hf.search.stores.base import Change, Found, hide_password, upper_bound
from class_hf.search.stores.lance_tables import (
    BANK,
    CAPTIONS,
    FORMAT,
    MOLECULES,
    SETTINGS,
    LanceWriter,
    add_captions,
    add_molecules,
    index_new_vectors,
    vector_query,
    write_settings,
)
from class_hf.search.stores.opening import best_first, changed_meanwhile, check_format, no_index
from class_hf.search.stores.stored_columns import query_vectors
from class_hf.search.substructure import requirements
from class_hf.utils.files import file_lock
from class_hf.utils.messages import one_line

if TYPE_CHECKING:
    import lancedb

SCHEME = "lance:"
_LOCK = ".lock"
_CHUNK = 5_000  # numbers or texts in a condition
# With more molecules than this that can have a substructure, the k best of all are tried without this condition.
_MOST_CANDIDATES = 20_000
# Rows that are not in the vector index are compared exactly. From this share on, they are added to the index.
_UNINDEXED = 0.05


class LanceStore:
    """Molecules, their vectors and their properties as tables of LanceDB.

    | table | columns |
    |---|---|
    | `molecules` | `number`, the columns, `weight` (Da), `elements`, `pattern` (a fingerprint), `vector` |
    | `captions` | `number`, `molecule` (its number), `description`, `vector` |
    | `bank` | `vector` of each caption of the query bank |
    | `settings` | one row: settings of the index, and the versions of the other tables |

    Writing the settings is the last step of a build or a change, and one commit. A search reads the versions of the
    tables that the settings name, so a killed process leaves the old or the new index. LanceDB keeps earlier versions
    for seven days.

    With up to `exact_up_to` molecules the search is exact. With more, it probes partitions of an index (IVF) with
    numbers of 8 bits, and computes the scores of the best candidates exactly.

    Args:
        location (`str`): `lance:FOLDER`, or `lance:URL` for object storage, such as `lance:s3://BUCKET/index`.

    Raises:
        ValueError: If there is no complete index, or a later version wrote it.
        ImportError: If LanceDB is not installed.
    """

    keeps_further_captions = True
    exact_up_to = 50_000

    def __init__(self, location: str):
        self.location = location
        self._database, self._folder = _connect(location)
        self._read_settings()

    def _read_settings(self) -> None:
        content = _settings(self._database)
        if content is None:
            raise no_index(self.location)
        check_format(self.location, content["format"], FORMAT, content["config"]["class_hf_version"])
        self.config: dict[str, Any] = content["config"]
        self._features = Features.from_dict(content["features"])
        self._names: dict[str, str] = content["names"]
        self._versions: dict[str, int] = content["versions"]
        self._tables = {name: self._open(name) for name in self._versions}

    def _open(self, name: str) -> Any:
        table = self._database.open_table(name)
        table.checkout(self._versions[name])
        return table

    @staticmethod
    def check_location(location: str, overwrite: bool = False) -> None:
        """Checks that an index may be written, before any work. Raises the errors of [`create`]."""
        database, folder = _connect(location)
        shown = hide_password(location)
        if _settings(database) is not None:
            if not overwrite:
                raise FileExistsError(f"there is an index at {shown!r}. Choose another name, or pass --overwrite.")
        elif folder is not None and folder.exists():
            ours = {f"{name}.lance" for name in (MOLECULES, CAPTIONS, BANK, SETTINGS)} | {_LOCK}
            if not folder.is_dir() or any(path.name not in ours for path in folder.iterdir()):
                raise FileExistsError(f"{str(folder)!r} is not empty, and holds no index. Choose another folder.")

    @classmethod
    @contextmanager
    def create(
        cls, location: str, table: Dataset, dimension: int, caption_rows: np.ndarray, overwrite: bool = False
    ) -> Iterator[LanceWriter]:
        """As [`~class_hf.search.stores.base.VectorStore.create`]. An index that is replaced can be opened until then.

        Raises:
            FileExistsError: If there is an index and `overwrite` is not set, or the folder holds other files.
        """
        cls.check_location(location, overwrite)
        database, folder = _connect(location)
        with _locked(location, folder):
            is_new = _settings(database) is None
            try:
                yield LanceWriter(database, table, dimension, caption_rows, is_new)
            except BaseException:
                if is_new:
                    for name in (MOLECULES, CAPTIONS, BANK):
                        database.drop_table(name, ignore_missing=True)
                raise

    def nearest(
        self,
        side: str,
        queries: np.ndarray,
        k: int,
        filters: MoleculeFilter | None = None,
        use_penalties: bool = False,
    ) -> list[list[Found]]:
        """As [`~class_hf.search.stores.base.VectorStore.nearest`].

        Of a substructure it uses the fingerprint only: all molecules that match are candidates, and some that do not.
        """
        name = MOLECULES if side == "molecule" else CAPTIONS
        where = self._where(filters) if filters else None
        effort = self._effort(where)
        results = []
        for query in query_vectors(queries, self.config, side, use_penalties):
            rows = self._search(name, query, k, where, effort)
            if len(rows) < k and effort is not None:  # too few in the partitions that were probed
                rows = self._search(name, query, k, where, None)
            results.append(self._found(rows) if side == "molecule" else self._found_captions(rows))
        return results

    def _effort(self, where: str | None) -> int | None:
        """The number of partitions to probe, or None for an exact search."""
        effort = self.config.get("effort")
        if effort is None or where is None:
            return effort
        # The partitions hold fewer candidates with a filter. A few candidates are compared exactly.
        matching = self._tables[MOLECULES].count_rows(where)
        if matching <= self.config["exact_up_to"]:
            return None
        return -(-effort * self.config["molecules"] // matching)

    def _search(self, name: str, query: np.ndarray, k: int, where: str | None, effort: int | None) -> Any:
        columns = [*self._names.values(), "number"] if name == MOLECULES else ["number", "molecule", "description"]
        # Captions have no index: there are few of them, compared with the molecules of a large index.
        search = vector_query(self._tables[name], query, k, columns, effort if name == MOLECULES else None)
        return (search.where(where, prefilter=True) if where else search).to_list()

    def _found(self, rows: Sequence[dict[str, Any]]) -> list[Found]:
        return best_first(self._record(1 - row["_distance"], row["number"], row) for row in rows)

    def _record(self, score: float, number: int, row: dict[str, Any]) -> Found:
        fields = {name: row[stored] for name, stored in self._names.items() if name not in ("id", "smiles")}
        return Found(score, number, row["id"], row["smiles"], fields)

    def _found_captions(self, rows: Sequence[dict[str, Any]]) -> list[Found]:
        numbers = sorted({row["molecule"] for row in rows})
        molecules = {row["number"]: row for row in self._rows(MOLECULES, "number", numbers)}
        found = []
        for row in rows:
            record = self._record(1 - row["_distance"], row["number"], molecules[row["molecule"]])
            found.append(record._replace(fields={**record.fields, "description": row["description"]}))
        return best_first(found)

    def _rows(self, name: str, column: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """The rows of a table in which a column has one of some values, without vectors."""
        table = self._tables[name]
        columns = [field for field in table.schema.names if field not in ("vector", "pattern")]
        for condition in _one_of(column, values):
            yield from table.search().where(condition).select(columns).limit(None).to_list()

    def _where(self, filters: MoleculeFilter) -> str | None:
        """The filter as a condition of SQL."""
        parts = []
        if filters.min_weight is not None:
            parts.append(f"weight >= {filters.min_weight!r}")
        if filters.max_weight is not None:
            parts.append(f"weight <= {upper_bound(filters)!r}")
        if filters.elements:
            parts.append(f"array_has_all(elements, [{', '.join(map(_literal, filters.elements))}])")
        for condition in filters.conditions:
            parts += self._comparison(condition)
        where = " AND ".join(parts) or None
        if filters.substructure is not None:
            pattern = np.frombuffer(requirements(filters.substructure, filters.time_limit)[0], np.uint64)
            numbers = self._with_pattern(pattern, where)
            if numbers is not None:
                return f"number IN ({', '.join(map(str, numbers))})" if numbers else "number < 0"
        return where

    def _comparison(self, condition: Condition) -> list[str]:
        """A comparison of a column in SQL."""
        kind = self._features.arrow_schema.field(condition.column).type
        column, value = f"`{self._names[condition.column]}`", condition.value
        operator = condition.operator
        if pa.types.is_integer(kind):
            operator, number = exact_comparison(condition, kind)
            if number is None:
                return [f"{column} IS NOT NULL"] + ["false"] * (operator == "=")
            value = number
        elif isinstance(value, float | int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(value, float) and not pa.types.is_float64(kind):
            column = f"CAST({column} AS DOUBLE)"  # Lance compares values of one type only
        parts = [f"{column} {operator} {_literal(value)}"]
        if condition.operator in (">", ">=") and pa.types.is_floating(kind):
            parts.append(f"NOT isnan({column})")  # NaN is the largest number there
        return parts

    def _with_pattern(self, pattern: np.ndarray, where: str | None) -> list[int] | None:
        """The numbers of the molecules whose fingerprint has all bits of a pattern. None for very many."""
        search = self._tables[MOLECULES].search().select(["number", "pattern"]).limit(None)
        if where:
            search = search.where(where)
        numbers: list[int] = []
        words = np.flatnonzero(pattern)
        for batch in search.to_batches():
            content = np.frombuffer(batch.column("pattern").buffers()[1], np.uint64).reshape(-1, len(pattern))
            offset = batch.column("pattern").offset
            rows = content[offset : offset + batch.num_rows][:, words]
            passing = ((rows & pattern[words]) == pattern[words]).all(axis=1)
            numbers += batch.column("number").to_numpy()[passing].tolist()
            if len(numbers) > _MOST_CANDIDATES:
                return None
        return numbers

    @property
    def features(self) -> Features:
        """The types of the columns."""
        return self._features

    def count(self) -> int:
        """Counts the molecules."""
        return self._tables[MOLECULES].count_rows()

    def numbers(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of the molecules with the given ids."""
        numbers: dict[str, list[int]] = {}
        for row in self._rows(MOLECULES, "id", list(ids)):
            numbers.setdefault(row["id"], []).append(row["number"])
        return {row_id: sorted(several) for row_id, several in numbers.items()}

    def read(self, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """As [`~class_hf.search.stores.base.ChangeableStore.read`]."""
        stored = [self._names[name] for name in columns]
        for batch in self._tables[MOLECULES].search().select(["number", *stored]).limit(None).to_batches():
            values = batch.to_pydict()
            yield {"number": values["number"], **{name: values[self._names[name]] for name in columns}}

    def bank(self) -> np.ndarray:
        """The vectors (M, D) of the query bank."""
        column = self._tables[BANK].to_arrow()["vector"].combine_chunks()
        return column.flatten().to_numpy().reshape(len(column), -1)

    def require_current(self) -> None:
        """As [`~class_hf.search.stores.base.ChangeableStore.require_current`]."""
        content = _settings(self._database)
        if content is None or content["versions"] != self._versions:
            raise changed_meanwhile(self.location)

    def change(self, change: Change) -> None:
        """As [`~class_hf.search.stores.base.ChangeableStore.change`].

        A folder is locked meanwhile. In object storage one process may change an index at a time.

        Raises:
            ValueError: If another process changes the index, or has changed it since it was opened.
        """
        with _locked(self.location, self._folder):
            self.require_current()
            tables = {name: self._latest(name) for name in self._versions}
            molecules = tables[MOLECULES]
            for condition in _one_of("number", change.removed.tolist()):
                molecules.delete(condition)
            if change.table is not None:
                rows = np.arange(len(change.numbers))
                add_molecules(
                    molecules, change.table, rows, change.numbers, change.vectors, change.penalties, self._names
                )
            if CAPTIONS in tables:
                for condition in _one_of("description", change.removed_captions):
                    tables[CAPTIONS].delete(condition)
            if change.captions:
                tables[CAPTIONS] = add_captions(
                    self._database,
                    tables.get(CAPTIONS),
                    change.caption_numbers,
                    change.caption_rows,
                    change.captions,
                    change.caption_vectors,
                )
            index_new_vectors(molecules, _UNINDEXED)
            write_settings(self._database, change.config, self._features, self._names, tables)
        self._read_settings()

    def _latest(self, name: str) -> Any:
        """A table to be changed. What a killed change has written to it is undone."""
        table = self._database.open_table(name)
        if table.version != self._versions[name]:
            table.checkout(self._versions[name])
            table.restore()
        return table

    def close(self) -> None:
        """Does nothing: LanceDB holds no lock and no connection."""


def _connect(location: str) -> tuple["lancedb.DBConnection", Path | None]:
    """Opens a database. Gives its folder, or None in object storage."""
    try:
        import lancedb
    except ImportError as error:
        raise ImportError('an index in LanceDB needs the package lancedb: pip install "class-hf[lance]".') from error
    place = location.removeprefix(SCHEME)
    if not place.strip():
        raise ValueError(f"the index {location!r} has no folder; expected lance:FOLDER or lance:s3://BUCKET/index.")
    folder = None if "://" in place else Path(place)
    try:
        if folder is not None and folder.is_file():
            raise ValueError("it is a file; expected a folder")
        return lancedb.connect(place), folder
    except Exception as error:  # of the storage
        reason = one_line(error, limit=200)
        raise ValueError(f"{hide_password(location)!r} cannot be opened: {reason}.") from error


def _settings(database: "lancedb.DBConnection") -> dict[str, Any] | None:
    """The settings of an index. None if there is no complete one."""
    try:
        table = database.open_table(SETTINGS)
    except ValueError:  # it does not exist
        return None
    return json.loads(table.to_arrow()["settings"][0].as_py())


def _locked(location: str, folder: Path | None) -> AbstractContextManager[None]:
    """Refuses a second process that writes to a folder."""
    if folder is None:
        return nullcontext()
    folder.mkdir(parents=True, exist_ok=True)
    return file_lock(folder / _LOCK, f"another process changes the index {location!r}; try again later.")


def _literal(value: float | bool | str) -> str:
    """A value in SQL."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if value in (float("inf"), float("-inf")):
        return f"CAST('{value}' AS DOUBLE)"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _one_of(column: str, values: Sequence[int | str]) -> Iterator[str]:
    """Conditions that a column has one of the values, each with a part of them."""
    for start in range(0, len(values), _CHUNK):
        yield f"{column} IN ({', '.join(map(_literal, values[start : start + _CHUNK]))})"
