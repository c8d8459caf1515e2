"""Collectives with the right gradient."""

from typing import Any

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of processes, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process, 0 without `torch.distributed`."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _GatherWithGradient(torch.autograd.Function):
    """Forward: all-gather. Backward: sum every process's gradient, keep the own rows.

    torch deprecates its own differentiable gathers (2.13), and `accelerator.gather` has no gradient.
    """

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor) -> torch.Tensor:
        ctx.rows = local.shape[0]
        return gather(local)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd may own the original
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather_with_gradient(local: torch.Tensor) -> torch.Tensor:
    """All processes' rows, in the order of the ranks: (b, ...) to (b W, ...), with the exact gradient.

    Every process must hold the same number of rows. With one process `local` comes back as it is.
    """
    return local if world_size() == 1 else _GatherWithGradient.apply(local)


def gather(local: torch.Tensor) -> torch.Tensor:
    """All processes' rows, in the order of the ranks, without a gradient: (b, ...) to (b W, ...)."""
    if world_size() == 1:
        return local
    local = local.detach().contiguous()
    parts = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(parts, local)
    return torch.cat(parts)


def global_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum of `value` over all processes, without a gradient."""
    total = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total
