"""Encodings, line ends, separators and quotes of text tables, and dialects of SMILES files."""

from pathlib import Path

import datasets
import pytest
from table_files import put, read

from class_hf.data.molecule_tables import FAULT, PLACE, read_molecules


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_zero_byte_far_into_a_file(tmp_path):
    text = "id,smiles,name\n" + "".join(f"{row},CCO,ethanol\n" for row in range(1000)) + "z,CCN,a\0b\n"
    with pytest.raises(ValueError, match="a.csv line 1002 holds a zero byte"):
        read_molecules(put(tmp_path / "a.csv", text))
    assert read(tmp_path / "a.csv", on_error="drop")["name"][-1] == "a\ufffdb"


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


def test_bars_separate_columns(tmp_path):
    put(tmp_path / "a.csv", 'id|smiles|name, alias\n1|CCO|"a|b"\n2|CCN|c\n')
    assert read(tmp_path / "a.csv") == {"id": ["1", "2"], "smiles": ["CCO", "CCN"], "name, alias": ["a|b", "c"]}
    put(tmp_path / "b.csv", "id,smiles|x,name\n1,CCO,a|b\n")
    with pytest.raises(ValueError, match=r"no column for 'smiles'; its columns are \['id', 'smiles|x', 'name'\]"):
        read_molecules(tmp_path / "b.csv")
    put(tmp_path / "c.csv", "id|smiles\n1|C[C@H](O)CC |&1:1|\n")
    with pytest.raises(ValueError, match="c.csv line 2 has 4 fields where the header has 2"):
        read_molecules(tmp_path / "c.csv")


@pytest.mark.parametrize("separator", [":", " ", "^", "~", " / "])
def test_an_unknown_separator_is_the_cause_that_is_named(tmp_path, separator):
    put(tmp_path / "a.csv", separator.join(["id", "smiles", "text"]) + "\n" + separator.join("1 CCO x".split()) + "\n")
    with pytest.raises(ValueError, match="single column: separate columns by a comma, semicolon, bar or tab"):
        read_molecules(tmp_path / "a.csv")


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


def test_half_a_character_in_json_names_the_line(tmp_path):
    put(tmp_path / "a.jsonl", '{"smiles": "C", "id": "\\ud83e\\uddea"}\n{"smiles": "CC", "id": "\\ud800"}\n')
    with pytest.raises(ValueError, match=r"a.jsonl line 2 is not valid text: '\\ud800' is half of a character"):
        read_molecules(tmp_path / "a.jsonl")
    molecules = read_molecules(tmp_path / "a.jsonl", on_error="drop")
    assert molecules["id"][:] == ["\U0001f9ea", None] and "half of a character" in molecules[FAULT][1]


@pytest.mark.parametrize("encoding", ["hex", "rot13", "undefined", "unicode_escape", "idna", "x" * 500])
def test_codecs_that_no_file_has(tmp_path, encoding):
    put(tmp_path / "a.csv", "smiles\nC\n")
    with pytest.raises(ValueError, match=r"--encoding '\w+' is not known; expected for instance") as error:
        read_molecules(tmp_path / "a.csv", encoding=encoding)
    assert len(str(error.value)) < 150
