"""Molecules and captions as points of Qdrant, and filters as its conditions."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from class_hf.search.captions import distinct_captions
from class_hf.search.conditions import EXACT, Condition
from class_hf.search.query import MoleculeFilter
from class_hf.search.stores.stored_columns import table_features, with_penalties

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

FORMAT = 1
CAPTIONS, BANK = "_captions", "_bank"  # endings of the names of further collections
# The versions of the index that added and removed a point. A point of the first version has neither.
ADDED, REMOVED = "added", "removed"
_UPLOAD = 512  # points in a request


class QdrantWriter:
    """Fills the collections in steps. See [`~class_hf.search.stores.base.StoreWriter`]."""

    def __init__(
        self, client: "QdrantClient", collection: str, table: Dataset, caption_rows: np.ndarray, is_remote: bool
    ):
        self._client, self._collection, self._table = client, collection, table
        self._caption_rows, self._is_remote = caption_rows, is_remote
        self._captions = distinct_captions(table)[0]

    def add_query_bank(self, vectors: np.ndarray) -> None:
        """Stores the vectors (M, D) of the query bank, so that molecules can be added later."""
        upload(self._client, self._collection + BANK, 0, vectors, ({} for _ in vectors))

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """Stores the vectors (n, D) of the rows from `start`, and their penalties (n,)."""
        rows = np.arange(start, start + len(vectors))
        payloads = molecule_payloads(self._table, rows, rows)
        upload(self._client, self._collection, start, with_penalties(vectors, penalties), payloads)

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """Stores the vectors (n, D) of the captions from `start`."""
        numbers = np.arange(start, start + len(vectors))
        payloads = molecule_payloads(self._table, self._caption_rows[numbers], numbers)
        texts = self._captions[start : start + len(vectors)]
        upload(self._client, self._collection + CAPTIONS, start, vectors, with_captions(payloads, texts))

    def finish(self, config: dict[str, Any]) -> None:
        """Indexes the properties on a server, and writes the settings."""
        if self._is_remote:
            for collection in (self._collection, self._collection + CAPTIONS):
                if self._client.collection_exists(collection):
                    index_payloads(self._client, collection)
        write_config(self._client, self._collection, config, table_features(self._table).to_dict())


def write_config(client: "QdrantClient", collection: str, config: dict[str, Any], features: dict[str, Any]) -> None:
    """Writes the settings of an index, and the types of its columns, into the metadata of the collection."""
    content = {"class_hf": {"format": FORMAT, **config}, "class_hf_features": features}
    client.update_collection(collection, metadata=content)


def index_payloads(client: "QdrantClient", collection: str) -> None:
    """Indexes what filters and changes look for, on a server."""
    from qdrant_client import models

    kind = models.PayloadSchemaType
    kinds = {"weight": kind.FLOAT, "elements": kind.KEYWORD, "id": kind.KEYWORD}
    kinds |= {"number": kind.INTEGER, ADDED: kind.INTEGER, REMOVED: kind.INTEGER}
    for name, schema in kinds.items():
        client.create_payload_index(collection, name, schema, wait=True)


def molecule_payloads(table: Dataset, rows: np.ndarray, numbers: np.ndarray) -> Iterator[dict[str, Any]]:
    """The payloads of rows of a table, with their numbers."""
    fields = [name for name in table.column_names if not name.startswith("_") and name not in ("id", "smiles")]
    for start in range(0, len(rows), _UPLOAD):
        batch = table[rows[start : start + _UPLOAD].tolist()]
        for place, number in enumerate(numbers[start : start + _UPLOAD].tolist()):
            yield {
                "number": number,
                "id": batch["id"][place],
                "smiles": batch["smiles"][place],
                "fields": {name: batch[name][place] for name in fields},
                "weight": batch["_weight"][place],
                "elements": batch["_elements"][place],
            }


def with_captions(payloads: Iterator[dict[str, Any]], captions: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The payloads with each its own caption. A molecule can have several."""
    for payload, caption in zip(payloads, captions, strict=True):
        yield {**payload, "fields": {**payload["fields"], "description": caption}}


