"""Featurise each pair once: token ids and molecule features as compact bytes, cached by `datasets`."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import rdkit
import transformers
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import Hasher

from class_hf._version import __version__
from class_hf.data.smiles import canonical_smiles
from class_hf.utils.in_memory import as_table
from class_hf.utils.protocols import Processor

TEXT_FEATURES = "text_features"
MOLECULE_FEATURES = "molecule_features"
POOLED = {"text": "text_pooled", "molecule": "molecule_pooled"}  # columns with the outputs of frozen towers
PAIR_KEYS = ("text_key", "molecule_key")
_COMPARED = 8  # rows


def stable_key(content: str | bytes) -> int:
    """A 63-bit hash of a string or of bytes, equal in all processes and runs.

    >>> stable_key("CCO") == stable_key(b"CCO")
    True
    """
    data = content.encode() if isinstance(content, str) else content
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def molecule_key(smiles: str) -> int:
    """A 63-bit hash of a molecule, equal for all its SMILES. Of a SMILES that is refused, the text is hashed.

    >>> molecule_key("OCC") == molecule_key("CCO")
    True
    """
    return stable_key(canonical_smiles(smiles))


def _check_columns(dataset: Dataset, needed: Sequence[str]) -> None:
    """Refuses a data set without the needed columns."""
    missing = [name for name in needed if name not in dataset.column_names]
    if missing:
        raise ValueError(f"the data set has no column {', '.join(missing)}; its columns are {dataset.column_names}.")


def _add_features(
    dataset: Dataset,
    function: Callable[..., dict[str, list[Any]]],
    columns: list[str],
    processor: Processor,
    num_proc: int | None,
    description: str,
) -> Dataset:
    """The data set with the columns that `function` computes from `columns`, cached by content.

    The cache key covers only the input columns and the processor, so re-scoring reuses prepared features. The
    fingerprint of `datasets` cannot serve as key, because a tokenizer changes its state when it is used. A data set
    without files is not cached.
    """
    dataset = as_table(dataset, "the rows")
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


def _encode_pairs(batch: dict[str, list[Any]], processor: Processor) -> dict[str, list[Any]]:
    """Features and keys of a batch of pairs."""
    return {
        TEXT_FEATURES: processor.encode_text(batch["description"]),
        MOLECULE_FEATURES: processor.encode_molecules(batch["smiles"]),
        "text_key": [stable_key(text) for text in batch["description"]],
        "molecule_key": [molecule_key(smiles) for smiles in batch["smiles"]],
    }


def _encode_captions(batch: dict[str, list[Any]], processor: Processor) -> dict[str, list[Any]]:
    """Features and keys of a batch of captions."""
    texts = batch["description"]
    return {TEXT_FEATURES: processor.encode_text(texts), "text_key": [stable_key(text) for text in texts]}


def _encode_molecules(batch: dict[str, list[Any]], processor: Processor) -> dict[str, list[Any]]:
    """Features of a batch of molecules."""
    return {MOLECULE_FEATURES: processor.encode_molecules(batch["smiles"])}


def prepare_pairs(dataset: Dataset, processor: Processor, num_proc: int | None = None) -> Dataset:
    """Featurises captions and molecules of pairs, for training and evaluation.

    Args:
        dataset (`Dataset`): pairs with the columns `smiles` and `description`.
        processor ([`TextMoleculeProcessor`]): encodes captions and molecules.
        num_proc (`int`, *optional*): processes of `Dataset.map`. Default: the current process.

    Returns:
        The data set with the columns `text_features` and `molecule_features` (bytes), and `text_key` and
        `molecule_key` (int64 hashes that identify equal captions and equal molecules).

    Raises:
        ValueError: if a column is missing, a caption is empty, or RDKit cannot parse a SMILES.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeProcessor
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> pairs = Dataset.from_dict({"smiles": ["CCO"], "description": ["An alcohol."]})
    >>> prepare_pairs(pairs, processor).column_names
    ['smiles', 'description', 'text_features', 'molecule_features', 'text_key', 'molecule_key']
    """
    return _add_features(dataset, _encode_pairs, ["smiles", "description"], processor, num_proc, "Preparing pairs")


def prepare_molecules(dataset: Dataset, processor: Processor, num_proc: int | None = None) -> Dataset:
    """Featurises molecules only, for instance the candidate pool.

    Args:
        dataset (`Dataset`): molecules with the column `smiles`.
        processor ([`TextMoleculeProcessor`]): encodes the molecules.
        num_proc (`int`, *optional*): processes of `Dataset.map`. Default: the current process.

    Returns:
        The data set with the column `molecule_features` (bytes).

    Raises:
        ValueError: if the column is missing, or RDKit cannot parse a SMILES.
    """
    return _add_features(dataset, _encode_molecules, ["smiles"], processor, num_proc, "Preparing molecules")


def prepare_captions(captions: Sequence[str], processor: Processor, num_proc: int | None = None) -> Dataset:
    """Featurises captions only, for instance those of a query bank.

    Args:
        captions (sequence of `str`): the captions.
        processor ([`TextMoleculeProcessor`]): encodes the captions.
        num_proc (`int`, *optional*): processes of `Dataset.map`. Default: the current process.

    Returns:
        A data set with the columns `description`, `text_features` (bytes) and `text_key` (int64 hash of a caption).

    Raises:
        ValueError: if a caption is empty.

    Example:

    >>> from class_hf import LexicalTokenizer, MoleculeFingerprintFeatureExtractor, TextMoleculeProcessor
    >>> processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    >>> prepare_captions(["An alcohol."], processor).column_names
    ['description', 'text_features', 'text_key']
    """
    dataset = Dataset.from_dict({"description": list(captions)})
    return _add_features(dataset, _encode_captions, ["description"], processor, num_proc, "Preparing captions")


def pair_keys(features: Sequence[dict[str, Any]]) -> np.ndarray:
    """The keys of caption and molecule of B rows, as int64 of shape (B, 2)."""
    return np.array([[feature[name] for name in PAIR_KEYS] for feature in features], dtype=np.int64)


def check_prepared(dataset: Any, processor: Processor, name: str) -> None:
    """Refuses rows that another processor has prepared. Some rows are prepared again and compared.

    Args:
        dataset: prepared rows. Features without the column that they were made of are not compared.
        processor: the processor of the model.
        name: what the rows are, for the error.

    Raises:
        ValueError: if the features of a row differ.
    """
    sides: list[tuple[str, str, Callable[[list[str]], list[bytes]]]] = [
        ("smiles", MOLECULE_FEATURES, processor.encode_molecules)
    ]
    if not getattr(processor, "read_names", False):  # that starts Java
        sides.append(("description", TEXT_FEATURES, processor.encode_text))
    for number in np.unique(np.linspace(0, len(dataset) - 1, min(_COMPARED, len(dataset)), dtype=int)).tolist():
        row = dataset[number]
        for source, features, encode in sides:
            if not isinstance(row.get(features), bytes) or not isinstance(row.get(source), str):
                continue
            if row[features] != encode([row[source]])[0]:
                raise ValueError(
                    f"the {name} were prepared by another processor: row {number} has other {features}. Prepare them "
                    "with the processor of the model, from the texts and SMILES that they hold."
                )
