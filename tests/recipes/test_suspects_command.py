"""Tests of recipes/suspects.py: what it writes for review, and that edited tables are read again."""

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset
from rdkit import Chem
from recipe_scripts import load_recipe_script

from class_hf import DifficultyScorer
from class_hf.data.keep import drop_marked, read_dropped
from class_hf.plots.suspects import COLUMNS, review_page, suspect_rows, write_suspects

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

RECIPE = Path(__file__).parents[2] / "recipes" / "suspects.py"
HOSTILE = '<script>alert("x")</script> & =cmd'


def make_pairs():
    groups = {"O": "alcohol", "N": "amine", "Cl": "chloride", "S": "thiol", "Br": "bromide", "C#N": "nitrile"}
    rows = [(a, b, n) for n in range(1, 4) for a in groups for b in groups]
    captions = [f"The molecule is an {groups[a]} and an {groups[b]} with a chain of {n} carbons." for a, b, n in rows]
    captions[3], captions[40] = captions[40], captions[3]
    captions[5] = f"{captions[5]} {HOSTILE}"
    ids = [f"m{i:03d}" for i in range(len(rows))]
    ids[3], ids[7] = "=HYPERLINK(1)", "<b>bold</b>"
    smiles = [f"C({a}){'C' * n}{b}" for a, b, n in rows]
    return Dataset.from_dict({"id": ids, "smiles": smiles, "description": captions})


@pytest.fixture(scope="module")
def pairs():
    return make_pairs()


@pytest.fixture(scope="module")
def suspects(pairs):
    return DifficultyScorer().suspects(pairs, cross_fits=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, suspects, pairs):
    folder = tmp_path_factory.mktemp("suspects")
    write_suspects(folder, suspects, pairs)
    return folder


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_lists_suspects_most_suspect_first_and_guards_formulas(folder, suspects, pairs):
    rows = read(folder / "suspects.csv")
    assert list(rows[0]) == list(COLUMNS) and len(rows) == len(pairs)
    probabilities = [float(row["wrong_probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [row["keep"] for row in rows] == ["no" if value > 0.5 else "yes" for value in probabilities]
    assert {row["id"] for row in rows} >= {"'=HYPERLINK(1)", "<b>bold</b>"}
    assert not any(cell.startswith(("=", "@", "\t")) for row in rows for cell in row.values())
    assert float(rows[9]["expected_precision"]) == pytest.approx(suspects.precision_at(10), abs=1e-3)


def test_the_sdf_holds_structures_and_columns(folder, pairs):
    records = list(Chem.SDMolSupplier(str(folder / "suspects.sdf")))
    assert len(records) == len(pairs)
    wanted = {name: Chem.CanonSmiles(smiles) for name, smiles in zip(pairs["id"][:], pairs["smiles"][:], strict=True)}
    assert all(Chem.MolToSmiles(record) == wanted[record.GetProp("id")] for record in records)
    assert "kind" in records[0].GetPropNames()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_draws_pairs_and_escapes_all_text(folder, suspects, pairs):
    html = (folder / "review.html").read_text()
    tags = Tags()
    tags.feed(html)
    assert "img" in tags.tags and "script" not in tags.tags and "b" not in tags.tags
    assert all(source.startswith("data:image/svg+xml;base64,") for source in tags.sources)
    assert "http://" not in html and "https://" not in html
    assert "default-src 'none'" in html
    page = review_page(list(suspect_rows(suspects, pairs)), suspects, pairs)
    assert page == html and "&lt;script&gt;" in html and "&lt;b&gt;bold&lt;/b&gt;" in html


# Tables that a user edited


def write_table(path, rows, columns=("id", "keep"), separator=","):
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter=separator)
        table.writerow(columns)
        table.writerows(rows)
    return path


def test_no_suspects_are_an_empty_table(tmp_path, suspects, pairs):
    none = replace(suspects, listed=suspects.listed[:0], kinds=[])
    write_suspects(tmp_path, none, pairs)
    assert read(tmp_path / "suspects.csv") == [] and "No pair is suspect." in (tmp_path / "review.html").read_text()
    assert len(drop_marked(pairs, tmp_path / "suspects.csv")) == len(pairs)


def test_marked_pairs_are_left_out(tmp_path, folder, pairs, suspects):
    dropped = [suspects.ids[row] for row in range(len(pairs)) if suspects.wrong_probability[row] > 0.5]
    kept = drop_marked(pairs, folder / "suspects.csv")
    assert kept["id"][:] == [name for name in pairs["id"][:] if name not in dropped]
    table = write_table(tmp_path / "t.csv", [["m000", "no"], ["'=HYPERLINK(1)", "No"], ["m001", "yes"], ["m002", ""]])
    kept = drop_marked(pairs, table)["id"][:]
    assert len(kept) == len(pairs) - 2 and "m000" not in kept and "=HYPERLINK(1)" not in kept
    assert read_dropped(write_table(tmp_path / "s.csv", [["m000", "0"]], separator=";")) == [("m000", "")]


def test_pairs_that_share_an_id_are_told_by_their_captions(tmp_path):
    pairs = Dataset.from_dict({"id": ["a", "a", "b"], "smiles": ["C"] * 3, "description": ["one", "-two", "three"]})
    table = write_table(tmp_path / "t.csv", [["a", "no", "'-two"]], ("id", "keep", "description"))
    assert drop_marked(pairs, table)["description"][:] == ["one", "three"]
    with pytest.raises(ValueError, match="2 pairs have the id 'a'. Keep the column description"):
        drop_marked(pairs, write_table(tmp_path / "u.csv", [["a", "no"]]))


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (("id", "keep"), [["m000", "maybe"]], "line 2: keep is 'maybe'; expected yes or no"),
        (("id", "rank"), [["m000", "1"]], "has no column 'keep'; its columns are id, rank"),
        (("id", "keep"), [["other", "no"]], "the training pairs have no id 'other'"),
        (("id", "keep"), [[f"m{i:03d}", "no"] for i in range(2)], "leaves out all 2 training pairs"),
    ],
)
def test_mistakes_in_a_table_have_one_line(tmp_path, pairs, columns, rows, message):
    with pytest.raises(ValueError, match=message):
        drop_marked(pairs.select(range(2)), write_table(tmp_path / "t.csv", rows, columns))


