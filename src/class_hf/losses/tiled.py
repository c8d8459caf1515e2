"""The symmetric cross-entropy of all pairs, tile by tile, so that the complete logits are never in memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, rank


class PairLosses(NamedTuple):
    """Statistics of this process's pairs, averaged over both directions. Only `losses` has a gradient.

    Attributes:
        losses: (b,) cross-entropy.
        probabilities: (b,) probability of the true match.
        hits: (b,) share of the two directions that rank the partner first. Of equal logits the first counts.
    """

    losses: torch.Tensor
    probabilities: torch.Tensor
    hits: torch.Tensor


def share_a_key(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Marks pairs with the same caption or the same molecule: keys (r, 2) and (c, 2) -> (r, c) bool."""
    return (rows[:, None, 0] == columns[:, 0]) | (rows[:, None, 1] == columns[:, 1])


def tiled_pair_losses(
    texts: torch.Tensor,
    molecules: torch.Tensor,
    pair_keys: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    tile_size: int | None = None,
) -> PairLosses:
    """Computes the cross-entropy of each pair in both directions, in O(B) memory and one pass over the tiles.

    The logits are `texts @ molecules.T`. One tile serves both directions: it updates a running maximum and a running
    sum of exponentials of its rows and of its columns. The backward pass recomputes each tile and its gradient. The
    mask of shared keys is computed for each tile. Nothing of size B x B is ever in memory.

    With several processes each process computes its texts against all molecules. The statistics of its rows are then
    complete. Those of the columns, (B,), are merged over the processes. Every logit is computed once, and only the
    molecules are gathered.

    Memory beyond inputs and their gradients is a few tiles of `tile_size` x `tile_size`. There are four matrix
    products of b x B x D. The dense loss has three with one process and six with several.

    Source: Milakov & Gimelshein (2018, algorithm 3) for the running sum, FlashAttention (Dao et al., 2022, section
    3.1) for recomputed tiles. Both directions in one pass, also over processes, is this project's.

    Args:
        texts: (b, D) embeddings of this process, multiplied by the logit scale.
        molecules: (b, D) embeddings; row i is the partner of text i.
        pair_keys: (b, 2) integers. Pairs that share a key are masked in each other's logits. None masks nothing.
        label_smoothing: share of the target that is spread evenly over the logits that are not masked. Default 0.
        tile_size: rows and columns of a tile. Default: 1,024 on a CPU, 4,096 elsewhere.

    Returns:
        [`PairLosses`].

    Example:

    >>> u = 10 * torch.eye(3)
    >>> out = tiled_pair_losses(u, torch.eye(3), tile_size=2)
    >>> out.hits.tolist(), bool((out.losses < 1e-3).all())
    ([1.0, 1.0, 1.0], True)
    """
    if tile_size is None:
        # 1,024 x 1,024 floats, 4 MB, fit in the last cache. Smaller tiles wait for threads more often, which is slow
        # on a shared machine. A GPU needs more work per launch.
        tile_size = 1024 if texts.device.type == "cpu" else 4096
    columns = gather_with_gradient(molecules)
    return PairLosses(*_TiledPairLosses.apply(texts, columns, pair_keys, label_smoothing, tile_size))


class _Tile(NamedTuple):
    """A tile of the logits."""

    rows: slice  # of this process's pairs
    columns: slice  # of all pairs
    pairs: slice  # this process's pairs whose true match lies in the tile; may be empty
    logits: torch.Tensor  # (r, c), -inf where excluded
    excluded: torch.Tensor | None  # (r, c) bool


def _true_matches(tile: torch.Tensor, rows: slice, columns: slice, first: int) -> torch.Tensor:
    """View of the true matches in a tile; may be empty. `first` is the column of this process's first pair."""
    return tile.diagonal(first + rows.start - columns.start)


