"""The default store: one folder of memory-mapped arrays and an Arrow table."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, load_from_disk

from class_hf.search.captions import distinct_captions, has_further
from class_hf.search.conditions import evaluate_condition
from class_hf.search.query import MoleculeFilter
from class_hf.search.stores.arrays import open_array
from class_hf.search.stores.base import Change, Found, record_fields, upper_bound
from class_hf.search.stores.bit_sets import contains, element_bits
from class_hf.search.stores.folder_changes import rewrite
from class_hf.search.stores.folder_writer import FolderWriter
from class_hf.search.stores.manifest import CONFIG, LOCK, Manifest
from class_hf.search.stores.opening import changed_meanwhile
from class_hf.search.substructure import requirements
from class_hf.search.vector_search import OVERSAMPLING, Codes, code_width, top_rows, top_rows_by_codes
from class_hf.utils.files import atomic_folder, check_output_folder, file_lock, report_full_disk
from class_hf.utils.messages import one_line

_FILES = {"molecule": "molecules", "text": "captions"}
# The scores of this many queries with all candidates are in memory at a time.
_QUERIES = 64
_OPENING_TRIES = 5
_BLOCK = 10_000  # rows that are read at a time


class FolderStore:
    """Molecules, their vectors and their properties in one folder.

    Opening maps the files and checks their types, shapes and sizes. It reads little of them, so it takes the same time
    for an index of any size. N molecules and C different captions with vectors of D numbers are in these files:

    | file | content |
    |---|---|
    | `index.json` | settings, and a checksum of each file |
    | `table/` | Arrow table: `id`, `smiles` and the further columns |
    | `molecules.npy` | (N, D) `float32`, L2-normalised |
    | `weights.npy` | (N,) `float64`, Da |
    | `elements.npy`, `patterns.npy` | (N, 2) and (N, 32) `uint64` bit sets |
    | `captions.npy`, `caption_rows.npy` | (C, D) `float32` and (C,) `int64`, if there are captions |
    | `penalties.npy`, `bank.npy` | (N,) and (M, D) `float32`, with a query bank of M captions |
    | `*_codes.npy`, `*_projection.npy` | one-bit codes, with more than `exact_up_to` candidates |

    Args:
        location: a folder from [`create`].

    Raises:
        ValueError: If it holds no index, if a file is missing or damaged, or if a later version wrote it.
    """

    keeps_further_captions = True

    def __init__(self, location: str | Path):
        self.folder = Path(location)
        for remaining in reversed(range(_OPENING_TRIES)):
            manifest = Manifest.read(location)
            try:
                self._open(manifest)
            except ValueError:
                # Another process may have changed the index after this one read `index.json`.
                if not remaining or Manifest.read(location).files == manifest.files:
                    raise
            else:
                return

    def _open(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._manifest.check_sizes()
        self.config: dict[str, Any] = self._manifest.config
        self.table = self._load_table()
        count, dimension = self.config["molecules"], self.config["dimension"]
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "molecules": (np.float32, (count, dimension)),
            "weights": (np.float64, (count,)),
            "elements": (np.uint64, (count, 2)),
            "patterns": (np.uint64, (count, 32)),
        }
        if self.config["captions"]:
            shapes["captions"] = (np.float32, (self.config["captions"], dimension))
            shapes["caption_rows"] = (np.int64, (self.config["captions"],))
        if self.config["query_bank"] is not None:
            shapes["penalties"] = (np.float32, (count,))
        sizes = {"molecules": count, "captions": self.config["captions"]}
        for name, size in sizes.items():
            if size > self.config["exact_up_to"]:
                width = code_width(dimension)
                shapes[f"{name}_codes"] = (np.uint8, (size, width // 8))
                shapes[f"{name}_projection"] = (np.float32, (dimension, width))
        self._arrays = {
            name: open_array(self._manifest.data / f"{name}.npy", *expected) for name, expected in shapes.items()
        }
        self.vectors = {side: self._arrays[name] for side, name in _FILES.items() if name in self._arrays}
        self.__dict__.pop("_captions", None)  # of the files before a change

    @cached_property
    def _captions(self) -> list[str] | None:
        """The texts of the captions by number, if a molecule can have several."""
        if not has_further(self.table):
            return None
        captions = distinct_captions(self.table)[0]
        if len(captions) != self.config["captions"]:
            raise ValueError(f"the table in {str(self.folder)!r} is damaged. Build the index again.")
        return captions

    def _load_table(self) -> Dataset:
        folder = self._manifest.data / "table"
        for name in self._manifest.files or ():
            if name.startswith("table/"):
                # Before the file is parsed: Arrow trusts its files.
                self._manifest.check_content(name)
        try:
            table = load_from_disk(str(folder))
        except Exception as error:  # Arrow, JSON and datasets have many errors
            reason = one_line(error, limit=120)
            raise ValueError(f"the table {str(folder)!r} is damaged: {reason}. Build the index again.") from error
        if not isinstance(table, Dataset) or len(table) != self.config["molecules"]:
            raise ValueError(
                f"the table {str(folder)!r} is damaged: it has {len(table):,} rows; expected "
                f"{self.config['molecules']:,}. Build the index again."
            )
        if not {"id", "smiles"} <= set(table.column_names):
            raise ValueError(
                f"the table {str(folder)!r} is damaged: it has the columns {table.column_names}; expected 'id' and "
                "'smiles' among them. Build the index again."
            )
        return table

    def array(self, name: str) -> np.ndarray:
        """An array by the name of its file, after a comparison with its checksum if it is small."""
        # Of the mapped file: a change of the index may have removed its name since.
        self._manifest.check_content(f"{name}.npy", self._arrays[name].base)
        return self._arrays[name]

    def bank(self) -> np.ndarray:
        """The vectors (M, D) of the query bank.

        Raises:
            ValueError: If the index has none, or the file is damaged.
        """
        if "scale" not in (self.config["query_bank"] or {}):
            raise ValueError("the index keeps no query bank, because an earlier version built it: build it again.")
        path = self._manifest.data / "bank.npy"
        self._manifest.check_content("bank.npy")
        shape = (self.config["query_bank"]["captions"], self.config["dimension"])
        return np.array(open_array(path, np.float32, shape))

    @staticmethod
    def check_location(location: str | Path, overwrite: bool = False) -> None:
        """Checks that an index may be written to a folder, before any work. Raises the errors of [`create`]."""
        check_output_folder(location, CONFIG, overwrite)

    @classmethod
    @contextmanager
    def create(
        cls,
        location: str | Path,
        table: Dataset,
        dimension: int,
        caption_rows: np.ndarray,
        overwrite: bool = False,
    ) -> Iterator[FolderWriter]:
        """As [`~class_hf.search.stores.base.VectorStore.create`]. The folder appears when the block ends.

        Raises:
            FileExistsError: If the folder is not empty, and is no index or `overwrite` is not set.
            OSError: If the disk is full. Nothing stays behind.
        """
        with atomic_folder(location, CONFIG, overwrite) as temporary, report_full_disk(location):
            yield FolderWriter(temporary, table, dimension, caption_rows)

    def require_current(self) -> None:
        """Checks that the index was not changed since it was opened.

        Raises:
            ValueError: If it was.
        """
        if Manifest.read(self.folder).files != self._manifest.files:
            raise changed_meanwhile(str(self.folder))

    @contextmanager
    def replace_files(
        self,
        table: Dataset,
        caption_rows: np.ndarray,
        properties: dict[str, np.ndarray],
        config: dict[str, Any],
    ) -> Iterator[FolderWriter]:
        """Replaces the files of the index when the block ends. A killed process leaves the old or the new files.

        Args:
            table, caption_rows: As for [`create`].
            properties (`dict`): `weights`, `elements` and `patterns` of the table.
            config (`dict`): the new settings.

        Raises:
            ValueError: If another process changes the index, or has changed it since it was opened.
            OSError: If the disk is full. The old index stays.
        """
        locked = f"another process changes the index {str(self.folder)!r}; try again later."
        with file_lock(self.folder / LOCK, locked):
            self.require_current()
            old = self._manifest
            old.remove_other_data()
            new = Manifest(self.folder, config, None, old.next_data_name())
            new.data.mkdir()
            try:
                with report_full_disk(self.folder):
                    writer = FolderWriter(new.data, table, config["dimension"], caption_rows, properties)
                    yield writer
                    writer.write_files(config)
                    new.write()
            except BaseException:
                shutil.rmtree(new.data, ignore_errors=True)
                raise
            old.remove_files()
        self._open(Manifest.read(self.folder))

    @property
    def features(self) -> Features:
        """The types of the columns."""
        return self.table.features

    def count(self) -> int:
        """The number of molecules."""
        return len(self.table)

    def numbers(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """The rows of the molecules with the given ids."""
        wanted = set(ids)
        rows: dict[str, list[int]] = {}
        for row, row_id in enumerate(self.table["id"][:]):
            if row_id in wanted:
                rows.setdefault(row_id, []).append(row)
        return rows

    def read(self, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """As [`~class_hf.search.stores.base.ChangeableStore.read`]."""
        table = self.table.select_columns(list(columns))
        for start in range(0, len(table), _BLOCK):
            block = table[start : start + _BLOCK]
            yield {"number": list(range(start, min(start + _BLOCK, len(table)))), **block}

    def change(self, change: Change) -> None:
        """As [`~class_hf.search.stores.base.ChangeableStore.change`]. All files are written again.

        Raises:
            ValueError: If another process changes the index, or has changed it since it was opened.
            OSError: If the disk is full. The old index stays.
        """
        rewrite(self, change)

    def nearest(
        self,
        side: str,
        queries: np.ndarray,
        k: int,
        filters: MoleculeFilter | None = None,
        use_penalties: bool = False,
    ) -> list[list[Found]]:
        """As [`~class_hf.search.stores.base.VectorStore.nearest`].

        Of a substructure it uses the fingerprint only: all molecules that match are candidates, and some that do not.
        """
        vectors = self.array(_FILES[side])
        rows = self._rows(filters) if filters else None
        penalties = self.array("penalties") if use_penalties else None
        candidates = len(vectors) if rows is None else len(rows)
        search = partial(top_rows, vectors)
        if candidates > self.config["exact_up_to"]:
            oversampling = self.config.get("effort", OVERSAMPLING)
            search = partial(top_rows_by_codes, vectors, self.codes(side), oversampling=oversampling)
        results: list[list[Found]] = []
        for start in range(0, len(queries), _QUERIES):
            scores, numbers = search(queries[start : start + _QUERIES], k, rows, penalties)
            molecules = self._caption_rows()[numbers] if side == "text" else numbers
            results += [self._records(*query) for query in zip(scores, numbers, molecules, strict=True)]
        if side == "text" and self._captions is not None:
            return [[self._with_caption(found) for found in result] for result in results]
        return results

    def _with_caption(self, found: Found) -> Found:
        """The caption that was found as the description of its molecule, which may have several."""
        assert self._captions is not None
        return found._replace(fields={**found.fields, "description": self._captions[found.number]})

    def codes(self, side: str) -> Codes:
        """The one-bit codes of a side's vectors. Only an index with more than `exact_up_to` of them has codes."""
        return Codes(self.array(f"{_FILES[side]}_codes"), self.array(f"{_FILES[side]}_projection"))

    def _caption_rows(self) -> np.ndarray:
        rows = self.array("caption_rows")
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.config["molecules"]:
            path = str(self.folder / "caption_rows.npy")
            raise ValueError(f"the file {path!r} is damaged: a row is out of range. Build the index again.")
        return rows

    def _records(self, scores: np.ndarray, numbers: np.ndarray, rows: np.ndarray) -> list[Found]:
        try:
            columns = self.table[rows.tolist()]
        except Exception as error:  # Arrow's errors for damaged values
            raise ValueError(f"the table in {str(self.folder)!r} is damaged. Build the index again.") from error
        return [
            Found(score, number, columns["id"][place], columns["smiles"][place], record_fields(columns, place))
            for place, (score, number) in enumerate(zip(scores.tolist(), numbers.tolist(), strict=True))
        ]

    def _rows(self, filters: MoleculeFilter) -> np.ndarray:
        """(M,) the rows that can pass."""
        keep = np.ones(len(self.table), bool)
        if filters.min_weight is not None or filters.max_weight is not None:
            weights = self.array("weights")
            if not np.isfinite(weights).all():
                path = str(self.folder / "weights.npy")
                raise ValueError(f"the file {path!r} is damaged: a value is not finite. Build the index again.")
            keep &= (weights >= (filters.min_weight or 0.0)) & (weights <= upper_bound(filters))
        if filters.elements:
            keep &= contains(self.array("elements"), element_bits([filters.elements])[0])
        if filters.substructure is not None:
            pattern = np.frombuffer(requirements(filters.substructure, filters.time_limit)[0], np.uint64)
            keep &= contains(self.array("patterns"), pattern)
        for condition in filters.conditions:
            keep &= evaluate_condition(self.table.data.column(condition.column), condition)
        return np.flatnonzero(keep)

    def verify(self) -> dict[str, int]:
        """Compares all files with their checksums, and checks all values.

        Returns:
            `dict`: numbers of `files` and `bytes` that were compared. Both are 0 for an index without checksums.

        Raises:
            ValueError: If anything differs. The message names the files.
        """
        faults = self._manifest.faults()
        if not faults:
            for side, vectors in self.vectors.items():
                for start in range(0, len(vectors), 65_536):
                    norms = np.linalg.norm(vectors[start : start + 65_536], axis=1)
                    if not (np.abs(norms - 1) < 1e-3).all():
                        faults.append(f"{_FILES[side]}.npy has vectors that are not L2-normalised")
                        break
            if self.config["captions"]:
                self._caption_rows()
            if not np.isfinite(self._arrays["weights"]).all():
                faults.append("weights.npy has values that are not finite")
        if faults:
            raise ValueError(f"the index {str(self.folder)!r} is damaged: {'; '.join(faults)}. Build it again.")
        sizes = [entry["size"] for entry in (self._manifest.files or {}).values()]
        return {"files": len(sizes), "bytes": sum(sizes)}

    def close(self) -> None:
        """Does nothing. The files are unmapped with the object."""
