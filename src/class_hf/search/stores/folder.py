"""The embedded index: one folder of memory-mapped arrays and an Arrow table."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_from_disk

from class_hf.search.query import ELEMENTS, MoleculeFilter
from class_hf.search.substructure import requirements
from class_hf.search.vector_search import Codes, encode, top_rows, top_rows_by_codes
from class_hf.utils.files import atomic_folder, write_json

CONFIG = "index.json"
FORMAT = 1
_FILES = {"molecule": "molecules", "text": "captions"}
# Queries whose products with all candidates are held at a time.
_QUERIES = 64

# Score, number (of molecule or caption), and `id`, `smiles` and `fields` of the molecule.
Found = list[tuple[float, int, dict[str, Any]]]


class FolderStore:
    """Molecules, their vectors and properties in one folder; opening it reads none of them.

    Files: `index.json` (settings), `table/` (Arrow), `molecules.npy` (N, D) float32 of length 1, `weights.npy` (N,)
    float64, `elements.npy` (N, 2) and `patterns.npy` (N, 32) uint64 bit sets; `captions.npy` (C, D) and
    `caption_rows.npy` (C,) if there are captions; `penalties.npy` (N,) under a query bank; `molecules_codes.npy` and
    `molecules_projection.npy` (and those of captions) where there are more than `exact_up_to`.

    Args:
        folder: what [`create`] wrote.

    Raises:
        ValueError: if it is no such folder, or of a later format.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / CONFIG).is_file():
            raise ValueError(f"{str(folder)!r} holds no index (no {CONFIG}).")
        self.config: dict[str, Any] = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        if self.config["format"] > FORMAT:
            raise ValueError(
                f"the index {str(folder)!r} has format {self.config['format']}, this version of class_hf reads up to "
                f"{FORMAT}. Install class_hf {self.config['class_hf_version']} or later."
            )
        self.table: Dataset = load_from_disk(str(self.folder / "table"))
        self.vectors = {"molecule": self._array("molecules")}
        if self.config["captions"]:
            self.vectors["text"] = self._array("captions")
        self._codes = {
            side: Codes(self._array(f"{_FILES[side]}_codes"), self._array(f"{_FILES[side]}_projection"))
            for side, vectors in self.vectors.items()
            if len(vectors) > self.config["exact_up_to"]
        }

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    @cached_property
    def _penalties(self) -> np.ndarray:
        return self._array("penalties")

    @cached_property
    def _caption_rows(self) -> np.ndarray:
        return self._array("caption_rows")

    @classmethod
    @contextmanager
    def create(
        cls, folder: str | Path, table: Dataset, dimension: int, caption_rows: np.ndarray, overwrite: bool = False
    ) -> Iterator["FolderWriter"]:
        """A writer for N molecules; the folder appears when the block ends without an error."""
        with atomic_folder(folder, CONFIG, overwrite) as aside:
            yield FolderWriter(aside, table, dimension, caption_rows)

    def nearest(
        self, side: str, queries: np.ndarray, k: int, filters: MoleculeFilter | None = None, penalised: bool = False
    ) -> list[Found]:
        """The candidates with the largest cosines to each query, falling.

        Args:
            side: `"molecule"` or `"text"`: what the candidates are.
            queries: (B, D) of length 1.
            k: how many.
            filters: weight and elements hold for all that is given; of the substructure only what a fingerprint
                tells, so that some do not match, but none that matches is left out. For molecules only.
            penalised: take the query bank's penalties off.

        Returns:
            for each query up to k scores, rows (of captions: numbers), and the molecule's `id`, `smiles` and `fields`.
        """
        rows = self._rows(filters) if filters else None
        penalties = self._penalties if penalised else None
        candidates = len(self.vectors[side]) if rows is None else len(rows)
        search = partial(top_rows, self.vectors[side])
        if candidates > self.config["exact_up_to"]:
            search = partial(top_rows_by_codes, self.vectors[side], self._codes[side])
        found: list[Found] = []
        for start in range(0, len(queries), _QUERIES):
            scores, places = search(queries[start : start + _QUERIES], k, rows, penalties)
            molecules = self._caption_rows[places] if side == "text" else places
            found += [
                list(zip(of_query.tolist(), numbers.tolist(), self._records(chosen), strict=True))
                for of_query, numbers, chosen in zip(scores, places, molecules, strict=True)
            ]
        return found

    def _records(self, rows: np.ndarray) -> list[dict[str, Any]]:
        columns = self.table[rows.tolist()]
        names = [name for name in columns if name not in ("id", "smiles")]
        return [
            {"id": one, "smiles": smiles, "fields": {name: columns[name][place] for name in names}}
            for place, (one, smiles) in enumerate(zip(columns["id"], columns["smiles"], strict=True))
        ]

    def _rows(self, filters: MoleculeFilter) -> np.ndarray:
        """(M,) the rows that can pass."""
        keep = np.ones(len(self.table), bool)
        if filters.min_weight is not None or filters.max_weight is not None:
            weights = self._array("weights")
            keep &= weights >= (filters.min_weight or 0.0)
            keep &= weights <= (np.inf if filters.max_weight is None else filters.max_weight)
        if filters.elements:
            keep &= _contains(self._array("elements"), element_bits([filters.elements])[0])
        if filters.substructure is not None:
            pattern = np.frombuffer(requirements(filters.substructure, filters.time_limit)[0], np.uint64)
            keep &= _contains(self._array("patterns"), pattern)
        return np.flatnonzero(keep)

    def close(self) -> None:
        """Nothing to do: the maps go with the object."""


