"""Checks and repairs pairs: which rows are repaired, which are refused, and the report about them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from class_hf.data.formats import Table, split_of
from class_hf.data.smiles import canonical_smiles, repair_smiles, smiles_fault
from class_hf.data.text_files import OnError as OnError
from class_hf.models.argument_checks import has_word
from class_hf.models.tokenization_lexical import MAX_CAPTION_CHARACTERS

Columns = dict[str, list[str]]

_SHOWN = 5


class DroppedRow(NamedTuple):
    """A row that is not usable.

    Attributes:
        split: `"train"`, `"validation"`, `"test"`, `"pool"`, or `"molecules"` for an index.
        row: position among the rows of its source, from 0.
        id: the id of the row, or `""`.
        reason: what is wrong with it, with the value.
        place: file and line (`"train.tsv line 19"`), or the name of the data set.
    """

    split: str
    row: int
    id: str
    reason: str
    place: str

    def __str__(self) -> str:
        return f"{self.split} row {self.row} (id {self.id or 'missing'}, {self.place}): {self.reason}."


@dataclass(frozen=True)
class LoadReport:
    """What loading changed.

    Attributes:
        rows: rows kept, by split (`"pool"` included).
        repaired: SMILES whose repeated backslashes were made single, by split; dropped rows count too.
        dropped: the rows left out, with the reason; empty under `on_error="raise"`.
        notes: other changes while the files were read, such as another encoding.
        repeated: pairs whose id an earlier pair has, with another caption of the same molecule, by split.
    """

    rows: dict[str, int]
    repaired: dict[str, int]
    dropped: tuple[DroppedRow, ...] = ()
    notes: tuple[str, ...] = ()
    repeated: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [
            f"{split} {count:,} rows ({self.repaired.get(split, 0):,} SMILES repaired)"
            for split, count in self.rows.items()
        ]
        colon = ":" if self.dropped else ""
        text = f"Loaded {', '.join(parts)}; {len(self.dropped):,} dropped{colon}{listing(self.dropped)}"
        several = sum(self.repeated.values())
        if several:
            text += f"\n  {several:,} pairs are further captions of a molecule with the same id"
        return text + "".join(f"\n  {note}" for note in self.notes)

    def to_json(self) -> str:
        """The report as JSON, for [`from_json`]."""
        return json.dumps({**asdict(self), "dropped": [row._asdict() for row in self.dropped]}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "LoadReport":
        """The report that [`to_json`] wrote."""
        content = json.loads(text)
        dropped = tuple(DroppedRow(**row) for row in content.pop("dropped"))
        return cls(**{**content, "notes": tuple(content.get("notes", ()))}, dropped=dropped)


def check_tables(tables: Mapping[str, Table], on_error: OnError = "raise") -> tuple[dict[str, Columns], LoadReport]:
    """Repairs and checks the splits of a data set, and the pool against them.

    A row is refused if the reader could not use it, if a value is empty or a caption has more than 20,000 characters,
    if its SMILES has a fault ([`smiles_fault`]), if its id belongs to another molecule in an earlier row of its split,
    or if it repeats the SMILES and caption of an earlier row. If there is a pool, a pair is also refused if the pool
    lacks its id, or has another molecule or split for it. Several captions of one molecule are legal, with one id or
    several, and so is one caption of two molecules.

    Args:
        tables: the rows of each split. `"pool"` has the columns id, smiles and split; any other split has id, smiles
            and description.
        on_error: `"raise"` at refused rows, or `"drop"` them.

    Returns:
        The repaired columns of each split without the refused rows; and the report.

    Raises:
        ValueError: under `"raise"`, for refused rows: the first, and their number. Always, if an id is in two splits,
            or if no row of a split is usable.
    """
    clean = {split: _clean(table.columns) for split, table in tables.items()}
    _refuse_leaks(
        {
            # A row that the reader refused is not kept, so its id is not in two splits.
            split: [key for row, key in enumerate(columns["id"]) if row not in tables[split].faults]
            for split, columns in clean.items()
            if split != "pool"
        }
    )
    smiles_faults = _smiles_faults(smiles for columns in clean.values() for smiles in columns["smiles"])
    faults: dict[str, dict[int, str]] = {}
    repeated: dict[str, int] = {}
    for split, columns in clean.items():
        faults[split], count = _row_faults(columns, tables[split].faults, smiles_faults, split == "pool")
        if count:
            repeated[split] = count
    if "pool" in clean:
        pool = {
            key: (smiles, split)
            for row, (key, smiles, split) in enumerate(
                zip(*(clean["pool"][name] for name in ("id", "smiles", "split")), strict=True)
            )
            if row not in faults["pool"]
        }
        for split in clean.keys() - {"pool"}:
            faults[split] = _pool_faults(clean[split], split, pool, tables["pool"].where) | faults[split]

    dropped = tuple(
        DroppedRow(split, row, clean[split]["id"][row], reason, _place(tables[split], row))
        for split in clean
        for row, reason in sorted(faults[split].items())
    )
    if dropped and on_error == "raise":
        raise ValueError(refusal(dropped))
    kept = {
        split: {
            name: [value for row, value in enumerate(values) if row not in faults[split]]
            for name, values in columns.items()
        }
        for split, columns in clean.items()
    }
    for split, columns in kept.items():
        if not columns["id"]:
            first = next(row for row in dropped if row.split == split)
            raise ValueError(f"{tables[split].where}: no row of {split} is usable; the first: {first}")
    repaired = {split: sum("\\\\" in smiles for smiles in table.columns["smiles"]) for split, table in tables.items()}
    # The splits of one file share its notes.
    notes = tuple(dict.fromkeys(note for table in tables.values() for note in table.notes))
    notes += _shared_molecules(kept)
    rows = {split: len(columns["id"]) for split, columns in kept.items()}
    return kept, LoadReport(rows, repaired, dropped, notes, repeated)


def _clean(columns: Mapping[str, list[str]]) -> Columns:
    """The columns with repaired SMILES, without white space around values, and with this package's split names."""
    clean = {name: [value.strip() for value in values] for name, values in columns.items()}
    clean["smiles"] = [repair_smiles(smiles) for smiles in columns["smiles"]]
    if "split" in clean:
        clean["split"] = [split_of(name) or name for name in clean["split"]]
    return clean


