"""Adds pairs of further files to the training split, and replaces captions of training pairs."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from class_hf.data.columns import PAIR_COLUMNS
from class_hf.data.formats import Table, read_table_columns, split_of
from class_hf.data.named_files import find_named_file
from class_hf.data.smiles import canonical_smiles, repair_smiles
from class_hf.data.tables import source_file
from class_hf.data.text_files import OnError, SourceFile
from class_hf.data.validation import DroppedRow, listing, refusal

FileNames = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


@dataclass(frozen=True)
class TrainingFiles:
    """Files that change the training split of a data set.

    Attributes:
        extra: files of further training pairs.
        captions: files with the columns id and description, which replace captions of training pairs.
    """

    extra: tuple[SourceFile, ...] = ()
    captions: tuple[SourceFile, ...] = ()

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files."""
        return self.extra + self.captions

    def change(self, tables: Mapping[str, Table], mapping: Mapping[str, str], on_error: OnError) -> dict[str, Table]:
        """Adds the pairs and replaces the captions.

        A row of `extra` gets a fault if its id or its molecule is already in a split, or if it has a column `split`
        that says something else than train. Another SMILES of the molecule does not hide it.
        [`~class_hf.data.validation.check_tables`] refuses or drops rows with a fault. A row of `captions` needs an id
        that exactly one training pair has, and the molecule of this pair if the file has SMILES.

        Args:
            tables: the rows of each split and of `"pool"`.
            mapping: column of the files to column of this package.
            on_error: `"raise"` at a caption that is not usable, or `"drop"` it with a note.

        Returns:
            The tables, with another `"train"`.

        Raises:
            ValueError: if there is no training split, a file is malformed or lacks a column, or under
                `on_error="raise"` a caption is not usable.
            FileNotFoundError: if a file is in Text2Mol's format, and its molecules are missing.
        """
        if "train" not in tables:
            raise ValueError(f"{self.files[0].name} is for training pairs, but the data has only {sorted(tables)}.")
        changed = dict(tables)
        for file in self.extra:
            extra = read_table_columns(file, PAIR_COLUMNS, ("split",), mapping, tables.get("pool"))
            changed["train"] = _added(changed, extra)
        replaced: dict[str, str] = {}
        for file in self.captions:
            captions = read_table_columns(file, ("id", "description"), ("smiles",), mapping, tables.get("pool"))
            changed["train"] = _with_captions(changed["train"], captions, replaced, on_error)
        return changed


def find_training_files(
    source: Path | None, extra: FileNames, captions: FileNames, encoding: str | None, on_error: str
) -> TrainingFiles:
    """Finds the files by their names.

    Args:
        source: the folder or the file of the data set, if it is one. Names are relative to the folder of the data or
            to the current folder, see [`~class_hf.data.named_files.find_named_file`].
        extra: names of files of further training pairs.
        captions: names of files with captions that replace others.
        encoding: encoding of the files. Default: UTF-8.
        on_error: `"raise"` or `"drop"`, for malformed rows.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a name is that of two files.
    """

    def find(argument: str, names: FileNames) -> tuple[SourceFile, ...]:
        paths = [find_named_file(name, source, argument) for name in _as_list(names)]
        return tuple(source_file(path, encoding, on_error) for path in paths)

    return TrainingFiles(find("extra_train", extra), find("replace_captions", captions))


def _as_list(names: FileNames) -> list[str | os.PathLike[str]]:
    """One name, several or none as a list."""
    if names is None:
        return []
    return [names] if isinstance(names, str | os.PathLike) else list(names)


