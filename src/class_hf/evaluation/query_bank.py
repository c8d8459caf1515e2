"""Query-bank normalisation: lower the score of hub candidates, that is, of candidates close to many queries."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from datasets import Dataset

BankMethod = Literal["softmax", "nearest"]

# Number of neighbours, and the share of their mean cosine. Chosen on the validation pairs of ChEBI-20.
_NEIGHBOURS, _SHARE = 10, 0.5


def bank_penalties(
    candidates: torch.Tensor,
    bank: torch.Tensor,
    method: BankMethod = "softmax",
    scale: float | None = None,
    block_size: int = 1024,
) -> torch.Tensor:
    """Computes the penalty that is subtracted from the cosines with each candidate.

    In spaces of many dimensions a few candidates, the hubs, are close to most queries. Molecules of the training pairs
    also rank first too often. The penalty of a candidate grows with its cosines to a bank of reference queries.

    - `"softmax"`: `log(mean_b exp(scale s_b)) / scale` over the cosines s_b with the bank. Ranking by cosine minus
      penalty equals ranking by `exp(scale s) / sum_b exp(scale s_b)`. This is the inverted softmax of Smith et al.
      (2017) with the bank of Bogolin et al. (2022, "Cross Modal Retrieval with Querybank Normalisation", section 3.3).
      The scale is the logit scale of the model, so no parameter needs tuning. A candidate whose own caption is in the
      bank gets a large penalty.
    - `"nearest"`: half of the mean cosine to the ten nearest queries of the bank (after Lample et al., 2018,
      section 2.3).

    Args:
        candidates (`torch.Tensor`): (P, D) embeddings of the candidates.
        bank (`torch.Tensor`): (M, D) embeddings of queries of the other modality. Use training pairs, never the
            evaluated queries.
        method (`str`, *optional*, defaults to `"softmax"`): `"softmax"` or `"nearest"`.
        scale (`float`, *optional*): the `logit_scale` of the model, positive. Required by `"softmax"`.
        block_size (`int`, *optional*, defaults to 1024): candidates per block. Memory is `block_size` x M.

    Returns:
        (P,) float64 penalties in [-1, 1]. Equal candidates get equal penalties, up to float64 rounding.

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
        return _SHARE * _mean_cosine_to_nearest(candidates, bank, block_size)
    if scale is None or not scale > 0.0:
        raise ValueError(f"scale is {scale}; the method 'softmax' needs a positive one, the model's logit_scale.")
    means = [
        ((block.double() @ bank.double().T).mul_(scale).logsumexp(1) - math.log(len(bank))) / scale
        for block in candidates.split(block_size)
    ]
    return torch.cat(means)


def check_bank_captions(captions: Dataset, query_bank: Dataset | None, pairs: Dataset) -> None:
    """Refuses captions without a molecule that are evaluated, or that have no query bank to be added to.

    Args:
        captions: prepared captions.
        query_bank: the prepared training pairs.
        pairs: the evaluated pairs.

    Raises:
        ValueError: names the first row.
    """
    if query_bank is None:
        raise ValueError("bank_captions needs query_bank=, the prepared training pairs.")
    if not all("text_key" in rows.column_names for rows in (captions, pairs)):
        return
    evaluated = set(pairs["text_key"][:])
    rows = [row for row, key in enumerate(captions["text_key"][:]) if key in evaluated]
    if rows:
        row = captions[rows[0]]
        first = repr(row["description"][:60]) if "description" in row else f"in row {rows[0]}"
        raise ValueError(
            f"{len(rows)} of the {len(captions)} captions of the query bank are evaluated, the first: {first}. "
            "A bank must hold other captions."
        )


def penalties_by_side(
    embeddings: Mapping[str, torch.Tensor], method: BankMethod = "softmax", with_captions: bool = False
) -> dict[str, torch.Tensor]:
    """The penalties of both sides, from the embeddings of an evaluation.

    Args:
        embeddings (`Mapping`): the result of
            [`~class_hf.evaluation.retrieval_evaluator.RetrievalEvaluator.embeddings`], with a query bank.
        method (`str`, *optional*, defaults to `"softmax"`): see [`bank_penalties`].
        with_captions (`bool`, *optional*, defaults to `False`): the bank of captions also has those without a
            molecule, `bank_caption_embeds`. They lower the scores of molecules only.

    Returns:
        `molecule_penalties` (P,) of the pool, and `text_penalties` (Q + C,) of the evaluated and further captions.
    """
    scale = float(embeddings["logit_scale"])
    texts = torch.cat([embeddings[name] for name in ("text_embeds", "caption_embeds") if name in embeddings])
    names = ("bank_text_embeds", "bank_caption_embeds")
    bank_texts = torch.cat([embeddings[name] for name in names[: 1 + with_captions]])
    return {
        "molecule_penalties": bank_penalties(embeddings["molecule_embeds"], bank_texts, method, scale),
        "text_penalties": bank_penalties(texts, embeddings["bank_molecule_embeds"], method, scale),
    }


def _mean_cosine_to_nearest(candidates: torch.Tensor, bank: torch.Tensor, block_size: int) -> torch.Tensor:
    """(P,) the mean cosine of each candidate to its ten nearest queries of the bank."""
    means = []
    for block in candidates.split(block_size):
        nearest = (block @ bank.T).topk(min(_NEIGHBOURS, len(bank)), dim=1).indices
        # Recomputed in float64. The last bits of a float32 product depend on the block, which would break ties.
        means.append(torch.einsum("pd,pkd->pk", block.double(), bank[nearest].double()).mean(1))
    return torch.cat(means)
