"""The same index in Qdrant, a vector database: in a process, in a folder, or on a cluster, by its URL."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from class_hf.search.query import MoleculeFilter

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

SCHEME = "qdrant+"
FORMAT = 1
_UPLOAD = 512  # points a request
_CAPTIONS = "_captions"

_FORMS = (
    "'qdrant+http://HOST:6333/COLLECTION' (or https, its key in the variable QDRANT_API_KEY), "
    "'qdrant+path:FOLDER/COLLECTION' or 'qdrant+memory:COLLECTION'"
)


class QdrantStore:
    """Molecules, their vectors and properties as points of a Qdrant collection.

    The molecules are in COLLECTION, the captions, if any, in COLLECTION_captions. A point's payload holds `id`,
    `smiles`, `fields` (further columns), `weight` (Da) and `elements`; the collection's metadata hold the settings of
    the index, written last. Similarity is the dot product of vectors of length 1; under a query bank each vector has
    one number more, the molecule's penalty, which a query takes up or leaves.

    Up to `exact_up_to` molecules the search is exact; above, the server searches its graph (HNSW).

    Args:
        url: one of `qdrant+http://HOST:6333/COLLECTION`, `qdrant+https://...`, `qdrant+path:FOLDER/COLLECTION` (the
            client's local mode) and `qdrant+memory:COLLECTION` (gone with the process).

    Raises:
        ValueError: if the URL has another form, or there is no finished index.
        ImportError: if qdrant-client is not installed.
    """

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
                raise ValueError(f"there is no finished index at {url!r}; build one with recipes/index.py --store.")
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
        """A writer for N molecules. An error removes what was written; until the end nobody can open it.

        Raises:
            FileExistsError: if the collection exists and `overwrite` is not set.
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
        self, side: str, queries: np.ndarray, k: int, filters: MoleculeFilter | None = None, penalised: bool = False
    ) -> list[list[tuple[float, int, dict[str, Any]]]]:
        """As [`FolderStore.nearest`]; of a substructure nothing is looked at."""
        from qdrant_client import models

        if side == "molecule" and self.config["query_bank"] is not None:
            queries = np.concatenate([queries, np.full((len(queries), 1), float(penalised), np.float32)], axis=1)
        params = None  # the local mode is always exact, and warns of parameters
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
            sorted(
                ((point.score, int(point.id), dict(point.payload or {})) for point in one.points),
                key=lambda found: (-found[0], found[1]),
            )
            for one in answers
        ]

    def close(self) -> None:
        """Closes the connection, or unlocks the folder."""
        if self._owned:
            self._client.close()


class QdrantWriter:
    """Fills the collections piece by piece; the arguments are those of [`FolderWriter`]."""

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
        self._fields = [
            name for name in table.column_names if not name.startswith("_") and name not in ("id", "smiles")
        ]

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """(n, D), and (n,) under a query bank: the rows from `start` on."""
        if penalties is not None:
            vectors = np.concatenate([vectors, -penalties[:, None].astype(np.float32)], axis=1)
        self._add(self._collection, start, vectors, range(start, start + len(vectors)))

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """(n, D): the captions from `start` on."""
        rows = self._caption_rows[start : start + len(vectors)].tolist()
        self._add(self._collection + _CAPTIONS, start, vectors, rows)

    def _add(self, collection: str, start: int, vectors: np.ndarray, rows: Sequence[int]) -> None:
        from qdrant_client import models

        if start == 0:
            size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
            self._client.create_collection(collection, vectors_config=size)
        for first in range(0, len(rows), _UPLOAD):
            part = slice(first, first + _UPLOAD)
            batch = self._table[list(rows[part])]
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
        """Indexes the properties, where a server does, and writes the settings."""
        from qdrant_client import models

        if self._remote:
            kinds = {"weight": models.PayloadSchemaType.FLOAT, "elements": models.PayloadSchemaType.KEYWORD}
            for name, kind in kinds.items():
                self._client.create_payload_index(self._collection, name, kind, wait=True)
        self._client.update_collection(self._collection, metadata={"class_hf": {"format": FORMAT, **config}})


def _condition(filters: MoleculeFilter) -> Any:
    """Weight and elements as Qdrant's conditions."""
    from qdrant_client import models

    must: list[Any] = [
        models.FieldCondition(key="elements", match=models.MatchValue(value=symbol))
        for symbol in filters.elements or ()
    ]
    if filters.min_weight is not None or filters.max_weight is not None:
        must.append(
            models.FieldCondition(key="weight", range=models.Range(gte=filters.min_weight, lte=filters.max_weight))
        )
    return models.Filter(must=must)


def _is_remote(url: str) -> bool:
    return url.startswith(SCHEME + "http")


@lru_cache
def _in_memory() -> "QdrantClient":
    from qdrant_client import QdrantClient

    return QdrantClient(":memory:")


def _connect(url: str) -> tuple["QdrantClient", str]:
    """A client and the name of the collection."""
    address, _, collection = url.removeprefix(SCHEME).rpartition("/")
    kind, _, rest = url.removeprefix(SCHEME).partition(":")
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise ImportError("an index in Qdrant needs its client: pip install 'class-hf[qdrant]'.") from error
    if kind == "memory" and rest and "/" not in rest:
        return _in_memory(), rest
    if kind == "path" and address.removeprefix("path:") and collection:
        folder = Path(address.removeprefix("path:"))
        try:
            return QdrantClient(path=str(folder)), collection
        except RuntimeError as error:  # its lock is held
            raise ValueError(f"{str(folder)!r} is in use by another client of Qdrant: {error}") from error
    if kind in ("http", "https") and address.count("/") == 2 and not address.endswith("/") and collection:
        # The key is not part of the URL, which ends up in logs and in shell histories.
        return QdrantClient(
            url=address, api_key=os.environ.get("QDRANT_API_KEY"), check_compatibility=False
        ), collection
    raise ValueError(f"the index {url!r} is no URL of Qdrant; expected {_FORMS}.")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turns the client's errors about the connection into one that names the URL."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise ValueError(f"Qdrant at {url!r} does not answer as expected: {error}") from error
