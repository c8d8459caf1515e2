"""Checked searches, and how several of them are answered together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol

import numpy as np

from class_hf.search.query import MAX_SMILES, Hit, MoleculeFilter, check_description, check_notation
from class_hf.search.stores.base import Found, VectorStore
from class_hf.search.substructure import check_smiles, first_matches, has_stereo, out_of_time, requirements


class QueryEncoder(Protocol):
    """What turns queries into vectors: an [`~class_hf.search.encoder.IndexEncoder`], or a lighter one."""

    def embed_queries(self, side: str, queries: Sequence[str]) -> np.ndarray:
        """Embeds descriptions (`side="text"`) or SMILES (`side="molecule"`): (B, D) `float32`."""


@dataclass(frozen=True)
class Queries:
    """Checked queries, from [`check_queries`].

    Attributes:
        side (`str`): what the queries are: `"text"` or `"molecule"`.
        texts (tuple of `str`): the queries.
    """

    side: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class SearchRequest(Queries):
    """A checked search, from [`~class_hf.search.index.MoleculeIndex.request`].

    Attributes:
        side, texts: As in [`Queries`].
        wanted (`str`): what is searched: `"molecule"`, or `"text"` for captions.
        k (`int`): number of hits of each query.
        filters (`MoleculeFilter`, *optional*): conditions on the molecules.
        use_penalties (`bool`): whether the penalties of the query bank are subtracted.
    """

    wanted: str
    k: int
    filters: MoleculeFilter | None = None
    use_penalties: bool = False

    @property
    def has_substructure(self) -> bool:
        """Whether hits must match a substructure. Such a search can take seconds, in a process of its own."""
        return self.filters is not None and self.filters.substructure is not None


def check_queries(side: str, queries: Any) -> Queries:
    """Checks queries.

    Args:
        side (`str`): `"text"` or `"molecule"`.
        queries (`str` or list of `str`): the queries.

    Returns:
        [`Queries`] without white space at their ends.

    Raises:
        ValueError: If one is malformed, or there is none.

    >>> check_queries("text", " an ester ").texts
    ('an ester',)
    """
    several = [queries] if isinstance(queries, str) else queries
    if not isinstance(several, list | tuple) or not several:
        raise ValueError(f"the queries are {several!r}; expected a string or a list of strings.")
    if side == "text":
        texts = (check_description(text, "text") for text in several)
        return Queries(side, tuple(texts))
    checked = tuple(check_notation(text, "smiles", MAX_SMILES, "a SMILES such as 'CCO'") for text in several)
    check_smiles(checked)
    return Queries(side, checked)


def encode_queries(encoder: QueryEncoder, requests: Sequence[Queries]) -> list[np.ndarray]:
    """Embeds the queries of several searches, those of a side together. Equal queries are embedded once.

    Args:
        encoder: the model of the index.
        requests: the queries of each search.

    Returns:
        For each search the vectors (B, D) `float32` of its B queries.
    """
    vectors: dict[tuple[str, str], np.ndarray] = {}
    for side in dict.fromkeys(request.side for request in requests):
        texts = list(dict.fromkeys(text for request in requests if request.side == side for text in request.texts))
        vectors.update(zip(((side, text) for text in texts), encoder.embed_queries(side, texts), strict=True))
    return [np.stack([vectors[request.side, text] for text in request.texts]) for request in requests]


def find_hits(
    store: VectorStore, requests: Sequence[SearchRequest], vectors: Sequence[np.ndarray]
) -> list[list[list[Hit]]]:
    """Finds the hits of several searches. Searches with equal settings ask the store together.

    Args:
        store: the store.
        requests: the searches.
        vectors: from [`encode_queries`].

    Returns:
        For each search a list of hits for each of its queries.
    """
    results: list[list[list[Found]]] = [[] for _ in requests]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, request in enumerate(requests):
        if request.has_substructure:
            results[place] = [_with_substructure(store, vector, request) for vector in vectors[place]]
        else:
            settings = (request.wanted, request.k, request.filters, request.use_penalties)
            groups.setdefault(settings, []).append(place)
    for (wanted, k, filters, use_penalties), places in groups.items():
        together = np.concatenate([vectors[place] for place in places])
        answers = iter(store.nearest(wanted, together, k, filters, use_penalties))
        for place in places:
            results[place] = [next(answers) for _ in requests[place].texts]
    return [[_hits(result, request.filters) for result in results[place]] for place, request in enumerate(requests)]


def _with_substructure(store: VectorStore, vector: np.ndarray, request: SearchRequest) -> list[Found]:
    """Tries the candidates in the order of their scores until k match or none is left."""
    filters, k = request.filters, request.k
    assert filters is not None
    end = monotonic() + filters.time_limit
    smarts = filters.substructure or ""
    elements = requirements(smarts, filters.time_limit)[1]
    is_matched = getattr(store, "matches_substructures", False)
    if is_matched and not (filters.use_stereo and has_stereo(smarts)):
        return store.nearest("molecule", vector[None], k, filters, request.use_penalties)[0]
    filters = replace(filters, elements=(*(filters.elements or ()), *elements))
    matching: list[Found] = []
    tried: set[int] = set()
    count = k if is_matched else max(4 * k, 256)
    while True:
        ranked = store.nearest("molecule", vector[None], count, filters, request.use_penalties)[0]
        fresh = [found for found in ranked if found.number not in tried]
        if fresh:
            remaining = max(end - monotonic(), 0.001)
            smiles = [found.smiles for found in fresh]
            try:
                places = first_matches(smarts, smiles, k - len(matching), remaining, filters.use_stereo)
            except TimeoutError:
                raise out_of_time("substructure", smarts, filters.time_limit) from None  # not what remained of it
            matching += [fresh[place] for place in places]
        if len(matching) >= k or len(ranked) < count:
            return matching
        tried.update(found.number for found in ranked)
        count *= 8


def _hits(result: Sequence[Found], filters: MoleculeFilter | None) -> list[Hit]:
    """The results that reach the smallest score, with their ranks."""
    least = filters.min_score if filters is not None and filters.min_score is not None else float("-inf")
    return [
        Hit(rank, found.score, found.id, found.smiles, found.fields)
        for rank, found in enumerate(result, start=1)
        if found.score >= least
    ]
