"""Changed indexes: equal to a rebuild, crash-safe, and searched meanwhile.

CLASS_HF_LONG_TESTS=1 kills a change at 20 moments in place of 4.
"""

import os
import random
import shutil
import time

import numpy as np
import pytest
from datasets import concatenate_datasets, load_from_disk
from run_forked import Forked

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.search.stores.manifest import Manifest

TEXT = "The molecule is a carboxylic acid."
LONG = bool(os.environ.get("CLASS_HF_LONG_TESTS"))


def built(table, model, processor, folder, bank, exact_up_to=200_000):
    return MoleculeIndex.build(table, model, processor, folder, query_bank=bank, exact_up_to=exact_up_to)


@pytest.fixture
def bank(pairs):
    return pairs["description"][:12]


def assert_same(index, other):
    """All answers are equal, and so are the stored arrays up to rounding."""
    assert len(index) == len(other) and index.config["captions"] == other.config["captions"]
    for filters in (
        None,
        MoleculeFilter(elements="O", min_weight=40),
        MoleculeFilter(substructure="CO", where="number > 2"),
    ):
        for query_bank in (True, False):
            found, expected = (
                some.search(TEXT, k=50, filters=filters, query_bank=query_bank) for some in (index, other)
            )
            assert [(hit.id, hit.smiles, hit.fields) for hit in found] == [
                (hit.id, hit.smiles, hit.fields) for hit in expected
            ]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    captions = [[(hit.id, hit.fields) for hit in some.search_captions("CCO", k=50)] for some in (index, other)]
    assert captions[0] == captions[1]
    for name, values in other.store._arrays.items():
        np.testing.assert_allclose(index.store._arrays[name], values, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("exact_up_to", [200_000, 5])
def test_changes_equal_a_rebuild(molecules, indexed_model, processor, bank, tmp_path, exact_up_to):
    if exact_up_to == 5:
        pytest.importorskip("faiss", reason="needs the extra `faiss`")
    arguments = (indexed_model, processor)
    index = built(molecules.select(range(10)), *arguments, tmp_path / "index", bank, exact_up_to)
    index.add(molecules.select(range(10, 28)))
    assert_same(index, built(molecules, *arguments, tmp_path / "all", bank, exact_up_to))

    changed = molecules.select([3, 27, 11]).map(
        lambda row: {"smiles": row["smiles"] + "C", "description": f"A new caption of {row['id']}.", "number": -1}
    )
    index.update(changed)
    rows = [molecules.select([row]) for row in range(28)]
    for place, row in zip((3, 27, 11), range(3), strict=True):
        rows[place] = changed.select([row])
    table = concatenate_datasets(rows)
    assert_same(index, built(table, *arguments, tmp_path / "updated", bank, exact_up_to))

    index.delete(["m01", "salt", "m03"])
    kept = table.filter(lambda row: row["id"] not in ("m01", "salt", "m03"))
    rebuilt = built(kept, *arguments, tmp_path / "deleted", bank, exact_up_to)
    assert_same(index, rebuilt)
    loaded = MoleculeIndex.load(tmp_path / "index", *arguments)
    assert_same(loaded, rebuilt)
    assert loaded.verify()["files"] >= 10
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [".lock", "data-3", "index.json"]


def test_an_open_index_searches_on(molecules, indexed_model, processor, bank, tmp_path):
    index = built(molecules.select(range(20)), indexed_model, processor, tmp_path / "index", bank)
    reader = MoleculeIndex.load(tmp_path / "index", indexed_model, processor)
    index.add(molecules.select(range(20, 28)))
    index.delete(["m00"])
    expected = built(molecules.select(range(20)), indexed_model, processor, tmp_path / "old", bank)
    assert_same(reader, expected)
    with pytest.raises(ValueError, match="another process has changed the index .*; open it again"):
        reader.delete(["m01"])


def test_wrong_changes_leave_the_index_as_it_is(molecules, indexed_model, processor, tmp_path):
    index = MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "index")
    before = index.search(TEXT, k=50)
    row = molecules.select([0])
    renamed = row.remove_columns("id").add_column("id", ["new"])
    cases = [
        (index.add, row, "'m00' is already in the index; update them"),
        (index.add, row.remove_columns("id"), "lack the column 'id'"),
        (index.add, row.remove_columns("id").add_column("id", [None]), "molecules row 0: the id is empty"),
        (index.update, row.remove_columns("id").add_column("id", [""]), "molecules row 0: the id is empty"),
        (index.add, renamed.add_column("numbers", [1]), "has no column 'numbers'; did you mean 'number'"),
        (index.add, renamed.remove_columns("number").add_column("number", ["many"]), "column 'number' does not have"),
        (index.add, renamed.remove_columns("smiles").add_column("smiles", ["C1CC("]), "cannot parse"),
        (index.update, renamed, "'new' is not in the index; add them"),
        (index.delete, ["m00", "m99"], r"'m99' is not in the index\. Did you mean 'm.9'\?$"),
        (index.delete, ["SALT"], r"'SALT' is not in the index\. Did you mean 'salt'\?$"),
        (index.delete, ["m00,m01, salt"], r"is not in the index\. Separate ids by spaces: m00 m01 salt$"),
        (index.delete, ["nothing like it"], r"'nothing like it' is not in the index\.$"),
        (index.delete, molecules["id"][:], "no molecule would be left"),
    ]
    for change, argument, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            change(argument)
        assert "\n" not in str(caught.value)
    assert index.search(TEXT, k=50) == before
    assert MoleculeIndex.load(tmp_path / "index", indexed_model, processor).search(TEXT, k=50) == before


