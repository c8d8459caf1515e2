"""Embed one side of a prepared data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from class_hf.data.prepare import MOLECULE_FEATURES, POOLED, TEXT_FEATURES
from class_hf.utils.distributed import gather, rank, world_size
from class_hf.utils.model_output import output_fields

PREPARED_COLUMNS = {"text": (TEXT_FEATURES,), "molecule": (MOLECULE_FEATURES,)}


def embed(
    model: Any,
    dataset: Dataset,
    collator: Callable[..., dict[str, torch.Tensor]],
    side: str,
    batch_size: int = 256,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> torch.Tensor:
    """One side of a prepared data set as (N, D) float32 on the CPU; several processes share the work.

    Args:
        model: a dual encoder; its own mode (training or evaluation) is put back afterwards.
        dataset: prepared rows.
        collator: makes a batch of rows.
        side: `"text"` or `"molecule"`.
        batch_size: rows a batch.
        columns: the columns of each side that the collator reads; by default those of the prepared features.

    Raises:
        ValueError: if the model gives no embeddings of that side when it gets that side alone.
    """
    names = side_columns(dataset, side, columns)
    output = f"{side}_embeds"
    device = next(model.parameters()).device
    rows = dataset.select_columns(names)
    if world_size() > 1:
        # Equally many rows each, the last one repeated: a sharded model gathers its weights in every forward pass, so
        # that a process with a batch less would leave the others waiting.
        share = -(-len(rows) // world_size())
        rows = rows.select(np.minimum(rank() * share + np.arange(share), len(rows) - 1))
    # Neighbours in length share a batch, so that little is padded; the order is put back below.
    order = np.argsort([-len(value) if hasattr(value, "__len__") else 0 for value in rows[names[0]][:]], kind="stable")
    rows = rows.select(order)
    with evaluating(model):
        parts = [
            _side(model(**{name: value.to(device) for name, value in batch.items()}), output).float()
            for batch in _batches(rows, collator, batch_size, f"Embedding {side}s")
        ]
    embeddings = torch.cat(parts)
    back = torch.from_numpy(np.argsort(order)).to(embeddings.device)
    return gather(embeddings[back])[: len(dataset)].cpu()


def logit_scale(
    model: Any,
    dataset: Dataset,
    collator: Callable[..., dict[str, torch.Tensor]],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> torch.Tensor:
    """The factor () of the model's cosines, which it gives with every output: float32 on the CPU.

    Args:
        model, collator, columns: as of [`embed`].
        dataset: prepared rows, of which the first is embedded.
    """
    row = dataset.select_columns(side_columns(dataset, "text", columns)).select([0])
    device = next(model.parameters()).device
    with evaluating(model):
        batch = next(_batches(row, collator, 1, "Embedding texts"))
        output = model(**{name: value.to(device) for name, value in batch.items()})
    return _side(output, "logit_scale").float().cpu()


def side_columns(dataset: Dataset, side: str, columns: Mapping[str, Sequence[str]] | None) -> list[str]:
    """The columns of a data set that one side is made of."""
    if columns is None and POOLED[side] in dataset.column_names:
        return [POOLED[side]]
    return list((columns or PREPARED_COLUMNS)[side])


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; the model's own mode is put back."""
    training = model.training
    model.eval()
    try:
        # Not in inference mode: weights that a sharded model gathers there could never be trained.
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _side(outputs: Any, name: str) -> torch.Tensor:
    embeddings = output_fields(outputs).get(name)
    if embeddings is None:
        raise ValueError(
            f"the model gave no {name} for that side alone: forward must take captions or molecules alone."
        )
    return embeddings


def _batches(
    rows: Dataset, collator: Callable[..., dict[str, torch.Tensor]], batch_size: int, description: str
) -> Iterator[dict[str, torch.Tensor]]:
    # A generator of its own: a loader draws a seed, and taking it from torch's would change the training around it.
    generator = torch.Generator().manual_seed(0)
    loader: DataLoader = DataLoader(rows, batch_size=batch_size, collate_fn=collator, generator=generator)
    # `disable=None` keeps the bar away where the output is not a terminal.
    yield from tqdm(loader, desc=description, leave=False, disable=None)
