import math

import numpy as np
import pytest

from class_hf import CurriculumPlan, CurriculumSampler
from class_hf.curriculum.pacing import competence
from class_hf.curriculum.settings import PlanSettings

ORDERS = ("easy_first", "hard_first", "random", "none")


def make(order="easy_first", pairs=103, epochs=5, batch_size=8, **kwargs):
    difficulty = np.random.default_rng(1).random(pairs)
    return CurriculumPlan(difficulty, epochs=epochs, batch_size=batch_size, order=order, **kwargs), difficulty


@pytest.mark.parametrize("order", ORDERS)
def test_every_admitted_pair_once_an_epoch_in_whole_batches(order):
    plan, _ = make(order)
    for epoch in range(plan.epochs):
        rows = plan.epoch_order(epoch)
        assert len(rows) == plan.steps_per_epoch[epoch] * 8 == plan.pool_sizes[epoch] // 8 * 8
        assert len(set(rows.tolist())) == len(rows)
        assert set(rows.tolist()) <= set(plan.ranking[: plan.pool_sizes[epoch]].tolist())
    assert plan.total_steps == sum(plan.steps_per_epoch)


def test_pool_sizes_follow_the_competence():
    plan, _ = make(start=0.2, span=0.6)
    expected = [max(8, math.ceil(competence(epoch / 3, start=0.2) * 103)) for epoch in range(5)]
    assert list(plan.pool_sizes) == expected
    assert plan.steps_per_epoch[0] < plan.steps_per_epoch[-1] and plan.total_steps < plan.full_steps


def test_easy_first_admits_the_easiest_and_hard_first_the_hardest():
    easy, difficulty = make("easy_first")
    hard, _ = make("hard_first")
    size = easy.pool_sizes[0]
    assert set(easy.ranking[:size]) == set(np.argsort(difficulty)[:size])
    assert set(hard.ranking[:size]) == set(np.argsort(-difficulty)[:size])


def test_random_is_the_control_with_the_same_sizes():
    random, difficulty = make("random")
    easy, _ = make("easy_first")
    assert random.pool_sizes == easy.pool_sizes
    assert set(random.ranking[:30]) != set(np.argsort(difficulty)[:30])
    assert set(random.ranking[:40]) <= set(random.ranking[:60])  # the pool grows; it is not drawn again


