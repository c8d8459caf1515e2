"""Tables of molecules: the same molecules from every format, and one clear line where there are none."""

import gzip
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from table_files import ROWS, put, read, sdf_record, write_csv

from class_hf.data.molecule_tables import FAULT, read_molecules
from class_hf.data.row_sources import open_rows


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def table():
    return Dataset.from_dict(ROWS)


def test_every_format_gives_the_same(table, tmp_path):
    write_csv(tmp_path / "a.csv", ",", lambda value: '"' + value.replace('"', '""') + '"')
    write_csv(tmp_path / "b.csv", ";", lambda value: '"' + value.replace('"', '""') + '"')
    write_csv(tmp_path / "a.tsv", "\t", str)
    table.to_parquet(tmp_path / "a.parquet")
    table.to_json(tmp_path / "a.jsonl")
    table.save_to_disk(tmp_path / "folder")
    DatasetDict({"pool": table}).save_to_disk(tmp_path / "folders")
    wanted = {"id": ROWS["CID"], "smiles": ROWS["SMILES"], "note": ROWS["note"]}
    for name in ("a.csv", "b.csv", "a.tsv", "a.parquet", "a.jsonl", "folder", "folders"):
        assert read(tmp_path / name, split="pool" if name == "folders" else None) == wanted, name
    for name in ("a.csv", "a.tsv", "a.jsonl"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        assert read(tmp_path / f"{name}.gz") == wanted, name
    (tmp_path / "no_ending").write_bytes((tmp_path / "a.csv").read_bytes())
    assert read(tmp_path / "no_ending") == wanted


def test_sdf_and_smi(tmp_path):
    text = sdf_record("CCO", "ethanol", pKa="15.9") + sdf_record("CCN")
    put(tmp_path / "a.sdf", text)
    (tmp_path / "b.sdf.gz").write_bytes(gzip.compress((text + "broken\n\n\nnonsense\n$$$$\n").encode()))
    assert read(tmp_path / "a.sdf") == {"smiles": ["CCO", "CCN"], "id": ["ethanol", None], "pKa": ["15.9", None]}
    assert read(tmp_path / "b.sdf.gz")["smiles"] == ["CCO", "CCN", None]
    put(tmp_path / "a.smi", "CCO ethyl alcohol\nCCN\n")
    assert read(tmp_path / "a.smi") == {"smiles": ["CCO", "CCN"], "id": ["ethyl alcohol", None]}


def test_columns_by_name(table, tmp_path):
    table.add_column("smiles", ["x", "y", "z"]).add_column("label", ["1", "2", "3"]).save_to_disk(tmp_path / "t")
    names = {"smiles_column": "SMILES", "id_column": "label", "description_column": "note"}
    molecules = read_molecules(tmp_path / "t", **names)
    assert molecules["smiles"][:] == ROWS["SMILES"] and molecules["id"][:] == ["1", "2", "3"]
    assert molecules["description"][:] == ROWS["note"] and molecules["smiles_of_table"][:] == ["x", "y", "z"]
    mapping = {"SMILES": "smiles", "label": "id"}
    assert read_molecules(tmp_path / "t", column_mapping=mapping)["id"][:] == ["1", "2", "3"]


def test_options_that_would_have_no_effect_are_refused(table, tmp_path):
    table.save_to_disk(tmp_path / "t")
    table.to_parquet(tmp_path / "a.parquet")
    for name in ("t", "a.parquet"):
        with pytest.raises(ValueError, match=f"--encoding is 'cp1252', but {name} is no text file"):
            read_molecules(tmp_path / name, encoding="cp1252")
    with pytest.raises(ValueError, match="a table of molecules needs no 'split'"):
        read_molecules(tmp_path / "t", column_mapping={"note": "split"})
    table.filter(lambda row: False).save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match="none has no rows; expected molecules"):
        read_molecules(tmp_path / "none")


def test_ids_of_numbers_stay_whole(tmp_path):
    put(tmp_path / "a.jsonl", '{"cid": 2244.0, "smiles": "CCO", "tags": ["x"], "ok": true, "none": null}\n')
    molecules = read(tmp_path / "a.jsonl")
    assert molecules == {"id": ["2244"], "smiles": ["CCO"], "tags": ['["x"]'], "ok": ["true"], "none": [None]}
    Dataset.from_dict({"cid": [2244.0, None], "smiles": ["CCO", "CCN"]}).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")["id"] == ["2244", None]


def test_columns_with_reserved_names_are_kept_and_said(tmp_path, caplog):
    put(tmp_path / "a.csv", "id,_weight,smiles\na,1,CCO\n")
    assert read(tmp_path / "a.csv") == {"id": ["a"], "weight_of_table": ["1"], "smiles": ["CCO"]}
    assert "a.csv: columns were renamed" in caplog.text and "'_weight' to 'weight_of_table'" in caplog.text
    caplog.clear()
    read(tmp_path / "a.csv")  # from the cache
    assert "'_weight' to 'weight_of_table'" in caplog.text


