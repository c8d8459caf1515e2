"""The card says whether there was a curriculum."""

import re
from pathlib import Path

import pytest
import yaml
from conftest import tiny_model

from class_hf import CurriculumPlan
from class_hf.hub.model_card import model_card

CARDS = Path(__file__).parents[2] / "model_cards"


def card(order):
    plan = CurriculumPlan(num_pairs=8, epochs=2, batch_size=2, order=order)
    return model_card(tiny_model(), plan=plan, log_history=[])


def test_a_curriculum_is_named():
    assert "curriculum-learning" in card("random") and "by curriculum learning" in card("random")
    assert "Order `random`" in card("random")


def test_none_is_none():
    assert "curriculum-learning" not in card("none") and "by curriculum learning" not in card("none")
    assert "All pairs in each of 2 epochs, global batch 2, seed 0: 8 steps, without a curriculum." in card("none")


def snippet(text: str) -> str:
    return text.split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("path", sorted(CARDS.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_reviewed_cards_are_what_the_generator_writes(path):
    """Complete metadata, pictures that are there, and the sections and the snippet of a new card."""
    text = path.read_text()
    values = yaml.safe_load(text.split("---")[1])
    assert {"license", "tags", "language"} <= set(values)
    pictures = re.findall(r"\]\((plots/.*?)\)", text)
    assert pictures and all((path.parent / picture).is_file() for picture in pictures)
    if "model-index" not in values:
        assert values["configs"] and "load_dataset" in snippet(text)
        return
    assert {"library_name", "pipeline_tag", "datasets"} <= set(values)
    new = card("none")
    assert snippet(text) == snippet(new)
    assert re.findall("^## .*", text, re.M) == re.findall("^## .*", new, re.M)


def test_licence_and_data_of_the_card():
    text = model_card(tiny_model(), dataset="my pairs", log_history=[])
    assert "license: unknown" in text and "- my-pairs\n" in text
    assert "license: mit" in model_card(tiny_model(), dataset="my pairs", license="mit")
    assert "**synthetic**" in model_card(tiny_model(), dataset="class_hf demo", synthetic=True)
