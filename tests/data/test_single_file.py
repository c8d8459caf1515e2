"""One file with all pairs: `load_chebi20("pairs.csv")`."""

from pathlib import Path

import pytest

from class_hf.data.loading import load_chebi20
from class_hf.data.single_file import split_of_molecule

CHAINS = ["C" * length + end for length in range(1, 41) for end in ("O", "N", "S")]


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def splits_of(path: Path, cache: Path) -> dict[str, str]:
    data = load_chebi20(path, cache_dir=cache)
    return {row["id"]: split for split, pairs in data.items() if split != "pool" for row in pairs}


def test_the_molecule_decides_the_split_whatever_the_order_and_the_spelling(tmp_path: Path) -> None:
    rows = [f'{number},{smiles},"a chain, number {number}"' for number, smiles in enumerate(CHAINS)]
    # "OCC" is CCO again: another id and caption, the same molecule.
    rows.append("again,OCC,ethanol in other words")
    one = splits_of(write(tmp_path / "one.csv", "id,smiles,description", rows), tmp_path / "cache")
    other = splits_of(write(tmp_path / "two.csv", "id,smiles,description", rows[::-1]), tmp_path / "cache")
    assert one == other
    assert one["again"] == one[str(CHAINS.index("CCO"))]
    assert {*one.values()} == {"train", "validation", "test"}
    assert one == {**{str(n): split_of_molecule(s) for n, s in enumerate(CHAINS)}, "again": split_of_molecule("CCO")}


def test_shares_are_about_80_10_10() -> None:
    splits = [split_of_molecule("C" * a + "O" + "C" * b) for a in range(1, 60) for b in range(a, 60)]
    shares = {split: splits.count(split) / len(splits) for split in ("train", "validation", "test")}
    assert shares["train"] == pytest.approx(0.8, abs=0.03)
    assert shares["validation"] == pytest.approx(0.1, abs=0.03)


def test_a_column_of_splits_decides_and_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    file = write(
        tmp_path / "pairs.tsv",
        "SMILES\tcaption\tSplit",
        ["CCO\tethanol\ttrain", "CCN\tethylamine\tval", "CCS\tethanethiol\tTrain"],
    )
    data = load_chebi20(file, cache_dir=tmp_path / "cache")
    assert data["train"][:] == {
        "id": ["1", "3"],
        "smiles": ["CCO", "CCS"],
        "description": ["ethanol", "ethanethiol"],
    }
    assert data["validation"]["id"][:] == ["2"]
    assert data["pool"]["split"][:] == ["train", "train", "validation"]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "smiles,description",
            ["CCO,ethanol"],
            "of its 1 pairs, . are for training and . for validation. Add pairs, or",
        ),
        ("smiles,description,split", ["CCO,a,train", "CCN,b,holdout"], "line 3: the split 'holdout' is none of train"),
        ("molfile,description", ["CCO,ethanol"], "no column for 'smiles'.*--smiles_column"),
        ("smiles,description,split", ["C1CC(,broken,train", "CCN,b,val"], "pairs.csv line 2.*cannot parse the SMILES"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, header: str, rows: list[str], message: str) -> None:
    file = write(tmp_path / "pairs.csv", header, rows)
    with pytest.raises(ValueError, match=message):
        load_chebi20(file, cache_dir=tmp_path / "cache")


def test_a_revision_needs_the_hub(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.csv", "smiles,description", ["CCO,ethanol"])
    with pytest.raises(ValueError, match="revision 'v2' needs a data set of the Hub, but .* is a file"):
        load_chebi20(file, revision="v2")


# The column `keep`


def test_pairs_that_are_marked_are_left_out_and_counted_once(tmp_path: Path) -> None:
    file = write(
        tmp_path / "pairs.csv",
        "smiles,description,split,Keep",
        [
            "CCO,ethanol,train,yes",
            "CCN,ethylamine,train,No",
            "C1CC(,a broken row that is marked,train,0",
            "CCS,ethanethiol,train,",
            "CCCl,chloroethane,val,TRUE",
            "CCBr,bromoethane,val,false",
        ],
    )
    data, report = load_chebi20(file, cache_dir=tmp_path / "cache", return_report=True)
    assert data["train"]["id"][:] == ["1", "4"]  # the numbers are those of the file
    assert data["validation"]["description"][:] == ["chloroethane"]
    assert data["pool"]["id"][:] == ["1", "4", "5"]
    assert report.notes == ("pairs.csv: 3 of 6 pairs left out by the column keep",)
    again = load_chebi20(file, cache_dir=tmp_path / "cache", return_report=True)[1]
    assert str(again) == str(report) and "3 of 6 pairs left out by the column keep" in str(again)


def test_a_mark_in_files_of_splits_and_under_another_name(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "id,smiles,description,usable", ["a,CCO,ethanol,1", "b,CCN,ethylamine,0"])
    write(tmp_path / "validation.csv", "id,smiles,description,usable", ["c,CCS,ethanethiol,1.0"])
    plain = load_chebi20(tmp_path, cache_dir=tmp_path / "cache")
    assert plain["train"]["id"][:] == ["a", "b"]
    marked = load_chebi20(tmp_path, column_mapping={"usable": "keep"}, cache_dir=tmp_path / "cache")
    assert marked["train"]["id"][:] == ["a"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["CCO,a,train,maybe"], "pairs.csv line 2: keep is 'maybe'; expected yes or no, true or false, 1 or 0"),
        (["CCO,a,train,no", "CCN,b,val,no"], "the column keep leaves out all 2 pairs"),
        (["CCO,a,train,no", "CCN,b,val,"], "of its 1 pairs, 0 are for training"),
    ],
)
def test_mistakes_in_the_marks_are_said(tmp_path: Path, rows: list[str], message: str) -> None:
    file = write(tmp_path / "pairs.csv", "smiles,description,split,keep", rows)
    with pytest.raises(ValueError, match=message):
        load_chebi20(file, cache_dir=tmp_path / "cache")


def test_a_bad_mark_is_a_dropped_row(tmp_path: Path) -> None:
    rows = ["CCO,ethanol,train,maybe", "CCN,ethylamine,train,yes", "CCS,ethanethiol,val,yes"]
    file = write(tmp_path / "pairs.csv", "smiles,description,split,keep", rows)
    data, report = load_chebi20(file, on_error="drop", cache_dir=tmp_path / "cache", return_report=True)
    assert data["train"]["id"][:] == ["2"]
    assert "keep 'maybe' is neither yes nor no" in report.dropped[0].reason
