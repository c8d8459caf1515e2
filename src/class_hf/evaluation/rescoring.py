"""Ranks the first candidates again, by a score that is too dear for a whole pool.

Vectors recall: they order the pool by one product. The model's own score of single pairs then orders the first k
anew. Whatever lies further behind keeps its place, so only queries whose partner is among the first k need it at all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

States = Mapping[str, torch.Tensor]
# Float32 scores of one pair, met in different blocks, differ by less; scores of different pairs hardly ever do.
_TIE = 1e-5
# As in `ranks.py`, of float64 similarities.
_SAME = 1e-12


def shortlist(
    queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor, k: int, block_size: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """The first k candidates of each query whose true one is among them, by cosine in float64.

    Candidates that tie with the k-th come along: which of two equal candidates is in must not depend on their order.

    Args:
        queries: (Q, D); candidates (P, D).
        gold: (Q,) the row of each query's true candidate.
        k: candidates a query, at least 1; more than P is P.
        block_size: memory is its square.

    Returns:
        the query and the candidate of each of N pairs, (N,) and (N,) int64.

    Example:

    >>> shortlist(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), k=1)
    (array([0, 1]), array([0, 1]))
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1 candidate to rank again.")
    queries, candidates = (F.normalize(one.double(), dim=-1) for one in (queries, candidates))
    rows, columns = [], []
    lines = max(16, block_size**2 // len(candidates))
    for top in range(0, len(queries), lines):
        part = slice(top, top + lines)
        block = queries[part] @ candidates.T
        least = block.topk(min(k, len(candidates)), dim=1).values[:, -1:] - _SAME
        inside = (block >= least) & (block.gather(1, gold[part, None]) >= least)
        row, column = inside.nonzero(as_tuple=True)
        rows.append(row + top)
        columns.append(column)
    return torch.cat(rows).cpu().numpy(), torch.cat(columns).cpu().numpy()


def rank_again(
    ranks: np.ndarray, queries: np.ndarray, candidates: np.ndarray, scores: np.ndarray, gold: np.ndarray
) -> np.ndarray:
    """Ranks after the shortlists were put in the order of the scores; ties get their mean rank.

    Args:
        ranks: (Q,) from 1, before; kept where a query has no shortlist.
        queries, candidates: (N,) what [`shortlist`] gave.
        scores: (N,) of those pairs.
        gold: (Q,) the row of each query's true candidate.

    Returns:
        (Q,) float64.

    Example:

    >>> first, second = np.array([0, 0]), np.array([0, 1])
    >>> rank_again(np.array([1.0, 9.0]), first, second, np.array([0.2, 0.3]), gold=np.array([0, 5])).tolist()
    [2.0, 9.0]
    """
    true = np.full(len(ranks), np.nan)
    own = candidates == gold[queries]
    true[queries[own]] = scores[own]
    gaps = scores - true[queries]
    above = np.bincount(queries, gaps > _TIE, len(ranks))
    equal = np.bincount(queries, np.abs(gaps) <= _TIE, len(ranks))  # the true one among them
    return np.where(equal > 0, above + (equal + 1) / 2, ranks)


class Pool(NamedTuple):
    """Candidates of Q queries."""

    embeds: torch.Tensor  # (P, D)
    gold: torch.Tensor  # (Q,) the row of each query's true candidate
    rows: torch.Tensor  # (P,) what the candidates are called when they are scored


def rescore(
    ranks: Sequence[np.ndarray],
    queries: torch.Tensor,
    query_rows: torch.Tensor,
    pools: Sequence[Pool],
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    k: int,
    block_size: int = 512,
) -> list[np.ndarray]:
    """Ranks of Q queries in several pools, with the first k candidates of each pool in the order of their scores.

    Args:
        ranks: (Q,) a pool, by the vectors.
        queries: (Q, D); query_rows (Q,) what they are called when they are scored.
        pools: the candidates, whose pairs with the queries are scored together.
        score: names of queries and of candidates, (N,) each, to scores (N,).
        k: candidates a query and pool.
        block_size: as of [`shortlist`].

    Returns:
        (Q,) float64 a pool.
    """
    lists = [shortlist(queries, pool.embeds, pool.gold, k, block_size) for pool in pools]
    scores = score(
        np.concatenate([query_rows.numpy()[query] for query, _ in lists]),
        np.concatenate([pool.rows.numpy()[candidate] for pool, (_, candidate) in zip(pools, lists, strict=True)]),
    )
    parts = np.split(scores, np.cumsum([len(query) for query, _ in lists])[:-1])
    return [
        rank_again(before, *listed, part, pool.gold.numpy())
        for before, listed, part, pool in zip(ranks, lists, parts, pools, strict=True)
    ]


def score_pairs(
    score: Callable[[States, States, torch.Tensor, torch.Tensor], torch.Tensor],
    outer: Callable[[np.ndarray], States],
    inner: Callable[[np.ndarray], States],
    outer_rows: np.ndarray,
    inner_rows: np.ndarray,
    batch_size: int = 256,
    held_batches: int | None = None,
) -> np.ndarray:
    """Scores of N pairs, whose members' states exist a few batches at a time.

    The outer members are encoded once and held, `held_batches` batches of them at a time; past each such group the
    inner members that it is paired with are streamed, one batch at a time.

    Args:
        score: states of both, and rows (n,) in each, to n scores.
        outer, inner: encode members, given by their rows.
        outer_rows, inner_rows: (N,) the members of each pair; a pair that occurs twice is scored once.
        batch_size: members encoded at once.
        held_batches: batches of outer members held at a time; None holds all.

    Returns:
        (N,) float64.
    """
    pairs, places = np.unique(np.stack([outer_rows, inner_rows]), axis=1, return_inverse=True)
    scores = np.full(pairs.shape[1], np.nan)
    members = np.unique(pairs[0])
    group_size = batch_size * held_batches if held_batches is not None else max(len(members), 1)
    for group in _cut(members, group_size):
        held = [(part, outer(part)) for part in _cut(group, batch_size)]
        mine = np.flatnonzero((pairs[0] >= group[0]) & (pairs[0] <= group[-1]))
        for batch in _cut(np.unique(pairs[1, mine]), batch_size):
            states = inner(batch)
            now = mine[(pairs[1, mine] >= batch[0]) & (pairs[1, mine] <= batch[-1])]
            for part, held_states in held:
                both = now[(pairs[0, now] >= part[0]) & (pairs[0, now] <= part[-1])]
                if len(both):
                    rows = (np.searchsorted(part, pairs[0, both]), np.searchsorted(batch, pairs[1, both]))
                    device = next(iter(states.values())).device
                    found = score(held_states, states, *(torch.from_numpy(row).to(device) for row in rows))
                    scores[both] = found.double().cpu().numpy()
    return scores[places.reshape(-1)]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Ascending rows in parts of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def check_rescoring(model: Any) -> None:
    """Refuses a model without a score of single pairs, before anything is embedded."""
    if not hasattr(model, "fine_scores"):
        raise ValueError(
            f"{type(model).__name__} has no fine_scores(texts, molecules, text_rows, molecule_rows) to rank "
            "candidates again by: leave rescore_top_k out. Of this package's models OrmaModel has it."
        )
