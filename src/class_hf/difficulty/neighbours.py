"""The most similar rows of a set, exactly, by blocked matrix products on CPU and GPU."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from class_hf.difficulty.sparse_rows import BLOCK
from class_hf.utils.threads import single_thread

# Queries and rows of the base that are multiplied at a time. On a CPU such a tile fits into the cache.
_TILES = {"cpu": (256, 8192), "cuda": (4096, 32768)}

# The columns of a tile are searched in groups of this many, starting with the largest value of each group.
_GROUP = 32

_IMPORTED_BY = os.getpid()

T = TypeVar("T")


def tanimoto(dots: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tanimoto similarity of bit sets.

    Args:
        dots: (B, N) numbers of common bits. Overwritten.
        a: (B, 1) numbers of bits of the queries.
        b: (N,) numbers of bits of the base.

    Returns:
        (B, N) similarities. An empty set has similarity 0 to each set.

    >>> common = torch.tensor([[1.0, 0.0]])
    >>> tanimoto(common, torch.tensor([[1.0]]), torch.tensor([2.0, 2.0])).tolist()
    [[0.5, 0.0]]
    """
    # An empty set has no common bit with any set, so counting 1 bit for it only avoids 0 / 0.
    return dots.div_((a.clamp(min=1) + b).sub_(dots))


