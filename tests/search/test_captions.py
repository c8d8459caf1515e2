"""Several captions of a molecule: it is one hit, and each caption is found."""

import pytest
from datasets import Dataset, DatasetDict

from class_hf import MoleculeIndex
from class_hf.search.captions import FURTHER, distinct_captions, with_captions

PAIRS = {"id": ["a", "a", "b", "a"], "description": ["An alcohol.", "A solvent.", "A thiol.", "A solvent."]}
POOL = {"id": ["a", "b", "c", "d"], "smiles": ["CCO", "CCS", "CCC", "CCN"], "split": ["train"] * 4}


@pytest.fixture(scope="module")
def table():
    late = Dataset.from_dict({"id": ["a", "d"], "description": ["A drink.", "A thiol."]})
    return with_captions(DatasetDict(train=Dataset.from_dict(PAIRS), test=late, pool=Dataset.from_dict(POOL)))


def test_a_molecule_is_one_row_with_all_its_captions(table):
    assert table["id"][:] == POOL["id"] and table["description"][:] == ["An alcohol.", "A thiol.", "", "A thiol."]
    assert table[FURTHER][:] == [["A solvent.", "A drink."], [], [], []]
    assert distinct_captions(table)[0] == ["An alcohol.", "A solvent.", "A drink.", "A thiol."]


@pytest.mark.parametrize("store", [None, "qdrant+memory:captions"])
def test_each_caption_is_found_with_its_text(table, indexed_model, processor, tmp_path, store):
    if store is not None:
        pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")
    place = tmp_path / "index" if store is None else None
    index = MoleculeIndex.build(table, indexed_model, processor, place, store=store)
    assert index.config["molecules"] == 4 and index.config["captions"] == 4
    assert sorted(hit.id for hit in index.search("A solvent.", k=10)) == ["a", "b", "c", "d"]
    hits = index.search_captions("CCO", k=10)
    assert sorted((hit.id, hit.fields["description"]) for hit in hits) == [
        ("a", "A drink."),
        ("a", "A solvent."),
        ("a", "An alcohol."),
        ("b", "A thiol."),
    ]
    alone = MoleculeIndex.build(table.select([0]).remove_columns(FURTHER), indexed_model, processor, tmp_path / "one")
    score = {hit.fields["description"]: hit.score for hit in hits}["An alcohol."]
    assert alone.search_captions("CCO", k=1)[0].score == pytest.approx(score, abs=1e-6)


def test_captions_follow_changes_of_the_index(table, indexed_model, processor, tmp_path):
    index = MoleculeIndex.build(table, indexed_model, processor, tmp_path / "index")
    index.delete(["b"])
    index.add(Dataset.from_dict({"id": ["e"], "smiles": ["CCCl"], "split": ["train"], "description": ["A gas."]}))
    index.update(Dataset.from_dict({"id": ["a"], "smiles": ["CCO"], "split": ["test"], "description": ["A fuel."]}))
    found = {hit.fields["description"]: hit.id for hit in index.search_captions("CCO", k=10)}
    assert found == {"A fuel.": "a", "A thiol.": "d", "A gas.": "e"}
    assert MoleculeIndex.load(tmp_path / "index", indexed_model, processor).verify()["files"] > 5


def test_a_store_of_one_caption_gets_the_first(table, indexed_model, processor, tmp_path, monkeypatch, caplog):
    from class_hf.search.stores.folder import FolderStore

    monkeypatch.setattr(FolderStore, "keeps_further_captions", False)
    index = MoleculeIndex.build(table, indexed_model, processor, tmp_path / "index")
    assert index.config["captions"] == 2 and "2 captions are not indexed" in caplog.text
