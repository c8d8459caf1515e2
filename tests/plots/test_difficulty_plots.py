"""Figures of difficulty show every pair, with its scores and its caption."""

import numpy as np
import pytest
from datasets import Dataset

from class_hf import score_dataset
from class_hf.difficulty.ranks import spearman
from class_hf.plots.difficulty import draw_pairs, plot_histograms, plot_text_against_molecule

SCORES = ["text_difficulty", "molecule_difficulty", "difficulty"]


@pytest.fixture(scope="module")
def scored(pairs):
    return score_dataset(pairs.remove_columns("difficulty"), neighbours=3)


def test_histograms_have_a_panel_a_score_and_a_line_a_split(scored):
    columns = {score: scored[score][:] for score in SCORES}
    figure = plot_histograms({"train": columns, "validation": columns})
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "difficulty of the text",
        "difficulty of the molecule",
        "difficulty",
    ]
    assert all(len(axes.patches) == 2 for axes in figure.axes)
    assert len({patch.get_edgecolor() for patch in figure.axes[0].patches}) == 2


@pytest.mark.parametrize("scores", [{}, {"train": {}}, {"train": {"a": [1.0]}, "validation": {"b": [1.0]}}])
def test_histograms_need_the_same_scores_in_every_split(scores):
    with pytest.raises(ValueError, match="expected the same scores in every split"):
        plot_histograms(scores)


def test_text_against_molecule_counts_every_pair(scored):
    figure = plot_text_against_molecule(scored)
    (cells,) = figure.axes[0].collections
    assert cells.get_array().sum() == 24
    rho = spearman(np.array(scored["text_difficulty"][:]), np.array(scored["molecule_difficulty"][:]))
    assert figure.axes[0].get_title() == f"Training pairs (24), Spearman {rho:.2f}"


def test_drawn_pairs_carry_id_scores_and_a_cut_caption(scored):
    rows = scored.select([0, 1]).map(lambda row: {"description": "A $5 caption. " * 60, "id": row["id"] + "x" * 60})
    figure = draw_pairs(rows, [1, 0], title="Two pairs")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts[0].startswith("m01xxx") and len(texts[0].splitlines()[0]) == 40
    assert "text 0." in texts[0] and "both 0." in texts[0]
    assert len(texts[1].splitlines()) == 8 and texts[1].endswith(" ...")
    figure.canvas.draw()


def test_drawing_errors(scored):
    with pytest.raises(ValueError, match="rows is empty"):
        draw_pairs(scored, [])
    broken = Dataset.from_dict({**scored[:1], "smiles": ["C1CC("]})
    with pytest.raises(ValueError, match=r"id m00: RDKit cannot parse the SMILES 'C1CC\('"):
        draw_pairs(broken, [0])
