"""Contrastive batches larger than memory: the towers run chunk by chunk, the loss sees the whole batch."""

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
    """A loss over all chunks, whose activations are held for one chunk at a time.

    Three passes: the towers without a gradient, keeping embeddings and random states; the loss on the joined
    embeddings, keeping its gradient with respect to them; the towers again, chunk by chunk with the random states
    replayed, so that dropout is the same, each back-propagating its part of that gradient. All chunks but the last
    are back-propagated here. The last one is left to the caller, so that whatever follows a step's backward pass (the
    all-reduce of DDP, the end of an accumulation window) happens once and in its usual place.

    Source: Gao et al., 2021 (GradCache), section 3; as in sentence-transformers' cached losses.

    A layer that changes itself in a forward pass (batch norm's running statistics) does so twice.

    Args:
        forward: a chunk to its fields. (b, ...) tensors are joined along the pairs; a () tensor is the same for all
            chunks, as the factor of the logits is; others are passed on from the first chunk.
        chunks: the batch in parts, at least one; every process must have equally many.
        loss: the joined fields to an object with `loss`, ().
        backward: back-propagates a chunk's part, with the caller's scaling.
        no_sync: context in which a forward and backward pass talks to no other process.

    Returns:
        what `loss` gave, detached; and the last chunk's loss, whose value is the whole loss and whose gradient is the
        last chunk's part of it.

    Raises:
        ValueError: if a field's chunks do not join.

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
    states, parts = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state())
            parts.append(dict(forward(chunk)))
    # Autocast keeps its half-precision copies of the weights, and those made above know no gradient.
    torch.clear_autocast_cache()
    fields, sizes = _join(parts)
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
            with _replayed(state):
                again = forward(chunk)
            part = torch.zeros((), device=result.loss.device)
            for name, gradient in wanted:
                if gradient.ndim > 0:
                    part = part + (again[name].float() * gradient[start : start + size].float()).sum()
                elif number == last:
                    part = part + again[name] * gradient
            if number < last:
                backward(part)
        start += size
    return result, result.loss.detach() + part - part.detach()


def _join(parts: list[Fields]) -> tuple[Fields, list[int]]:
    """The fields of the whole batch, and the number of pairs of each chunk."""
    fields: Fields = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if not isinstance(first, torch.Tensor) or first.ndim == 0:
            fields[name] = first
        elif any(value.shape[1:] != first.shape[1:] for value in values):
            shapes = sorted({tuple(value.shape) for value in values})
            raise ValueError(
                f"{name} has the shapes {shapes} in the chunks of one batch, which do not join: make it (pairs, ...) "
                "with the same trailing sizes, or train without chunks."
            )
        else:
            fields[name] = torch.cat(values)
    rows = next(name for name, value in parts[0].items() if isinstance(value, torch.Tensor) and value.ndim > 0)
    return fields, [len(part[rows]) for part in parts]


def _accelerator() -> Any:
    """torch's module of the accelerator, None on a CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if accelerator is None else torch.get_device_module(accelerator)


def _random_state() -> tuple[torch.Tensor, torch.Tensor | None]:
    module = _accelerator()
    return torch.get_rng_state(), None if module is None else module.get_rng_state()


@contextmanager
def _replayed(state: tuple[torch.Tensor, torch.Tensor | None]) -> Iterator[None]:
    """Random numbers as they were drawn from `state` on; afterwards they go on as if nothing had happened."""
    now = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(now)


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        _accelerator().set_rng_state(state[1])
