"""Adapters: trained and saved weights, and that adapter, merged model and resumed run equal the trained model."""

import json

import pytest
import torch
from conftest import tiny_bert, tiny_model
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    RetrievalEvaluator,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.backbones.adapters import (
    BASE_NAME,
    add_adapters,
    load_adapter,
    merge_adapter,
    save_adapter,
    trainable_parameters,
)

LORA = {"peft_type": "LORA", "r": 4}
FINGERPRINT = {"num_buckets": 256, "embedding_size": 8, "hidden_size": 16, "intermediate_size": 16}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Folder of a tiny pretrained text tower."""
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def bert_processor(bert, processor):
    from transformers import AutoTokenizer

    return TextMoleculeProcessor(AutoTokenizer.from_pretrained(bert), processor.feature_extractor, max_text_length=24)


def fresh(bert, seed=0, **kwargs):
    torch.manual_seed(seed)
    kwargs = {"projection_dim": 8, **kwargs}
    return TextMoleculeDualEncoderModel.from_towers(
        text=str(bert), molecule="fingerprint", molecule_kwargs=FINGERPRINT, **kwargs
    )


def trainer_of(model, folder, pairs, processor, **args):
    prepared = prepare_pairs(pairs, processor)
    settings = {
        "num_train_epochs": 3, "per_device_train_batch_size": 6, "learning_rate": 1e-2, "logging_steps": 1,
        "save_strategy": "no", "curriculum_start": 0.5, "seed": 5,
    }  # fmt: skip
    return CurriculumTrainer(
        model=model,
        args=CurriculumTrainingArguments(
            str(folder), use_cpu=True, report_to="none", disable_tqdm=True, **{**settings, **args}
        ),
        train_dataset=prepared,
        data_collator=TextMoleculeCollator(processor, seed=5),
        processing_class=processor,
        evaluator=RetrievalEvaluator(prepared.select(range(8)), prepared, processor=processor, bootstrap_samples=0),
    )


def vectors(model, processor, pairs):
    with torch.no_grad():
        output = model.eval()(**processor(text=pairs["description"][:6], smiles=pairs["smiles"][:6]))
    return torch.cat([output.text_embeds, output.molecule_embeds, output.logit_scale.expand(1, 8)])


@pytest.fixture(scope="module")
def trained(bert, bert_processor, pairs, tmp_path_factory):
    """A run with a checkpoint a step, its trainer, and the vectors at its end."""
    folder = tmp_path_factory.mktemp("run")
    trainer = trainer_of(
        add_adapters(fresh(bert), text=LORA), folder, pairs, bert_processor, save_strategy="steps", save_steps=1
    )
    trainer.train()
    return folder, trainer, vectors(trainer.model, bert_processor, pairs)


def test_what_learns(bert):
    model = add_adapters(fresh(bert), text=LORA)
    learning = {name for name, one in model.named_parameters() if one.requires_grad}
    tower = {name for name in learning if ".text_model." in name}
    assert tower and all("lora_" in name for name in tower)
    # 2 layers of 6 linear maps, each with two thin matrices.
    assert len(tower) == 2 * 6 * 2
    others = learning - tower
    plain = {name for name, _ in fresh(bert).named_parameters() if not name.startswith("text_model.")}
    assert {name.replace("base_model.model.", "").replace("modules_to_save.default.", "") for name in others} == plain
    assert trainable_parameters(model) == (
        sum(one.numel() for one in model.parameters() if one.requires_grad),
        sum(one.numel() for one in fresh(bert).parameters())
        + sum(one.numel() for name, one in model.named_parameters() if "lora_" in name),
    )


def test_only_what_learns_moves(trained, bert):
    before, after = fresh(bert).state_dict(), trained[1].model.get_base_model().state_dict()
    for name, value in before.items():
        if name.startswith("text_model."):
            stem, _, leaf = name.rpartition(".")
            now = after[name] if name in after else after[f"{stem}.base_layer.{leaf}"]
            assert torch.equal(now, value), name
        elif value.dim() > 1:
            part, _, rest = name.partition(".")
            assert not torch.equal(after[f"{part}.modules_to_save.default.{rest}"], value), name


def test_adapter_and_merged_model_give_the_trained_outputs(trained, bert, bert_processor, pairs, tmp_path):
    folder, trainer, expected = trained
    save_adapter(
        trainer.model,
        tmp_path / "adapter",
        base={"text": str(bert), "molecule": "fingerprint"},
        processor=bert_processor,
    )
    assert not any(
        "text_model.embeddings" in name for name in load_file(tmp_path / "adapter/adapter_model.safetensors")
    )
    assert json.loads((tmp_path / "adapter" / BASE_NAME).read_text())["towers"] == {"text": str(bert)}
    loaded = load_adapter(tmp_path / "adapter")
    assert torch.equal(vectors(loaded, bert_processor, pairs), expected)
    # By peft alone, onto a base whose projections begin elsewhere: the adapter holds them.
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        other = PeftModel.from_pretrained(fresh(bert, seed=9), tmp_path / "adapter")
    assert torch.equal(vectors(other, bert_processor, pairs), expected)
    merged = merge_adapter(loaded)
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModel.from_pretrained(tmp_path / "merged")
    assert set(again.state_dict()) == set(fresh(bert).state_dict())
    torch.testing.assert_close(vectors(again, bert_processor, pairs), expected, atol=1e-5, rtol=0)


def test_an_adapter_loads_onto_a_trained_dual_encoder(bert, bert_processor, pairs, tmp_path):
    base = fresh(bert)
    base.save_pretrained(tmp_path / "base")
    model = add_adapters(AutoModel.from_pretrained(tmp_path / "base"), text=LORA, molecule=LORA)
    trainer = trainer_of(model, tmp_path / "run", pairs, bert_processor, max_steps=2)
    trainer.train()
    expected = vectors(model, bert_processor, pairs)
    assert not torch.equal(expected, vectors(base, bert_processor, pairs))
    save_adapter(model, tmp_path / "adapter", base=str(tmp_path / "base"))
    for given in (None, tmp_path / "base", base):
        assert torch.equal(vectors(load_adapter(tmp_path / "adapter", given), bert_processor, pairs), expected)
    with pytest.raises(ValueError, match="does not fit the base TextMoleculeDualEncoderModel"):
        load_adapter(tmp_path / "adapter", tiny_model())
    with pytest.raises(ValueError, match="holds no adapter"):
        load_adapter(tmp_path / "base")


METHODS = {
    "LOHA": {"r": 2},
    "LOKR": {"r": 2},
    "IA3": {"feedforward_modules": []},
    "OFT": {"oft_block_size": 4, "r": 0},
    "VERA": {"r": 4},
    "HRA": {"r": 4},
    "LN_TUNING": {"target_modules": ["LayerNorm"]},
    "LORA": {"use_dora": True, "r": 2},
}


# peft says so of every layer that LN_TUNING is for.
@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
@pytest.mark.parametrize("kind", METHODS)
def test_methods_of_peft(kind, bert, bert_processor, pairs, tmp_path):
    model = add_adapters(fresh(bert), text={"peft_type": kind, **METHODS[kind]})
    trainer_of(model, tmp_path, pairs, bert_processor, max_steps=2).train()
    expected = vectors(model, bert_processor, pairs)
    save_adapter(model, tmp_path / "adapter", base={"text": str(bert), "molecule": "fingerprint"})
    loaded = load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(vectors(loaded, bert_processor, pairs), expected, atol=1e-6, rtol=0)
    merged = vectors(merge_adapter(loaded), bert_processor, pairs)
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=0)


def test_resumed_equals_straight(trained, bert, bert_processor, pairs, tmp_path):
    folder, straight, _ = trained
    total = straight.plan.total_steps
    for step in (1, total - 1):
        resumed = trainer_of(add_adapters(fresh(bert), text=LORA), tmp_path / str(step), pairs, bert_processor)
        resumed.train(str(folder / f"checkpoint-{step}"))
        assert resumed.state.global_step == total
        for name, value in straight.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), name


def test_chunks_train_as_whole_batches_and_the_best_checkpoint_comes_back(bert, bert_processor, pairs, tmp_path):
    """Without dropout; cached gradients, evaluation and `load_best_model_at_end` through the wrapped model."""
    runs = []
    for chunk in (None, 2):
        model = fresh(bert)
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        model.text_model.set_attn_implementation("eager")
        model.molecule_model.config.dropout = 0.0
        trainer = trainer_of(
            add_adapters(model, text=LORA), tmp_path / str(chunk), pairs, bert_processor, forward_chunk_size=chunk,
            eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, learning_rate=1e-3,
        )  # fmt: skip
        trainer.train()
        best = load_file(f"{trainer.state.best_model_checkpoint}/adapter_model.safetensors")
        name = "base_model.model.text_projection.weight"
        kept = trainer.model.get_base_model().text_projection.modules_to_save["default"].weight
        assert torch.equal(best[name], kept)
        runs.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert runs[0] == pytest.approx(runs[1], abs=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "there is no adapter"),
        ({"text": {"peft_type": "LORRA"}}, "did you mean 'LORA'"),
        ({"text": {"r": 4}}, "peft_type None: expected one of"),
        (
            {"text": {**LORA, "lora_alfa": 3}},
            "text_adapter has the unknown field 'lora_alfa'; did you mean 'lora_alpha'",
        ),
        ({"text": {**LORA, "modules_to_save": ["a"]}}, "unknown field 'modules_to_save'"),
        ({"text": {**LORA, "r": 0}}, "r"),
        ({"text": {**LORA, "target_modules": ["q_proj"]}}, "match no module of the text tower.*query"),
        ({"text": {**LORA, "target_modules": 3}}, "expected a list of names, a pattern, or all-linear"),
        ({"text": {"peft_type": "PROMPT_TUNING"}}, "not the layers of a tower"),
        ({"text": {"peft_type": "ADALORA"}}, "Use LORA"),
        ({"text": LORA, "molecule": {**LORA, "r": 2}}, "differ in more than target_modules"),
    ],
)
def test_wrong_adapters(kwargs, message, bert):
    with pytest.raises(ValueError, match=message):
        add_adapters(fresh(bert), **kwargs)


def test_a_frozen_tower_takes_no_adapter(bert):
    with pytest.raises(ValueError, match="text_adapter and freeze_text exclude each other"):
        add_adapters(fresh(bert, freeze_text=True), text=LORA)


def test_names_and_patterns_count_inside_the_tower(bert):
    for wanted in (["query", "attention.output.dense"], r"encoder\.layer\.\d\.attention\.(self\.query|output\.dense)"):
        model = add_adapters(fresh(bert), text={**LORA, "target_modules": wanted})
        names = {name.split(".lora_")[0] for name, _ in model.named_parameters() if "lora_" in name}
        assert len(names) == 4 and all(".text_model.encoder.layer." in name for name in names)


def test_a_base_that_nobody_could_build_is_refused(bert):
    model = add_adapters(fresh(bert), molecule=LORA)
    with pytest.raises(ValueError, match="the molecule tower 'fingerprint' starts from random weights"):
        save_adapter(model, "nowhere", base={"text": str(bert), "molecule": "fingerprint"})
