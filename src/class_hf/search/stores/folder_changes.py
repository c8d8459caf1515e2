"""Changes an index in a folder: all files are written again next to the old ones."""

from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from class_hf.search.captions import distinct_captions
from class_hf.search.stores.base import Change
from class_hf.search.stores.folder_writer import FolderWriter, properties_of

if TYPE_CHECKING:
    from class_hf.search.stores.folder import FolderStore

# Vectors that are copied at a time.
_BLOCK = 8_192


def rewrite(store: "FolderStore", change: Change) -> None:
    """Writes a complete new set of files, and then replaces `index.json`, which names the set in use.

    The result equals an index that is built from the changed table. Vectors of molecules and captions that stay are
    copied. Open indexes continue to search the old files.

    Args:
        store: the index.
        change: the change.

    Raises:
        ValueError: If another process changes the index, or has changed it since it was opened.
        OSError: If the disk is full. The old index stays.
    """
    store.require_current()
    kept = np.delete(np.arange(len(store.table)), change.removed)
    # Row r of the result is row order[r] of the kept rows followed by the new ones.
    order = np.argsort(np.concatenate([kept, change.numbers]), kind="stable")
    table = store.table.select(kept)
    properties = {name: np.asarray(store.array(name))[kept] for name in ("weights", "elements", "patterns")}
    if change.table is not None:
        new = change.table
        table = concatenate_datasets([table, new.select_columns(store.table.column_names)])
        added = properties_of(_columns(new))
        properties = {name: np.concatenate([values, added[name]]) for name, values in properties.items()}
    table = table.select(order)
    properties = {name: values[order] for name, values in properties.items()}
    captions, caption_rows = distinct_captions(table)
    config = {name: value for name, value in change.config.items() if name not in ("next_number", "next_caption")}
    bank = None if config["query_bank"] is None else store.bank()
    with store.replace_files(table, caption_rows, properties, config) as writer:
        if bank is not None:
            writer.add_query_bank(bank)
        _write_molecules(store, change, writer, kept, order)
        _write_captions(store, change, writer, captions)


def _write_molecules(
    store: "FolderStore", change: Change, writer: FolderWriter, kept: np.ndarray, order: np.ndarray
) -> None:
    old_vectors = store.array("molecules")
    old_penalties = None if store.config["query_bank"] is None else store.array("penalties")
    for start in range(0, len(order), _BLOCK):
        rows = order[start : start + _BLOCK]
        is_old = rows < len(kept)
        block = np.empty((len(rows), old_vectors.shape[1]), np.float32)
        block[is_old] = old_vectors[kept[rows[is_old]]]
        block[~is_old] = change.vectors[rows[~is_old] - len(kept)]
        penalties = None
        if old_penalties is not None:
            penalties = np.empty(len(rows), np.float32)
            penalties[is_old] = old_penalties[kept[rows[is_old]]]
            if change.penalties is not None:
                penalties[~is_old] = change.penalties[rows[~is_old] - len(kept)]
        writer.add_molecules(start, block, penalties)


def _write_captions(store: "FolderStore", change: Change, writer: FolderWriter, captions: list[str]) -> None:
    old_vectors = store.array("captions") if store.config["captions"] else None
    old_number = {text: number for number, text in enumerate(distinct_captions(store.table)[0])}
    new_number = {text: number for number, text in enumerate(change.captions)}
    for start in range(0, len(captions), _BLOCK):
        texts = captions[start : start + _BLOCK]
        block = np.empty((len(texts), store.config["dimension"]), np.float32)
        for place, text in enumerate(texts):
            if old_vectors is not None and text in old_number:
                block[place] = old_vectors[old_number[text]]
            else:
                block[place] = change.caption_vectors[new_number[text]]
        writer.add_captions(start, block)


def _columns(table: Dataset) -> dict[str, Any]:
    return table.select_columns(["_weight", "_elements", "_pattern"])[:]
