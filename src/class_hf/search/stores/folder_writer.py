"""Writes an index into a folder in steps, so that neither vectors nor properties need to fit into memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from class_hf.search.stores.arrays import allocate_array, save_array
from class_hf.search.stores.bit_sets import element_bits
from class_hf.search.stores.manifest import Manifest
from class_hf.search.vector_search import Codes, measure_code_recall, random_projection, signs

_BLOCK = 8_192


class FolderWriter:
    """Fills a folder in steps, so that the vectors need not fit into memory.

    Args:
        folder: an empty folder.
        table: as for [`~class_hf.search.stores.base.VectorStore.create`].
        dimension (`int`): D.
        caption_rows (`np.ndarray` (C,)): as for [`~class_hf.search.stores.base.VectorStore.create`].
        properties (`dict`, *optional*): [`properties_of`] the table. Default: they are computed.
    """

    def __init__(
        self,
        folder: Path,
        table: Dataset,
        dimension: int,
        caption_rows: np.ndarray,
        properties: dict[str, np.ndarray] | None = None,
    ):
        self.folder = folder
        self.properties = properties
        self.table = table
        self.caption_rows = caption_rows
        self._penalties: list[np.ndarray] = []
        sizes = {"molecules": len(table), "captions": len(caption_rows)}
        self._arrays = {
            name: allocate_array(folder / f"{name}.npy", np.float32, (size, dimension))
            for name, size in sizes.items()
            if size
        }

    def add_query_bank(self, vectors: np.ndarray) -> None:
        """Stores the vectors (M, D) of the query bank, so that molecules can be added later."""
        save_array(self.folder / "bank.npy", vectors)

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """Stores the vectors (n, D) of the rows from `start`, and their penalties (n,)."""
        self._arrays["molecules"][start : start + len(vectors)] = vectors
        if penalties is not None:
            self._penalties.append(penalties.astype(np.float32))

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """Stores the vectors (n, D) of the captions from `start`."""
        self._arrays["captions"][start : start + len(vectors)] = vectors

    def finish(self, config: dict[str, Any]) -> None:
        """Writes the other arrays and the table, then the settings."""
        self.write_files(config)
        Manifest(self.folder, config, None).write()

    def write_files(self, config: dict[str, Any]) -> None:
        """Writes everything but the settings. Adds the measured recall to them."""
        for array in self._arrays.values():
            array.flush()
        arrays = dict(self.properties or {})
        if self.properties is None:
            _write_properties(self.folder, self.table)
        if len(self.caption_rows):
            arrays["caption_rows"] = self.caption_rows
        if self._penalties:
            arrays["penalties"] = np.concatenate(self._penalties)
        for name, values in arrays.items():
            save_array(self.folder / f"{name}.npy", values)
        for name, vectors in self._arrays.items():
            if len(vectors) > config["exact_up_to"]:
                codes = self._write_codes(name, vectors)
                if name == "molecules":
                    config.update(measure_code_recall(vectors, codes))
        columns = [name for name in self.table.column_names if not name.startswith("_")]
        self.table.select_columns(columns).save_to_disk(self.folder / "table")

    def _write_codes(self, name: str, vectors: np.ndarray) -> Codes:
        """Writes the one-bit codes of vectors block by block."""
        projection = random_projection(vectors.shape[1])
        save_array(self.folder / f"{name}_projection.npy", projection)
        bits = allocate_array(self.folder / f"{name}_codes.npy", np.uint8, (len(vectors), projection.shape[1] // 8))
        for start in range(0, len(vectors), _BLOCK):
            bits[start : start + _BLOCK] = signs(vectors[start : start + _BLOCK], projection)
        bits.flush()
        return Codes(bits, projection)


def properties_of(rows: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The properties of rows as arrays: `weights` (N,), `elements` (N, 2) and `patterns` (N, 32).

    Args:
        rows: the columns `_weight`, `_elements` and `_pattern` of a table or a block.
    """
    weights = np.asarray(rows["_weight"][:], np.float64)
    return {
        "weights": weights,
        "elements": element_bits(rows["_elements"][:]),
        "patterns": np.frombuffer(b"".join(rows["_pattern"][:]), np.uint64).reshape(len(weights), -1),
    }


def _write_properties(folder: Path, table: Dataset) -> None:
    """Writes the properties of a table block by block, so that they need not fit into memory."""
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "weights": (np.float64, (len(table),)),
        "elements": (np.uint64, (len(table), 2)),
        "patterns": (np.uint64, (len(table), 32)),
    }
    arrays = {name: allocate_array(folder / f"{name}.npy", *shape) for name, shape in shapes.items()}
    columns = table.select_columns(["_weight", "_elements", "_pattern"])
    for start in range(0, len(table), _BLOCK):
        stop = min(start + _BLOCK, len(table))
        for name, values in properties_of(columns[start:stop]).items():
            arrays[name][start:stop] = values
    for array in arrays.values():
        array.flush()
