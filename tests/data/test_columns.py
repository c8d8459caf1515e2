"""The names of columns, and the arguments that give other names."""

import argparse

import pytest

from class_hf.data.columns import (
    SYNONYMS,
    add_table_arguments,
    candidates,
    check_mapping,
    checked_mapping,
    normalise,
    pick_columns,
    table_options,
)


def parse(*arguments):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_table_arguments(parser)
    return table_options(parser.parse_args(list(arguments)))


@pytest.mark.parametrize("column", SYNONYMS)
def test_every_usual_name_is_recognised_in_any_spelling(column):
    for name in (name for group in SYNONYMS[column] for name in group):
        assert normalise(name) == name
        for spelling in (name, name.upper(), f" {name.replace('_', ' ').title()} ", name.replace("_", "-")):
            assert candidates(["x", spelling], column, {}) == [1], spelling


def test_no_name_belongs_to_two_columns():
    names = [name for groups in SYNONYMS.values() for group in groups for name in group]
    assert len(names) == len(set(names))


def test_the_first_usual_id_is_taken():
    assert pick_columns("a.csv", ["Name", "ChEMBL ID", "CID"], ["id"], {}) == {"id": 2}


def test_two_columns_of_one_kind_are_ambiguous():
    for header, column in ((["smiles", "isomeric_smiles"], "smiles"), (["text", "caption"], "description")):
        with pytest.raises(ValueError, match="could each be"):
            pick_columns("a.csv", header, [column], {})


def test_arguments_become_options():
    assert parse() == {"column_mapping": {}, "encoding": None}
    options = parse("--smiles_column", "drug", "--text_column", "note", "--id_column", "key", "--encoding", "cp1252")
    assert options == {
        "column_mapping": {"drug": "smiles", "note": "description", "key": "id"},
        "encoding": "cp1252",
    }
    assert parse("--description_column", "note")["column_mapping"] == {"note": "description"}
    mapping = '{"part": "split", "drug": "smiles"}'
    options = parse("--column_mapping", mapping, "--id_column", "key", "--smiles_column", "drug")
    assert options["column_mapping"] == {"part": "split", "drug": "smiles", "key": "id"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column_mapping", "drug=smiles"], "--column_mapping 'drug=smiles' is not valid JSON"),
        (["--column_mapping", "[" * 100_000], "is not valid JSON"),
        (["--column_mapping", '["smiles"]'], "expected a JSON object of column names"),
        (["--column_mapping", '{"drug": 1}'], "expected a JSON object of column names"),
        (["--column_mapping", '{"drug": "smile"}'], "maps to unknown columns: {'drug': 'smile'}"),
        (["--column_mapping", '{"a": "smiles", "b": "smiles"}'], r"maps \['a', 'b'\] to 'smiles'; expected one"),
        (["--column_mapping", '{"a": "smiles"}', "--smiles_column", "b"], "but --column_mapping names another column"),
        (["--smiles_column", "a", "--text_column", "a"], "the column 'a' is named for 'smiles' and for 'description'"),
    ],
)
def test_wrong_options_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse(*arguments)


def test_all_missing_columns_are_named_at_once():
    with pytest.raises(ValueError) as error:
        pick_columns("a.csv", ["ligand", "activity"], ["smiles", "description"], {})
    assert str(error.value) == (
        "a.csv has no columns for 'smiles' and 'description'; its columns are ['ligand', 'activity']. Name them with "
        "--smiles_column '<NAME>' --text_column '<NAME>' or --column_mapping "
        '\'{"<NAME>": "smiles", "<NAME>": "description"}\' (in Python: column_mapping).'
    )
    with pytest.raises(ValueError, match=r"no columns 'Drug' and 'nte'; .*: 'Drug': did you mean 'drug'\? 'nte': did"):
        check_mapping({"Drug": "smiles", "nte": "description"}, {"a.csv": ["drug", "note"]})
    with pytest.raises(ValueError, match="no columns for 'smiles' and 'split'; .* Name them with --column_mapping"):
        pick_columns("a.csv", ["id", "b"], ["id", "smiles", "split"], {})


def test_mappings_of_python_are_checked():
    with pytest.raises(ValueError, match="maps to unknown columns"):
        checked_mapping({"drug": "molecule"})
    with pytest.raises(
        ValueError, match=r"a.csv has no column 'Drug'; its columns are \['drug'\].*did you mean 'drug'"
    ):
        check_mapping({"Drug": "smiles"}, {"a.csv": ["drug"]})
