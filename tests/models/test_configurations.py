"""Configurations refuse misspelt fields, and keep what transformers and saved files add."""

import json

import pytest
from transformers import AutoConfig

from class_hf import (
    AmanConfig,
    LexicalConfig,
    MoleculeFingerprintConfig,
    MoleculeFusedConfig,
    MoleculeGraphConfig,
    OrmaConfig,
    OrmaGraphConfig,
    Text2MolConfig,
    Text2MolMoleculeConfig,
    TextMoleculeDualEncoderConfig,
)

MISSPELT = {
    LexicalConfig: "hiden_size",
    MoleculeFingerprintConfig: "num_bucket",
    MoleculeGraphConfig: "num_layer",
    MoleculeFusedConfig: "graph_droput",
    OrmaGraphConfig: "layer_typ",
    Text2MolMoleculeConfig: "num_convolution",
    TextMoleculeDualEncoderConfig: "projection_dims",
    AmanConfig: "learn_logit_scal",
    OrmaConfig: "level_weight",
    Text2MolConfig: "logit_scale_init",
}


@pytest.mark.parametrize("kind", MISSPELT, ids=lambda kind: kind.__name__)
def test_misspelt_fields_are_refused(kind):
    with pytest.raises(ValueError, match=f"^{kind.__name__} has no field '{MISSPELT[kind]}'; did you mean '"):
        kind(**{MISSPELT[kind]: 3})


def test_misspelt_fields_of_a_tower_are_refused():
    with pytest.raises(ValueError, match="LexicalConfig has no field 'hiden_size'; did you mean 'hidden_size'"):
        TextMoleculeDualEncoderConfig(text_config={"model_type": "lexical", "hiden_size": 8})
    with pytest.raises(ValueError, match="MoleculeGraphConfig has no field 'num_layer'; did you mean 'num_layers'"):
        MoleculeFusedConfig(graph_config={"num_layer": 2})


@pytest.mark.parametrize("kind", MISSPELT, ids=lambda kind: kind.__name__)
def test_other_fields_are_kept_and_loaded(kind, tmp_path):
    further = {"num_labels": 3, "attn_implementation": "eager", "note": "mine", "tokenizer_class": "LexicalTokenizer"}
    further |= {"num_hidden_layers": 2} if issubclass(kind, MoleculeGraphConfig) else {}
    config = kind(**further)
    config.comment = "set later"
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    for loaded in (kind.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path), kind.from_dict(saved)):
        assert json.loads(loaded.to_json_string()) == saved and (loaded.note, loaded.comment) == ("mine", "set later")
