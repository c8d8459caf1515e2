"""What a trainer is given has an effect, or is refused by name: arguments, data, metrics, callbacks, functions."""

# ruff: noqa: F811 (fixtures)
import json
import math

import datasets
import numpy as np
import pytest
import torch
from conftest import tiny_model
from trainer_parts import ForeignBackbone, arguments, foreign_collator, make  # noqa: F401
from transformers import EarlyStoppingCallback, TrainerCallback

from class_hf import CurriculumPlan, CurriculumTrainer, IntensitySchedule, RetrievalEvaluator
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.models.dropout import FastDropout
from class_hf.training.planning import plan_from_arguments
from class_hf.training.trainer_checks import warn_of_plan


def rates(trainer):
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


# -- arguments that change ----------------------------------------------------------------------------------------


def test_changed_arguments_are_followed_by_the_next_training(make):
    trainer = make(num_train_epochs=2, lr_scheduler_type="constant", learning_rate=0.01)
    trainer.train()
    assert trainer.args.max_steps == -1
    trainer.args.num_train_epochs, trainer.args.curriculum_order = 3, "none"
    trainer.args.learning_rate, trainer.args.per_device_train_batch_size = 0.001, 8
    trainer.args.intensity_actions = ["step_size"]
    trainer.train()
    assert trainer.plan.settings["order"] == "none" and trainer.plan.total_steps == 3 * (24 // 8)
    assert trainer.state.global_step == 9 and set(rates(trainer)) == {0.001}
    assert trainer.curriculum.plan is trainer.plan and trainer.curriculum.intensity.actions == ("step_size",)
    trainer.args.max_steps = 4
    trainer.train()
    assert trainer.state.global_step == 4 and trainer.args.max_steps == 4


def test_a_second_training_equals_one_of_a_new_trainer_with_those_weights(make):
    trainer = make(num_train_epochs=2)
    trainer.train()
    model = tiny_model(dropout=0.0)
    model.load_state_dict(trainer.model.state_dict())
    trainer.args.learning_rate = 0.003
    trainer.train()
    other = make(num_train_epochs=2, learning_rate=0.003, given={"model": model})
    other.train()
    for name, value in other.model.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("curriculum_order", "sideways", "'sideways' is not known"),
        ("learning_rate", math.nan, r"learning_rate is nan; expected a number in \(0, 100\]"),
        ("weight_decay", -1.0, "weight_decay is -1.0"),
        ("bf16", True, "bf16 was changed from False to True"),
        ("forward_chunk_size", 2, "forward_chunk_size was changed from None to 2"),
        ("label_smoothing_factor", 0.1, "use contrastive_label_smoothing"),
        ("per_device_train_batch_size", 64, "fewer than one global batch of 64"),
    ],
)
def test_a_change_that_has_no_effect_or_is_wrong_is_refused(make, name, value, message):
    trainer = make()
    setattr(trainer.args, name, value)
    with pytest.raises(ValueError, match=message):
        trainer.train()


def test_label_smoothing_of_the_default_loss_follows_and_of_another_is_refused(make):
    trainer = make(max_steps=1)
    trainer.args.contrastive_label_smoothing = 0.1
    trainer.train()
    assert trainer.loss.label_smoothing == 0.1
    with pytest.raises(ValueError, match="contrastive_label_smoothing is 0.2, but the loss ContrastiveLoss has 0.1"):
        make(contrastive_label_smoothing=0.2, given={"loss": ContrastiveLoss(0.1)})


def test_arguments_of_a_plan_that_was_passed_cannot_change(make):
    trainer = make(given={"plan": CurriculumPlan(num_pairs=24, epochs=2, batch_size=4, order="none")})
    trainer.args.curriculum_order = "random"
    with pytest.raises(ValueError, match=r"the trainer was made with plan=. Make a new trainer"):
        trainer.train()


