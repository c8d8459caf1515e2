"""The table of a training: one line per evaluation, or JSON lines."""

import json
import logging
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from transformers import PrinterCallback, ProgressCallback, TrainerControl, TrainerState
from transformers.trainer_utils import IntervalStrategy

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.training.progress import TrainingTable
from class_hf.utils.logs import set_up_logging

METRICS = {"eval_mrr": 0.25, "eval_hits@1": 0.125, "eval_hits@10": 0.5}


@pytest.fixture
def run():
    """Calls a table as the Trainer does: log entries and an evaluation in each of two epochs."""

    def call(as_json=False, strategy=IntervalStrategy.EPOCH, logging_steps=5):
        plan = CurriculumPlan(num_pairs=40, epochs=2, batch_size=4, order="none")
        curriculum = SimpleNamespace(plan=plan, wall_seconds=30.0, step_means={})
        table = TrainingTable(curriculum, as_json)
        args = SimpleNamespace(disable_tqdm=True, eval_strategy=strategy)
        state = TrainerState(max_steps=plan.total_steps, is_world_process_zero=True)
        control = TrainerControl()
        table.on_evaluate(args, state, control, metrics=METRICS)  # before the training
        table.on_train_begin(args, state, control)
        for step in (5, 10, 15, 20):
            state.global_step, state.epoch = step, step / 10
            curriculum.step_means = {"loss": torch.tensor(1.0 / step), "in_batch_accuracy": torch.tensor(0.5)}
            table.on_step_end(args, state, control)
            if step % logging_steps == 0:
                table.on_log(args, state, control, {"loss": 1.0 / step, "in_batch_accuracy": 0.5})
            if step % 10 == 0 and strategy == IntervalStrategy.EPOCH:
                table.on_log(args, state, control, {**METRICS})
                table.on_evaluate(args, state, control, metrics=METRICS)
        table.on_log(args, state, control, {"train_runtime": 3.0})
        table.on_train_end(args, state, control)

    return call


@pytest.mark.parametrize("logging_steps", (5, 20, 100))
def test_one_line_per_evaluation(run, capsys, logging_steps):
    """Each line has a loss, also if no log entry fell between two evaluations."""
    run(logging_steps=logging_steps)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["epoch", "step", "loss", "accuracy", "pool", "MRR", "Hits@1", "Hits@10", "time", "left"],
        ["1.00", "10", "0.1500", "0.500", "40", "0.250", "0.125", "0.500", "30.0", "s", "30.0", "s"],
        ["2.00", "20", "0.0583", "0.500", "40", "0.250", "0.125", "0.500", "30.0", "s", "-"],
    ]


def test_one_line_per_log_entry_without_evaluations(run, capsys):
    run(strategy=IntervalStrategy.NO)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[1].split()[:3] == ["0.50", "5", "0.2000"] and lines[1].split()[5:8] == ["-"] * 3


def test_json_lines_have_all_values(run, capsys):
    logger, stream = logging.getLogger("class_hf"), StringIO()
    before = logger.handlers, logger.level
    try:
        set_up_logging("info", "json", stream)
        run(as_json=True)
    finally:
        logger.handlers = before[0]
        logger.setLevel(before[1])
    assert capsys.readouterr().out == ""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0]["loss"] == 0.2 and lines[0]["step"] == 5 and lines[0]["logger"] == "class_hf.training.progress"
    assert lines[2]["eval_hits@10"] == 0.5 and lines[-1]["train_runtime"] == 3.0 and len(lines) == 7


def test_a_table_replaces_what_the_trainer_prints():
    removed, added = [], []
    trainer = SimpleNamespace(remove_callback=removed.append, add_callback=added.append)
    table = TrainingTable.use_in(trainer, SimpleNamespace())
    assert removed == [PrinterCallback, ProgressCallback] and added == [table]
