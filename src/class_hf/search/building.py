"""Builds an index: reads a table, embeds its molecules and captions, and fills a store."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from class_hf._version import __version__
from class_hf.data.validation import OnError
from class_hf.evaluation.query_bank import BankMethod, bank_penalties
from class_hf.search.captions import FURTHER, distinct_captions, has_further
from class_hf.search.conditions import column_kind
from class_hf.search.encoder import IndexEncoder
from class_hf.search.light_text import structure_digest
from class_hf.search.probes import embed_probes
from class_hf.search.properties import describe
from class_hf.search.stores.base import store_class
from class_hf.search.vector_search import EXACT_UP_TO
from class_hf.utils.numbers import non_negative_integer, positive_integer
from class_hf.utils.protocols import Processor, RetrievalModel
from class_hf.utils.suggestions import check_choice

logger = logging.getLogger(__name__)

# Molecules that are embedded and stored at a time.
SHARD = 8_192


@dataclass(frozen=True)
class IndexSettings:
    """Settings of [`MoleculeIndex.build`].

    Args:
        batch_size (`int`, defaults to 256): molecules or captions that are embedded at a time.
        query_bank (list of `str`, *optional*): training captions. Each molecule gets a penalty from its similarity to
            them, which searches by text subtract by default. See
            [`~class_hf.evaluation.query_bank.bank_penalties`].
        bank_method (`str`, defaults to `"softmax"`): how penalties are computed: `"softmax"` or `"nearest"`.
        exact_up_to (`int`, *optional*): with more candidates than this, the search is approximate, and its recall@10
            is measured when the index is built. A folder then needs faiss. Default: that of the store, 200,000 in a
            folder.
        num_proc (`int`, *optional*): processes that read and featurise the molecules.
        on_error (`str`, defaults to `"raise"`): what to do with a row without a readable SMILES: `"raise"` an error,
            or `"drop"` the row. `config["dropped"]` of the index counts the dropped rows and lists the first.
        overwrite (`bool`, defaults to `False`): replace an existing index.

    Raises:
        ValueError: If a value is out of range.

    >>> IndexSettings(batch_size=0)
    Traceback (most recent call last):
    ValueError: batch_size is 0; expected an integer of at least 1.
    """

    batch_size: int = 256
    query_bank: Sequence[str] | None = None
    bank_method: BankMethod = "softmax"
    exact_up_to: int | None = None
    num_proc: int | None = None
    on_error: OnError = "raise"
    overwrite: bool = False

    def __post_init__(self) -> None:
        positive_integer.check("batch_size", self.batch_size)
        non_negative_integer.check("exact_up_to", self.exact_up_to)
        positive_integer.check("num_proc", self.num_proc)
        check_choice("bank_method", self.bank_method, get_args(BankMethod))
        check_choice("on_error", self.on_error, get_args(OnError))
        if self.query_bank is not None and (isinstance(self.query_bank, str) or not len(self.query_bank)):
            raise ValueError("query_bank has no captions; expected a list of training captions.")


def build_index(
    molecules: Dataset,
    model: RetrievalModel | str,
    processor: Processor | None,
    location: str | Path,
    settings: IndexSettings,
) -> None:
    """Embeds the molecules of a table, and writes an index of them.

    Args:
        molecules, model, processor: As for [`~class_hf.search.index.MoleculeIndex.build`].
        location: a folder, or the location of another store.
        settings: the settings.

    Raises:
        ValueError: If rows are refused, or the model cannot embed one side alone.
        FileExistsError: If the location is not empty.
    """
    check_free(location, settings)
    encoder = IndexEncoder.open(model, processor)
    table, report = describe(molecules, settings.num_proc, settings.on_error)
    encoded = EncodedMolecules(
        table=table,
        report=report,
        vectors=_embedded(encoder, table, settings),
        model=name_of(model),
        revision=getattr(getattr(encoder.model, "config", None), "_commit_hash", None),
        probes=embed_probes(encoder),
        open_encoder=lambda: encoder,
    )
    write_index(encoded, location, settings)


class EncodedMolecules(NamedTuple):
    """Molecules with their vectors, from a model or from files.

    Attributes:
        table: N rows from [`~class_hf.search.properties.describe`].
        report: what was dropped and repeated, from the same function.
        vectors: yields the L2-normalised vectors (n, D) `float32` of the rows, in order.
        model: name of the model, for the index.
        revision: revision of the model on the Hub.
        probes: [`~class_hf.search.probes.embed_probes`] of the model.
        open_encoder: gives the model. It is called only for captions and a query bank.
    """

    table: Dataset
    report: dict[str, Any]
    vectors: Iterator[np.ndarray]
    model: str | None
    revision: str | None
    probes: dict[str, list[float]]
    open_encoder: Callable[[], IndexEncoder]


def check_free(location: str | Path, settings: IndexSettings) -> None:
    """Checks that an index may be written to a location, before any work.

    Raises:
        FileExistsError: If the location is not empty.
    """
    store, rest = store_class(location)
    if hasattr(store, "check_location"):
        store.check_location(rest, settings.overwrite)


def write_index(encoded: EncodedMolecules, location: str | Path, settings: IndexSettings) -> None:
    """Writes an index of encoded molecules. Their captions and the query bank are embedded.

    Args:
        encoded: the molecules.
        location, settings: As for [`build_index`].

    Raises:
        FileExistsError: If the location is not empty.
        OSError: If the disk is full. Nothing stays behind.
    """
    store, rest = store_class(location)
    table = encoded.table
    if has_further(table) and not getattr(store, "keeps_further_captions", False):
        further = sum(len(texts or ()) for texts in table[FURTHER][:])
        logger.warning("%s keeps one caption of a molecule: %s captions are not indexed.", store.__name__, further)
        table = table.remove_columns(FURTHER)
    captions, caption_rows = distinct_captions(table)
    dimension = len(encoded.probes["molecule"])
    bank = None if settings.query_bank is None else Bank.embed(encoded.open_encoder(), settings)
    with store.create(rest, table, dimension, caption_rows, settings.overwrite) as writer:
        if bank is not None and hasattr(writer, "add_query_bank"):
            writer.add_query_bank(bank.vectors.numpy())
        start = 0
        with tqdm(total=len(table), desc="Indexing molecules", disable=None) as bar:
            for vectors in encoded.vectors:
                penalties = None if bank is None else bank.penalties(torch.from_numpy(vectors))
                writer.add_molecules(start, vectors, penalties)
                start += len(vectors)
                bar.update(len(vectors))
        if start != len(table):
            raise ValueError(f"there are {start:,} vectors for {len(table):,} molecules; expected one for each.")
        for start in _shards(len(captions), "Indexing captions"):
            texts = captions[start : start + SHARD]
            writer.add_captions(start, encoded.open_encoder().embed_captions(texts, settings.batch_size))
        config = {
            "class_hf_version": __version__,
            "model": encoded.model,
            "revision": encoded.revision,
            "model_digest": structure_digest(encoded.model),
            "dimension": dimension,
            "exact_up_to": getattr(store, "exact_up_to", EXACT_UP_TO)
            if settings.exact_up_to is None
            else settings.exact_up_to,
            "query_bank": None if bank is None else bank.config(),
            "probes": encoded.probes,
            **encoded.report,
        }
        writer.finish(config | counts(table, captions))


def _embedded(encoder: IndexEncoder, table: Dataset, settings: IndexSettings) -> Iterator[np.ndarray]:
    """The vectors of a table, a part at a time."""
    prepared = encoder.prepare(table, settings.num_proc)
    for start in range(0, len(table), SHARD):
        part = prepared.select(range(start, min(start + SHARD, len(table))))
        yield encoder.embed_molecules(part, settings.batch_size).numpy()


def counts(table: Dataset, captions: Sequence[str]) -> dict[str, Any]:
    """The settings that depend on the rows: numbers of molecules and captions, and the kinds of the columns."""
    columns = {
        name: column_kind(table.data.schema.field(name).type)
        for name in table.column_names
        if not name.startswith("_")
    }
    return {"molecules": len(table), "captions": len(captions), "columns": columns}


class Bank:
    """The query bank of an index.

    Args:
        vectors (`torch.Tensor` (M, D)): the embedded captions.
        method: as in [`IndexSettings`].
        scale (`float`): the factor of the model's logits.
    """

    def __init__(self, vectors: torch.Tensor, method: BankMethod, scale: float):
        self.vectors, self.method, self.scale = vectors, method, scale

    @classmethod
    def embed(cls, encoder: IndexEncoder, settings: IndexSettings) -> "Bank | None":
        """Embeds the bank of the settings. None if they have none."""
        if settings.query_bank is None:
            return None
        vectors = torch.from_numpy(encoder.embed_captions(settings.query_bank, settings.batch_size))
        return cls(vectors, settings.bank_method, encoder.logit_scale(settings.query_bank[0]))

    def penalties(self, vectors: torch.Tensor) -> np.ndarray:
        """The penalties (N,) of molecules (N, D)."""
        return bank_penalties(vectors, self.vectors, self.method, self.scale).numpy()

    def config(self) -> dict[str, Any]:
        """What the settings of the index keep."""
        return {"captions": len(self.vectors), "method": self.method, "scale": self.scale}


def name_of(model: RetrievalModel | str) -> str | None:
    """The model's Hub id, or the absolute path of its folder."""
    name = model if isinstance(model, str) else getattr(model, "name_or_path", None) or None
    return str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name


def _shards(count: int, description: str) -> Iterator[int]:
    with tqdm(total=count, desc=description, disable=None) as bar:
        for start in range(0, count, SHARD):
            yield start
            bar.update(min(SHARD, count - start))
