"""The sections of gpu.py that measure the loss and the search for neighbours."""

from contextlib import suppress
from typing import Any

import common
import loss_memory
import numpy as np
import torch
from gpu_common import Sizes, free, peak_bytes, reported, synchronize

from class_hf.difficulty.neighbours import nearest


def loss_rows(sizes: Sizes, device: torch.device) -> list[dict[str, Any]]:
    """Measures both forms of the loss with the call of `loss_memory.py`, at D = 256.

    The bars are those of requirement 3 for 16,384 pairs. The first size is smaller and has no bars.
    """
    rows = []
    for number, pairs in enumerate(sizes.loss_pairs):
        inputs = [tensor.to(device) for tensor in loss_memory.embeddings(pairs, 256)]

        def run(name: str, inputs: list[torch.Tensor] = inputs) -> list[torch.Tensor]:
            result = loss_memory.step(name, inputs)
            synchronize(device)
            return result

        run("tiled")  # allocates workspaces before memory is read
        memory = {"tiled": peak_bytes(lambda run=run: run("tiled"), device)}
        with suppress(torch.OutOfMemoryError):
            memory["dense"] = peak_bytes(lambda run=run: run("dense"), device)
        free()
        times = common.best_of({name: lambda name=name, run=run: run(name) for name in memory})
        walls = {name: timing.wall for name, timing in times.items()}
        about = f"3 loss on the GPU, {pairs:,} pairs: "
        details = {
            "seconds": {name: float(f"{wall:.4g}") for name, wall in walls.items()},
            "mb": {name: round(held / 2**20, 1) for name, held in memory.items()},
        }
        for what, limit, of in (("time", 1.0, walls), ("peak extra memory", 0.1, memory)):
            requirement = f"{about}{what}, tiled over dense"
            if "dense" not in memory:
                row = common.skipped(requirement, f"<= {limit:g}", "the dense loss does not fit into memory")
                rows.append({**row, "details": details})
            elif number == 0:
                rows.append(reported(requirement, of["tiled"] / of["dense"], **details))
            else:
                rows.append(common.bar(requirement, "<=", limit, of["tiled"] / of["dense"], **details))
        if number == 0:
            (loss, *dense), (tiled_loss, *tiled) = run("dense"), run("tiled")
            worst = max(((b - a).norm() / a.norm()).item() for a, b in zip(dense, tiled, strict=True))
            rows.append(common.bar(about + "loss, tiled minus dense", "<=", 1e-5, abs(tiled_loss - loss).item()))
            rows.append(common.bar(about + "gradients, relative difference, worst", "<=", 1e-4, worst))
            del dense, tiled
        free()
    return rows


def fingerprints(rows: int, seed: int, device: torch.device) -> torch.Tensor:
    """(rows, 2048) int8 independent bits, with the frequencies of Morgan fingerprints of radius 2 on ChEBI-20.

    On ChEBI-20 the r-th most frequent bit is set in about min(0.73, 1.87 / r^0.8) of the molecules. The number of set
    bits is 31 on average (33 here) and varies by a factor of about e^0.5.
    """
    generator = torch.Generator(device).manual_seed(seed)
    shares = (1.87 * torch.arange(1, 2049, device=device) ** -0.8).clamp(max=0.73)
    result = torch.empty(rows, 2048, dtype=torch.int8, device=device)
    for part in result.split(65_536):
        factors = torch.exp(0.5 * torch.randn(len(part), 1, device=device, generator=generator) - 0.125)
        part.copy_(torch.rand(part.shape, device=device, generator=generator) < shares * factors)
    return result


def similarities(queries: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """(B, N) Tanimoto similarities in float64, by their definition."""
    parts = []
    for part in base.split(65_536):
        shared = queries.double() @ part.double().T
        parts.append(shared / (queries.sum(1)[:, None] + part.sum(1) - shared).clamp(min=1))
    return torch.cat(parts, 1)


def neighbour_rows(sizes: Sizes, device: torch.device) -> list[dict[str, Any]]:
    """Measures the exact Tanimoto top-k of queries that are not in the base."""
    base, queries = fingerprints(sizes.fingerprints, 0, device), fingerprints(sizes.queries, 1, device)

    def search(count: int = sizes.queries) -> tuple[np.ndarray, np.ndarray]:
        # The result is a NumPy array, so the device has finished.
        return nearest(base, sizes.neighbours, "tanimoto", queries=queries[:count], device=device.type)

    values, places = (torch.from_numpy(array).to(device) for array in search(16))  # also the warm-up
    expected = similarities(queries[:16], base)
    errors = expected.topk(sizes.neighbours).values - values, expected.gather(1, places) - values
    worst = max(error.abs().max().item() for error in errors)
    del expected
    memory = peak_bytes(search, device)
    wall = common.best_of({"search": search})["search"].wall
    about = f"6 exact difficulty on the GPU, Tanimoto top-{sizes.neighbours} of {sizes.fingerprints:,}: "
    details = {"queries": sizes.queries, "seconds": round(wall, 3), "peak_extra_mb": round(memory / 2**20, 1)}
    return [
        reported(about + "queries per second", sizes.queries / wall, **details),
        common.bar(about + "largest error", "<=", 1e-6, worst),
    ]