def test_hyperparameter_search_over_the_curriculum(make):
    pytest.importorskip("optuna", reason="needs the extra `test`")
    trainer = make(given={"model": None, "model_init": lambda: tiny_model(dropout=0.0)}, eval_strategy="epoch")
    plans = []

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            plans.append((trainer.plan.settings["order"], trainer.plan.settings["epochs"], state.max_steps))

    trainer.add_callback(Look())
    combinations = [("none", 1), ("easy_first", 3), ("random", 2)]

    def space(trial):
        order, epochs = combinations[trial.number]
        return {
            "curriculum_order": trial.suggest_categorical("curriculum_order", [order]),
            "num_train_epochs": trial.suggest_int("num_train_epochs", epochs, epochs),
        }

    best = trainer.hyperparameter_search(space, n_trials=1, backend="optuna")
    assert plans == [("none", 1, 6)] and 0 < best.objective <= 1
    for number in (1, 2):
        combinations[0] = combinations[number]
        trainer.hyperparameter_search(space, n_trials=1, backend="optuna")
    expected = [
        plan_from_arguments(make(num_train_epochs=e, curriculum_order=o).args, trainer.train_dataset)
        for o, e in combinations[1:]
    ]
    assert plans[1:] == [(p.settings["order"], p.settings["epochs"], p.total_steps) for p in expected]


# -- metrics, callbacks, evaluation -------------------------------------------------------------------------------


def test_compute_metrics_is_called_with_the_embeddings(make):
    def metrics(prediction):
        texts, molecules = prediction.predictions["text_embeds"], prediction.predictions["molecule_embeds"]
        best = (texts @ molecules.T).argmax(axis=1)
        return {"accuracy": float((best == prediction.label_ids).mean())}

    trainer = make(given={"compute_metrics": metrics}, eval_strategy="epoch", metric_for_best_model="accuracy")
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_mrr" in entry]
    assert len(logged) == 4 and all(entry["eval_accuracy"] == entry["eval_hits@1"] for entry in logged)


@pytest.mark.parametrize("returned", (None, 0.5, np.float32(0.5), [("accuracy", 0.5)], {1: 0.5}), ids=repr)
def test_compute_metrics_returns_metrics_by_name(make, returned):
    with pytest.raises(ValueError, match=r"^compute_metrics returned .*; expected a dict of names and numbers"):
        make(given={"compute_metrics": lambda prediction: returned}).evaluate()


def test_metrics_of_numpy_and_torch_are_numbers(make):
    returned = {"mean": np.float32(0.5), "best": torch.tensor(2)}
    metrics = make(given={"compute_metrics": lambda prediction: returned}).evaluate()
    assert json.loads(json.dumps(metrics))["eval_mean"] == 0.5 and metrics["eval_best"] == 2


