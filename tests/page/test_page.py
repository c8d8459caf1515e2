"""The page: its answers, two hundred malformed inputs, and all of it in a real browser."""

import base64
import csv
import io
import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl

import numpy as np
import pytest
from bad_queries import BOMB, CASES

# ruff: noqa: F811 (fixtures)
from page_fixtures import NASTY, saved  # noqa: F401
from rdkit import Chem
from recipe_scripts import load_recipe_script

from class_hf import MoleculeIndex
from class_hf.page import answers, app, links
from class_hf.page.cards import MAX_DRAWN_ATOMS, CardOptions, hit_cards, molecule_svg
from class_hf.search.query import Hit

RECIPES = Path(__file__).parents[2] / "recipes"
TEXT = "The molecule is a carboxylic acid."


@pytest.fixture(scope="module")
def recipe():
    return load_recipe_script("app")


@pytest.fixture(scope="module")
def pool(index, indexed_model, processor):
    return answers.Pool("tiny", index, indexed_model, processor, "https://example.org/{id}")


@pytest.fixture(scope="module")
def call(pool):
    return answers.build_answers([pool])


def find(call, *, label="tiny", text=TEXT, k=5, colour=False, bank=True, **filters):
    names = ("min_weight", "max_weight", "elements", "substructure", "ignore_stereo", "where")
    return call["find"](label, text, k, colour, bank, *(filters.get(name) for name in names))


def from_molecule(call, smiles, *, wanted="captions", k=5, colour=False, label="tiny"):
    return call["from_molecule"](label, smiles, wanted, k, colour, *[None] * 6)


def ids_of(html):
    return re.findall(r'example\.org/([^"]+)"', html)


def test_answers_are_those_of_the_index(call, index):
    assert ids_of(find(call)) == [hit.id for hit in index.search(TEXT, k=5)]
    assert ids_of(find(call, bank=False)) == [hit.id for hit in index.search(TEXT, k=5, query_bank=False)]
    assert ids_of(from_molecule(call, "CCO")) == [hit.id for hit in index.search_captions("CCO", 5)]
    similar = from_molecule(call, "CCO", wanted="similar molecules")
    assert ids_of(similar) == [hit.id for hit in index.search(smiles="CCO", k=5)]
    assert "No molecule passes" in find(call, min_weight=5000)
    assert (
        "C<sub>2</sub>H<sub>6</sub>O · 46.1 Da" in call["show"](" CCO\n")
        and call["show"]("") == call["show"](None) == ""
    )


def test_scores_are_readable_and_colours_change_the_drawing(call, index):
    plain, coloured = find(call), find(call, colour=True)
    assert f"{index.search(TEXT, k=1)[0].score:.3f}" in plain
    assert "atoms that raised the score" in coloured and "atoms that raised" not in plain
    pictures = [re.findall(r'src="(data[^"]+)"', html) for html in (plain, coloured)]
    assert len(pictures[0]) == len(pictures[1]) == 5 and pictures[0] != pictures[1]


def test_the_atom_that_contributes_most_has_the_strongest_colour():
    def greens(contributions):
        svg = molecule_svg("CCO", np.array(contributions))
        return set(re.findall(r"class='atom-(\d)'.{0,300}?fill:(#[0-9A-F]{6})", svg))

    found = dict(greens([-0.2, 0.05, 0.1]))
    assert sorted(found) == ["1", "2"]
    red = {atom: int(colour[1:3], 16) for atom, colour in found.items()}
    assert red["2"] < red["1"] < 255
    assert greens([-0.1, -0.2, 0.0]) == set()


def test_what_tables_hold_is_escaped():
    hit = Hit(1, 0.5, NASTY, "CCO", {"description": NASTY * 5, "name": NASTY})
    hit.fields[NASTY] = NASTY
    options = CardOptions('https://example.org/"{id}', link_pubchem=True, query=NASTY, columns=(NASTY,))
    html = hit_cards([hit], options=options, note=NASTY)
    assert "<img src=x" not in html and '"https://example.org/"' not in html
    assert NASTY in unescape(html)
    parser = HTMLParser()
    names = set()
    parser.handle_starttag = lambda tag, attributes: names.update(name for name, _ in attributes)
    parser.feed(html)
    assert names == {"class", "alt", "src", "href", "target", "rel", "title", "download"}


