"""Tables of molecules: the same molecules from every format."""

import gzip

import pytest
from datasets import Dataset, DatasetDict
from rdkit import Chem

from class_hf.data.molecule_tables import read_molecules

ROWS = {
    "CID": ["007", "NA", "9"],
    "SMILES": ["CCO", "[Na+].[Cl-]", "C/C=C\\C"],
    "note": ['say "x"', "", "a,b"],
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return Dataset.from_dict(ROWS)


def write_csv(path, separator, quote):
    lines = [separator.join(ROWS), *(separator.join(map(quote, row)) for row in zip(*ROWS.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


def test_text_parquet_and_folder_give_the_same(table, tmp_path):
    write_csv(tmp_path / "a.csv", ",", lambda value: '"' + value.replace('"', '""') + '"')
    write_csv(tmp_path / "a.tsv", "\t", str)
    table.to_parquet(tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "folder")
    DatasetDict({"pool": table}).save_to_disk(tmp_path / "folders")
    wanted = {"id": ROWS["CID"], "smiles": ROWS["SMILES"], "note": ROWS["note"]}
    for name in ("a.csv", "a.tsv", "a.parquet", "folder", "folders"):
        found = read_molecules(tmp_path / name, split="pool")
        assert {column: found[column][:] for column in found.column_names} == wanted, name


def test_sdf_and_smi(tmp_path):
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for name, smiles in (("ethanol", "CCO"), ("", "CCN")):
            molecule = Chem.MolFromSmiles(smiles)
            molecule.SetProp("_Name", name)
            if name:
                molecule.SetProp("pKa", "15.9")
            writer.write(molecule)
    broken = (tmp_path / "a.sdf").read_text() + "broken\n\n\nnonsense\n$$$$\n"
    (tmp_path / "b.sdf.gz").write_bytes(gzip.compress(broken.encode()))
    whole, part = (read_molecules(tmp_path / name) for name in ("a.sdf", "b.sdf.gz"))
    assert whole.to_dict() == {"smiles": ["CCO", "CCN"], "id": ["ethanol", None], "pKa": ["15.9", None]}
    assert part["smiles"][:] == ["CCO", "CCN", None]
    (tmp_path / "a.smi").write_text("CCO ethyl alcohol\nCCN\n")
    assert read_molecules(tmp_path / "a.smi").to_dict() == {"smiles": ["CCO", "CCN"], "id": ["ethyl alcohol", None]}


def test_columns_by_name(table, tmp_path):
    table.add_column("smiles", ["x", "y", "z"]).add_column("label", ["1", "2", "3"]).save_to_disk(tmp_path / "t")
    found = read_molecules(tmp_path / "t", smiles_column="SMILES", id_column="label", description_column="note")
    assert found["smiles"][:] == ROWS["SMILES"] and found["id"][:] == ["1", "2", "3"]
    assert found["description"][:] == ROWS["note"] and found["smiles_of_table"][:] == ["x", "y", "z"]


def test_errors_say_what_is_there(table, tmp_path):
    table.save_to_disk(tmp_path / "t")
    DatasetDict({"pool": table}).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match=r"no column 'smi'; it has \['CID', 'SMILES', 'note'\]"):
        read_molecules(tmp_path / "t", smiles_column="smi")
    table.remove_columns("SMILES").save_to_disk(tmp_path / "u")
    with pytest.raises(ValueError, match=r"no column of SMILES among \['CID', 'note'\]; name it by --smiles_column"):
        read_molecules(tmp_path / "u")
    with pytest.raises(ValueError, match=r"has the splits \['pool'\]; name one by --split, not None"):
        read_molecules(tmp_path / "splits")
    with pytest.raises(ValueError, match="does not exist"):
        read_molecules(tmp_path / "none.csv")
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(ValueError, match="is of no known format; expected one of .csv"):
        read_molecules(tmp_path / "a.xlsx")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(ValueError, match="a.csv is empty"):
        read_molecules(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("id,smiles\n1,CCO\n2,CCN,more,fields\n")
    with pytest.raises(ValueError, match="b.csv cannot be read as a table"):
        read_molecules(tmp_path / "b.csv")
