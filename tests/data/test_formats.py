"""The file formats, each from files written here."""

import csv
from pathlib import Path

import pytest
from rdkit import Chem

from class_hf.data.columns import PAIR_COLUMNS, check_mapping, pick_columns
from class_hf.data.formats import Table, find_files, read_files, split_of
from class_hf.data.sdf import pubchem_smiles
from class_hf.data.text_files import SourceFile

VECTOR = "0.25 -1.5e-3 3"


def read(path: Path, **column_mapping: str) -> Table:
    return read_files({"train": SourceFile(path.name, path)}, column_mapping)["train"]


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *[(name, "train") for name in ("train", "training", "Train", "mol2vec_ChEBI_20_training")],
        *[(name, "validation") for name in ("validation", "val", "valid", "dev", "VAL")],
        *[("test", "test"), ("molecules", "pool"), ("pool", "pool")],
        *[("train_provenance", None), ("README", None)],
    ],
)
def test_split_names(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_files_are_found_by_name_and_others_ignored(tmp_path: Path) -> None:
    for name in (
        "training.txt",
        "DEV.CSV",
        "molecules.tsv",
        "train_provenance.tsv",
        "README.txt",
        "test.sdf",
    ):
        (tmp_path / name).touch()
    (tmp_path / "test.tsv").mkdir()
    files = {split: file.name for split, file in find_files(tmp_path).items()}
    assert files == {"train": "training.txt", "validation": "DEV.CSV", "pool": "molecules.tsv"}


def test_a_folder_without_pairs_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no file of pairs \(its files: nothing\)"):
        find_files(tmp_path)
    (tmp_path / "molecules.tsv").touch()
    (tmp_path / "pairs.json").touch()
    with pytest.raises(
        FileNotFoundError, match=r"\(its files: molecules.tsv, pairs.json\). Expected train, validation"
    ):
        find_files(tmp_path)


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("val.tsv", "validation.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="val.tsv and validation.txt both hold the validation split; keep one"):
        find_files(tmp_path)


# Tab separated (MolT5)


def test_tabs_with_byte_order_mark_windows_line_ends_and_blank_lines(tmp_path: Path) -> None:
    lines = [
        "\ufeffCID\tSMILES\tdescription",
        '1\tCC\tA "quoted, caption',
        "",
        "2\tCO\tline\u2028separator",
        "",
        "",
    ]
    table = read(put(tmp_path / "train.txt", "\r\n".join(lines)))
    assert table.columns == {
        "id": ["1", "2"],
        "smiles": ["CC", "CO"],
        "description": ['A "quoted, caption', "line\u2028separator"],
    }
    assert table.places == [f"{table.where} line 2", f"{table.where} line 4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.tsv is empty"),
        ("CID\tSMILES\tdescription\n", "train.tsv has a header and no rows"),
        (
            "CID\tSMILES\tdescription\n1\tCC\tx\n2\tCC\n",
            "train.tsv line 3 has 2 fields where the header has 3",
        ),
        (
            "CID\tSMILES\tdescription\n1\tCC\tx\ty\n",
            "train.tsv line 2 has 4 fields where the header has 3",
        ),
        (
            "CID\tSMILES\tcomment\n1\tCC\tx\n",
            r"train.tsv has no column for 'description'; its columns are \['CID', 'SMILES', 'comment'\]. "
            r"Name it with --text_column '<NAME>' or --column_mapping '{\"<NAME>\": \"description\"}'",
        ),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
    ],
)
def test_a_malformed_file_is_located(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(put(tmp_path / "train.tsv", text))


def test_another_encoding_is_located(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes("CID\tSMILES\tdescription\n1\tCC\tβ-ol\n2\tCO\tEsté\n".encode("latin-1", "replace"))
    with pytest.raises(
        ValueError, match=r"train.tsv line 3 is not UTF-8 \(byte 0xe9\)\. Name the encoding with --encoding"
    ):
        read(path)


# Comma separated (ORMA)


def test_commas_with_quotes_index_column_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["", "cid", "isosmiles", "text"])
        writer.writerow([0, 1, "CC", 'Says "so", twice,\nhere'])
        writer.writerow([1, 2, "CO", "plain"])
    table = read(path)
    assert table.columns["description"] == ['Says "so", twice,\nhere', "plain"]
    assert table.columns["id"] == ["1", "2"]
    assert table.places == [f"{table.where} line 2", f"{table.where} line 4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id,smiles,text\n1,CC,"open\n2,CO,x\n', "train.csv line 2 is not valid CSV: unexpected end of data"),
        ('id,smiles,text\n1,CC,"a"b\n', "train.csv line 2 is not valid CSV"),
        ("id,smiles,text\n\n1,CC,a,b\n", "train.csv line 3 has 4 fields"),
    ],
)
def test_malformed_csv_is_located(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(put(tmp_path / "train.csv", text))


# Columns


def test_a_mapping_goes_before_the_synonyms_and_settles_doubt() -> None:
    header = ["CID", "SMILES", "isosmiles", "caption"]
    with pytest.raises(
        ValueError, match=r"\['SMILES', 'isosmiles'\] could each be 'smiles'. Name it with --smiles_column 'SMILES'"
    ):
        pick_columns("a.csv", header, PAIR_COLUMNS, {})
    chosen = pick_columns("a.csv", header, PAIR_COLUMNS, {"isosmiles": "smiles"})
    assert chosen == {"id": 0, "smiles": 2, "description": 3}
    # A column mapped to one thing is not taken for another.
    assert pick_columns("a.csv", ["text", "x", "y"], ["id"], {"text": "id"}) == {"id": 0}


def test_smiles_with_stereochemistry_are_preferred() -> None:
    header = ["id", "canonical_smiles", "isomeric_smiles", "connectivity_smiles"]
    assert pick_columns("a.csv", header, ["smiles"], {}) == {"smiles": 2}
    assert pick_columns("a.csv", [header[0], header[3], header[1]], ["smiles"], {}) == {"smiles": 2}


def test_smiles_without_stereochemistry_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(put(tmp_path / "train.csv", "id,canonical_smiles,text\n1,CC(N)C(=O)O,alanine\n"))
    assert "train.csv: the SMILES are taken from the column 'canonical_smiles' and have no stereo" in caplog.text
    caplog.clear()
    read(put(tmp_path / "train.csv", "id,canonical_smiles,text\n1,C[C@H](N)C(=O)O,alanine\n"))
    assert not caplog.text


def test_the_mapping_reaches_the_files_that_have_the_column(tmp_path: Path) -> None:
    put(tmp_path / "train.tsv", "key\tdrug\tcaption\n1\tCC\tx\n")
    put(tmp_path / "molecules.tsv", "key\tdrug\tpart\n1\tCC\ttrain\n")
    mapping = {"key": "id", "drug": "smiles", "part": "split"}
    tables = read_files(find_files(tmp_path), mapping)
    assert tables["train"].columns == {"id": ["1"], "smiles": ["CC"], "description": ["x"]}
    assert tables["pool"].columns == {"id": ["1"], "smiles": ["CC"], "split": ["train"]}
    headers = {table.where: table.header for table in tables.values()}
    check_mapping(mapping, headers)
    with pytest.raises(ValueError, match=r"molecules.tsv and train.tsv has no column 'Drug'.*did you mean 'drug'\?"):
        check_mapping({"Drug": "smiles"}, headers)


# Text2Mol


def sdf_record(smiles: str, title: str = "", **properties: str) -> str:
    block = Chem.MolToMolBlock(Chem.MolFromSmiles(smiles))
    fields = "".join(f"> <{name}>\n{value}\n\n" for name, value in properties.items())
    return f"{title}{block}{fields}$$$$\n"


@pytest.fixture
def text2mol(tmp_path: Path) -> Path:
    put(tmp_path / "training.txt", f"1\t{VECTOR}\tThe first.\n2\t{VECTOR}\tThe second.\n")
    put(tmp_path / "val.txt", f"3\t{VECTOR}\tThe third.\n")
    put(tmp_path / "ChEBI_defintions_substructure_corpus.cp", "1: 3537119515 2059730245\n")
    return tmp_path


def test_text2mol_joins_smiles_from_sdf_by_property_or_title(text2mol: Path) -> None:
    put(
        text2mol / "training.sdf",
        sdf_record("CC", PUBCHEM_COMPOUND_CID="1", PUBCHEM_OPENEYE_ISO_SMILES=r"F/C=C\F")
        + sdf_record("C[C@H](N)C(=O)O", title="2"),
    )
    put(text2mol / "val.sdf", sdf_record("CO", title="x", PUBCHEM_COMPOUND_CID="3", PUBCHEM_SMILES="OC"))
    tables = read_files(find_files(text2mol), {})
    # PubChem's own spelling where the record carries it.
    assert tables["train"].columns["smiles"][0] == r"F/C=C\F"
    assert tables["validation"].columns == {"id": ["3"], "smiles": ["OC"], "description": ["The third."]}
    # From the mol block otherwise, with its stereo centre.
    written = tables["train"].columns["smiles"][1]
    assert written == Chem.CanonSmiles("C[C@H](N)C(=O)O") and "@" in written
    assert tables["train"].places == [f"{tables['train'].where} line 1", f"{tables['train'].where} line 2"]


def test_text2mol_joins_smiles_from_the_pool(text2mol: Path) -> None:
    put(text2mol / "molecules.tsv", "CID\tSMILES\tsplit\n1\tCC\ttrain\n3\tCO\tval\n")
    tables = read_files(find_files(text2mol), {})
    assert tables["train"].columns["smiles"] == ["CC", ""]  # an empty SMILES is refused in the checks
    assert tables["validation"].columns["smiles"] == ["CO"]


def test_text2mol_without_molecules_says_what_to_add(text2mol: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training.txt is in Text2Mol's format.*Put Text2Mol's \*.sdf files"):
        read_files(find_files(text2mol), {})
    put(text2mol / "training.sdf", sdf_record("CC", title="1"))
    with pytest.raises(ValueError, match=r"val.txt: none of its 1 CIDs \(3, ...\) is among the 1 molecules"):
        read_files(find_files(text2mol), {})
    put(text2mol / "val.sdf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="val.sdf is a Git LFS pointer"):
        read_files(find_files(text2mol), {})


def test_sdf_records_that_rdkit_cannot_read_are_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = sdf_record("CC", title="1") + "2\n\n\nnot a mol block\n$$$$\n" + sdf_record("CO", title="3")
    path = put(tmp_path / "a.sdf", text.removesuffix("$$$$\n"))
    assert pubchem_smiles(SourceFile("a.sdf", path)) == {"1": "CC", "3": "CO"}
    assert capfd.readouterr().err == ""
