"""Files that add training pairs and replace captions: what is read, and what is refused."""

import re
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from class_hf.data.loading import load_chebi20
from class_hf.data.source import load_data

HEADER = "CID\tSMILES\tdescription\n"
TRAIN = "1\tCC(=O)O\tAn acid.\n2\tCCO\tAn alcohol.\n"
MORE = "5\tCCN\tAn amine.\tsource\n6\tCCS\tA thiol.\tsource\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "pairs"
    folder.mkdir()
    (folder / "train.tsv").write_text(HEADER + TRAIN)
    (folder / "validation.tsv").write_text(HEADER + "3\tC1CC1\tA ring.\n")
    (folder / "molecules.tsv").write_text(
        "CID\tSMILES\tsplit\n1\tCC(=O)O\ttrain\n2\tCCO\ttrain\n3\tC1CC1\tvalidation\n4\tCCCl\ttest\n"
        "5\tCCN\ttrain\n6\tCCS\ttrain\n7\tCCF\ttrain\n8\tOCC\ttrain\n9\tClCC\ttrain\n"
    )
    (folder / "more.tsv").write_text(HEADER.replace("\n", "\tsource\n") + MORE)
    (folder / "better.tsv").write_text("CID\tdescription\told_quality\n2\tThe molecule is ethanol.\tnear\n")
    return folder


