"""Reads one file with all pairs, and assigns them to train, validation and test."""

import hashlib
from collections.abc import Mapping

from class_hf.data.columns import PAIR_COLUMNS
from class_hf.data.formats import Table, read_files, split_of
from class_hf.data.smiles import canonical_smiles
from class_hf.data.text_files import SourceFile

_SPLITS = ("train", "validation", "test")
# Of the 256 values of a hash's first byte, the last 26 (10.2 %) are test and the 26 before them validation.
_FIRST_VALIDATION, _FIRST_TEST = 204, 230


def read_single_file(file: SourceFile, column_mapping: Mapping[str, str]) -> dict[str, Table]:
    """Reads the pairs of one file by split.

    A column `split` decides (`train`, `validation`, `val`, `dev`, `test`, ...). Without it the molecule decides
    ([`split_of_molecule`]): then no molecule is in two splits, for any order of the rows and any spelling of its
    SMILES.

    Args:
        file: a file with the columns `smiles` and `description`, and optionally `id` and `split`. Without `id`, rows
            are numbered from 1.
        column_mapping: column of the file to column of this package, for names that are not recognised.

    Returns:
        A table for each of `train`, `validation` and `test` that has rows.

    Raises:
        ValueError: if the file is malformed, a split has an unknown name, or there is no pair for training or for
            validation.
    """
    table = read_files({"all": file}, column_mapping)["all"]
    assert table.places is not None
    if "split" in table.columns:
        splits = [split_of(name) or "" for name in table.columns["split"]]
        for row, (name, place) in enumerate(zip(table.columns["split"], table.places, strict=True)):
            if splits[row] in _SPLITS:
                continue
            if file.on_error == "raise":
                raise ValueError(
                    f"{place}: the split {name!r} is none of train, validation and test. Correct it, or "
                    "rename the column `split` so that the molecules decide."
                )
            table.faults.setdefault(row, f"its split {name!r} is none of train, validation and test")
    else:
        splits = [split_of_molecule(smiles) for smiles in table.columns["smiles"]]
    for row in table.faults:  # a refused row needs a split too, for the report; each file has training pairs
        splits[row] = "train"
    counts = {split: splits.count(split) for split in _SPLITS}
    if not (counts["train"] and counts["validation"]):
        raise ValueError(
            f"{file.name}: of its {len(splits)} pairs, {counts['train']} are for training and {counts['validation']} "
            "for validation. Add pairs, or a column `split` with train, validation and test."
        )
    return {split: _rows(table, [name == split for name in splits]) for split in _SPLITS if counts[split]}


def split_of_molecule(smiles: str) -> str:
    """The split of a molecule, by a hash of its canonical SMILES: about 80 % train, 10 % validation, 10 % test.

    A molecule keeps its split when others are added. A SMILES that is refused is hashed unchanged.

    >>> split_of_molecule("OCC") == split_of_molecule("C(C)O")
    True
    """
    first = hashlib.sha256(canonical_smiles(smiles).encode()).digest()[0]
    return "train" if first < _FIRST_VALIDATION else "validation" if first < _FIRST_TEST else "test"


def _rows(table: Table, chosen: list[bool]) -> Table:
    """The chosen rows, without the column of splits."""
    assert table.places is not None
    rows = [row for row, is_chosen in enumerate(chosen) if is_chosen]
    columns = {name: [table.columns[name][row] for row in rows] for name in PAIR_COLUMNS}
    faults = {position: table.faults[row] for position, row in enumerate(rows) if row in table.faults}
    return Table(table.where, columns, table.header, [table.places[row] for row in rows], faults, table.notes)
