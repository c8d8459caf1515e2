"""Sizes and helpers that the sections of gpu.py share."""

import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import common
import torch


class Sizes(NamedTuple):
    """Sizes of all sections."""

    tower: dict[str, int] = {
        "vocab_size": 31090
    }  # of SciBERT; the other sizes of BERT base are the defaults of BertConfig
    batch: int = 1024
    tower_chunks: tuple[int, ...] = (64, 128, 256)
    forward_chunk: int = 256
    steps: tuple[int, int, int] = (6, 30, 3)  # warm-up, timed, profiled
    pairs: int | None = None  # taken from the training set; None for all
    workers: int = 4
    loss_pairs: tuple[int, ...] = (8192, 32768, 65536)
    fingerprints: int = 1_000_000
    queries: int = 65_536
    neighbours: int = 32
    matrix: int = 8192


TINY = Sizes(
    tower={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    **{"batch": 8, "tower_chunks": (4, 8), "forward_chunk": 4, "steps": (1, 1, 1), "pairs": 16, "workers": 0},
    **{"loss_pairs": (64, 128), "fingerprints": 2000, "queries": 64, "matrix": 64},
)


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def free() -> None:
    """Releases the GPU memory of a finished or failed section."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def peak_bytes(function: Callable[[], Any], device: torch.device) -> int:
    """Peak memory while `function` runs, in bytes above the memory before."""
    if device.type != "cuda":
        return max(1, common.peak_during(function))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def reported(requirement: str, measured: float, **details: Any) -> dict[str, Any]:
    """A result row without a bar."""
    return {**common.skipped(requirement, "none", "reported, no bar is set", measured), "details": details}


def message(error: Exception) -> str:
    """Type and first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
