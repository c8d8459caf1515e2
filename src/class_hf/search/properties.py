"""What is known of each molecule of an index: weight, elements, and a fingerprint that speeds up substructures."""

from typing import Any

from datasets import Dataset, Value
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import Descriptors

from class_hf.data.validation import DroppedRow, OnError, refusal, repair_smiles
from class_hf.search.query import ELEMENTS

PROPERTIES = ("_weight", "_elements", "_pattern", "_fault")


def describe(molecules: Dataset, num_proc: int | None = None, on_error: OnError = "raise") -> tuple[Dataset, list]:
    """Adds weight, elements and pattern to each molecule; refuses those that cannot be used.

    Args:
        molecules: with `smiles`; `id` is the row's number where it is not given.
        num_proc: processes.
        on_error: `"raise"` at a row without a readable SMILES, or `"drop"` it.

    Returns:
        the rows kept, `id` and `smiles` as strings, with `_weight` (Da), `_elements` (their symbols) and
        `_pattern` (bytes, RDKit's pattern fingerprint); and the rows dropped.

    Raises:
        ValueError: if `smiles` is missing, rows are refused under `"raise"`, or none is left.
    """
    if "smiles" not in molecules.column_names:
        raise ValueError(f"the molecules lack the column 'smiles'; they have {molecules.column_names}.")
    if "id" in molecules.column_names:  # or the numbers' type would be kept
        molecules = molecules.cast_column("id", Value("string"))
    described = molecules.map(
        _describe_rows, with_indices=True, batched=True, num_proc=num_proc, desc="Reading molecules"
    )
    faults = described["_fault"][:]
    dropped = [
        DroppedRow("molecules", row, str(described[row]["id"]), fault, "table")
        for row, fault in enumerate(faults)
        if fault is not None
    ]
    if dropped and on_error == "raise":
        raise ValueError(refusal(dropped))
    kept = described.remove_columns("_fault")
    if dropped:
        kept = kept.select([row for row, fault in enumerate(faults) if fault is None])
    if not len(kept):
        raise ValueError(f"no molecule of {len(faults):,} is usable.")
    return kept, dropped


def _describe_rows(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
    ids = batch.get("id") or [None] * len(rows)
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "smiles", *PROPERTIES)}
    with rdBase.BlockLogs():
        for row, one, smiles in zip(rows, ids, batch["smiles"], strict=True):
            smiles = repair_smiles(smiles) if isinstance(smiles, str) else ""
            molecule = Chem.MolFromSmiles(smiles) if smiles else None
            weight, elements, pattern, fault = 0.0, [], b"", None
            if not smiles:
                fault = "empty or missing: smiles"
            elif len(smiles.split()) > 1:
                fault = f"the SMILES {smiles!r} holds white space"
            elif molecule is None or not molecule.GetNumAtoms():
                fault = f"RDKit cannot parse the SMILES {smiles!r}"
            else:
                weight = Descriptors.MolWt(molecule)  # type: ignore[attr-defined]
                elements = elements_of(molecule)
                pattern = DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(molecule))
            values = (str(row) if one is None else str(one), smiles, weight, elements, pattern, fault)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    return columns


def elements_of(molecule: Chem.Mol) -> list[str]:
    """The symbols of a molecule's elements in the order of their numbers, hydrogen that is not written included.

    >>> elements_of(Chem.MolFromSmiles("CCO"))
    ['H', 'C', 'O']
    """
    numbers = {atom.GetAtomicNum() for atom in molecule.GetAtoms()}
    if any(atom.GetTotalNumHs() for atom in molecule.GetAtoms()):
        numbers.add(1)
    return [ELEMENTS[number - 1] for number in sorted(numbers) if number]  # 0 stands for any atom
