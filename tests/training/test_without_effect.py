"""A setting of the curriculum that is set has an effect, or is refused, or is named in the log."""

import json
import logging

import pytest
from trainer_parts import arguments, make  # noqa: F401

from class_hf import CurriculumPlan, IntensitySchedule
from class_hf.curriculum.pacing import competence
from class_hf.training.building import check_scoring

# ruff: noqa: F811 (fixtures)

REFUSED = {
    "power": ({"curriculum_pacing": "linear", "curriculum_power": 3.0}, "the power is 3, .* pacing 'linear'.*'root'"),
    "stages": ({"curriculum_stages": 2}, "the number of stages is 2, .* pacing 'root'. Leave it out .*'stages'"),
    "gamma": ({"intensity_actions": ["sharpness"], "intensity_gamma": 2.0}, "gamma is 2, .* the actions sharpness"),
    "momentum": ({"intensity_actions": ["focus"], "intensity_momentum": 0.5}, "momentum is 0.5, .*'scheduled'"),
    "start": ({"intensity_mode": "constant", "intensity_actions": ["focus"], "intensity_start": 0.2}, "start is 0.2"),
}
NAMED = {
    "groups": (
        {"curriculum_group_from": 0.5},
        "curriculum_group_size is 1, so curriculum_group_from 0.5 has no effect",
    ),
    "late groups": (
        {"curriculum_group_size": 2, "curriculum_group_from": 0.9},
        "curriculum_group_from is 0.9, and no epoch starts after it, so curriculum_group_size 2 has no effect",
    ),
    "no actions": (
        {"intensity_mode": "adaptive", "intensity_actions": ["none"], "intensity_momentum": 0.5},
        "intensity_actions is empty, so intensity_mode adaptive, intensity_momentum 0.5 have no effect",
    ),
    "constant": (
        {"intensity_mode": "constant", "intensity_actions": ["step_size"]},
        "the intensity is 1 in each step, so the intensity action step_size has no effect",
    ),
    "all pairs": (
        {"curriculum_start": 1.0, "intensity_actions": ["sharpness", "focus"], "intensity_start": 0.2},
        "the intensity is 1 in each step, so intensity_start 0.2 has no effect",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_another_rule_reads_is_refused(tmp_path, case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


@pytest.mark.parametrize("name", ("start", "end", "power", "stages"))
def test_a_function_reads_no_setting_of_the_named_pacings(name):
    value = {"start": 0.5, "end": 0.5, "power": 3.0, "stages": 2}[name]
    with pytest.raises(ValueError, match="which has no effect with the pacing '.*max'"):
        competence(0.5, pacing=max, **{name: value})
    with pytest.raises(ValueError, match="which has no effect with the pacing"):
        CurriculumPlan(num_pairs=8, epochs=2, batch_size=2, order="random", pacing=max, **{name: value})


def test_defaults_of_a_schedule_are_refused_by_no_mode():
    for mode in ("constant", "scheduled", "adaptive", abs):
        for action in ("sharpness", "focus", "step_size"):
            assert IntensitySchedule(mode, actions=[action]).actions == (action,)
        switched_off = IntensitySchedule(mode, start=0.1, gamma=2.0, momentum=0.1)
        assert switched_off.actions == () and switched_off.start == 0.1


@pytest.mark.parametrize("case", NAMED)
def test_what_belongs_to_something_switched_off_is_named(make, caplog, case):
    settings, message = NAMED[case]
    make(**{"num_train_epochs": 2, **settings}).train()
    assert caplog.text.count(message) == 1


def test_a_run_without_a_curriculum_names_its_settings(make, caplog):
    caplog.set_level(logging.INFO, logger="class_hf")
    make(curriculum_order="none", curriculum_pacing="linear", num_train_epochs=1).train()
    message = "curriculum_order is none, so curriculum_start 0.4, curriculum_pacing linear have no effect."
    assert caplog.text.count(message) == 1
    caplog.clear()
    stages = {"curriculum_pacing": "stages", "curriculum_stages": 1, "curriculum_stage_sharpness": [0.5, 1]}
    make(curriculum_order="none", curriculum_span=0.5, num_train_epochs=2, **stages).train()
    assert "so curriculum_start 0.4 has no effect." in caplog.text


def test_defaults_are_not_named(make, caplog):
    make(curriculum_start=0.3, num_train_epochs=2).train()
    assert "no effect" not in caplog.text


def test_a_difficulty_other_than_that_of_scored_pairs_is_named(tmp_path, prepared, caplog):
    args = arguments(tmp_path)
    asked = {"definition": ["complexity"], "combination": "max", "text_weight": 0.5}
    check_scoring(args, prepared, **asked)
    message = "so difficulty_definition ['complexity'], difficulty_combination max have no effect"
    assert message in caplog.text
    caplog.clear()
    (tmp_path / "summary.json").write_text(json.dumps(asked))
    check_scoring(args, prepared, **asked, data_dir=str(tmp_path))
    check_scoring(args, prepared, definition=["alignment"])
    check_scoring(arguments(tmp_path, curriculum_order="random"), prepared, **asked)
    assert not caplog.text
    for content in ("{", "[]"):  # a file of another program
        (tmp_path / "summary.json").write_text(content)
        check_scoring(args, prepared, **asked, data_dir=str(tmp_path))
    assert caplog.text.count(message) == 2
