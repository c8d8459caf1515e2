"""Finds the columns of a table: the usual column names, and the command-line arguments that name other columns."""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from class_hf.utils.suggestions import did_you_mean

PAIR_COLUMNS = ("id", "smiles", "description")
POOL_COLUMNS = ("id", "smiles", "split")
# Arguments that change the training split; `training_files` reads them.
TRAINING_FILES = ("extra_train", "replace_captions")
KNOWN_COLUMNS = ("id", "smiles", "description", "split", "keep")

# The usual names of each column, in groups of falling preference. Within a group of SMILES, descriptions or splits,
# two columns are ambiguous. Ids only name rows, so the first usual name is taken.
SYNONYMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "id": tuple(
        (name,)
        for name in (
            *("id", "cid", "chebi_id", "chembl_id", "pubchem_cid", "pubchem_compound_cid", "compound_cid"),
            *("molecule_chembl_id", "zinc_id", "drugbank_id", "hmdb_id", "lm_id", "database_id"),
            *("molecule_id", "mol_id", "compound_id", "identifier", "inchikey", "inchi_key", "name"),
        )
    ),
    # PubChem's canonical (or connectivity) SMILES has no stereochemistry: it is taken only without a better column.
    "smiles": (
        ("smiles", "isomeric_smiles", "isosmiles", "isomericsmiles"),
        ("canonical_smiles", "canonicalsmiles", "structure", "molecule"),
        ("connectivity_smiles", "connectivitysmiles"),
    ),
    "description": (("description", "desc", "caption", "text"), ("definition",)),
    "split": (("split",),),
    "keep": (("keep",),),
}
_SEPARATOR_ADVICE = (
    "There is a single column: separate columns by a comma, semicolon, bar or tab. Or it needs a name. "
)
_ARGUMENTS = {"smiles": "--smiles_column", "description": "--text_column", "id": "--id_column"}


def normalise(name: str) -> str:
    """A column name in lower case, with underscores in place of spaces, hyphens and dots.

    >>> normalise(" ChEBI ID")
    'chebi_id'
    """
    return re.sub(r"[\s.\-]+", "_", name.strip().strip('"').lower()).strip("_")


def is_smiles_name(name: str) -> bool:
    """Whether a column name is a usual name of a SMILES column.

    >>> is_smiles_name("Isomeric SMILES")
    True
    """
    return any(normalise(name) in group for group in SYNONYMS["smiles"])


def shown(header: Sequence[str]) -> str:
    """A header in an error: at most 20 columns, at most 60 characters each.

    >>> shown(["id", "smiles"])
    "['id', 'smiles']"
    """
    names = ", ".join(repr(name) if len(name) <= 60 else f"{name[:60]!r}..." for name in header[:20])
    return f"[{names}{f', and {len(header) - 20:,} more' if len(header) > 20 else ''}]"


def candidates(header: Sequence[str], column: str, column_mapping: Mapping[str, str]) -> list[int]:
    """Positions in a header of the columns that could be `column`: mapped ones, else the best group of usual names."""
    mapped = [position for position, name in enumerate(header) if column_mapping.get(name) == column]
    if mapped:
        return mapped
    usual = {position: normalise(name) for position, name in enumerate(header) if name not in column_mapping}
    for group in SYNONYMS[column]:
        positions = [position for position, name in usual.items() if name in group]
        if positions:
            return positions[:1] if column == "id" else positions
    return []