def _smiles_faults(smiles: Iterable[str]) -> dict[str, str]:
    """The fault of each SMILES that has one.

    SMILES are parsed with full sanitisation, as the feature extractors parse them. Without it, parsing takes a fifth
    of the time, but wrong valences and rings that cannot be kekulised would fail in training.
    """
    faults = {text: smiles_fault(text) for text in set(smiles) if text}
    return {text: fault for text, fault in faults.items() if fault is not None}


def _row_faults(
    columns: Columns, read_faults: Mapping[int, str], smiles_faults: Mapping[str, str], unique_ids: bool
) -> tuple[dict[int, str], int]:
    """Why rows are refused, by row; and the number of pairs whose id an earlier pair of the same molecule has."""
    faults: dict[int, str] = {}
    row_of_id: dict[str, int] = {}
    row_of_pair: dict[tuple[str, str], int] = {}
    repeated = 0
    names = tuple(columns)
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        record = dict(zip(names, values, strict=True))
        key, smiles, caption = record["id"], record["smiles"], record.get("description", "")
        empty = [name for name in names if not record[name]]
        first = row_of_id.get(key)
        if row in read_faults:
            faults[row] = read_faults[row]
        elif empty:
            faults[row] = f"empty or missing: {', '.join(empty)}"
        elif smiles in smiles_faults:
            faults[row] = smiles_faults[smiles]
        elif "split" in record and record["split"] not in ("train", "validation", "test"):
            faults[row] = f"its split '{record['split']}' is none of train, validation and test"
        elif caption and not has_word(caption):
            faults[row] = f"its description {caption[:20]!r} has no letter and no digit"
        elif len(caption) > MAX_CAPTION_CHARACTERS:
            faults[row] = f"its caption has {len(caption):,} characters; the limit is {MAX_CAPTION_CHARACTERS:,}"
        elif "description" in record and (smiles, caption) in row_of_pair:
            faults[row] = f"SMILES and description repeat row {row_of_pair[smiles, caption]}"
        elif first is not None and unique_ids:
            faults[row] = f"its id is also that of row {first}"
        elif first is not None and not _same_molecule(smiles, columns["smiles"][first]):
            faults[row] = f"its id is also that of row {first}, which has another molecule"
        else:
            repeated += first is not None
            row_of_id.setdefault(key, row)
            row_of_pair[smiles, caption] = row
    return faults, repeated


