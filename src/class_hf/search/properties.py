"""The properties of each molecule in an index: weight, elements, and a fingerprint that speeds up substructures."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import Descriptors, rdMolDescriptors

from class_hf.data.molecule_tables import FAULT, PLACE
from class_hf.data.smiles import read_smiles, repair_smiles
from class_hf.data.validation import DroppedRow, OnError, refusal
from class_hf.search.captions import FURTHER, has_further
from class_hf.search.query import ELEMENTS
from class_hf.utils.in_memory import as_table

_FEATURES = {
    "id": Value("string"),
    "smiles": Value("string"),
    "_weight": Value("float64"),
    "_elements": List(Value("string")),
    "_pattern": Value("binary"),
    "_fault": Value("string"),
}
_SHOWN = 5
_BLOCK = 10_000
# A number as programs write it. `007` and `1,5` stay text.
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_SYMBOL = re.compile(r"[A-Z][a-z]?")  # not `*`, a wildcard atom
_ATOMIC_NUMBER = {symbol: number for number, symbol in enumerate(ELEMENTS, start=1)}
_DECIMAL = re.compile(r"[-+]?(0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d{1,3})?")


def describe(
    molecules: Dataset, num_proc: int | None = None, on_error: OnError = "raise"
) -> tuple[Dataset, dict[str, Any]]:
    """Adds the properties to each molecule, and refuses rows that cannot be used.

    Rows that repeat an earlier row in every column are left out. Rows that repeat an id only are kept.

    Args:
        molecules: a `Dataset`, a data frame or rows as mappings, with the column `smiles`. Without a column `id`, the
            ids are the row numbers.
        num_proc (`int`, *optional*): number of processes.
        on_error (`str`, defaults to `"raise"`): `"raise"` an error for a row without a readable SMILES, or `"drop"`
            it.

    Returns:
        `tuple`: the table and a report.

        - The table has `id` and `smiles` as text, the further columns, `_weight` (Da), `_elements` (symbols) and
          `_pattern` (bytes of RDKit's pattern fingerprint). Text columns in which each value is a number are numbers.
        - The report has `dropped` (`rows`: number of dropped rows; `first`: the first of them) and `duplicates`
          (`rows`: number of rows that were left out; `ids`: number of rows with a repeated id that were kept; `first`:
          the first repeated ids).

    Raises:
        ValueError: If the column `smiles` is missing, a column cannot be used, rows are refused, or no row is left.
    """
    molecules = as_table(molecules, "the molecules")
    if "smiles" not in molecules.column_names:
        raise ValueError(f"the molecules lack the column 'smiles'; they have {molecules.column_names}.")
    if not len(molecules):
        raise ValueError("there are no molecules; expected at least one row.")
    _check_columns(molecules)
    if "id" in molecules.column_names:  # otherwise numbers would keep their type
        molecules = molecules.cast_column("id", Value("string"))
    described = molecules.map(
        _describe_rows,
        with_indices=True,
        batched=True,
        num_proc=num_proc,
        # Without the types, `datasets` infers them from the first rows, which may all lack a fault.
        features=Features({**molecules.features, **_FEATURES}),
        desc="Reading molecules",
    )
    is_bad = np.asarray(described.data.column("_fault").is_valid())
    dropped = []
    for row in np.flatnonzero(is_bad).tolist():
        original = molecules[row]
        place = original.get(PLACE) or "table"
        fault = described[row]["_fault"]
        dropped.append(DroppedRow("molecules", row, str(original.get("id") or ""), fault, place))
    if dropped and on_error == "raise":
        raise ValueError(refusal(dropped))
    table = described.remove_columns([name for name in ("_fault", PLACE, FAULT) if name in described.column_names])
    if dropped:
        table = table.select(np.flatnonzero(~is_bad))
    if not len(table):
        raise ValueError(f"none of the {len(is_bad):,} molecules is usable; the first: {dropped[0]}")
    table, report, _ = remove_repeats(table)
    return table, {"dropped": report_dropped(len(dropped), dropped), **report}


def _check_columns(molecules: Dataset) -> None:
    """Refuses columns that an index would leave out or replace without a word."""
    hidden = [name for name in molecules.column_names if name.startswith("_") and name not in (PLACE, FAULT)]
    if hidden:
        raise ValueError(f"the column {hidden[0]!r} begins with an underscore, as an index's own do. Rename it.")
    caption = molecules.features.get("description", Value("string"))
    if getattr(caption, "dtype", None) not in ("string", "large_string", "null"):
        raise ValueError(
            f"the column 'description' holds {_kind(caption)}; expected one text in each row. Further captions of a "
            f"molecule go into the column {FURTHER!r}, as lists."
        )
    further = molecules.features.get(FURTHER)
    if further is not None and not has_further(molecules) and _inner_type(further) != "null":
        raise ValueError(f"the column {FURTHER!r} holds {_kind(further)}; expected a list of texts in each row.")


def _inner_type(feature: Any) -> str | None:
    """The type of a value, or of the values of a list."""
    return getattr(getattr(feature, "feature", feature), "dtype", None)


def _kind(feature: Any) -> str:
    """What a column holds, in words."""
    return str(feature.dtype) if isinstance(feature, Value) else f"{type(feature).__name__.lower()}s"


def report_dropped(count: int, first: Sequence[DroppedRow]) -> dict[str, Any]:
    """The report of dropped rows: their number, and the first of them as text."""
    return {"rows": count, "first": [str(row) for row in first[:_SHOWN]]}


def _describe_rows(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
    """The properties of a batch of molecules, and the faults of those that cannot be used."""
    ids = batch.get("id") or [None] * len(rows)
    read_faults = batch.get(FAULT) or [None] * len(rows)
    columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
    with rdBase.BlockLogs():
        for row, row_id, smiles, fault in zip(rows, ids, batch["smiles"], read_faults, strict=True):
            smiles = repair_smiles(smiles) if isinstance(smiles, str) else ""
            weight, pattern = 0.0, b""
            elements: list[str] = []
            molecule = None
            if fault is None:
                molecule, fault = read_smiles(smiles)
            if molecule is not None:
                weight, elements, pattern = compute_properties(molecule)
            values = (str(row_id or row), smiles, weight, elements, pattern, fault)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    return columns


def compute_properties(molecule: Chem.Mol) -> tuple[float, list[str], bytes]:
    """The weight of a molecule in Da, its elements, and the bytes of RDKit's pattern fingerprint."""
    weight = Descriptors.MolWt(molecule)  # type: ignore[attr-defined]
    pattern = DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(molecule))
    return weight, elements_of(molecule), pattern


