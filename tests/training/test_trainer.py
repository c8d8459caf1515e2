"""The trainer around the plan: logs, epochs, intensity, evaluation, cards."""

import json

import numpy as np
import pytest
import torch
from conftest import tiny_model
from trainer_parts import arguments
from transformers import EarlyStoppingCallback, TrainerCallback

from class_hf import (
    ContrastiveLoss,
    CurriculumPlan,
    CurriculumTrainer,
    RetrievalEvaluator,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
)
from class_hf.training.costs import count_tokens
from class_hf.training.records import evaluate_run


@pytest.fixture
def trainer_for(tmp_path, prepared, processor):
    def make(model=None, loss=None, plan=None, dataset=prepared, callbacks=None, **kwargs):
        evaluator = RetrievalEvaluator(prepared.select(range(8)), prepared, processor=processor, bootstrap_samples=0)
        return CurriculumTrainer(
            model=model if model is not None else tiny_model(),
            args=arguments(tmp_path, **kwargs),
            train_dataset=dataset,
            data_collator=TextMoleculeCollator(processor),
            processing_class=processor,
            evaluator=evaluator,
            loss=loss,
            plan=plan,
            callbacks=callbacks,
        )

    return make


def test_it_learns(trainer_for):
    trainer = trainer_for(model=tiny_model(dropout=0.0), num_train_epochs=30, learning_rate=0.02)
    before = trainer.evaluate()["eval_mrr"]
    trainer.train()
    assert trainer.evaluate()["eval_mrr"] > max(0.6, before + 0.2)


def test_logs_say_where_the_curriculum_is(trainer_for):
    trainer = trainer_for(intensity_actions=["sharpness"])
    trainer.train()
    plan = trainer.plan
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == [*range(1, plan.total_steps + 1)]
    for entry in logs:
        epoch = plan.epoch_at(entry["step"] - 1)
        assert entry["curriculum_epoch"] == epoch
        assert entry["competence"] == plan.competence(epoch)
        assert entry["pool_size"] == plan.pool_sizes[epoch]
        assert 0 <= entry["in_batch_accuracy"] <= 1
        assert entry["wall_seconds"] >= 0
    intensities = [entry["intensity"] for entry in logs]
    assert intensities[0] == 0.5 and intensities[-1] == 1.0 and intensities == sorted(intensities)


@pytest.mark.parametrize("chunk", (None, 2))
def test_costs_are_counted(trainer_for, prepared, chunk):
    trainer = trainer_for(eval_strategy="epoch", forward_chunk_size=chunk)
    trainer.evaluate()  # before the training: not counted
    trainer.train()
    plan, costs = trainer.plan, trainer.train_costs
    lengths = [
        trainer.processing_class.collate_text([blob])["input_ids"].numel() for blob in prepared["text_features"]
    ]
    assert costs["pairs_seen"] == plan.total_pairs
    assert costs["tokens_seen"] == sum(lengths[row] for row in plan.order())
    evaluations = [entry for entry in trainer.state.log_history if "eval_mrr" in entry and entry["step"] > 0]
    spent = sum(entry["eval_cpu_seconds"] for entry in evaluations)
    assert costs["evaluation_cpu_seconds"] == pytest.approx(spent, abs=0.01) and spent > 0
    assert costs["cpu_seconds"] > spent and costs["wall_seconds"] > 0
    assert [entry["pairs_seen"] for entry in evaluations] == [4 * entry["step"] for entry in evaluations]
    # Another training starts at zero.
    trainer.train()
    assert trainer.train_costs["pairs_seen"] == plan.total_pairs


def test_padding_and_cached_captions_are_no_tokens():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert int(count_tokens({"input_ids": torch.zeros(2, 3), "attention_mask": mask})) == 5
    assert count_tokens({"text_pooled": torch.zeros(2, 8)}) == 0


def test_steps_and_learning_rate_end_with_the_plan(trainer_for):
    trainer = trainer_for(lr_scheduler_type="linear")
    trainer.train()
    assert trainer.state.global_step == trainer.plan.total_steps < trainer.plan.full_steps
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0
    assert trainer.state.epoch == 4 and trainer.state.num_train_epochs == 4


@pytest.mark.parametrize("max_steps", (3, 40))
def test_max_steps_is_the_length_of_the_run(trainer_for, max_steps):
    trainer = trainer_for(max_steps=max_steps)
    trainer.train()
    assert trainer.state.global_step == max_steps and trainer.lr_scheduler.get_last_lr()[0] == 0.0


