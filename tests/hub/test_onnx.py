"""Exported models equal torch for each tower, and the encoder runs them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_bert
from recipe_scripts import load_recipe_script
from tiny_orma import tiny_orma
from transformers import AutoTokenizer

from class_hf import (
    Encoder,
    MoleculeFusedFeatureExtractor,
    MoleculeIndex,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
)

pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
pytest.importorskip("onnxscript", reason="needs the extra `onnx`")

from class_hf.hub.onnx_export import TOLERANCE, compare, save_onnx  # noqa: E402

RECIPES = Path(__file__).parents[2] / "recipes"
SIZES = {"num_buckets": 64, "embedding_size": 8, "hidden_size": 12, "intermediate_size": 8}
TEXTS = ["The molecule is a thiol, ethanethiol.", "acid", "It derives from 2-methylpropane. " * 5]
MOLECULES = ["CCS", "C", "[Na+].[Cl-]", "c1ccccc1C(=O)O", "C[C@H](N)C(=O)O"]


def assert_equal(model, processor, folder):
    """The exported vectors equal torch's for rows that the export has not seen, one by one and together."""
    exported, expected = Encoder.from_pretrained(str(folder), backend="onnx"), Encoder(model.eval(), processor)
    for batch_size in (1, 256):
        for name, rows in (("encode_text", TEXTS), ("encode_molecules", MOLECULES)):
            vectors = getattr(exported, name)(rows, batch_size=batch_size)
            np.testing.assert_allclose(vectors, getattr(expected, name)(rows), atol=TOLERANCE)
    assert exported.dimension == expected.dimension and str(exported.device) == "cpu"
    return exported


# Each export of a side takes a second or two, so each tower is exported once.
def test_the_command_exports_lexical_and_fingerprint_towers(
    saved_model, index_folder, index, processor, tmp_path, capsys
):
    load_recipe_script("export").main(
        ["--model", str(saved_model), "--output_dir", str(tmp_path / "onnx"), "--format", "onnx"]
    )
    assert (
        len(re.findall(r"^(text|molecule)\.onnx: largest difference from torch \d", capsys.readouterr().out, re.M))
        == 2
    )
    exported = assert_equal(index._model, processor, tmp_path / "onnx")
    with MoleculeIndex.load(index_folder, exported.model, exported.processor) as searched:
        found, expected = (some.search("a thiol", k=5) for some in (searched, index))
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    with pytest.raises(ValueError, match="cannot be trained"):
        exported.model.train()


def test_a_transformer_and_a_fused_tower_with_a_graph(tmp_path, monkeypatch):
    bert = tiny_bert(tmp_path / "bert")
    graph = {"hidden_size": 8, "num_layers": 1, "layer_type": "transformer", "num_heads": 2, "pooling": "attention"}
    torch.manual_seed(0)
    settings = {"fingerprint_config": SIZES, "graph_config": graph}
    model = TextMoleculeDualEncoderModel.from_towers(str(bert), "fused", molecule_kwargs=settings, projection_dim=6)
    extractor = MoleculeFusedFeatureExtractor({"num_buckets": 64})
    processor = TextMoleculeProcessor(AutoTokenizer.from_pretrained(bert), extractor, max_text_length=40)
    differences = save_onnx(model, processor, tmp_path / "onnx")
    assert set(differences) == {"text", "molecule"} and max(differences.values()) <= TOLERANCE
    exported = assert_equal(model, processor, tmp_path / "onnx")
    inputs = {entry.name: entry.shape for entry in exported.model._session("text").get_inputs()}
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert not any(isinstance(size, int) for shape in inputs.values() for size in shape), "a size is fixed"
    monkeypatch.setattr("class_hf.hub.onnx_export.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="the exported text side differs from torch by"):
        compare(model, processor, tmp_path / "onnx")


def test_what_cannot_be_exported_is_named(processor, tmp_path):
    with pytest.raises(ValueError, match="OrmaModel scores pairs by more than one vector a side"):
        save_onnx(tiny_orma(), processor, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
    with pytest.raises(ValueError, match="holds no exported model .no onnx.json"):
        Encoder.from_pretrained(str(tmp_path), backend="onnx")
    with pytest.raises(ValueError, match="backend is 'tensorrt'; expected 'torch' or 'onnx'"):
        Encoder.from_pretrained(str(tmp_path), backend="tensorrt")
    with pytest.raises(ValueError, match="runs in float32 on the CPU"):
        Encoder.from_pretrained(str(tmp_path), backend="onnx", dtype="bfloat16")
