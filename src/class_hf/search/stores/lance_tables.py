"""The tables of an index in LanceDB: how they are filled and indexed."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from class_hf.search.captions import distinct_captions
from class_hf.search.stores.stored_columns import arrow_blocks, stored_names, table_features, with_penalties
from class_hf.search.vector_search import VectorSample, measure_recall

if TYPE_CHECKING:
    import lancedb

FORMAT = 1
MOLECULES, CAPTIONS, BANK, SETTINGS = "molecules", "captions", "bank", "settings"
# Numbers of partitions that are probed, and candidates per hit whose scores are computed exactly.
EFFORTS = (5, 10, 20, 40, 80, 160)
REFINE = 4
_TAKEN = ("number", "weight", "elements", "pattern", "vector", "_distance")
_INDEX = "vector_idx"


class LanceWriter:
    """Fills the tables in steps. See [`~class_hf.search.stores.base.StoreWriter`]."""

    def __init__(
        self,
        database: "lancedb.DBConnection",
        table: Dataset,
        dimension: int,
        caption_rows: np.ndarray,
        is_new: bool = True,
    ):
        self._database, self._table, self._caption_rows = database, table, caption_rows
        self._is_new = is_new
        self._features = table_features(table)
        self._names = stored_names(self._features, _TAKEN)
        self._captions = distinct_captions(table)[0]
        self._sample = VectorSample(len(table))
        self._tables: dict[str, Any] = {}

    def add_query_bank(self, vectors: np.ndarray) -> None:
        """Stores the vectors (M, D) of the query bank, so that molecules can be added later."""
        self._tables[BANK] = _new_table(self._database, BANK, pa.table({"vector": vector_column(vectors)}))

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """Stores the vectors (n, D) of the rows from `start`, and their penalties (n,)."""
        if not len(vectors):
            return
        numbers = np.arange(start, start + len(vectors))
        self._sample.add(start, with_penalties(vectors, penalties))
        if MOLECULES not in self._tables:
            dimension = vectors.shape[1] + (penalties is not None)
            schema = molecule_schema(self._features, self._names, dimension)
            self._tables[MOLECULES] = _new_table(self._database, MOLECULES, schema.empty_table())
        add_molecules(self._tables[MOLECULES], self._table, numbers, numbers, vectors, penalties, self._names)

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """Stores the vectors (n, D) of the captions from `start`."""
        numbers = np.arange(start, start + len(vectors))
        texts = self._captions[start : start + len(vectors)]
        rows = self._caption_rows[numbers]
        self._tables[CAPTIONS] = add_captions(
            self._database, self._tables.get(CAPTIONS), numbers, rows, texts, vectors
        )

    def finish(self, config: dict[str, Any]) -> None:
        """Compacts and indexes the tables, measures the recall, and writes the settings."""
        from lancedb.index import BTree, IvfSq, LabelList

        molecules = self._tables[MOLECULES]
        for column in ("number", "id", "weight"):
            molecules.create_index(column, config=BTree())
        molecules.create_index("elements", config=LabelList())
        if len(self._table) > config["exact_up_to"]:
            molecules.create_index("vector", config=IvfSq(distance_type="dot"))
        # Compacted rows are stored twice until earlier versions are deleted. No search reads those of a new index.
        keep = timedelta(milliseconds=1) if self._is_new else None
        for table in self._tables.values():
            table.optimize(cleanup_older_than=keep)
        if len(self._table) > config["exact_up_to"]:
            queries = self._sample.vectors()

            def search(effort: int | None) -> list[list[int]]:
                return [nearest_numbers(molecules, query, 11, effort) for query in queries]

            config.update(measure_recall(search, self._sample.rows.tolist(), EFFORTS))
        write_settings(self._database, config, self._features, self._names, self._tables)


def nearest_numbers(table: Any, query: np.ndarray, k: int, effort: int | None) -> list[int]:
    """The numbers of the k nearest molecules of a query, with an effort, or exactly for None."""
    search = vector_query(table, query, k, ["number"], effort)
    return search.to_arrow()["number"].to_pylist()


def vector_query(table: Any, query: np.ndarray, k: int, columns: Sequence[str], effort: int | None) -> Any:
    """A search for the k largest dot products. `_distance` is 1 minus the product."""
    search = table.search(query, vector_column_name="vector").distance_type("dot").limit(k)
    search = search.select([*columns, "_distance"])
    return search.bypass_vector_index() if effort is None else search.nprobes(effort).refine_factor(REFINE)


def molecule_schema(features: Features, names: Mapping[str, str], dimension: int) -> pa.Schema:
    """The columns of the table of molecules."""
    arrow = features.arrow_schema
    fields = [pa.field("number", pa.int64())]
    fields += [pa.field(stored, arrow.field(name).type) for name, stored in names.items()]
    fields += [pa.field("weight", pa.float64()), pa.field("elements", pa.list_(pa.string()))]
    return pa.schema(
        [*fields, pa.field("pattern", pa.binary(256)), pa.field("vector", pa.list_(pa.float32(), dimension))]
    )


def add_molecules(
    lance: Any,
    table: Dataset,
    rows: np.ndarray,
    numbers: np.ndarray,
    vectors: np.ndarray,
    penalties: np.ndarray | None,
    names: Mapping[str, str],
) -> None:
    """Adds rows of a table with their numbers, vectors and penalties in one commit."""
    vectors = with_penalties(vectors, penalties)
    schema = lance.schema
    batches = []
    for places, block in arrow_blocks(table, rows):
        columns: dict[str, Any] = {stored: block[name] for name, stored in names.items()}
        columns["number"] = pa.array(numbers[places], pa.int64())
        columns["weight"], columns["elements"] = block["_weight"], block["_elements"]
        columns["pattern"] = block["_pattern"].cast(pa.binary(256))
        columns["vector"] = vector_column(vectors[places])
        batches.append(pa.table([_one_chunk(columns[name]) for name in schema.names], schema=schema))
    lance.add(pa.concat_tables(batches))


def add_captions(
    database: "lancedb.DBConnection",
    lance: Any,
    numbers: np.ndarray,
    rows: np.ndarray,
    texts: Sequence[str],
    vectors: np.ndarray,
) -> Any:
    """Adds captions to their table, which is created if it is None. Gives the table."""
    content = pa.table(
        {
            "number": pa.array(numbers, pa.int64()),
            "molecule": pa.array(rows, pa.int64()),
            "description": pa.array(texts, pa.string()),
            "vector": vector_column(vectors),
        }
    )
    if lance is None:
        return _new_table(database, CAPTIONS, content)
    lance.add(content)
    return lance


def index_new_vectors(table: Any, largest_share: float) -> None:
    """Adds new vectors to the vector index if more than a share of all vectors is not in it."""
    statistics = table.index_stats(_INDEX)
    if statistics is None:  # the search is exact
        return
    if statistics.num_unindexed_rows > largest_share * (statistics.num_indexed_rows + statistics.num_unindexed_rows):
        table.optimize()


def write_settings(
    database: "lancedb.DBConnection",
    config: Mapping[str, Any],
    features: Features,
    names: Mapping[str, str],
    tables: Mapping[str, Any],
) -> None:
    """Writes the settings and the versions of the tables in one commit."""
    content = {
        "format": FORMAT,
        "config": dict(config),
        "features": features.to_dict(),
        "names": dict(names),
        "versions": {name: table.version for name, table in tables.items()},
    }
    row = pa.table({"settings": [json.dumps(content)]})
    _new_table(database, SETTINGS, row)


def _new_table(database: "lancedb.DBConnection", name: str, content: pa.Table) -> Any:
    """Creates a table, or a new version of an existing one, whose earlier versions stay."""
    exists = name in database.list_tables().tables
    return database.create_table(name, content, mode="overwrite" if exists else "create")


def vector_column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """Vectors (n, D) as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), vectors.shape[1])


def _one_chunk(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
