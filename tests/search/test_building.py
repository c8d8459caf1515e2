"""Building: settings, duplicates, a store of a user's own, and a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.search.building import IndexSettings
from class_hf.search.stores import arrays, base

TEXT = "The molecule is a carboxylic acid."


def test_settings_and_keywords_are_equal(molecules, indexed_model, processor, tmp_path):
    settings = IndexSettings(exact_up_to=30, batch_size=7)
    first = MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "a", settings=settings)
    second = MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "b", exact_up_to=30, batch_size=7)
    assert first.config == second.config and first.search(TEXT) == second.search(TEXT)
    with pytest.raises(TypeError, match="did you mean 'batch_size'"):
        MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "c", batchsize=7)
    with pytest.raises(TypeError, match="give either settings or overwrite"):
        MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "c", settings=settings, overwrite=True)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"num_proc": -1}, "num_proc is -1"),
        ({"exact_up_to": -1}, "exact_up_to is -1"),
        ({"bank_method": "mean"}, "expected one of softmax, nearest"),
        ({"on_error": "ignore"}, "expected one of raise, drop"),
        ({"query_bank": []}, "query_bank has no captions"),
    ],
)
def test_settings_are_checked_before_any_work(option, message):
    with pytest.raises(ValueError, match=message):
        MoleculeIndex.build(None, None, output_dir="nowhere", **option)
    for store in ("postgres://host/db", "qdrant://host/name", "s3://bucket/index"):
        with pytest.raises(ValueError, match="store is "):
            MoleculeIndex.build(None, None, store=store)


def test_duplicate_rows_and_repeated_ids_are_counted(indexed_model, processor, tmp_path):
    table = Dataset.from_dict(
        {
            "id": ["a", "b", "a", "b", "c", "a"],
            "smiles": ["CCO", "CCN", "CCO", "CCN", "CCS", "CCO"],
            "description": ["x", "y", "x", "z", "", "x"],
        }
    )
    index = MoleculeIndex.build(table, indexed_model, processor, tmp_path / "index")
    assert index.config["duplicates"] == {"rows": 2, "ids": 1, "first": ["b"]}
    assert len(index) == 4 and sorted(hit.id for hit in index.search(TEXT)) == ["a", "b", "b", "c"]


def example_store(tmp_path, monkeypatch):
    """The store in the docstring of `VectorStore`, as a module of a user's own."""
    import doctest

    [test] = doctest.DocTestFinder(recurse=False).find(base.VectorStore, "VectorStore", globs={})
    classes = [example.source for example in test.examples if example.source.lstrip().startswith(("class", "from"))]
    lines = ["import numpy as np", "from class_hf.search.stores.base import Found, rows_that_pass", *classes]
    (tmp_path / "own_store.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)


def test_a_store_of_a_users_own_finds_the_same(
    molecules, indexed_model, processor, pairs, index, tmp_path, monkeypatch
):
    example_store(tmp_path, monkeypatch)
    location, bank = "own_store:MemoryStore@tiny", pairs["description"][:12]
    built = MoleculeIndex.build(molecules, indexed_model, processor, store=location, query_bank=bank)
    for filters in (
        None,
        MoleculeFilter(max_weight=90, elements="O"),
        MoleculeFilter(substructure="CO", where="number > 3"),
    ):
        for penalties in (True, False):
            found = [one.search(TEXT, k=7, filters=filters, query_bank=penalties) for one in (built, index)]
            assert [hit.id for hit in found[0]] == [hit.id for hit in found[1]]
            assert [hit.fields for hit in found[0]] == [hit.fields for hit in found[1]]
    assert built.search_captions("CCO", k=3)[0].id == index.search_captions("CCO", k=3)[0].id
    with pytest.raises(FileExistsError, match="in memory"):
        MoleculeIndex.build(molecules, indexed_model, processor, store=location)
    with pytest.raises(ValueError, match="there is no index 'other'"):
        MoleculeIndex.load("own_store:MemoryStore@other")
    with pytest.raises(ValueError, match="is no vector store: it has no create"):
        MoleculeIndex.load("collections:OrderedDict@x")
    with pytest.raises(ValueError, match="keeps no checksums"):
        built.verify()


def test_a_full_disk_is_one_line_and_leaves_nothing(molecules, indexed_model, processor, tmp_path, monkeypatch):
    """posix_fallocate reports the full disk before anything is mapped."""
    reserve = os.posix_fallocate

    def full(descriptor, start, length):
        if length > 500:
            raise OSError(28, "No space left on device")
        reserve(descriptor, start, length)

    monkeypatch.setattr(arrays.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="index cannot be written: the disk is full") as caught:
        MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "index")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a file system in memory")