class FolderWriter:
    """Fills a folder piece by piece, so that the vectors need not fit into memory.

    Args:
        folder: an empty one.
        table: what [`describe`] gave.
        dimension: D.
        caption_rows: (C,) for each of the different captions the first row that has it.
    """

    def __init__(self, folder: Path, table: Dataset, dimension: int, caption_rows: np.ndarray):
        self.folder = folder
        self.table = table
        self.caption_rows = caption_rows
        self._penalties: list[np.ndarray] = []
        sizes = {"molecules": len(table), "captions": len(caption_rows)}
        self._arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (size, dimension))
            for name, size in sizes.items()
            if size
        }

    def add_molecules(self, start: int, vectors: np.ndarray, penalties: np.ndarray | None = None) -> None:
        """(n, D), and (n,) under a query bank: the rows from `start` on, in order."""
        self._arrays["molecules"][start : start + len(vectors)] = vectors
        if penalties is not None:
            self._penalties.append(penalties.astype(np.float32))

    def add_captions(self, start: int, vectors: np.ndarray) -> None:
        """(n, D): the captions from `start` on."""
        self._arrays["captions"][start : start + len(vectors)] = vectors

    def finish(self, config: dict[str, Any]) -> None:
        """Writes the rest; the settings last."""
        for array in self._arrays.values():
            array.flush()
        arrays = {
            "weights": np.asarray(self.table["_weight"][:]),
            "elements": element_bits(self.table["_elements"][:]),
            "patterns": np.frombuffer(b"".join(self.table["_pattern"][:]), np.uint64).reshape(len(self.table), -1),
        }
        if len(self.caption_rows):
            arrays["caption_rows"] = self.caption_rows
        if self._penalties:
            arrays["penalties"] = np.concatenate(self._penalties)
        for name, values in arrays.items():
            np.save(self.folder / f"{name}.npy", values)
        for name, vectors in self._arrays.items():
            if len(vectors) > config["exact_up_to"]:
                codes = encode(vectors)
                np.save(self.folder / f"{name}_codes.npy", codes.bits)
                np.save(self.folder / f"{name}_projection.npy", codes.projection)
        fields = [name for name in self.table.column_names if not name.startswith("_")]
        self.table.select_columns(fields).save_to_disk(self.folder / "table")
        write_json(self.folder / CONFIG, {"format": FORMAT, **config})


def element_bits(symbols: Sequence[Sequence[str]]) -> np.ndarray:
    """(N, 2) uint64 with a bit for each element of each molecule.

    >>> element_bits([["H", "C"]]).tolist()
    [[33, 0]]
    """
    number = {symbol: place for place, symbol in enumerate(ELEMENTS)}
    bits = np.zeros((len(symbols), 2), np.uint64)
    for row, some in enumerate(symbols):
        for symbol in some:
            word, bit = divmod(number[symbol], 64)
            bits[row, word] |= np.uint64(1 << bit)
    return bits


def _contains(sets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N,) whether each row of bit sets (N, W) has all bits of (W,)."""
    words = np.flatnonzero(wanted)  # the others ask for nothing
    return ((sets[:, words] & wanted[words]) == wanted[words]).all(axis=1)
