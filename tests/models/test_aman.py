"""AMAN's backbone: one head for both modalities, with the same statistics in training and evaluation."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel, AutoProcessor, BertConfig, BertModel

from class_hf import (
    AmanConfig,
    AmanLoss,
    AmanModel,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    TextMoleculeProcessor,
)
from class_hf.backbones.registry import build_loss, build_model
from class_hf.config.arguments import ModelArguments

TEXTS = ["The molecule is an acid. It has a role.", "The molecule is an alcohol.", "The molecule is an alkane."]
SMILES = ["CC(=O)O", "CCO", "CCC"]


def make(kind="lexical+graph", **kwargs):
    torch.manual_seed(0)
    text = {"num_buckets": 64, "embedding_size": 8, "hidden_size": 8, "intermediate_size": 8}
    if kind == "lexical+graph":
        graph = {"hidden_size": 8, "num_layers": 2}
        extractor = MoleculeGraphFeatureExtractor()
        model = AmanModel.from_towers(text_kwargs=text, molecule_kwargs=graph, projection_dim=8, **kwargs)
    else:
        molecule = {**text, "hidden_size": 16}
        extractor = MoleculeFingerprintFeatureExtractor(num_buckets=64)
        towers = {"molecule": "fingerprint", "text_kwargs": text, "molecule_kwargs": molecule}
        model = AmanModel.from_towers(**towers, projection_dim=8, **kwargs)
    return model, TextMoleculeProcessor(LexicalTokenizer(num_buckets=64), extractor)


KINDS = ("lexical+graph", "lexical+fingerprint")


def train_statistics(model, processor):
    with torch.no_grad():
        for _ in range(3):
            model.train()(**processor(text=TEXTS, smiles=SMILES))
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract(kind):
    model, processor = make(kind)
    for mode in (True, False):
        output = model.train(mode)(**processor(text=TEXTS, smiles=SMILES))
        assert output.text_embeds.shape == output.molecule_embeds.shape == (3, 8)
        torch.testing.assert_close(output.text_embeds.norm(dim=-1), torch.ones(3))
        torch.testing.assert_close(output.molecule_embeds.norm(dim=-1), torch.ones(3))
        assert output.logit_scale.shape == ()
    assert isinstance(model.text_projection, torch.nn.Identity)
    assert isinstance(model.molecule_projection, torch.nn.Identity) == (kind == "lexical+graph")


def test_the_published_sizes_are_the_defaults():
    config = AmanConfig()
    molecule = config.molecule_config
    assert (molecule.layer_type, molecule.num_layers, molecule.num_heads) == ("transformer", 3, 4)
    assert molecule.pooling == "mean" and config.projection_dim == molecule.hidden_size == 300
    model, _ = make()
    assert model.config.molecule_config.layer_type == "transformer"
    assert not model.config.learn_logit_scale and not model.logit_scale.log_scale.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_training_normalises_captions_and_molecules_together(kind):
    model, processor = make(kind)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = processor(text=TEXTS, smiles=SMILES)
    sides = ({key: value for key, value in batch.items() if key.startswith("molecule_") == side} for side in (0, 1))
    texts, molecules = (
        project(pooled(**inputs))
        for inputs, pooled, project in zip(
            sides,
            (model.pooled_text, model.pooled_molecules),
            (model.text_projection, model.molecule_projection),
            strict=True,
        )
    )
    h = torch.cat([texts, molecules]) @ model.head.linear.weight.T
    z = F.normalize(((h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()).tanh(), dim=-1)
    output = model(**batch)
    torch.testing.assert_close(torch.cat([output.text_embeds, output.molecule_embeds]), z)
    torch.testing.assert_close(model.head.batch_norm.running_mean, 0.1 * h.mean(0))
    torch.testing.assert_close(model.head.batch_norm.running_var, 0.9 + 0.1 * h.var(0))


@pytest.mark.parametrize("kind", KINDS)
def test_one_side_alone_equals_both_and_needs_evaluation_mode(kind):
    model, processor = make(kind)
    joint = train_statistics(model, processor)(**processor(text=TEXTS, smiles=SMILES))
    text, molecule = model(**processor(text=TEXTS)), model(**processor(smiles=SMILES))
    assert text.molecule_embeds is None and molecule.text_embeds is None
    assert torch.equal(text.text_embeds, joint.text_embeds)
    assert torch.equal(molecule.molecule_embeds, joint.molecule_embeds)
    single = model(**processor(text=TEXTS[:1])).text_embeds
    torch.testing.assert_close(single, joint.text_embeds[:1])
    model.train()
    for inputs in (processor(text=TEXTS), processor(smiles=SMILES)):
        with pytest.raises(ValueError, match="one side alone has no batch statistics in training mode"):
            model(**inputs)
    with pytest.raises(ValueError, match="no inputs"):
        model()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_equals_loaded_bit_for_bit(kind, tmp_path):
    model, processor = make(kind)
    expected = train_statistics(model, processor)(**processor(text=TEXTS, smiles=SMILES))
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), AmanConfig)
    for load_model, load_processor in ((AmanModel, TextMoleculeProcessor), (AutoModel, AutoProcessor)):
        loaded, loaded_processor = load_model.from_pretrained(tmp_path), load_processor.from_pretrained(tmp_path)
        assert type(loaded) is AmanModel and type(loaded_processor) is TextMoleculeProcessor
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        output = loaded(**loaded_processor(text=TEXTS, smiles=SMILES))
        assert torch.equal(output.text_embeds, expected.text_embeds)
        assert torch.equal(output.molecule_embeds, expected.molecule_embeds)
    half = AmanModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.head.batch_norm.running_var.dtype == torch.float32 and half.head.linear.weight.dtype == torch.bfloat16
    rough = half(**processor(text=TEXTS)).text_embeds
    assert rough.dtype == torch.float32 and F.cosine_similarity(rough, expected.text_embeds).min() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_every_learning_parameter_gets_a_gradient(kind):
    model, processor = make(kind)
    output = model.train()(**processor(text=TEXTS, smiles=SMILES))
    AmanLoss(embedding_size=8)(**output).loss.backward()
    without = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []


def test_towers_keep_their_weights(tmp_path):
    torch.manual_seed(3)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 16}
    BertModel(BertConfig(vocab_size=9, hidden_size=8, **sizes)).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)
    model = AmanModel.from_towers(text=str(tmp_path), molecule_kwargs={"hidden_size": 8, "num_layers": 1})
    for name, value in loaded.state_dict().items():
        assert torch.equal(model.text_model.state_dict()[name], value), name
    assert model.text_projection.weight.shape == (300, 8)


def test_a_recipe_builds_model_and_loss(tmp_path):
    arguments = ModelArguments(
        backbone="aman",
        molecule_model="graph",
        text_config='{"hidden_size": 8}',
        molecule_config='{"hidden_size": 8, "num_layers": 1}',
        dual_encoder_config='{"projection_dim": 16}',
        loss_config='{"embedding_size": 16, "margin": 0.5}',
    )
    model, processor = build_model(arguments)
    assert type(model) is AmanModel and model.config.molecule_config.layer_type == "transformer"
    loss = build_loss(arguments, seed=7)
    assert type(loss) is AmanLoss and loss.margin == 0.5 and loss.critic.seed == 7
    assert loss(**model.train()(**processor(text=TEXTS, smiles=SMILES))).loss.isfinite()