@pytest.mark.parametrize(
    ("given", "kwargs", "message"),
    [
        ({"compute_loss_func": lambda *args: 0}, {}, "compute_loss_func has no effect .*pass loss="),
        ({"preprocess_logits_for_metrics": lambda *args: 0}, {}, "preprocess_logits_for_metrics has no effect"),
        ({"eval_dataset": datasets.Dataset.from_dict({"id": ["a"]})}, {}, "evaluator and eval_dataset are both set"),
    ],
    ids=("compute_loss_func", "preprocess_logits", "two evaluations"),
)
def test_what_has_no_effect_is_refused(make, given, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(given=given, **kwargs)


def test_early_stopping_fires_and_needs_evaluations(make):
    stops = {"callbacks": [EarlyStoppingCallback(2)]}
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = make(given=stops, learning_rate=1e-12, load_best_model_at_end=True, **settings)
    trainer.train()
    assert trainer.state.global_step < trainer.plan.total_steps
    with pytest.raises(ValueError, match="early stopping needs evaluations"):
        make(given=stops).train()


def test_a_metric_of_another_pool_is_refused_after_the_first_evaluation(make):
    selects = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    with pytest.raises(ValueError, match="'eval_other_mrr', which is not found in the evaluation metrics"):
        make(metric_for_best_model="other_mrr", **selects).train()


@pytest.mark.parametrize("metric", ("mr", "loss", "hits@5", "eval_eval_mrr"))
def test_an_unknown_metric_is_refused_before_training(make, metric):
    trainer = make(
        metric_for_best_model=metric, load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch"
    )
    with pytest.raises(ValueError, match=f"metric_for_best_model is '{metric}', which no evaluation computes"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_lower_mean_rank_is_better(tmp_path):
    assert arguments(tmp_path, metric_for_best_model="mean_rank").greater_is_better is False
    assert arguments(tmp_path, metric_for_best_model="mean_rank", greater_is_better=True).greater_is_better is True


def test_callbacks_see_every_event(make):
    class Count(TrainerCallback):
        steps = logs = evaluations = 0

        def on_step_end(self, *args, **kwargs):
            self.steps += 1

        def on_log(self, *args, **kwargs):
            self.logs += 1

        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            self.evaluations += "eval_mrr" in metrics

    count = Count()
    trainer = make(given={"callbacks": [count]}, eval_strategy="epoch")
    trainer.train()
    assert (count.steps, count.evaluations) == (trainer.plan.total_steps, 4) and count.logs >= count.steps


def test_keys_of_an_evaluation_say_what_was_ranked(make, prepared, processor):
    sample = RetrievalEvaluator.sample(
        prepared, prepared, num_pairs=8, num_candidates=12, processor=processor, bootstrap_samples=0
    )
    metrics = make(given={"evaluator": sample}).evaluate()
    names = {name for name in metrics if name.endswith("_mrr")} - {"eval_mrr"}
    assert names == {
        "eval_sample_text_to_molecule_mrr",
        "eval_split_sample_text_to_molecule_mrr",
        "eval_split_sample_molecule_to_text_mrr",
    }
    everything = RetrievalEvaluator.sample(prepared, prepared, num_pairs=99, processor=processor, bootstrap_samples=0)
    metrics = make(given={"evaluator": everything}).evaluate()
    assert "eval_full_text_to_molecule_mrr" in metrics and "eval_split_molecule_to_text_mrr" in metrics
    assert not [name for name in metrics if "sample" in name] and "eval_full_molecule_to_text_mrr" not in metrics


def test_evaluation_on_other_pairs(make, prepared, pairs, tmp_path):
    splits = datasets.DatasetDict(a=prepared.select(range(6)), b=prepared.select(range(6, 24)))
    trainer = make(given={"evaluator": None, "eval_dataset": splits}, eval_strategy="epoch", max_steps=4)
    trainer.train()
    logs = [name for entry in trainer.state.log_history for name in entry]
    assert "eval_a_mrr" in logs and "eval_b_mrr" in logs
    as_rows = trainer.evaluate(list(prepared.select(range(6))), metric_key_prefix="eval_a")
    assert as_rows["eval_a_mrr"] == trainer.evaluate(splits["a"])["eval_mrr"]
    with pytest.raises(ValueError, match=r"eval_dataset is ranked with the processor .*Pass evaluator="):
        CurriculumTrainer(
            model=ForeignBackbone(),
            args=arguments(tmp_path),
            data_collator=foreign_collator,
            train_dataset=pairs,
            eval_dataset=pairs,
        )
    with pytest.raises(ValueError, match="eval_dataset is a stream"):
        make(given={"evaluator": None, "eval_dataset": prepared.to_iterable_dataset()})


# -- training sets ------------------------------------------------------------------------------------------------


def test_a_list_of_rows_trains_as_the_data_set(make, prepared):
    weights = []
    for rows in (prepared, list(prepared)):
        trainer = make(rows=rows, num_train_epochs=2)
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_several_splits_are_refused(make, prepared):
    with pytest.raises(ValueError, match=r"train_dataset holds several splits \(train, test\)"):
        make(rows=datasets.DatasetDict(train=prepared, test=prepared))


# -- functions and subclasses -------------------------------------------------------------------------------------


def test_pacing_as_a_function(make):
    plan = CurriculumPlan(np.linspace(0, 1, 24), epochs=4, batch_size=4, span=1.0, pacing=lambda t: max(0.25, t))
    assert plan.pool_sizes == (6, 6, 12, 18) and plan.settings["pacing"].endswith("<lambda>")
    other = CurriculumPlan(np.linspace(0, 1, 24), epochs=4, batch_size=4, span=1.0, pacing=lambda t: max(0.5, t))
    assert plan.fingerprint() != other.fingerprint()
    trainer = make(given={"plan": plan})
    trainer.train()
    sizes = [entry["pool_size"] for entry in trainer.state.log_history if "pool_size" in entry]
    assert sizes == [6, 6, 12, 12, 12, 18, 18, 18, 18] and trainer.plan.to_dict()["pacing"]
    with pytest.raises(ValueError, match=r"pacing function .* is 0.0 at 0; expected a share in \(0, 1\]"):
        CurriculumPlan(num_pairs=24, epochs=2, batch_size=4, order="random", pacing=lambda t: t)
    with pytest.raises(ValueError, match="curriculum_pacing is a function"):
        make(curriculum_pacing=math.sqrt)


def test_intensity_as_a_function(make):
    schedule = IntensitySchedule(lambda competence: competence**2, actions=["sharpness"])
    trainer = make(given={"intensity": schedule})
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "competence" in entry]
    assert [entry["intensity"] for entry in logs] == [entry["competence"] ** 2 for entry in logs]
    with pytest.raises(ValueError, match="the intensity function is 2.0 at competence 0.5"):
        IntensitySchedule(lambda competence: 2.0, actions=["focus"]).at(0.5, 0.5)


def test_a_subclass_of_the_plan(make):
    class TwoStages(CurriculumPlan):
        """Half of the pairs in the first half of the epochs."""

        def competence(self, epoch):
            return 0.5 if epoch < self.settings["epochs"] / 2 else 1.0

    plan = TwoStages(np.linspace(0, 1, 24), epochs=4, batch_size=4)
    trainer = make(given={"plan": plan})
    trainer.train()
    assert plan.pool_sizes == (12, 12, 24, 24) and trainer.state.global_step == 18
    assert {entry["competence"] for entry in trainer.state.log_history if "competence" in entry} == {0.5, 1.0}


@pytest.mark.filterwarnings("ignore")
def test_torch_compile(make):
    losses = []
    for compiled in (False, True):
        backend = {"torch_compile": True, "torch_compile_backend": "eager"} if compiled else {}
        trainer = make(max_steps=3, **backend)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    # Dropout does not split a compiled model.
    dropped = torch.compile(FastDropout(0.5), backend="eager", fullgraph=True)(torch.ones(8))
    assert set(dropped.tolist()) <= {0.0, 2.0}


# -- runs that learn nothing --------------------------------------------------------------------------------------


def test_a_plan_that_leaves_pairs_out_is_warned_of(make, caplog):
    make(num_train_epochs=3, curriculum_start=0.1, curriculum_span=0.75).train()
    assert "of 24 pairs: the other" in caplog.text and "set curriculum_span to 0.666 or less" in caplog.text
    caplog.clear()
    make(num_train_epochs=3, curriculum_span=0.666).train()
    for epochs in (2, 3, 4, 5):
        trainer = make(num_train_epochs=epochs)
        warn_of_plan(trainer.plan, trainer.train_dataset, trainer.args)
        assert trainer.plan.pool_sizes[-1] == 24
    assert "never trained on" not in caplog.text


@pytest.mark.parametrize(
    ("batch_size", "words"),
    (
        (16, "each epoch leaves out 8 of 24 pairs, 33 % of those it admits (others in each epoch). "
             "per_device_train_batch_size 12 leaves out less than 1 %."),
        (11, None),  # 2 of 24
        (24, None),
    ),
)  # fmt: skip
def test_a_batch_that_leaves_out_many_pairs_is_warned_of(make, caplog, batch_size, words):
    trainer = make(per_device_train_batch_size=batch_size, curriculum_order="none")
    warn_of_plan(trainer.plan, trainer.train_dataset, trainer.args)
    assert words in caplog.text if words else not caplog.text


def test_equal_captions_and_a_loss_of_zero_are_warned_of(pairs, processor, make, caplog):
    from class_hf import prepare_pairs

    same = prepare_pairs(pairs.map(lambda row: {"description": "The molecule is an acid."}), processor)
    make(rows=same, num_train_epochs=2).train()
    assert caplog.text.count("All training pairs have the same description") == 1
    assert caplog.text.count("the loss is 0 from the first step") == 1


def test_an_accuracy_that_never_moves_is_warned_of(make, caplog):
    class Same(ContrastiveLoss):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)._replace(accuracy=torch.tensor(0.25))

    make(given={"loss": Same()}, max_steps=60).train()
    assert caplog.text.count("the in-batch accuracy is 0.250 since the first step") == 1


def test_each_process_drops_other_units(make, monkeypatch):
    """With equal states, the same units would be dropped in the batches of all processes."""
    trainer = make()
    draws = []
    for process in (0, 1, 2):
        torch.manual_seed(7)
        monkeypatch.setattr("class_hf.training.callbacks.rank", lambda process=process: process)
        trainer.curriculum.on_train_begin(trainer.args, trainer.state, trainer.control)
        draws.append(tuple(torch.rand(3).tolist()))
    torch.manual_seed(7)
    assert draws[0] == tuple(torch.rand(3).tolist()) and len(set(draws)) == 3
