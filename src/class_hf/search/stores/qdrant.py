"""A store in Qdrant, a vector database: in this process, in a folder, or on a server."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from class_hf.search.captions import distinct_captions
from class_hf.search.conditions import Condition
from class_hf.search.query import MoleculeFilter
from class_hf.search.stores.base import Found

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

SCHEME = "qdrant+"
FORMAT = 1
_UPLOAD = 512  # points in a request
_CAPTIONS = "_captions"

_FORMS = (
    "'qdrant+http://HOST:6333/COLLECTION' (or https, its key in the variable QDRANT_API_KEY), "
    "'qdrant+path:FOLDER/COLLECTION' or 'qdrant+memory:COLLECTION'"
)


class QdrantStore:
    """Molecules, their vectors and their properties as points of a Qdrant collection.

    The molecules are in COLLECTION, the captions, if any, in COLLECTION_captions. The payload of a point has `id`,
    `smiles`, `fields` (the further columns), `weight` (Da) and `elements`. The metadata of the collection have the
    settings of the index, written last. Similarity is the dot product of L2-normalised vectors. With a query bank,
    each vector has one number more, the negative penalty. A query has 1 or 0 there.

    With up to `exact_up_to` molecules the search is exact. With more, a server searches its graph (HNSW).

    Args:
        url (`str`): one of

            - `qdrant+http://HOST:6333/COLLECTION`, or with `https`: a server. Its key is in `QDRANT_API_KEY`;
            - `qdrant+path:FOLDER/COLLECTION`: a folder, in the local mode of the client;
            - `qdrant+memory:COLLECTION`: the memory of this process.

    Raises:
        ValueError: If the URL has another form, or there is no complete index.
        ImportError: If qdrant-client is not installed.
    """

    keeps_further_captions = True

    def __init__(self, url: str):
        self.url = url
        self._client, self.collection = _connect(url)
        self._owned = not url.startswith(SCHEME + "memory:")
        self._remote = _is_remote(url)
        try:
            with _reaching(url):
                found = self._client.collection_exists(self.collection)
                config = self._client.get_collection(self.collection).config.metadata if found else None
            if not config or "class_hf" not in config:
                raise ValueError(f"there is no complete index at {url!r}; build one with `class-hf index --store`.")
            self.config: dict[str, Any] = config["class_hf"]
            if self.config["format"] > FORMAT:
                raise ValueError(
                    f"the index at {url!r} has format {self.config['format']}, this version of class_hf reads up to "
                    f"{FORMAT}. Install class_hf {self.config['class_hf_version']} or later."
                )
        except ValueError:
            self.close()
            raise

    @classmethod
    @contextmanager
    def create(
        cls, url: str, table: Dataset, dimension: int, caption_rows: np.ndarray, overwrite: bool = False
    ) -> Iterator["QdrantWriter"]:
        """As [`~class_hf.search.stores.base.VectorStore.create`]. An error removes what was written.

        Raises:
            FileExistsError: If the collection exists and `overwrite` is not set.
        """
        client, collection = _connect(url)
        names = (collection, collection + _CAPTIONS)
        try:
            with _reaching(url):
                for name in names:
                    if client.collection_exists(name):
                        if not overwrite:
                            raise FileExistsError(
                                f"the collection {name!r} exists. Choose another name, or pass --overwrite."
                            )
                        client.delete_collection(name)
                try:
                    yield QdrantWriter(client, collection, table, dimension, caption_rows, _is_remote(url))
                except BaseException:
                    for name in names:
                        client.delete_collection(name)
                    raise
        finally:
            if not url.startswith(SCHEME + "memory:"):
                client.close()

    def nearest(
        self,
        side: str,
        queries: np.ndarray,
        k: int,
        filters: MoleculeFilter | None = None,
        use_penalties: bool = False,
    ) -> list[list[Found]]:
        """As [`~class_hf.search.stores.base.VectorStore.nearest`]. The substructure is ignored here."""
        from qdrant_client import models

        if side == "molecule" and self.config["query_bank"] is not None:
            queries = np.concatenate([queries, np.full((len(queries), 1), float(use_penalties), np.float32)], axis=1)
        params = None  # the local mode is always exact, and warns about parameters
        if self._remote:
            params = models.SearchParams(exact=self.config["molecules"] <= self.config["exact_up_to"])
        with _reaching(self.url):
            answers = self._client.query_batch_points(
                self.collection + (_CAPTIONS if side == "text" else ""),
                [
                    models.QueryRequest(
                        query=query.tolist(),
                        limit=k,
                        filter=_condition(filters) if filters else None,
                        params=params,
                        with_payload=["id", "smiles", "fields"],
                    )
                    for query in queries
                ],
            )
        # Equal scores in the order of the rows, as in a folder.
        return [
            sorted((_found(point) for point in answer.points), key=lambda found: (-found.score, found.number))
            for answer in answers
        ]

    def close(self) -> None:
        """Closes the connection, or unlocks the folder."""
        if self._owned:
            self._client.close()


class QdrantWriter:
    """Fills the collections in steps. See [`~class_hf.search.stores.base.StoreWriter`]."""

    def __init__(
        self,
        client: "QdrantClient",
        collection: str,
        table: Dataset,
        dimension: int,
        caption_rows: np.ndarray,
        remote: bool,
    ):
        self._client, self._collection, self._table = client, collection, table
        self._dimension, self._caption_rows, self._remote = dimension, caption_rows, remote
        self._captions = distinct_captions(table)[0]
        self._fields = [
            name for name in table.column_names if not name.startswith("_") and name not in ("id", "smiles")
        ]

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """Stores the vectors (n, D) of the rows from `start`, and their penalties (n,)."""
        if penalties is not None:
            vectors = np.concatenate([vectors, -penalties[:, None].astype(np.float32)], axis=1)
        self._add(self._collection, start, vectors, range(start, start + len(vectors)))

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """Stores the vectors (n, D) of the captions from `start`."""
        rows = self._caption_rows[start : start + len(vectors)].tolist()
        texts = self._captions[start : start + len(vectors)]
        self._add(self._collection + _CAPTIONS, start, vectors, rows, texts)

    def _add(
        self,
        collection: str,
        start: int,
        vectors: np.ndarray,
        rows: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> None:
        from qdrant_client import models

        if start == 0:
            size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
            self._client.create_collection(collection, vectors_config=size)
        for first in range(0, len(rows), _UPLOAD):
            part = slice(first, first + _UPLOAD)
            batch = self._table[list(rows[part])]
            if captions is not None:  # a molecule can have several; each point has its own
                batch["description"] = captions[part]
            points = [
                models.PointStruct(
                    id=start + first + place,
                    vector=vector.tolist(),
                    payload={
                        "id": batch["id"][place],
                        "smiles": batch["smiles"][place],
                        "fields": {name: batch[name][place] for name in self._fields},
                        "weight": batch["_weight"][place],
                        "elements": batch["_elements"][place],
                    },
                )
                for place, vector in enumerate(vectors[part])
            ]
            self._client.upsert(collection, points, wait=True)

    def finish(self, config: dict[str, Any]) -> None:
        """Indexes the properties on a server, and writes the settings."""
        from qdrant_client import models

        if self._remote:
            kinds = {"weight": models.PayloadSchemaType.FLOAT, "elements": models.PayloadSchemaType.KEYWORD}
            for name, kind in kinds.items():
                self._client.create_payload_index(self._collection, name, kind, wait=True)
        self._client.update_collection(self._collection, metadata={"class_hf": {"format": FORMAT, **config}})


def _found(point: Any) -> Found:
    """A point of an answer."""
    payload = point.payload or {}
    return Found(point.score, int(point.id), payload["id"], payload["smiles"], payload["fields"])


def _condition(filters: MoleculeFilter) -> Any:
    """Weight, elements and comparisons of columns as Qdrant's conditions."""
    from qdrant_client import models

    must: list[Any] = [
        models.FieldCondition(key="elements", match=models.MatchValue(value=symbol))
        for symbol in filters.elements or ()
    ]
    must_not: list[Any] = []
    if filters.min_weight is not None or filters.max_weight is not None:
        must.append(
            models.FieldCondition(key="weight", range=models.Range(gte=filters.min_weight, lte=filters.max_weight))
        )
    for condition in filters.conditions:
        key = condition.column if condition.column in ("id", "smiles") else f"fields.{condition.column}"
        if condition.operator == "!=":
            # A row without a value meets no comparison.
            must_not += [_comparison(key, condition), models.IsEmptyCondition(is_empty=models.PayloadField(key=key))]
        else:
            must.append(_comparison(key, condition))
    return models.Filter(must=must, must_not=must_not)


