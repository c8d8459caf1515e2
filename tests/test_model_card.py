"""The card says whether there was a curriculum."""

from conftest import tiny_model

from class_hf import CurriculumPlan
from class_hf.model_card import model_card


def card(order):
    plan = CurriculumPlan(num_pairs=8, epochs=2, batch_size=2, order=order)
    return model_card(tiny_model(), plan=plan, log_history=[])


def test_a_curriculum_is_named():
    assert "curriculum-learning" in card("random") and "by curriculum learning" in card("random")
    assert "Order `random`" in card("random")


def test_none_is_none():
    assert "curriculum-learning" not in card("none") and "by curriculum learning" not in card("none")
    assert "All pairs in each of 2 epochs, global batch 2, seed 0: 8 steps, without a curriculum." in card("none")
