"""The columns of a data set of pairs: checked, named and digested."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from rdkit import Chem

from class_hf.models.smiles import parse_smiles

COLUMNS = ("id", "smiles", "description")


def pair_columns(rows: Any, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The columns id, smiles and description, checked."""
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise ValueError(
            f"missing columns: {', '.join(missing)}. A pairs data set has {', '.join(COLUMNS)}; "
            f"this one has {', '.join(names)}. Rename its columns with rename_columns."
        )
    columns = [rows[column] for column in COLUMNS]
    if any(isinstance(values, str) for values in columns):
        raise ValueError("The scorer got a single row, expected a batch: call ds.map(scorer, batched=True).")
    ids, smiles, descriptions = (list(values[:]) for values in columns)
    for column, values in zip(COLUMNS, (ids, smiles, descriptions), strict=True):
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(
                    f"row {row} (id {ids[row]}): {column} is {value!r}, expected text. Cast the column to "
                    "string, or correct the row."
                )
    return ids, smiles, descriptions


def repeated_ids(ids: Sequence[str], smiles: Sequence[str], descriptions: Sequence[str]) -> list[str]:
    """The ids of several pairs, sorted. These must be captions of one molecule.

    Raises:
        ValueError: if an id has two molecules, or a pair occurs twice.
    """
    first: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    repeated: set[str] = set()
    for row, (name, caption) in enumerate(zip(ids, descriptions, strict=True)):
        if name in first:
            repeated.add(name)
            earlier = pairs.get((name, caption))
            if earlier is not None or not _same_molecule(smiles[row], smiles[first[name]]):
                earlier = first[name] if earlier is None else earlier
                raise ValueError(
                    f"rows {earlier} and {row} share the id {name!r}. Only other captions of the same molecule can "
                    "share an id: give each pair its own id, or remove the copy."
                )
        first.setdefault(name, row)
        pairs.setdefault((name, caption), row)
    return sorted(repeated)


def _same_molecule(smiles: str, other: str) -> bool:
    """Whether two SMILES are spellings of one molecule."""
    if smiles == other:
        return True
    try:
        return Chem.MolToSmiles(parse_smiles(smiles)) == Chem.MolToSmiles(parse_smiles(other))
    except ValueError:
        return False


def name_pairs(
    ids: list[str], smiles: Sequence[str], descriptions: Sequence[str], repeated: Sequence[str]
) -> list[str]:
    """A name for each pair: its id, or its id and a digest of its content if the id is repeated."""
    if not repeated:
        return ids
    known = set(repeated)
    digests = content_digests(smiles, descriptions).tolist()
    return [f"{name} ({digest:016x})" if name in known else name for name, digest in zip(ids, digests, strict=True)]


def content_digests(smiles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
    """(N,) 64-bit digests of the pairs' contents."""
    texts = (f"{molecule}\0{description}" for molecule, description in zip(smiles, descriptions, strict=True))
    digests = (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") for text in texts)
    return np.fromiter(digests, np.uint64, count=len(smiles))
