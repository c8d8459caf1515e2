"""Tables of molecules: the same molecules from every format, and one clear line where there are none."""

import gzip
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from rdkit import Chem

from class_hf.data.molecule_tables import FAULT, PLACE, read_molecules

ROWS = {
    "CID": ["007", "NA", "9"],
    "SMILES": ["CCO", "[Na+].[Cl-]", "C/C=C\\C"],
    "note": ['say "x"', "", "a,b"],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def table():
    return Dataset.from_dict(ROWS)


def read(path, **options):
    """The table as a dictionary, without the places of the rows."""
    molecules = read_molecules(path, **options)
    return molecules.remove_columns([name for name in (PLACE, FAULT) if name in molecules.column_names]).to_dict()


def put(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def write_csv(path, separator, quote):
    lines = [separator.join(ROWS), *(separator.join(map(quote, row)) for row in zip(*ROWS.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


def sdf_record(structure, title="", **properties):
    block = Chem.MolToMolBlock(Chem.MolFromSmiles(structure)).split("\n", 1)[1]
    fields = "".join(f">  <{name}>\n{value}\n\n" for name, value in properties.items())
    return f"{title}\n{block}{fields}$$$$\n"


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


def test_structures_are_those_of_rdkit(tmp_path):
    smiles = ["C[C@H](N)C(=O)O", "C/C=C\\C", "[Na+].[Cl-]", "c1ccc2[nH]ccc2c1", "[2H]C([2H])O", "C[N+](C)(C)C"]
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for text in smiles:
            writer.write(Chem.MolFromSmiles(text))
    wanted = [Chem.MolToSmiles(molecule) for molecule in Chem.SDMolSupplier(str(tmp_path / "a.sdf"))]
    assert read(tmp_path / "a.sdf")["smiles"] == wanted == [Chem.CanonSmiles(text) for text in smiles]


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


def test_a_zero_byte_far_into_a_file(tmp_path):
    text = "id,smiles,name\n" + "".join(f"{row},CCO,ethanol\n" for row in range(1000)) + "z,CCN,a\0b\n"
    with pytest.raises(ValueError, match="a.csv line 1002 holds a zero byte"):
        read_molecules(put(tmp_path / "a.csv", text))
    assert read(tmp_path / "a.csv", on_error="drop")["name"][-1] == "a\ufffdb"


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


# Encodings, line ends and quotes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    lines = ["id,smiles,name", "1,CCO,β-ol", '2,CCN,"a, b"', ""]
    path = put(tmp_path / "a.csv", end.join(lines), encoding)
    assert read(path) == {"id": ["1", "2"], "smiles": ["CCO", "CCN"], "name": ["β-ol", "a, b"]}
    path = put(tmp_path / "a.smi", end.join(["CCO a", "CCN b", ""]), encoding)
    assert read(path) == {"smiles": ["CCO", "CCN"], "id": ["a", "b"]}


def test_latin_1_is_refused_or_read_with_a_warning(tmp_path, caplog):
    text = "id,smiles,name\n1,CCO,ethanol\n2,CCN,Este\u0301 is UTF-8\n"
    content = text.encode() + "3,CCC,5 µM\n".encode("latin-1")
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.csv line 4 is not UTF-8 \(byte 0xb5\).*--encoding cp1252"):
        read_molecules(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", on_error="drop")["name"] == ["ethanol", "Este\u0301 is UTF-8", "5 µM"]
    assert "a.csv: 1 lines are not UTF-8 (the first: line 4) and were read as Windows-1252" in caplog.text
    put(tmp_path / "b.csv", "id,smiles,name\n3,CCC,5 µM\n", "latin-1")
    assert read(tmp_path / "b.csv", encoding="latin-1")["name"] == ["5 µM"]
    with pytest.raises(ValueError, match="--encoding 'klingon' is not known"):
        read_molecules(tmp_path / "b.csv", encoding="klingon")
    with pytest.raises(ValueError, match="b.csv is not utf-16"):
        read_molecules(tmp_path / "b.csv", encoding="utf-16")


def test_separators_spaces_and_quotes(tmp_path):
    wanted = {"id": ["CHEMBL545"], "smiles": ["CCO"]}
    for number, text in enumerate(
        (
            '"ChEMBL ID";"Smiles"\n"CHEMBL545";"CCO"\n',
            '"ChEMBL ID"\t"Smiles"\n"CHEMBL545"\t"CCO"\n',
            "ChEMBL ID, Smiles\nCHEMBL545, CCO\n",
            'id, "smiles"\nCHEMBL545, "CCO"\n',
            "sep=;\nid;smiles\nCHEMBL545;CCO\n",
            "  id ,smiles  \nCHEMBL545,  CCO\t\n".replace("\t", " "),
        )
    ):
        assert read(put(tmp_path / f"{number}.csv", text)) == wanted, text


def test_quotes_of_pandas_are_decoded_and_those_of_molt5_stay(tmp_path):
    pandas = pytest.importorskip("pandas")
    notes = ['a "quoted" word', "plain", '"starts', "tab\tinside", "line\nbreak", 'it"s']
    frame = pandas.DataFrame({"id": list("abcdef"), "smiles": ["CCO"] * 6, "note": notes})
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    assert read(tmp_path / "a.tsv")["note"] == notes
    frame.iloc[[0, 1, 2, 5]].to_csv(tmp_path / "b.tsv", sep="\t", index=False)
    assert read(tmp_path / "b.tsv")["note"] == [notes[row] for row in (0, 1, 2, 5)]
    put(tmp_path / "c.tsv", 'id\tsmiles\tnote\na\tCCO\tA "quoted, caption\nb\tCCN\t"all of it"\nc\tCCC\t5" long\n')
    assert read(tmp_path / "c.tsv")["note"] == ['A "quoted, caption', '"all of it"', '5" long']


def test_a_quote_that_merges_rows_is_refused(tmp_path):
    put(tmp_path / "a.csv", 'id,smiles,note\n1,CCO,"open\n2,CCN,closed"\n3,CCC,x\n')
    with pytest.raises(ValueError, match="a.csv line 2 reaches to line 3, which looks like a row of its own"):
        read_molecules(tmp_path / "a.csv")
    molecules = read_molecules(tmp_path / "a.csv", on_error="drop")
    assert molecules["smiles"][:] == [None, "CCC"] and "is a quote not closed" in molecules[0][FAULT]
    put(tmp_path / "b.csv", 'id,smiles,note\n1,CCO,"two lines,\nwith, commas"\n')
    assert read(tmp_path / "b.csv")["note"] == ["two lines,\nwith, commas"]


def test_a_semicolon_or_comma_inside_a_value_does_not_decide(tmp_path):
    put(tmp_path / "a.csv", "id,smiles,name;alias\n1,CCO,a;b\n")
    assert read(tmp_path / "a.csv") == {"id": ["1"], "smiles": ["CCO"], "name;alias": ["a;b"]}
    put(tmp_path / "b.csv", "id;smiles;weight, Da\n1;CCO;46,07\n")
    assert read(tmp_path / "b.csv") == {"id": ["1"], "smiles": ["CCO"], "weight, Da": ["46,07"]}


# Which molecule, which id


def test_the_isomeric_column_is_preferred(tmp_path):
    put(tmp_path / "a.csv", "cid,canonical_smiles,isomeric_smiles\n5950,CC(N)C(=O)O,C[C@@H](N)C(=O)O\n")
    molecules = read(tmp_path / "a.csv")
    assert molecules["smiles"] == ["C[C@@H](N)C(=O)O"] and molecules["canonical_smiles"] == ["CC(N)C(=O)O"]


def test_the_structure_and_title_of_sdf_win(tmp_path, caplog):
    put(tmp_path / "a.sdf", sdf_record("CC(=O)Oc1ccccc1C(=O)O", "CHEMBL25", smiles="CCO", id="7", SMILES="CCC"))
    assert read(tmp_path / "a.sdf") == {
        "smiles": ["CC(=O)Oc1ccccc1C(=O)O"],
        "id": ["CHEMBL25"],
        "smiles_of_table": ["CCO"],
        "id_of_table": ["7"],
        "SMILES_of_table": ["CCC"],
    }
    assert "columns were renamed" in caplog.text and "'smiles' to 'smiles_of_table'" in caplog.text
    put(tmp_path / "b.sdf", sdf_record("CCO", "x", isomeric_smiles="CCC", PUBCHEM_SMILES="CCN", molecule="CN"))
    assert read(tmp_path / "b.sdf")["smiles"] == ["CCO"]
    assert read(tmp_path / "b.sdf", smiles_column="PUBCHEM_SMILES")["smiles"] == ["CCN"]


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({"chembl_id": "CHEMBL545"}, "CHEMBL545"),
        ({"ChEBI ID": "CHEBI:16236", "Definition": "An alcohol."}, "CHEBI:16236"),
        ({"PUBCHEM_COMPOUND_CID": "702"}, "702"),
        ({"DRUGBANK_ID": "DB00898", "NAME": "ethanol"}, "DB00898"),
        ({"Molecule ChEMBL ID": "CHEMBL545"}, "CHEMBL545"),
        ({"weight": "46"}, None),
    ],
)
def test_the_usual_ids_are_taken_where_titles_are_empty(tmp_path, properties, wanted):
    put(tmp_path / "a.sdf", sdf_record("CCO", **properties))
    assert read(tmp_path / "a.sdf")["id"] == [wanted]
    put(tmp_path / "b.sdf", sdf_record("CCO", "title", **properties))
    assert read(tmp_path / "b.sdf")["id"] == ["title"]
    if wanted:
        put(tmp_path / "a.csv", f"smiles,{','.join(properties)}\nCCO,{','.join(properties.values())}\n")
        assert read(tmp_path / "a.csv")["id"] == [wanted]


def test_sdf_records_that_cannot_be_read_are_named(tmp_path, capfd):
    no_atoms = "\n  Ketcher\n\n  0  0  0     0  0            999 V2000\nM  END\n>  <ChEBI ID>\nCHEBI:192499\n\n$$$$\n"
    broken = "broken one\n     x\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n    0.0 0.0 C\nM  END\n$$$$\n"
    valence = sdf_record("CC(C)(C)C", "five").replace("  1  2  1  0", "  1  2  3  0")
    put(tmp_path / "a.sdf", sdf_record("CCO", "1") + broken + no_atoms + valence + sdf_record("CCN", "2"))
    molecules = read_molecules(tmp_path / "a.sdf")
    assert molecules["smiles"][:] == ["CCO", None, None, None, "CCN"]
    places = ["record 1 '1'", "record 2 'broken one'", "record 3 'CHEBI:192499'", "record 4 'five'", "record 5 '2'"]
    assert molecules[PLACE][:] == [f"a.sdf {place}" for place in places]
    faults = molecules[FAULT][:]
    assert faults[1].startswith("RDKit cannot read the mol block (") and faults[2] == "its mol block has no atoms"
    assert faults[3].startswith("RDKit cannot read the mol block (") and len(faults[3]) > 50
    assert capfd.readouterr().err == ""


def test_other_characters_in_a_mol_block_are_refused(tmp_path):
    record = sdf_record("CCO", "a").replace("  3  2  0", "\u200b  3  2  0")
    molecules = read_molecules(put(tmp_path / "a.sdf", record + sdf_record("CCN", "\u03b2-amine")))
    assert molecules["smiles"][:] == [None, "CCN"] and molecules["id"][:] == ["a", "\u03b2-amine"]
    assert molecules[FAULT][0].startswith("RDKit cannot read the mol block (")


@pytest.mark.parametrize(
    "between",
    [
        "",  # directly after M  END
        "> <x>\n1\n\n",  # after a property
        "> <x>\n1\n",  # after a property without its blank line
        "$$$\n",  # a separator that is cut
        "M  END\n",
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_concatenated_mol_blocks_are_counted(tmp_path, between, cut):
    blocks = [Chem.MolToMolBlock(Chem.MolFromSmiles(smiles)) for smiles in ("CCO", "CCN")]
    text = between.join(blocks)
    content = text.removesuffix("M  END\n") if cut else text
    (tmp_path / "a.sdf.gz").write_bytes(gzip.compress(content.encode()))
    faults = read_molecules(tmp_path / "a.sdf.gz")[FAULT][:]
    assert len(faults) == 1 and re.fullmatch(r"holds \d mol blocks; separate them by lines with .*", faults[0])


def test_a_mol_block_has_the_limits_of_a_smiles(tmp_path):
    rings = Chem.MolFromSmiles("C1CC1" * 320, sanitize=False)
    put(tmp_path / "a.sdf", Chem.MolToV3KMolBlock(rings, kekulize=False) + "$$$$\n")
    assert read_molecules(tmp_path / "a.sdf")[FAULT][:] == ["its mol block has 320 rings; the limit is 300"]


def test_mol_blocks_without_a_separator_are_found(tmp_path):
    blocks = "".join(Chem.MolToMolBlock(Chem.MolFromSmiles(smiles)) for smiles in ("CCO", "CCN", "CCC"))
    put(tmp_path / "a.sdf", blocks)
    molecules = read_molecules(tmp_path / "a.sdf")
    assert molecules["smiles"][:] == [None]
    assert molecules[FAULT][:] == ["holds 3 mol blocks; separate them by lines with $$$$"]
    assert read(put(tmp_path / "one.mol", Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))))["smiles"] == ["CCO"]


def test_latin_1_in_an_sdf_names_the_record(tmp_path):
    text = sdf_record("CCO", "m1", note="a") + sdf_record("CCN", "m2", note="5 µM") + sdf_record("CCC", "m3")
    (tmp_path / "a.sdf").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"record 2 'm2', property 'note': a.sdf line \d+ is not UTF-8"):
        read_molecules(tmp_path / "a.sdf")
    assert read(tmp_path / "a.sdf", on_error="drop")["note"] == ["a", "5 µM", None]
    assert read(tmp_path / "a.sdf", encoding="latin-1")["note"] == ["a", "5 µM", None]


def test_values_of_several_lines_and_odd_properties(tmp_path):
    record = sdf_record("CCO", "a").removesuffix("$$$$\n")
    record += "> 25  <MELTING.POINT>  (1)\n179.0\n\n>  <comment>\nfirst\n> second <x>\n\n>  <empty>\n\n$$$$\n"
    molecules = read(put(tmp_path / "a.sdf", record.replace("\n", "\r\n")))
    assert molecules["MELTING.POINT"] == ["179.0"] and molecules["empty"] == [""]
    assert molecules["comment"] == ["first\n> second <x>"]


# SMILES files


@pytest.mark.parametrize(
    ("text", "smiles", "ids"),
    [
        ("SMILES Name\nCCO a\nCCN b\n", ["CCO", "CCN"], ["a", "b"]),
        ("#smiles id\nCCO a\n", ["CCO"], ["a"]),
        ("smiles\nCCO\n", ["CCO"], [None]),
        ("smiles\tzinc_id\tmwt\nCCO\tZ1\t46.1\n", ["CCO"], ["Z1"]),
        ("smiles zinc_id mwt\nCCO Z1 46.1\n", ["CCO"], ["Z1"]),
        ("id smiles\nZ1 CCO\n", ["CCO"], ["Z1"]),
        ("\ufeffCCO a\nCCN b\n", ["CCO", "CCN"], ["a", "b"]),
        ("  CCO\ta b c \n\n\tCCN\n", ["CCO", "CCN"], ["a b c", None]),
        (
            "C[C@H](O)CC |&1:1| rac-2-butanol\n*CC* |$_AP1;;;_AP2$| PE\nCCN plain\n",
            None,
            ["rac-2-butanol", "PE", "plain"],
        ),
        ("CCO |not an extension\n", ["CCO"], ["|not an extension"]),
    ],
)
def test_dialects_of_smiles_files(tmp_path, text, smiles, ids):
    molecules = read(put(tmp_path / "a.smi", text))
    wanted = smiles or ["C[C@H](O)CC |&1:1|", "*CC* |$_AP1;;;_AP2$|", "CCN"]
    assert molecules["smiles"] == wanted and molecules["id"] == ids


def test_an_id_in_front_is_pointed_out(tmp_path):
    put(tmp_path / "a.smi", "Z1\tCCO\nZ2\tCCN\n")
    with pytest.raises(ValueError, match="a.smi line 1: the second field 'CCO' is a SMILES, the first 'Z1' is not"):
        read_molecules(tmp_path / "a.smi")


def test_many_rows_are_read_in_chunks(tmp_path: Path):
    count = 25_000
    text = "".join(f"{'C' * (row % 30 + 1)}O m{row}\n" for row in range(count))
    molecules = read_molecules(put(tmp_path / "a.smi", text))
    assert len(molecules) == count and molecules[count - 1]["id"] == f"m{count - 1}"
    assert molecules[count - 1][PLACE] == f"a.smi line {count}"


def test_a_repeated_property_is_a_fault_of_its_record(tmp_path):
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    put(tmp_path / "a.sdf", f"{block}> <x>\n1\n\n> <x>\n2\n\n$$$$\n{block}> <x>\n1\n\n> <X>\n2\n\n$$$$\n")
    assert read_molecules(tmp_path / "a.sdf")[FAULT][:] == ["has the property 'x' twice", None]


def test_half_a_character_in_json_names_the_line(tmp_path):
    put(tmp_path / "a.jsonl", '{"smiles": "C", "id": "\\ud83e\\uddea"}\n{"smiles": "CC", "id": "\\ud800"}\n')
    with pytest.raises(ValueError, match=r"a.jsonl line 2 is not valid text: '\\ud800' is half of a character"):
        read_molecules(tmp_path / "a.jsonl")
    molecules = read_molecules(tmp_path / "a.jsonl", on_error="drop")
    assert molecules["id"][:] == ["\U0001f9ea", None] and "half of a character" in molecules[FAULT][1]


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


@pytest.mark.parametrize("encoding", ["hex", "rot13", "undefined", "unicode_escape", "idna", "x" * 500])
def test_codecs_that_no_file_has(tmp_path, encoding):
    put(tmp_path / "a.csv", "smiles\nC\n")
    with pytest.raises(ValueError, match=r"--encoding '\w+' is not known; expected for instance") as error:
        read_molecules(tmp_path / "a.csv", encoding=encoding)
    assert len(str(error.value)) < 150
