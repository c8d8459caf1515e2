"""Tests of recipes/index.py and recipes/search.py."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import DatasetDict
from matplotlib.image import imread

RECIPES = Path(__file__).parents[2] / "recipes"


def recipe(name):
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(indexed_model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    indexed_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(model, molecules, tmp_path_factory):
    """What recipes/index.py made of a CSV."""
    folder = tmp_path_factory.mktemp("made")
    molecules.to_csv(folder / "molecules.csv")
    arguments = ["--model", str(model), "--molecules", str(folder / "molecules.csv")]
    recipe("index").main([*arguments, "--output_dir", str(folder / "index")])
    return folder / "index"


@pytest.fixture
def search(made, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def run(*argv):
        recipe("search").main([*argv, "--index", str(made)])
        return capsys.readouterr().out

    return run


def test_prints_a_table(search, index):
    lines = search("a thiol", "--k", "4").splitlines()
    hits = index.search("a thiol", k=4, query_bank=False)
    assert lines[0].split() == ["rank", "score", "id", "SMILES", "caption"]
    assert [line.split()[:3] for line in lines[1:]] == [[str(hit.rank), f"{hit.score:.3f}", hit.id] for hit in hits]
    assert all(len(line) <= 100 for line in lines)


def test_prints_json_of_what_passes_the_filters(search, index):
    found = json.loads(search("a thiol", "--json", "--elements", "S", "--max_weight", "80", "--substructure", "CC"))
    assert [hit["smiles"] for hit in found] and all(hit["smiles"] in ("CCS", "CCCS") for hit in found)
    assert search("a thiol", "--elements", "U") == "no molecule passes the filters\n"


def test_molecules_and_captions_of_a_molecule(search, index):
    first = search("--smiles", "CCS", "--k", "1").splitlines()[1]
    assert "CCS" in first and " 1.000 " in first
    found = json.loads(search("--smiles", "CCS", "--captions", "--json", "--k", "3"))
    assert [hit["id"] for hit in found] == [hit.id for hit in index.search_captions("CCS", k=3)]


def test_draws_the_hits(search, tmp_path):
    out = search("a thiol", "--k", "6", "--draw", str(tmp_path / "new" / "hits.png"))
    assert out.splitlines()[-1] == f"drawn to {tmp_path}/new/hits.png"
    picture = imread(tmp_path / "new" / "hits.png")
    assert (picture[0, 0] == 1).all() and (picture[..., :3].min(axis=-1) < 0.5).any()


def test_a_data_set_with_a_query_bank(model, molecules, pairs, tmp_path, capsys, monkeypatch):
    """The pool with the captions of all splits, penalties by the training captions, and a table that says so."""
    pool = molecules.remove_columns(["description", "number"]).add_column("split", ["train"] * len(molecules))
    data = DatasetDict({"train": pairs.select(range(18)), "validation": pairs.select(range(18, 24)), "pool": pool})
    data.save_to_disk(tmp_path / "dataset")
    monkeypatch.chdir(tmp_path)
    recipe("index").main(["--model", str(model), "--data_dir", str(tmp_path), "--query_bank"])
    out = capsys.readouterr().out.splitlines()
    assert out[-3].startswith("28 molecules and 24 captions") and out[-1] == "written to outputs/index"
    assert out[-2] == "query-bank normalisation by 18 training captions"
    recipe("search").main(["a thiol", "--k", "2"])
    note = "scores are cosines minus query-bank penalties (18 captions)"
    assert capsys.readouterr().out.splitlines()[-1] == note
    for argv in (["a thiol", "--no_query_bank"], ["--smiles", "CCO"]):
        recipe("search").main(argv)
        assert note not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give either a description, in quotes, or --smiles, or --queries"),
        (["a thiol", "--smiles", "CCO"], "give either a description"),
        (["a thiol", "--captions"], "--captions needs --smiles"),
        (["--smiles", "CCO", "--captions", "--elements", "N"], "the filters are for molecules"),
        (["a thiol", "--draw", "hits.jpg"], "expected the name of a .png file"),
        (["a thiol", "--elements", "Xx"], "'Xx' is not an element symbol"),
        (["a thiol", "--index", "nowhere"], "'nowhere' holds no index"),
        (["--smiles", "C(C"], "RDKit cannot parse the SMILES"),
        (["a thiol", "--k", "0"], "k is 0; expected a whole number"),
    ],
)
def test_wrong_arguments(made, argv, message):
    argv = argv if "--index" in argv else [*argv, "--index", str(made)]
    with pytest.raises(ValueError, match=message):
        recipe("search").main(argv)


def test_without_an_index_two_commands_are_named(tmp_path):
    done = subprocess.run(
        [sys.executable, str(RECIPES / "search.py"), "a thiol"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()[-3:]
    assert lines[0].startswith("error: there is no index in 'outputs/index'")
    assert [line.split()[1] for line in lines[1:]] == ["recipes/train.py", "recipes/index.py"]


def test_indexing_needs_one_source_and_training_captions(model, tmp_path, capsys):
    for argv in (["--model", str(model)], ["--model", str(model), "--demo", "--molecules", "x.csv"]):
        with pytest.raises(SystemExit):
            recipe("index").main(argv)
    with pytest.raises(ValueError, match="--query_bank needs training captions"):
        recipe("index").main(["--model", str(model), "--molecules", "x.csv", "--query_bank"])
    with pytest.raises(ValueError, match="'x.csv' does not exist"):
        recipe("index").main(["--model", str(model), "--molecules", "x.csv"])


def test_bad_rows_are_listed(model, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("name,smiles\none,CCO\ntwo,C1CC\n")
    arguments = ["--model", str(model), "--molecules", str(tmp_path / "a.csv"), "--output_dir", str(tmp_path / "i")]
    with pytest.raises(ValueError, match=r"row 1 \(id two, table\): RDKit cannot parse the SMILES 'C1CC'"):
        recipe("index").main(arguments)
    recipe("index").main([*arguments, "--on_error", "drop"])
    assert "1 rows dropped, the first:\n  molecules row 1 (id two" in capsys.readouterr().out
