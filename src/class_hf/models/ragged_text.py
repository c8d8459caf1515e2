"""Runs a transformer over ragged token ids, in chunks of similar length, so that padding costs little."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn


def mean_pool(last_hidden_state: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Averages the token states that the mask keeps: (B, L, H), (B, L) -> (B, H)."""
    if attention_mask is None:
        return last_hidden_state.mean(1)
    mask = attention_mask.unsqueeze(-1).to(last_hidden_state.dtype)
    return (last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1.0)


def cut_by_length(lengths: list[int], chunk_size: int, least_tokens: int = 0, fill: float = 0.85) -> list[int]:
    """Cuts sorted rows into chunks of similar length.

    A chunk ends when it has `chunk_size` rows. It also ends in front of a row that is shorter than `fill` times its
    longest row, if it has at least `least_tokens` tokens.

    Args:
        lengths: lengths of the rows, in descending order.
        chunk_size: largest number of rows in a chunk.
        least_tokens: number of tokens below which a short row does not end a chunk. Default 0.
        fill: smallest ratio of shortest and longest row in a chunk. Default 0.85.

    Returns:
        The first row of each chunk, and the number of rows.

    Example:

    >>> cut_by_length([90, 80, 40, 39, 38, 37], chunk_size=3)
    [0, 2, 5, 6]
    """
    cuts, tokens = [0], 0
    for row, length in enumerate(lengths):
        is_short = length < fill * lengths[cuts[-1]] and tokens >= least_tokens
        if row > 0 and (is_short or row - cuts[-1] == chunk_size):
            cuts.append(row)
            tokens = 0
        tokens += length
    return [*cuts, len(lengths)]


def padded_chunks(
    ids: torch.Tensor, offsets: torch.Tensor, chunk_size: int, pad_token_id: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Cuts ragged rows into padded chunks of similar length, the longest rows first.

    All chunks together are one batch: the caller joins their outputs and has the same rows as before. The negatives
    of a contrastive loss therefore do not change, unlike with sorting by length across batches.

    Args:
        ids (T,): the tokens of all rows, one row after the other.
        offsets (B + 1,): where each row begins, and T.
        chunk_size: largest number of rows in a chunk.
        pad_token_id: id that fills shorter rows. The attention mask hides it.

    Yields:
        rows (b,) int64, the chunk's rows in the batch; `input_ids` (b, L); `attention_mask` (b, L) int64.

    Example:

    >>> ids, offsets = torch.tensor([7, 6, 8, 9, 5]), torch.tensor([0, 2, 5])  # rows [7, 6] and [8, 9, 5]
    >>> [(rows.tolist(), chunk.tolist()) for rows, chunk, _ in padded_chunks(ids, offsets, chunk_size=2)]
    [([1], [[8, 9, 5]]), ([0], [[7, 6]])]
    """
    lengths = offsets.diff()
    rows = torch.sort(lengths, descending=True, stable=True).indices
    lengths, starts = lengths[rows], offsets[rows]
    # The only synchronisation with the device: the lengths decide shapes.
    widths = lengths.tolist()
    # A CPU gains from every token that is not padded. An accelerator needs a few thousand tokens per launch.
    cuts = cut_by_length(widths, chunk_size, least_tokens=0 if ids.device.type == "cpu" else 4096)
    for start, end in pairwise(cuts):
        part = slice(start, end)
        steps = torch.arange(widths[start], device=ids.device)
        mask = steps < lengths[part, None]
        tokens = ids[(starts[part, None] + steps).clamp(max=len(ids) - 1)]
        yield rows[part], tokens.masked_fill(~mask, pad_token_id), mask.long()


def check_length(tower: nn.Module, tokens: int) -> None:
    """Checks that a tower has positions for a row of so many tokens.

    Only towers with a table of absolute positions have a limit, for instance BERT. On an accelerator torch would end
    the process at a position beyond the table.

    Args:
        tower: a transformer.
        tokens: length of the longest row.

    Raises:
        ValueError: if the row is longer than the table.
    """
    table = getattr(getattr(tower, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return
    positions = table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    if tokens > positions:
        raise ValueError(
            f"a text of the batch has {tokens} tokens, but {type(tower).__name__} has {positions} positions. Set "
            f"max_text_length (of SMILES: max_smiles_length) to at most {positions}."
        )


# Not compiled: the shapes of the chunks differ from batch to batch. `torch.compile` still compiles the tower.
@torch.compiler.disable(recursive=False)
def encode_ragged(tower: nn.Module, ids: torch.Tensor, offsets: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """Runs a transformer over ragged rows and mean-pools each row.

    Args:
        tower: a transformer that returns `last_hidden_state`.
        ids (T,): the tokens of all rows, one row after the other.
        offsets (B + 1,): where each row begins, and T.
        chunk_size: largest number of rows that the tower encodes at once.

    Returns:
        (B, H), in the order of the rows.

    Raises:
        ValueError: if a row is longer than the tower's table of positions.
    """
    pad_token_id = getattr(tower.config, "pad_token_id", None) or 0
    rows, pooled = [], []
    for part, input_ids, attention_mask in padded_chunks(ids, offsets, chunk_size, pad_token_id):
        check_length(tower, input_ids.shape[1])
        states = tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows.append(part)
        pooled.append(mean_pool(states, attention_mask))
    return torch.cat(pooled)[torch.argsort(torch.cat(rows))]
