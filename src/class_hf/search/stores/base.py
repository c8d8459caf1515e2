"""What a vector store must offer, and how a store is chosen by its location."""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from datasets import Dataset, Features

from class_hf.search.conditions import evaluate_condition
from class_hf.search.query import MoleculeFilter
from class_hf.utils.plugins import is_object_path, load_object

# Stores whose location begins with a scheme. A new store of this package adds one line here.
STORES = {
    "lance:": "class_hf.search.stores.lance:LanceStore",
    "postgresql://": "class_hf.search.stores.postgres:PostgresStore",
    "qdrant+": "class_hf.search.stores.qdrant:QdrantStore",
}
# A location of this form is a URL, not a folder. `C:/` of Windows has one letter.
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+:")


class Found(NamedTuple):
    """One candidate that a store found.

    Attributes:
        score (`float`): cosine similarity of query and candidate, minus the penalty if penalties are used.
        number (`int`): row of the molecule, or number of the caption.
        id (`str`): id of the molecule. For a caption, of the first molecule that has it.
        smiles (`str`): SMILES of that molecule.
        fields (`dict`): the other columns of that molecule's row, by name.
    """

    score: float
    number: int
    id: str
    smiles: str
    fields: dict[str, Any]


class StoreWriter(Protocol):
    """Fills a new index. The calls come in the order of these methods."""

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """Stores the vectors (n, D) `float32` of the rows from `start`, and their penalties (n,) if there are any."""

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """Stores the vectors (n, D) `float32` of the captions from `start`."""

    def finish(self, config: dict[str, Any]) -> None:
        """Stores the settings (JSON values) as the last step. An index without settings is not complete."""


class VectorStore(Protocol):
    """Keeps the vectors and columns of an index, and finds the candidates that are nearest to a query.

    [`~class_hf.search.index.MoleculeIndex`] reaches a database only through a store. A store is a class with the
    methods `create`, `nearest` and `close`, and an attribute `config`. It is named as `package.module:Name@LOCATION`,
    in `--store`, `--index`, `MoleculeIndex.build(store=...)` and `MoleculeIndex.load(...)`. The class is called with
    the text after `@`, or with `""`.

    Two class attributes say what a store can do. Both are optional, and False if they are missing.

    - `matches_substructures = True`: `nearest` applies `filters.substructure` itself. Otherwise the index checks the
      molecules that the store returns.
    - `keeps_further_captions = True`: a molecule may have several captions. The first is in the column `description`,
      the others are a list in the column `further_descriptions`, and `caption_rows` repeats the row of the molecule.
      In a search for captions, `nearest` returns as `description` the caption that was found. Otherwise the index
      passes only the first caption of each molecule.

    Example: a store in the memory of one process.

    >>> from contextlib import contextmanager
    >>> from class_hf.search.vector_search import top_rows

    >>> class MemoryStore:
    ...     indexes = {}
    ...
    ...     def __init__(self, location):
    ...         if location not in self.indexes:
    ...             raise ValueError(f"there is no index {location!r} in memory.")
    ...         self.data = self.indexes[location]
    ...         self.config = self.data.config
    ...
    ...     @classmethod
    ...     @contextmanager
    ...     def create(cls, location, table, dimension, caption_rows, overwrite=False):
    ...         if location in cls.indexes and not overwrite:
    ...             raise FileExistsError(f"there is an index {location!r} in memory; pass --overwrite.")
    ...         writer = MemoryWriter(table, caption_rows)
    ...         yield writer  # an error in the block leaves nothing behind
    ...         cls.indexes[location] = writer
    ...
    ...     def nearest(self, side, queries, k, filters=None, use_penalties=False):
    ...         vectors = np.concatenate(self.data.vectors[side])
    ...         rows = rows_that_pass(self.data.table, filters) if filters else None
    ...         penalties = np.concatenate(self.data.penalties) if use_penalties else None
    ...         scores, numbers = top_rows(vectors, queries, k, rows, penalties)
    ...         return [
    ...             [self.record(side, score, int(number)) for score, number in zip(*query)]
    ...             for query in zip(scores.tolist(), numbers)
    ...         ]
    ...
    ...     def record(self, side, score, number):
    ...         # In a search for captions, `number` is that of the caption.
    ...         place = int(self.data.caption_rows[number]) if side == "text" else number
    ...         row = dict(self.data.table[place])
    ...         fields = {name: value for name, value in row.items() if not name.startswith("_")}
    ...         return Found(score, number, fields.pop("id"), fields.pop("smiles"), fields)
    ...
    ...     def close(self):
    ...         pass

    >>> class MemoryWriter:
    ...     def __init__(self, table, caption_rows):
    ...         self.table, self.caption_rows = table, caption_rows
    ...         self.vectors, self.penalties = {"molecule": [], "text": []}, []
    ...
    ...     def add_molecules(self, start, vectors, penalties=None):
    ...         self.vectors["molecule"].append(vectors)
    ...         if penalties is not None:
    ...             self.penalties.append(penalties)
    ...
    ...     def add_captions(self, start, vectors):
    ...         self.vectors["text"].append(vectors)
    ...
    ...     def finish(self, config):
    ...         self.config = config

    >>> table = Dataset.from_dict({"id": ["a", "b"], "smiles": ["C", "O"], "_weight": [16.0, 18.0]})
    >>> with MemoryStore.create("water", table, 2, np.empty(0, int)) as writer:
    ...     writer.add_molecules(0, np.eye(2, dtype=np.float32))
    ...     writer.finish({"molecules": 2, "captions": 0})
    >>> store: VectorStore = MemoryStore("water")
    >>> store.nearest("molecule", np.array([[0.6, 0.8]], np.float32), k=1)[0][0].id
    'b'
    >>> query = np.ones((1, 2), np.float32)
    >>> [found.id for found in store.nearest("molecule", query, 2, MoleculeFilter(max_weight=17))[0]]
    ['a']
    """

    config: dict[str, Any]

    def __init__(self, location: str) -> None:
        """Opens an index. Raises `ValueError` if there is none."""

    @classmethod
    def create(
        cls, location: str, table: Dataset, dimension: int, caption_rows: np.ndarray, overwrite: bool = False
    ) -> AbstractContextManager[StoreWriter]:
        """Starts a new index, which can be opened when the block ends without an error.

        Args:
            location (`str`): where the index is stored.
            table: N rows from [`~class_hf.search.properties.describe`]: `id`, `smiles`, further columns, and the
                properties `_weight` (Da), `_elements` (symbols) and `_pattern` (a fingerprint as bytes).
            dimension (`int`): D.
            caption_rows (`np.ndarray` (C,) `int64`): for each different caption the first row that has it.
            overwrite (`bool`, defaults to `False`): replace an existing index.

        Raises:
            FileExistsError: If there is an index and `overwrite` is not set.
        """

    def nearest(
        self,
        side: str,
        queries: np.ndarray,
        k: int,
        filters: MoleculeFilter | None = None,
        use_penalties: bool = False,
    ) -> list[list[Found]]:
        """Finds the candidates with the largest cosine similarity to each query.

        Args:
            side (`str`): the candidates: `"molecule"` or `"text"`.
            queries (`np.ndarray` (B, D) `float32`): L2-normalised queries.
            k (`int`): number of candidates per query. Fewer are returned if fewer pass the filters.
            filters: conditions on molecules. Bounds of weight, elements and `where` must hold for each result.
                `substructure` and `min_score` may be ignored, because the index checks them afterwards.
            use_penalties (`bool`, defaults to `False`): subtract the stored penalties.

        Returns:
            For each query its candidates in decreasing order of score. Equal scores are in the order of their numbers.
        """

    def close(self) -> None:
        """Releases connections, locks and files."""


