"""The properties of each molecule in an index: weight, elements, and a fingerprint that speeds up substructures."""

import re
from collections import Counter
from typing import Any

from datasets import Dataset, Features, List, Value
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import Descriptors

from class_hf.data.molecule_tables import FAULT, PLACE
from class_hf.data.smiles import read_smiles, repair_smiles
from class_hf.data.validation import DroppedRow, OnError, refusal
from class_hf.search.query import ELEMENTS

_FEATURES = {
    "id": Value("string"),
    "smiles": Value("string"),
    "_weight": Value("float64"),
    "_elements": List(Value("string")),
    "_pattern": Value("binary"),
    "_fault": Value("string"),
}
_SHOWN = 5
# A number as programs write it. `007` and `1,5` stay text.
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d{1,3})?")


def describe(
    molecules: Dataset, num_proc: int | None = None, on_error: OnError = "raise"
) -> tuple[Dataset, dict[str, Any]]:
    """Adds the properties to each molecule, and refuses rows that cannot be used.

    Rows that repeat an earlier row in every column are left out. Rows that repeat an id only are kept.

    Args:
        molecules: a table with the column `smiles`. Without a column `id`, the ids are the row numbers.
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
        ValueError: If the column `smiles` is missing, if rows are refused, or if no row is left.
    """
    if "smiles" not in molecules.column_names:
        raise ValueError(f"the molecules lack the column 'smiles'; they have {molecules.column_names}.")
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
    faults = described["_fault"][:]
    dropped = []
    for row in (row for row, fault in enumerate(faults) if fault is not None):
        original = molecules[row]
        place = original.get(PLACE) or "table"
        dropped.append(DroppedRow("molecules", row, str(original.get("id") or ""), faults[row], place))
    if dropped and on_error == "raise":
        raise ValueError(refusal(dropped))
    table = described.remove_columns([name for name in ("_fault", PLACE, FAULT) if name in described.column_names])
    if dropped:
        table = table.select([row for row, fault in enumerate(faults) if fault is None])
    if not len(table):
        raise ValueError(f"no molecule of {len(faults):,} is usable.")
    table, duplicates = _without_duplicates(table)
    report = {
        "dropped": {"rows": len(dropped), "first": [str(row) for row in dropped[:_SHOWN]]},
        "duplicates": duplicates,
    }
    return _with_numbers(table), report


def _describe_rows(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
    """The properties of a batch of molecules, and the faults of those that cannot be used."""
    ids = batch.get("id") or [None] * len(rows)
    read_faults = batch.get(FAULT) or [None] * len(rows)
    columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
    with rdBase.BlockLogs():
        for row, row_id, smiles, fault in zip(rows, ids, batch["smiles"], read_faults, strict=True):
            smiles = repair_smiles(smiles) if isinstance(smiles, str) else ""
            weight, elements, pattern = 0.0, [], b""
            molecule = None
            if fault is None:
                molecule, fault = read_smiles(smiles)
            if molecule is not None:
                weight = Descriptors.MolWt(molecule)  # type: ignore[attr-defined]
                elements = elements_of(molecule)
                pattern = DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(molecule))
            values = (str(row) if row_id is None else str(row_id), smiles, weight, elements, pattern, fault)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    return columns


def elements_of(molecule: Chem.Mol) -> list[str]:
    """The element symbols of a molecule in the order of their atomic numbers. Implicit hydrogen is included.

    >>> elements_of(Chem.MolFromSmiles("CCO"))
    ['H', 'C', 'O']
    """
    numbers = {atom.GetAtomicNum() for atom in molecule.GetAtoms()}
    if any(atom.GetTotalNumHs() for atom in molecule.GetAtoms()):
        numbers.add(1)
    return [ELEMENTS[number - 1] for number in sorted(numbers) if number]  # 0 is a wildcard atom


def _without_duplicates(table: Dataset) -> tuple[Dataset, dict[str, Any]]:
    """The table without repeated rows, and how many rows and ids were repeated."""
    ids = table["id"][:]
    repeated = {row_id for row_id, count in Counter(ids).items() if count > 1}
    seen: set[str] = set()
    left_out: set[int] = set()
    columns = [name for name in table.column_names if not name.startswith("_")]
    candidates = [row for row, row_id in enumerate(ids) if row_id in repeated]
    if candidates:
        values = table.select_columns(columns).select(candidates)[:]
        for place, row in enumerate(candidates):
            content = repr([values[name][place] for name in columns])
            if content in seen:
                left_out.add(row)
            seen.add(content)
    kept = [row for row in range(len(ids)) if row not in left_out]
    counts = Counter(ids[row] for row in candidates if row not in left_out)
    still_repeated = [row_id for row_id, count in counts.items() if count > 1]
    report = {
        "rows": len(left_out),
        "ids": sum(counts[row_id] - 1 for row_id in still_repeated),
        "first": still_repeated[:_SHOWN],
    }
    return table.select(kept) if left_out else table, report


def _with_numbers(table: Dataset) -> Dataset:
    """The table with its numeric text columns as numbers. An empty text becomes a missing value."""
    features = table.features.copy()
    changed = {}
    for name, feature in table.features.items():
        if name in ("id", "smiles", "description") or name.startswith("_"):
            continue
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
            kind = _number_type(table[name][:])
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


def _number_type(values: list[str | None]) -> str | None:
    """`"int64"` or `"float64"` if all texts are such numbers, else None.

    >>> _number_type(["1", "", "-20"]), _number_type(["1.5", "2"]), _number_type(["007"]), _number_type([""])
    ('int64', 'float64', None, None)
    """
    texts = [value.strip() for value in values if value and value.strip()]
    if not texts:
        return None
    if all(_INTEGER.fullmatch(text) for text in texts):
        return "int64"
    decimal = all(_DECIMAL.fullmatch(text) and any(character.isdigit() for character in text) for text in texts)
    return "float64" if decimal else None
