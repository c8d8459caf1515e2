"""Changes of an index: molecules are added, updated and deleted."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset

from class_hf.data.validation import OnError
from class_hf.search.building import Bank
from class_hf.search.captions import FURTHER, texts_of_rows
from class_hf.search.encoder import IndexEncoder
from class_hf.search.properties import describe
from class_hf.search.stores.base import Change, ChangeableStore
from class_hf.utils.in_memory import as_table
from class_hf.utils.messages import one_line
from class_hf.utils.suggestions import did_you_mean

_SHOWN = 5
# In a larger index no similar id is suggested, because all ids would be read.
_SUGGEST_UP_TO = 100_000


class IndexChange:
    """A change of an index.

    The ids and the new rows are checked, the new molecules and captions are embedded, and the store applies the change
    in one step. The result equals an index that is built from the changed table.

    Args:
        store: the index.
        open_encoder: gives its model. It is called only if something has to be embedded.
        batch_size (`int`, defaults to 256): molecules or captions that are embedded at a time.

    Raises:
        ValueError: If another process has changed the index since it was opened.
    """

    def __init__(self, store: ChangeableStore, open_encoder: Callable[[], IndexEncoder], batch_size: int = 256):
        store.require_current()
        self.store, self.open_encoder, self.batch_size = store, open_encoder, batch_size

    def add(self, molecules: Dataset, on_error: OnError = "raise") -> None:
        """Adds molecules after the existing ones.

        Raises:
            ValueError: If an id exists, a column does not, or rows are refused.
        """
        new = self._described(molecules, on_error)
        self.add_described(new, self._embedded(new))

    def add_described(self, new: Dataset, vectors: Callable[[], np.ndarray]) -> None:
        """Adds molecules whose properties are known.

        Args:
            new: rows with the columns of the index and the properties.
            vectors: gives their vectors (n, D). It is called after the checks.

        Raises:
            ValueError: If an id exists.
        """
        ids = new["id"][:]
        if known := self.store.numbers(ids):
            listed = _listed([row_id for row_id in ids if row_id in known], "already")
            raise ValueError(f"{listed} in the index; update them, or give them other ids.")
        start = self.store.config.get("next_number", self.store.config["molecules"])
        self._apply(np.empty(0, np.int64), new, np.arange(start, start + len(new)), vectors)

    def update(self, molecules: Dataset, on_error: OnError = "raise") -> None:
        """Replaces the molecules that have the ids of the given ones. They keep their numbers.

        Raises:
            ValueError: If an id does not exist, or exists more than once, or as for [`add`].
        """
        new = self._described(molecules, on_error)
        ids = new["id"][:]
        numbers = self.store.numbers(ids)
        if unknown := [row_id for row_id in ids if row_id not in numbers]:
            raise ValueError(f"{_listed(unknown, 'not')} in the index; add them. {self._similar(unknown[0])}".rstrip())
        repeated = [row_id for row_id in ids if len(numbers[row_id]) > 1]
        repeated += [row_id for row_id, count in Counter(ids).items() if count > 1]
        if repeated:
            raise ValueError(f"{repeated[0]!r} is the id of several molecules; delete them and add them again.")
        places = np.array([numbers[row_id][0] for row_id in ids], np.int64)
        self._apply(places, new, places, self._embedded(new))

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes all molecules with the given ids.

        Raises:
            ValueError: If an id does not exist, or no molecule would be left.
        """
        if wrong := [row_id for row_id in ids if not isinstance(row_id, str)]:
            raise ValueError(f"the id {wrong[0]!r} has the type {type(wrong[0]).__name__}; expected ids as text.")
        numbers = self.store.numbers(ids)
        if unknown := sorted(set(ids) - set(numbers)):
            raise ValueError(f"{_listed(unknown, 'not')} in the index. {self._similar(unknown[0])}".rstrip())
        removed = np.array(sorted(number for several in numbers.values() for number in several), np.int64)
        if len(removed) == self.store.config["molecules"]:
            raise ValueError("no molecule would be left in the index; remove the index instead.")
        self._apply(removed, None, np.empty(0, np.int64), lambda: np.empty((0, self._dimension), np.float32))

    @property
    def _dimension(self) -> int:
        return self.store.config["dimension"]

    def _similar(self, row_id: str) -> str:
        """Which id the user may have meant, as it is stored. A sentence, or nothing."""
        parts = [part.strip() for part in row_id.split(",")]
        if len(parts) > 1 and set(self.store.numbers(parts)) == set(parts):
            return f"Separate ids by spaces: {' '.join(parts)}"
        if self.store.config["molecules"] > _SUGGEST_UP_TO:
            return "Check the ids."
        stored = sorted({known for block in self.store.read(["id"]) for known in block["id"]})
        other_case = next((known for known in stored if known.casefold() == row_id.casefold()), row_id)
        suggestion = did_you_mean(other_case, stored, "")
        return suggestion[:1].upper() + suggestion[1:]

    def _described(self, molecules: Dataset, on_error: OnError) -> Dataset:
        """The new molecules with their properties and the columns of the index."""
        molecules = as_table(molecules, "the molecules")
        if "id" not in molecules.column_names:
            names = [name for name in molecules.column_names if not name.startswith("_")]
            raise ValueError(f"the molecules lack the column 'id'; they have {names}. Name it by --id_column.")
        without = [row for row, row_id in enumerate(molecules["id"][:]) if row_id is None or row_id == ""]
        if without:
            raise ValueError(f"molecules row {without[0]}: the id is empty. Rows without an id: {len(without)}.")
        return self.fitted(describe(molecules, on_error=on_error)[0])

    def fitted(self, table: Dataset) -> Dataset:
        """Rows with the columns of the index, in their types. Columns that they lack are empty.

        Raises:
            ValueError: If the index has no such column, or a value has another type.
        """
        features = self.store.features
        for name in table.column_names:
            if name not in features and not name.startswith("_"):
                raise ValueError(f"the index has no column {name!r}; {did_you_mean(name, features)}")
        for name in features:
            if name not in table.column_names:
                table = table.add_column(name, [None] * len(table))
        for name, feature in features.items():
            try:
                table = table.cast_column(name, feature)
            except Exception as error:  # Arrow's errors
                reason = one_line(error, limit=120)
                raise ValueError(f"the column {name!r} does not have the type of the index: {reason}.") from error
        return table

    def _embedded(self, new: Dataset) -> Callable[[], np.ndarray]:
        def embed() -> np.ndarray:
            encoder = self.open_encoder()
            return encoder.embed_molecules(encoder.prepare(new, None), self.batch_size).numpy()

        return embed

    def _apply(
        self, removed: np.ndarray, new: Dataset | None, numbers: np.ndarray, embed: Callable[[], np.ndarray]
    ) -> None:
        """Embeds what is new, and gives the change to the store."""
        old = self.store.config
        bank = self._bank()
        touched = {*removed.tolist(), *numbers.tolist()}
        old_captions, new_captions = self._captions(set(removed.tolist()), new, numbers)
        # The captions of an updated molecule are written again, because their hits show its columns.
        gone = [text for text, row in old_captions.items() if row in touched or new_captions.get(text) != row]
        added = {text: row for text, row in new_captions.items() if row in touched or old_captions.get(text) != row}
        vectors = embed()
        texts = list(added)
        caption_vectors = np.empty((0, self._dimension), np.float32)
        if texts:
            caption_vectors = self.open_encoder().embed_captions(texts, self.batch_size)
        next_caption = old.get("next_caption", old["captions"])
        config = {
            **old,
            "molecules": old["molecules"] - len(removed) + len(numbers),
            "captions": old["captions"] - len(gone) + len(texts),
            "next_number": max(old.get("next_number", old["molecules"]), int(numbers.max(initial=-1)) + 1),
            "next_caption": next_caption + len(texts),
            "changes": old.get("changes", 0) + 1,
        }
        penalties = None
        if bank is not None and len(vectors):
            penalties = bank.penalties(torch.from_numpy(vectors)).astype(np.float32)
        self.store.change(
            Change(
                removed=removed,
                table=new,
                numbers=numbers,
                vectors=vectors,
                penalties=penalties,
                removed_captions=gone,
                captions=texts,
                caption_numbers=next_caption + np.arange(len(texts)),
                caption_rows=np.fromiter(added.values(), np.int64, len(added)),
                caption_vectors=caption_vectors,
                config=config,
            )
        )

    def _captions(
        self, removed: set[int], new: Dataset | None, numbers: np.ndarray
    ) -> tuple[dict[str, int], dict[str, int]]:
        """The captions before and after the change, each with the first molecule that has it, in their order.

        An index with captions reads all of them for this.
        """
        columns = [name for name in ("description", FURTHER) if name in self.store.features]
        if not columns or (not self.store.config["captions"] and (new is None or not any(texts_of_rows(new)))):
            return {}, {}
        rows: dict[int, list[str]] = {}
        for block in self.store.read(columns):
            rows.update(zip(block["number"], texts_of_rows(block), strict=True))
        before = _first_rows(rows)
        for number in removed:
            del rows[number]
        if new is not None:
            rows.update(zip(numbers.tolist(), texts_of_rows(new), strict=True))
        return before, _first_rows(rows)

    def _bank(self) -> Bank | None:
        settings = self.store.config["query_bank"]
        if settings is None:
            return None
        vectors = np.array(self.store.bank())  # torch takes no array that is read-only
        return Bank(torch.from_numpy(vectors), settings["method"], settings["scale"])


def _first_rows(rows: dict[int, list[str]]) -> dict[str, int]:
    """For each caption the first row that has it, in the order of the rows."""
    first: dict[str, int] = {}
    for row in sorted(rows):
        for text in rows[row]:
            first.setdefault(text, row)
    return first


def _listed(ids: Sequence[str], adverb: str) -> str:
    """`"'a', 'b' are not"`: the first ids, and how many more there are."""
    shown = ", ".join(repr(row_id[:60]) for row_id in ids[:_SHOWN])
    more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
    verb = "is" if len(ids) == 1 else "are"
    return f"{shown}{more} {verb} {adverb}"


def require_changeable(store: Any) -> ChangeableStore:
    """The store, if its index can be changed.

    Raises:
        ValueError: If it has not the methods of [`~class_hf.search.stores.base.ChangeableStore`].
    """
    missing = [
        name for name in ("features", "numbers", "read", "require_current", "change") if not hasattr(store, name)
    ]
    if missing:
        raise ValueError(
            f"{type(store).__name__} cannot be changed: it has no {', '.join(missing)}. Build the index again."
        )
    return cast(ChangeableStore, store)
