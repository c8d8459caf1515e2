"""Reads a table of molecules: CSV, TSV, Parquet, SDF, SMILES, or a saved data set."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, DatasetDict, Features, Value, load_from_disk
from datasets.exceptions import DatasetGenerationError

SMILES_NAMES = ("smiles", "canonical_smiles", "isomeric_smiles", "structure")
ID_NAMES = ("id", "cid", "chebi_id", "chembl_id", "molecule_id", "compound_id", "name")
DESCRIPTION_NAMES = ("description", "caption", "text")
FORMATS = (".csv", ".tsv", ".parquet", ".sdf", ".sdf.gz", ".smi")


def read_molecules(
    path: str | Path,
    smiles_column: str | None = None,
    id_column: str | None = None,
    description_column: str | None = None,
    split: str | None = None,
) -> Dataset:
    """A table of molecules as a data set with `smiles`, `id` if there is one, `description` if there is one.

    Values are not checked; [`MoleculeIndex.build`] does that. Columns of text files stay text, so that an id `007`
    stays one.

    Args:
        path: a file whose name ends in one of `FORMATS`, or a folder of `Dataset.save_to_disk`.
        smiles_column, id_column, description_column: names of columns. Default: the first column whose name,
            whatever its case, is among the usual ones.
        split: of a folder with several.

    Raises:
        ValueError: if the format is not known, or a column is not found; the message lists those there are.

    Example:

    ```python
    molecules = read_molecules("chembl.csv", smiles_column="canonical_smiles", id_column="chembl_id")
    ```
    """
    path = Path(path)
    table = _read(path, split)
    names = {
        "smiles": _column(table.column_names, smiles_column, SMILES_NAMES, path, "--smiles_column"),
        "id": _column(table.column_names, id_column, ID_NAMES, path, "--id_column", optional=True),
        "description": _column(
            table.column_names, description_column, DESCRIPTION_NAMES, path, "--description_column", optional=True
        ),
    }
    for wanted, found in names.items():
        if found is None or found == wanted:
            continue
        if wanted in table.column_names:  # another column has the name that this one is to get
            table = table.rename_column(wanted, f"{wanted}_of_table")
        table = table.rename_column(found, wanted)
    return table


def _read(path: Path, split: str | None) -> Dataset:
    if not path.exists():
        raise ValueError(f"{str(path)!r} does not exist; expected a table of molecules.")
    if path.is_dir():
        data = load_from_disk(str(path))
        if isinstance(data, DatasetDict):
            if split not in data:
                raise ValueError(f"{str(path)!r} has the splits {sorted(data)}; name one by --split, not {split!r}.")
            return data[split]
        return data
    name = path.name.lower()
    if name.endswith(".parquet"):
        return Dataset.from_parquet(str(path))
    if name.endswith(".csv"):
        return _read_text(path, ",", csv.QUOTE_MINIMAL)
    if name.endswith(".tsv"):
        return _read_text(path, "\t", csv.QUOTE_NONE)
    if name.endswith((".sdf", ".sdf.gz")):
        return _read_sdf(path)
    if name.endswith(".smi"):
        return _read_smi(path)
    raise ValueError(f"{path.name!r} is of no known format; expected one of {', '.join(FORMATS)}, or a folder.")


def _read_text(path: Path, separator: str, quoting: Literal[0, 3]) -> Dataset:
    with path.open(encoding="utf-8-sig", newline="") as file:
        columns = next(csv.reader(file, delimiter=separator, quoting=quoting), [])
    if not columns:
        raise ValueError(f"{path.name} is empty; expected a line with the names of the columns.")
    features = Features({column: Value("string") for column in columns})
    try:
        return Dataset.from_csv(
            str(path), features=features, sep=separator, quoting=quoting, keep_default_na=False, encoding="utf-8-sig"
        )
    except DatasetGenerationError as error:
        raise ValueError(f"{path.name} cannot be read as a table: {error.__cause__ or error}") from error


def _read_sdf(path: Path) -> Dataset:
    """Each record's SMILES, its name as `id`, and its properties; a record that RDKit cannot read has no SMILES."""
    from rdkit import Chem, rdBase

    records: list[dict[str, Any]] = []
    opened = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")
    with opened as file, rdBase.BlockLogs():
        for molecule in Chem.ForwardSDMolSupplier(file):
            if molecule is None:
                records.append({"smiles": None, "id": None})
                continue
            name = molecule.GetProp("_Name").strip() if molecule.HasProp("_Name") else ""
            properties = {key: molecule.GetProp(key) for key in molecule.GetPropNames()}
            records.append({"smiles": Chem.MolToSmiles(molecule), "id": name or None, **properties})
    names = list(dict.fromkeys(name for record in records for name in record))
    return Dataset.from_dict({name: [record.get(name) for record in records] for name in names})


def _read_smi(path: Path) -> Dataset:
    """Lines of a SMILES and, after white space, a name."""
    lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return Dataset.from_dict(
        {"smiles": [line[0] for line in lines], "id": [line[1].strip() if len(line) > 1 else None for line in lines]}
    )


def _column(
    columns: list[str], given: str | None, usual: Sequence[str], path: Path, argument: str, optional: bool = False
) -> str | None:
    if given is not None:
        if given not in columns:
            raise ValueError(f"{path.name} has no column {given!r}; it has {columns}.")
        return given
    lower = {column.lower(): column for column in reversed(columns)}
    found = next((lower[name] for name in usual if name in lower), None)
    if found is None and not optional:
        raise ValueError(f"{path.name} has no column of SMILES among {columns}; name it by {argument}.")
    return found
