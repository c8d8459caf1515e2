"""A training by stages draws the batches of its plan, and resumes as if it had not been interrupted."""

import json

import pytest
import torch
from run_forked import run_processes
from run_trainer import build, train_and_save
from trainer_parts import arguments, make  # noqa: F401  # a fixture

from class_hf import CurriculumPlan, TextMoleculeCollator
from class_hf.plots.run import plot_plan
from class_hf.plots.tables import plan_table

STAGES = {
    "curriculum_order": "random",
    "curriculum_pacing": "stages",
    "curriculum_stages": 1,
    "curriculum_start": 0.5,
    "num_train_epochs": 3,
    "curriculum_stage_epochs": [2, 1],
    "curriculum_stage_batch_sizes": [0.5, 1],
    "curriculum_stage_learning_rates": [0.5, 2],
    "curriculum_stage_sharpness": [0.25, 1],
}


class Tracing(TextMoleculeCollator):
    """Notes the rows of every batch."""

    def __init__(self, processor):
        super().__init__(processor)
        self.drawn = []

    def __call__(self, features):
        self.drawn.append([feature["id"] for feature in features])
        return super().__call__(features)


class Rates(torch.optim.SGD):
    """Notes the learning rate of each step."""

    seen: list[float] = []

    def step(self, *args, **kwargs):
        self.seen.append(self.param_groups[0]["lr"])
        return super().step(*args, **kwargs)


@pytest.mark.parametrize("accumulation", (1, 2))
def test_stages_of_a_training(make, prepared, processor, accumulation, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(Rates, "seen", [])
    settings = {"per_device_train_batch_size": 4 // accumulation, "gradient_accumulation_steps": accumulation}
    trainer = make(**STAGES, **settings, lr_scheduler_type="constant", learning_rate=0.1, weight_decay=0.0)
    trainer.data_collator = collator = Tracing(processor)
    trainer.optimizer = Rates(trainer.model.parameters(), lr=0.1)
    sharpness = []
    loss = trainer.loss.forward
    monkeypatch.setattr(
        trainer.loss, "forward", lambda **inputs: sharpness.append(inputs["intensity"].sharpness) or loss(**inputs)
    )
    trainer.train()
    plan = trainer.plan
    assert plan.steps_per_epoch == (6, 6, 6) and plan.batch_sizes == (2, 2, 4)
    ids = [prepared["id"][row] for row in plan.order()]
    assert [row for batch in collator.drawn for row in batch] == ids
    assert [len(batch) for batch in collator.drawn] == (
        [2] * 12 + [4] * 6 if accumulation == 1 else [1] * 24 + [2] * 12
    )
    assert Rates.seen == pytest.approx([0.05] * 12 + [0.2] * 6)
    assert sharpness == [0.25] * 12 * accumulation + [1.0] * 6 * accumulation
    assert trainer.train_costs["pairs_seen"] == 48 == plan.total_pairs
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["stage"] for entry in logs] == [0] * 12 + [1] * 6 and trainer.state.epoch == 3
    # The table and the picture of a dry run.
    assert plan_table(plan).splitlines()[-1].split()[-4:] == ["1", "4", "2", "1"]
    assert plot_plan(plan, tmp_path / "plan.png").stat().st_size > 1000


def test_stages_resume_at_every_kind_of_step(tmp_path):
    """Within a stage and at its end; a changed stage is refused."""
    base = {**STAGES, "per_device_train_batch_size": 4, "learning_rate": 0.01, "logging_steps": 1}
    args = {**base, "save_strategy": "steps", "save_steps": 1, "output_dir": str(tmp_path / "a")}
    straight = build({"args": args})
    straight.train()
    for step in (5, 12, 15):
        resumed = build({"args": {**base, "output_dir": str(tmp_path / "b"), "save_strategy": "no"}})
        resumed.train(str(tmp_path / "a" / f"checkpoint-{step}"))
        for name, value in straight.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), (step, name)
        assert resumed.train_costs["pairs_seen"] == 48
    for name, value in (("learning_rates", [1, 2]), ("batch_sizes", [0.25, 1])):
        changed = {**base, f"curriculum_stage_{name}": value, "output_dir": str(tmp_path / "c"), "save_strategy": "no"}
        with pytest.raises(ValueError, match=rf"stage_{name} \[0.5, "):
            build({"args": changed}).train(str(tmp_path / "a" / "checkpoint-5"))


@pytest.mark.distributed
def test_two_processes_share_the_batches_of_a_stage(tmp_path):
    args = {**STAGES, "per_device_train_batch_size": 2, "learning_rate": 0.01, "save_strategy": "no"}
    settings = {"args": {**args, "output_dir": str(tmp_path / "two")}, "trace": str(tmp_path / "rank")}
    for done in run_processes(train_and_save, settings, processes=2):
        assert done.returncode == 0, done.stderr
    ranks = [[json.loads(line) for line in (tmp_path / f"rank{rank}").read_text().splitlines()] for rank in (0, 1)]
    drawn = [batches[:18] for batches in ranks]
    assert [[len(batch) for batch in batches] for batches in drawn] == [[1] * 12 + [2] * 6] * 2
    one = build({"args": {**args, "per_device_train_batch_size": 4, "output_dir": str(tmp_path / "one")}})
    ids = [f"m{row:02d}" for row in one.plan.order()]
    assert [row for first, second in zip(*drawn, strict=True) for row in (*first, *second)] == ids


def test_stages_that_cannot_be_trained(tmp_path, make, prepared):  # noqa: F811
    for action, name in (("step_size", "learning_rates"), ("sharpness", "sharpness")):
        with pytest.raises(ValueError, match=f"curriculum_stage_{name} and the intensity action {action} both set"):
            arguments(tmp_path, **STAGES, intensity_actions=[action])
    with pytest.raises(ValueError, match="a stage has a global batch of 2 pairs, which 4 micro-batches"):
        make(**STAGES, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="curriculum_stage_batch_sizes is set, but the training set is a stream"):
        make(rows=prepared.to_iterable_dataset(), given={"plan": stream_plan()}, per_device_train_batch_size=4)


def stream_plan():

    names = ("stages", "stage_epochs", "stage_batch_sizes")
    values = {name: STAGES[f"curriculum_{name}"] for name in names}
    return CurriculumPlan(num_pairs=24, batch_size=4, epochs=3, order="random", pacing="stages", **values)