def test_space_is_reserved_before_it_is_mapped(tmp_path):
    code = (
        "import numpy as np, shutil, sys\n"
        "from class_hf.search.stores.arrays import allocate_array\n"
        "free = shutil.disk_usage('/dev/shm').free\n"
        "try:\n"
        "    allocate_array(sys.argv[1], np.float32, (free // 1024 + 10_000, 256))\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
    )
    path = f"/dev/shm/class_hf_{os.getpid()}.npy"
    try:
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    finally:
        Path(path).unlink(missing_ok=True)
    assert done.stdout == "28\n", (done.returncode, done.stderr)


def test_files_that_appear_during_a_build_are_kept(molecules, indexed_model, processor, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    from class_hf.search.stores.folder_writer import FolderWriter

    finish = FolderWriter.finish

    def finish_late(writer, config):
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine")
        finish(writer, config)

    monkeypatch.setattr(FolderWriter, "finish", finish_late)
    with pytest.raises(FileExistsError, match="was changed by another process in the meantime"):
        MoleculeIndex.build(molecules, indexed_model, processor, folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="thesis|not empty|not written by this recipe"):
            MoleculeIndex.build(None, "no model", output_dir=tmp_path, overwrite=overwrite)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is the current folder"):
        MoleculeIndex.build(None, "no model", output_dir=".")


def test_tables_of_other_kinds_give_the_same_index(molecules, indexed_model, processor, tmp_path):
    rows = molecules.select(range(6))
    tables = {
        "dataset": rows,
        "frame": rows.to_pandas(),
        "arrow": rows.data.table.slice(0, 6),
        "columns": rows.to_dict(),
        "rows": list(rows),
        "numpy": rows.with_format("numpy"),
        "torch": rows.with_format("torch"),
    }
    found = {}
    for name, table in tables.items():
        index = MoleculeIndex.build(table, indexed_model, processor, tmp_path / name)
        found[name] = index.search("a primary alcohol", k=6)
        assert index.columns == {"id": "text", "smiles": "text", "description": "text", "number": "number"}
    assert all(hits == found["dataset"] for hits in found.values())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("molecules.csv", "the molecules are a str; expected a datasets.Dataset"),
        (DatasetDict(train=Dataset.from_dict({"smiles": ["C"]})), r"hold several splits \(train\). Pass one of them"),
        ({"smiles": ["C"], "_price": [1]}, "the column '_price' begins with an underscore"),
        ({"smiles": ["C"], "description": [["a gas", "an alkane"]]}, "'description' holds lists; expected one text"),
        ({"smiles": ["C"], "description": [5]}, "'description' holds int64; expected one text"),
        ({"smiles": ["C"], "further_descriptions": ["a gas"]}, "'further_descriptions' holds string; expected a list"),
    ],
)
def test_tables_that_an_index_would_read_in_part_are_refused(table, message, indexed_model, processor, tmp_path):
    with pytest.raises(ValueError, match=message):
        MoleculeIndex.build(table, indexed_model, processor, tmp_path / "index")
    assert not (tmp_path / "index").exists()
