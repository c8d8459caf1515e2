"""Changes of an index in a folder: molecules are added, updated and deleted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from class_hf.data.validation import OnError
from class_hf.search.building import SHARD, Bank, counts
from class_hf.search.captions import distinct_captions
from class_hf.search.encoder import IndexEncoder
from class_hf.search.properties import describe
from class_hf.search.stores.folder import FolderStore
from class_hf.search.stores.folder_writer import FolderWriter, properties_of
from class_hf.utils.messages import one_line
from class_hf.utils.suggestions import did_you_mean

_SHOWN = 5


class IndexChange:
    """A change of an index in a folder.

    The change writes a complete new set of files next to the old one, and then replaces `index.json`, which names the
    set in use. So the index is always the old or the new one, whenever the process ends. Open indexes continue to
    search the old one. Vectors of molecules and captions that stay are copied. The result equals an index that is
    built from the changed table.

    Args:
        store: the index.
        encoder: its model. Deleting needs none.
        batch_size (`int`, defaults to 256): molecules or captions that are embedded at a time.
    """

    def __init__(self, store: FolderStore, encoder: IndexEncoder | None = None, batch_size: int = 256):
        self.store, self.encoder, self.batch_size = store, encoder, batch_size

    def add(self, molecules: Dataset, on_error: OnError = "raise") -> None:
        """Adds molecules after the existing ones.

        Raises:
            ValueError: If an id exists, a column does not, or rows are refused.
        """
        new = self._described(molecules, on_error)
        existing = set(self.store.table["id"][:])
        if known := [row_id for row_id in new["id"][:] if row_id in existing]:
            raise ValueError(f"{_listed(known)} in the index; update them, or give them other ids.")
        self._write(np.arange(len(self.store.table)), new, None)

    def update(self, molecules: Dataset, on_error: OnError = "raise") -> None:
        """Replaces the molecules that have the ids of the given ones. Their rows stay in place.

        Raises:
            ValueError: If an id does not exist, or exists more than once, or as for [`add`].
        """
        new = self._described(molecules, on_error)
        rows: dict[str, list[int]] = {}
        for row, row_id in enumerate(self.store.table["id"][:]):
            rows.setdefault(row_id, []).append(row)
        ids = new["id"][:]
        if unknown := [row_id for row_id in ids if row_id not in rows]:
            raise ValueError(f"{_listed(unknown, 'not')} in the index; add them. {did_you_mean(unknown[0], rows, '')}")
        repeated = [row_id for row_id in ids if len(rows[row_id]) > 1]
        repeated += [row_id for row_id, count in Counter(ids).items() if count > 1]
        if repeated:
            raise ValueError(f"{repeated[0]!r} is the id of several molecules; delete them and add them again.")
        places = np.array([rows[row_id][0] for row_id in ids], np.int64)
        self._write(np.delete(np.arange(len(self.store.table)), places), new, places)

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes all molecules with the given ids.

        Raises:
            ValueError: If an id does not exist, or no molecule would be left.
        """
        wanted = set(ids)
        existing = self.store.table["id"][:]
        if unknown := sorted(wanted - set(existing)):
            raise ValueError(f"{_listed(unknown, 'not')} in the index. {did_you_mean(unknown[0], set(existing), '')}")
        kept = np.array([row for row, row_id in enumerate(existing) if row_id not in wanted], np.int64)
        if not len(kept):
            raise ValueError("no molecule would be left in the index; remove its folder instead.")
        self._write(kept, None, None)

    def _described(self, molecules: Dataset, on_error: OnError) -> Dataset:
        """The new molecules with their properties and the columns of the index."""
        if "id" not in molecules.column_names:
            raise ValueError(f"the molecules lack the column 'id'; they have {molecules.column_names}.")
        table, _ = describe(molecules, on_error=on_error)
        features = self.store.table.features
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

    def _write(self, kept: np.ndarray, new: Dataset | None, places: np.ndarray | None) -> None:
        """Writes the kept rows and the new ones, which come last or at the given places."""
        old = self.store
        old.require_current()
        count = len(kept) + (0 if new is None else len(new))
        # Row r of the result is row order[r] of the kept rows followed by the new ones.
        order = np.arange(count)
        if places is not None:
            order = np.empty(count, np.int64)
            order[np.delete(np.arange(count), places)] = np.arange(len(kept))
            order[places] = len(kept) + np.arange(len(places))
        columns = old.table.column_names
        table = old.table.select(kept)
        properties = {name: np.asarray(old.array(name))[kept] for name in ("weights", "elements", "patterns")}
        if new is not None:
            table = concatenate_datasets([table, new.select_columns(columns)])
            properties = {
                name: np.concatenate([properties[name], values])
                for name, values in properties_of(_columns(new)).items()
            }
        table = table.select(order)
        properties = {name: values[order] for name, values in properties.items()}
        captions, caption_rows = distinct_captions(table)
        bank = self._bank()
        config = {**old.config, **counts(table, captions), "changes": old.config.get("changes", 0) + 1}
        with old.change(table, caption_rows, properties, config) as writer:
            if bank is not None:
                writer.add_query_bank(bank.vectors.numpy())
            vectors = self._molecule_vectors(new)
            self._write_molecules(writer, kept, vectors, order, bank)
            self._write_captions(writer, captions)

    def _bank(self) -> Bank | None:
        settings = self.store.config["query_bank"]
        if settings is None:
            return None
        if "scale" not in settings:
            raise ValueError("the index keeps no query bank, because an earlier version built it: build it again.")
        return Bank(torch.from_numpy(self.store.bank()), settings["method"], settings["scale"])

    def _molecule_vectors(self, new: Dataset | None) -> torch.Tensor:
        if new is None or self.encoder is None:
            return torch.empty(0, self.store.config["dimension"])
        return self.encoder.embed_molecules(self.encoder.prepare(new, None), self.batch_size)

    def _write_molecules(
        self, writer: FolderWriter, kept: np.ndarray, vectors: torch.Tensor, order: np.ndarray, bank: Bank | None
    ) -> None:
        old_vectors = self.store.array("molecules")
        old_penalties = None if bank is None else self.store.array("penalties")
        new_penalties = None if bank is None or not len(vectors) else bank.penalties(vectors).astype(np.float32)
        for start in range(0, len(order), SHARD):
            rows = order[start : start + SHARD]
            is_old = rows < len(kept)
            block = np.empty((len(rows), old_vectors.shape[1]), np.float32)
            block[is_old] = old_vectors[kept[rows[is_old]]]
            block[~is_old] = vectors.numpy()[rows[~is_old] - len(kept)]
            penalties = None
            if old_penalties is not None:
                penalties = np.empty(len(rows), np.float32)
                penalties[is_old] = old_penalties[kept[rows[is_old]]]
                if new_penalties is not None:
                    penalties[~is_old] = new_penalties[rows[~is_old] - len(kept)]
            writer.add_molecules(start, block, penalties)

    def _write_captions(self, writer: FolderWriter, captions: Sequence[str]) -> None:
        old_vectors = self.store.array("captions") if self.store.config["captions"] else None
        old_number = {text: number for number, text in enumerate(distinct_captions(self.store.table)[0])}
        for start in range(0, len(captions), SHARD):
            texts = captions[start : start + SHARD]
            block = np.empty((len(texts), self.store.config["dimension"]), np.float32)
            fresh = [place for place, text in enumerate(texts) if text not in old_number]
            if fresh and self.encoder is not None:
                block[fresh] = self.encoder.embed_captions([texts[place] for place in fresh], self.batch_size)
            stored = [place for place, text in enumerate(texts) if text in old_number]
            if old_vectors is not None and stored:
                block[stored] = old_vectors[[old_number[texts[place]] for place in stored]]
            writer.add_captions(start, block)


def _columns(table: Dataset) -> dict[str, Any]:
    return table.select_columns(["_weight", "_elements", "_pattern"])[:]


def _listed(ids: Sequence[str], negation: str = "") -> str:
    """`"'a', 'b' are not"`: the first ids, and how many more there are."""
    shown = ", ".join(repr(row_id[:60]) for row_id in ids[:_SHOWN])
    more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
    verb = "is" if len(ids) == 1 else "are"
    return f"{shown}{more} {verb} {negation}".rstrip()


def require_folder(store: Any) -> FolderStore:
    """The store, if it can be changed.

    Raises:
        ValueError: If it is not a folder.
    """
    if not isinstance(store, FolderStore):
        raise ValueError(f"{type(store).__name__} cannot be changed; build the index again. Only folders can.")
    return store
