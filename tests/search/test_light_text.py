"""Descriptions are embedded in NumPy as by the model, and other models load in full."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from class_hf import MoleculeIndex
from class_hf.search.encoder import IndexEncoder
from class_hf.search.light_text import LightTextEncoder, structure_digest

TEXTS = ["The molecule is a primary alcohol. It is derived from ethanol.", "an acid", "1.", "β-alanine 3,4-dihydroxy"]


def open_light(folder):
    return LightTextEncoder.open(str(folder), structure_digest(str(folder)))


@pytest.fixture(scope="module")
def index_of_folder(molecules, saved_model, tmp_path_factory):
    """An index that was built with a model in a folder."""
    folder = tmp_path_factory.mktemp("light") / "index"
    MoleculeIndex.build(molecules, str(saved_model), output_dir=folder).close()
    return folder


def test_the_vectors_are_those_of_the_model(saved_model):
    light, whole = open_light(saved_model), IndexEncoder.open(str(saved_model))
    vectors = light.embed_queries("text", TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (4, whole.model.config.projection_dim)
    np.testing.assert_allclose(vectors, whole.embed_queries("text", TEXTS), atol=1e-6)
    np.testing.assert_allclose(light.embed_queries("text", TEXTS[:1]), vectors[:1], atol=1e-6)


def test_hits_are_the_same_and_the_model_is_loaded_for_a_molecule(index_of_folder, saved_model):
    with (
        MoleculeIndex.load(index_of_folder, light_text=True) as light,
        MoleculeIndex.load(index_of_folder) as whole,
    ):
        for hit, expected in zip(light.search(TEXTS[0], k=9), whole.search(TEXTS[0], k=9), strict=True):
            assert (hit.id, hit.smiles) == (expected.id, expected.smiles)
            assert hit.score == pytest.approx(expected.score, abs=1e-6)
        assert light._encoder is None
        assert light.search(smiles="CCO", k=3) == whole.search(smiles="CCO", k=3)


def edit_json(name, **values):
    def edit(folder):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | values))

    return edit


def edit_weights(change):
    def edit(folder):
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", {"format": "pt"})

    return edit


def test_another_model_is_refused(index_of_folder, saved_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved_model, folder)
    edit_weights(lambda state: torch.nn.init.normal_(state["text_projection.weight"]))(folder)
    assert open_light(folder) is not None  # only the values differ
    with (
        MoleculeIndex.load(index_of_folder, str(folder), light_text=True) as index,
        pytest.raises(ValueError, match="is not the one that made the index"),
    ):
        index.search("an acid")


OTHERS = {
    "another model": edit_json("config.json", architectures=["TextMoleculeAmanModel"]),
    "another tower": edit_json("config.json", text_config={"model_type": "bert"}),
    "reads names": edit_json("config.json", read_names=True),
    "another tokenizer": edit_json("tokenizer_config.json", tokenizer_class="BertTokenizer"),
    "fewer ids": edit_json("tokenizer_config.json", num_buckets=7),
    "bf16": edit_weights(lambda state: state.update({name: value.bfloat16() for name, value in state.items()})),
    "a missing weight": edit_weights(lambda state: state.pop("text_projection.weight")),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "truncated weights": lambda folder: (folder / "model.safetensors").write_bytes(b"1234567"),
    "no JSON": lambda folder: (folder / "config.json").write_text("{"),
}


CHANGES = {
    "a setting": edit_json("config.json", projection_dropout=0.5),
    "the processor": lambda folder: (folder / "processor_config.json").write_text("{}"),
    "no processor": lambda folder: (folder / "processor_config.json").unlink(),
    "a further weight": edit_weights(lambda state: state.update(more=torch.zeros(2))),
    "a shorter file": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:-4]
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_model_is_loaded_in_full(kind, saved_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved_model, folder)
    CHANGES[kind](folder)
    assert LightTextEncoder.open(str(folder), structure_digest(str(saved_model))) is None
    assert LightTextEncoder.open(str(saved_model), None) is None  # of an index of an earlier version


@pytest.mark.parametrize("kind", OTHERS)
def test_every_other_model_is_left_to_the_loader(kind, saved_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved_model, folder)
    OTHERS[kind](folder)
    assert open_light(folder) is None


def test_a_model_that_has_diverged_is_refused(saved_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved_model, folder)
    edit_weights(lambda state: state["text_projection.weight"].fill_(float("nan")))(folder)
    with pytest.raises(ValueError, match="its training diverged"):
        open_light(folder).embed_queries("text", ["an acid"])


def test_modules_of_the_user_may_change_the_classes(saved_model, monkeypatch):
    monkeypatch.setenv("CLASS_HF_IMPORT", "my_towers")
    assert open_light(saved_model) is None
