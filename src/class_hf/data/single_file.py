"""One file with all pairs, dealt to train, validation and test."""

import hashlib
from collections.abc import Mapping

from rdkit import Chem, rdBase

from class_hf.data.formats import PAIR_COLUMNS, SourceFile, Table, read_files, split_of

_SPLITS = ("train", "validation", "test")
# Of 256 values of a hash's first byte, the last 26 (10.2 %) are test, the 26 before them validation.
_FIRST_VALIDATION, _FIRST_TEST = 204, 230


def read_single_file(file: SourceFile, column_mapping: Mapping[str, str]) -> dict[str, Table]:
    """The pairs of one file by split.

    A column `split` decides, where there is one (`train`, `validation`, `val`, `dev`, `test`, ...). Without it the
    molecule decides ([`split_of_molecule`]), so that no molecule is both trained on and tested, whatever the order of
    the rows and however its SMILES are written.

    Args:
        file: comma or tab separated, with the columns `smiles` and `description`, and `id` and `split` if it likes;
            without `id`, rows are numbered from 1.
        column_mapping: their column name to ours, for names that are not recognised.

    Returns:
        `train`, `validation` and `test` to tables, those that have rows.

    Raises:
        ValueError: if the file is malformed, a split has a name that stands for none, or no pair is left for
            training or validation.
    """
    table = read_files({"all": file}, column_mapping)["all"]
    assert table.lines is not None
    if "split" in table.columns:
        splits = [split_of(name) or "" for name in table.columns["split"]]
        for split, name, line in zip(splits, table.columns["split"], table.lines, strict=True):
            if split not in _SPLITS:
                raise ValueError(
                    f"{file.name} line {line}: the split {name!r} is none of train, validation and test. Mend it, or "
                    "rename the column `split` so that the molecules decide."
                )
    else:
        with rdBase.BlockLogs():
            splits = [split_of_molecule(smiles) for smiles in table.columns["smiles"]]
    counts = {split: splits.count(split) for split in _SPLITS}
    if not (counts["train"] and counts["validation"]):
        raise ValueError(
            f"{file.name}: its {len(splits)} pairs give {counts['train']} for training and {counts['validation']} for "
            "validation. Add pairs, or say in a column `split` which are train, validation and test."
        )
    return {split: _rows(table, [own == split for own in splits]) for split in _SPLITS if counts[split]}


def split_of_molecule(smiles: str) -> str:
    """The split of a molecule: by a hash of its canonical SMILES about 80 % train, 10 % validation, 10 % test. Ours.

    A molecule keeps its split when others are added. A string that RDKit cannot parse is hashed as it is.

    >>> split_of_molecule("OCC") == split_of_molecule("C(C)O")
    True
    """
    molecule = Chem.MolFromSmiles(smiles)
    text = Chem.MolToSmiles(molecule) if molecule is not None else smiles
    first = hashlib.sha256(text.encode()).digest()[0]
    return "train" if first < _FIRST_VALIDATION else "validation" if first < _FIRST_TEST else "test"


def _rows(table: Table, chosen: list[bool]) -> Table:
    """The chosen rows, without the column of splits."""
    assert table.lines is not None
    columns = {
        name: [value for value, own in zip(table.columns[name], chosen, strict=True) if own] for name in PAIR_COLUMNS
    }
    lines = [line for line, own in zip(table.lines, chosen, strict=True) if own]
    return Table(table.where, columns, table.header, lines)
