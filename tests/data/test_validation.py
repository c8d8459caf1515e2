"""The checks of pairs, row by row."""

from typing import Any

import pytest

from class_hf.data.formats import Table
from class_hf.data.smiles import repair_smiles
from class_hf.data.validation import DroppedRow, LoadReport, check_tables


def pairs(*rows: tuple[str, str, str], where: str = "train.tsv") -> Table:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("id", "smiles", "description"))}
    return Table(
        where, columns, ("CID", "SMILES", "description"), [f"{where} line {row}" for row in range(2, len(rows) + 2)]
    )


def pool(*rows: tuple[str, str, str]) -> Table:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("id", "smiles", "split"))}
    return Table(
        "molecules.tsv",
        columns,
        ("CID", "SMILES", "split"),
        [f"molecules.tsv line {row}" for row in range(2, len(rows) + 2)],
    )


GOOD = ("1", "CC", "ethane")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("", "CO", "x"), "empty or missing: id"),
        (("2", " ", "x"), "empty or missing: smiles"),
        (("2", "CO", "\t"), "empty or missing: description"),
        (("2", "", ""), "empty or missing: smiles, description"),
        (("2", "CN", "word " * 4001), "its caption has 20,004 characters; the limit is 20,000"),
        (("2", "C1CC(", "x"), "RDKit cannot parse the SMILES 'C1CC(': the syntax is invalid"),
        (
            ("2", "C(C)(C)(C)(C)C", "x"),
            "RDKit cannot parse the SMILES 'C(C)(C)(C)(C)C': "
            "Explicit valence for atom # 0 C, 5, is greater than permitted",
        ),
        (
            ("2", "c1cccc1", "x"),
            "RDKit cannot parse the SMILES 'c1cccc1': Can't kekulize mol. Unkekulized atoms: 0 1 2 3 4",
        ),
        (
            ("2", "CO methanol", "x"),
            "the SMILES 'CO' is followed by 'methanol'; expected nothing after it, or an extension |...|",
        ),
        (("1", "CO", "x"), "its id is also that of row 0, which has another molecule"),
        (GOOD, "SMILES and description repeat row 0"),
        (
            ("2", "CC" + chr(0x41E), "x"),
            f"the SMILES 'CC{chr(0x41E)}' has the character U+041E (CYRILLIC CAPITAL LETTER O) at position 3; "
            "expected printable ASCII characters only",
        ),
        (("2", "CC", "ethane"), "SMILES and description repeat row 0"),
    ],
)
def test_each_fault_has_its_reason(row: tuple[str, str, str], reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    tables = {"train": pairs(GOOD, row)}
    with pytest.raises(ValueError) as error:
        check_tables(tables)
    assert str(error.value) == (
        f"train row 1 (id {row[0] or 'missing'}, train.tsv line 3): {reason}. "
        "Correct the data, or skip and list such rows: --on_error drop, or on_error='drop'."
    )
    columns, report = check_tables(tables, "drop")
    assert columns["train"] == {"id": ["1"], "smiles": ["CC"], "description": ["ethane"]}
    assert report.dropped == (DroppedRow("train", 1, row[0], reason, "train.tsv line 3"),)
    assert capfd.readouterr().err == ""  # RDKit's own complaints are not printed


def test_what_is_legal_stays() -> None:
    rows = [
        ("1", "CC", "The molecule is a compound."),
        ("2", "CO", "The molecule is a compound."),  # one caption for two molecules
        ("3", "CC", "The molecule is ethane."),  # two captions for one molecule
        ("1", "C(C)", "The molecule is ethane."),  # another caption of the same molecule, with its id
        ("4", "*", "The molecule is anything."),
        ("5", "[Na+].[Cl-]", "The molecule is a salt."),
        ("6", "[2H]C", "The molecule is an isotope."),
    ]
    columns, report = check_tables({"train": pairs(*rows)})
    assert list(zip(*columns["train"].values(), strict=True)) == rows
    assert report == LoadReport({"train": 7}, {"train": 0}, repeated={"train": 1})


def test_a_dropped_row_does_not_make_a_later_one_a_duplicate() -> None:
    columns, report = check_tables({"train": pairs(("1", "C1CC(", "x"), ("1", "CC", "x"), ("1", "CO", "x"))}, "drop")
    assert columns["train"]["smiles"] == ["CC"]
    assert [row.row for row in report.dropped] == [0, 2]


def test_the_first_fault_is_shown_and_the_rest_counted() -> None:
    tables = {
        "train": pairs(*[(str(i), "C(", "x") for i in range(6)]),
        "validation": pairs(("9", "C(", "x"), where="val.csv"),
    }
    with pytest.raises(ValueError) as error:
        check_tables(tables)
    assert str(error.value) == (
        "7 rows are not usable, the first: train row 0 (id 0, train.tsv line 2): RDKit cannot parse the SMILES 'C(': "
        "the syntax is invalid. Correct the data, or skip and list such rows: --on_error drop, or on_error='drop'."
    )


def test_a_split_without_a_usable_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train.tsv: no row of train is usable; the first: train row 0 \(id 1"):
        check_tables({"train": pairs(("1", "C(", "x"))}, "drop")


@pytest.mark.parametrize("on_error", ["raise", "drop"])
def test_an_id_in_two_splits_is_an_error_in_any_case(on_error: Any) -> None:
    tables = {"train": pairs(GOOD, ("2", "CO", "x")), "test": pairs(("2", "CO", "y"), ("3", "CN", "z"))}
    with pytest.raises(ValueError, match=r"ids in two splits: 2 \(train and test\). Remove them from one"):
        check_tables(tables, on_error)
    many = [(str(i), "C" * i, "x") for i in range(1, 9)]
    with pytest.raises(ValueError, match="5 .train and test. and 3 more"):
        check_tables({"train": pairs(*many), "test": pairs(*many)}, on_error)


def test_a_molecule_of_train_in_another_split_is_noted() -> None:
    train = pairs(("1", "CC", "ethane"), ("2", "CO", "methanol"))
    other = pairs(("3", "CC", "The molecule is ethane."), ("4", "CN", "methylamine"))
    _, report = check_tables({"train": train, "validation": other, "test": pairs(("5", "CS", "methanethiol"))})
    note = (
        "1 of 2 validation pairs have a molecule of train, by its SMILES: their ranks say little about new molecules"
    )
    assert report.notes == (note,) and note in str(report)


def test_pairs_must_agree_with_the_pool() -> None:
    tables = {
        "train": pairs(GOOD, ("2", "CO", "no such id"), ("3", "CN", "other split"), ("4", "CCC", "other one")),
        "pool": pool(("1", "C-C", "training"), ("3", "CN", "test"), ("4", "CCCC", "train"), ("5", "CF", "dev")),
    }
    columns, report = check_tables(tables, "drop")
    # Another spelling of the same molecule is no fault, and each table keeps its own.
    assert columns["train"]["smiles"] == ["CC"]
    assert columns["pool"]["smiles"][0] == "C-C"
    assert columns["pool"]["split"] == ["train", "test", "train", "validation"]
    assert [row.reason for row in report.dropped] == [
        "its id is not in the pool (molecules.tsv)",
        "the pool (molecules.tsv) has this id in test",
        "its SMILES 'CCC' is another molecule than the pool's 'CCCC' (molecules.tsv)",
    ]


def test_stereoisomers_are_different_molecules() -> None:
    tables = {"train": pairs(("1", r"C/C=C\C", "cis")), "pool": pool(("1", "C/C=C/C", "train"))}
    with pytest.raises(ValueError, match="is another molecule than the pool's"):
        check_tables(tables)


def test_the_pool_is_checked_too() -> None:
    tables = {
        "train": pairs(GOOD),
        "pool": pool(GOOD[:2] + ("train",), ("2", "C(", "train"), ("3", "CO", "spare"), ("1", "CN", "test")),
    }
    columns, report = check_tables(tables, "drop")
    assert columns["pool"]["id"] == ["1"]
    assert [row.reason for row in report.dropped] == [
        "RDKit cannot parse the SMILES 'C(': the syntax is invalid",
        "its split 'spare' is none of train, validation and test",
        "its id is also that of row 0",
    ]
    assert {row.split for row in report.dropped} == {"pool"}


def test_values_are_stripped() -> None:
    columns, _ = check_tables({"train": pairs((" 1", "CC ", " ethane\n"))})
    assert columns["train"] == {"id": ["1"], "smiles": ["CC"], "description": ["ethane"]}


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [(r"C/C=C\\C", r"C/C=C\C"), (r"C/C=C\\\\C", r"C/C=C\C"), (r"C/C=C\C", r"C/C=C\C"), (" OCC ", "OCC")],
)
def test_repair(raw: str, repaired: str) -> None:
    assert repair_smiles(raw) == repaired


def test_the_report_survives_json() -> None:
    report = LoadReport({"train": 1}, {"train": 0}, (DroppedRow("train", 1, "2", r"bad '\'", "train.tsv line 3"),))
    assert LoadReport.from_json(report.to_json()) == report
    assert str(report) == (
        "Loaded train 1 rows (0 SMILES repaired); 1 dropped:\n"
        r"  train row 1 (id 2, train.tsv line 3): bad '\'."
    )
