"""curriculum_end: what the arguments accept, and which pairs the plan leaves out."""

import numpy as np
import pytest
from datasets import Dataset

from class_hf import CurriculumTrainingArguments
from class_hf.plots.run import plot_plan
from class_hf.training.planning import outline_plan, plan_from_arguments
from class_hf.training.records import left_out_csv, write_plan
from class_hf.training.trainer_checks import warn_of_plan

COUNT = 20


def arguments(tmp_path, **kwargs):
    settings = dict(use_cpu=True, per_device_train_batch_size=2, num_train_epochs=3)
    return CurriculumTrainingArguments(str(tmp_path), **settings | kwargs)


def make_pairs(wrong=()):
    columns = {"id": [f"p{row:02d}" for row in range(COUNT)], "difficulty": np.linspace(0, 1, COUNT)}
    if wrong is not None:
        columns["wrong_probability"] = [0.9 if row in wrong else 0.1 for row in range(COUNT)]
    return Dataset.from_dict(columns)


def test_a_number_leaves_out_the_hardest_pairs(tmp_path):
    plan = plan_from_arguments(arguments(tmp_path, curriculum_end="0.8"), make_pairs(wrong=None))
    assert plan.left_out.tolist() == [16, 17, 18, 19]


def test_a_number_leaves_out_the_most_suspect_pairs_where_they_are_known(tmp_path):
    plan = plan_from_arguments(arguments(tmp_path, curriculum_end="0.9"), make_pairs(wrong=[3, 7]))
    assert sorted(plan.left_out.tolist()) == [3, 7]


@pytest.mark.parametrize("order", ["easy_first", "random", "none"])
def test_auto_leaves_out_pairs_with_a_probability_above_a_quarter(tmp_path, order):
    args = arguments(tmp_path, curriculum_end="auto", curriculum_order=order)
    pairs = make_pairs().remove_columns("wrong_probability")
    probabilities = [{3: 0.9, 7: 0.5, 11: 0.26, 12: 0.25}.get(row, 0.1) for row in range(COUNT)]
    plan = plan_from_arguments(args, pairs.add_column("wrong_probability", probabilities))
    assert sorted(plan.left_out.tolist()) == [3, 7, 11]
    assert max(plan.pool_sizes) == 17


def test_auto_leaves_out_nothing_in_clean_data(tmp_path):
    auto = plan_from_arguments(arguments(tmp_path, curriculum_end="auto"), make_pairs())
    assert auto.num_left_out == 0
    assert auto.fingerprint() == plan_from_arguments(arguments(tmp_path), make_pairs(wrong=None)).fingerprint()


def test_auto_needs_the_probabilities(tmp_path):
    args = arguments(tmp_path, curriculum_end="auto")
    with pytest.raises(ValueError, match="curriculum_end is auto, and the training set has no column 'wrong_prob"):
        plan_from_arguments(args, make_pairs(wrong=None))
    assert outline_plan(args, COUNT).num_left_out == 0


@pytest.mark.parametrize("value", ["0", "1.1", "-0.5", "nan", "most", ""])
def test_other_values_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match="curriculum_end is .*; expected a share in .0, 1., or auto"):
        arguments(tmp_path, curriculum_end=value)


def test_left_out_pairs_are_listed_the_most_suspect_first(tmp_path):
    pairs = make_pairs(wrong=[3]).map(lambda row: {"id": "=cmd" if row["id"] == "p03" else row["id"]})
    plan = plan_from_arguments(arguments(tmp_path, curriculum_end="0.9"), pairs)
    lines = left_out_csv(plan, pairs).splitlines()
    assert lines[0] == "id,difficulty,wrong_probability"
    assert lines[1].startswith("'=cmd,") and lines[1].endswith(",0.9")
    assert len(lines) == 3
    write_plan(tmp_path, plan, {"train": pairs}, None)
    assert (tmp_path / "left_out.csv").read_text().splitlines() == lines
    with np.load(tmp_path / "difficulty.npz") as arrays:
        assert arrays["train.wrong_probability"].tolist() == pairs["wrong_probability"][:]


def test_the_picture_shows_the_pairs_left_out_and_a_resumed_run_keeps_the_share(tmp_path, monkeypatch):
    monkeypatch.setattr("class_hf.plots.run.save_figure", lambda figure, path: figure)
    plan = plan_from_arguments(arguments(tmp_path, curriculum_end="0.9"), make_pairs(wrong=[3, 7]))
    legend = plot_plan(plan, tmp_path / "plan.png").axes[0].get_legend()
    assert "2 pairs left out" in [text.get_text() for text in legend.get_texts()]
    # A run is resumed only with equal settings of the plan and an equal fingerprint.
    other = plan_from_arguments(arguments(tmp_path, curriculum_end="0.8"), make_pairs(wrong=[3, 7]))
    assert plan.settings["end"] == 0.9 and other.settings["end"] == 0.8
    assert plan.fingerprint() != other.fingerprint()


def test_a_shorter_run_is_announced(tmp_path, caplog):
    pairs = make_pairs()
    args = arguments(tmp_path, curriculum_end="0.6", curriculum_order="none")
    warn_of_plan(plan_from_arguments(args, pairs), pairs, args)
    assert "8 of 20 pairs are left out, so 3 epochs have 18 steps in place of 30." in caplog.text
    assert "max_steps 27 takes 0.9 of the steps" in caplog.text
    caplog.clear()
    for settings in ({"curriculum_end": "0.9"}, {"curriculum_end": "0.6", "max_steps": 27}):
        args = arguments(tmp_path, curriculum_order="none", **settings)
        warn_of_plan(plan_from_arguments(args, pairs), pairs, args)
    assert "left out" not in caplog.text