def _comparison(key: str, condition: Condition) -> Any:
    """One comparison; `!=` gives its opposite."""
    from qdrant_client import models

    value = condition.value
    if isinstance(value, bool | str):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    names = {"<": ("lt",), "<=": ("lte",), ">": ("gt",), ">=": ("gte",)}.get(condition.operator, ("gte", "lte"))
    return models.FieldCondition(key=key, range=models.Range(**dict.fromkeys(names, value)))


def _is_remote(url: str) -> bool:
    return url.startswith(SCHEME + "http")


@lru_cache
def _in_memory() -> "QdrantClient":
    from qdrant_client import QdrantClient

    return QdrantClient(":memory:")


def _connect(url: str) -> tuple["QdrantClient", str]:
    """Connects to a URL. Returns a client and the name of the collection."""
    address, _, collection = url.removeprefix(SCHEME).rpartition("/")
    kind, _, rest = url.removeprefix(SCHEME).partition(":")
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise ImportError('an index in Qdrant needs its client: pip install "class-hf[qdrant]".') from error
    if kind == "memory" and rest and "/" not in rest:
        return _in_memory(), rest
    if kind == "path" and address.removeprefix("path:") and collection:
        folder = Path(address.removeprefix("path:"))
        try:
            return QdrantClient(path=str(folder)), collection
        except RuntimeError as error:  # its lock is held
            raise ValueError(f"{str(folder)!r} is in use by another client of Qdrant: {error}") from error
    if kind in ("http", "https") and address.count("/") == 2 and not address.endswith("/") and collection:
        # The key is not part of the URL, because URLs end up in logs and shell histories.
        return QdrantClient(
            url=address, api_key=os.environ.get("QDRANT_API_KEY"), check_compatibility=False
        ), collection
    raise ValueError(f"the index {url!r} is not a URL of Qdrant; expected {_FORMS}.")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turns the client's errors about the connection into one that names the URL."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise ValueError(f"Qdrant at {url!r} does not answer as expected: {error}") from error