def pick_columns(
    where: str, header: Sequence[str], wanted: Iterable[str], column_mapping: Mapping[str, str]
) -> dict[str, int]:
    """Finds the wanted columns in a header, by `column_mapping` first and then by the usual names.

    Args:
        where: name of the table, for errors.
        header: column names of the table.
        wanted: columns of this package: `"id"`, `"smiles"`, `"description"`, `"split"`, `"keep"`.
        column_mapping: column of the table to column of this package.

    Returns:
        Position in the header by wanted column.

    Raises:
        ValueError: if a column is missing or ambiguous. The error names the argument that helps.

    >>> pick_columns("a.csv", ["CID", "isosmiles", "note"], PAIR_COLUMNS, {"note": "description"})
    {'id': 0, 'smiles': 1, 'description': 2}
    """
    found = {column: candidates(header, column, column_mapping) for column in wanted}
    missing = [column for column, positions in found.items() if not positions]
    named = {name: target for name, target in column_mapping.items() if target in missing}
    if named:
        raise ValueError(_unknown_columns(where, list(named), header))
    if missing:
        advice = _SEPARATOR_ADVICE if len(header) == 1 and len(_words(header[0])) > 1 else ""
        raise ValueError(
            f"{where} has no {'column' if len(missing) == 1 else 'columns'} for {_listed(missing)}; its columns are "
            f"{shown(header)}. {advice}{_advice(dict.fromkeys(missing, '<NAME>'))}"
        )
    for column, positions in found.items():
        if len(positions) > 1:
            names = [header[position] for position in positions]
            raise ValueError(f"{where}: the columns {names} could each be {column!r}. {_advice({column: names[0]})}")
    return {column: positions[0] for column, positions in found.items()}


def numbered_note(header: Sequence[str], chosen: Iterable[str], used: Iterable[int]) -> str | None:
    """The note about a table without an id column, if one of its other columns may hold the ids.

    Args:
        header: column names of the table.
        chosen: columns of this package that were found.
        used: their positions in the header.

    Returns:
        The note without a full stop. None if there are ids, or no other columns.

    >>> numbered_note(["ligand", "smiles"], ["smiles"], [1])
    "no column has a usual name of ids, so rows are numbered; if one of ['ligand'] holds ids, name it with --id_column"
    >>> numbered_note(["smiles"], ["smiles"], [0]) is None
    True
    """
    used = set(used)
    others = [name for position, name in enumerate(header) if position not in used and not name.startswith("_")]
    if "id" in chosen or not others:
        return None
    return (
        f"no column has a usual name of ids, so rows are numbered; if one of {shown(others)} holds ids, name it with "
        "--id_column"
    )


def _unknown_columns(where: str, names: Sequence[str], header: Sequence[str]) -> str:
    """The error about columns that a user named and the table lacks."""
    near = {name: did_you_mean(name, header, otherwise="") for name in names}
    similar = [f"{name!r}: {text}" if len(names) > 1 else text for name, text in near.items() if text]
    return (
        f"{where} has no {'column' if len(names) == 1 else 'columns'} {_listed(names)}; its columns are "
        f"{shown(header)}. Correct the name in --column_mapping or --*_column: "
        f"{' '.join(similar) or 'use one of these.'}"
    )


def _listed(names: Sequence[str]) -> str:
    """Names in quotes.

    >>> _listed(["smiles", "description", "id"])
    "'smiles', 'description' and 'id'"
    """
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last


def _words(name: str) -> list[str]:
    """The words of a column name: more than one if a separator of columns was not recognised."""
    return re.findall(r"\w+", name)


def _advice(names: Mapping[str, str]) -> str:
    """The sentence that says how to name columns: column of this package to the name in the table."""
    arguments = [f"{_ARGUMENTS[column]} {name!r}" for column, name in names.items() if column in _ARGUMENTS]
    argument = f"{' '.join(arguments)} or " if len(arguments) == len(names) else ""
    mapping = ", ".join(f'"{name}": "{column}"' for column, name in names.items())
    them = "it" if len(names) == 1 else "them"
    return f"Name {them} with {argument}--column_mapping '{{{mapping}}}' (in Python: column_mapping)."


def check_mapping(column_mapping: Mapping[str, str], headers: Mapping[str, Sequence[str]]) -> None:
    """Refuses a mapping with unknown columns, because it would have no effect.

    Args:
        column_mapping: column of the table to column of this package.
        headers: name of each table to its columns.

    Raises:
        ValueError: if no table has a column of the mapping.

    >>> check_mapping({"note": "description"}, {"a.csv": ["id", "note"]})
    """
    known = sorted({name for header in headers.values() for name in header})
    if unknown := [name for name in column_mapping if name not in known]:
        raise ValueError(_unknown_columns(" and ".join(headers), unknown, known))


