"""Tests of recipes/index.py and recipes/search.py."""

import json
from pathlib import Path

import pytest
from datasets import DatasetDict
from matplotlib.image import imread
from recipe_scripts import load_recipe_script
from run_forked import run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def made(saved_model, molecules, tmp_path_factory):
    """What recipes/index.py made of a CSV."""
    folder = tmp_path_factory.mktemp("made")
    molecules.to_csv(folder / "molecules.csv")
    arguments = ["--model", str(saved_model), "--molecules", str(folder / "molecules.csv")]
    load_recipe_script("index").main([*arguments, "--output_dir", str(folder / "index")])
    return folder / "index"


@pytest.fixture
def search(made, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def run(*argv):
        load_recipe_script("search").main([*argv, "--index", str(made)])
        return capsys.readouterr().out

    return run


def test_prints_a_table(search, index):
    lines = search("a thiol", "--k", "4").splitlines()
    hits = index.search("a thiol", k=4, query_bank=False)
    assert lines[0].split() == ["rank", "score", "id", "SMILES", "caption"]
    assert [line.split()[:3] for line in lines[1:]] == [[str(hit.rank), f"{hit.score:.3f}", hit.id] for hit in hits]
    assert all(len(line) <= 100 for line in lines)


def test_a_smiles_as_a_description_is_warned_of(search, caplog):
    search("CC(=O)Oc1ccccc1", "--k", "1")
    assert "the description 'CC(=O)Oc1ccccc1' is a SMILES" in caplog.text and "--smiles searches" in caplog.text
    caplog.clear()
    search("a thiol", "--k", "1")
    search("--smiles", "CC(=O)O", "--k", "1")
    assert not caplog.text


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


def test_a_data_set_with_a_query_bank(saved_model, molecules, pairs, tmp_path, capsys, monkeypatch):
    """The pool with the captions of all splits, penalties by the training captions, and a table that says so."""
    pool = molecules.remove_columns(["description", "number"]).add_column("split", ["train"] * len(molecules))
    data = DatasetDict({"train": pairs.select(range(18)), "validation": pairs.select(range(18, 24)), "pool": pool})
    data.save_to_disk(tmp_path / "dataset")
    monkeypatch.chdir(tmp_path)
    source = ["--model", str(saved_model), "--data_dir", str(tmp_path)]
    (tmp_path / "captions.txt").write_text(f"A caption of its own.\n{pairs[0]['description']}\n")
    script = load_recipe_script("index")
    _, bank = script.read_source(script.parse([*source, "--query_bank", "--bank_captions", "captions.txt"]))
    assert bank == [*pairs["description"][:18], "A caption of its own."]
    with pytest.raises(SystemExit):
        script.parse([*source, "--bank_captions", "captions.txt"])
    script.main([*source, "--query_bank"])
    out = capsys.readouterr().out.splitlines()
    assert out[-3].startswith("28 molecules and 24 captions") and out[-1] == "written to outputs/index"
    assert out[-2] == "query-bank normalisation by 18 captions"
    load_recipe_script("search").main(["a thiol", "--k", "2"])
    note = "scores are cosines minus query-bank penalties (18 captions)"
    assert capsys.readouterr().out.splitlines()[-1] == note
    for argv in (["a thiol", "--no_query_bank"], ["--smiles", "CCO"]):
        load_recipe_script("search").main(argv)
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
    ],
)
def test_wrong_arguments(made, argv, message):
    argv = argv if "--index" in argv else [*argv, "--index", str(made)]
    with pytest.raises(ValueError, match=message):
        load_recipe_script("search").main(argv)