def upload(
    client: "QdrantClient",
    collection: str,
    first_point: int,
    vectors: np.ndarray,
    payloads: Iterator[dict[str, Any]],
) -> None:
    """Stores points with increasing ids from `first_point`. Creates the collection if there is none."""
    from qdrant_client import models

    if not client.collection_exists(collection):
        size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
        client.create_collection(collection, vectors_config=size)
    for start in range(0, len(vectors), _UPLOAD):
        points = [
            models.PointStruct(id=first_point + start + place, vector=vector.tolist(), payload=next(payloads))
            for place, vector in enumerate(vectors[start : start + _UPLOAD])
        ]
        client.upsert(collection, points, wait=True)


def as_qdrant_filter(filters: MoleculeFilter | None, version: int | None) -> Any:
    """Weight, elements and comparisons of columns as Qdrant's filter.

    Args:
        filters: the conditions, if any.
        version (`int`, *optional*): only points of this version of the index. Default: all points.

    Returns:
        `qdrant_client.models.Filter`, or None without conditions.
    """
    from qdrant_client import models

    if filters is None and version is None:
        return None

    must: list[Any] = [
        models.FieldCondition(key="elements", match=models.MatchValue(value=symbol))
        for symbol in (filters.elements if filters else None) or ()
    ]
    must_not: list[Any] = []
    if version is not None:
        must_not = [
            models.FieldCondition(key=ADDED, range=models.Range(gt=version)),
            models.FieldCondition(key=REMOVED, range=models.Range(lte=version)),
        ]
    if filters is None:
        return models.Filter(must_not=must_not)
    if filters.min_weight is not None or filters.max_weight is not None:
        must.append(
            models.FieldCondition(key="weight", range=models.Range(gte=filters.min_weight, lte=filters.max_weight))
        )
    for condition in filters.conditions:
        key = condition.column if condition.column in ("id", "smiles") else field_key(condition.column)
        if condition.operator == "!=":
            # A row without a value meets no comparison.
            must_not += [_comparison(key, condition), models.IsEmptyCondition(is_empty=models.PayloadField(key=key))]
        else:
            must.append(_comparison(key, condition))
    return models.Filter(must=must, must_not=must_not)


def check_whole_numbers(filters: MoleculeFilter | None, features: Features | None) -> None:
    """Refuses comparisons that Qdrant rounds: it compares whole numbers as floating-point numbers of 64 bits.

    Args:
        filters: the conditions, if any.
        features: the types of the columns. None if an earlier version built the index, which kept none.

    Raises:
        ValueError: If a column of whole numbers is compared with a number whose absolute value is 2^53 or more.
    """
    for condition in filters.conditions if filters else ():
        value = condition.value
        if isinstance(value, str) or abs(value) < EXACT:
            continue
        if features is None or pa.types.is_integer(features.arrow_schema.field(condition.column).type):
            raise ValueError(
                f"where compares {condition.column!r} with {value}; Qdrant rounds whole numbers of 2^53 or more. Use "
                "another store, or store the column as text and compare it by =."
            )


def field_key(column: str) -> str:
    """The path of a column in a payload.

    Raises:
        ValueError: If Qdrant has no path for its name.

    >>> field_key("vendor name")
    'fields."vendor name"'
    """
    if '"' in column:
        raise ValueError(f"where names the column {column!r}; Qdrant cannot filter by a name with quotes.")
    return f"fields.{column}" if column.isidentifier() else f'fields."{column}"'


def _comparison(key: str, condition: Condition) -> Any:
    """One comparison; `!=` gives its opposite."""
    from qdrant_client import models

    value = condition.value
    if isinstance(value, bool | str):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    names = {"<": ("lt",), "<=": ("lte",), ">": ("gt",), ">=": ("gte",)}.get(condition.operator, ("gte", "lte"))
    return models.FieldCondition(key=key, range=models.Range(**dict.fromkeys(names, value)))
