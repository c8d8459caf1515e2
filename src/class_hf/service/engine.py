"""Answers requests: quick ones in batches, slow ones in threads of their own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from class_hf.search.index import MoleculeIndex
from class_hf.search.query import Hit
from class_hf.search.requests import (
    Queries,
    QueryEncoder,
    SearchRequest,
    check_queries,
    encode_queries,
    find_hits,
)
from class_hf.search.substructure import PARSED_HERE
from class_hf.service.batching import Batcher
from class_hf.service.metrics import ServiceMetrics
from class_hf.service.schemas import CaptionsBody, SearchBody
from class_hf.service.settings import ServiceSettings

_SLOW_THREADS = 2
# Characters of the queries that are encoded at once. A usual batch has fewer. Molecules with hundreds of rings take up
# to half a second each, and work that no client waits for ends after this part of it.
_PART = 8_000


class ServiceEngine:
    """An index with its model, as the service uses it.

    Queries of requests that arrive together are encoded in one batch, and searched together if their settings are
    equal. Substructures and long SMILES are matched and parsed in processes, which takes longer. Such requests have a
    queue of their own, so that the others do not wait for them.

    Args:
        index: the index. Its model is loaded here.
        settings: the limits.
        metrics: counts the batches.

    Raises:
        ValueError: If the model cannot be loaded, or did not make the index.
    """

    def __init__(self, index: MoleculeIndex, settings: ServiceSettings, metrics: ServiceMetrics):
        self.index, self.settings, self.metrics = index, settings, metrics
        self._encoder = index.encoder()
        waiting = settings.max_waiting
        self._quick: Batcher[Queries, Any] = Batcher(self._run, settings.max_batch, waiting)
        self._slow: Batcher[Any, Any] = Batcher(
            lambda jobs, check: [job(check) for job in jobs], 1, waiting, _SLOW_THREADS
        )

    @property
    def waiting(self) -> int:
        """Number of queries that wait."""
        return self._quick.waiting + self._slow.waiting

    async def search(self, body: SearchBody) -> list[list[Hit]]:
        """The hits of each query.

        Raises:
            ValueError: If the request is malformed.
            TimeoutError: If the substructure takes longer than its limit.
            QueueIsFull: If too many queries wait.
        """
        queries = body.text if body.text is not None else body.smiles
        count = self._check_size(queries, body.k)
        filters = None if body.filters is None else body.filters.to_filter(self.settings.substructure_time_limit)

        def request() -> SearchRequest:
            return self.index.request(
                body.text, smiles=body.smiles, k=body.k, filters=filters, query_bank=body.query_bank
            )

        if (filters is not None and filters.substructure is not None) or _has_long(body.smiles):
            return await self._slow.submit(lambda check: self._answer(request(), check), count)
        return await self._quick.submit(request(), count)

    async def captions(self, body: CaptionsBody) -> list[list[Hit]]:
        """The captions of each molecule. Raises the errors of [`search`]."""
        count = self._check_size(body.smiles, body.k)
        if _has_long(body.smiles):
            job = self.index.captions_request
            return await self._slow.submit(lambda check: self._answer(job(body.smiles, body.k), check), count)
        return await self._quick.submit(self.index.captions_request(body.smiles, body.k), count)

    async def embed(self, side: str, texts: list[str]) -> np.ndarray:
        """The vectors (B, D) of texts or molecules. Raises the errors of [`search`]."""
        count = self._check_size(texts, 1)
        if side == "molecule" and _has_long(texts):
            queries = await self._slow.submit(lambda check: check_queries(side, texts), count)
        else:
            queries = check_queries(side, texts)
        return await self._quick.submit(queries, count)

    def close(self) -> None:
        """Ends the threads, and closes the index."""
        self._quick.close()
        self._slow.close()
        self.index.close()

    def _check_size(self, queries: str | list[str] | None, k: int) -> int:
        """The number of queries, if it is allowed."""
        count = len(queries) if isinstance(queries, list) else 1
        limits = self.settings
        if count > limits.max_queries:
            raise ValueError(f"the request has {count:,} queries; the limit is {limits.max_queries:,}.")
        if k > limits.max_k:
            raise ValueError(f"k is {k:,}; the limit of this service is {limits.max_k:,}.")
        if count * k > limits.max_hits:
            raise ValueError(f"{count:,} queries of {k:,} hits; the limit is {limits.max_hits:,} hits per request.")
        return count

    def _answer(self, request: SearchRequest, check: Callable[[], None]) -> list[list[Hit]]:
        """The hits of one request."""
        vectors = encode_queries(_InParts(self._encoder, check), [request])
        return find_hits(self.index.store, [request], vectors)[0]

    def _run(self, jobs: Sequence[Queries], check: Callable[[], None]) -> list[Any]:
        """Vectors or hits of each job."""
        self.metrics.observe_batch(sum(len(job.texts) for job in jobs))
        results: list[Any] = list(encode_queries(_InParts(self._encoder, check), jobs))
        places = [place for place, job in enumerate(jobs) if isinstance(job, SearchRequest)]
        searches = [job for job in jobs if isinstance(job, SearchRequest)]
        try:
            found = find_hits(self.index.store, searches, [results[place] for place in places])
        except ValueError as error:
            # The requests were checked, so the store is at fault.
            raise RuntimeError("the store cannot be searched") from error
        for place, hits in zip(places, found, strict=True):
            results[place] = hits
        return results


class _InParts:
    """Encodes queries in parts, with a check before each."""

    def __init__(self, encoder: QueryEncoder, check: Callable[[], None]):
        self.encoder, self.check = encoder, check

    def embed_queries(self, side: str, queries: Sequence[str]) -> np.ndarray:
        """(B, D) `float32`."""
        parts: list[list[str]] = []
        room = 0
        for query in queries:
            room -= len(query)
            if room < 0:
                parts.append([])
                room = _PART - len(query)
            parts[-1].append(query)
        vectors = []
        for part in parts:
            self.check()
            vectors.append(self.encoder.embed_queries(side, part))
        return np.concatenate(vectors)


def _has_long(smiles: str | list[str] | None) -> bool:
    """Whether a SMILES is parsed in a process of its own."""
    several = [smiles] if isinstance(smiles, str) else smiles or []
    return any(len(text) > PARSED_HERE for text in several)
