"""Stages of a plan: pools, batch sizes, learning rates and sharpness, in the plan and in a training."""

import pytest

from class_hf import CurriculumPlan
from class_hf.curriculum.sampler import CurriculumBatchSampler

STAGED = dict(epochs=6, batch_size=8, pacing="stages", stages=2, start=0.5, stage_epochs=(1, 2, 3), order="random")


def test_stages_by_hand():
    """40 pairs, of which 20, 30 and 40 are admitted, in batches of 2, 4 and 8."""
    plan = CurriculumPlan(
        num_pairs=40,
        **STAGED,
        stage_batch_sizes=(0.25, 0.5, 1),
        stage_learning_rates=(0.5, 1, 2),
        stage_sharpness=(0.1, 0.2, 0.3),
    )
    assert plan.pool_sizes == (20, 30, 30, 40, 40, 40) and plan.batch_sizes == (2, 4, 4, 8, 8, 8)
    assert plan.steps_per_epoch == (10, 7, 7, 5, 5, 5) and plan.total_pairs == 20 + 2 * 28 + 3 * 40
    assert len(plan.order()) == plan.total_pairs and plan.full_steps == 30
    assert [tuple(plan.stage(epoch)) for epoch in (0, 2, 3, 9)] == [
        (0, 2, 0.5, 0.1), (1, 4, 1.0, 0.2), (2, 8, 2.0, 0.3), (2, 8, 2.0, 0.3)]  # fmt: skip
    row = plan.table()[1]
    assert {"stage": 1, "batch_size": 4, "learning_rate": 1.0, "sharpness": 0.2}.items() <= row.items()
    batches = list(CurriculumBatchSampler(plan, parts=2))
    assert [len(batch) for batch in batches] == [1] * 20 + [2] * 28 + [4] * 30
    assert [row for batch in batches for row in batch] == plan.order().tolist()


def test_stages_without_epochs_of_their_own_follow_the_span():
    plan = CurriculumPlan(num_pairs=40, epochs=8, batch_size=4, pacing="stages", stages=2, span=0.5, order="random")
    assert [plan.stage(epoch).number for epoch in range(8)] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert not plan.has_stages and "stage" not in plan.table()[0]
    plain = CurriculumPlan(num_pairs=40, epochs=8, batch_size=4, order="none")
    assert plain.batch_sizes == (4,) * 8 and plain.stage(3).number == 0


def test_full_epochs_can_have_stages_too():
    """The control of a schedule of batch sizes: all pairs in each stage."""
    plan = CurriculumPlan(num_pairs=40, **{**STAGED, "order": "none"}, stage_batch_sizes=(0.5, 0.5, 1))
    assert set(plan.pool_sizes) == {40} and plan.batch_sizes == (4, 4, 4, 8, 8, 8)


def test_max_steps_cuts_or_continues_the_last_stage():
    settings = {**STAGED, "stage_batch_sizes": (0.25, 0.5, 1)}
    short, long = (CurriculumPlan(num_pairs=40, **settings, max_steps=steps) for steps in (12, 45))
    assert short.steps_per_epoch == (10, 2) and short.total_pairs == 28
    assert long.batch_sizes[-1] == 8 and long.total_steps == 45 and long.stage(long.epochs - 1).number == 2


def test_stages_of_equal_settings_have_the_fingerprint_of_none():
    plain = dict(num_pairs=40, epochs=8, batch_size=4, pacing="stages", stages=2, order="random")
    plans = CurriculumPlan(**plain), CurriculumPlan(**plain, stage_sharpness=(1, 1, 2)), CurriculumPlan(**plain)
    assert plans[0].fingerprint() == plans[2].fingerprint() != plans[1].fingerprint()
    assert not {"stage_epochs", "stage_sharpness"} & set(plans[0].settings)


BAD_STAGES = {
    "pacing": (
        {"pacing": "root", "stages": 4},
        "stage_epochs is set, but the pacing is 'root'; set the pacing to 'stages'",
    ),
    "too few": (
        {"stage_sharpness": (1, 1)},
        "stage_sharpness has 2 values; expected 3: one for each of 2 stages",
    ),
    "epochs": ({"epochs": 7}, "stage_epochs has 6 epochs in total, but the number of epochs is 7. Make them equal"),
    "part of an epoch": ({"stage_epochs": (1, 2.5, 2.5)}, "expected whole numbers of epochs"),
    "no epoch": ({"stage_epochs": (0, 3, 3)}, r"stage_epochs is \[0, 3, 3\]; expected numbers above 0"),
    "span": ({"span": 0.5}, "stage_epochs and a pacing span of 0.5 both set when the pool grows"),
    "part of a pair": ({"stage_batch_sizes": (0.3, 1, 1)}, "stage_batch_sizes has 0.3, which is 2.4 of the 8 pairs"),
    "larger batch": ({"stage_batch_sizes": (1, 1, 2)}, r"expected shares in \(0, 1\]"),
    "rate": ({"stage_learning_rates": (1, 1, float("nan"))}, "expected numbers above 0"),
    "sharpness": ({"stage_sharpness": (-1, 1, 1)}, r"stage_sharpness is \[-1, 1, 1\]; expected numbers above 0"),
}


@pytest.mark.parametrize("case", BAD_STAGES)
def test_stages_that_contradict(case):
    changes, message = BAD_STAGES[case]
    with pytest.raises(ValueError, match=message):
        CurriculumPlan(num_pairs=40, **{**STAGED, **changes})