class Change(NamedTuple):
    """A change of an index, from [`~class_hf.search.changes.IndexChange`].

    A molecule that is updated is removed, and is added with the same number.

    Attributes:
        removed (`np.ndarray` (R,) `int64`): numbers of the molecules to remove.
        table: n rows to add, with the columns of the index and the properties. None if there are none.
        numbers (`np.ndarray` (n,) `int64`): their numbers.
        vectors (`np.ndarray` (n, D) `float32`): their vectors.
        penalties (`np.ndarray` (n,) `float32`, *optional*): their penalties, if the index has a query bank.
        removed_captions (list of `str`): captions to remove.
        captions (list of `str`): captions to add. One that is removed too belongs to another molecule now.
        caption_numbers, caption_rows (`np.ndarray` (c,) `int64`): their numbers, and the numbers of the molecules that
            they belong to.
        caption_vectors (`np.ndarray` (c, D) `float32`): their vectors.
        config (`dict`): the new settings.
    """

    removed: np.ndarray
    table: Dataset | None
    numbers: np.ndarray
    vectors: np.ndarray
    penalties: np.ndarray | None
    removed_captions: list[str]
    captions: list[str]
    caption_numbers: np.ndarray
    caption_rows: np.ndarray
    caption_vectors: np.ndarray
    config: dict[str, Any]


