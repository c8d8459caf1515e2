"""The symmetric cross-entropy of all pairs, tile by tile: the logits of the whole batch never exist."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, rank


class PairLosses(NamedTuple):
    """What the two directions say of each local pair; only `losses` has a gradient.

    Attributes:
        losses: (b,) cross-entropy, mean of both directions.
        probabilities: (b,) probability of the true match, mean of both directions.
        hits: (b,) share of the two directions that rank the partner first; of equal logits the first one wins.
    """

    losses: torch.Tensor
    probabilities: torch.Tensor
    hits: torch.Tensor


def share_a_key(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(r, c) bool: pairs with the same caption or the same molecule, of the keys (r, 2) and (c, 2)."""
    return (rows[:, None, 0] == columns[:, 0]) | (rows[:, None, 1] == columns[:, 1])


def tiled_pair_losses(
    texts: torch.Tensor,
    molecules: torch.Tensor,
    pair_keys: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    tile_size: int | None = None,
) -> PairLosses:
    """Both directions' cross-entropy of each pair in O(B) memory and one pass over the tiles.

    The logits are `texts @ molecules.T`; a tile of them serves both directions: it is folded into a running maximum
    and a running sum of exponentials of its rows and of its columns. The backward pass makes each tile again, turns
    it into the gradient of its logits, and multiplies it on. The weights of the pairs are the gradient that arrives,
    the duplicate mask is made from the keys of the tile, so that neither is ever B x B.

    Under several processes each one walks over its own texts against all molecules. Rows are then complete, and the
    (B,) statistics of the columns are put together over the processes: every logit is computed once in all, not once
    a direction, and only the molecules are gathered.

    Memory beyond inputs and their gradients: a few tiles of `tile_size` x `tile_size`. Four matrix products of
    b x B x D, where the dense loss has six.

    Source: the running sum is Milakov and Gimelshein's (2018, algorithm 3), recomputed tiles are FlashAttention's
    (Dao et al., 2022, section 3.1); both directions in one pass, also over processes, is ours.

    Args:
        texts: (b, D) embeddings of this process, multiplied by the scale of the logits.
        molecules: (b, D); row i is the partner of text i.
        pair_keys: (b, 2) integers; pairs that share one are left out of each other's logits. None masks nothing.
        label_smoothing: share of the target spread evenly over the logits that are not left out.
        tile_size: rows and columns of a tile; None is 1,024 on a CPU, 4,096 elsewhere.

    Example:

    >>> u = 10 * torch.eye(3)
    >>> out = tiled_pair_losses(u, torch.eye(3), tile_size=2)
    >>> out.hits.tolist(), bool((out.losses < 1e-3).all())
    ([1.0, 1.0, 1.0], True)
    """
    if tile_size is None:
        # 1,024 x 1,024 floats, 4 MB, stay in the last cache; smaller tiles wait for threads more often, which is dear
        # on a machine that is shared. A GPU needs more work a launch.
        tile_size = 1024 if texts.device.type == "cpu" else 4096
    columns = gather_with_gradient(molecules)
    return PairLosses(*_TiledPairLosses.apply(texts, columns, pair_keys, label_smoothing, tile_size))


class _Tile(NamedTuple):
    rows: slice  # of this process's pairs
    columns: slice  # of all pairs
    pairs: slice  # this process's pairs whose true match lies in the tile; may be empty
    logits: torch.Tensor  # (r, c), -inf where excluded
    excluded: torch.Tensor | None  # (r, c) bool


def _true_matches(tile: torch.Tensor, rows: slice, columns: slice, first: int) -> torch.Tensor:
    """View of the true matches in a tile, maybe none; `first` is the column of this process's first pair."""
    return tile.diagonal(first + rows.start - columns.start)


def _tiles(
    rows: torch.Tensor, columns: torch.Tensor, keys: torch.Tensor | None, all_keys: torch.Tensor | None, size: int
) -> Iterator[_Tile]:
    """The tiles of `rows @ columns.T`: row by row, each from left to right."""
    first = rank() * len(rows)
    for top in range(0, len(rows), size):
        for left in range(0, len(columns), size):
            r, c = slice(top, min(top + size, len(rows))), slice(left, min(left + size, len(columns)))
            start = max(top, left - first)
            pairs = slice(start, max(start, min(r.stop, c.stop - first)))
            logits, excluded = rows[r] @ columns[c].T, None
            if keys is not None and all_keys is not None:
                excluded = share_a_key(keys[r], all_keys[c])
                _true_matches(excluded, r, c, first).fill_(False)
                logits.masked_fill_(excluded, float("-inf"))
            yield _Tile(r, c, pairs, logits, excluded)