def checked_mapping(column_mapping: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of a column mapping, with its values checked.

    Raises:
        ValueError: if a value is no column of this package, or two columns map to the same one.

    >>> checked_mapping({"drug": "smiles"})
    {'drug': 'smiles'}
    """
    mapping = dict(column_mapping or {})
    wrong = {name: column for name, column in mapping.items() if column not in KNOWN_COLUMNS}
    if wrong:
        raise ValueError(
            f"column_mapping maps to unknown columns: {wrong}; expected values are {sorted(KNOWN_COLUMNS)}."
        )
    for column in KNOWN_COLUMNS:
        names = [name for name, value in mapping.items() if value == column]
        if len(names) > 1:
            raise ValueError(f"column_mapping maps {names} to {column!r}; expected one column.")
    return mapping


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say how a table is read: column names and encoding.

    Args:
        parser: of a command that reads pairs or molecules. Pass its result to [`table_options`].
    """
    group = parser.add_argument_group("tables", "columns and encoding; by default the usual names are recognised")
    group.add_argument("--smiles_column", help="column with the SMILES")
    group.add_argument("--text_column", "--description_column", help="column with the captions")
    group.add_argument("--id_column", help="column with the ids (default: by its usual names, else the row number)")
    group.add_argument(
        "--column_mapping",
        help='several columns at once, as JSON: {"THEIR NAME": "smiles", ...}; values: ' + ", ".join(KNOWN_COLUMNS),
    )
    group.add_argument("--encoding", help="encoding of the text files, such as cp1252 or utf-16 (default: UTF-8)")


def add_training_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that add training pairs from further files and replace captions.

    Args:
        parser: of a command that reads a data set of pairs. Pass its result to [`training_files`].
    """
    group = parser.add_argument_group(
        "training pairs", "files, by names relative to the folder of the data or to the current folder"
    )
    group.add_argument("--extra_train", nargs="+", metavar="FILE", help="files of further training pairs")
    group.add_argument(
        "--replace_captions",
        nargs="+",
        metavar="FILE",
        help="files with id and description, which replace captions of training pairs",
    )


def training_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of [`load_data`] from parsed arguments.

    >>> parser = argparse.ArgumentParser()
    >>> add_training_file_arguments(parser)
    >>> training_files(parser.parse_args(["--extra_train", "more_train.tsv"]))
    {'extra_train': ['more_train.tsv'], 'replace_captions': None}
    """
    return {name: getattr(arguments, name) for name in TRAINING_FILES}


def table_options(arguments: Any) -> dict[str, Any]:
    """The options of the reading functions from parsed arguments.

    Args:
        arguments: an object with `smiles_column`, `text_column`, `id_column`, `column_mapping` (JSON or None) and
            `encoding`: a namespace of [`add_table_arguments`], or `DataArguments`.

    Returns:
        `column_mapping` and `encoding`, the keyword arguments of [`load_data`], [`load_chebi20`] and
        [`read_molecules`].

    Raises:
        ValueError: if `column_mapping` is no JSON object of strings, or contradicts another argument.

    >>> parser = argparse.ArgumentParser()
    >>> add_table_arguments(parser)
    >>> table_options(parser.parse_args(["--smiles_column", "drug"]))
    {'column_mapping': {'drug': 'smiles'}, 'encoding': None}
    """
    mapping: dict[str, str] = {}
    if arguments.column_mapping is not None:
        try:
            mapping = json.loads(arguments.column_mapping)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"--column_mapping {arguments.column_mapping!r} is not valid JSON ({error}); expected for instance "
                '\'{"drug": "smiles"}\'.'
            ) from error
        if not isinstance(mapping, dict) or not all(isinstance(value, str) for value in mapping.values()):
            raise ValueError(
                f"--column_mapping is {arguments.column_mapping!r}; expected a JSON object of column names, for "
                'instance \'{"drug": "smiles"}\'.'
            )
    columns = {"smiles": arguments.smiles_column, "description": arguments.text_column, "id": arguments.id_column}
    for column, name in columns.items():
        if name is None:
            continue
        if column in mapping.values() and mapping.get(name) != column:
            raise ValueError(f"{_ARGUMENTS[column]} is {name!r}, but --column_mapping names another column. Pass one.")
        if mapping.get(name, column) != column:
            raise ValueError(f"the column {name!r} is named for {mapping[name]!r} and for {column!r}. Name it once.")
        mapping[name] = column
    return {"column_mapping": checked_mapping(mapping), "encoding": arguments.encoding}
