"""Each argument of transformers works, or is refused by name with a reason: none is accepted and ignored."""

import dataclasses

import pytest
import torch
from conftest import tiny_model
from trainer_parts import arguments
from transformers import TrainingArguments

from class_hf import CurriculumTrainer, RetrievalEvaluator, TextMoleculeCollator

# Argument, value, and what the error must say.
REFUSED = [
    ("auto_find_batch_size", True, "the plan needs a fixed batch"),
    ("average_tokens_across_devices", False, "the loss is a mean over pairs"),
    ("batch_eval_metrics", True, "ranks the complete pool at once"),
    ("bf16_full_eval", True, "precision of the weights"),
    ("fp16_full_eval", True, "precision of the weights"),
    ("fp16", True, "needs a GPU"),
    ("dataloader_drop_last", False, "complete global batches"),
    ("dataloader_in_order", False, "the order of the batches"),
    ("do_predict", True, "class-hf evaluate"),
    ("eval_accumulation_steps", 2, "ranks in blocks"),
    ("eval_do_concat_batches", False, "ranks the complete pool at once"),
    ("eval_use_gather_object", True, "tensors of equal shapes"),
    ("hub_always_push", True, "one commit of the finished run"),
    ("hub_strategy", "every_save", "only `end` is supported"),
    ("hub_token", "hf_abc", "plain text"),
    ("ignore_data_skip", True, "would start the plan again"),
    ("include_for_metrics", ["inputs"], "receives the embeddings"),
    ("include_num_input_tokens_seen", "all", "count pairs, not tokens"),
    ("include_num_input_tokens_seen", True, "count pairs, not tokens"),
    ("label_names", ["labels"], "no labels"),
    ("label_smoothing_factor", 0.1, "contrastive_label_smoothing"),
    ("length_column_name", "size", "lengths do not matter"),
    ("liger_kernel_config", {"rope": True}, "no dual encoder has"),
    ("neftune_noise_alpha", 5.0, "dropout of the towers"),
    ("optim_args", "momentum=0.9", "no effect with optim 'adamw_torch_fused'"),
    ("optim_args", "momentum", "expected a list"),
    ("optim_target_modules", ["text"], "only GaLore and APOLLO"),
    ("parallelism_config", object(), "DDP, FSDP2 or DeepSpeed"),
    ("prediction_loss_only", True, "computes no loss"),
    ("remove_unused_columns", True, "the collator picks"),
    ("train_sampling_strategy", "group_by_length", "the plan is the order"),
    ("use_cache", True, "keep no cache"),
    ("use_liger_kernel", True, "no dual encoder has"),
    ("max_steps", 0, "max_steps is 0"),
    ("num_train_epochs", 0.5, "num_train_epochs is 0.5"),
    ("torch_empty_cache_steps", 0, "torch_empty_cache_steps"),
    ("lr_scheduler_type", "sideways", "sideways"),
    ("optim", "adam", "adam"),
    ("accelerator_config", {"split_batches": True}, "split_batches"),
    ("accelerator_config", {"splits": True}, "unexpected keyword argument 'splits'"),
    ("accelerator_config", {"gradient_accumulation_kwargs": {"num_steps": 4}}, "set gradient_accumulation_steps"),
    ("dataloader_persistent_workers", True, "there are no workers"),
    ("deepspeed", {}, "switches nothing on"),
    ("report_to", "swanlab", "not installed or not known"),
    ("lr_scheduler_kwargs", {"min": 1}, "unexpected keyword argument 'min'"),
    ("lr_scheduler_kwargs", "text", "must be a mapping"),
    ("optim", "lomo", "install"),
    ("lr_scheduler_type", "cosine_with_min_lr", "min_lr"),
    ("accelerator_config", {"dispatch_batches": True}, "dispatch_batches"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED, ids=[f"{n}={v!r:.20}" for n, v, _ in REFUSED])
def test_refused(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=message) as error:
        arguments(tmp_path, **{name: value})
    assert name in str(error.value) or message == name or name in ("optim", "lr_scheduler_type")


def test_sgd_names_the_arguments_that_it_reads(tmp_path):
    with pytest.raises(ValueError, match="optim_args has 'nesterof', which has no effect .*it reads momentum, damp"):
        arguments(tmp_path, optim="sgd", optim_args="momentum=0.9,nesterof=true")


@pytest.fixture
def train(tmp_path, prepared, processor):
    """Trains three steps with arguments, and returns the trainer."""

    def train(**kwargs):
        trainer = CurriculumTrainer(
            model=tiny_model(dropout=0.0),
            args=arguments(tmp_path, **{"max_steps": 3, **kwargs}),
            train_dataset=prepared,
            data_collator=TextMoleculeCollator(processor),
            processing_class=processor,
            evaluator=RetrievalEvaluator(prepared, processor=processor, bootstrap_samples=0),
        )
        trainer.train()
        return trainer

    return train


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def learning_rates(trainer):
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


def evaluations(trainer):
    return [entry["step"] for entry in trainer.state.log_history if "eval_mrr" in entry]


# Arguments that change what is computed, and how one sees it.
EFFECTS = {
    "eval_on_start": ({"eval_strategy": "steps", "eval_steps": 3}, lambda t: evaluations(t) == [0, 3]),
    "eval_delay": ({"eval_strategy": "steps", "eval_steps": 1, "eval_delay": 2}, lambda t: evaluations(t) == [2, 3]),
    "logging_first_step": ({"logging_steps": 3}, lambda t: len(losses(t)) == 2),
    "logging_strategy": ({"logging_strategy": "no"}, lambda t: losses(t) == []),
    "skip_memory_metrics": (
        {},
        lambda t: any("init_mem_cpu" in name for entry in t.state.log_history for name in entry),
    ),
    "lr_scheduler_kwargs": (
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 0.005}},
        lambda t: learning_rates(t)[-1] >= 0.005,
    ),
    "optim": ({"optim": "sgd"}, lambda t: "SGD" in type(t.optimizer.optimizer).__name__),
    "optim_args": (
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        lambda t: t.optimizer.param_groups[0]["momentum"] == 0.9,
    ),
    "max_steps": ({"max_steps": 5}, lambda t: t.state.global_step == t.plan.total_steps == 5),
    "gradient_accumulation_steps": ({"gradient_accumulation_steps": 2}, lambda t: t.plan.batch_size == 8),
    "weight_decay": ({"weight_decay": 0.1}, lambda t: t.optimizer.param_groups[0]["weight_decay"] == 0.1),
    "adam_beta1": ({"adam_beta1": 0.5}, lambda t: t.optimizer.param_groups[0]["betas"][0] == 0.5),
    "save_total_limit": (
        {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1},
        lambda t: [path.name for path in sorted(t.folder.glob("checkpoint-*"))] == ["checkpoint-3"],
    ),
    "save_only_model": (
        {"save_strategy": "steps", "save_steps": 3, "save_only_model": True},
        lambda t: not (t.folder / "checkpoint-3" / "optimizer.pt").exists(),
    ),
    "data_seed": ({"data_seed": 7}, lambda t: t.plan.settings["seed"] == 7),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_has_its_effect(train, tmp_path, name):
    settings, holds = EFFECTS[name]
    values = {"eval_on_start": True, "logging_first_step": True, "skip_memory_metrics": False}
    trainer = train(**settings, **({name: values[name]} if name in values else {}))
    trainer.folder = tmp_path
    assert holds(trainer), trainer.state.log_history