class ChangeableStore(VectorStore, Protocol):
    """A store whose index can be changed after it was built.

    Attributes:
        features (`datasets.Features`): types of the columns, without the properties.
    """

    @property
    def features(self) -> Features:
        """The types of the columns of the table, without the properties."""

    def count(self) -> int:
        """Counts the molecules that the store holds."""

    def numbers(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of the molecules with the given ids. Ids that do not exist are left out."""

    def read(self, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """Reads columns of all molecules, a part at a time. Each part has the column `number` too."""

    def bank(self) -> np.ndarray:
        """The vectors (M, D) of the query bank. Raises `ValueError` if the index keeps none."""

    def require_current(self) -> None:
        """Raises `ValueError` if another process has changed the index since it was opened."""

    def change(self, change: Change) -> None:
        """Applies a change. A process that is killed leaves the old or the new index.

        Raises:
            ValueError: If another process has changed the index since it was opened.
        """


def open_store(location: str | Path) -> VectorStore:
    """Opens an existing index.

    Args:
        location: a folder, a URL of a database, or `package.module:Name@LOCATION`.

    Raises:
        ValueError: If there is no index, or the location has another form.
        ImportError: If the client of the database, or the module, is not installed.

    >>> open_store("nowhere")
    Traceback (most recent call last):
    ValueError: 'nowhere' holds no index (no index.json).
    """
    store, rest = store_class(location)
    return store(rest)


def store_class(location: str | Path) -> tuple[type[VectorStore], str]:
    """The class of a store, and the location that it is opened with.

    Args:
        location: as for [`open_store`].

    Raises:
        ValueError: If a class is named that has no such methods.
        ImportError: If the module of a class cannot be imported.

    >>> store_class("outputs/index")[0].__name__
    'FolderStore'
    """
    text = str(location)
    for scheme, path in STORES.items():
        if text.startswith(scheme):
            return cast(type[VectorStore], load_object(path)), text
    name, _, rest = text.partition("@")
    if is_object_path(name) and not Path(text).exists():
        store = load_object(name)
        missing = [method for method in ("create", "nearest", "close") if not callable(getattr(store, method, None))]
        if missing:
            raise ValueError(
                f"{name!r} is no vector store: it has no {', '.join(missing)}. Add what VectorStore lists."
            )
        return cast(type[VectorStore], store), rest
    from class_hf.search.stores.folder import FolderStore

    return FolderStore, text


def check_store(store: str) -> str:
    """Checks the location of a new index.

    Raises:
        ValueError: If it is neither a folder, a URL of a known database, nor a class.

    >>> check_store("outputs/index")
    'outputs/index'
    >>> check_store("mysql://HOST")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: store is 'mysql://HOST'; expected a folder, lance:..., ... or package.module:Name@LOCATION.
    """
    text = str(store) if isinstance(store, str | Path) else ""
    known = text.startswith(tuple(STORES)) or is_object_path(text.partition("@")[0])
    if not text.strip() or (not known and _SCHEME.match(text)):
        shown = repr(hide_password(text)) if text else repr(store)
        raise ValueError(
            f"store is {shown}; expected a folder, {', '.join(f'{scheme}...' for scheme in STORES)} or "
            "package.module:Name@LOCATION."
        )
    return text


def hide_password(location: str | Path) -> str:
    """The location of an index as it may be printed: without a password.

    >>> hide_password("postgresql://ann:secret@HOST/chemistry/molecules?password=secret&sslmode=require")
    'postgresql://ann:***@HOST/chemistry/molecules?password=***&sslmode=require'
    >>> hide_password("postgresql://ann:s/cr#t@HOST/chemistry/molecules")
    'postgresql://ann:***@HOST/chemistry/molecules'
    """
    # A password that is not percent-encoded can hold each of `/?#@`.
    text = re.sub(r"(//[^/?#@:]*:).*@", r"\1***@", str(location), flags=re.DOTALL)
    return re.sub(r"((?:password|passwd|token|key|secret)=)[^&]*", r"\1***", text, flags=re.IGNORECASE)


def rows_that_pass(table: Dataset, filters: MoleculeFilter) -> np.ndarray:
    """Finds the rows that meet a filter's bounds of weight, its elements and its `where`.

    Args:
        table: N rows from [`~class_hf.search.properties.describe`].
        filters: the conditions.

    Returns:
        `np.ndarray` (M,) `int64`: row numbers in increasing order.

    >>> table = Dataset.from_dict({"_weight": [16.0, 18.0], "_elements": [["H", "C"], ["H", "O"]], "logS": [1.0, 2.0]})
    >>> rows_that_pass(table, MoleculeFilter(elements="O", where="logS > 0")).tolist()
    [1]
    """
    keep = np.ones(len(table), bool)
    if filters.min_weight is not None or filters.max_weight is not None:
        weights = np.asarray(table["_weight"][:])
        keep &= (weights >= (filters.min_weight or 0.0)) & (weights <= upper_bound(filters))
    if filters.elements:
        wanted = set(filters.elements)
        keep &= np.fromiter((wanted <= set(symbols) for symbols in table["_elements"][:]), bool, len(table))
    for condition in filters.conditions:
        keep &= evaluate_condition(table.data.column(condition.column), condition)
    return np.flatnonzero(keep)


def upper_bound(filters: MoleculeFilter) -> float:
    """The largest weight that passes, infinite if there is no bound."""
    return float("inf") if filters.max_weight is None else filters.max_weight


def record_fields(columns: dict[str, Sequence[Any]], place: int) -> dict[str, Any]:
    """The values of one row of a batch, without its id and SMILES.

    >>> record_fields({"id": ["a"], "smiles": ["C"], "number": [3]}, 0)
    {'number': 3}
    """
    return {name: values[place] for name, values in columns.items() if name not in ("id", "smiles")}