def test_a_changed_file_is_read_again(tmp_path):
    assert read(put(tmp_path / "a.smi", "CCO a\n"))["smiles"] == ["CCO"]
    assert read(put(tmp_path / "a.smi", "CCN a\n"))["smiles"] == ["CCN"]


def test_without_a_cache(tmp_path):
    datasets.disable_caching()
    try:
        assert read(put(tmp_path / "a.smi", "CCO a\n"))["smiles"] == ["CCO"]
    finally:
        datasets.enable_caching()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,smiles\n1,CCO\n2,CCN,more,fields\n", "t.csv line 3 has 4 fields where the header has 2"),
        ("id,smiles,parent\nA1,CCN.Cl,CCN,\nA2,CCO,CCO,\n", "t.csv line 2 has 4 fields where the header has 3"),
        ("id,smiles\n1,CCO\n2\n", "t.csv line 3 has 1 fields where the header has 2"),
        ('id,smiles\n1,"CCO\n2,CCN\n', "t.csv line 2 is not valid CSV.*is a quote not closed"),
        ("smiles,id,smiles\nCCO,1,CCN\n", "t.csv line 1 has 2 columns 'smiles'; rename all but one"),
        (
            "smiles,SMILES\nCCO,CCN\n",
            r"t.csv: the columns \['smiles', 'SMILES'\] could each be 'smiles'.*--smiles_column",
        ),
        (
            "CCO,1\nCCN,2\n",
            "t.csv has no header: its first line .* holds the SMILES 'CCO'. Add a line with column names",
        ),
        ("id,smiles\n", "t.csv has a header and no rows; expected molecules"),
        ("", "t.csv is empty"),
        ("\n \n", "t.csv is empty"),
        ("id,drug\n1,CCO\n", r"t.csv has no column for 'smiles'; its columns are \['id', 'drug'\].*--smiles_column"),
        ("a" * 2_000_000, "t.csv line 1 has more than 1,000,000 characters"),
        ("id,smiles\n1," + "C" * 10_000_000, "t.csv line 2 has more than 1,000,000 characters"),
        ("id,smiles\n1,CCO\0\n2,CCN\n", "t.csv line 2 holds a zero byte"),
        ("id,smiles\n1,0.1 0.2,An alcohol.\n", "t.csv line 2 has 3 fields"),
        (",".join(f"column {row}" for row in range(50_000)) + "\n", "its columns are .* and 49,980 more"),
        ("1\t0.1 0.2\tAn alcohol.\n", "t.csv is in Text2Mol's format, which has no SMILES"),
    ],
)
def test_malformed_tables_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_molecules(put(tmp_path / "t.csv", content))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


NUMBERED = "rows are numbered; if one of ['ligand', 'logS'] holds ids, name it with --id_column"


@pytest.mark.parametrize("ending", (".csv", ".parquet", "", ".arrow"))
def test_a_table_without_ids_says_that_rows_are_numbered(tmp_path, caplog, ending):
    rows = {"ligand": ["L1", "L2"], "smiles": ["CCO", "CCN"], "logS": ["1", "2"]}
    path = tmp_path / f"t{ending}"
    if ending == ".csv":
        path.write_text("ligand,smiles,logS\nL1,CCO,1\nL2,CCN,2\n")
    elif ending == ".parquet":
        Dataset.from_dict(rows).to_parquet(path)
    elif ending == ".arrow":  # in blocks
        path = path.with_suffix(".parquet")
        Dataset.from_dict(rows).to_parquet(path)
    else:
        Dataset.from_dict(rows).save_to_disk(path)
    for options, lines in (({}, 1), ({"column_mapping": {"ligand": "id"}}, 0)):
        for _ in range(2):  # the second time from the cache
            caplog.clear()
            open_rows(path, **options) if ending == ".arrow" else read_molecules(path, **options)
            assert len([record for record in caplog.records if NUMBERED in record.getMessage()]) == lines
    path = tmp_path / "plain.csv"
    path.write_text("smiles\nCCO\n")
    caplog.clear()
    read_molecules(path)
    assert not caplog.records  # there is no column to name


