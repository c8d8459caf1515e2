"""The commands that read a table take the same arguments about its columns and its encoding."""

import json
from pathlib import Path

import pytest
from recipe_scripts import load_recipe_script

from class_hf.config.arguments import DataArguments
from class_hf.data.columns import table_options, training_files

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


def test_files_that_change_the_training_pairs(table: Path, capsys: pytest.CaptureFixture[str]):
    (table.parent / "more.csv").write_text("key;drug;note\nmore;CCCN;more\n", encoding="utf-16")
    (table.parent / "better.csv").write_text("key;note\nmore;better\n", encoding="utf-16")
    files = ["--extra_train", "more.csv", "--replace_captions", "better.csv"]
    wanted = {"extra_train": ["more.csv"], "replace_captions": ["better.csv"]}
    source = ["--data_dir", str(table), *flags(**NAMES), *files]

    score = load_recipe_script("score")
    assert score.load(score.parse_arguments([*source, "--output_dir", "x"]))["train"][-1] == {
        "id": "more", "smiles": "CCCN", "description": "better"
    }  # fmt: skip
    described = score.describe_source(score.parse_arguments([*source, "--output_dir", "x"]))
    assert described == {"name": table.name, "synthetic": False, "files": ["more.csv", "better.csv"]}
    index = load_recipe_script("index")
    molecules, bank = index.read_source(index.parse(["--model", "m", "--query_bank", *source]))
    assert "better" in bank and "better" in molecules["description"][:]
    for name, words in (("evaluate", ["--model", "m"]), ("suspects", ["--output_dir", "x"])):
        script = load_recipe_script(name)
        parse = script.parse if name == "evaluate" else script.parse_arguments
        assert training_files(parse([*source, *words])) == wanted
    assert DataArguments(data_dir=str(table), **wanted).source().items() >= wanted.items()

    for command, words in ((score.parse_arguments, ["t.csv", "--output_dir", "x"]), (index.parse, ["--delete", "1"])):
        with pytest.raises(SystemExit):
            command([*words, *files])
        assert "extra_train" in capsys.readouterr().err


def test_an_error_of_the_reader_advises_arguments_that_exist(table: Path):
    score = load_recipe_script("score")
    arguments = ["--data_dir", str(table), "--output_dir", "x", "--encoding", "utf-16"]
    with pytest.raises(ValueError) as error:
        score.load(score.parse_arguments(arguments))
    assert "--smiles_column '<NAME>' --text_column '<NAME>' or --column_mapping" in str(error.value)
    score.load(score.parse_arguments([*arguments, *flags(smiles_column="drug", text_column="note")]))