def write(folder: Path, *rows: str) -> str:
    (folder / "rows.tsv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return "rows.tsv"


def pairs(data: DatasetDict) -> dict[str, str]:
    return dict(zip(data["train"]["id"][:], data["train"]["description"][:], strict=True))


def test_pairs_are_added_and_captions_replaced(folder: Path) -> None:
    plain = pairs(load_chebi20(folder))
    data, report = load_chebi20(
        folder, extra_train="more.tsv", replace_captions=[folder / "better.tsv"], return_report=True
    )
    assert pairs(data) == {
        "1": "An acid.", "2": "The molecule is ethanol.", "5": "An amine.", "6": "A thiol."
    }  # fmt: skip
    assert len(data["validation"]) == 1 and len(data["pool"]) == 9
    assert "more.tsv: 2 rows read as further training pairs" in str(report)
    assert "better.tsv: captions of training pairs replaced: 1" in str(report)
    assert pairs(load_chebi20(folder)) == plain == {"1": "An acid.", "2": "An alcohol."}


def test_a_changed_file_is_read_again(folder: Path) -> None:
    assert len(load_chebi20(folder, extra_train="more.tsv")["train"]) == 4
    (folder / "more.tsv").write_text(HEADER + "7\tCCF\tA fluoride.\n")
    assert list(pairs(load_chebi20(folder, extra_train="more.tsv"))) == ["1", "2", "7"]


REFUSED = {
    "1\tCC(=O)O\tAnother.": "rows.tsv line 3): its id is already in train",
    "3\tC1CC1\tA ring.": "its id is already in validation",
    "4\tCCCl\tA chloride.": "its id is already in test",
    "8\tOCC\tAn alcohol.": "its molecule is already in train, with the id 2",
    "9\tClCC\tA chloride.": "its molecule is already in test, with the id 4",
    "77\tCCI\tAn iodide.": "its id is not in the pool (molecules.tsv)",
    "7\tCC(\tA fluoride.": "RDKit cannot parse the SMILES 'CC('",
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_row_of_another_split_or_of_train_is_refused(folder: Path, row: str) -> None:
    name = write(folder, "5\tCCN\tAn amine.", row)
    with pytest.raises(ValueError, match=re.escape(REFUSED[row])) as error:
        load_chebi20(folder, extra_train=name)
    assert "\n" not in str(error.value)
    data, report = load_chebi20(folder, extra_train=name, on_error="drop", return_report=True)
    assert list(pairs(data)) == ["1", "2", "5"] and len(data["validation"]) == 1
    assert REFUSED[row] in str(report.dropped[0])


def test_a_second_file_may_not_repeat_the_first(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"2 rows are not usable, .*more.tsv line 2\): its id is already in train"):
        load_chebi20(folder, extra_train=["more.tsv", "more.tsv"])


CAPTIONS = {
    "9\tUnknown.": "rows.tsv line 2): 0 training pairs have this id",
    "1\t": "empty or missing: description",
    "1\tFirst.\n1\tSecond.": "2 rows have this id",
    "3\tA ring.": "0 training pairs have this id",
}


@pytest.mark.parametrize("rows", CAPTIONS)
def test_a_caption_needs_one_training_pair(folder: Path, rows: str) -> None:
    (folder / "rows.tsv").write_text(f"CID\tdescription\n{rows}\n")
    with pytest.raises(ValueError, match=re.escape(CAPTIONS[rows])) as error:
        load_chebi20(folder, replace_captions="rows.tsv")
    assert "\n" not in str(error.value)
    data, report = load_chebi20(folder, replace_captions="rows.tsv", on_error="drop", return_report=True)
    assert pairs(data) == pairs(load_chebi20(folder))
    assert "rows.tsv: captions of training pairs replaced: 0" in str(report) and CAPTIONS[rows] in str(report)


def test_a_row_that_its_file_gives_to_another_split_is_refused(folder: Path) -> None:
    (folder / "rows.tsv").write_text(HEADER.replace("\n", "\tsplit\n") + "5\tCCN\tA.\tTraining\n6\tCCS\tB.\ttest\n")
    with pytest.raises(ValueError, match=r"rows\.tsv line 3\): its split 'test' is not train"):
        load_chebi20(folder, extra_train="rows.tsv")
    assert list(pairs(load_chebi20(folder, extra_train="rows.tsv", on_error="drop"))) == ["1", "2", "5"]


def test_a_caption_that_is_marked_or_of_another_molecule_replaces_none(folder: Path) -> None:
    (folder / "rows.tsv").write_text("CID\tdescription\tkeep\n1\tWrong.\tno\n2\tEthanol.\tyes\n")
    assert pairs(load_chebi20(folder, replace_captions="rows.tsv")) == {"1": "An acid.", "2": "Ethanol."}
    (folder / "rows.tsv").write_text(HEADER + "1\tCCN\tAn amine.\n2\tOCC\tEthanol.\n")
    with pytest.raises(ValueError, match=r"rows\.tsv line 2\): its SMILES 'CCN' is another molecule than that of the"):
        load_chebi20(folder, replace_captions="rows.tsv")
    data = load_chebi20(folder, replace_captions="rows.tsv", on_error="drop")
    assert pairs(data) == {"1": "An acid.", "2": "Ethanol."}


def test_a_refused_further_pair_does_not_hide_the_pair_of_its_id(folder: Path) -> None:
    files = {"extra_train": write(folder, "2\tCCO\tA solvent."), "replace_captions": "better.tsv"}
    with pytest.raises(ValueError, match=r"rows\.tsv line 2\): its id is already in train"):
        load_chebi20(folder, **files)
    assert pairs(load_chebi20(folder, on_error="drop", **files))["2"] == "The molecule is ethanol."


def test_a_caption_without_smiles_needs_the_id_only(folder: Path) -> None:
    (folder / "rows.tsv").write_text(HEADER + "1\t\tEthanoic acid.\n2\tOCC\tEthanol.\n")
    assert pairs(load_chebi20(folder, replace_captions="rows.tsv")) == {"1": "Ethanoic acid.", "2": "Ethanol."}


def test_a_second_file_may_not_replace_a_caption_again(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"better\.tsv line 2 already replaced the caption of this id"):
        load_chebi20(folder, replace_captions=["better.tsv", "better.tsv"])


def test_pairs_in_the_format_of_text2mol_take_their_smiles_from_the_pool(folder: Path) -> None:
    (folder / "rows.txt").write_text("5\t" + " ".join(["0.1"] * 300) + "\tAn amine.\n")
    data = load_chebi20(folder, extra_train="rows.txt")
    assert data["train"][2] == {"id": "5", "smiles": "CCN", "description": "An amine."}


def test_an_id_of_several_pairs_is_ambiguous(folder: Path) -> None:
    (folder / "train.tsv").write_text(HEADER + TRAIN + "2\tCCO\tA solvent.\n")
    with pytest.raises(ValueError, match="2 training pairs have this id; expected one"):
        load_chebi20(folder, replace_captions="better.tsv")


def test_a_replaced_caption_is_checked_and_located(folder: Path) -> None:
    (folder / "better.tsv").write_text("CID\tdescription\n2\t...\n")
    with pytest.raises(ValueError, match=r"train\.tsv line 3 with the caption of better\.tsv line 2\): its descript"):
        load_chebi20(folder, replace_captions="better.tsv")


def test_files_that_cannot_be_used_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"extra_train: there is no file 'none\.tsv' in .*pairs\) or in the cur"
    ):
        load_chebi20(folder, extra_train="none.tsv")
    with pytest.raises(FileNotFoundError, match="nowhere is neither a folder nor a file"):
        load_chebi20("nowhere", extra_train="more.tsv")
    with pytest.raises(ValueError, match=r"better\.tsv has no column for 'smiles'"):
        load_chebi20(folder, extra_train="better.tsv")
    with pytest.raises(ValueError, match="extra_train and replace_captions cannot be used with the demo set"):
        load_data(None, demo=True, extra_train=["more.tsv"], replace_captions=["better.tsv"])
    DatasetDict(train=Dataset.from_dict({"id": ["1"]})).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="extra_train cannot be used with .*, which holds a prepared data set"):
        load_data(str(tmp_path / "saved"), extra_train=["more.tsv"])
    (folder / "train.tsv").unlink()
    with pytest.raises(ValueError, match=r"more\.tsv is for training pairs, but the data has only"):
        load_chebi20(folder, extra_train="more.tsv")


def test_names_are_relative_to_the_folder_of_a_single_file(folder: Path) -> None:
    rows = "".join(f"{row}\t{'C' * row}O\tText {row}.\n" for row in range(101, 161))
    (folder / "all.tsv").write_text(HEADER + rows)
    data = load_chebi20(folder / "all.tsv", extra_train="more.tsv")
    assert {"5", "6"} <= set(pairs(data)) and {"5", "6"} <= set(data["pool"]["id"][:])