def test_strategies_by_epoch_fire_at_curriculum_epochs(trainer_for, tmp_path):
    trainer = trainer_for(eval_strategy="epoch", save_strategy="epoch", logging_strategy="epoch")
    trainer.train()
    ends = np.cumsum(trainer.plan.steps_per_epoch).tolist()
    evaluated = [entry["step"] for entry in trainer.state.log_history if "eval_mrr" in entry]
    assert evaluated == ends
    assert sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*")) == ends
    epochs = [entry["epoch"] for entry in trainer.state.log_history if "eval_mrr" in entry]
    assert epochs == [1, 2, 3, 4]
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == ends


def test_evaluation_does_not_change_training(trainer_for):
    weights = []
    for strategy in ("no", "epoch"):
        trainer = trainer_for(model=tiny_model(dropout=0.3), eval_strategy=strategy)
        trainer.train()
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_the_best_model_by_mrr_is_loaded_at_the_end(trainer_for):
    trainer = trainer_for(
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        num_train_epochs=6,
        learning_rate=0.05,
    )
    trainer.train()
    history = [entry["eval_mrr"] for entry in trainer.state.log_history if "eval_mrr" in entry]
    assert trainer.state.best_metric == max(history)
    assert trainer.evaluate()["eval_mrr"] == pytest.approx(max(history))


def test_early_stopping(trainer_for):
    trainer = trainer_for(
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        learning_rate=1e-12,
        callbacks=[EarlyStoppingCallback(3)],
    )
    trainer.train()
    assert trainer.state.global_step < trainer.plan.total_steps


@pytest.mark.parametrize("accumulation", (1, 2))
def test_step_size_scales_the_rate_of_the_step_and_nothing_else(trainer_for, accumulation, monkeypatch):
    used = []
    plain = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        used.append(self.param_groups[0]["lr"])
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    trainer = trainer_for(
        intensity_actions=["step_size"],
        lr_scheduler_type="constant",
        per_device_train_batch_size=4 // accumulation,
        gradient_accumulation_steps=accumulation,
        optim="adamw_torch",
    )
    trainer.train()
    start = trainer.plan.competence(0)
    kappas = [
        0.5 + 0.5 * (trainer.plan.competence(trainer.plan.epoch_at(s)) - start) / (1 - start) for s in range(len(used))
    ]
    assert used == pytest.approx([0.01 * kappa for kappa in kappas])
    assert trainer.optimizer.param_groups[0]["lr"] == 0.01