def test_a_missing_table(pairs, tmp_path):
    with pytest.raises(ValueError, match="there is no file .*nowhere.csv"):
        drop_marked(pairs, tmp_path / "nowhere.csv")


# The recipe


@pytest.fixture(scope="module")
def recipe():
    return load_recipe_script("suspects")


def test_the_recipe_writes_everything(recipe, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = tmp_path / "pairs.csv"
    renamed = pairs.remove_columns("id").add_column("id", [f"p{row}" for row in range(len(pairs))])
    write_table(
        source,
        [[*row.values(), "validation" if row["id"] == "p100" else "train"] for row in renamed],
        (*renamed.column_names, "split"),
    )
    output = tmp_path / "out"
    recipe.main(["--data_dir", str(source), "--output_dir", str(output), "--cross_fits", "0"])
    assert sorted(path.name for path in output.iterdir()) == [
        "probabilities.csv", "review.html", "summary.json", "suspects.csv", "suspects.sdf"
    ]  # fmt: skip
    summary = json.loads((output / "summary.json").read_text())
    probabilities = [float(row["wrong_probability"]) for row in read(output / "probabilities.csv")]
    assert len(probabilities) == summary["pairs"]
    assert summary["more_likely_wrong_than_right"] == int((np.array(probabilities) > 0.5).sum())
    printed = capsys.readouterr().out
    assert "pairs are more likely wrong than right; estimated share" in printed
    # The table lists suspects only, of which these exchanged captions are two.
    listed = read(output / "suspects.csv")
    assert len(listed) == summary["listed"] == sum(value >= 0.01 for value in probabilities)
    assert 2 <= len(listed) < len(pairs) / 4 and {row["id"] for row in listed[:2]} == {"p3", "p40"}
    assert f"listed: {len(listed)} with a probability of at least 0.01 (--min_probability)" in printed
    with pytest.raises(FileExistsError, match="not empty"):
        recipe.main(["--data_dir", str(source), "--output_dir", str(output)])