def test_errors_say_what_is_there(table, tmp_path):
    table.save_to_disk(tmp_path / "t")
    DatasetDict({"pool": table}).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match=r"t has no column 'smi'; its columns are \['CID', 'SMILES', 'note'\]"):
        read_molecules(tmp_path / "t", smiles_column="smi")
    table.remove_columns("SMILES").save_to_disk(tmp_path / "u")
    with pytest.raises(
        ValueError, match=r"no column for 'smiles'; its columns are \['CID', 'note'\].*--smiles_column"
    ):
        read_molecules(tmp_path / "u")
    with pytest.raises(ValueError, match=r"has the splits \['pool'\]; name one by --split, not None"):
        read_molecules(tmp_path / "splits")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_molecules(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is a folder that Dataset.save_to_disk did not write"):
        read_molecules(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.xlsx",
            b"PK\x03\x04rest",
            "a.xlsx is a zip archive or an Excel workbook; unpack it, or save the table as CSV",
        ),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a.csv is a Git LFS pointer"),
        ("a.sdf", b"<!DOCTYPE html><html>", "a.sdf is an HTML page"),
        ("a.csv.bz2", b"BZh91AY", "a.csv.bz2 is a bzip2 archive"),
        ("a.parquet", b"id,smiles\n1,CCO\n", "a.parquet is not a Parquet file, although its name says so"),
        ("a.parquet", b"PAR1 and no more", "a.parquet cannot be read as Parquet"),
        ("a.sdf.gz", gzip.compress(b"x" * 100_000, mtime=0)[:-20], "a.sdf.gz is a damaged or incomplete gzip file"),
        ("a.csv.gz", b"\x1f\x8bnot gzip", "a.csv.gz is a damaged or incomplete gzip file"),
        ("a.sdf", b"", "a.sdf holds no molecule"),
        ("a.smi", b"", "a.smi holds no molecule"),
        ("a.smi", b"SMILES Name\n", "a.smi holds no molecule, only the header"),
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.jsonl", b'{"smiles": "CCO"}\n{"smiles": \n', "a.jsonl line 2 is not a valid JSON object"),
        ("a.jsonl", b'{"smiles": "CCO", "smiles": "CCN"}\n', "a.jsonl line 1 .*the key 'smiles' is repeated"),
        ("a.jsonl", b'["CCO"]\n', "a.jsonl item 1 is a JSON str, expected an object"),
        ("a.jsonl", b'{"smiles": ' + b"[" * 100_000, "a.jsonl line 1 .*nested deeper than 100 levels"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl is not valid JSON: nested"),
        ("a.jsonl", b'{"drug": "CCO"}\n', "a.jsonl has no column for 'smiles'"),
    ],
)
def test_other_content_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_molecules(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_gz_that_is_no_gzip_is_read_by_its_content(tmp_path):
    assert read(put(tmp_path / "a.smi.gz", "CCO a\n"))["smiles"] == ["CCO"]
    (tmp_path / "b.smi").write_bytes(gzip.compress(b"CCO a\n") + gzip.compress(b"CCN b\n"))  # two members, as bgzip
    assert read(tmp_path / "b.smi")["smiles"] == ["CCO", "CCN"]


def test_the_isomeric_column_is_preferred(tmp_path):
    put(tmp_path / "a.csv", "cid,canonical_smiles,isomeric_smiles\n5950,CC(N)C(=O)O,C[C@@H](N)C(=O)O\n")
    molecules = read(tmp_path / "a.csv")
    assert molecules["smiles"] == ["C[C@@H](N)C(=O)O"] and molecules["canonical_smiles"] == ["CC(N)C(=O)O"]


def test_bytes_are_read_and_lists_are_refused(tmp_path):
    pq.write_table(pa.table({"smiles": [b"CCO"], "tags": [["a", "b"]]}), tmp_path / "a.parquet")
    assert read_molecules(tmp_path / "a.parquet")[0] == {"smiles": "CCO", "tags": ["a", "b"]}
    pq.write_table(pa.table({"smiles": [["CCO", "CCN"]]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet: the column 'smiles' holds lists or objects"):
        read_molecules(tmp_path / "b.parquet")
    put(tmp_path / "c.jsonl", '{"smiles": "C", "caption": ["a gas", "a fuel"], "tags": ["x"]}\n')
    assert read_molecules(tmp_path / "c.jsonl")[FAULT][0].startswith(
        "its 'caption' is a list or an object; expected a"
    )


def test_an_error_of_the_disk_names_the_file(tmp_path):
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs Linux")
    (tmp_path / "a.csv").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error: 'a.csv'"):
        read_molecules(tmp_path / "a.csv")


@pytest.mark.parametrize("ending", (".csv", ".parquet"))
def test_rows_without_an_id_in_a_table_with_ids_are_named(tmp_path, caplog, ending):
    path = tmp_path / f"t{ending}"
    if ending == ".csv":
        path.write_text("id,smiles\na,CCO\n,CCN\n ,CCC\n")
    else:
        Dataset.from_dict({"id": ["a", None, ""], "smiles": ["CCO", "CCN", "CCC"]}).to_parquet(path)
    read_molecules(path)
    first = "line 3" if ending == ".csv" else "row 1"
    assert f"2 of 3 rows have no id (the first: {first}). Their ids are their row numbers" in caplog.text
    assert caplog.text.count("no id") == 1