def _tiles(
    rows: torch.Tensor, columns: torch.Tensor, keys: torch.Tensor | None, all_keys: torch.Tensor | None, size: int
) -> Iterator[_Tile]:
    """The tiles of `rows @ columns.T`, from top to bottom and from left to right."""
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

    The logarithm of the sum is `maximum + log(total)`. The two are stored separately. In one float32 number the small
    losses of nearly certain pairs would vanish next to a maximum of up to 100.
    """

    def __init__(self, n: int, dim: int, like: torch.Tensor):
        self.dim = dim
        # Not -inf: a tile of duplicates only has the maximum -inf, and the difference of both is not a number.
        self.maximum = like.new_full((n,), torch.finfo(like.dtype).min)
        self.total = like.new_zeros(n)
        self.kept_sum = like.new_zeros(n)  # sum of the logits that are not excluded, for label smoothing
        self.kept = like.new_zeros(n)  # number of these logits

    def add(self, where: slice, tile: _Tile, smoothed: bool) -> None:
        """Adds a tile to the statistics of its rows or columns."""
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
        """Merges the statistics of all processes. Returns the first process that holds each maximum, (n,)."""
        maxima = gather(self.maximum[None])  # (W, n)
        self.maximum, winner = maxima.max(0)
        self.total = (gather(self.total[None]) * torch.exp(maxima - self.maximum)).sum(0)
        self.kept_sum, self.kept = global_sum(self.kept_sum), global_sum(self.kept)
        return winner

    def losses(self, true: torch.Tensor, where: slice, smoothing: float) -> torch.Tensor:
        """Cross-entropy of some rows or columns, from the logits of their true matches."""
        losses = self.total[where].log() + (self.maximum[where] - true)
        return losses + smoothing * (true - self.kept_sum[where] / self.kept[where]) if smoothing else losses

    def probabilities(self, true: torch.Tensor, where: slice) -> torch.Tensor:
        """Probability of the true match of some rows or columns, from the logits of the true matches."""
        return torch.exp(true - self.maximum[where]) / self.total[where]

    def gradient(self, where: slice, logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Gradient of a tile's logits through the sums: each row or column of the softmax times its weight."""
        factors = weights / self.total[where]
        return (logits - self.maximum[where].unsqueeze(self.dim)).exp_().mul_(factors.unsqueeze(self.dim))


class _TiledPairLosses(torch.autograd.Function):
    """Losses, probabilities and hits of [`PairLosses`]; the backward pass recomputes the tiles."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, columns: torch.Tensor, keys: torch.Tensor | None, smoothing: float, size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        b, first = len(rows), rank() * len(rows)
        all_rows, true_columns = slice(0, b), slice(first, first + b)
        all_keys = None if keys is None else gather(keys)
        by_row, by_column = _Softmax(b, 1, rows), _Softmax(len(columns), 0, rows)
        true = rows.new_empty(b)
        row_hits, column_hits = torch.empty((2, b), dtype=torch.bool, device=rows.device)
        for tile in _tiles(rows, columns, keys, all_keys, size):
            if tile.pairs.start < tile.pairs.stop:
                # A hit is the first of the largest logits: larger than all before the tile, and first in the tile.
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
        column_hits &= (true >= by_column.maximum[true_columns]) & (winner[true_columns] == rank())

        ctx.save_for_backward(rows, columns)
        ctx.keys, ctx.all_keys, ctx.smoothing, ctx.size = keys, all_keys, smoothing, size
        ctx.by_row, ctx.by_column = by_row, by_column
        losses = (by_row.losses(true, all_rows, smoothing) + by_column.losses(true, true_columns, smoothing)) / 2
        probabilities = (by_row.probabilities(true, all_rows) + by_column.probabilities(true, true_columns)) / 2
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
                # Subtracted in the tile. After the products, rounding would lose the small gradients of certain pairs.
                _true_matches(tile, r, c, first).sub_((1.0 - ctx.smoothing) * gradients[0][pairs])
                if for_rows:
                    row_gradient[r].addmm_(tile, columns[c])
                if for_columns:
                    column_gradient[c].addmm_(tile.T, rows[r])
        return row_gradient if for_rows else None, column_gradient if for_columns else None, None, None, None