def test_a_large_molecule_has_no_drawing_but_a_card():
    html = hit_cards([Hit(1, 0.5, "big", "C" * (MAX_DRAWN_ATOMS + 1), {})])
    assert "too many to draw" in html and "151" in html and "<img" not in html


def test_two_hundred_malformed_inputs(call):
    """All that is malformed for the index, through the page's fields."""
    before = find(call)
    asked = 0
    for name, value in CASES:
        if name == "time_limit" or (name == "substructure" and isinstance(value, str) and not value.strip()):
            continue  # not a field; an empty field is no filter
        if name == "smiles":
            html = from_molecule(call, value)
            shown = call["show"](value)
            asked += shown != ""
            assert shown == "" or shown.startswith('<div class="message error"'), value
        elif name == "k" and value in (1.0, True):
            continue  # a slider's 1
        else:
            html = find(call, **{name: value})
        assert html.startswith('<div class="message error" role="alert">'), (name, value)
        assert 60 < len(html) < 900 and "<" not in re.sub(r"^<div[^>]*>|</div>$", "", html), (name, value)
        asked += 1
    for label in ("other", None, ["tiny"], 3):
        assert "choose one from the list" in find(call, label=label)
        asked += 1
    assert asked >= 200
    assert find(call) == before


def test_a_pattern_that_takes_years_is_ended_and_the_page_continues(call, monkeypatch):
    before = find(call)
    monkeypatch.setattr(answers, "TIME_LIMIT", 1.0)
    answer = find(call, substructure=BOMB, k=28)
    assert "takes longer than the time limit of 1 s. Simplify it, or narrow the search by other filters.<" in answer
    assert find(call) == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--index", "nowhere"], "holds no index"),
        (["--id_url", "pubchem"], "expected an address"),
        (["--index", "a", "b", "c", "--id_url", "none", "none"], "2 addresses for 3"),
        ([], "--demo"),
    ],
)
def test_arguments_are_checked(recipe, argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if argv[:1] == ["--id_url"]:
        argv = ["--index", "a", *argv]
    with pytest.raises(ValueError, match=message):
        recipe.main(argv)


def test_a_space_carries_all_it_needs(recipe, saved, index_folder, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="needs the extra `app`")
    space = tmp_path / "space"
    recipe.main(["--index", str(index_folder), "--model", str(saved), "--export_space", str(space)])
    card = (space / "README.md").read_text()
    assert re.search(r"^sdk: gradio\nsdk_version: \d", card, re.M) and "\nlicense: unknown\n" in card
    assert "The folder `class_hf` is a copy of version" in card
    assert {"search/index.py", "recipes/app.py", "recipes/demo.yaml"} <= {
        path.relative_to(space / "class_hf").as_posix() for path in (space / "class_hf").rglob("*")
    }
    needed = (space / "requirements.txt").read_text().splitlines()
    assert f"gradio=={version('gradio')}" in needed and not any("class" in line or "+" in line for line in needed[1:])
    called = []
    recipes = SimpleNamespace(main=called.append)
    monkeypatch.setitem(sys.modules, "class_hf.recipes", SimpleNamespace(app=recipes))
    monkeypatch.setitem(sys.modules, "class_hf.recipes.app", recipes)
    monkeypatch.chdir(space)
    runpy.run_path("app.py")
    args = recipe.parse(called[0])
    [pool] = answers.open_pools(args.index, args.model, recipe.id_urls(args.id_url, 1))
    assert pool.index.search(TEXT, k=3) == MoleculeIndex.load(index_folder, str(saved)).search(TEXT, k=3)
    monkeypatch.chdir(tmp_path)
    again = ["--index", str(index_folder), "--model", str(saved), "--export_space", str(space), "--pubchem_links"]
    with pytest.raises(FileExistsError, match="--overwrite"):
        recipe.main(again)
    # The licence that the user chose stays, and the arguments of the page are kept.
    recipe.main([*again, "--overwrite", "--license", "cc-by-4.0"])
    recipe.main([*again, "--overwrite", "--package", "git+https://example.org/class_hf"])
    assert "\nlicense: cc-by-4.0\n" in (space / "README.md").read_text()
    assert "--pubchem_links" in (space / "app.py").read_text() and not (space / "class_hf").exists()
    assert "git+https://example.org/class_hf" in (space / "requirements.txt").read_text()


def test_a_space_of_a_model_that_reads_names_has_opsin_and_java(recipe, saved, index_folder, tmp_path):
    pytest.importorskip("gradio", reason="needs the extra `app`")
    pytest.importorskip("py2opsin", reason="needs the extra `names`")
    reading = tmp_path / "reading"
    shutil.copytree(saved, reading)
    config = json.loads((reading / "config.json").read_text())
    (reading / "config.json").write_text(json.dumps({**config, "read_names": True}))
    for model in (saved, reading):
        recipe.main(
            ["--index", str(index_folder), "--model", str(model), "--export_space", str(tmp_path / f"of_{model.name}")]
        )
    needed = (tmp_path / "of_reading" / "requirements.txt").read_text()
    assert "\npy2opsin==" in needed and "\nchemicals==" in needed
    assert (tmp_path / "of_reading" / "packages.txt").read_text() == "default-jre-headless\n"
    assert not (tmp_path / f"of_{saved.name}" / "packages.txt").exists()


def test_gradio_is_asked_for_by_name(pool, monkeypatch):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "class-hf\[app\]"'):
        app.build_page([pool])


def test_examples_are_molecules():
    assert all(Chem.MolFromSmiles(smiles) for smiles in app.MOLECULES)


def test_pubchem_is_linked_only_if_asked_for(index, indexed_model, processor):
    for link in (False, True):
        pool = answers.Pool("tiny", index, indexed_model, processor, None, link_pubchem=link)
        html = find(answers.build_answers([pool]))
        assert ("pubchem" in html.lower()) == link


def test_hits_are_saved_from_the_page(call, index):
    links = re.findall(r'download="(hits\.\w+)" href="data:[^;]+;base64,([^"]+)"', find(call, k=3))
    assert [name for name, _ in links] == ["hits.csv", "hits.sdf"]
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(links[0][1]).decode())))
    assert [row["id"] for row in rows] == [hit.id for hit in index.search(TEXT, k=3)]
    assert base64.b64decode(links[1][1]).count(b"$$$$") == 3


