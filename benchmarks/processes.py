"""Requirement 4: several processes give the gradient of a single process, and no tensor holds all pairs of pairs.

    python benchmarks/processes.py [--pairs 1024] [--width 64]

The processes (gloo) share one linear tower for each side and the logit scale, and average their gradients as DDP does.
Weights, duplicate mask and label smoothing are on. The largest tensor is the largest one that any operation of the
forward or backward pass returns.
"""

import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from common import arguments, bar, finish
from torch.utils._python_dispatch import TorchDispatchMode

from class_hf import ContrastiveLoss
from class_hf.curriculum.intensity import Intensity

LOSSES = {"dense": {"tiled_from": None}, "tiled": {"tiled_from": 0, "tile_size": 128}}


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operation returns. A view counts as its base."""

    elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def step(form: str, pairs: int, width: int, rank: int = 0, processes: int = 1) -> tuple[list[torch.Tensor], int]:
    """Gradients of both towers and of the logit scale from the pairs of one process, and the largest tensor."""
    generator = torch.Generator().manual_seed(0)
    texts, noise = (F.normalize(torch.randn(pairs, width, generator=generator), dim=-1) for _ in range(2))
    molecules = F.normalize(texts + noise, dim=-1)
    keys = torch.randint(0, 4 * pairs, (pairs, 2), generator=generator)
    rows = slice(rank * pairs // processes, (rank + 1) * pairs // processes)
    towers = [torch.eye(width).requires_grad_() for _ in range(2)]
    scale = torch.tensor(14.0, requires_grad=True)
    embeds = [side[rows] @ tower for side, tower in zip((texts, molecules), towers, strict=True)]
    with LargestTensor() as largest:
        ContrastiveLoss(0.1, **LOSSES[form])(*embeds, scale, Intensity(0.7, 1.5), keys[rows]).loss.backward()
    return [*(tower.grad for tower in towers), scale.grad], largest.elements


def work(rank: int, processes: int, port: int, pairs: int, width: int, file: str) -> None:
    """Runs one process. The first one saves the results of all."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    results = {}
    for form in LOSSES:
        gradients, elements = step(form, pairs, width, rank, processes)
        largest = torch.tensor(elements)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        for gradient in gradients:  # as DDP does
            dist.all_reduce(gradient)
            gradient /= processes
        results[form] = (gradients, int(largest))
    if rank == 0:
        torch.save(results, file)
    dist.barrier()
    dist.destroy_process_group()


def spawn(processes: int, pairs: int, width: int) -> dict[str, tuple[list[torch.Tensor], int]]:
    """Results of several processes: averaged gradients and the largest tensor, by form of the loss."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "results.pt")
        mp.spawn(work, args=(processes, port, pairs, width, file), nprocs=processes)
        return torch.load(file)


def main() -> None:
    args = arguments(
        __doc__,
        pairs={"type": int, "default": 1024, "help": "pairs in the global batch"},
        width={"type": int, "default": 64, "help": "width of the embeddings"},
    )
    single, _ = step("dense", args.pairs, args.width)
    rows = []
    for processes in (2, 4):
        results = spawn(processes, args.pairs, args.width)
        for form, (gradients, elements) in results.items():
            name = f"4 several processes: {processes} processes, {form} loss: "
            worst = max((b - a).norm() / a.norm() for a, b in zip(single, gradients, strict=True)).item()
            rows.append(bar(name + "gradient, relative difference from one", "<=", 1e-5, worst))
            # The dense loss may hold its rows times all columns. The tiled loss may hold nothing larger than the
            # embeddings.
            limit = 1 / processes if form == "dense" else args.width / args.pairs
            rows.append(bar(name + "largest tensor over pairs x pairs", "<=", limit, elements / args.pairs**2))
    finish(rows, args.output, pairs=args.pairs, width=args.width)


if __name__ == "__main__":
    main()
