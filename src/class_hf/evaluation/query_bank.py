"""Query-bank normalisation: candidates that queries of a bank are near to lose some of their score."""

import math
from typing import Literal

import torch
import torch.nn.functional as F

BankMethod = Literal["softmax", "nearest"]

# Of the nearest neighbours' mean, chosen on ChEBI-20's validation pairs.
_NEIGHBOURS, _SHARE = 10, 0.5


def bank_penalties(
    candidates: torch.Tensor,
    bank: torch.Tensor,
    method: BankMethod = "softmax",
    scale: float | None = None,
    block_size: int = 1024,
) -> torch.Tensor:
    """What is taken off the cosines with each candidate, for the queries of a bank that are near to it.

    In spaces of many dimensions a few candidates, the hubs, are near to most queries; and candidates that the model
    was trained on come first wrongly more often than others.

    - `"softmax"`: `log(mean_b exp(scale s_b)) / scale` over the cosines s_b with the bank, a mean that leans towards
      the largest. Ranking by cosine less penalty is ranking by `exp(scale s) / sum_b exp(scale s_b)`: the inverted
      softmax of Smith et al. (2017) with the bank of Bogolin et al. (2022, "Cross Modal Retrieval with Querybank
      Normalisation", section 3.3). With the factor that the model's logits were trained with, nothing is to be tuned
      (ours). A candidate whose own caption is in the bank leaves little to other queries.
    - `"nearest"`: half of the mean cosine to the ten nearest of the bank (after Lample et al., 2018, section 2.3).

    Args:
        candidates: (P, D).
        bank: (M, D), embeddings of queries of the other modality that are not tested on: the training pairs'.
        method: as above.
        scale: of `"softmax"`, positive: the model's `logit_scale`.
        block_size: candidates at a time; memory is `block_size` x M.

    Returns:
        (P,) float64 in [-1, 1]; equal candidates get equal numbers, to float64's last bits, whatever their place.

    Raises:
        ValueError: if the bank is empty, the method is unknown, or `"softmax"` has no positive scale.

    Example:

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> bank_penalties(torch.tensor([[3.0, 0.0], [1.0, 1.0]]), bank, scale=10.0).round(decimals=2).tolist()
    [0.93, 0.71]
    """
    if not len(bank):
        raise ValueError("the query bank is empty; pass the embeddings of the training pairs.")
    if method not in ("softmax", "nearest"):
        raise ValueError(f"method is {method!r}; expected 'softmax' or 'nearest'.")
    candidates, bank = F.normalize(candidates.float(), dim=-1), F.normalize(bank.float(), dim=-1)
    if method == "nearest":
        return _SHARE * _means_of_nearest(candidates, bank, block_size)
    if scale is None or not scale > 0.0:
        raise ValueError(f"scale is {scale}; the method 'softmax' needs a positive one, the model's logit_scale.")
    means = [
        ((block.double() @ bank.double().T).mul_(scale).logsumexp(1) - math.log(len(bank))) / scale
        for block in candidates.split(block_size)
    ]
    return torch.cat(means)


def _means_of_nearest(candidates: torch.Tensor, bank: torch.Tensor, block_size: int) -> torch.Tensor:
    means = []
    for block in candidates.split(block_size):
        nearest = (block @ bank.T).topk(min(_NEIGHBOURS, len(bank)), dim=1).indices
        # Again in float64: float32's last bits, which depend on the block's shape, would break the ties of equals.
        means.append(torch.einsum("pd,pkd->pk", block.double(), bank[nearest].double()).mean(1))
    return torch.cat(means)
