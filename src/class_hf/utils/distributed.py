"""Operations over all processes of a run, with exact gradients."""

from typing import Any

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of processes; 1 without `torch.distributed`.

    >>> world_size()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process; 0 without `torch.distributed`.

    >>> rank()
    0
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _GatherWithGradient(torch.autograd.Function):
    """Forward: all-gather. Backward: sum the gradients of all processes, and keep the rows of this process.

    torch 2.13 deprecates its differentiable gathers, and `accelerator.gather` has no gradient.
    """

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor) -> torch.Tensor:
        ctx.rows = local.shape[0]
        return gather(local)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd may still use the original
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather_with_gradient(local: torch.Tensor) -> torch.Tensor:
    """Gathers the rows of all processes, in the order of their ranks, with the exact gradient.

    Args:
        local: (b, ...) rows of this process; b must be equal on all processes.

    Returns:
        (b W, ...) rows of all W processes. With one process, `local` itself.

    >>> gather_with_gradient(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    return local if world_size() == 1 else _GatherWithGradient.apply(local)


def gather(local: torch.Tensor) -> torch.Tensor:
    """Gathers the rows of all processes, in the order of their ranks, without a gradient.

    Args:
        local: (b, ...) rows of this process; b must be equal on all processes.

    Returns:
        (b W, ...) rows of all W processes. With one process, `local` itself.
    """
    if world_size() == 1:
        return local
    local = local.detach().contiguous()
    parts = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(parts, local)
    return torch.cat(parts)


def global_sum(value: torch.Tensor) -> torch.Tensor:
    """Sums a tensor over all processes, without a gradient.

    Args:
        value: a tensor of the same shape on all processes.

    Returns:
        The sum, as a new tensor.

    >>> global_sum(torch.tensor(2.0))
    tensor(2.)
    """
    total = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total
