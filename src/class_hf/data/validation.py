"""Checks and repairs of text-molecule pairs: what is mended, what is refused, and the report of both."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from rdkit import Chem, rdBase

from class_hf.data.formats import Table, split_of

OnError = Literal["raise", "drop"]
Columns = dict[str, list[str]]

_REPEATED_BACKSLASH = re.compile(r"\\{2,}")
_SHOWN = 5


class DroppedRow(NamedTuple):
    """One row that is not usable.

    Attributes:
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"pool"``.
        row: position among the rows of its source, from 0.
        id: the row's id, ``""`` if it has none.
        reason: what is wrong with it, the value included.
        place: file and line (``"train.tsv line 19"``), or the name of the data set.
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
        rows: rows kept, by split (``"pool"`` included).
        repaired: SMILES whose doubled backslashes were made single, by split; dropped rows count too.
        dropped: the rows left out, with the reason; empty under ``on_error="raise"``.
    """

    rows: dict[str, int]
    repaired: dict[str, int]
    dropped: tuple[DroppedRow, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{split} {count:,} rows ({self.repaired.get(split, 0):,} SMILES repaired)"
            for split, count in self.rows.items()
        ]
        colon = ":" if self.dropped else ""
        return f"Loaded {', '.join(parts)}; {len(self.dropped):,} dropped{colon}{listing(self.dropped)}"

    def to_json(self) -> str:
        """The report as JSON, for :meth:`from_json`."""
        return json.dumps({**asdict(self), "dropped": [row._asdict() for row in self.dropped]}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "LoadReport":
        """The report that :meth:`to_json` wrote."""
        content = json.loads(text)
        dropped = tuple(DroppedRow(**row) for row in content.pop("dropped"))
        return cls(**content, dropped=dropped)


def repair_smiles(smiles: str) -> str:
    r"""Strip white space and undo doubled backslashes.

    ``\`` is a bond direction in SMILES and is never legally repeated, so a run of them is an escaping fault
    (about 15 % of MolT5's files). RDKit reads both spellings; a tokenizer does not. Nothing else is touched:
    the SMILES is not rewritten, and its stereo marks stay.

    >>> print(repair_smiles(r"C/C=C\\C"))
    C/C=C\C
    """
    return _REPEATED_BACKSLASH.sub(r"\\", smiles.strip())


def check_tables(tables: Mapping[str, Table], on_error: OnError = "raise") -> tuple[dict[str, Columns], LoadReport]:
    """Repair and check the splits of a data set, and the pool against them.

    A row is refused if a value is empty, if RDKit cannot parse its SMILES, or if it repeats the id, or the
    SMILES and caption together, of an earlier row of its split. A pair is refused too if a pool is given and
    lacks its id, or has another molecule or split for it. The same caption for two molecules is legal.

    Args:
        tables: split name to its raw rows; ``"pool"`` has the columns id, smiles, split, any other split has
            id, smiles, description.
        on_error: ``"raise"`` at refused rows, or ``"drop"`` them.

    Returns:
        the columns of each split, repaired, with the refused rows left out; and the report.

    Raises:
        ValueError: under ``"raise"``, for refused rows: the first five with their values, the rest counted.
            Always, if an id is in two splits, or if no row of a split is usable.
    """
    clean = {split: _clean(table.columns) for split, table in tables.items()}
    _refuse_leaks({split: columns["id"] for split, columns in clean.items() if split != "pool"})
    unparsable = _unparsable({smiles for columns in clean.values() for smiles in columns["smiles"]})
    faults = {split: _row_faults(columns, unparsable) for split, columns in clean.items()}
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
    return kept, LoadReport({split: len(columns["id"]) for split, columns in kept.items()}, repaired, dropped)


def _clean(columns: Mapping[str, list[str]]) -> Columns:
    clean = {name: [value.strip() for value in values] for name, values in columns.items()}
    clean["smiles"] = [repair_smiles(smiles) for smiles in columns["smiles"]]
    if "split" in clean:
        clean["split"] = [split_of(name) or name for name in clean["split"]]
    return clean


def _unparsable(smiles: Iterable[str]) -> set[str]:
    """The strings that RDKit does not take for a molecule.

    With full sanitisation, as the feature extractors parse: a parse without it takes a fifth of the time, but
    lets wrong valences and rings that cannot be kekulized through, to fail in training.
    """
    with rdBase.BlockLogs():
        return {text for text in smiles if Chem.MolFromSmiles(text) is None}


def _row_faults(columns: Columns, unparsable: set[str]) -> dict[int, str]:
    faults: dict[int, str] = {}
    row_of_id: dict[str, int] = {}
    row_of_pair: dict[tuple[str, str], int] = {}
    names = tuple(columns)
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        record = dict(zip(names, values, strict=True))
        key, smiles = record["id"], record["smiles"]
        empty = [name for name in names if not record[name]]
        if empty:
            faults[row] = f"empty or missing: {', '.join(empty)}"
        elif len(smiles.split()) > 1:
            # RDKit would take what follows the space for a name, and parse the rest.
            faults[row] = f"the SMILES '{smiles}' holds white space"
        elif smiles in unparsable:
            faults[row] = f"RDKit cannot parse the SMILES '{smiles}'"
        elif "split" in record and record["split"] not in ("train", "validation", "test"):
            faults[row] = f"its split '{record['split']}' is none of train, validation and test"
        elif key in row_of_id:
            faults[row] = f"its id is also that of row {row_of_id[key]}"
        elif "description" in record and (smiles, record["description"]) in row_of_pair:
            faults[row] = f"SMILES and description repeat row {row_of_pair[smiles, record['description']]}"
        else:
            row_of_id[key] = row
            row_of_pair[smiles, record.get("description", "")] = row
    return faults


def _pool_faults(columns: Columns, split: str, pool: Mapping[str, tuple[str, str]], where: str) -> dict[int, str]:
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


def _same_molecule(one: str, other: str) -> bool:
    if one == other:
        return True
    with rdBase.BlockLogs():
        # Two spellings of one molecule are legal; strings that do not parse were refused as such.
        canonical = {Chem.MolToSmiles(molecule) for molecule in map(Chem.MolFromSmiles, (one, other)) if molecule}
    return len(canonical) < 2


def _place(table: Table, row: int) -> str:
    return table.where if table.lines is None else f"{table.where} line {table.lines[row]}"


def listing(rows: Sequence[DroppedRow]) -> str:
    """A line for each of the first five rows, and how many more there are."""
    more = f"\n  and {len(rows) - _SHOWN:,} more." if len(rows) > _SHOWN else ""
    return "".join(f"\n  {row}" for row in rows[:_SHOWN]) + more


def refusal(rows: Sequence[DroppedRow]) -> str:
    """The error that names refused rows: the first five with their values, the rest counted."""
    if len(rows) == 1:
        return f'{rows[0]} Mend the row, or pass on_error="drop" to skip and list such rows.'
    return (
        f"{len(rows):,} rows are not usable:{listing(rows)}\n"
        'Mend the rows, or pass on_error="drop" to skip and list such rows.'
    )


def _refuse_leaks(ids: Mapping[str, list[str]]) -> None:
    """An id in two splits is never dropped quietly: which copy goes would change what is measured."""
    split_of_id: dict[str, str] = {}
    leaks: list[str] = []
    for split, keys in ids.items():
        leaks += [f"{key} ({split_of_id[key]} and {split})" for key in keys if key and key in split_of_id]
        split_of_id.update(dict.fromkeys(keys, split))
    if leaks:
        more = f" and {len(leaks) - _SHOWN:,} more" if len(leaks) > _SHOWN else ""
        raise ValueError(
            f"ids in two splits: {', '.join(leaks[:_SHOWN])}{more}. Remove them from one of the splits; "
            'on_error="drop" does not, since the choice decides what is trained on and what is measured.'
        )
