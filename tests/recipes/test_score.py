"""Tests of recipes/score.py."""

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import load_from_disk
from matplotlib.image import imread
from recipe_scripts import load_recipe_script
from run_forked import run_recipe

from class_hf import DifficultyScorer
from class_hf.difficulty.ranks import spearman

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

RECIPE = Path(__file__).parents[2] / "recipes" / "score.py"
SCORES = ["text_difficulty", "molecule_difficulty", "difficulty"]
FAST = ("--definition", "complexity")
PLOTS = ["difficulty", "easiest", "hardest", "raw_scores", "text_against_molecule"]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe_script("score")


def write(path, pairs, rows):
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        table.writerow(["CID", "SMILES", "description"])
        table.writerows([pairs[row]["id"], pairs[row]["smiles"], pairs[row]["description"]] for row in rows)


@pytest.fixture
def folder(tmp_path, pairs, monkeypatch):
    """A folder of 18 training and 6 validation pairs."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = tmp_path / "source"
    source.mkdir()
    write(source / "train.tsv", pairs, range(18))
    write(source / "validation.tsv", pairs, range(18, 24))
    return source


def arguments(folder, output, *more):
    """The definition that takes least time, unless `more` names another."""
    return ["--data_dir", str(folder), "--output_dir", str(output), *FAST, "--neighbours", "3", *more]


@pytest.mark.pictures
def test_writes_data_set_summary_and_plots(recipe, folder, tmp_path, capsys):
    output = tmp_path / "new" / "scored"
    recipe.main(arguments(folder, output, "--definition", "confusability,complexity", "--combination", "max"))
    assert sorted(path.name for path in output.iterdir()) == ["dataset", "plots", "summary.json"]
    assert list(output.parent.iterdir()) == [output]
    scored = load_from_disk(str(output / "dataset"))
    assert {split: ds.num_rows for split, ds in scored.items()} == {"train": 18, "validation": 6, "pool": 24}
    assert scored["validation"].column_names == ["id", "smiles", "description", *SCORES]
    assert scored["pool"].column_names == ["id", "smiles", "split"]
    definition = ["confusability", "complexity"]
    scorer = DifficultyScorer(definition, "max", neighbours=3).fit(scored["train"])
    for split in ("train", "validation"):
        assert {score: scored[split][score][:] for score in SCORES} == scorer(scored[split][:])
    printed = capsys.readouterr().out
    assert "18" in printed and "hardest training pairs" in printed

    summary = json.loads((output / "summary.json").read_text())
    assert summary["definition"] == definition
    assert summary["combination"] == "max"
    order = np.argsort(scored["train"]["difficulty"][:])
    assert scored["train"]["id"][int(order[0])] == summary["easiest"][0]
    assert scored["train"]["id"][int(order[-1])] == summary["hardest"][0]
    train = summary["splits"]["train"]
    assert train["rows"] == 18
    assert -1 <= train["spearman_text_molecule"] <= 1
    assert train["quantiles"]["difficulty"]["0.5"] == pytest.approx(0.5, abs=0.05)
    assert set(summary["seconds"]) == {"load", "fit", "score", "write"}

    assert sorted(path.stem for path in (output / "plots").iterdir()) == PLOTS
    for path in (output / "plots").iterdir():
        picture = imread(path)
        assert (picture[0, 0] == 1).all(), "white corner"
        assert (picture[..., :3].min(axis=-1) < 0.5).any(), "something drawn"


@pytest.mark.parametrize(
    "options, settings",
    [
        (["--neighbours", "all"], {"neighbours": "all"}),
        (["--text_similarity", "hashed"], {"neighbours": 3, "text_similarity": "hashed"}),
    ],
)
def test_the_ways_to_compare_pairs_reach_the_scorer(recipe, folder, tmp_path, options, settings):
    recipe.main(arguments(folder, tmp_path / "scored", "--definition", "confusability", *options))
    scored = load_from_disk(str(tmp_path / "scored" / "dataset"))["train"]
    scorer = DifficultyScorer("confusability", **settings).fit(scored)
    assert {score: scored[score][:] for score in SCORES} == scorer(scored[:])
    summary = json.loads((tmp_path / "scored" / "summary.json").read_text())
    assert summary["neighbours"] == settings["neighbours"]
    assert summary["text_similarity"] == settings.get("text_similarity", "tfidf")


def test_a_definition_of_the_users_own(recipe, folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "lengths.py").write_text(
        "import numpy as np\n"
        "class Length:\n"
        "    @classmethod\n"
        "    def fit(cls, pairs):\n"
        "        return cls(), cls().score(pairs)\n"
        "    def score(self, pairs):\n"
        "        return np.stack([[len(text.split()) for text in pairs.descriptions], pairs.sizes[:, 0]], axis=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe.main(arguments(folder, tmp_path / "scored", "--definition", "lengths:Length,complexity"))
    summary = json.loads((tmp_path / "scored" / "summary.json").read_text())
    assert summary["definition"] == ["lengths:Length", "complexity"]


@pytest.mark.slow  # the demo pairs are built on their first use
def test_scores_the_demo_pairs(recipe, tmp_path, capsys):
    recipe.main(["--demo", *FAST, "--output_dir", str(tmp_path / "demo")])
    assert set(load_from_disk(str(tmp_path / "demo" / "dataset"))["train"].column_names) >= set(SCORES)


def test_a_folder_that_holds_something_is_not_touched(recipe, folder, tmp_path):
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="not empty. Choose another --output_dir, or pass --overwrite"):
        recipe.main(arguments(folder, output))
    with pytest.raises(FileExistsError, match="was not written by this recipe"):
        recipe.main(arguments(folder, output, "--overwrite"))
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]


def test_overwrite_replaces_an_earlier_run(recipe, folder, tmp_path, capsys):
    output = tmp_path / "scored"
    recipe.main(arguments(folder, output))
    with pytest.raises(FileExistsError, match="not empty"):
        recipe.main(arguments(folder, output))
    recipe.main(arguments(folder, output, "--overwrite", "--text_weight", "1"))
    assert json.loads((output / "summary.json").read_text())["text_weight"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "scored", "source"]


def test_an_error_leaves_nothing_behind(recipe, folder, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(recipe, "write_figures", fail)
    with pytest.raises(OSError, match="disk full"):
        recipe.main(arguments(folder, tmp_path / "out" / "scored"))
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_rows_stop_the_run_or_are_dropped(recipe, folder, tmp_path, capsys):
    with (folder / "train.tsv").open("a") as file:
        file.write("999999\tC1CC(\tThe molecule is broken.\n")
    with pytest.raises(ValueError, match=r"999999.*C1CC\("):
        recipe.main(arguments(folder, tmp_path / "scored"))
    recipe.main(["--data_dir", str(folder), "--output_dir", str(tmp_path / "scored"), "--on_error", "drop"])
    assert json.loads((tmp_path / "scored" / "summary.json").read_text())["definition"] == ["alignment"]
    assert load_from_disk(str(tmp_path / "scored" / "dataset"))["train"].num_rows == 18


def test_a_source_without_training_pairs(recipe, folder, tmp_path):
    (folder / "train.tsv").unlink()
    with pytest.raises(ValueError, match="no train split, only validation, pool"):
        recipe.main(arguments(folder, tmp_path / "scored"))


def test_the_script_ends_with_one_line_at_an_error(folder, tmp_path):
    run = run_recipe("score", *arguments(folder, tmp_path / "scored", "--combination", "sum"))
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("error: combination is 'sum'; expected one of mean")
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "scored").exists()


def test_the_source_is_named_once(recipe, tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipe.parse_arguments(["--output_dir", str(tmp_path)])
    with pytest.raises(SystemExit):
        recipe.parse_arguments(["--output_dir", str(tmp_path), "--demo", "--data_dir", "x"])
    assert "--data_dir" in capsys.readouterr().err


def test_spearman_equals_scipy_and_has_no_value_for_a_constant():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a = rng.integers(0, 9, 60).astype(float)
    b = a + rng.integers(0, 9, 60)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert spearman(a, np.ones(60)) is None


def test_a_table_is_scored_in_shards(recipe, folder, tmp_path, capsys):
    words = [str(folder / "train.tsv"), "--output_dir", str(tmp_path / "shards"), "--definition", "complexity"]
    recipe.main([*words, "--shard_size", "7"])
    assert capsys.readouterr().out.startswith("scored 3 of 3 shards")
    scored = datasets.load_dataset("parquet", data_files=str(tmp_path / "shards" / "part-*.parquet"), split="train")
    assert scored.num_rows == 18 and scored.column_names == ["id", "smiles", "description", *SCORES]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("t.csv", "--suspects"), "--suspects has no effect with TABLE"),
        (("--demo", "--workers", "2"), "--workers has no effect with --demo"),
        (("t.csv", "--demo"), "not allowed with"),
    ],
)
def test_arguments_without_effect_are_refused(recipe, words, message, capsys):
    with pytest.raises(SystemExit):
        recipe.main([*words, "--output_dir", "out"])
    assert message in capsys.readouterr().err
