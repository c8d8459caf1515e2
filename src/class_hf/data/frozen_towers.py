"""Caches the outputs of a frozen tower, so that each caption or molecule is encoded once."""

import hashlib
import json
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import Hasher

from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import MOLECULE_FEATURES, POOLED, TEXT_FEATURES, stable_key
from class_hf.utils.protocols import Processor

_FEATURES = {"text": TEXT_FEATURES, "molecule": MOLECULE_FEATURES}


def cache_frozen(
    dataset: Dataset,
    model: Any,
    processor: Processor,
    side: str,
    *,
    batch_size: int = 1024,
    device: str | torch.device | None = None,
) -> Dataset:
    """Adds the outputs of a frozen tower to prepared rows.

    Batches of the returned rows hold these vectors in place of tokens or atoms, so the tower does not run in training
    or evaluation. Equal inputs are encoded once. `datasets` caches the result. The cache key covers the weights and
    the configuration of the tower, the processor and the rows.

    Args:
        dataset (`Dataset`): rows of [`prepare_pairs`] or [`prepare_molecules`].
        model ([`TextMoleculeDualEncoderModel`]): a dual encoder with `freeze_text` or `freeze_molecule`.
        processor ([`TextMoleculeProcessor`]): the processor that prepared the rows.
        side (`str`): the frozen tower, `"text"` or `"molecule"`.
        batch_size (`int`, *optional*, defaults to 1024): rows per batch. Rows of similar length share a batch.
        device (`str` or `torch.device`, *optional*): device of the tower while it encodes. Default: the model's.

    Returns:
        The rows with the column `text_pooled` or `molecule_pooled`: the bytes of H float32 values.

    Raises:
        ValueError: if the tower is not frozen.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeDualEncoderModel
    >>> from class_hf import TextMoleculeProcessor
    >>> from class_hf.data.prepare import prepare_pairs
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> model = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint", freeze_text=True)
    >>> pairs = Dataset.from_dict({"smiles": ["CCO"], "description": ["An alcohol."]})
    >>> rows = cache_frozen(prepare_pairs(pairs, processor), model, processor, "text")
    >>> rows.column_names[-1]
    'text_pooled'
    """
    if not getattr(model.config, f"freeze_{side}"):
        raise ValueError(
            f"the {side} tower is not frozen: training changes its outputs. Set freeze_{side}, or do not cache them."
        )
    if side == "text" and getattr(model.config, "read_names", False):
        raise ValueError(
            "the model has read_names, so its caption vectors depend on the molecule tower, which may be trained. "
            "Do not cache the text tower's outputs."
        )
    column = _FEATURES[side]
    blobs = dataset[column][:]
    _, first, inverse = np.unique([stable_key(blob) for blob in blobs], return_index=True, return_inverse=True)
    # Longest first: rows of similar length share a batch, and out-of-memory errors occur at the start.
    order = sorted(range(len(first)), key=lambda position: -len(blobs[first[position]]))
    distinct = dataset.select_columns([column]).select(first[order])
    tower = model.text_model if side == "text" else model.molecule_model
    key = Hasher.hash([tower_key(tower), processor.content_key(), [blobs[first[position]] for position in order]])
    model_device, training = next(model.parameters()).device, model.training
    device = model_device if device is None else device
    collator = TextMoleculeCollator(processor)
    encode = model.pooled_text if side == "text" else model.pooled_molecules

    def encode_batch(batch: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
        with torch.inference_mode():
            inputs = collator([{column: blob} for blob in batch[column]])
            pooled = encode(**{name: value.to(device) for name, value in inputs.items()})
        return {POOLED[side]: [row.tobytes() for row in pooled.float().cpu().numpy()]}

    model.to(device).eval()
    try:
        pooled = distinct.map(
            encode_batch,
            batched=True,
            batch_size=batch_size,
            remove_columns=[column],
            new_fingerprint=key,
            desc=f"Encoding {side}s once",
        )
    finally:
        model.to(model_device).train(training)
    positions = np.empty(len(first), np.int64)
    positions[order] = np.arange(len(first))
    return concatenate_datasets([dataset, pooled.select(positions[inverse])], axis=1)


def tower_key(tower: Any) -> str:
    """Hash of a tower's configuration and weights, which determine its outputs."""
    digest = hashlib.sha256(json.dumps(tower.config.to_dict(), sort_keys=True, default=str).encode())
    for name, value in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
