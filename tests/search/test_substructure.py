"""Substructures: stereo marks, notation, and a process that imports nothing from strangers."""

import subprocess
import sys

import pytest
from datasets import Dataset

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.search.query import check_notation
from class_hf.search.substructure import check_smiles, first_matches

STEREO = [
    # pattern, matching molecules, molecules that match only without stereo
    ("C[C@H](O)CC", ["C[C@H](O)CC", "CC[C@H](C)O"], ["C[C@@H](O)CC", "CC[C@@H](C)O", "CC(O)CC"]),
    ("[C@@H](C)(O)CC", ["[C@@H](C)(O)CC"], ["[C@H](C)(O)CC"]),
    ("C/C=C/C", ["C/C=C/C", "C\\C=C\\C", "CC/C=C/C"], ["C/C=C\\C", "CC=CC"]),
    ("F/C=C\\[#6]", ["F/C=C\\C", "C\\C=C/F"], ["F/C=C/C"]),
    ("N[C@@H](C)C(=O)O", ["C[C@H](N)C(=O)O", "N[C@@H](C)C(=O)O"], ["C[C@@H](N)C(=O)O", "CC(N)C(=O)O"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), STEREO)
def test_stereo_marks_are_respected_unless_ignored(pattern, matching, others):
    molecules = [*others, "CCCCCC", *matching]
    assert [molecules[place] for place in first_matches(pattern, molecules, 99, 30)] == matching
    found = first_matches(pattern, molecules, 99, 30, use_stereo=False)
    assert [molecules[place] for place in found] == [*others, *matching]


def test_stereo_marks_where_they_cannot_be_matched_are_refused():
    for pattern in ("[$(C/C=C/C)]", "[$([C@H](O)(C)CC)]", "C[$(C[$(C[C@@H](N)O)])]"):
        with pytest.raises(ValueError, match=r"stereo marks inside \$\(...\)"):
            first_matches(pattern, ["CCO"], 1, 30)
        assert first_matches(pattern, ["CCO"], 1, 30, use_stereo=False) == []
    assert first_matches("[$(C@C)]", ["CCO", "C1CC1"], 1, 30) == [1], "a ring bond is no stereo mark"


@pytest.fixture(scope="module")
def isomers(indexed_model, processor, tmp_path_factory):
    smiles = ["C[C@H](O)CC", "C[C@@H](O)CC", "CC(O)CC", "C[C@H](O)CC |&1:1|"]
    table = Dataset.from_dict({"id": ["S", "R", "flat", "racemate"], "smiles": smiles})
    return MoleculeIndex.build(table, indexed_model, processor, tmp_path_factory.mktemp("isomers") / "index")


def test_an_index_respects_stereo_and_keeps_extensions(isomers):
    def ids(**filters):
        return sorted(hit.id for hit in isomers.search("an alcohol", filters=MoleculeFilter(**filters)))

    assert ids(substructure="C[C@@H](O)CC") == ["R"]
    assert "R" not in ids(substructure="C[C@H](O)CC") and "S" in ids(substructure="C[C@H](O)CC")
    assert ids(substructure="C[C@@H](O)CC", use_stereo=False) == ["R", "S", "flat", "racemate"]
    assert "C[C@H](O)CC |&1:1|" in {hit.smiles for hit in isomers.search("an alcohol")}


@pytest.mark.parametrize("notation", ["CCO |$_AP1;;$|", "CCO\t|$_AP1;;$|", " CCO |$_AP1;;$| "])
def test_an_extension_is_part_of_a_smiles(isomers, notation):
    assert isomers.search(smiles=notation, k=1)
    check_smiles([check_notation(notation, "smiles", 100, "a SMILES")])


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("CCO ethanol", "has text after the white space"),
        ("CCO CC", "has text after the white space"),
        ("CCO |&1:1| name", "has text after the white space"),
        ("CC\u041e", "non-ASCII character 'О' .CYRILLIC CAPITAL LETTER O. at position 2"),
        ("\u0421CO", "CYRILLIC CAPITAL LETTER ES"),
        ("\ufeffCCO", "ZERO WIDTH NO-BREAK SPACE"),
        ("C\u2013O", "EN DASH"),
    ],
)
def test_what_is_not_part_of_a_smiles_is_refused(isomers, notation, message):
    with pytest.raises(ValueError, match=message):
        isomers.search(smiles=notation)
    with pytest.raises(ValueError, match=message):
        MoleculeFilter(substructure=notation)


HOSTILE = "raise SystemExit('executed')\n"


def test_the_process_imports_nothing_from_the_current_folder(tmp_path, monkeypatch):
    for name in (
        "json",
        "sys",
        "subprocess",
        "rdkit",
        "numpy",
        "encodings",
        "sitecustomize",
        "usercustomize",
        "class_hf",
    ):
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "json.py"))
    assert first_matches("CO", ["CC", "CCO"], 1, 30) == [1]


def test_a_script_in_a_hostile_folder(tmp_path):
    (tmp_path / "json.py").write_text("open('executed', 'w')\n" + HOSTILE)
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "run.py"
    script.write_text(
        "from class_hf.search.substructure import first_matches\nprint(first_matches('CO', ['CC', 'CCO'], 1, 30))"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "[1]\n", done.stderr
    assert not (tmp_path / "executed").exists()
