"""A store in Qdrant, a vector database: in this process, in a folder, or on a server."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, Features

from class_hf.search.query import MoleculeFilter
from class_hf.search.stores.base import Change, Found, hide_password
from class_hf.search.stores.opening import best_first, changed_meanwhile, check_format, no_index
from class_hf.search.stores.qdrant_points import (
    ADDED,
    BANK,
    CAPTIONS,
    FORMAT,
    REMOVED,
    QdrantWriter,
    as_qdrant_filter,
    check_whole_numbers,
    molecule_payloads,
    upload,
    with_captions,
    write_config,
)
from class_hf.search.stores.stored_columns import query_vectors, with_penalties

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

SCHEME = "qdrant+"
_PAGE = 10_000  # points that are read at a time

_FORMS = (
    "'qdrant+http://HOST:6333/COLLECTION' (or https, its key in the variable QDRANT_API_KEY), "
    "'qdrant+path:FOLDER/COLLECTION' or 'qdrant+memory:COLLECTION'"
)


class QdrantStore:
    """Molecules, their vectors and their properties as points of a Qdrant collection.

    The molecules are in COLLECTION, the captions, if any, in COLLECTION_captions, the query bank in COLLECTION_bank.
    The payload of a point has `number`, `id`, `smiles`, `fields` (the further columns), `weight` (Da) and `elements`.
    The metadata of the collection have the settings of the index, written last. Similarity is the dot product of
    L2-normalised vectors. With a query bank, each vector has one number more, the negative penalty. A query has 1 or 0
    there.

    A change adds points of the next version of the index, and marks those that it removes. Searches see the points of
    one version. The last step writes the new version to the metadata, so a killed change has no effect. Points that
    were removed are deleted by the next change.

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
                metadata = self._metadata()
            if "class_hf" not in metadata:
                raise no_index(url)
            self.config: dict[str, Any] = metadata["class_hf"]
            self._features = metadata.get("class_hf_features")
            check_format(url, self.config["format"], FORMAT, self.config["class_hf_version"])
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
        names = (collection, collection + CAPTIONS, collection + BANK)
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
                    yield QdrantWriter(client, collection, table, caption_rows, _is_remote(url))
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
        """As [`~class_hf.search.stores.base.VectorStore.nearest`]. The substructure is ignored here.

        Raises:
            ValueError: If a column of whole numbers is compared with a number that Qdrant rounds.
        """
        from qdrant_client import models

        check_whole_numbers(filters, Features.from_dict(self._features) if self._features else None)

        queries = query_vectors(queries, self.config, side, use_penalties)
        params = None  # the local mode is always exact, and warns about parameters
        if self._remote:
            params = models.SearchParams(exact=self.config["molecules"] <= self.config["exact_up_to"])
        with _reaching(self.url):
            answers = self._client.query_batch_points(
                self.collection + (CAPTIONS if side == "text" else ""),
                [
                    models.QueryRequest(
                        query=query.tolist(),
                        limit=k,
                        filter=as_qdrant_filter(filters, self._version),
                        params=params,
                        with_payload=["number", "id", "smiles", "fields"],
                    )
                    for query in queries
                ],
            )
        return [best_first(map(_found, answer.points)) for answer in answers]

    @property
    def _version(self) -> int | None:
        """The version of the index whose points are visible. None if all points are."""
        # The local mode tests each point in Python, and has no other process that could add points meanwhile.
        return self.config.get("changes", 0) if self._remote or "changes" in self.config else None

    def _metadata(self) -> dict[str, Any]:
        if not self._client.collection_exists(self.collection):
            return {}
        return self._client.get_collection(self.collection).config.metadata or {}

    @property
    def features(self) -> Features:
        """The types of the columns.

        Raises:
            ValueError: If an earlier version built the index.
        """
        if self._features is None:
            raise ValueError("an earlier version built the index, which cannot be changed: build it again.")
        return Features.from_dict(self._features)

    def count(self) -> int:
        """Counts the molecules."""
        with _reaching(self.url):
            return self._client.count(self.collection, as_qdrant_filter(None, self._version), exact=True).count

    def numbers(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of the molecules with the given ids."""
        numbers: dict[str, list[int]] = {}
        ids = list(ids)
        for start in range(0, len(ids), _PAGE):
            for payload in self._payloads(["number", "id"], self._version, "id", ids[start : start + _PAGE]):
                numbers.setdefault(payload["id"], []).append(payload["number"])
        return {row_id: sorted(several) for row_id, several in numbers.items()}

    def read(self, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """As [`~class_hf.search.stores.base.ChangeableStore.read`]."""
        for payload in self._payloads(["number", "id", "smiles", "fields"], self._version):
            row = {"id": payload["id"], "smiles": payload["smiles"], **payload["fields"]}
            yield {"number": [payload["number"]], **{name: [row[name]] for name in columns}}

    def _payloads(
        self, names: Sequence[str] | bool, version: int | None, key: str | None = None, values: Sequence[Any] = ()
    ) -> Iterator[dict[str, Any]]:
        """The payloads of the molecules of a version, optionally of those with one of some values."""
        from qdrant_client import models

        wanted = as_qdrant_filter(None, version) or models.Filter()
        if key is not None:
            wanted.must = [models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))]
        offset: Any = 0
        while offset is not None:
            with _reaching(self.url):
                points, offset = self._client.scroll(
                    self.collection, scroll_filter=wanted, limit=_PAGE, offset=offset, with_payload=names
                )
            yield from (point.payload or {} for point in points)

    def bank(self) -> np.ndarray:
        """The vectors (M, D) of the query bank.

        Raises:
            ValueError: If an earlier version built the index, which then keeps none.
        """
        collection = self.collection + BANK
        vectors: list[Any] = []
        with _reaching(self.url):
            if not self._client.collection_exists(collection):
                raise ValueError("the index keeps no query bank, because an earlier version built it: build it again.")
            offset: Any = 0
            while offset is not None:
                points, offset = self._client.scroll(
                    collection, limit=_PAGE, offset=offset, with_vectors=True, with_payload=False
                )
                vectors += [point.vector for point in points]
        return np.array(vectors, np.float32)

    def require_current(self) -> None:
        """As [`~class_hf.search.stores.base.ChangeableStore.require_current`]."""
        with _reaching(self.url):
            current = self._metadata()["class_hf"]
        if current.get("changes", 0) != self.config.get("changes", 0):
            raise changed_meanwhile(self.url)

    def change(self, change: Change) -> None:
        """As [`~class_hf.search.stores.base.ChangeableStore.change`].

        Qdrant has no lock: one process may change an index at a time.

        Raises:
            ValueError: If another process has changed the index since it was opened.
        """
        version = self.config.get("changes", 0)
        features = self.features.to_dict()
        client, molecules, captions = self._client, self.collection, self.collection + CAPTIONS
        with _reaching(self.url):
            self.require_current()
            # From here on, searches look at the versions of the points.
            self.config = {**self.config, "changes": version}
            write_config(client, molecules, self.config, features)
            for collection in (molecules, captions):
                self._remove_other_versions(collection, version)
            first = self.config.get("next_point", max(self.config["molecules"], self.config["captions"]))
            self._mark_removed(molecules, "number", change.removed.tolist(), version)
            self._mark_removed(captions, "fields.description", change.removed_captions, version)
            if change.table is not None:
                payloads = molecule_payloads(change.table, np.arange(len(change.numbers)), change.numbers)
                vectors = with_penalties(change.vectors, change.penalties)
                upload(client, molecules, first, vectors, _added(payloads, version + 1))
            if change.captions:
                rows = change.caption_rows.tolist()
                payloads = self._payloads(True, version + 1, "number", sorted(set(rows)))
                found = {payload["number"]: payload for payload in payloads}
                numbers = change.caption_numbers.tolist()
                payloads = ({**found[row], "number": number} for row, number in zip(rows, numbers, strict=True))
                payloads = _added(with_captions(payloads, change.captions), version + 1)
                upload(client, captions, first, change.caption_vectors, payloads)
            config = {name: value for name, value in change.config.items() if name != "format"}
            config["next_point"] = first + max(len(change.numbers), len(change.captions))
            write_config(client, molecules, config, features)
        self.config = {"format": FORMAT, **config}

    def _remove_other_versions(self, collection: str, version: int) -> None:
        """Deletes the points that no search of a version sees, and marks of a killed change."""
        from qdrant_client import models

        client = self._client
        if not client.collection_exists(collection):
            return
        killed = models.FieldCondition(key=ADDED, range=models.Range(gt=version))
        removed = models.FieldCondition(key=REMOVED, range=models.Range(lte=version))
        client.delete(collection, models.FilterSelector(filter=models.Filter(should=[killed, removed])), wait=True)
        marked = models.FieldCondition(key=REMOVED, range=models.Range(gt=version))
        client.delete_payload(collection, [REMOVED], models.Filter(must=[marked]), wait=True)

    def _mark_removed(self, collection: str, key: str, values: Sequence[Any], version: int) -> None:
        from qdrant_client import models

        visible = as_qdrant_filter(None, version)
        for start in range(0, len(values), _PAGE):
            match = models.MatchAny(any=list(values[start : start + _PAGE]))
            wanted = models.Filter(
                must=[models.FieldCondition(key=key, match=match)], must_not=visible.must_not if visible else None
            )
            self._client.set_payload(collection, {REMOVED: version + 1}, wanted, wait=True)

    def close(self) -> None:
        """Closes the connection, or unlocks the folder."""
        if self._owned:
            self._client.close()


def _found(point: Any) -> Found:
    """A point of an answer."""
    payload = point.payload or {}
    number = payload.get("number", int(point.id))  # an earlier version stored none
    return Found(point.score, number, payload["id"], payload["smiles"], payload["fields"])


def _added(payloads: Iterator[dict[str, Any]], version: int) -> Iterator[dict[str, Any]]:
    """The payloads of points that a version adds."""
    return ({**payload, ADDED: version} for payload in payloads)


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
        try:
            key = os.environ.get("QDRANT_API_KEY")
            return QdrantClient(url=address, api_key=key, check_compatibility=False), collection
        except ValueError:  # the client's reason would print a password
            raise ValueError(f"the index {hide_password(url)!r} is not a URL of Qdrant; expected {_FORMS}.") from None
    raise ValueError(f"the index {hide_password(url)!r} is not a URL of Qdrant; expected {_FORMS}.")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turns the client's errors about the connection into one that names the URL."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise ValueError(f"Qdrant at {hide_password(url)!r} does not answer as expected: {error}") from error
