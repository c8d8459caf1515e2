"""Damaged indexes: each kind of damage is an error of one line, and never a wrong answer."""

import json
import os
import shutil

import numpy as np
import pytest
from datasets import load_from_disk

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.search.stores.manifest import _digest

TEXT = "The molecule is a carboxylic acid."
ARRAYS = ("molecules", "captions", "caption_rows", "weights", "elements", "patterns", "penalties")
CODES = ("molecules_codes", "molecules_projection", "captions_codes")


@pytest.fixture(scope="module")
def intact(molecules, indexed_model, processor, pairs, tmp_path_factory):
    """An index with every kind of file."""
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    folder = tmp_path_factory.mktemp("intact") / "index"
    bank = pairs["description"][:12]
    MoleculeIndex.build(molecules, indexed_model, processor, folder, query_bank=bank, exact_up_to=5).close()
    return folder


def change_array(name, change):
    """Writes a changed array in place of a file's."""

    def damage(folder):
        values = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", change(values))

    return damage


def with_value(value, row=3):
    def change(values):
        values[row] = value
        return values

    return change


def flip(name, place):
    """Flips a bit at a share of the file's length."""

    def damage(folder):
        path = folder / name
        content = bytearray(path.read_bytes())
        content[min(int(place * len(content)), len(content) - 1)] ^= 4
        path.write_bytes(content)

    return damage


def truncate(name, share):
    def damage(folder):
        os.truncate(folder / name, int(share * (folder / name).stat().st_size))

    return damage


def append(name):
    def damage(folder):
        with (folder / name).open("ab") as file:
            file.write(b"\0" * 8)

    return damage


def remove(name):
    def damage(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def text(name, content):
    def damage(folder):
        (folder / name).write_text(content)

    return damage


def edit_settings(change):
    def damage(folder):
        settings = json.loads((folder / "index.json").read_text())
        change(settings)
        (folder / "index.json").write_text(json.dumps(settings))

    return damage


def swap_rows(folder):
    table = load_from_disk(str(folder / "table"))
    table.select([1, 0, *range(2, len(table))]).save_to_disk(str(folder / "other"))
    shutil.rmtree(folder / "table")
    (folder / "other").rename(folder / "table")


TABLE = "table/data-00000-of-00001.arrow"
DAMAGES = {
    **{f"{name}: one row less": change_array(name, lambda values: values[:-1]) for name in ARRAYS},
    **{
        f"{name}: other type": change_array(
            name, lambda values: values.astype("f2" if values.dtype.kind == "f" else "i4")
        )
        for name in ARRAYS
    },
    **{f"{name}: Fortran order": change_array(name, np.asfortranarray) for name in ("molecules", "captions")},
    **{f"{name}: rows in another order": change_array(name, lambda values: values[::-1].copy()) for name in ARRAYS},
    **{f"{name}: NaN": change_array(name, with_value(np.nan)) for name in ("molecules", "captions", "weights")},
    "penalties: NaN": change_array("penalties", with_value(np.nan)),
    "caption_rows: out of range": change_array("caption_rows", with_value(10**6)),
    "caption_rows: negative": change_array("caption_rows", with_value(-1)),
    **{f"{name}: missing": remove(f"{name}.npy") for name in (*ARRAYS, *CODES)},
    **{f"{name}: truncated": truncate(f"{name}.npy", 0.7) for name in (*ARRAYS, *CODES)},
    **{f"{name}: empty": truncate(f"{name}.npy", 0) for name in ARRAYS},
    **{f"{name}: longer": append(f"{name}.npy") for name in ARRAYS},
    **{f"{name}: a bit flipped": flip(f"{name}.npy", 0.8) for name in (*ARRAYS, *CODES)},
    **{f"{name}: a bit of the header flipped": flip(f"{name}.npy", 0.0) for name in ARRAYS},
    "molecules: not an array": text("molecules.npy", "hello"),
    "table: missing": remove("table"),
    "table: rows in another order": swap_rows,
    **{f"table: a bit flipped at {place}": flip(TABLE, place) for place in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999)},
    **{f"table: truncated to {share}": truncate(TABLE, share) for share in (0, 0.3, 0.9)},
    "table: no state": remove("table/state.json"),
    "table: state is not JSON": text("table/state.json", "{"),
    "table: no features": text("table/dataset_info.json", "{}"),
    "settings: not JSON": text("index.json", "{"),
    "settings: a list": text("index.json", "[]"),
    "settings: empty": text("index.json", ""),
    "settings: nested too deeply": text("index.json", "[" * 100_000),
    "settings: other count": edit_settings(lambda settings: settings.update(molecules=27)),
    "settings: count is text": edit_settings(lambda settings: settings.update(molecules="28")),
    "settings: no captions": edit_settings(lambda settings: settings.update(captions=0)),
    "settings: other probes": edit_settings(lambda settings: settings.update(probes={})),
    "settings: no query bank": edit_settings(lambda settings: settings.update(query_bank=None)),
    "settings: exact search": edit_settings(lambda settings: settings.update(exact_up_to=10**6)),
    "settings: no checksum": edit_settings(lambda settings: settings.pop("checksum")),
    "settings: no files": edit_settings(lambda settings: settings.pop("files")),
    **{f"settings: a bit flipped at {place}": flip("index.json", place) for place in (0.02, 0.3, 0.5, 0.8, 0.95)},
}


