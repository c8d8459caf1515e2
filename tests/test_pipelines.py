"""The pipelines give what model and index give, in batches, and `transformers` knows them."""

from dataclasses import asdict

import pytest
import torch
from conftest import tiny_model
from transformers import pipeline

from class_hf import MoleculeFilter  # also makes transformers know the tasks

SMILES = ["CCO", "CC(=O)O", "CCCN", "CS", "CCCCC"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processor):
    """A saved model with its processor."""
    path = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def embed(folder):
    return pipeline("molecule-feature-extraction", model=str(folder), device="cpu")


@pytest.mark.parametrize("side", ["molecule", "text"])
def test_vectors_are_the_models_own(embed, processor, side):
    inputs = SMILES if side == "molecule" else [f"The molecule is number {number}." for number in range(5)]
    model = tiny_model().eval()
    with torch.no_grad():
        own = model(**processor(**{"smiles" if side == "molecule" else "text": inputs}))[f"{side}_embeds"]
    for batch_size in (None, 1, 2, 8):
        vectors = torch.tensor(embed(inputs, side=side, batch_size=batch_size))
        torch.testing.assert_close(vectors, own, rtol=0, atol=1e-6)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(embed(inputs[1], side=side, return_tensors=True), own[1], rtol=0, atol=1e-6)


def test_lists_columns_and_generators(embed, pairs):
    one = embed(pairs["smiles"][:3])
    assert embed(pairs.select(range(3))["smiles"]) == embed(tuple(pairs["smiles"][:3])) == one
    lazy = embed((smiles for smiles in pairs["smiles"]), batch_size=3)
    assert not isinstance(lazy, list) and next(lazy) == one[0]
    assert embed([]) == []


@pytest.mark.parametrize(
    ("inputs", "kwargs", "message"),
    [
        (["CCO", "C1CC("], {}, r"C1CC\("),
        (["CCO", ""], {"side": "text"}, "caption 1"),
        ("CCO", {"side": "both"}, "side is 'both'; expected 'molecule'"),
        ("CCO", {"top_k": 3}, "unknown argument 'top_k'"),
    ],
)
def test_wrong_input_is_named(embed, inputs, kwargs, message):
    with pytest.raises(ValueError, match=message):
        embed(inputs, **kwargs)


def test_a_saved_pipeline_loads_again(embed, tmp_path):
    embed.save_pretrained(tmp_path)
    assert pipeline("molecule-feature-extraction", model=str(tmp_path), device="cpu")(SMILES) == embed(SMILES)


TEXT = "The molecule is a carboxylic acid."


@pytest.fixture(scope="module")
def find(indexed_model, processor, index_folder):
    return pipeline(
        "text-molecule-retrieval", model=indexed_model, processor=processor, index=index_folder, device="cpu"
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {}),
        ({"k": 3, "query_bank": False}, {"k": 3, "query_bank": False}),
        ({"filters": MoleculeFilter(max_weight=90)}, {"filters": MoleculeFilter(max_weight=90)}),
        ({"filters": {"elements": ["N"]}, "k": 4}, {"filters": MoleculeFilter(elements=["N"]), "k": 4}),
    ],
)
def test_retrieval_is_the_search_of_the_index(find, index, given, meant):
    hits = index.search(TEXT, **meant)
    assert hits and find(TEXT, **given) == [asdict(hit) for hit in hits]


def test_retrieval_of_several_texts_and_with_an_open_index(find, index, indexed_model, processor):
    texts = [TEXT, "An amine.", "A thiol."]
    results = find(texts, batch_size=2, k=2)
    assert [[hit["id"] for hit in hits] for hits in results] == [
        [hit.id for hit in hits] for hits in index.search(texts, k=2)
    ]
    opened = pipeline("text-molecule-retrieval", model=indexed_model, processor=processor, index=index, k=2)
    assert opened(texts, batch_size=2) == results


def test_retrieval_refuses_what_does_not_fit(find, index_folder, processor):
    for arguments, message in (
        ({"k": 0}, "k is 0"),
        ({"top_k": 3}, "unknown argument 'top_k'"),
        ({"filters": {"weight": 3}}, "unexpected keyword argument 'weight'"),
        ({"filters": 3}, "expected a MoleculeFilter"),
    ):
        with pytest.raises(ValueError, match=message):
            find(TEXT, **arguments)
    other = {"task": "text-molecule-retrieval", "model": tiny_model(seed=1), "processor": processor}
    with pytest.raises(ValueError, match="index is not given"):
        pipeline(**other)
    with pytest.raises(ValueError, match="is not the one that made the index"):
        pipeline(**other, index=index_folder)(TEXT)
