"""Outputs of a frozen tower, computed once for each text or molecule and kept."""

import hashlib
import json
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import Hasher

from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import MOLECULE_FEATURES, POOLED, TEXT_FEATURES, stable_key

_FEATURES = {"text": TEXT_FEATURES, "molecule": MOLECULE_FEATURES}


def cache_frozen(
    dataset: Dataset, model: Any, processor: Any, side: str, *, batch_size: int = 1024, device: Any = None
) -> Dataset:
    """Adds the vectors of a frozen tower to prepared rows, as the column `text_pooled` or `molecule_pooled`.

    A batch of such rows carries the vectors in place of tokens or atoms, so the tower never runs again: not in
    training, not in evaluation. Equal inputs are encoded once. `datasets` keeps the result on disk under a key of the
    tower's weights, its configuration, the processor and the rows; when any of them changes, it is made anew.

    Args:
        dataset: rows of [`prepare_pairs`] or [`prepare_molecules`].
        model: a dual encoder with `freeze_text` or `freeze_molecule`.
        processor: its processor.
        side: `"text"` or `"molecule"`.
        batch_size: rows encoded at once, neighbours in length together.
        device: where to encode; the model's own place if None.

    Returns:
        the rows with bytes of H float32 numbers more.

    Raises:
        ValueError: if the tower is not frozen.

    Example:

    ```python
    model = TextMoleculeDualEncoderModel.from_towers("ORG/NAME", "graph", freeze_text=True)
    train = cache_frozen(prepare_pairs(pairs, processor), model, processor, "text")
    ```
    """
    if not getattr(model.config, f"freeze_{side}"):
        raise ValueError(
            f"the {side} tower is not frozen: its vectors change as it learns. Set freeze_{side}, or do not cache."
        )
    if side == "text" and getattr(model.config, "read_names", False):
        raise ValueError(
            "the model reads names, by a molecule tower that may learn: the captions' vectors change with it."
        )
    column = _FEATURES[side]
    blobs = dataset[column][:]
    _, first, inverse = np.unique([stable_key(blob) for blob in blobs], return_index=True, return_inverse=True)
    # Longest first, so that neighbours in length share a batch and a lack of memory shows at once.
    order = sorted(range(len(first)), key=lambda place: -len(blobs[first[place]]))
    distinct = dataset.select_columns([column]).select(first[order])
    tower = model.text_model if side == "text" else model.molecule_model
    key = Hasher.hash([tower_key(tower), processor.content_key(), [blobs[first[place]] for place in order]])
    home, training = next(model.parameters()).device, model.training
    device = home if device is None else device
    collator = TextMoleculeCollator(processor)
    encode = model.pooled_text if side == "text" else model.pooled_molecules

    def vectors(batch: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
        with torch.inference_mode():
            inputs = collator([{column: blob} for blob in batch[column]])
            pooled = encode(**{name: value.to(device) for name, value in inputs.items()})
        return {POOLED[side]: [row.tobytes() for row in pooled.float().cpu().numpy()]}

    model.to(device).eval()
    try:
        pooled = distinct.map(
            vectors,
            batched=True,
            batch_size=batch_size,
            remove_columns=[column],
            new_fingerprint=key,
            desc=f"Encoding {side}s once",
        )
    finally:
        model.to(home).train(training)
    places = np.empty(len(first), np.int64)
    places[order] = np.arange(len(first))
    return concatenate_datasets([dataset, pooled.select(places[inverse])], axis=1)


def tower_key(tower: Any) -> str:
    """Hash of a tower's configuration and weights: what decides its outputs."""
    digest = hashlib.sha256(json.dumps(tower.config.to_dict(), sort_keys=True, default=str).encode())
    for name, value in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
