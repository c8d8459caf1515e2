"""The rows of an evaluation: they are prepared, and each query has its molecule among the candidates."""

import logging
from typing import Any

import torch
from datasets import Dataset

from class_hf.data.prepare import MOLECULE_FEATURES, POOLED, TEXT_FEATURES, check_prepared
from class_hf.data.smiles import canonical_smiles
from class_hf.utils.in_memory import as_table
from class_hf.utils.protocols import Processor

logger = logging.getLogger(__name__)
_FEATURES = {"text": TEXT_FEATURES, "molecule": MOLECULE_FEATURES}
_FUNCTIONS = {"text": "prepare_captions", "molecule": "prepare_molecules"}


def prepared_rows(rows: Any, name: str, sides: tuple[str, ...], processor: Processor) -> Dataset:
    """Rows of a caller, after a check that the processor has prepared them.

    Args:
        rows: pairs, molecules or captions.
        name: what they are, for the error.
        sides: the sides that are read: `"text"`, `"molecule"` or both.
        processor: the processor of the model.

    Returns:
        The data set, with rows of Python objects.

    Raises:
        ValueError: if a column is missing, or another processor has prepared the rows.
    """
    table = as_table(rows, f"the {name}")
    for side in sides:
        if not {_FEATURES[side], POOLED[side]} & set(table.column_names):
            function = "prepare_pairs" if len(sides) > 1 else _FUNCTIONS[side]
            raise ValueError(
                f"the {name} have no column {_FEATURES[side]!r}; they have {table.column_names}. Prepare them with "
                f"{function}."
            )
    check_prepared(table, processor, name)
    return table


def find_gold(pairs: Dataset, pool: Dataset, name: str) -> torch.Tensor:
    """The row of each pair's molecule among the candidates, by its id.

    Args:
        pairs: Q pairs.
        pool: the candidates; the pairs themselves, if there is no other pool.
        name: of the pairs, for the error.

    Returns:
        (Q,) int64.

    Raises:
        ValueError: if there is no column `id`, a pair has no molecule in the pool, or an id has two molecules.

    >>> pool = Dataset.from_dict({"id": ["a", "b"], "smiles": ["C", "CC"]})
    >>> find_gold(Dataset.from_dict({"id": ["b"]}), pool, "test").tolist()
    [1]
    """
    for kind, rows in (("pairs", pairs), ("pool", pool)):
        if "id" not in rows.column_names:
            raise ValueError(f"the {kind} of {name!r} have no column 'id'; they have {rows.column_names}.")
    row_of = {identifier: row for row, identifier in enumerate(pool["id"][:])}
    ids = pairs["id"][:]
    missing = [identifier for identifier in ids if identifier not in row_of]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(ids)} molecules of {name!r} are not in the pool of {len(row_of)}, "
            f"for instance id {missing[0]!r}. Every query's molecule must be a candidate."
        )
    gold = [row_of[identifier] for identifier in ids]
    if "smiles" in pairs.column_names and "smiles" in pool.column_names:
        own, candidates = pairs["smiles"][:], pool["smiles"][:]
        wrong = [row for row, place in enumerate(gold) if not _is_same(own[row], candidates[place])]
        if wrong:
            first = wrong[0]
            text = (
                f"{len(wrong)} of the {len(ids)} pairs of {name!r} have another molecule than the candidate with "
                f"their id, for instance id {ids[first]!r}: {own[first]} and {candidates[gold[first]]}."
            )
            if pool is pairs:
                raise ValueError(f"{text} Give each molecule an id of its own.")
            logger.warning("%s Their ranks are those of the candidates.", text)
    return torch.tensor(gold)


def _is_same(smiles: Any, other: Any) -> bool:
    return (
        smiles == other
        or not (isinstance(smiles, str) and isinstance(other, str))
        or (canonical_smiles(smiles) == canonical_smiles(other))
    )
