"""Runs a transformer over ragged token ids: sorted by length and padded chunk by chunk, so little is padded."""

from collections.abc import Iterator

import torch
from torch import nn


def mean_pool(last_hidden_state: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Mean of the token states that the mask keeps: (B, L, H), (B, L) to (B, H)."""
    if attention_mask is None:
        return last_hidden_state.mean(1)
    mask = attention_mask.unsqueeze(-1).to(last_hidden_state.dtype)
    return (last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1.0)


def cut_by_length(lengths: list[int], chunk_size: int, least_tokens: int = 0, fill: float = 0.85) -> list[int]:
    """Where chunks of rows begin, and the number of rows.

    A chunk ends with `chunk_size` rows, or before a row that is shorter than `fill` of its longest, once it holds
    `least_tokens` tokens.

    Args:
        lengths: of the rows, falling.

    >>> cut_by_length([90, 80, 40, 39, 38, 37], chunk_size=3)
    [0, 2, 5, 6]
    """
    cuts, tokens = [0], 0
    for row, length in enumerate(lengths):
        short = length < fill * lengths[cuts[-1]] and tokens >= least_tokens
        if row > 0 and (short or row - cuts[-1] == chunk_size):
            cuts.append(row)
            tokens = 0
        tokens += length
    return [*cuts, len(lengths)]


def padded_chunks(
    ids: torch.Tensor, offsets: torch.Tensor, chunk_size: int, pad_token_id: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Cuts ragged rows into padded chunks of neighbours in length, the longest first.

    The rows stay one batch: whoever joins the chunks' outputs has the very rows that came in, which is what the
    negatives of a contrastive loss are. Sorting across batches instead would change who meets whom.

    Args:
        ids (T,): the tokens of all rows, one row after the other.
        offsets (B + 1,): where each row begins, and T.
        chunk_size: rows a chunk, at most.
        pad_token_id: fills the ends of shorter rows; the mask hides it.

    Yields:
        rows (b,) int64, places of the chunk's rows in the batch; `input_ids` (b, L); `attention_mask` (b, L) int64.

    Example:

    >>> ids, offsets = torch.tensor([7, 6, 8, 9, 5]), torch.tensor([0, 2, 5])  # rows [7, 6] and [8, 9, 5]
    >>> [(rows.tolist(), chunk.tolist()) for rows, chunk, _ in padded_chunks(ids, offsets, chunk_size=2)]
    [([1], [[8, 9, 5]]), ([0], [[7, 6]])]
    """
    lengths = offsets.diff()
    rows = torch.sort(lengths, descending=True, stable=True).indices
    lengths, starts = lengths[rows], offsets[rows]
    # The only wait for the device: the lengths decide shapes.
    widths = lengths.tolist()
    # A CPU gains from every token that is not padded; an accelerator needs some thousands of tokens a launch.
    cuts = cut_by_length(widths, chunk_size, least_tokens=0 if ids.device.type == "cpu" else 4096)
    for start, end in zip(cuts, cuts[1:], strict=False):
        part = slice(start, end)
        steps = torch.arange(widths[start], device=ids.device)
        mask = steps < lengths[part, None]
        tokens = ids[(starts[part, None] + steps).clamp(max=len(ids) - 1)]
        yield rows[part], tokens.masked_fill(~mask, pad_token_id), mask.long()


# Of a compiled model the tower is compiled, not the cutting, whose shapes differ from batch to batch.
@torch.compiler.disable(recursive=False)
def encode_ragged(tower: nn.Module, ids: torch.Tensor, offsets: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """Mean-pooled states of a transformer over ragged rows: ids (T,), offsets (B + 1,) to (B, H)."""
    pad_token_id = getattr(tower.config, "pad_token_id", None) or 0
    rows, pooled = [], []
    for part, input_ids, attention_mask in padded_chunks(ids, offsets, chunk_size, pad_token_id):
        states = tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows.append(part)
        pooled.append(mean_pool(states, attention_mask))
    return torch.cat(pooled)[torch.argsort(torch.cat(rows))]
