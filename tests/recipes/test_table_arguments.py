"""The commands that read a table take the same arguments about its columns and its encoding."""

import json
from pathlib import Path

import pytest
from recipe_scripts import load_recipe_script

from class_hf.config.arguments import DataArguments
from class_hf.data.columns import table_options

NAMES = {"smiles_column": "drug", "text_column": "note", "id_column": "key", "encoding": "utf-16"}
WANTED = {"column_mapping": {"drug": "smiles", "note": "description", "key": "id"}, "encoding": "utf-16"}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = "".join(f"{row};{'C' * row}O;text {row}\n" for row in range(1, 60))
    path = tmp_path / "pairs.csv"
    path.write_bytes(f"key;drug;note\n{rows}".encode("utf-16"))
    return path


def flags(**values: str) -> list[str]:
    return [text for name, value in values.items() for text in (f"--{name}", value)]


def test_score_index_and_evaluate(table: Path):
    score = load_recipe_script("score")
    arguments = score.parse_arguments(["--data_dir", str(table), "--output_dir", "x", *flags(**NAMES)])
    assert table_options(arguments) == WANTED
    assert len(score.load(arguments)["pool"]) == 59

    index = load_recipe_script("index")
    for source in ("--molecules", "--data_dir"):
        molecules, _ = index.read_source(index.parse(["--model", "m", source, str(table), *flags(**NAMES)]))
        assert len(molecules) == 59 and set(molecules["description"][:]) == {f"text {row}" for row in range(1, 60)}

    arguments = load_recipe_script("evaluate").parse(["--model", "m", "--data_dir", str(table), *flags(**NAMES)])
    assert table_options(arguments) == WANTED


def test_train():
    assert table_options(DataArguments(data_dir="pairs.csv", **NAMES)) == WANTED
    mapping = json.dumps({"drug": "smiles", "part": "split"})
    options = table_options(DataArguments(data_dir="pairs.csv", column_mapping=mapping))
    assert options["column_mapping"] == {"drug": "smiles", "part": "split"}


def test_an_error_of_the_reader_advises_arguments_that_exist(table: Path):
    score = load_recipe_script("score")
    arguments = ["--data_dir", str(table), "--output_dir", "x", "--encoding", "utf-16"]
    with pytest.raises(ValueError) as error:
        score.load(score.parse_arguments(arguments))
    assert "--smiles_column '<NAME>' --text_column '<NAME>' or --column_mapping" in str(error.value)
    score.load(score.parse_arguments([*arguments, *flags(smiles_column="drug", text_column="note")]))
