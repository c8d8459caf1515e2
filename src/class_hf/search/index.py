"""An index of molecules that is searched by text and by molecule."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from tqdm.auto import tqdm

from class_hf._version import __version__
from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import TEXT_FEATURES, prepare_molecules
from class_hf.data.validation import OnError
from class_hf.evaluation.embedding import embed, logit_scale
from class_hf.evaluation.query_bank import BankMethod, bank_penalties
from class_hf.hub.loading import load_model
from class_hf.search.properties import describe
from class_hf.search.query import MAX_SMILES, MAX_TEXT, Hit, MoleculeFilter, check_k, check_string
from class_hf.search.stores.folder import FolderStore
from class_hf.search.substructure import check_smiles, first_matches, requirements
from class_hf.search.vector_search import EXACT_UP_TO

# Molecules embedded and stored at a time.
_SHARD = 8_192
_QUERIES = 256
# What a model must give as it gave when the index was built: whatever its file format, precision and device.
_PROBES = {"text": ["The molecule is a steroid ester."], "molecule": ["CC(=O)Oc1ccccc1C(=O)O"]}
_SAME = 0.999  # least cosine of a probe; bf16 moves one by less than 0.0002


class MoleculeIndex:
    """Molecules that are found by text and by molecule, and captions that are found by molecule.

    Args:
        store: where the vectors lie.
        model: the name of the model that made them, or the model itself. Default: the one that the index names. It is
            loaded at the first search.
        processor: the model's, if the model itself is given.

    Example:

    ```python
    index = MoleculeIndex.build(load_demo()["pool"], "outputs/demo", output_dir="outputs/index")
    index = MoleculeIndex.load("outputs/index")
    for hit in index.search("a steroid ester", k=5, filters=MoleculeFilter(max_weight=400)):
        print(hit.rank, f"{hit.score:.3f}", hit.id, hit.smiles)
    ```
    """

    def __init__(self, store: Any, model: Any = None, processor: Any = None):
        self.store = store
        self.config: dict[str, Any] = store.config
        self._model, self._processor = model, processor
        self._checked = False
        self._lock = Lock()

    def __len__(self) -> int:
        return self.config["molecules"]

    def __repr__(self) -> str:
        return (
            f"MoleculeIndex({len(self):,} molecules, {self.config['captions']:,} captions, "
            f"model={self.config['model']!r}, query_bank={self.config['query_bank']})"
        )

    @classmethod
    def load(cls, location: str | Path, model: Any = None, processor: Any = None) -> "MoleculeIndex":
        """Opens an index.

        Args:
            location: its folder, or the URL of a database.
            model, processor: see the class.

        Raises:
            ValueError: if there is no index, or it is of a later format.
        """
        return cls(_store_class(location)(location), model, processor)

    @classmethod
    def build(
        cls,
        molecules: Dataset,
        model: Any,
        processor: Any = None,
        output_dir: str | Path | None = None,
        *,
        store: str | None = None,
        batch_size: int = 256,
        query_bank: Sequence[str] | None = None,
        bank_method: BankMethod = "softmax",
        exact_up_to: int = EXACT_UP_TO,
        num_proc: int | None = None,
        on_error: OnError = "raise",
        overwrite: bool = False,
    ) -> "MoleculeIndex":
        """Embeds molecules and writes an index of them.

        Args:
            molecules: with `smiles`; `id` (the row's number if it is not given) and `description` (captions, None or
                empty for none) are used, all other columns are kept.
            model: a dual encoder, or the name of one.
            processor: the model's; not needed with a name.
            output_dir: the folder, for the embedded index.
            store: a URL, for an index in Qdrant (see [`~class_hf.search.stores.qdrant.QdrantStore`]).
            batch_size: molecules embedded at once.
            query_bank: training captions. What [`~class_hf.evaluation.query_bank.bank_penalties`] makes of each
                molecule's cosines with them is then taken off its scores, unless a search says otherwise.
            bank_method: `"softmax"` or `"nearest"`.
            exact_up_to: with more molecules than this, one-bit codes are searched and the ten-fold of k best are
                scored exactly, which misses one of a hundred (needs faiss); in Qdrant, its graph is searched.
            num_proc: processes that read and featurise the molecules.
            on_error: at a row without a readable SMILES: `"raise"`, or `"drop"` it; the index's `config["dropped"]`
                counts them and lists the first.
            overwrite: replace an index that is there.

        Raises:
            ValueError: if rows are refused, or the model cannot embed one side alone.
            FileExistsError: if the folder holds something.
        """
        if (output_dir is None) == (store is None):
            raise ValueError("give either output_dir, the folder of the index, or store, the URL of a database.")
        location = store or output_dir or ""
        name = model if isinstance(model, str) else getattr(model, "name_or_path", None) or None
        if isinstance(model, str):
            model, processor = load_model(model)
        if processor is None:
            raise ValueError("the processor is not given; pass it with the model, or pass the model's name alone.")
        revision = getattr(model.config, "_commit_hash", None)
        if name is not None and Path(name).is_dir():
            name = str(Path(name).resolve())
        table, dropped = describe(molecules, num_proc, on_error)
        captions, caption_rows = _captions(table)
        collator = TextMoleculeCollator(processor)
        probes = {side: _embed_queries(model, processor, side, some) for side, some in _PROBES.items()}
        dimension = probes["molecule"].shape[1]
        if query_bank is not None:
            bank = torch.from_numpy(_embed_texts(model, processor, query_bank, batch_size))
            scale = float(logit_scale(model, _text_rows(processor, query_bank[:1]), collator))
        with _store_class(location).create(location, table, dimension, caption_rows, overwrite) as writer:
            prepared = prepare_molecules(table.select_columns(["smiles"]), processor, num_proc)
            for start in _shards(len(table), "Indexing molecules"):
                shard = prepared.select(range(start, min(start + _SHARD, len(table))))
                vectors = _unit(embed(model, shard, collator, "molecule", batch_size))
                penalties = None
                if query_bank is not None:
                    penalties = bank_penalties(vectors, bank, bank_method, scale).numpy()
                writer.add_molecules(start, vectors.numpy(), penalties)
            for start in _shards(len(captions), "Indexing captions"):
                texts = captions[start : start + _SHARD]
                writer.add_captions(start, _embed_texts(model, processor, texts, batch_size))
            config = {
                "class_hf_version": __version__,
                "model": name,
                "revision": revision,
                "dimension": dimension,
                "molecules": len(table),
                "captions": len(captions),
                "exact_up_to": exact_up_to,
                "query_bank": None if query_bank is None else {"captions": len(query_bank), "method": bank_method},
                "dropped": {"rows": len(dropped), "first": [str(row) for row in dropped[:5]]},
                "probes": {side: vectors[0].round(6).tolist() for side, vectors in probes.items()},
            }
            writer.finish(config)
        return cls.load(location, model, processor)

    @overload
    def search(
        self,
        text: str | None = None,
        *,
        smiles: str | None = None,
        k: int = 10,
        filters: MoleculeFilter | None = None,
        query_bank: bool | None = None,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        text: list[str] | None = None,
        *,
        smiles: list[str] | None = None,
        k: int = 10,
        filters: MoleculeFilter | None = None,
        query_bank: bool | None = None,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        text: str | list[str] | None = None,
        *,
        smiles: str | list[str] | None = None,
        k: int = 10,
        filters: MoleculeFilter | None = None,
        query_bank: bool | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The molecules nearest to a text or to a molecule, the nearest first.

        Args:
            text: a description, or several.
            smiles: a molecule, or several; exactly one of text and smiles is given.
            k: how many molecules, at most; fewer come back only if no more pass the filters.
            filters: which molecules may be given.
            query_bank: take the query bank's penalties off the scores. Default: if the index has them. For text only.

        Returns:
            the hits of a query; of several, a list for each.

        Raises:
            ValueError: if a query, k or the pattern is malformed, there is no query bank, or the model is not the
                one that made the index.
            TimeoutError: if the substructure takes too long.
        """
        if (text is None) == (smiles is None):
            raise ValueError("give either a text or a smiles, not both and not neither.")
        check_k(k)
        if filters is not None and not isinstance(filters, MoleculeFilter):
            raise ValueError(f"filters is a {type(filters).__name__}; expected a MoleculeFilter.")
        if query_bank and self.config["query_bank"] is None:
            raise ValueError("the index has no query bank; build it with query_bank=, the training captions.")
        if query_bank and text is None:
            raise ValueError("query_bank is for text queries: the bank holds captions.")
        penalised = text is not None and self.config["query_bank"] is not None and query_bank is not False
        side, queries = ("text", text) if text is not None else ("molecule", smiles)
        vectors = self._vectors(side, queries)
        if filters and filters.substructure is not None:
            found = [self._with_substructure(vector, k, filters, penalised) for vector in vectors]
        else:
            found = self.store.nearest("molecule", vectors, k, filters, penalised)
        return _hits(found, queries)

    def search_captions(self, smiles: str | list[str], k: int = 10) -> Any:
        """The captions nearest to a molecule, the nearest first; each hit is the first molecule that has the caption.

        Args:
            smiles: a molecule, or several.
            k: how many captions.

        Raises:
            ValueError: if the index holds no captions, or as for [`search`].
        """
        if not self.config["captions"]:
            raise ValueError("the index holds no captions; build it from a table with a column 'description'.")
        check_k(k)
        return _hits(self.store.nearest("text", self._vectors("molecule", smiles), k), smiles)

    def _with_substructure(self, vector: np.ndarray, k: int, filters: MoleculeFilter, penalised: bool) -> list:
        """Goes down the ranking until k molecules match, or there are no more."""
        end = monotonic() + filters.time_limit
        matching: list = []
        smarts = filters.substructure or ""
        elements = requirements(smarts, filters.time_limit)[1]
        filters = replace(filters, elements=(*(filters.elements or ()), *elements))
        seen: set[int] = set()
        wanted = max(4 * k, 256)
        while True:
            ranked = self.store.nearest("molecule", vector[None], wanted, filters, penalised)[0]
            fresh = [one for one in ranked if one[1] not in seen]
            if fresh:
                smiles = [record["smiles"] for _, _, record in fresh]
                left = max(end - monotonic(), 0.001)
                places = first_matches(smarts, smiles, k - len(matching), left)
                matching += [fresh[place] for place in places]
            if len(matching) >= k or len(ranked) < wanted:
                return matching
            seen.update(row for _, row, _ in ranked)
            wanted *= 8

    def _vectors(self, side: str, queries: Any) -> np.ndarray:
        """(B, D) of checked queries."""
        several = [queries] if isinstance(queries, str) else queries
        if not isinstance(several, list | tuple) or not several:
            raise ValueError(f"the queries are {several!r}; expected a string or a list of strings.")
        if side == "text":
            several = [check_string(one, "text", MAX_TEXT, "a description of a molecule") for one in several]
        else:
            several = [check_string(one, "smiles", MAX_SMILES, "a SMILES such as 'CCO'") for one in several]
            check_smiles(several)
        model, processor = self._loaded()
        parts = [several[start : start + _QUERIES] for start in range(0, len(several), _QUERIES)]
        return np.concatenate([_embed_queries(model, processor, side, part) for part in parts])

    def _loaded(self) -> tuple[Any, Any]:
        """The model and its processor, known to be those that made the index."""
        with self._lock:
            if not self._checked:
                self._load()
            self._checked = True
        return self._model, self._processor

    def _load(self) -> None:
        named = self._model is None or isinstance(self._model, str)
        name = self._model or self.config["model"]
        if named:
            if name is None:
                raise ValueError("the index does not name its model; pass model= and processor=.")
            revision = self.config["revision"] if self._model is None else None
            self._model, self._processor = load_model(name, revision)
        if self._processor is None:
            raise ValueError("the processor is not given; pass it with the model, or pass the model's name alone.")
        shown = name if named else type(self._model).__name__
        for side, stored in self.config["probes"].items():
            vector = _embed_queries(self._model, self._processor, side, _PROBES[side])[0]
            if len(vector) != len(stored):
                raise ValueError(
                    f"the model {shown!r} gives {len(vector)} numbers, but the index holds {len(stored)} each: it was "
                    f"made by {self.config['model']!r}. Load it with that model, or build it anew."
                )
            if float(vector @ np.asarray(stored, np.float32)) < _SAME:
                raise ValueError(
                    f"the model {shown!r} is not the one that made the index ({self.config['model']!r}): it gives "
                    f"another vector for the {side} {_PROBES[side][0]!r}. Load it with that model, or build it anew."
                )

    def close(self) -> None:
        """Lets go of the store."""
        self.store.close()

    def __enter__(self) -> "MoleculeIndex":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _store_class(location: str | Path) -> Any:
    """What keeps an index at this place."""
    if isinstance(location, str) and location.startswith("qdrant+"):
        from class_hf.search.stores.qdrant import QdrantStore

        return QdrantStore
    return FolderStore