def test_none_takes_all_pairs_in_every_epoch():
    plan, _ = make("none")
    assert set(plan.pool_sizes) == {103} and plan.total_steps == plan.full_steps == 5 * (103 // 8)


def test_orders_differ_by_epoch_and_seed_and_repeat_exactly():
    plan, _ = make("none", seed=3)
    repeated, _ = make("none", seed=3)
    other, _ = make("none", seed=4)
    assert np.array_equal(plan.order(), repeated.order())
    assert not np.array_equal(plan.epoch_order(0), plan.epoch_order(1))
    assert not np.array_equal(plan.order(), other.order())


@pytest.mark.parametrize("order", ORDERS)
def test_row_order_of_the_data_does_not_matter(order):
    difficulty = np.repeat(np.linspace(0, 1, 10), 4)  # many ties, which go by id
    ids = np.array([f"p{index:02d}" for index in range(40)])
    shuffled = np.random.default_rng(0).permutation(40)
    one = CurriculumPlan(difficulty, ids=ids, epochs=3, batch_size=4, order=order)
    two = CurriculumPlan(difficulty[shuffled], ids=ids[shuffled], epochs=3, batch_size=4, order=order)
    assert ids[one.order()].tolist() == ids[shuffled][two.order()].tolist()


@pytest.mark.parametrize("max_steps", (1, 7, 40, 200))
def test_max_steps_cuts_or_extends(max_steps):
    plan, _ = make(max_steps=max_steps)
    free, _ = make()
    assert plan.total_steps == max_steps and len(plan.order()) == max_steps * 8
    shared = min(max_steps, free.total_steps) * 8
    assert np.array_equal(plan.order()[:shared], free.order()[:shared])
    if max_steps == 200:
        assert set(plan.pool_sizes[5:]) == {103}


def test_positions_in_the_run():
    plan, _ = make()
    first, second = plan.steps_per_epoch[:2]
    assert [plan.epoch_at(step) for step in (0, first - 1, first, first + second)] == [0, 0, 1, 2]
    assert plan.progress_at(first) == 1.0 and plan.progress_at(plan.total_steps) == 5.0
    assert plan.progress_at(first + 1) == pytest.approx(1 + 1 / second)
    ends = [step for step in range(plan.total_steps + 1) if plan.ends_epoch(step)]
    assert ends == np.cumsum(plan.steps_per_epoch).tolist()


def test_the_sampler_is_the_plan():
    plan, _ = make()
    sampler = CurriculumSampler(plan)
    assert len(sampler) == plan.total_pairs and list(sampler) == plan.order().tolist() == list(sampler)


def test_sampler_ignores_global_random_state():
    import random

    import torch

    plan, _ = make("random")
    before = list(CurriculumSampler(plan))
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert list(CurriculumSampler(plan)) == before


def test_the_docstring_example():
    plan = CurriculumPlan(np.linspace(0, 1, 8), epochs=3, batch_size=2, start=0.5, pacing="linear", span=0.67)
    assert plan.pool_sizes == (4, 6, 8) and plan.total_steps == 9 and plan.full_steps == 12


def test_different_plans_have_different_fingerprints():
    plan, difficulty = make()
    assert plan.fingerprint() == make()[0].fingerprint()
    others = [make(seed=1)[0], make(batch_size=4)[0], make("random")[0], make(start=0.31)[0]]
    others.append(CurriculumPlan(1 - difficulty, epochs=5, batch_size=8))
    assert len({plan.fingerprint(), *(other.fingerprint() for other in others)}) == 6


def test_to_dict_is_json_and_the_table_adds_up():
    import json

    plan, _ = make()
    content = json.loads(json.dumps(plan.to_dict()))
    assert content["total_steps"] == sum(row["steps"] for row in content["epochs_table"]) == plan.total_steps
    assert "37 steps" in repr(make(epochs=3)[0]) or "steps" in repr(plan)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"order": "medium_first"}, "'medium_first' is not known"),
        ({"span": 0.0}, "span is 0.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": 0}, "global batch size is 0"),
        ({"batch_size": 104}, "103 pairs, fewer than one global batch of 104"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"num_pairs": 7}, r"number of pairs is unclear: \[7, 103\]"),
        ({"start": 2.0}, "start share is 2.0"),
        ({"end": 0.0}, "end share is 0.0"),
        ({"end": 0.6, "order": "none"}, "order 'none' does not rank the pairs"),
        ({"end": 0.6, "wrong_probability": [0.5] * 102 + [2.0]}, "row 102: wrong_probability 2.0"),
        ({"wrong_probability": [0.5]}, "number of pairs is unclear"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


@pytest.mark.parametrize("wrong", (float("nan"), -0.1, 1.5))
def test_bad_difficulty_names_row_id_and_value(wrong):
    with pytest.raises(ValueError, match=rf"row 2 \(id c\): difficulty {wrong} .*Wrong rows: 1"):
        CurriculumPlan([0.1, 0.2, wrong, 0.3], ids=list("abcd"), epochs=1, batch_size=2)


def test_easy_first_without_difficulty_says_what_to_do():
    with pytest.raises(ValueError, match="Score the data set first"):
        CurriculumPlan(num_pairs=10, epochs=1, batch_size=2)


def test_settings_or_their_fields_make_the_same_plan():
    difficulty = np.random.default_rng(1).random(103)
    settings = PlanSettings(epochs=5, batch_size=8, order="hard_first", start=0.4)
    plan = CurriculumPlan(difficulty, settings)
    assert plan.fingerprint() == make("hard_first", start=0.4)[0].fingerprint()
    with pytest.raises(ValueError, match="either settings or its fields \\(start\\), not both"):
        CurriculumPlan(difficulty, settings, start=0.3)


@pytest.mark.parametrize("order", ["easy_first", "hard_first", "random"])
def test_pairs_beyond_the_end_are_never_drawn(order):
    plan, difficulty = make(order, end=0.6)
    kept = math.ceil(0.6 * 103)
    assert max(plan.pool_sizes) == kept == 103 - plan.num_left_out
    assert len(plan.left_out) == plan.num_left_out
    assert not set(plan.order().tolist()) & set(plan.left_out.tolist())
    if order != "random":
        hardest = np.argsort(-difficulty if order == "easy_first" else difficulty)[: plan.num_left_out]
        assert set(plan.left_out) == set(hardest)
    assert f"{plan.num_left_out} pairs left out" in repr(plan)
    assert plan.to_dict()["left_out"] == plan.num_left_out and plan.to_dict()["end"] == 0.6
    assert plan.table()[-1]["competence"] == 0.6
    assert plan.fingerprint() != make(order)[0].fingerprint()


@pytest.mark.parametrize("order", ORDERS)
def test_the_most_suspect_pairs_are_left_out_in_any_order(order):
    suspicion = np.random.default_rng(5).random(103)
    plan, difficulty = make(order, end=0.8, wrong_probability=suspicion)
    assert set(plan.left_out) == set(np.argsort(-suspicion)[: plan.num_left_out])
    free = make(order)[0].ranking
    assert plan.ranking[: -plan.num_left_out].tolist() == [row for row in free if row not in set(plan.left_out)]
    assert plan.num_left_out == 20 and max(plan.pool_sizes) == 83


def test_without_an_end_suspicion_changes_nothing():
    assert make(wrong_probability=np.full(103, 0.9))[0].fingerprint() == make()[0].fingerprint()


def test_a_plan_without_an_end_has_the_fingerprint_of_version_0_1():
    assert CurriculumPlan(np.linspace(0, 1, 8), epochs=3, batch_size=2).fingerprint() == "01020ca1ff23635f"


def test_epoch_out_of_range():
    with pytest.raises(IndexError, match="epoch 5"):
        make()[0].epoch_order(5)
