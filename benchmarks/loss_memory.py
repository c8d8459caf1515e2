"""Requirement 3: memory, time and values of the tiled contrastive loss, compared with the dense one.

    python benchmarks/loss_memory.py [--pairs 16384] [--width 256]

One call is forward and backward in both directions, with weights. Memory is the peak of a new process above its memory
before the call, gradients of the embeddings included. There is no duplicate mask, which would cost the dense loss
more.
"""

import json
import os
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from common import arguments, bar, best_of, finish, fresh_process, peak_rss

from class_hf import ContrastiveLoss
from class_hf.curriculum.intensity import Intensity

LOSSES = {"dense": ContrastiveLoss(tiled_from=None), "tiled": ContrastiveLoss(tiled_from=0)}
MEASURE = "import sys, loss_memory; loss_memory.print_memory(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"


def embeddings(pairs: int, width: int) -> list[torch.Tensor]:
    """L2-normalised texts and molecules with a cosine of about 0.7 between partners, and the logit scale."""
    generator = torch.Generator().manual_seed(0)
    texts, noise = (F.normalize(torch.randn(pairs, width, generator=generator), dim=-1) for _ in range(2))
    return [texts, F.normalize(texts + noise, dim=-1), torch.tensor(14.0)]


def step(name: str, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """One call, forward and backward. Returns the loss, and the gradients of texts, molecules and logit scale."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    loss = LOSSES[name](*leaves, Intensity(sharpness=0.7, focus=1.5)).loss
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


def print_memory(name: str, pairs: int, width: int) -> None:
    """Prints by how many bytes one call raises the peak memory of this process."""
    step(name, embeddings(256, width))  # loads code and allocates the buffers of the threads
    inputs = embeddings(pairs, width)
    before = psutil.Process().memory_info().rss
    step(name, inputs)
    print(json.dumps({"bytes": peak_rss() - before}))


def memory(name: str, pairs: int, width: int) -> int:
    """Peak memory of one call in a new process, in bytes above the memory before."""
    # With this setting glibc returns freed blocks to the system at once, so freed memory is not counted.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    return fresh_process(MEASURE, name, pairs, width)["bytes"]


def main() -> None:
    args = arguments(
        __doc__,
        pairs={"type": int, "default": 16384, "help": "pairs in the batch"},
        width={"type": int, "default": 256, "help": "width of the embeddings"},
    )
    sizes = [args.pairs // 4, args.pairs // 2, args.pairs]
    tiled = [memory("tiled", pairs, args.width) for pairs in sizes]
    dense = memory("dense", args.pairs, args.width)

    inputs = embeddings(args.pairs, args.width)
    results: dict[str, list[torch.Tensor]] = {}
    times = best_of({name: lambda name=name: results.update({name: step(name, inputs)}) for name in LOSSES})
    (loss, *gradients), (tiled_loss, *tiled_gradients) = results["dense"], results["tiled"]
    worst = max((b - a).norm() / a.norm() for a, b in zip(gradients, tiled_gradients, strict=True))

    about = "3 loss memory: "
    details: dict[str, Any] = {"pairs": args.pairs, "width": args.width}
    megabytes = {pairs: round(value / 2**20, 1) for pairs, value in zip(sizes, tiled, strict=True)}
    rows = [
        bar(
            about + "peak extra memory, tiled over dense",
            "<=",
            0.1,
            tiled[-1] / dense,
            dense_mb=round(dense / 2**20, 1),
            tiled_mb=megabytes,
            **details,
        ),
        bar(
            about + "peak extra memory of a doubled batch, tiled, worst",
            "<=",
            2.3,
            max(b / a for a, b in zip(tiled, tiled[1:], strict=False)),
            tiled_mb=megabytes,
        ),
        bar(
            about + "wall time, tiled over dense",
            "<=",
            1.0,
            times["tiled"].wall / times["dense"].wall,
            seconds={name: [round(value, 3) for value in timing] for name, timing in times.items()},
            **details,
        ),
        bar(about + "loss, tiled minus dense", "<=", 1e-5, abs(tiled_loss - loss).item(), loss=loss.item()),
        bar(about + "gradients, relative difference, worst", "<=", 1e-4, worst.item()),
    ]
    finish(rows, args.output)


if __name__ == "__main__":
    main()
