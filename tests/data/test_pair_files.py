"""Pairs of other people's files: the right pairs, or one clear line."""

import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset
from rdkit import Chem

from class_hf.data.loading import load_chebi20, load_pairs
from class_hf.data.source import load_data

PAIRS = {
    "id": ["1", "2", "3"],
    "smiles": ["CCO", "C/C=C\\C", "C[C@H](O)CC |&1:1|"],
    "description": ['An "alcohol".', "An alkene; with a double bond, cis.", "A racemate."],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, **options):
    return load_pairs(path, **options).to_dict()


def test_a_description_without_a_word_is_refused_and_counted(tmp_path):
    path = put(tmp_path / "a.csv", "id,smiles,description\n1,CCO,An alcohol.\n2,CCN,---\n3,CCC,\u70f7\n")
    with pytest.raises(ValueError, match="row 1 .*its description '---' has no letter and no digit"):
        load_pairs(path)
    assert read(path, on_error="drop")["id"] == ["1", "3"]


def test_a_hub_id_is_never_read_from_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "pairs").mkdir(parents=True)
    with pytest.raises(ValueError, match="--dataset_name is 'me/pairs', but a folder or file of this name is here"):
        load_data(None, "me/pairs")


def test_every_format_gives_the_same_pairs(tmp_path):
    table = Dataset.from_dict(PAIRS)
    table.to_csv(tmp_path / "a.csv")
    table.to_csv(tmp_path / "b.csv", sep=";")
    table.to_csv(tmp_path / "a.tsv", sep="\t")
    table.to_json(tmp_path / "a.jsonl")
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(list(table)))
    for name in ("a.csv", "b.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"):
        assert read(tmp_path / name) == PAIRS, name
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        assert read(tmp_path / f"{name}.gz") == PAIRS, f"{name}.gz"


def test_a_folder_may_mix_formats(tmp_path):
    table = Dataset.from_dict(PAIRS)
    table.select([0]).to_csv(tmp_path / "train.csv")
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress((tmp_path / "train.csv").read_bytes()))
    (tmp_path / "train.csv").unlink()
    table.select([1]).to_parquet(tmp_path / "validation.parquet")
    table.select([2]).to_json(tmp_path / "test.jsonl")
    data = load_chebi20(tmp_path)
    assert {split: rows["id"][:] for split, rows in data.items()} == {
        "train": ["1"],
        "validation": ["2"],
        "test": ["3"],
        "pool": ["1", "2", "3"],
    }


def test_an_sdf_without_titles_numbers_its_pairs(tmp_path):
    """As a CSV without ids. One missing title among others is a fault."""
    file = tmp_path / "pairs.sdf"

    def write(title_of):
        with Chem.SDWriter(str(file)) as writer:
            for number in range(1, 31):
                molecule = Chem.MolFromSmiles("C" * number + "O")
                molecule.SetProp("_Name", title_of(number))
                molecule.SetProp("description", f"An alcohol of {number} carbons.")
                writer.write(molecule)

    write(lambda number: "")
    data = load_chebi20(file)
    ids = [name for split in ("train", "validation", "test") for name in data[split]["id"]]
    assert sorted(map(int, ids)) == list(range(1, 31))
    write(lambda number: "" if number == 3 else f"t{number}")
    with pytest.raises(ValueError, match=r"pairs.sdf record 3\): empty or missing: id"):
        load_chebi20(file)


