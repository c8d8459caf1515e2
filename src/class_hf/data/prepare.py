"""Featurises every pair once: token ids and molecule features as compact blobs, cached by `datasets`."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import rdkit
import transformers
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import Hasher
from rdkit import Chem, rdBase

from class_hf._version import __version__

TEXT_FEATURES = "text_features"
MOLECULE_FEATURES = "molecule_features"
POOLED = {"text": "text_pooled", "molecule": "molecule_pooled"}  # columns of frozen towers' outputs
PAIR_KEYS = ("text_key", "molecule_key")


def stable_key(content: str | bytes) -> int:
    """A 63-bit key of a string or of bytes, the same in every process and run."""
    data = content.encode() if isinstance(content, str) else content
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def molecule_key(smiles: str) -> int:
    """A key of the molecule, the same for every way to write it as SMILES; of the text itself if RDKit fails."""
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    return stable_key(smiles if molecule is None else Chem.MolToSmiles(molecule))


def _check_columns(dataset: Dataset, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in dataset.column_names]
    if missing:
        raise ValueError(f"the data set lacks the column(s) {missing}; it has {dataset.column_names}.")


def _add_features(
    dataset: Dataset, function: Any, columns: list[str], processor: Any, num_proc: int | None, description: str
) -> Dataset:
    """The rows with what `function` makes of their `columns`; made once for rows of that content, wherever they lie.

    So a data set that is scored anew is not prepared anew. The key is ours for another reason too: a tokenizer changes
    itself while it works, which would spoil the fingerprint. Rows that lie in memory only are cached nowhere, as ever.
    """
    _check_columns(dataset, columns)
    rows = dataset.flatten_indices() if dataset._indices is not None else dataset
    source = rows.select_columns(columns).with_format(None)
    versions = [__version__, rdkit.__version__, transformers.__version__]
    content = [source[name][:] for name in columns]
    key = Hasher.hash([content, processor.content_key(), function.__name__, *versions])
    file = None
    if dataset.cache_files and datasets.is_caching_enabled():
        folder = Path(datasets.config.HF_DATASETS_CACHE, "class_hf_prepared")
        folder.mkdir(parents=True, exist_ok=True)
        file = str(folder / f"{key}.arrow")
    features = source.map(
        partial(function, processor=processor),
        batched=True,
        remove_columns=columns,
        num_proc=num_proc,
        desc=description,
        new_fingerprint=key,
        cache_file_name=file,
    )
    earlier = [name for name in rows.column_names if name in features.column_names]
    return concatenate_datasets([rows.remove_columns(earlier), features], axis=1, split=dataset.split)


def _encode_pairs(batch: dict[str, list[Any]], processor: Any) -> dict[str, list[Any]]:
    return {
        TEXT_FEATURES: processor.encode_text(batch["description"]),
        MOLECULE_FEATURES: processor.encode_molecules(batch["smiles"]),
        "text_key": [stable_key(text) for text in batch["description"]],
        "molecule_key": [molecule_key(smiles) for smiles in batch["smiles"]],
    }


def _encode_molecules(batch: dict[str, list[Any]], processor: Any) -> dict[str, list[Any]]:
    return {MOLECULE_FEATURES: processor.encode_molecules(batch["smiles"])}


def prepare_pairs(dataset: Dataset, processor: Any, num_proc: int | None = None) -> Dataset:
    """Adds what training reads: `text_features`, `molecule_features` (bytes), `text_key`, `molecule_key` (int64).

    Args:
        dataset: pairs with `smiles` and `description`.
        processor: a [`TextMoleculeProcessor`].
        num_proc: processes of `Dataset.map`.

    Raises:
        ValueError: if a column is missing, a caption empty or a SMILES not readable.
    """
    return _add_features(dataset, _encode_pairs, ["smiles", "description"], processor, num_proc, "Preparing pairs")


def prepare_molecules(dataset: Dataset, processor: Any, num_proc: int | None = None) -> Dataset:
    """Adds `molecule_features` (bytes) to a data set with `smiles`, for instance the candidate pool."""
    return _add_features(dataset, _encode_molecules, ["smiles"], processor, num_proc, "Preparing molecules")


def pair_keys(features: Sequence[dict[str, Any]]) -> np.ndarray:
    """(B, 2) int64: the keys of caption and molecule of each row."""
    return np.array([[feature[name] for name in PAIR_KEYS] for feature in features], dtype=np.int64)
