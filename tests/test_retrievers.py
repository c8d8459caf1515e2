"""The retrievers of docs/retrievers.md find what the index finds."""

import re
from pathlib import Path

import pytest

from class_hf import MoleculeFilter

PAGE = Path(__file__).parents[1] / "docs" / "retrievers.md"
QUERY = "an aromatic amine"


@pytest.fixture
def run(index_folder, saved_model, tmp_path, monkeypatch):
    """Runs a block of the page in a folder with an index, and returns its names."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "index").symlink_to(index_folder)
    monkeypatch.chdir(tmp_path)
    from class_hf import MoleculeIndex

    load = MoleculeIndex.load
    monkeypatch.setattr(MoleculeIndex, "load", lambda location: load(location, str(saved_model)))

    def execute(number):
        blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
        names = {"__name__": "retrievers"}
        exec(compile(blocks[number], "<docs/retrievers.md>", "exec"), names)
        return names

    return execute


@pytest.mark.filterwarnings("ignore")
def test_langchain(run, index):
    pytest.importorskip("langchain_core", reason="needs the package langchain-core")
    names = run(0)
    filters = MoleculeFilter(elements="S")
    documents = names["MoleculeRetriever"](index=index, k=4, filters=filters).invoke(QUERY)
    hits = index.search(QUERY, k=4, filters=filters)
    assert [document.id for document in documents] == [hit.id for hit in hits]
    assert documents[0].metadata == {
        "id": hits[0].id,
        "smiles": hits[0].smiles,
        "score": hits[0].score,
        **hits[0].fields,
    }
    assert documents[0].page_content == hits[0].fields["description"]
    assert len(names["retriever"].invoke(QUERY)) == 3


@pytest.mark.filterwarnings("ignore")
def test_llama_index(run, index):
    pytest.importorskip("llama_index.core", reason="needs the package llama-index-core")
    names = run(1)
    found = names["MoleculeNodeRetriever"](index, k=4).retrieve(QUERY)
    hits = index.search(QUERY, k=4)
    assert [(node.node.node_id, node.score) for node in found] == [(hit.id, hit.score) for hit in hits]
    assert found[0].node.text == hits[0].fields["description"] and found[0].node.metadata["smiles"] == hits[0].smiles