def cosine(dots: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine similarity.

    Args:
        dots: (B, N) dot products. Overwritten.
        a: (B, 1) squared lengths of the queries.
        b: (N,) squared lengths of the base.

    Returns:
        (B, N) similarities. An empty row has similarity 0 to each row.

    >>> cosine(torch.tensor([[3.0]]), torch.tensor([[9.0]]), torch.tensor([4.0])).tolist()
    [[0.5]]
    """
    tiny = torch.finfo(torch.float32).tiny
    return dots.mul_(1 / a.clamp(min=tiny).sqrt()).mul_(1 / b.clamp(min=tiny).sqrt())


SIMILARITIES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "tanimoto": tanimoto,
    "cosine": cosine,
}


def nearest(
    base: Any,
    k: int,
    similarity: str,
    queries: Any = None,
    device: str | None = None,
    *,
    tile: tuple[int, int] | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k most similar rows of a base, exactly, by blocked matrix products.

    Products of integer rows are exact in int8 and in float32. So the result does not depend on the type, the tiles,
    the number of queries, the threads or the device. Time is O(B N D). Memory is N D bytes for integer rows, and tiles
    of 40 MB per thread or 2 GB on a GPU, for any number of queries.

    Args:
        base: (N, D) array or tensor, int8 or float32. Integer rows must have squared lengths below 2^24, because
            float32 holds no larger integers exactly. Floating-point rows are multiplied as float32, with rounding.
        k: number of neighbours; at most N, or N - 1 without `queries`.
        similarity: `"tanimoto"` (for 0/1 rows) or `"cosine"`.
        queries: (B, D), of the base's type. Default: the rows of the base; then no row is its own neighbour.
        device: of torch. Default: CUDA if available, else the CPU.
        tile: queries and rows of the base that are multiplied at a time. It changes only time and memory.
        dtype: in which integer rows are multiplied. Default: int8 or float32, whichever is faster on the device.

    Returns:
        Similarities (B, k) float32 in descending order, and row numbers (B, k) int64. Among equal similarities, the
        first row of the base comes first.

    Raises:
        ValueError: if k is out of range, or integer rows are too long.

    >>> similarities, rows = nearest(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]], np.int8), 1, "tanimoto")
    >>> similarities[:, 0].tolist(), rows[:, 0].tolist()
    ([0.5, 0.5, 0.0], [1, 0, 0])
    """
    limit = len(base) - (queries is None)
    if not 1 <= k <= limit:
        raise ValueError(f"k is {k}; expected 1 to {limit}, the number of rows to choose among.")

    def search(part: slice, tiles: Iterable[tuple[slice, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray]:
        best: list[torch.Tensor] = []
        for columns, values in tiles:
            if queries is None:
                diagonal = torch.arange(part.start, part.stop, device=values.device)
                here = (diagonal >= columns.start) & (diagonal < columns.stop)
                values[here.nonzero().squeeze(1), diagonal[here] - columns.start] = -torch.inf
            keys = torch.cat([*best, _top_keys(values, k, columns.start)], dim=1)
            best = [keys.topk(min(k, keys.shape[1])).values]
        similarities, rows = _values_and_places(best[0])
        return similarities.cpu().numpy(), rows.cpu().numpy()

    blocks = _over_tiles(search, base, similarity, queries, device, tile, dtype)
    similarities, rows = zip(*blocks, strict=True)
    return np.concatenate(similarities), np.concatenate(rows)


def sums(
    base: Any,
    similarity: str,
    queries: Any,
    device: str | None = None,
    *,
    tile: tuple[int, int] | None = None,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """Sums each query's similarities to all rows of a base. The arguments are those of [`nearest`].

    Returns:
        (B,) float64.

    >>> sums(np.eye(3, dtype=np.int8), "cosine", np.array([[1, 1, 0]], np.int8)).round(3).tolist()
    [1.414]
    """

    def add(part: slice, tiles: Iterable[tuple[slice, torch.Tensor]]) -> np.ndarray:
        # NumPy's sum of a row does not depend on the other rows of the array.
        return np.sum([values.cpu().numpy().astype(np.float64).sum(axis=1) for _, values in tiles], axis=0)

    return np.concatenate(_over_tiles(add, base, similarity, queries, device, tile, dtype))


def counts_above(
    base: Any,
    threshold: float,
    similarity: str,
    queries: Any,
    device: str | None = None,
    *,
    tile: tuple[int, int] | None = None,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """Counts the rows of a base whose similarity to each query is at least a threshold.

    The other arguments are those of [`nearest`].

    Returns:
        (B,) int64.

    >>> counts_above(np.eye(3, dtype=np.int8), 0.5, "cosine", np.array([[1, 1, 0]], np.int8)).tolist()
    [2]
    """

    def count(part: slice, tiles: Iterable[tuple[slice, torch.Tensor]]) -> np.ndarray:
        return np.sum([(values >= threshold).sum(1).cpu().numpy() for _, values in tiles], axis=0)

    return np.concatenate(_over_tiles(count, base, similarity, queries, device, tile, dtype))


def similarities_of(base: Any, similarity: str, queries: Any, device: str | None = None) -> np.ndarray:
    """The similarity of each query to each row of a base: (B, N) float32. The arguments are those of [`nearest`].

    >>> similarities_of(np.eye(2, dtype=np.int8), "tanimoto", np.array([[1, 1]], np.int8)).tolist()
    [[0.5, 0.5]]
    """

    def collect(part: slice, tiles: Iterable[tuple[slice, torch.Tensor]]) -> np.ndarray:
        return np.concatenate([values.cpu().numpy() for _, values in tiles], axis=1)

    return np.concatenate(_over_tiles(collect, base, similarity, queries, device, None, None))


def _over_tiles(
    work: Callable[[slice, Iterable[tuple[slice, torch.Tensor]]], T],
    base: Any,
    similarity: str,
    queries: Any,
    device: str | None,
    tile: tuple[int, int] | None,
    dtype: torch.dtype | None,
) -> list[T]:
    """Calls `work` for each block of queries, and returns its results in order.

    `work` receives the slice of the queries, and tiles of their similarities to the base: the slice of the columns and
    float32 values.
    """
    if device is None:
        device = "cuda" if not _is_forked() and torch.cuda.is_available() else "cpu"
    torch_device = torch.device(device)
    height, width = tile or _TILES["cpu" if torch_device.type == "cpu" else "cuda"]
    with single_thread():
        right = torch.as_tensor(base).to(torch_device)
        left = right if queries is None else torch.as_tensor(queries)
        kind = torch.float32 if right.dtype != torch.int8 else dtype or fastest_dtype(torch_device.type)
        squares = _squares(right)
        if right.dtype == torch.int8 and squares.max() >= 2**24:
            raise ValueError(
                "a row's squared length is 2^24 or more, so its dot products are not exact in float32. Pass smaller "
                "integers, or float32 rows."
            )

    def tiles(block: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        lengths = _squares(block)[:, None]
        for first in range(0, len(right), width):
            columns = slice(first, min(first + width, len(right)))
            dots = _dots(block, right[columns], kind)
            yield columns, SIMILARITIES[similarity](dots, lengths, squares[columns])

    def run(start: int) -> T:
        block = left[start : start + height].to(torch_device)
        return work(slice(start, start + len(block)), tiles(block))

    return run_blocks(run, range(0, max(1, len(left)), height), threads=torch_device.type == "cpu")


def run_blocks(run: Callable[[int], T], starts: Sequence[int], *, threads: bool = True) -> list[T]:
    """Computes `[run(start) for start in starts]` in as many threads as torch would use, or in one.

    The threads are Python's and not OpenMP's. OpenMP's threads wait for each other after each operation, which takes
    several times as long where other processes keep the cores busy. They also hang in a forked process (`Dataset.map`
    with `num_proc`) whose parent has used them.

    Args:
        run: called with each start.
        starts: the first row of each block. A progress bar counts the blocks on a terminal.
        threads: False for one thread.

    >>> run_blocks(lambda start: start + 1, range(0, 6, 2))
    [1, 3, 5]
    """
    forked = _is_forked()
    count = torch.get_num_threads() if threads and not forked else 1
    with single_thread(), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        # Comparisons of a few blocks end at once; a bar for them would only flicker.
        results = pool.map(run, starts)
        return list(tqdm(results, total=len(starts), desc="Comparing pairs", delay=1.0, disable=forked or None))


def _is_forked() -> bool:
    """Whether this process is a fork of the one that imported this module."""
    return os.getpid() != _IMPORTED_BY


def _squares(rows: torch.Tensor) -> torch.Tensor:
    """(N,) float32 squared lengths of the rows."""
    return torch.cat([part.float().square().sum(dim=1) for part in rows.split(BLOCK)])


def _dots(left: torch.Tensor, right: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """(B, N) float32 dot products, multiplied in the type `kind`."""
    if kind == torch.int8:
        return torch._int_mm(_padded(left), _padded(right).T)[: len(left), : len(right)].float()
    return left.to(kind) @ right.to(kind).T


def _padded(rows: torch.Tensor) -> torch.Tensor:
    """Pads rows with zeros: CUDA multiplies int8 only in multiples of 8 columns, and in more than 16 rows."""
    missing = -len(rows) % 32, -rows.shape[1] % 8
    return F.pad(rows, (0, missing[1], 0, missing[0])) if rows.is_cuda and any(missing) else rows


@lru_cache
def fastest_dtype(device: str) -> torch.dtype:
    """The faster of int8 and float32 for integer products. Measured once, because devices differ 20-fold.

    Args:
        device: type of a torch device, for instance `"cpu"`.
    """
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
    """(B, k) keys of the largest values of a tile (B, n). No two keys are equal.

    The k largest values are in the k groups of adjacent columns with the largest maxima: for each value in another
    group, these k maxima are at least as large. Searching a few groups is faster than searching all columns.
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
    """64-bit integers in the order of the float32 values. Of equal values, the one with the lower place is larger."""
    return (_ordered(values.contiguous().view(torch.int32).long()) << 32) | (0xFFFFFFFF - places)


def _values_and_places(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The float32 values and the places from which [`_keys`] made the keys."""
    values = _ordered(keys >> 32).int().view(torch.float32)
    return values, 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def _ordered(bits: torch.Tensor) -> torch.Tensor:
    """The bits of a float as an integer with the same order. The function is its own inverse.

    Without it, negative floats would be in descending order.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def mean_nearest(similarities: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k largest similarities of each row.

    Args:
        similarities: (B, N).
        k: at most N.

    Returns:
        (B,) float64.

    >>> mean_nearest(np.array([[0.25, 0.0, 0.75]]), 2).tolist()
    [0.5]
    """
    largest = np.partition(similarities, similarities.shape[1] - k, axis=1)[:, -k:]
    # Sorted, because `partition` leaves them in an order that depends on the other values.
    return np.sort(largest, axis=1).astype(np.float64).mean(axis=1)