def answers(folder, model, processor):
    """What the index answers to queries that use all of its files."""
    with MoleculeIndex.load(folder, model, processor) as index:
        filters = MoleculeFilter(min_weight=20, elements=["O"], substructure="CO", where="number >= 0")
        return [
            index.search(TEXT, k=5),
            index.search(TEXT, k=5, query_bank=False),
            index.search(smiles="CCO", k=5, filters=filters),
            index.search_captions("CCO", k=5),
        ]


def test_there_are_at_least_60_kinds():
    assert len(DAMAGES) >= 60


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_an_error_of_one_line(name, intact, indexed_model, processor, tmp_path):
    folder = tmp_path / "index"
    shutil.copytree(intact, folder)
    DAMAGES[name](folder)
    with pytest.raises(ValueError) as caught:
        answers(folder, indexed_model, processor)
    message = str(caught.value)
    assert "\n" not in message and 20 < len(message) < 400, message
    assert "damaged" in message or "missing" in message or "holds no index" in message, message


@pytest.mark.parametrize("name", [name for name in DAMAGES if not name.startswith("settings")])
def test_verify_names_the_damaged_file_whatever_its_size(name, intact, tmp_path, monkeypatch):
    """As for files that are too large to be compared before each use."""
    monkeypatch.setattr("class_hf.search.stores.manifest.CHECKED_BEFORE_USE", 0)
    folder = tmp_path / "index"
    shutil.copytree(intact, folder)
    assert MoleculeIndex.load(folder).verify()["files"] >= 13
    DAMAGES[name](folder)
    with pytest.raises(ValueError, match="damaged|missing") as caught:
        MoleculeIndex.load(folder).verify()
    assert name.split(":")[0] in str(caught.value)


def signed(change):
    """A changed `index.json` with a valid checksum, as a hostile index would have."""

    def damage(folder):
        settings = json.loads((folder / "index.json").read_text())
        settings.pop("checksum")
        change(settings)
        (folder / "index.json").write_text(json.dumps({**settings, "checksum": _digest(settings)}))

    return damage


