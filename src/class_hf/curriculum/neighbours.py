"""The most similar rows of a set, exactly, by blocked matrix products on CPU and GPU."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array

# Rows and columns of the base that are multiplied at a time. On a CPU the tile stays in the cache.
_TILES = {"cpu": (256, 8192), "cuda": (4096, 32768)}

# The columns of a tile are searched by groups of this many, by their largest value first.
_GROUP = 32

# Rows that are unpacked at a time where all of them are not needed together.
_BLOCK = 8192

# Euclidean length of a sketch: 8-bit integers hold each component.
_LENGTH = 127

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
    with _single_thread():
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
    with _single_thread(), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(run, starts))


def _is_forked() -> bool:
    return os.getpid() != _IMPORTED_BY


@contextmanager
def _single_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _squares(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.float().square().sum(dim=1) for part in rows.split(_BLOCK)])


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


@dataclass(frozen=True, eq=False)
class Rows:
    """N sparse rows of integers. Plain arrays, because SciPy's matrices change their attributes when used.

    Attributes:
        columns, weights: (T,) int and float32, row after row.
        offsets: (N + 1,) where each row starts.
        width: number of columns.
        squares: (N,) float32 squared lengths of the rows.
    """

    columns: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    width: int
    squares: np.ndarray

    @classmethod
    def of(cls, matrix: csr_array, squares: np.ndarray | None = None) -> "Rows":
        """Take a matrix; its rows' squared lengths are computed if they are not given."""
        if squares is None:
            squares = np.asarray(matrix.multiply(matrix).sum(axis=1), np.float32).ravel()
        return cls(matrix.indices, matrix.data, matrix.indptr, matrix.shape[1], squares)

    def __len__(self) -> int:
        return len(self.squares)

    @property
    def matrix(self) -> csr_array:
        """(N, width)."""
        return csr_array((self.weights, self.columns, self.offsets), shape=(len(self), self.width))

    def take(self, rows: Any) -> "Rows":
        """The chosen rows."""
        return Rows.of(self.matrix[rows], self.squares[rows])

    def blocks(self) -> Iterator["Rows"]:
        """All the rows, as many at a time as are well unpacked at once."""
        for start in range(0, len(self), _BLOCK):
            yield self.take(slice(start, start + _BLOCK))

    def dense(self) -> np.ndarray:
        """(N, width) int8; for weights that fit."""
        matrix = self.matrix
        return csr_array((matrix.data.astype(np.int8), matrix.indices, matrix.indptr), shape=matrix.shape).toarray()


def sketch(columns: np.ndarray, weights: np.ndarray, offsets: np.ndarray, width: int) -> Rows:
    """Sparse rows with their columns hashed to ``width`` of them, at random signs and at length 127, in integers.

    A sparse random projection (Weinberger et al., "Feature hashing for large scale multitask learning", 2009,
    section 2): cosines keep their expected value, with a standard deviation of at most about 1 / sqrt(width).
    Nothing is fitted, and no row depends on another.

    Args:
        columns, weights: (T,) integers of any size, and numbers, row after row.
        offsets: (N + 1,) where each row starts.
        width: number of columns of the result.
    """
    mixed = mix(columns.astype(np.uint64), np.uint64(0))
    signed = np.where(mixed >> np.uint64(63), weights, -weights).astype(np.float64)
    places = (mixed % np.uint64(width)).astype(np.int64)
    # Copied, because adding up equal columns moves the offsets.
    matrix = csr_array((signed, places, offsets.copy()), shape=(len(offsets) - 1, width))
    matrix.sum_duplicates()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    lengths = np.sqrt(np.bincount(rows, matrix.data**2, minlength=matrix.shape[0]))
    # Where all terms of a row cancel each other out, it stays empty.
    matrix.data = np.rint(_LENGTH * matrix.data / np.maximum(lengths, 1e-30)[rows]).astype(np.float32)
    matrix.eliminate_zeros()
    return Rows.of(matrix)


def mix(left: np.ndarray, right: np.ndarray | np.uint64) -> np.ndarray:
    """A 64-bit hash of ordered pairs of 64-bit integers (SplitMix64's finaliser; products wrap round)."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + right
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
