"""Cached gradients: the towers run chunk by chunk, and the loss sees the complete batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

Fields = dict[str, Any]


def cached_gradient_loss(
    forward: Callable[[Any], Mapping[str, Any]],
    chunks: Sequence[Any],
    loss: Callable[[Fields], Any],
    *,
    backward: Callable[[torch.Tensor], None],
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
) -> tuple[Any, torch.Tensor]:
    """Computes a loss over all chunks while the activations of one chunk at a time are in memory.

    There are three passes:

    1. The towers run without gradients. Embeddings and random states are kept.
    2. The loss of the joined embeddings is computed, and its gradient with respect to them is kept.
    3. The towers run again, chunk by chunk, with the same random states and so with the same dropout. Each chunk
       back-propagates its part of the gradient.

    All chunks but the last are back-propagated here. The caller back-propagates the last one. What follows a step's
    backward pass (the all-reduce of DDP, the end of gradient accumulation) then happens once and in its usual place.

    A layer that changes its state in a forward pass, such as batch norm, does so twice.

    Source: GradCache (Gao et al., 2021, section 3), as in sentence-transformers' cached losses.

    Args:
        forward: maps a chunk to its fields. Tensors (b, ...) are joined along the pairs. A tensor () is the same for
            all chunks, such as the logit scale. Other values are taken from the first chunk.
        chunks: the parts of the batch, at least one. Every process must have the same number.
        loss: maps the joined fields to an object with `loss`, ().
        backward: back-propagates a chunk's part, with the caller's scaling.
        no_sync: context in which a forward and backward pass does not communicate with other processes.

    Returns:
        The result of `loss`, and the last chunk's loss. The value of the latter is the complete loss, its gradient is
        the last chunk's part.

    Raises:
        ValueError: if the tensors of a field cannot be joined.

    Example:

    >>> weight = torch.tensor([2.0], requires_grad=True)
    >>> class Result:
    ...     def __init__(self, fields): self.loss = fields["x"].square().sum()
    >>> chunks = torch.tensor([1.0]), torch.tensor([3.0])
    >>> _, last = cached_gradient_loss(lambda c: {"x": c * weight}, chunks, Result, backward=torch.Tensor.backward)
    >>> last.backward()
    >>> last.item(), weight.grad.item()  # 4 + 36, and 2 * 2 * (1 + 9)
    (40.0, 40.0)
    """
    states, chunk_fields = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state())
            chunk_fields.append(dict(forward(chunk)))
    # Autocast caches half-precision copies of the weights, and the copies made above have no gradient.
    torch.clear_autocast_cache()
    fields, sizes = _join(chunk_fields)
    leaves = [name for name, value in fields.items() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    for name in leaves:
        fields[name] = fields[name].detach().requires_grad_()
    with torch.enable_grad():
        result = loss(fields)
        gradients = torch.autograd.grad(result.loss, [fields[name] for name in leaves], allow_unused=True)
    wanted = [(name, gradient) for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None]

    start, last = 0, len(chunks) - 1
    for number, (chunk, state, size) in enumerate(zip(chunks, states, sizes, strict=True)):
        with nullcontext() if number == last else no_sync():
            with _replay_random_state(state):
                outputs = forward(chunk)
            part = torch.zeros((), device=result.loss.device)
            for name, gradient in wanted:
                if gradient.ndim > 0:
                    part = part + (outputs[name].float() * gradient[start : start + size].float()).sum()
                elif number == last:
                    part = part + outputs[name] * gradient
            if number < last:
                backward(part)
        start += size
    return result, result.loss.detach() + part - part.detach()


def _join(chunk_fields: list[Fields]) -> tuple[Fields, list[int]]:
    """The fields of the complete batch, and the number of pairs of each chunk."""
    fields: Fields = {}
    for name, first in chunk_fields[0].items():
        values = [part[name] for part in chunk_fields]
        if not isinstance(first, torch.Tensor) or first.ndim == 0:
            fields[name] = first
        elif any(value.shape[1:] != first.shape[1:] for value in values):
            shapes = sorted({tuple(value.shape) for value in values})
            raise ValueError(
                f"{name} has the shapes {shapes} in the chunks of one batch; expected (pairs, ...) with the same "
                "trailing sizes. Change the model's output, or train without forward_chunk_size."
            )
        else:
            fields[name] = torch.cat(values)
    rows = next(name for name, value in chunk_fields[0].items() if isinstance(value, torch.Tensor) and value.ndim > 0)
    return fields, [len(part[rows]) for part in chunk_fields]


def _accelerator() -> Any:
    """torch's module of the accelerator; None on a CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if accelerator is None else torch.get_device_module(accelerator)


def _random_state() -> tuple[torch.Tensor, torch.Tensor | None]:
    """The states of the random generators of the CPU and of the accelerator."""
    module = _accelerator()
    return torch.get_rng_state(), None if module is None else module.get_rng_state()


@contextmanager
def _replay_random_state(state: tuple[torch.Tensor, torch.Tensor | None]) -> Iterator[None]:
    """Draws random numbers from `state` inside the block, and restores the current state afterwards."""
    current = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(current)


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    """Sets the states that `_random_state` returned."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        _accelerator().set_rng_state(state[1])