def elements_of(molecule: Chem.Mol) -> list[str]:
    """The element symbols of a molecule in the order of their atomic numbers. Implicit hydrogen is included.

    >>> elements_of(Chem.MolFromSmiles("CCO"))
    ['H', 'C', 'O']
    """
    # The formula takes a tenth of the time of a loop over the atoms.
    symbols = _SYMBOL.findall(rdMolDescriptors.CalcMolFormula(molecule))
    return sorted(symbols, key=_ATOMIC_NUMBER.__getitem__)


def remove_repeats(table: Dataset) -> tuple[Dataset, dict[str, Any], np.ndarray | None]:
    """Leaves out rows that repeat an earlier row in every column. Text columns of numbers become numbers.

    Needs 24 bytes of memory per row.

    Args:
        table: rows with the properties.

    Returns:
        `tuple`: the table; `{"duplicates": ...}` as [`describe`] reports it; and the rows that are kept, in order, or
        None for all.
    """
    # Equal ids have equal hashes. The few rows whose hash occurs twice are compared in full.
    hashes = np.empty(len(table), np.int64)
    for start, ids in _blocks(table, "id"):
        hashes[start : start + len(ids)] = np.fromiter(map(hash, ids), np.int64, len(ids))
    order = np.argsort(hashes, kind="stable")
    is_equal = hashes[order[1:]] == hashes[order[:-1]]
    candidates = np.unique(np.concatenate([order[1:][is_equal], order[:-1][is_equal]]))
    del hashes, order
    seen: set[bytes] = set()
    left_out: list[int] = []
    counts: Counter[str] = Counter()
    columns = [name for name in table.column_names if not name.startswith("_")]
    repeated = table.select_columns(columns).select(candidates)
    for start in range(0, len(candidates), _BLOCK):
        values = repeated[start : start + _BLOCK]
        for place, row_id in enumerate(values["id"]):
            content = repr([values[name][place] for name in columns])
            digest = hashlib.blake2b(content.encode(), digest_size=16).digest()
            if digest in seen:
                left_out.append(int(candidates[start + place]))
            else:
                counts[row_id] += 1
            seen.add(digest)
    still_repeated = [row_id for row_id, count in counts.items() if count > 1]
    report = {
        "rows": len(left_out),
        "ids": sum(counts[row_id] - 1 for row_id in still_repeated),
        "first": still_repeated[:_SHOWN],
    }
    kept = None
    if left_out:
        kept = np.delete(np.arange(len(table)), left_out)
        table = table.select(kept)
    return _with_numbers(table), {"duplicates": report}, kept


def _blocks(table: Dataset, name: str) -> Iterator[tuple[int, list[Any]]]:
    """The values of a column, a part at a time, with the row of the first."""
    column = table.select_columns([name])
    for start in range(0, len(table), _BLOCK):
        yield start, column[start : start + _BLOCK][name]


def _with_numbers(table: Dataset) -> Dataset:
    """The table with its numeric text columns as numbers. An empty text becomes a missing value."""
    features = table.features.copy()
    changed = {}
    for name, feature in table.features.items():
        if name in ("id", "smiles", "description") or name.startswith("_"):
            continue
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
            kind = _number_type(values for _, values in _blocks(table, name))
            if kind is not None:
                changed[name] = kind
                features[name] = Value(kind)
    if not changed:
        return table
    parse = {"int64": int, "float64": float}

    def convert(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {
            name: [parse[kind](value) if value and value.strip() else None for value in batch[name]]
            for name, kind in changed.items()
        }

    return table.map(convert, batched=True, features=features, desc="Reading numbers")


def _number_type(blocks: Iterable[list[str | None]]) -> str | None:
    """`"int64"` or `"float64"` if all texts of all blocks are such numbers, else None.

    >>> _number_type([["1", ""], ["-20"]]), _number_type([["1.5", "2"]]), _number_type([["007"]]), _number_type([[""]])
    ('int64', 'float64', None, None)
    """
    kind = None
    for values in blocks:
        texts = [value.strip() for value in values if value and value.strip()]
        if not texts:
            continue
        if kind != "float64" and all(_INTEGER.fullmatch(text) for text in texts):
            kind = "int64"
        elif all(_DECIMAL.fullmatch(text) and any(character.isdigit() for character in text) for text in texts):
            kind = "float64"
        else:
            return None
    return kind
