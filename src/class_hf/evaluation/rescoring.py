"""Re-ranks the first candidates by a pair score that is too expensive for a whole pool.

Cosines order the pool by one product. The pair score of the model then orders the first k candidates. Candidates after
these keep their rank, so only queries whose true candidate is among the first k are scored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from class_hf.evaluation.ranks import TIE_TOLERANCE

States = Mapping[str, torch.Tensor]
# Float32 scores of the same pair in different batches differ by less than this.
_SCORE_TOLERANCE = 1e-5


def shortlist(
    queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor, k: int, block_size: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """Selects the first k candidates of each query whose true candidate is among them, by cosine in float64.

    Candidates that are tied with the k-th are included, so the selection does not depend on their order.

    Args:
        queries (`torch.Tensor`): (Q, D) embeddings.
        candidates (`torch.Tensor`): (P, D) embeddings.
        gold (`torch.Tensor`): (Q,) the row of the true candidate of each query.
        k (`int`): candidates per query, at least 1. A k greater than P selects all.
        block_size (`int`, *optional*, defaults to 512): memory is the square of it.

    Returns:
        The query and the candidate of each of N pairs, (N,) and (N,) int64.

    Raises:
        ValueError: if k is less than 1.

    Example:

    >>> shortlist(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), k=1)
    (array([0, 1]), array([0, 1]))
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1 candidate to re-rank.")
    queries, candidates = (F.normalize(vectors.double(), dim=-1) for vectors in (queries, candidates))
    rows, columns = [], []
    lines = max(16, block_size**2 // len(candidates))
    for top in range(0, len(queries), lines):
        part = slice(top, top + lines)
        block = queries[part] @ candidates.T
        least = block.topk(min(k, len(candidates)), dim=1).values[:, -1:] - TIE_TOLERANCE
        inside = (block >= least) & (block.gather(1, gold[part, None]) >= least)
        row, column = inside.nonzero(as_tuple=True)
        rows.append(row + top)
        columns.append(column)
    return torch.cat(rows).cpu().numpy(), torch.cat(columns).cpu().numpy()


def rerank(
    ranks: np.ndarray, queries: np.ndarray, candidates: np.ndarray, scores: np.ndarray, gold: np.ndarray
) -> np.ndarray:
    """Computes the ranks after the shortlists are ordered by their scores. Ties get their mean rank.

    Args:
        ranks (`np.ndarray`): (Q,) the ranks before. A query without a shortlist keeps its rank.
        queries (`np.ndarray`): (N,) the query of each pair, as returned by [`shortlist`].
        candidates (`np.ndarray`): (N,) the candidate of each pair.
        scores (`np.ndarray`): (N,) the score of each pair.
        gold (`np.ndarray`): (Q,) the row of the true candidate of each query.

    Returns:
        (Q,) float64 ranks.

    Example:

    >>> queries, candidates = np.array([0, 0]), np.array([0, 1])
    >>> rerank(np.array([1.0, 9.0]), queries, candidates, np.array([0.2, 0.3]), gold=np.array([0, 5])).tolist()
    [2.0, 9.0]
    """
    true = np.full(len(ranks), np.nan)
    is_true = candidates == gold[queries]
    true[queries[is_true]] = scores[is_true]
    gaps = scores - true[queries]
    above = np.bincount(queries, gaps > _SCORE_TOLERANCE, len(ranks))
    tied = np.bincount(queries, np.abs(gaps) <= _SCORE_TOLERANCE, len(ranks))  # includes the true candidate
    return np.where(tied > 0, above + (tied + 1) / 2, ranks)


class Pool(NamedTuple):
    """The candidates of Q queries.

    Attributes:
        embeds: (P, D) embeddings of the candidates.
        gold: (Q,) the row of the true candidate of each query.
        rows: (P,) the row by which the scoring function knows each candidate.
    """

    embeds: torch.Tensor
    gold: torch.Tensor
    rows: torch.Tensor


def rescore(
    ranks: Sequence[np.ndarray],
    queries: torch.Tensor,
    query_rows: torch.Tensor,
    pools: Sequence[Pool],
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    k: int,
    block_size: int = 512,
) -> list[np.ndarray]:
    """Re-ranks Q queries in several pools, with the first k candidates of each pool ordered by their scores.

    Args:
        ranks (`Sequence[np.ndarray]`): by pool, (Q,) the ranks by cosine.
        queries (`torch.Tensor`): (Q, D) embeddings.
        query_rows (`torch.Tensor`): (Q,) the row by which the scoring function knows each query.
        pools (`Sequence[Pool]`): the candidates. Pairs of all pools are scored together.
        score (`Callable`): from rows of queries and rows of candidates, (N,) each, to scores (N,).
        k (`int`): candidates per query and pool.
        block_size (`int`, *optional*, defaults to 512): as for [`shortlist`].

    Returns:
        By pool, (Q,) float64 ranks.
    """
    lists = [shortlist(queries, pool.embeds, pool.gold, k, block_size) for pool in pools]
    scores = score(
        np.concatenate([query_rows.numpy()[query] for query, _ in lists]),
        np.concatenate([pool.rows.numpy()[candidate] for pool, (_, candidate) in zip(pools, lists, strict=True)]),
    )
    parts = np.split(scores, np.cumsum([len(query) for query, _ in lists])[:-1])
    return [
        rerank(before, *pairs, part, pool.gold.numpy())
        for before, pairs, part, pool in zip(ranks, lists, parts, pools, strict=True)
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
    """Scores N pairs while the states of only a few batches are in memory.

    Outer members are encoded once. `held_batches` batches of them are in memory at a time. For each such group, the
    inner members of its pairs are encoded one batch at a time.

    Args:
        score (`Callable`): from the outer states, the inner states, and rows (n,) in each, to scores (n,).
        outer (`Callable`): encodes outer members, given by their rows.
        inner (`Callable`): encodes inner members.
        outer_rows (`np.ndarray`): (N,) the outer member of each pair. A pair that occurs twice is scored once.
        inner_rows (`np.ndarray`): (N,) the inner member of each pair.
        batch_size (`int`, *optional*, defaults to 256): members encoded at a time.
        held_batches (`int`, *optional*): batches of outer members in memory. Default: all.

    Returns:
        (N,) float64 scores.
    """
    pairs, places = np.unique(np.stack([outer_rows, inner_rows]), axis=1, return_inverse=True)
    scores = np.full(pairs.shape[1], np.nan)
    members = np.unique(pairs[0])
    group_size = batch_size * held_batches if held_batches is not None else max(len(members), 1)
    for group in _split(members, group_size):
        held = [(batch, outer(batch)) for batch in _split(group, batch_size)]
        of_group = np.flatnonzero((pairs[0] >= group[0]) & (pairs[0] <= group[-1]))
        for batch in _split(np.unique(pairs[1, of_group]), batch_size):
            states = inner(batch)
            of_batch = of_group[(pairs[1, of_group] >= batch[0]) & (pairs[1, of_group] <= batch[-1])]
            for held_batch, held_states in held:
                rows = of_batch[(pairs[0, of_batch] >= held_batch[0]) & (pairs[0, of_batch] <= held_batch[-1])]
                if len(rows):
                    places_in_states = (
                        np.searchsorted(held_batch, pairs[0, rows]),
                        np.searchsorted(batch, pairs[1, rows]),
                    )
                    device = next(iter(states.values())).device
                    values = score(
                        held_states, states, *(torch.from_numpy(place).to(device) for place in places_in_states)
                    )
                    scores[rows] = values.double().cpu().numpy()
    return scores[places.reshape(-1)]


def _split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Ascending rows in parts of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def check_rescoring(model: Any) -> None:
    """Refuses a model without a pair score, before anything is embedded.

    Args:
        model: the model. Its `fine_scores(texts, molecules, text_rows, molecule_rows)` returns the scores of pairs.

    Raises:
        ValueError: if the model has no `fine_scores`.
    """
    if not hasattr(model, "fine_scores"):
        raise ValueError(
            f"{type(model).__name__} has no fine_scores(texts, molecules, text_rows, molecule_rows), which re-ranking "
            "needs. Leave rescore_top_k out, or use a model with this method, such as OrmaModel."
        )
