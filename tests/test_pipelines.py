"""The pipelines give what model and index give, in batches, and `transformers` knows them."""

import subprocess
import sys

import pytest
import torch
from conftest import tiny_model
from transformers import pipeline

import class_hf  # noqa: F401  (makes transformers know the tasks)

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


@pytest.mark.parametrize(
    "imports",
    [
        "import class_hf; from transformers import pipeline",
        "import class_hf.pipelines; from transformers import pipeline",
    ],
)
def test_transformers_knows_the_tasks_whatever_is_imported_first(imports):
    code = f"{imports}\nfrom transformers.pipelines import check_task\n"
    code += "print(check_task('molecule-feature-extraction')[1]['impl'].__name__)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "MoleculeFeatureExtractionPipeline"
    assert "already registered" not in done.stderr


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
