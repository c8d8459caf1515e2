"""The most similar rows of a set, exactly, by blocked matrix products on CPU and GPU."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from class_hf.difficulty.sparse_rows import BLOCK
from class_hf.utils.threads import single_thread

# Rows and columns of the base that are multiplied at a time. On a CPU the tile stays in the cache.
_TILES = {"cpu": (256, 8192), "cuda": (4096, 32768)}

# The columns of a tile are searched by groups of this many, by their largest value first.
_GROUP = 32

_IMPORTED_BY = os.getpid()

T = TypeVar("T")


def tanimoto(dots: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tanimoto similarity of bit sets from common bits (B, N), and on-bits (B, 1) and (N,). Overwrites ``dots``."""
    # An empty set has nothing in common with any other, so 1 for 0 on-bits only avoids 0 / 0.
    return dots.div_((a.clamp(min=1) + b).sub_(dots))


def cosine(dots: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine from dot products (B, N), and squared lengths (B, 1) and (N,). Overwrites ``dots``."""
    tiny = torch.finfo(torch.float32).tiny
    return dots.mul_(1 / a.clamp(min=tiny).sqrt()).mul_(1 / b.clamp(min=tiny).sqrt())


SIMILARITIES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "tanimoto": tanimoto,
    "cosine": cosine,
}


def nearest(
    base: Any, k: int, similarity: str, queries: Any = None, device: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of a base, exactly, by blocked matrix products.

    Integer rows are multiplied as int8 where the device does that faster than float32, and as float32 where it
    does not. Both are exact, so the result depends neither on that nor on the blocks, the number of queries, the
    threads or the device. Time is O(B N D); memory is N D bytes for integer rows, and tiles of 40 MB a thread or
    2 GB on a GPU, whatever B.

    Args:
        base: (N, D) array or tensor, int8 or float32. Integer rows must have squared lengths below 2^24, the
            integers that float32 holds. Floating-point rows are multiplied as float32 and are exact to rounding.
        k: how many; at most N, or N - 1 without ``queries``.
        similarity: ``"tanimoto"``, of 0/1 rows, or ``"cosine"``.
        queries: (B, D), of the base's type. Default: the base's own rows, of which none is its own neighbour.
        device: of torch. Default: CUDA if there is one, else the CPU.

    Returns:
        Similarities (B, k) float32, falling, and the rows (B, k) int64. Of equal rows the first in the base wins.

    Raises:
        ValueError: if k is out of range, or integer rows are too long.

    >>> similarities, rows = nearest(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]], np.int8), 1, "tanimoto")
    >>> similarities[:, 0].tolist(), rows[:, 0].tolist()
    ([0.5, 0.5, 0.0], [1, 0, 0])
    """
    limit = len(base) - (queries is None)
    if not 1 <= k <= limit:
        raise ValueError(f"k={k}: expected 1 to {limit}, the number of rows to choose among.")

    def search(part: slice, tiles: Iterable[tuple[slice, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray]:
        best: list[torch.Tensor] = []
        for columns, tile in tiles:
            if queries is None:
                own = torch.arange(part.start, part.stop, device=tile.device)
                here = (own >= columns.start) & (own < columns.stop)
                tile[here.nonzero().squeeze(1), own[here] - columns.start] = -torch.inf
            keys = torch.cat([*best, _top_keys(tile, k, columns.start)], dim=1)
            best = [keys.topk(min(k, keys.shape[1])).values]
        similarities, rows = _values_and_places(best[0])
        return similarities.cpu().numpy(), rows.cpu().numpy()

    found = _over_tiles(search, base, similarity, queries, device)
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def sums(base: Any, similarity: str, queries: Any, device: str | None = None) -> np.ndarray:
    """(B,) float64: the sum of each query's similarities to all rows of a base. Arguments as for [`nearest`]."""

    def add(part: slice, tiles: Iterable[tuple[slice, torch.Tensor]]) -> np.ndarray:
        # NumPy sums a row alike whatever other rows are in the array.
        return np.sum([tile.cpu().numpy().astype(np.float64).sum(axis=1) for _, tile in tiles], axis=0)

    return np.concatenate(_over_tiles(add, base, similarity, queries, device))


def _over_tiles(
    work: Callable[[slice, Iterable[tuple[slice, torch.Tensor]]], T],
    base: Any,
    similarity: str,
    queries: Any,
    device: str | None,
) -> list[T]:
    """What ``work`` makes of each block of queries: their slice, and tiles (columns, float32 values) of the
    similarities to the base."""
    if device is None:
        device = "cuda" if not _is_forked() and torch.cuda.is_available() else "cpu"
    on = torch.device(device)
    height, width = _TILES["cpu" if on.type == "cpu" else "cuda"]
    with single_thread():
        right = torch.as_tensor(base).to(on)
        left = right if queries is None else torch.as_tensor(queries)
        kind = _fastest(on.type) if right.dtype == torch.int8 else torch.float32
        squares = _squares(right)
        if right.dtype == torch.int8 and squares.max() >= 2**24:
            raise ValueError("a row's squared length is 2^24 or more: its dot products are not exact in float32.")

    def tiles(block: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        lengths = _squares(block)[:, None]
        for first in range(0, len(right), width):
            columns = slice(first, min(first + width, len(right)))
            dots = _dots(block, right[columns], kind)
            yield columns, SIMILARITIES[similarity](dots, lengths, squares[columns])

    def run(start: int) -> T:
        block = left[start : start + height].to(on)
        return work(slice(start, start + len(block)), tiles(block))

    return spread(run, range(0, max(1, len(left)), height), threads=on.type == "cpu")


def spread(run: Callable[[int], T], starts: Iterable[int], *, threads: bool = True) -> list[T]:
    """``[run(start) for start in starts]``, by as many threads as torch would use, or by one.

    Threads of Python and not of OpenMP: those wait for each other after each operation, which takes several times
    as long where other processes keep the cores busy, and they hang in a forked process (``Dataset.map`` with
    ``num_proc``) whose parent has used them.
    """
    count = torch.get_num_threads() if threads and not _is_forked() else 1
    with single_thread(), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(run, starts))


def _is_forked() -> bool:
    return os.getpid() != _IMPORTED_BY


def _squares(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.float().square().sum(dim=1) for part in rows.split(BLOCK)])


def _dots(left: torch.Tensor, right: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    if kind == torch.int8:
        return torch._int_mm(_padded(left), _padded(right).T)[: len(left), : len(right)].float()
    return left.to(kind) @ right.to(kind).T


def _padded(rows: torch.Tensor) -> torch.Tensor:
    """CUDA multiplies int8 only in shapes of 8 and of more than 16 rows."""
    missing = -len(rows) % 32, -rows.shape[1] % 8
    return F.pad(rows, (0, missing[1], 0, missing[0])) if rows.is_cuda and any(missing) else rows


@lru_cache
def _fastest(device: str) -> torch.dtype:
    """int8 where it is faster than float32. Tried out, because processors, and builds of torch, differ 20-fold."""
    rows = torch.ones(2048, 1024, dtype=torch.int8, device=device)

    def seconds(kind: torch.dtype) -> float:
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            _dots(rows[:256], rows, kind)[0, 0].item()
            taken.append(time.perf_counter() - start)
        return min(taken)

    try:
        return min((torch.int8, torch.float32), key=seconds)
    except (RuntimeError, NotImplementedError):
        return torch.float32


def _top_keys(tile: torch.Tensor, k: int, first: int) -> torch.Tensor:
    """Keys (B, k) of the largest values of a tile (B, n), the larger the better: no two are equal.

    The k best values are in the k groups of adjacent columns with the best maxima, for a value elsewhere has at
    least k better ones above it. The few groups are quicker to search than all the columns.
    """
    if missing := -tile.shape[1] % _GROUP:
        tile = F.pad(tile, (0, missing), value=-torch.inf)
    groups = tile.unflatten(1, (-1, _GROUP))
    count = groups.shape[1]
    peaks = _keys(groups.amax(dim=2), torch.arange(count, device=tile.device))
    chosen = peaks.topk(min(k, count), sorted=False).indices[:, :, None]
    values = groups.gather(1, chosen.expand(-1, -1, _GROUP)).flatten(1)
    places = (first + chosen * _GROUP + torch.arange(_GROUP, device=tile.device)).flatten(1)
    return _keys(values, places).topk(min(k, values.shape[1]), sorted=False).values


def _keys(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """64-bit integers ordered as the float32 values are, and where those are equal, by falling place."""
    return (_ordered(values.contiguous().view(torch.int32).long()) << 32) | (0xFFFFFFFF - places)


def _values_and_places(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values = _ordered(keys >> 32).int().view(torch.float32)
    return values, 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def _ordered(bits: torch.Tensor) -> torch.Tensor:
    """The bits of a float as an integer that orders alike: negative ones fall otherwise. Its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def mean_nearest(similarities: np.ndarray, k: int) -> np.ndarray:
    """(B,) float64 mean of the k largest of each row of (B, N) similarities."""
    nearest = np.partition(similarities, similarities.shape[1] - k, axis=1)[:, -k:]
    # Sorted, because the mean of equal values must not depend on the order that partition leaves.
    return np.sort(nearest, axis=1).astype(np.float64).mean(axis=1)