HOSTILE = {
    "a list as files": signed(lambda settings: settings.update(files=["molecules.npy"])),
    "a number as file": signed(lambda settings: settings["files"].update({"molecules.npy": 3})),
    "a text as size": signed(lambda settings: settings["files"]["molecules.npy"].update(size="3")),
    "no digest": signed(lambda settings: settings["files"]["molecules.npy"].pop("sha256")),
    "a file outside": signed(lambda settings: settings["files"].update({"../victim": {"size": 1, "sha256": ""}})),
    "an absolute path": signed(lambda settings: settings["files"].update({"/etc/passwd": {"size": 1, "sha256": ""}})),
    "a hidden file": signed(lambda settings: settings["files"].update({".lock": {"size": 0, "sha256": ""}})),
    "data outside": signed(lambda settings: settings.update(data="../other")),
    "data that are missing": signed(lambda settings: settings.update(data="data-7", format=2)),
    "a number as format": signed(lambda settings: settings.update(format="1")),
    "a wrong dimension": signed(lambda settings: settings.update(dimension=7)),
    "too many molecules": signed(lambda settings: settings.update(molecules=10**15)),
    "a bank without settings": signed(lambda settings: settings.update(query_bank={})),
    "probes of text": signed(lambda settings: settings.update(probes={"text": "x"})),
    "probes without end": signed(lambda settings: settings.update(probes={"text": [float("nan")]})),
    "oversampling of text": signed(lambda settings: settings.update(oversampling="x")),
    "columns of text": signed(lambda settings: settings.update(columns="x")),
    "changes of text": signed(lambda settings: settings.update(changes="x")),
    "a list as exact_up_to": signed(lambda settings: settings.update(exact_up_to=[3])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_is_refused_and_no_other_file_is_touched(name, intact, indexed_model, processor, tmp_path):
    folder, victim = tmp_path / "index", tmp_path / "victim"
    shutil.copytree(intact, folder)
    victim.write_text("x")
    HOSTILE[name](folder)
    with pytest.raises(ValueError) as caught:
        answers(folder, indexed_model, processor)
        with MoleculeIndex.load(folder, indexed_model, processor) as index:
            index.delete(index.store.table["id"][:1])
    message = str(caught.value)
    assert "\n" not in message and 20 < len(message) < 400, message
    assert victim.read_text() == "x"


CHANGED = {
    "the folder is missing": remove("data-1"),
    "an array is missing": remove("data-1/molecules.npy"),
    "a truncated bank": truncate("data-1/bank.npy", 0.7),
    "a bit of the bank": flip("data-1/bank.npy", 0.9),
    "a bit of an array": flip("data-1/molecules.npy", 0.9),
    "a bit of the table": flip("data-1/table/data-00000-of-00001.arrow", 0.5),
    "the settings of the old index": lambda folder: shutil.copy(folder.parent / "old.json", folder / "index.json"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_index_that_is_damaged(name, intact, indexed_model, processor, molecules, tmp_path):
    folder = tmp_path / "index"
    shutil.copytree(intact, folder)
    shutil.copy(folder / "index.json", tmp_path / "old.json")
    with MoleculeIndex.load(folder, indexed_model, processor) as index:
        index.delete(["m00"])
    CHANGED[name](folder)
    with pytest.raises(ValueError, match="damaged|missing"):
        answers(folder, indexed_model, processor)
        with MoleculeIndex.load(folder, indexed_model, processor) as index:  # only a change reads the bank
            index.add(molecules.select([0]))


def test_an_intact_index_answers(intact, indexed_model, processor):
    first, _, filtered, captions = answers(intact, indexed_model, processor)
    assert len(first) == len(captions) == 5 and len(filtered) == 5


@pytest.mark.parametrize("name", [name for name in DAMAGES if "NaN" in name or "other type" in name or "less" in name])
def test_an_index_of_an_earlier_version_has_no_checksums(name, intact, indexed_model, processor, tmp_path):
    """Types, shapes, sizes and values are checked all the same."""
    folder = tmp_path / "index"
    shutil.copytree(intact, folder)
    edit_settings(lambda settings: [settings.pop(key) for key in ("checksum", "files")])(folder)
    assert answers(folder, indexed_model, processor) == answers(intact, indexed_model, processor)
    assert MoleculeIndex.load(folder).verify() == {"files": 0, "bytes": 0}
    DAMAGES[name](folder)
    with pytest.raises(ValueError, match="damaged"):
        answers(folder, indexed_model, processor)
        MoleculeIndex.load(folder).verify()