def _hits(found: list, queries: Any) -> Any:
    lists = [[Hit(rank, score, **record) for rank, (score, _, record) in enumerate(one, start=1)] for one in found]
    return lists[0] if isinstance(queries, str) else lists


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(vectors).all():
        raise ValueError("the model's vectors are not all finite: it has diverged.")
    return F.normalize(vectors.float(), dim=-1)


def _embed_queries(model: Any, processor: Any, side: str, queries: list[str]) -> np.ndarray:
    """(B, D) of length 1."""
    device = next(model.parameters()).device
    batch = processor(text=queries) if side == "text" else processor(smiles=queries)
    training = model.training
    model.eval()
    with torch.no_grad():
        vectors = model(**{name: value.to(device) for name, value in batch.items()})[f"{side}_embeds"]
    model.train(training)
    return _unit(vectors).cpu().numpy()


def _embed_texts(model: Any, processor: Any, texts: Sequence[str], batch_size: int) -> np.ndarray:
    """(N, D) of length 1, of any number of captions."""
    rows = _text_rows(processor, texts)
    return _unit(embed(model, rows, TextMoleculeCollator(processor), "text", batch_size)).numpy()


def _text_rows(processor: Any, texts: Sequence[str]) -> Dataset:
    return Dataset.from_dict({TEXT_FEATURES: processor.encode_text(list(texts))})


def _captions(table: Dataset) -> tuple[list[str], np.ndarray]:
    """The different captions, and for each the first row that has it."""
    if "description" not in table.column_names:
        return [], np.empty(0, np.int64)
    rows: dict[str, int] = {}
    for row, caption in enumerate(table["description"][:]):
        if isinstance(caption, str) and caption.strip():
            rows.setdefault(caption, row)
    return list(rows), np.fromiter(rows.values(), np.int64, len(rows))


def _shards(count: int, description: str) -> Iterator[int]:
    with tqdm(total=count, desc=description, disable=None) as bar:
        for start in range(0, count, _SHARD):
            yield start
            bar.update(min(_SHARD, count - start))