def test_one_process_changes_an_index_at_a_time(molecules, indexed_model, processor, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    index = MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "index")
    with (tmp_path / "index" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process changes the index"):
            index.delete(["m00"])
    index.delete(["m00"])


def test_a_full_disk_keeps_the_old_index(molecules, indexed_model, processor, tmp_path, monkeypatch):
    index = MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "index")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("class_hf.search.stores.folder_writer.save_array", full)
    with pytest.raises(OSError, match="cannot be written: the disk is full"):
        index.delete(["m00"])
    assert len(MoleculeIndex.load(tmp_path / "index")) == 28 and not (tmp_path / "index" / "data-1").exists()


def change(folder, model, more):
    """The changes of a process that is killed."""
    index = MoleculeIndex.load(folder, model)
    index.encoder()
    print("ready")
    index.add(load_from_disk(more))
    index.delete(["m01"])


def test_files_that_a_killed_change_did_not_remove_go_with_the_next_change(
    molecules, indexed_model, processor, tmp_path, monkeypatch
):
    MoleculeIndex.build(molecules.select(range(20)), indexed_model, processor, tmp_path / "index")
    index = MoleculeIndex.load(tmp_path / "index", indexed_model, processor)
    with monkeypatch.context() as killed:
        killed.setattr(Manifest, "remove_files", lambda manifest: None)  # killed after the new files were written
        index.delete(["m01"])
    assert (tmp_path / "index" / "molecules.npy").is_file()
    index.delete(["m02"])
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [".lock", "data-2", "index.json"]
    index.verify()
    assert len(MoleculeIndex.load(tmp_path / "index", indexed_model, processor)) == 18


def test_a_killed_change_leaves_the_old_or_the_new_index(molecules, indexed_model, processor, tmp_path):
    indexed_model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    MoleculeIndex.build(molecules.select(range(20)), str(tmp_path / "model"), output_dir=tmp_path / "before")
    molecules.select(range(20, 28)).save_to_disk(str(tmp_path / "more"))
    shutil.copytree(tmp_path / "before", tmp_path / "copy")
    index = MoleculeIndex.load(tmp_path / "copy", str(tmp_path / "model"))
    states = {20: index.search(TEXT, k=50)}
    index.add(molecules.select(range(20, 28)))
    states[28] = index.search(TEXT, k=50)
    index.delete(["m01"])
    states[27] = index.search(TEXT, k=50)
    generator = random.Random(0)
    for moment in range(20 if LONG else 4):
        folder = tmp_path / f"index_{moment}"
        shutil.copytree(tmp_path / "before", folder)
        process = Forked(change, folder, str(tmp_path / "model"), str(tmp_path / "more"))
        process.wait_for("ready")
        time.sleep(generator.uniform(0, 0.4))
        process.kill()
        process.end()
        index = MoleculeIndex.load(folder, str(tmp_path / "model"))
        assert index.search(TEXT, k=50) == states[len(index)]
        index.verify()
        index.delete(["m02"])  # cleans up
        names = [path.name for path in folder.iterdir()]
        assert len(names) == 3 and sum(name.startswith("data-") for name in names) == 1