def _pool_faults(columns: Columns, split: str, pool: Mapping[str, tuple[str, str]], where: str) -> dict[int, str]:
    """Why pairs contradict the pool, by row."""
    faults: dict[int, str] = {}
    for row, (key, smiles) in enumerate(zip(columns["id"], columns["smiles"], strict=True)):
        pool_smiles, pool_split = pool.get(key, ("", ""))
        if key not in pool:
            faults[row] = f"its id is not in the pool ({where})"
        elif pool_split != split:
            faults[row] = f"the pool ({where}) has this id in {pool_split}"
        elif not _same_molecule(smiles, pool_smiles):
            faults[row] = f"its SMILES '{smiles}' is another molecule than the pool's '{pool_smiles}' ({where})"
    return faults


def _same_molecule(smiles: str, other: str) -> bool:
    """Whether two SMILES are spellings of one molecule. A SMILES that does not parse was refused before."""
    return smiles == other or canonical_smiles(smiles) == canonical_smiles(other)


def _place(table: Table, row: int) -> str:
    """Where a row is: file and line."""
    return table.where if table.places is None else table.places[row]


def listing(rows: Sequence[DroppedRow]) -> str:
    """A line for each of the first five rows, and the number of further rows."""
    more = f"\n  and {len(rows) - _SHOWN:,} more." if len(rows) > _SHOWN else ""
    return "".join(f"\n  {row}" for row in rows[:_SHOWN]) + more


def refusal(rows: Sequence[DroppedRow]) -> str:
    """The one-line error about refused rows: the first one, and their number."""
    count = f"{len(rows):,} rows are not usable, the first: " if len(rows) > 1 else ""
    return f"{count}{rows[0]} Correct the data, or skip and list such rows: --on_error drop, or on_error='drop'."


def _refuse_leaks(ids: Mapping[str, list[str]]) -> None:
    """Refuses an id in two splits. Dropping a copy would decide what is trained on and what is measured."""
    split_of_id: dict[str, str] = {}
    leaks: dict[str, None] = {}
    for split, keys in ids.items():
        leaks |= dict.fromkeys(f"{key} ({split_of_id[key]} and {split})" for key in keys if key and key in split_of_id)
        split_of_id.update(dict.fromkeys(keys, split))
    if leaks:
        more = f" and {len(leaks) - _SHOWN:,} more" if len(leaks) > _SHOWN else ""
        raise ValueError(
            f"ids in two splits: {', '.join(list(leaks)[:_SHOWN])}{more}. Remove them from one of the splits. "
            "--on_error drop does not, because the choice decides what is trained on and what is measured."
        )


def _shared_molecules(splits: Mapping[str, Columns]) -> tuple[str, ...]:
    """A note for each split whose molecules are partly in the training split, with other ids and the same SMILES."""
    notes = []
    trained = set(splits["train"]["smiles"]) if "train" in splits else set()
    for split in ("validation", "test"):
        smiles = splits[split]["smiles"] if split in splits else []
        if count := sum(text in trained for text in smiles):
            notes.append(
                f"{count:,} of {len(smiles):,} {split} pairs have a molecule of train, by its SMILES: their ranks say "
                "little about new molecules"
            )
    return tuple(notes)