def test_an_sdf_with_captions_holds_pairs(tmp_path):
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")).split("\n", 1)[1]
    fields = ">  <caption>\nAn alcohol.\n\n>  <isomeric_smiles>\nCCN\n\n"
    put(tmp_path / "a.sdf", f"ethanol\n{block}{fields}$$$$\n")
    assert read(tmp_path / "a.sdf") == {"id": ["ethanol"], "smiles": ["CCO"], "description": ["An alcohol."]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    lines = ["CID\tSMILES\tdescription", "1\tCCO\tβ-ol", "2\tCCN\tan amine", ""]
    pairs = read(put(tmp_path / "a.tsv", end.join(lines), encoding))
    assert pairs["description"] == ["β-ol", "an amine"] and pairs["id"] == ["1", "2"]


def test_latin_1_stops_or_is_read_and_reported(tmp_path):
    text = "id,smiles,description\n1,CCO,5 µM\n2,CCN,plain\n"
    path = put(tmp_path / "a.csv", text, "latin-1")
    with pytest.raises(ValueError, match=r"a.csv line 2 is not UTF-8 \(byte 0xb5\).*--encoding cp1252"):
        load_pairs(path)
    assert read(path, encoding="latin-1")["description"] == ["5 µM", "plain"]
    assert read(path, on_error="drop")["description"] == ["5 µM", "plain"]
    rows = "".join(f"{row},{'C' * row}O,5 µM of it\n" for row in range(1, 60))
    path = put(tmp_path / "b.csv", "id,smiles,description\n" + rows, "latin-1")
    _, report = load_chebi20(path, on_error="drop", return_report=True)
    assert not report.dropped and "59 lines are not UTF-8 (the first: line 2)" in str(report)
    _, report = load_chebi20(path, on_error="drop", return_report=True)  # from the cache
    assert "59 lines are not UTF-8" in str(report)


def test_rows_with_too_many_or_few_fields_stop_or_are_dropped(tmp_path):
    rows = "".join(f"{row},{'C' * row}O,text {row}\n" for row in range(1, 60))
    path = put(tmp_path / "a.csv", f"id,smiles,description\n{rows}60,CCN,one, two\n61,CCS\n")
    with pytest.raises(ValueError, match="a.csv line 61 has 4 fields where the header has 3.*--on_error drop"):
        load_chebi20(path)
    data, report = load_chebi20(path, on_error="drop", return_report=True)
    assert sum(len(rows) for split, rows in data.items() if split != "pool") == 59
    assert [str(row).split("(")[1] for row in report.dropped] == [
        "id missing, a.csv line 61): it has 4 fields where the header has 3.",
        "id missing, a.csv line 62): it has 2 fields where the header has 3.",
    ]


@pytest.mark.parametrize("good", [0, 999, 1000, 1001, 10_001])
def test_a_fault_anywhere_in_the_file_is_found(tmp_path, good):
    lines = [f"{row},{'C' * (row % 20 + 1)}O,text {row}\n" for row in range(good)]
    bad = ["b,C1CC(,x\n"]
    after = [f"z{row},{'C' * (row % 20 + 1)}N,text {row}\n" for row in range(1001)]
    path = put(tmp_path / "a.csv", "id,smiles,description\n" + "".join(lines + bad + after))
    with pytest.raises(ValueError, match=rf"pairs row {good} \(id b, a.csv line {good + 2}\): RDKit cannot parse"):
        load_pairs(path)
    assert len(load_pairs(path, on_error="drop")) == good + 1001


def test_several_captions_of_one_molecule_are_pairs_of_their_own(tmp_path):
    rows = [(number, "C" * number + "O", caption) for number in range(1, 60) for caption in ("first", "second")]
    lines = "".join(f"{number},{smiles},{caption} text of {number}\n" for number, smiles, caption in rows)
    path = put(tmp_path / "a.csv", f"CID,SMILES,description\n{lines}1,OC,another spelling of 1\n")
    data, report = load_chebi20(path, return_report=True)
    pairs = [row for split, table in data.items() if split != "pool" for row in table]
    assert len(pairs) == 119 and not report.dropped and sum(report.repeated.values()) == 60
    assert "60 pairs are further captions of a molecule with the same id" in str(report)
    assert len(data["pool"]) == 59 == len(set(data["pool"]["id"]))
    # The captions of a molecule are in one split.
    splits = {row["id"]: set() for row in pairs}
    for split, table in data.items():
        for key in table["id"] if split != "pool" else []:
            splits[key].add(split)
    assert all(len(names) == 1 for names in splits.values())


def test_an_id_of_two_molecules_is_refused(tmp_path):
    path = put(tmp_path / "a.csv", "id,smiles,description\n1,CCO,x\n1,CCN,y\n")
    with pytest.raises(
        ValueError, match=r"row 1 \(id 1, a.csv line 3\): its id is also that of row 0, which has another"
    ):
        load_pairs(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "CCO,1,An alcohol.\nCCN,2,An amine.\n", "a.csv has no header: its first line .* the SMILES 'CCO'"),
        ("a.csv", "id,smiles,description\n", "a.csv has a header and no rows"),
        ("a.csv", "", "a.csv is empty"),
        ("a.jsonl", '{"id": 1, "smiles": "CCO"}\n', "a.jsonl has no column for 'description'.*--text_column"),
        ("a.jsonl", '{"id": 1, "smiles": "CCO", "text": "x"}\nnull\n', "a.jsonl line 2 is a JSON NoneType"),
        ("a.csv", "id,smiles,text,text\n1,CCO,x,y\n", "a.csv line 1 has 2 columns 'text'"),
        ("a.csv", "id,smiles,text,caption\n1,CCO,x,y\n", "could each be 'description'. Name it with --text_column"),
        (
            "a.csv",
            'id,smiles,text\n1,CCO,"open\n',
            "a.csv line 2 is not valid CSV: unexpected end of data; is a quote",
        ),
        ("a.csv", f"id,smiles,text\n1,CCO,{'x' * 500_000}\n", "a.csv line 2 is not valid CSV: field larger than"),
        ("a.csv", f"id,smiles,text\n1,CCO,{'x' * 10_000_000}\n", "a.csv line 2 has more than 1,000,000 characters"),
        ("a.csv", "id,smiles,text\n1,CCO\ufeff,x\n", r"has the character U\+FEFF"),
        ("a.csv", "id,smiles,text\n1,CCO\u00a0,x\n", r"has the character U\+00A0"),
        ("a.csv", "id,smiles,text\n1,CCO ethanol,x\n", "the SMILES 'CCO' is followed by 'ethanol'"),
        ("a.csv", "id,smiles,text\n1,CCO |&1:1,x\n", r"is followed by '\|&1:1'"),
    ],
)
def test_wrong_files_are_named(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load_pairs(put(tmp_path / name, text))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_options_reach_the_reader(tmp_path):
    path = put(tmp_path / "a.csv", "key,drug,note\n" + "".join(f"{n},{'C' * n}O,text {n}\n" for n in range(1, 60)))
    mapping = {"key": "id", "drug": "smiles", "note": "description"}
    data, _ = load_data(str(path), column_mapping=mapping)
    assert len(data["pool"]) == 59 and data["pool"].column_names == ["id", "smiles", "split"]
    with pytest.raises(ValueError, match="column_mapping cannot be used with the demo set"):
        load_data(None, demo=True, column_mapping=mapping)
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="encoding cannot be used with .*which holds a prepared data set"):
        load_data(str(tmp_path / "saved"), encoding="utf-8")
