"""Query-bank normalisation: candidates that are near to every query lose some of their score."""

import torch
import torch.nn.functional as F


def hubness(
    candidates: torch.Tensor, bank: torch.Tensor, neighbours: int = 10, block_size: int = 1024
) -> torch.Tensor:
    """Mean cosine of each candidate to its nearest queries of a bank.

    In spaces of many dimensions a few candidates, the hubs, are near to most queries. Taking a share of this mean
    from a candidate's similarities makes room for the others (cross-domain similarity local scaling, Lample et al.,
    2018, section 2.3; that any bank of queries serves, the training set's too, is query-bank normalisation, Bogolin
    et al., 2022).

    Args:
        candidates: (P, D).
        bank: (M, D), embeddings of queries of the other modality that are not tested on: the training pairs'.
        neighbours: how many of the nearest are averaged; all if the bank is smaller.
        block_size: candidates at a time; memory is `block_size` x M.

    Returns:
        (P,) float64 in [-1, 1]; equal candidates get equal numbers, whatever their place.

    Raises:
        ValueError: if the bank is empty, or `neighbours` is less than 1.

    Example:

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> hubness(torch.tensor([[3.0, 0.0], [1.0, 1.0]]), bank, neighbours=1).round(decimals=2).tolist()
    [1.0, 0.71]
    """
    if not len(bank):
        raise ValueError("the query bank is empty; pass the embeddings of the training pairs.")
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; expected at least 1.")
    candidates, bank = F.normalize(candidates.float(), dim=-1), F.normalize(bank.float(), dim=-1)
    means = []
    for block in candidates.split(block_size):
        nearest = (block @ bank.T).topk(min(neighbours, len(bank)), dim=1).indices
        # Again in float64: last bits that depend on the block's shape would break the ties of equal candidates.
        means.append(torch.einsum("pd,pkd->pk", block.double(), bank[nearest].double()).mean(1))
    return torch.cat(means)
