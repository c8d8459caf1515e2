"""Activation checkpointing: passed on to the towers that support it, refused by name if none does."""

import datasets
import pytest
import torch
from conftest import rows_of_pairs
from test_dual_encoder import SMILES, TEXTS, make
from tiny_orma import tiny_orma, tiny_processor
from transformers.modeling_layers import GradientCheckpointingLayer

from class_hf import (
    ContrastiveLoss,
    CurriculumTrainer,
    CurriculumTrainingArguments,
    LexicalTokenizer,
    MoleculeFusedFeatureExtractor,
    Text2MolModel,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)

# The name of the argument and of the methods until transformers 5.22, and the name since.
NAME = "activation" if hasattr(TextMoleculeDualEncoderModel, "activation_checkpointing_enable") else "gradient"


def fused():
    torch.manual_seed(0)
    molecule = {"fingerprint_config": {"num_buckets": 64, "hidden_size": 8}, "graph_config": {"hidden_size": 8}}
    model = TextMoleculeDualEncoderModel.from_towers(
        molecule="fused", text_kwargs={"num_buckets": 64, "hidden_size": 8}, molecule_kwargs=molecule, projection_dim=8
    )
    extractor = MoleculeFusedFeatureExtractor(fingerprint={"num_buckets": 64})
    return model, TextMoleculeProcessor(LexicalTokenizer(num_buckets=64), extractor)


MODELS = {
    "bert+fingerprint": lambda: make("bert+fingerprint"),
    "bert+graph": lambda: make("bert+graph"),
    "bert+bert": lambda: make("bert+bert"),
    "lexical+fused": fused,
    "orma": lambda: (tiny_orma(), tiny_processor()),
}


def gradients(model, batch):
    model.zero_grad()
    torch.manual_seed(1)  # dropout
    output = model(**batch)
    (output.text_embeds @ output.molecule_embeds.T).square().sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("kind", MODELS)
def test_recomputed_activations_give_the_same_gradients(kind):
    model, processor = MODELS[kind]()
    batch = processor(text=TEXTS, smiles=SMILES)
    expected = gradients(model.train(), batch)
    calls = []
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.register_forward_pre_hook(lambda *_: calls.append(1))
    assert model.supports_gradient_checkpointing
    getattr(model, f"{NAME}_checkpointing_enable")()
    actual = gradients(model, batch)
    assert calls and actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-6, rtol=1e-5, msg=name)
    getattr(model, f"{NAME}_checkpointing_disable")()
    assert not getattr(model, f"is_{NAME}_checkpointing")


def test_activations_are_recomputed_in_the_backward_pass():
    model, processor = make("bert+graph")
    batch = processor(text=TEXTS, smiles=SMILES)
    runs = []
    layer = model.molecule_model.layers[0].messages
    layer.register_forward_hook(lambda *_: runs.append(1))
    getattr(model.train(), f"{NAME}_checkpointing_enable")()
    output = model(**batch)
    assert len(runs) == 1
    output.molecule_embeds.sum().backward()
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("model", "towers"),
    [
        (lambda: make("lexical+fingerprint")[0], "LexicalModel and MoleculeFingerprintModel"),
        (lambda: Text2MolModel.from_towers(projection_dim=8), "LexicalModel and Text2MolMoleculeModel"),
    ],
)
def test_towers_that_cannot_are_named(model, towers):
    model = model()
    assert not model.supports_gradient_checkpointing
    with pytest.raises(ValueError, match=f"neither tower supports it: {towers}"):
        getattr(model, f"{NAME}_checkpointing_enable")()


def trainer(kind, folder, **kwargs):
    model, processor = make(kind)
    rows = prepare_pairs(datasets.Dataset.from_dict(rows_of_pairs(8)), processor)
    args = CurriculumTrainingArguments(
        str(folder), use_cpu=True, max_steps=2, per_device_train_batch_size=4, save_strategy="no", report_to="none",
        logging_steps=1, disable_tqdm=True, curriculum_order="none", **kwargs,
    )  # fmt: skip
    return CurriculumTrainer(
        model, args, TextMoleculeCollator(processor), rows, processing_class=processor, loss=ContrastiveLoss()
    )


def test_a_training_with_checkpointing_equals_one_without(tmp_path):
    weights = []
    for kwargs in ({}, {f"{NAME}_checkpointing": True}):
        run = trainer("bert+graph", tmp_path, **kwargs)
        run.train()
        weights.append({name: value.detach() for name, value in run.model.named_parameters()})
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_a_training_that_cannot_says_so(tmp_path):
    with pytest.raises(ValueError, match="neither tower supports it: LexicalModel and MoleculeFingerprintModel"):
        trainer("lexical+fingerprint", tmp_path, **{f"{NAME}_checkpointing": True}).train()