# Arguments that must not change the weights.
EQUAL = {
    "workers": {
        "dataloader_num_workers": 1, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 2,
    },
    "pinned memory": {"dataloader_pin_memory": False},
    "nan filter": {"logging_nan_inf_filter": False},
    "cache of the device": {"torch_empty_cache_steps": 1},
    "log levels": {"log_level": "error", "log_level_replica": "error", "log_on_each_node": False},
    "tests of overflow": {"debug": "underflow_overflow"},
    "uneven batches": {"accelerator_config": {"even_batches": False}},
    "names of a run": {"run_name": "x", "project": "y"},
    "DDP": {"ddp_find_unused_parameters": False, "ddp_bucket_cap_mb": 10, "ddp_broadcast_buffers": False},
    "states of callbacks": {"restore_callback_states_from_checkpoint": True},
    "first choices": {"do_train": True, "do_eval": True},
    "larger blocks of evaluation": {"per_device_eval_batch_size": 3, "eval_strategy": "epoch"},
    "the best model": {"load_best_model_at_end": False, "greater_is_better": True},
    "the last model is the best": {
        "load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 3,
        "save_strategy": "steps", "save_steps": 3,
    },
    "a checkpoint on SIGTERM": {"enable_jit_checkpoint": True},
}  # fmt: skip


def test_does_not_change_the_weights(train):
    expected = train().model.state_dict()
    for name, settings in EQUAL.items():
        weights = train(**settings).model.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in expected.items()), name


def test_a_checkpoint_in_the_arguments_is_passed_to_train(train):
    with pytest.raises(ValueError, match="resume_from_checkpoint is 'true' in the arguments"):
        train(resume_from_checkpoint="true")


@pytest.mark.parametrize("settings", [{"save_strategy": "best"}, {"load_best_model_at_end": True}])
def test_the_best_checkpoint_needs_evaluations(train, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is .* eval_strategy is 'no'"):
        train(**settings)


def test_prediction_is_refused(train, prepared):
    with pytest.raises(NotImplementedError, match=r"pass the pairs to evaluate\(\)"):
        train().predict(prepared)


def test_the_table_names_arguments_that_exist():
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    tried = {name for name, _, _ in REFUSED} | set(EFFECTS) | {name for values in EQUAL.values() for name in values}
    assert tried <= known and len(tried) >= 60