def test_accumulation_gives_the_mean_of_the_micro_batches_gradients(trainer_for):
    class KeepGradients(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            self.gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    keep = KeepGradients()
    trainer = trainer_for(
        model=tiny_model(dropout=0.0),
        gradient_accumulation_steps=3,
        max_steps=1,
        max_grad_norm=1e9,
        callbacks=[keep],
    )
    rows = trainer.plan.epoch_order(0)[:12]
    trainer.train()
    model = tiny_model(dropout=0.0)
    for micro in range(3):
        batch = trainer.data_collator([trainer.train_dataset[int(row)] for row in rows[4 * micro : 4 * micro + 4]])
        keys = batch.pop("pair_keys")
        output = model(**batch)
        (ContrastiveLoss()(*output.values(), pair_keys=keys).loss / 3).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(keep.gradients[name], parameter.grad)


def test_bf16(trainer_for, prepared, processor):
    trainer = trainer_for(bf16=True)
    trainer.train()
    embeddings, *_ = evaluate_run(trainer, {"validation": prepared}, prepared, processor)
    model = tiny_model().eval()
    model.load_state_dict(trainer.model.state_dict())
    for name, value in RetrievalEvaluator(prepared, processor=processor).embeddings(model).items():
        assert torch.equal(value, embeddings[name]), name  # float32, as class-hf evaluate
    assert np.isfinite([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]).all()
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_the_text_tower_has_its_own_learning_rate(trainer_for, tmp_path):
    settings = dict(learning_rate=0.01, text_learning_rate=0.001, weight_decay=0.1, lr_scheduler_type="linear")
    trainer = trainer_for(**settings, save_strategy="steps", save_steps=3)
    assert trainer.create_optimizer() is trainer.create_optimizer()  # split once
    decayed = trainer.get_decay_parameter_names(trainer.model)
    groups = {id(parameter): group for group in trainer.optimizer.param_groups for parameter in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        group = groups.pop(id(parameter))
        assert group["lr"] == (0.001 if name.startswith("text_model.") else 0.01), name
        assert group["weight_decay"] == (0.1 if name in decayed else 0.0), name
    assert not groups
    trainer.train()
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.0] * 4
    logs = {entry["step"]: entry for entry in trainer.state.log_history if "loss" in entry}
    assert logs[1]["learning_rate"] == 0.01
    resumed = trainer_for(**settings)
    resumed.train(str(tmp_path / "checkpoint-3"))
    for first, second in zip(trainer.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_rate_for_no_text_tower(trainer_for):
    with pytest.raises(ValueError, match="no parameters under `text_model` are trained"):
        trainer_for(model=tiny_model(freeze_text=True), text_learning_rate=1e-3).train()
    with pytest.raises(ValueError, match=r"text_learning_rate is 0.0; expected a number in \(0, 100\]"):
        trainer_for(text_learning_rate=0.0)


def test_the_scale_has_no_weight_decay(trainer_for):
    trainer = trainer_for(weight_decay=0.1)
    decayed = trainer.get_decay_parameter_names(trainer.model)
    assert decayed and not [name for name in decayed if "logit_scale" in name]


def test_plans_that_do_not_fit_are_refused(trainer_for):
    with pytest.raises(ValueError, match="plan is for 10 pairs, the training set has 24"):
        trainer_for(plan=CurriculumPlan(num_pairs=10, epochs=1, batch_size=4, order="none"))
    with pytest.raises(ValueError, match="global batch of 8, the arguments one of 4"):
        trainer_for(plan=CurriculumPlan(num_pairs=24, epochs=1, batch_size=8, order="none"))


def test_evaluate_on_other_pairs(trainer_for, prepared):
    metrics = trainer_for().evaluate(prepared.select(range(10)), metric_key_prefix="other")
    assert 0 < metrics["other_mrr"] <= 1 and "other_split_molecule_to_text_mrr" in metrics


def test_saved_model_and_card(trainer_for, tmp_path, prepared):
    trainer = trainer_for()
    trainer.train()
    trainer.save_model()
    loaded = TextMoleculeDualEncoderModel.from_pretrained(tmp_path)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    report = trainer.evaluator(trainer.model)
    trainer.create_model_card(dataset="tiny pairs", metrics=report, command="python train.py", license="mit")
    card = (tmp_path / "README.md").read_text()
    from huggingface_hub import ModelCard

    metadata = ModelCard(card).data
    assert metadata.license == "mit" and metadata.library_name == "class_hf"
    assert {result.metric_type for result in metadata.eval_results} >= {
        "text_to_molecule_mrr",
        "molecule_to_text_hits@10",
    }
    trainer.create_model_card(model_name="tiny")  # as a push does
    assert "python train.py" in (tmp_path / "README.md").read_text()
    assert "python train.py" in card and f"{trainer.plan.total_steps} steps" in card
    names = {path.name for path in tmp_path.iterdir()}
    assert "training_args.bin" not in names and "model.safetensors" in names
    assert json.loads((tmp_path / "training_args.json").read_text())["curriculum_start"] == 0.4


def test_tensorboard_gets_the_curriculum(trainer_for, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="needs the extra `tracking`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = trainer_for(report_to="tensorboard", max_steps=2)
    trainer.train()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/curriculum_epoch", "train/competence", "train/pool_size", "train/intensity"} <= tags
    assert [event.value for event in events.Scalars("train/pool_size")] == list(trainer.plan.pool_sizes[:1]) * 2


def test_trackio_gets_the_curriculum(trainer_for, tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio", reason="needs the extra `tracking`")
    logged = []
    monkeypatch.setattr(trackio, "init", lambda **kwargs: None)
    monkeypatch.setattr(trackio, "log", lambda metrics, *args, **kwargs: logged.append(metrics))
    monkeypatch.setattr(trackio, "finish", lambda: None)
    trainer = trainer_for(report_to="trackio", max_steps=2)
    trainer.train()
    assert {"train/curriculum_epoch", "train/competence", "train/pool_size", "train/intensity"} <= set(logged[0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"curriculum_start": 0.0}, "curriculum_start is 0.0"),
        ({"curriculum_pacing": "fast"}, "'fast' is not known"),
        ({"curriculum_span": 1.5}, "curriculum_span is 1.5"),
        ({"intensity_actions": ["volume"]}, "'volume' is not known"),
        ({"intensity_start": 2.0}, "intensity_start is 2.0"),
        ({"contrastive_label_smoothing": 1.0}, "contrastive_label_smoothing is 1.0"),
        ({"dataloader_drop_last": False}, "dataloader_drop_last cannot be used"),
        ({"train_sampling_strategy": "sequential"}, "train_sampling_strategy cannot be used"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size cannot be used"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches cannot be used"),
        ({"hub_token": "secret"}, "hf auth login"),
    ],
)
def test_bad_arguments(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **kwargs)


def test_none_switches_the_actions_off(tmp_path):
    assert arguments(tmp_path, intensity_actions=["none"]).intensity_actions == []


def test_an_unknown_order_is_refused(trainer_for):
    with pytest.raises(ValueError, match="'medium' is not known"):
        trainer_for(curriculum_order="medium")
