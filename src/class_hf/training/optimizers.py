"""Optimizers: a learning rate of the text tower, and AdamW for the compact gradients of large embedding tables."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import get_total_norm
from torch.optim.adamw import AdamW, adamw

# Rows of a table that are updated together. Each block costs 0.1 ms, and its gradient has 4 MB with 256 columns.
_ROWS = 4096


def split_text_rate(optimizer: torch.optim.Optimizer, model: nn.Module, rate: float) -> None:
    """Moves the parameters of `text_model` into groups with their own learning rate.

    Args:
        optimizer: changed in place.
        model: the model whose parameters it trains.
        rate: learning rate of the text tower.

    Raises:
        ValueError: if the optimizer trains no parameters under `text_model`.

    >>> model = nn.ModuleDict({"text_model": nn.Linear(2, 2), "molecule_model": nn.Linear(2, 2)})
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> split_text_rate(optimizer, model, 0.01)
    >>> [(group["lr"], len(group["params"])) for group in optimizer.param_groups]
    [(0.1, 2), (0.01, 2)]
    """
    text = {id(parameter) for name, parameter in model.named_parameters() if "text_model" in name.split(".")}
    groups = list(optimizer.param_groups)
    for group in groups:
        text_parameters = [parameter for parameter in group["params"] if id(parameter) in text]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in text]
        if text_parameters:
            optimizer.add_param_group({**group, "params": text_parameters, "lr": rate})
    if len(optimizer.param_groups) == len(groups):
        raise ValueError(
            f"text_learning_rate is {rate}, but no parameters under `text_model` are trained. Leave it out, or do not "
            "freeze the text tower."
        )


class TableAdamW(AdamW):
    """AdamW that also takes sparse gradients, with the result of dense ones.

    A row without a gradient still moves by its momentum. `torch.optim.SparseAdam` leaves such rows where they are,
    which is another method. Here each table is updated block by block, and only a block has a dense gradient. State
    and checkpoints are those of AdamW.

    >>> dense, sparse = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
    >>> optimizers = torch.optim.AdamW([dense], lr=0.1), TableAdamW([sparse], lr=0.1)
    >>> for step in range(3):
    ...     dense.grad = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]) / (step + 1)
    ...     sparse.grad = dense.grad.to_sparse(1)
    ...     for optimizer in optimizers:
    ...         _ = optimizer.step()
    >>> torch.equal(dense, sparse)
    True
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates all parameters, as `torch.optim.AdamW.step` does."""
        tables = [
            (parameter, parameter.grad, group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for table, gradient, group in tables:
            self._update_table(table, gradient, group)
            table.grad = None  # the step of AdamW would refuse it
        loss = super().step(closure)
        for table, gradient, _ in tables:
            table.grad = gradient
        return loss

    def _update_table(self, table: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        gradient = _coalesced(gradient)
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        starts = list(range(0, len(table), _ROWS))
        firsts = torch.searchsorted(rows, torch.tensor([*starts, len(table)])).tolist()
        dense = values.new_zeros(min(_ROWS, len(table)), *values.shape[1:])
        for start, first, last in zip(starts, firsts, firsts[1:], strict=False):
            end = min(start + _ROWS, len(table))
            block = dense[: end - start].zero_()
            block.index_copy_(0, rows[first:last] - start, values[first:last])
            adamw(
                [table[start:end]],
                [block],
                [state["exp_avg"][start:end]],
                [state["exp_avg_sq"][start:end]],
                [],
                [state["step"].clone()],  # it is counted up in each call
                foreach=False,
                fused=bool(group["fused"]),
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
        state["step"] += 1


def _coalesced(gradient: torch.Tensor) -> torch.Tensor:
    """Adds the rows of a sparse gradient that belong together. Faster than `coalesce()` for wide rows."""
    if gradient.is_coalesced():
        return gradient
    rows, values = gradient._indices()[0], gradient._values()
    if not bool((rows.diff() > 0).all()):  # autograd drops the mark of a coalesced gradient
        rows, places = rows.unique(return_inverse=True)
        values = values.new_zeros(len(rows), *values.shape[1:]).index_add_(0, places, values)
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, is_coalesced=True, check_invariants=False)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scales gradients in place to a total norm of at most `max_norm`. They may be sparse.

    Args:
        parameters: their gradients are changed.
        max_norm: largest total norm; infinity only computes it.

    Returns:
        (), the total norm before.

    >>> table = nn.Parameter(torch.ones(3, 2))
    >>> table.grad = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]).to_sparse(1)
    >>> clip_gradients([table], 1.0), table.grad.to_dense()[1]
    (tensor(5.), tensor([0.6000, 0.8000]))
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = _coalesced(parameter.grad)
            gradients.append(parameter.grad.values())
        else:
            gradients.append(parameter.grad)
    norm = get_total_norm(gradients)
    factor = max_norm / (norm + 1e-6) if math.isfinite(max_norm) else 1.0
    if factor < 1.0 or not math.isfinite(factor):
        for gradient in gradients:
            gradient.mul_(factor)
    return norm


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