class _Softmax:
    """Running statistics of one direction: of n rows (`dim` 1) or n columns (`dim` 0) of the logits.

    The logarithm of the sum is `maximum + log(total)`. The two are kept apart: in one float32 number the small
    losses of pairs that are nearly certain would drown in a maximum of up to 100.
    """

    def __init__(self, n: int, dim: int, like: torch.Tensor):
        self.dim = dim
        # Not -inf, whose difference to the -inf of a tile with nothing but duplicates is not a number.
        self.maximum = like.new_full((n,), torch.finfo(like.dtype).min)
        self.total = like.new_zeros(n)
        self.kept_sum = like.new_zeros(n)  # of the logits that are not excluded; for label smoothing
        self.kept = like.new_zeros(n)  # their number

    def add(self, where: slice, tile: _Tile, smoothed: bool) -> None:
        maximum = torch.maximum(self.maximum[where], tile.logits.amax(self.dim))
        exponentials = (tile.logits - maximum.unsqueeze(self.dim)).exp_()
        self.total[where] *= torch.exp(self.maximum[where] - maximum)
        self.total[where] += exponentials.sum(self.dim)
        self.maximum[where] = maximum
        if not smoothed:
            return
        if tile.excluded is None:
            self.kept_sum[where] += tile.logits.sum(self.dim)
            self.kept[where] += tile.logits.shape[self.dim]
        else:
            self.kept_sum[where] += tile.logits.masked_fill(tile.excluded, 0.0).sum(self.dim)
            self.kept[where] += tile.excluded.logical_not().sum(self.dim)

    def merge(self) -> torch.Tensor:
        """Puts the processes' statistics together; (n,) the first process that holds the maximum."""
        maxima = gather(self.maximum[None])  # (W, n)
        self.maximum, winner = maxima.max(0)
        self.total = (gather(self.total[None]) * torch.exp(maxima - self.maximum)).sum(0)
        self.kept_sum, self.kept = global_sum(self.kept_sum), global_sum(self.kept)
        return winner

    def losses(self, true: torch.Tensor, where: slice, smoothing: float) -> torch.Tensor:
        """Cross-entropy of the rows (or columns) `where` with the logits `true` of their matches."""
        losses = self.total[where].log() + (self.maximum[where] - true)
        return losses + smoothing * (true - self.kept_sum[where] / self.kept[where]) if smoothing else losses

    def probabilities(self, true: torch.Tensor, where: slice) -> torch.Tensor:
        return torch.exp(true - self.maximum[where]) / self.total[where]

    def gradient(self, where: slice, logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Gradient of a tile's logits through the sums: each row (or column) of the softmax times its weight."""
        factors = weights / self.total[where]
        return (logits - self.maximum[where].unsqueeze(self.dim)).exp_().mul_(factors.unsqueeze(self.dim))


class _TiledPairLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, columns: torch.Tensor, keys: torch.Tensor | None, smoothing: float, size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        b, first = len(rows), rank() * len(rows)
        everyone, own = slice(0, b), slice(first, first + b)
        all_keys = None if keys is None else gather(keys)
        by_row, by_column = _Softmax(b, 1, rows), _Softmax(len(columns), 0, rows)
        true = rows.new_empty(b)
        row_hits, column_hits = torch.empty((2, b), dtype=torch.bool, device=rows.device)
        for tile in _tiles(rows, columns, keys, all_keys, size):
            if tile.pairs.start < tile.pairs.stop:
                # A hit is the first of the largest logits. Here: larger than all before the tile, first in the tile.
                i, j = tile.pairs, slice(first + tile.pairs.start, first + tile.pairs.stop)
                in_row = torch.arange(j.start, j.stop, device=rows.device) - tile.columns.start
                in_column = torch.arange(i.start, i.stop, device=rows.device) - tile.rows.start
                true[i] = _true_matches(tile.logits, tile.rows, tile.columns, first)
                row_hits[i] = (tile.logits[in_column].argmax(1) == in_row) & (true[i] > by_row.maximum[i])
                column_hits[i] = (tile.logits[:, in_row].argmax(0) == in_column) & (true[i] > by_column.maximum[j])
            by_row.add(tile.rows, tile, smoothing > 0)
            by_column.add(tile.columns, tile, smoothing > 0)
        winner = by_column.merge()
        row_hits &= true >= by_row.maximum
        column_hits &= (true >= by_column.maximum[own]) & (winner[own] == rank())

        ctx.save_for_backward(rows, columns)
        ctx.keys, ctx.all_keys, ctx.smoothing, ctx.size = keys, all_keys, smoothing, size
        ctx.by_row, ctx.by_column = by_row, by_column
        losses = (by_row.losses(true, everyone, smoothing) + by_column.losses(true, own, smoothing)) / 2
        probabilities = (by_row.probabilities(true, everyone) + by_column.probabilities(true, own)) / 2
        hits = (row_hits.to(rows.dtype) + column_hits) / 2
        ctx.mark_non_differentiable(probabilities, hits)
        return losses, probabilities, hits

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, columns = ctx.saved_tensors
        for_rows, for_columns = ctx.needs_input_grad[:2]
        row_gradient, column_gradient = torch.zeros_like(rows), torch.zeros_like(columns)
        row_weights = gradients[0] / 2  # half for each direction
        column_weights = gather(row_weights)
        first = rank() * len(rows)
        with torch.autocast(rows.device.type, enabled=False):
            for r, c, pairs, logits, excluded in _tiles(rows, columns, ctx.keys, ctx.all_keys, ctx.size):
                tile = ctx.by_row.gradient(r, logits, row_weights[r])
                tile += ctx.by_column.gradient(c, logits, column_weights[c])
                if ctx.smoothing:
                    tile -= (ctx.smoothing * row_weights[r] / ctx.by_row.kept[r])[:, None]
                    tile -= ctx.smoothing * column_weights[c] / ctx.by_column.kept[c]
                    if excluded is not None:
                        tile.masked_fill_(excluded, 0.0)
                # In the tile: after the products, the small gradients of certain pairs would be lost to rounding.
                _true_matches(tile, r, c, first).sub_((1.0 - ctx.smoothing) * gradients[0][pairs])
                if for_rows:
                    row_gradient[r].addmm_(tile, columns[c])
                if for_columns:
                    column_gradient[c].addmm_(tile.T, rows[r])
        return row_gradient if for_rows else None, column_gradient if for_columns else None, None, None, None
