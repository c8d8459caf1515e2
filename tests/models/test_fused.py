"""The fused molecule tower: substructures and graph, and substructures only."""

import json

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor

from class_hf import (
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeFusedConfig,
    MoleculeFusedFeatureExtractor,
    MoleculeFusedModel,
    MoleculeGraphFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.backbones.registry import build_model
from class_hf.config.arguments import ModelArguments
from class_hf.models import chemical_names

SMILES = ["CCO", "c1ccccc1", "[Na+].[Cl-]", "C[C@H](N)C(=O)O"]
FINGERPRINT = {"num_buckets": 64, "embedding_size": 8, "hidden_size": 16, "intermediate_size": 8}
GRAPH = {"hidden_size": 12, "num_layers": 2, "pooling": "attention"}
FEATURES = {"num_buckets": 64, "substructures": ["composition"]}


def config(**fields) -> MoleculeFusedConfig:
    return MoleculeFusedConfig(fingerprint_config=FINGERPRINT, graph_config=GRAPH, **fields)


def dual_encoder(**fields) -> tuple[TextMoleculeDualEncoderModel, TextMoleculeProcessor]:
    torch.manual_seed(0)
    model = TextMoleculeDualEncoderModel.from_towers(
        text="lexical",
        molecule="fused",
        text_kwargs=FINGERPRINT,
        molecule_kwargs={"fingerprint_config": FINGERPRINT, "graph_config": GRAPH},
        projection_dim=8,
        **fields,
    )
    extractor = MoleculeFusedFeatureExtractor(fingerprint=FEATURES)
    names = fields.get("read_names", False)
    return model.eval(), TextMoleculeProcessor(LexicalTokenizer(num_buckets=64), extractor, read_names=names)


def test_a_batch_has_what_both_towers_read():
    batch = MoleculeFusedFeatureExtractor(fingerprint=FEATURES)(SMILES)
    features = {**MoleculeFingerprintFeatureExtractor(**FEATURES)(SMILES), **MoleculeGraphFeatureExtractor()(SMILES)}
    assert list(batch) == list(features) == MoleculeFusedFeatureExtractor.model_input_names
    assert all(torch.equal(batch[name], features[name]) for name in features)


def test_the_vector_is_the_sum_of_both_towers_or_the_fingerprint_s():
    torch.manual_seed(0)
    model = MoleculeFusedModel(config()).eval()
    batch = MoleculeFusedFeatureExtractor(fingerprint=FEATURES)(SMILES)
    bags = {name: value for name, value in batch.items() if name.startswith("fragment")}
    graphs = {name: value for name, value in batch.items() if name not in bags}
    with torch.no_grad():
        bag = model.fingerprint(**bags).pooler_output
        graph = model.graph(**graphs).pooler_output @ model.graph_projection.weight.T
        torch.testing.assert_close(model(**batch).pooler_output, bag + graph)
        assert graph.abs().max() > 1e-3  # both are there from the start
        assert torch.equal(model(**bags).pooler_output, bag)


def test_graph_dropout_is_the_graph_s_alone():
    model = MoleculeFusedModel(config(graph_dropout=0.5)).train()
    model.fingerprint.eval(), model.graph.eval()
    batch = MoleculeFusedFeatureExtractor(fingerprint=FEATURES)(SMILES)
    bags = {name: value for name, value in batch.items() if name.startswith("fragment")}
    with torch.no_grad():
        assert torch.equal(model(**bags).pooler_output, model(**bags).pooler_output)
        assert not torch.equal(model(**batch).pooler_output, model(**batch).pooler_output)


def test_a_molecule_s_vector_does_not_depend_on_its_batch():
    model, processor = dual_encoder()
    with torch.no_grad():
        together = model(**processor(smiles=SMILES)).molecule_embeds
        alone = torch.cat([model(**processor(smiles=molecule)).molecule_embeds for molecule in SMILES])
    torch.testing.assert_close(together, alone)


def test_saved_equals_loaded(tmp_path):
    model, processor = dual_encoder()
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    loaded, loaded_part = AutoModel.from_pretrained(tmp_path).eval(), AutoProcessor.from_pretrained(tmp_path)
    assert loaded_part.content_key() == processor.content_key()
    saved = json.loads((tmp_path / "config.json").read_text())["molecule_config"]
    assert saved["model_type"] == "molecule_fused" and saved["graph_config"]["num_layers"] == 2
    for name in ("text_embeds", "molecule_embeds"):
        kwargs = {"text": ["An alcohol."], "smiles": SMILES}
        torch.testing.assert_close(model(**processor(**kwargs))[name], loaded(**loaded_part(**kwargs))[name])


def test_the_tower_alone_is_saved_too(tmp_path):
    tower, extractor = MoleculeFusedModel(config()).eval(), MoleculeFusedFeatureExtractor(fingerprint=FEATURES)
    tower.save_pretrained(tmp_path), extractor.save_pretrained(tmp_path)
    loaded, loaded_part = AutoModel.from_pretrained(tmp_path).eval(), AutoFeatureExtractor.from_pretrained(tmp_path)
    # All arguments are saved, since a later release may change the defaults.
    assert (
        loaded_part.fingerprint == {**MoleculeFingerprintFeatureExtractor(**FEATURES).__dict__}
        and loaded_part.graph["version"] == 1
    )
    torch.testing.assert_close(loaded(**loaded_part(SMILES)).pooler_output, tower(**extractor(SMILES)).pooler_output)
    joined = TextMoleculeDualEncoderModel.from_towers(molecule=str(tmp_path))
    output = joined.molecule_model(**extractor(SMILES)).pooler_output
    torch.testing.assert_close(output, tower(**loaded_part(SMILES)).pooler_output)


def test_prepared_equals_on_the_fly(pairs):
    _, processor = dual_encoder()
    rows = prepare_pairs(pairs, processor)
    batch = TextMoleculeCollator(processor)([rows[0], rows[5]])
    expected = processor(smiles=[pairs[0]["smiles"], pairs[5]["smiles"]])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_named_structures_are_read_by_their_fingerprint_alone(monkeypatch):
    monkeypatch.setattr(chemical_names, "_ask_opsin", lambda names: ["CCO" * (name == "ethanol") for name in names])
    monkeypatch.setattr(chemical_names, "look_up", lambda names: {})
    monkeypatch.setattr(chemical_names, "_CACHE", {})
    model, processor = dual_encoder(read_names=True)
    texts = ["It derives from ethanol.", "Nothing is named here."]
    batch = processor(text=texts, smiles=SMILES)
    assert set(batch) == set(processor.model_input_names)
    assert sorted(name for name in batch if name.startswith("named_f")) == [
        "named_fragment_ids", "named_fragment_offsets",
    ]  # fmt: skip
    assert "named_atom_features" not in batch and batch["named_rows"].tolist() == [0]
    alone = MoleculeFingerprintFeatureExtractor(**FEATURES)("CCO")
    assert torch.equal(batch["named_fragment_ids"], alone["fragment_ids"])
    nothing = processor(text=texts[1:])  # one placeholder, of no caption
    assert nothing["named_rows"].tolist() == [1]
    torch.testing.assert_close(model(**batch).text_embeds[1:], model(**nothing).text_embeds)
    outputs = model.train()(**batch)
    (outputs.text_embeds[:, 0].sum() + outputs.molecule_embeds[:, 0].sum()).backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert missing == ["logit_scale.log_scale"]  # or DDP would wait for them


def test_recipes_build_it():
    features, tower = {"fingerprint": FEATURES}, {"fingerprint_config": {"hidden_size": 16}, "graph_config": GRAPH}
    model, processor = build_model(
        ModelArguments(
            molecule_model="fused", featurizer_config=json.dumps(features), molecule_config=json.dumps(tower)
        )
    )
    molecule = model.config.molecule_config
    assert (molecule.hidden_size, molecule.fingerprint_config.num_buckets) == (16, FEATURES["num_buckets"])
    assert molecule.graph_config.hidden_size == 12
    assert processor.feature_extractor.names_extractor.substructures == ["composition"]


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("molecule_config", {"fingerprint": {}}, "unknown field 'fingerprint'"),
        ("molecule_config", {"fingerprint_config": {"hidden": 1}}, "did you mean 'hidden_size'"),
        ("molecule_config", {"graph_config": {"layers": 1}}, "graph_config has the unknown field 'layers'"),
        ("featurizer_config", {"substructures": []}, "unknown field 'substructures'"),
        ("featurizer_config", {"fingerprint": {"radii": 1}}, "fingerprint has the unknown field 'radii'"),
        ("featurizer_config", {"fingerprint": {"radius": -1}}, "`radius` is -1"),
    ],
)
def test_wrong_fields_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(ModelArguments(molecule_model="fused", **{field: json.dumps(value)}))


def test_the_dropout_is_checked():
    with pytest.raises(Exception, match="graph_dropout"):
        config(graph_dropout=1.0)