def test_without_an_index_two_commands_are_named(tmp_path):
    done = run_recipe("search", "a thiol", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: there is no index in 'outputs/index'")
    assert "class-hf train demo --output_dir outputs/demo" in line and "class-hf index --model" in line


def test_indexing_needs_one_source_and_training_captions(saved_model, tmp_path, capsys):
    for argv in (["--model", str(saved_model)], ["--model", str(saved_model), "--demo", "--molecules", "x.csv"]):
        with pytest.raises(SystemExit):
            load_recipe_script("index").main(argv)
    with pytest.raises(ValueError, match="--query_bank needs training captions"):
        load_recipe_script("index").main(["--model", str(saved_model), "--molecules", "x.csv", "--query_bank"])
    with pytest.raises(FileNotFoundError, match="'x.csv' does not exist"):
        load_recipe_script("index").main(["--model", str(saved_model), "--molecules", "x.csv"])


def test_bad_rows_are_listed(saved_model, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("name,smiles\none,CCO\ntwo,C1CC\n")
    arguments = [
        "--model",
        str(saved_model),
        "--molecules",
        str(tmp_path / "a.csv"),
        "--output_dir",
        str(tmp_path / "i"),
    ]
    with pytest.raises(ValueError, match=r"row 1 \(id two, a.csv line 3\): RDKit cannot parse the SMILES 'C1CC'"):
        load_recipe_script("index").main(arguments)
    load_recipe_script("index").main([*arguments, "--on_error", "drop"])
    assert "1 rows dropped, the first:\n  molecules row 1 (id two" in capsys.readouterr().out


def test_hits_in_files(search, index, tmp_path):
    for suffix in (".csv", ".sdf", ".parquet", ".json"):
        path = tmp_path / f"hits{suffix}"
        out = search("a thiol", "--k", "3", "--output", str(path))
        assert out.splitlines()[-1] == f"3 hits written to {path}" and path.stat().st_size > 100
        with pytest.raises(FileExistsError, match="--overwrite"):
            search("a thiol", "--output", str(path))
    hits = index.search("a thiol", k=3, query_bank=False)
    assert [row["id"] for row in json.loads((tmp_path / "hits.json").read_text())] == [hit.id for hit in hits]


def test_a_file_of_queries(search, index, tmp_path):
    (tmp_path / "queries.txt").write_text("a thiol\n\nan amine\n")
    path = tmp_path / "hits.json"
    out = search("--queries", str(tmp_path / "queries.txt"), "--k", "2", "--output", str(path))
    assert out == f"4 hits written to {path}\n"
    rows = json.loads(path.read_text())
    assert [row["query"] for row in rows] == ["a thiol", "a thiol", "an amine", "an amine"]
    assert [row["rank"] for row in rows] == [1, 2, 1, 2]
    assert rows[2]["id"] == index.search("an amine", k=1, query_bank=False)[0].id
    for argv in (["--queries", "nowhere.txt", "--output", "x.csv"], ["--queries", "x", "a thiol"], ["--queries", "x"]):
        with pytest.raises(ValueError):
            search(*argv)


def test_filters_by_column_score_and_stereo(search):
    found = json.loads(search("a thiol", "--json", "--where", "number >= 20 and number < 24"))
    assert sorted(hit["fields"]["number"] for hit in found) == [20, 21, 22, 23]
    lines = search("a thiol", "--where", "number >= 20 and number < 24").splitlines()
    assert lines[0].split() == ["rank", "score", "id", "number", "SMILES", "caption"]
    assert sorted(line.split()[3] for line in lines[1:]) == ["20", "21", "22", "23"]
    assert all(len(line) <= 100 for line in lines)
    assert json.loads(search("a thiol", "--json", "--min_score", "2")) == []
    pattern = ["--substructure", "[C@H](N)(C)CCC"]
    assert search("a thiol", *pattern) == "no molecule passes the filters\n"
    with pytest.raises(ValueError, match="did you mean 'number'"):
        search("a thiol", "--where", "numbers > 3")
    with pytest.raises(ValueError, match="stereo marks inside"):
        search("a thiol", "--substructure", "[$([C@H](N)(C)CCC)]")
    search("a thiol", "--substructure", "[$([C@H](N)(C)CCC)]", "--ignore_stereo")


def test_the_time_limit_of_a_substructure_is_named(search):
    words = ("--substructure", "C", "--time_limit", "0.001")
    with pytest.raises(TimeoutError, match="limit of 0.001 s. .* other filters. --time_limit sets the limit.$"):
        search("a thiol", *words)


def test_an_index_is_verified_and_changed(saved_model, molecules, tmp_path, capsys):
    molecules.select(range(20)).to_csv(tmp_path / "a.csv")
    molecules.select(range(20, 28)).to_csv(tmp_path / "b.csv")
    molecules.select([3]).to_csv(tmp_path / "c.csv")
    folder = str(tmp_path / "index")

    def run(*argv):
        capsys.readouterr()
        place = [] if "--verify" in argv else ["--output_dir", folder]
        load_recipe_script("index").main([*argv, *place])
        return capsys.readouterr().out

    run("--model", str(saved_model), "--molecules", str(tmp_path / "a.csv"))
    assert "is intact: 20 molecules" in run("--verify", folder)
    assert run("--append", "--molecules", str(tmp_path / "b.csv")) == f"8 molecules added to {folder}; it has 28\n"
    assert run("--update", "--molecules", str(tmp_path / "c.csv")) == f"1 molecules updated in {folder}; it has 28\n"
    assert run("--delete", "m00", "m05") == f"2 molecules deleted from {folder}; it has 26\n"
    assert "is intact: 26 molecules" in run("--verify", folder)
    with pytest.raises(ValueError, match="'m00' is not in the index"):
        run("--delete", "m00")
    path = next(Path(folder).glob("data-*/molecules.npy"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: the checksum of molecules.npy differs"):
        run("--verify", folder)
    for argv, message in (
        (["--append"], "needs --molecules"),
        (["--delete", "a", "--demo"], "takes ids only"),
        (["--append", "--update"], "not allowed with"),
        (["--delete", "a", "--query_bank"], "--delete does not use --query_bank; leave"),
        (["--append", "--vectors", "v", "--on_error", "drop"], "--append does not use --on_error"),
        (["--update", "--molecules", "m.csv", "--overwrite", "--num_proc", "2"], "not use --overwrite, --num_proc"),
        (["--verify", folder, "--model", "m"], "--verify does not use --model"),
    ):
        with pytest.raises(SystemExit):
            run(*argv)
        assert message in capsys.readouterr().err


def test_the_current_folder_is_no_place_for_an_index(saved_model, molecules, tmp_path, monkeypatch):
    molecules.to_csv(tmp_path / "a.csv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is the current folder"):
        load_recipe_script("index").main(["--model", str(saved_model), "--molecules", "a.csv", "--output_dir", "."])


def test_duplicates_are_reported(saved_model, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("id,smiles\na,CCO\na,CCO\nb,CCN\nb,CCC\n")
    arguments = [
        "--model",
        str(saved_model),
        "--molecules",
        str(tmp_path / "a.csv"),
        "--output_dir",
        str(tmp_path / "i"),
    ]
    load_recipe_script("index").main(arguments)
    out = capsys.readouterr().out
    assert "1 rows left out, because they repeat an earlier row in every column" in out
    assert "1 rows repeat the id of an earlier row and are kept; the first ids: b" in out