def _added(tables: Mapping[str, Table], extra: Table) -> Table:
    """The training pairs and the rows of another table, with a fault for each row that is already in a split."""
    train = tables["train"]
    size, faults = len(train.columns["id"]), dict(train.faults)
    split_of_id, owner = _known_molecules(tables)
    splits = extra.columns.get("split", [""] * len(extra.columns["id"]))
    for row, (key, smiles) in enumerate(zip(extra.columns["id"], extra.columns["smiles"], strict=True)):
        if row in extra.faults:
            faults[size + row] = extra.faults[row]
        elif splits[row].strip() and split_of(splits[row]) != "train":
            faults[size + row] = f"its split {splits[row]!r} is not train"
        elif key.strip() in split_of_id:
            faults[size + row] = f"its id is already in {split_of_id[key.strip()]}"
        elif (molecule := _molecule(smiles)) in owner:
            split, other = owner[molecule]
            faults[size + row] = f"its molecule is already in {split}, with the id {other}"
    return Table(
        train.where,
        {name: train.columns[name] + extra.columns[name] for name in PAIR_COLUMNS},
        tuple(dict.fromkeys(train.header + extra.header)),
        _places(train) + _places(extra),
        faults,
        (
            *train.notes,
            *extra.notes,
            f"{extra.where}: {len(extra.columns['id']):,} rows read as further training pairs",
        ),
    )


def _known_molecules(tables: Mapping[str, Table]) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Split by id, and split and id by canonical SMILES, of all pairs and of the evaluated molecules of the pool."""
    split_of_id: dict[str, str] = {}
    owner: dict[str, tuple[str, str]] = {}
    for split in ("train", "validation", "test", "pool"):
        if split not in tables:
            continue
        columns = tables[split].columns
        splits = columns["split"] if split == "pool" else [split] * len(columns["id"])
        for key, smiles, name in zip(columns["id"], columns["smiles"], splits, strict=True):
            # The pool also has the molecules of the further pairs, as molecules of the training split.
            if split == "pool" and split_of(name) not in ("validation", "test"):
                continue
            split_of_id.setdefault(key.strip(), split_of(name) or name)
            owner.setdefault(_molecule(smiles), (split_of(name) or name, key.strip()))
    return split_of_id, owner


def _molecule(smiles: str) -> str:
    """The molecule of an unchecked SMILES."""
    return canonical_smiles(repair_smiles(smiles))


def _with_captions(train: Table, captions: Table, replaced: dict[str, str], on_error: OnError) -> Table:
    """The training pairs, with the captions of another table where it has their ids.

    `replaced` has the place of each caption by id, of this and of earlier files.
    """
    keys = [key.strip() for key in captions.columns["id"]]
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(train.columns["id"]):
        rows_of[key.strip()].append(row)
    captions_of = Counter(keys)
    descriptions, places = list(train.columns["description"]), _places(train)
    smiles = captions.columns.get("smiles")
    dropped: list[DroppedRow] = []
    for row, (key, caption, place) in enumerate(
        zip(keys, captions.columns["description"], _places(captions), strict=True)
    ):
        # A refused pair does not count if another has the id. Its own fault is reported.
        pairs = [pair for pair in rows_of[key] if pair not in train.faults] or rows_of[key]
        if row in captions.faults:
            reason = captions.faults[row]
        elif not caption.strip():
            reason = "empty or missing: description"
        elif captions_of[key] > 1:
            reason = f"{captions_of[key]} rows have this id; expected one"
        elif len(pairs) != 1:
            reason = f"{len(pairs)} training pairs have this id; expected one"
        elif key in replaced:
            reason = f"{replaced[key]} already replaced the caption of this id"
        elif smiles and smiles[row].strip() and _molecule(smiles[row]) != _molecule(train.columns["smiles"][pairs[0]]):
            reason = f"its SMILES {smiles[row]!r} is another molecule than that of the training pair"
        else:
            replaced[key] = place
            descriptions[pairs[0]] = caption
            places[pairs[0]] += f" with the caption of {place}"
            continue
        dropped.append(DroppedRow("captions", row, key, reason, place))
    if dropped and on_error == "raise":
        raise ValueError(refusal(dropped))
    note = f"{captions.where}: captions of training pairs replaced: {len(keys) - len(dropped):,}"
    note += f", not used: {len(dropped):,}{listing(dropped)}" if dropped else ""
    return replace(
        train,
        columns={**train.columns, "description": descriptions},
        header=tuple(dict.fromkeys(train.header + captions.header)),
        places=places,
        notes=(*train.notes, *captions.notes, note),
    )


def _places(table: Table) -> list[str]:
    """Where each row is: its file and line, or the name of its data set."""
    return [table.where] * len(table.columns["id"]) if table.places is None else list(table.places)
