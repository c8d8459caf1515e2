"""`MoleculeIndex`: molecules that are found by text and by molecule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, overload

from class_hf.search.conditions import check_conditions
from class_hf.search.light_text import LightTextEncoder
from class_hf.search.probes import check_probes
from class_hf.search.query import Hit, MoleculeFilter, check_k
from class_hf.search.requests import QueryEncoder, SearchRequest, check_queries, encode_queries, find_hits
from class_hf.search.stores.base import VectorStore, check_store, open_store
from class_hf.utils.suggestions import did_you_mean

# Methods import torch and the models if they need them. These imports take most of the time of a single search.
if TYPE_CHECKING:
    from datasets import Dataset

    from class_hf.data.validation import OnError
    from class_hf.search.building import IndexSettings
    from class_hf.search.changes import IndexChange
    from class_hf.search.encoder import IndexEncoder
    from class_hf.utils.protocols import Processor, RetrievalModel


class MoleculeIndex:
    """Finds molecules by text and by molecule, and captions by molecule.

    Args:
        store (`VectorStore`): keeps the vectors.
        model (`RetrievalModel` or `str`, *optional*): the model that made the vectors, or its name. Default: the name
            in the index. A named model is loaded at the first search.
        processor (`Processor`, *optional*): the processor of a loaded model.
        light_text (`bool`, defaults to False): embed descriptions in NumPy if the model is a folder with a lexical
            text tower. A program that searches once then starts within two seconds. A molecule as a query loads the
            whole model.

    Example:

    ```python
    index = MoleculeIndex.build(load_demo()["pool"], "outputs/demo", output_dir="outputs/index")
    index = MoleculeIndex.load("outputs/index")
    for hit in index.search("a steroid ester", k=5, filters=MoleculeFilter(max_weight=400)):
        print(hit.rank, f"{hit.score:.3f}", hit.id, hit.smiles)
    ```
    """

    def __init__(
        self,
        store: VectorStore,
        model: RetrievalModel | str | None = None,
        processor: Processor | None = None,
        light_text: bool = False,
    ):
        self.store = store
        self.config: dict[str, Any] = store.config
        self._model, self._processor = model, processor
        self._encoder: IndexEncoder | None = None
        self._light_text = light_text
        self._light_encoder: LightTextEncoder | None = None
        self._lock = Lock()

    def __len__(self) -> int:
        return self.config["molecules"]

    def __repr__(self) -> str:
        return (
            f"MoleculeIndex({len(self):,} molecules, {self.config['captions']:,} captions, "
            f"model={self.config['model']!r}, query_bank={self.config['query_bank']})"
        )

    @classmethod
    def load(
        cls,
        location: str | Path,
        model: RetrievalModel | str | None = None,
        processor: Processor | None = None,
        light_text: bool = False,
    ) -> MoleculeIndex:
        """Opens an index.

        Args:
            location: its folder, the URL of a database, or `package.module:Name@LOCATION` for a store of your own (see
                [`~class_hf.search.stores.base.VectorStore`]).
            model, processor, light_text: As for the class.

        Raises:
            ValueError: If there is no index, if it is damaged, or if a later version wrote it.
        """
        return cls(open_store(location), model, processor, light_text)

    @classmethod
    def build(
        cls,
        molecules: Dataset | Any,
        model: RetrievalModel | str,
        processor: Processor | None = None,
        output_dir: str | Path | None = None,
        *,
        store: str | None = None,
        settings: IndexSettings | None = None,
        **options: Any,
    ) -> MoleculeIndex:
        """Embeds molecules, and writes an index of them.

        Args:
            molecules: a `Dataset`, a pandas `DataFrame` or rows as mappings, with the column `smiles`. The columns
                `id` (default: the row number), `description` (captions; None or empty for none) and
                `further_descriptions` (lists of further captions) are used. All other columns are kept. Text columns
                in which each value is a number become numbers.
            model (`RetrievalModel` or `str`): a dual encoder, or its folder or Hub id.
            processor (`Processor`, *optional*): the processor of a loaded model.
            output_dir (`str`, *optional*): folder of the index. Give either this or `store`.
            store (`str`, *optional*): a folder, the URL of a database (see `docs/databases.md`), or
                `package.module:Name@LOCATION` for a store of your own.
            settings (`IndexSettings`, *optional*): the settings.
            options: fields of [`~class_hf.search.building.IndexSettings`], in place of `settings`.

        Raises:
            ValueError: If rows are refused, or the model cannot embed one side alone.
            FileExistsError: If the folder is not empty.
            OSError: If the disk is full. Nothing stays behind.
        """
        from class_hf.search.building import IndexSettings, build_index

        if (output_dir is None) == (store is None):
            raise ValueError("pass either output_dir, the folder of the index, or store, the location of a database.")
        fields = IndexSettings.__dataclass_fields__
        for name in options:
            if name not in fields:
                raise TypeError(f"build has no argument {name!r}; {did_you_mean(name, fields)}")
        if settings is not None and options:
            raise TypeError(f"give either settings or {', '.join(options)}, not both.")
        location = check_store(store) if store is not None else str(output_dir)
        build_index(molecules, model, processor, location, settings or IndexSettings(**options))
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
        """Finds the molecules that are nearest to a text or to a molecule.

        Args:
            text (`str` or list of `str`, *optional*): one or several descriptions. Give either this or `smiles`.
            smiles (`str` or list of `str`, *optional*): one or several molecules. A CXSMILES extension (`|...|`) may
                follow each of them.
            k (`int`, defaults to 10): number of hits. There are fewer only if fewer molecules pass the filters.
            filters (`MoleculeFilter`, *optional*): conditions on the molecules.
            query_bank (`bool`, *optional*): subtract the penalties of the query bank. For text only. Default: if the
                index has a query bank.

        Returns:
            The hits of a query in decreasing order of score. For several queries, a list of such lists.

        Raises:
            ValueError: If a query, k or a filter is malformed, if there is no query bank, or if the model is not the
                one that made the index.
            TimeoutError: If the substructure takes longer than its limit.
        """
        results = self.answer([self.request(text, smiles=smiles, k=k, filters=filters, query_bank=query_bank)])[0]
        return results[0] if isinstance(text, str) or isinstance(smiles, str) else results

    def search_captions(self, smiles: str | list[str], k: int = 10) -> Any:
        """Finds the captions that are nearest to a molecule.

        Args:
            smiles (`str` or list of `str`): one or several molecules.
            k (`int`, defaults to 10): number of captions.

        Returns:
            As [`search`]. Each hit is the first molecule that has the caption, and its field `description` is the
            caption. A molecule with several captions can be several hits.

        Raises:
            ValueError: If the index holds no captions, or as for [`search`].
        """
        results = self.answer([self.captions_request(smiles, k)])[0]
        return results[0] if isinstance(smiles, str) else results

    def request(
        self,
        text: str | list[str] | None = None,
        *,
        smiles: str | list[str] | None = None,
        k: int = 10,
        filters: MoleculeFilter | None = None,
        query_bank: bool | None = None,
    ) -> SearchRequest:
        """Checks a search without running it. [`answer`] runs one or several of them.

        Args:
            text, smiles, k, filters, query_bank: As for [`search`].

        Raises:
            ValueError: As for [`search`].
        """
        if (text is None) == (smiles is None):
            raise ValueError(f"pass either text or smiles; {'neither was' if text is None else 'both were'} passed.")
        check_k(k)
        if filters is not None and not isinstance(filters, MoleculeFilter):
            raise ValueError(f"filters is a {type(filters).__name__}; expected a MoleculeFilter.")
        if query_bank and self.config["query_bank"] is None:
            raise ValueError("the index has no query bank; build it with query_bank=, the training captions.")
        if query_bank and text is None:
            raise ValueError("query_bank is for queries by text, because the bank holds captions; leave it out.")
        if filters and filters.conditions:
            check_conditions(filters.conditions, self.columns)
        use_penalties = text is not None and self.config["query_bank"] is not None and query_bank is not False
        side = "text" if text is not None else "molecule"
        queries = check_queries(side, text if text is not None else smiles)
        return SearchRequest(side, queries.texts, "molecule", k, filters or None, use_penalties)

    def captions_request(self, smiles: str | list[str], k: int = 10) -> SearchRequest:
        """Checks a search for captions without running it. [`answer`] runs it.

        Args:
            smiles, k: As for [`search_captions`].

        Raises:
            ValueError: As for [`search_captions`].
        """
        if not self.config["captions"]:
            raise ValueError("the index holds no captions; build it from a table with a column 'description'.")
        check_k(k)
        return SearchRequest("molecule", check_queries("molecule", smiles).texts, "text", k)

    def answer(self, requests: Sequence[SearchRequest]) -> list[list[list[Hit]]]:
        """Runs several searches. Their queries are embedded in one batch.

        Args:
            requests: from [`request`] and [`captions_request`].

        Returns:
            For each search a list of hits for each of its queries.

        Raises:
            ValueError: If the model is not the one that made the index.
            TimeoutError: If a substructure takes longer than its limit.
        """
        return find_hits(self.store, requests, encode_queries(self._query_encoder(requests), requests))

    @property
    def columns(self) -> dict[str, str]:
        """The kind of each column of the table: `"number"`, `"text"`, `"boolean"` or `"other"`."""
        columns = self.config.get("columns")
        if columns is None:
            raise ValueError(
                "the index was built by an earlier version and cannot be filtered by columns: build it again."
            )
        return columns

    def encoder(self) -> IndexEncoder:
        """The model and its processor, after a check that they made the index.

        Raises:
            ValueError: If the model cannot be loaded, or did not make the index.
        """
        with self._lock:
            if self._encoder is None:
                self._encoder = self._open_encoder()
            return self._encoder

    def _open_encoder(self) -> IndexEncoder:
        from class_hf.search.encoder import IndexEncoder

        model: RetrievalModel | str | None = self._model if self._model is not None else self.config["model"]
        if model is None:
            raise ValueError("the index does not name its model; pass model= and processor=.")
        revision = self.config["revision"] if self._model is None else None
        encoder = IndexEncoder.open(model, self._processor, revision)
        check_probes(encoder, self.config["probes"], name=encoder.name, made_by=self.config["model"])
        return encoder

    def _query_encoder(self, requests: Sequence[SearchRequest]) -> QueryEncoder:
        """The encoder of some queries: a light one if it can embed all of them, otherwise the model."""
        model = self._model if self._model is not None else self.config["model"]
        texts_only = all(request.side == "text" for request in requests)
        if self._light_text and texts_only and self._encoder is None and isinstance(model, str):
            if self._light_encoder is None:
                light = LightTextEncoder.open(model, self.config.get("model_digest"))
                if light is not None:
                    names = {"name": model, "made_by": self.config["model"]}
                    check_probes(light, self.config["probes"], **names, sides=("text",))
                self._light_encoder = light
            if self._light_encoder is not None:
                return self._light_encoder
        return self.encoder()

    def add(self, molecules: Dataset, *, on_error: OnError = "raise", batch_size: int = 256) -> None:
        """Adds molecules. The result equals an index of all molecules.

        The index is the old or the new one whenever the process ends. A folder is written again at each change, and a
        database is changed in place, so add many molecules at once. Other processes that have an index in a folder
        open continue to search the old one.

        Args:
            molecules: a table as for [`build`], with the columns `id` and `smiles`. Columns of the index that it lacks
                are empty.
            on_error (`str`, defaults to `"raise"`): As in [`~class_hf.search.building.IndexSettings`].
            batch_size (`int`, defaults to 256): molecules that are embedded at a time.

        Raises:
            ValueError: If an id exists, a column does not, or rows are refused. Also if the store cannot be changed.
        """
        self.start_change(batch_size).add(molecules, on_error)
        self.config = self.store.config

    def update(self, molecules: Dataset, *, on_error: OnError = "raise", batch_size: int = 256) -> None:
        """Replaces molecules by those with the same ids. See [`add`].

        Args:
            molecules, on_error, batch_size: As for [`add`].

        Raises:
            ValueError: If an id does not exist, or as for [`add`].
        """
        self.start_change(batch_size).update(molecules, on_error)
        self.config = self.store.config

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes molecules. See [`add`].

        Args:
            ids (list of `str`): the ids.

        Raises:
            ValueError: If an id does not exist, or no molecule would be left. Also if the store cannot be changed.
        """
        self.start_change().delete([ids] if isinstance(ids, str) else ids)
        self.config = self.store.config

    def start_change(self, batch_size: int = 256) -> IndexChange:
        """A change of this index. [`add`], [`update`] and [`delete`] use it."""
        from class_hf.search.changes import IndexChange, require_changeable

        return IndexChange(require_changeable(self.store), self.encoder, batch_size)

    def verify(self) -> dict[str, int]:
        """Compares all files of an index in a folder with their checksums, and checks their values.

        Returns:
            `dict`: numbers of `files` and `bytes` that were compared. Both are 0 for an index that an earlier version
            built without checksums.

        Raises:
            ValueError: If the index is damaged, or its store keeps no checksums.
        """
        if not hasattr(self.store, "verify"):
            raise ValueError(f"{type(self.store).__name__} keeps no checksums; only an index in a folder has them.")
        return self.store.verify()

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    def __enter__(self) -> MoleculeIndex:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
