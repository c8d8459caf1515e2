"""Figures of a run are PNG files. A figure without data is not written."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from class_hf import CurriculumPlan
from class_hf.plots.run import plot_loss, plot_plan, plot_ranks, plot_validation
from class_hf.plots.style import new_figure, save_figure


def test_figures_of_a_run(tmp_path):
    plan = CurriculumPlan(num_pairs=40, epochs=3, batch_size=4, order="random")
    history = [
        {"step": 1, "loss": 2.0, "in_batch_accuracy": 0.1},
        {
            "eval_mrr": 0.1,
            "eval_full_text_to_molecule_mrr": 0.1,
            "eval_split_molecule_to_text_mrr": 0.2,
            "wall_seconds": 1,
        },
    ]
    ranks = {"full": {"text_to_molecule": (np.array([1.0, 3.0]), 9)}}
    paths = [
        plot_plan(plan, tmp_path / "plan.png"),
        plot_loss(history, tmp_path / "loss.png"),
        plot_validation(history, tmp_path / "validation.png", 9, 2),
        plot_ranks(ranks, tmp_path / "ranks.png", "validation"),
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert plot_loss([], tmp_path / "none.png") is None and plot_validation([], tmp_path / "none.png", 1, 1) is None
    assert len(list(tmp_path.iterdir())) == 4


def test_a_failed_write_leaves_the_old_figure(tmp_path, monkeypatch):
    def fail(canvas, path, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    path = save_figure(new_figure(1, 1), tmp_path / "new" / "figure.png")
    old = path.read_bytes()
    monkeypatch.setattr(FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="cannot be written"):
        save_figure(new_figure(1, 1), path)
    assert path.read_bytes() == old and [file.name for file in path.parent.iterdir()] == ["figure.png"]