def test_a_link_repeats_the_search(pool):
    """The page fills its fields by the names of the link. With several pools the link names the pool."""
    call = answers.build_answers([pool, replace(pool, label="other")])
    html = find(call, text="an acid & <more>", k=3, bank=False, max_weight=0, elements="O", ignore_stereo=True)
    [link] = re.findall(r'<a class="save link" href="#([^"]+)"', html)
    filled = dict(parse_qsl(unescape(link)))
    assert filled == {
        "pool": "tiny", "k": "3", "elements": "O", "ignore_stereo": "1", "text": "an acid & <more>", "bank": "0"
    }  # fmt: skip
    assert set(filled) <= set(links.FIELDS)
    similar = from_molecule(call, " CCO ", wanted="similar molecules")
    assert "smiles=CCO" in similar and "find=similar%20molecules" in similar
    assert "find=" not in from_molecule(call, "CCO")


def test_the_page_names_the_columns_of_its_index(pool):
    assert app.column_names(pool).startswith("Columns: ") and "number (number)" in app.column_names(pool)


def test_stereo_and_columns_on_the_page(call):
    assert "No molecule passes" in find(call, substructure="[C@H](N)(C)CC")
    assert "stereo marks inside" in find(call, substructure="[$([C@H](N)(C)CC)]")
    html = find(call, where="number >= 20 and number < 24", k=50)
    assert "4 of 28" in html and sorted(re.findall(r" · number:&nbsp;(\d+)</div>", html)) == ["20", "21", "22", "23"]
    assert "did you mean &#x27;number&#x27;?" in find(call, where="numbers = 3")
