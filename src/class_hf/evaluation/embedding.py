"""Embeds one side of a prepared data set: all captions, or all molecules."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from class_hf.data.prepare import MOLECULE_FEATURES, POOLED, TEXT_FEATURES
from class_hf.utils.distributed import gather, rank, world_size
from class_hf.utils.in_memory import plain_rows
from class_hf.utils.model_output import output_fields
from class_hf.utils.protocols import RetrievalModel

PREPARED_COLUMNS = {"text": (TEXT_FEATURES,), "molecule": (MOLECULE_FEATURES,)}

Collator = Callable[..., dict[str, torch.Tensor]]


def embed(
    model: RetrievalModel,
    dataset: Dataset,
    collator: Collator,
    side: str,
    batch_size: int = 256,
    columns: Mapping[str, Sequence[str]] | None = None,
    *,
    progress_bar: bool | None = None,
) -> torch.Tensor:
    """Embeds the captions or the molecules of a prepared data set.

    Rows with equal features are embedded once, so their embeddings are equal in every bit. Several processes share
    the work, and each process gets all embeddings.

    Args:
        model ([`~class_hf.utils.protocols.RetrievalModel`]): a dual encoder. Its training or evaluation mode is
            restored afterwards.
        dataset (`Dataset`): N prepared rows.
        collator (`Callable`): makes a batch of tensors from a list of rows. It must give equal rows equal tensors.
        side (`str`): `"text"` or `"molecule"`.
        batch_size (`int`, *optional*, defaults to 256): rows per batch.
        columns (`Mapping`, *optional*): for each side, the columns that the collator reads. Default: the prepared
            features.
        progress_bar (`bool`, *optional*): show a progress bar. Default: only where stderr is a terminal.

    Returns:
        The embeddings (N, D), float32 on the CPU, in the order of the rows.

    Raises:
        ValueError: if the model returns no embeddings for a batch of captions alone, or of molecules alone.
    """
    if columns is None:
        dataset = plain_rows(dataset)
    names = side_columns(dataset, side, columns)
    output = f"{side}_embeds"
    device = next(model.parameters()).device
    rows = dataset.select_columns(names)
    first, inverse = _distinct(rows)
    rows = rows.select(first)
    if world_size() > 1:
        # Each process gets the same number of rows; the last row is repeated. A sharded model gathers its weights in
        # every forward pass, so a process with fewer batches would block the others.
        share = -(-len(rows) // world_size())
        rows = rows.select(np.minimum(rank() * share + np.arange(share), len(rows) - 1))
    # Rows of similar length share a batch, which reduces padding.
    order = np.argsort([-len(value) if hasattr(value, "__len__") else 0 for value in rows[names[0]][:]], kind="stable")
    rows = rows.select(order)
    with evaluating(model):
        parts = [
            _field(model(**{name: value.to(device) for name, value in batch.items()}), output).float()
            for batch in _batches(rows, collator, batch_size, f"Embedding {side}s", progress_bar)
        ]
    embeddings = torch.cat(parts)
    original_order = torch.from_numpy(np.argsort(order)).to(embeddings.device)
    return gather(embeddings[original_order])[: len(first)].cpu()[torch.from_numpy(inverse)]


def logit_scale(
    model: RetrievalModel,
    dataset: Dataset,
    collator: Collator,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> torch.Tensor:
    """Reads the logit scale of a model.

    It is a field of the model's output, so the model is run on the first row of a data set.

    Args:
        model ([`~class_hf.utils.protocols.RetrievalModel`]): a dual encoder.
        dataset (`Dataset`): prepared rows, at least one.
        collator (`Callable`): as for [`embed`].
        columns (`Mapping`, *optional*): as for [`embed`].

    Returns:
        The logit scale, a float32 scalar on the CPU.
    """
    row = dataset.select_columns(side_columns(dataset, "text", columns)).select([0])
    device = next(model.parameters()).device
    with evaluating(model):
        batch = next(_batches(row, collator, 1, "Embedding texts", None))
        output = model(**{name: value.to(device) for name, value in batch.items()})
    return _field(output, "logit_scale").float().cpu()


def side_columns(dataset: Dataset, side: str, columns: Mapping[str, Sequence[str]] | None) -> list[str]:
    """Names the columns that hold one side of a data set.

    Args:
        dataset (`Dataset`): prepared rows.
        side (`str`): `"text"` or `"molecule"`.
        columns (`Mapping`, *optional*): the columns of each side, for a collator of the user's own.

    >>> side_columns(Dataset.from_dict({"id": ["a"], "text_features": [b"1"]}), "text", None)
    ['text_features']
    """
    if columns is None and POOLED[side] in dataset.column_names:
        return [POOLED[side]]
    return list((columns or PREPARED_COLUMNS)[side])


@contextmanager
def evaluating(model: RetrievalModel) -> Iterator[None]:
    """Runs the block in evaluation mode without gradients, and restores the mode of the model afterwards.

    >>> model = torch.nn.Dropout().train()
    >>> with evaluating(model):
    ...     model.training, torch.is_grad_enabled()
    (False, False)
    >>> model.training
    True
    """
    training = model.training
    model.eval()
    try:
        # Not inference mode: a sharded model that gathers its weights there could not be trained afterwards.
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _distinct(rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each distinct content, (M,), and for every row its place among these, (N,)."""
    places: dict[tuple[Any, ...], int] = {}
    first: list[int] = []
    inverse = np.empty(len(rows), np.int64)
    columns = [rows[name][:] for name in rows.column_names]
    for row, values in enumerate(zip(*columns, strict=True)):
        key = tuple(map(_content, values))
        place = places.setdefault(key, len(places))
        if place == len(first):
            first.append(row)
        inverse[row] = place
    return np.array(first, np.int64), inverse


def _content(value: Any) -> Any:
    """What tells a value from another one. The text of a long array is abridged, so its bytes are taken."""
    if isinstance(value, torch.Tensor):
        value = value.cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value if isinstance(value, bytes | str) else repr(value)


def _field(outputs: Any, name: str) -> torch.Tensor:
    """A field of the output of a model, or an error that says what the model must accept."""
    value = output_fields(outputs).get(name)
    if value is None:
        raise ValueError(
            f"the model returned no {name} for a batch with one side. Its forward must accept captions alone and "
            "molecules alone."
        )
    return value


def _batches(
    rows: Dataset, collator: Collator, batch_size: int, description: str, progress_bar: bool | None
) -> Iterator[dict[str, torch.Tensor]]:
    """Collated batches of rows, with a progress bar."""
    # A data loader draws a seed. With the global generator that draw would change the training.
    generator = torch.Generator().manual_seed(0)
    loader: DataLoader = DataLoader(rows, batch_size=batch_size, collate_fn=collator, generator=generator)
    # With `disable=None` the bar is hidden where the output is not a terminal.
    disable = None if progress_bar is None else not progress_bar
    yield from tqdm(loader, desc=description, leave=False, disable=disable)


def captions_of_other_splits(prepared: Mapping[str, Dataset], split: str) -> Dataset | None:
    """Joins the captions of all splits except one. They are the further candidates of molecule to text.

    Args:
        prepared (`Mapping[str, Dataset]`): by split, prepared pairs.
        split (`str`): the evaluated split, which is left out.

    Returns:
        The prepared captions, or None if there is no other split.
    """
    columns = (TEXT_FEATURES, POOLED["text"])
    others = [
        pairs.select_columns([column for column in columns if column in pairs.column_names])
        for name, pairs in prepared.items()
        if name != split
    ]
    return concatenate_datasets(others) if others else None
