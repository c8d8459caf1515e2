"""Figures of a training run: the plan, the loss, the validation MRR and the ranks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.evaluation.retrieval_evaluator import Ranks, RetrievalEvaluator
from class_hf.plots.retrieval import plot_retrievals
from class_hf.plots.style import BLUE, GREY, ORANGE, line_axes, new_figure, save_figure

_SIZE = (7, 4.2)


def plot_plan(plan: CurriculumPlan, path: str | Path) -> Path:
    """Draws the number of admitted pairs at each step, compared with training without a curriculum.

    Args:
        plan: the curriculum plan.
        path: the PNG file.

    Returns:
        The path.
    """
    order = plan.settings["order"]
    figure = new_figure(*_SIZE)
    axes = line_axes(
        figure,
        title=f"Curriculum plan, {order}: {plan.total_steps:,} steps ({plan.full_steps:,} without a curriculum)",
        x="optimizer step",
        y="pairs admitted",
    )
    edges = np.concatenate(([0], np.cumsum(plan.steps_per_epoch)))
    axes.stairs(plan.pool_sizes, edges, fill=True, color=BLUE, alpha=0.25)
    axes.stairs(plan.pool_sizes, edges, color=BLUE, linewidth=1.5, label=f"pool, {plan.epochs} epochs")
    axes.axhline(plan.num_pairs, color=GREY, linestyle="--", linewidth=1, label=f"all {plan.num_pairs:,} pairs")
    if plan.num_left_out:
        kept = plan.num_pairs - plan.num_left_out
        axes.axhline(kept, color=ORANGE, linestyle="--", linewidth=1, label=f"{plan.num_left_out:,} pairs left out")
    if plan.has_stages:
        _mark_stages(axes, plan)
    if plan.settings["max_steps"] is None:
        axes.axvline(plan.full_steps, color=GREY, linestyle=":", linewidth=1.5, label="end without a curriculum")
    axes.set_xlim(0, max(plan.total_steps, plan.full_steps if plan.settings["max_steps"] is None else 0) * 1.02)
    axes.set_ylim(0, plan.num_pairs * 1.25)
    axes.legend(loc="upper left", frameon=False, ncol=3)
    return save_figure(figure, path)


def _mark_stages(axes: Any, plan: CurriculumPlan) -> None:
    """Draws a line where a stage begins, and writes what it sets above the pool."""
    step = 0
    for epoch, steps in enumerate(plan.steps_per_epoch):
        stage = plan.stage(epoch)
        if epoch == 0 or stage.number != plan.stage(epoch - 1).number:
            axes.axvline(step, color=GREY, linewidth=0.5)
            text = f" batch {stage.batch_size:,}\n rate x{stage.learning_rate:g}\n logits x{stage.sharpness:g}"
            axes.text(step, 0.02 * plan.num_pairs, text, fontsize=7, va="bottom")
        step += steps


def plot_loss(log_history: Sequence[Mapping[str, Any]], path: str | Path) -> Path | None:
    """Draws the training loss and the in-batch accuracy at each logged step.

    Args:
        log_history: `trainer.state.log_history`.
        path: the PNG file.

    Returns:
        The path, or None if no loss was logged.
    """
    logs = [entry for entry in log_history if "loss" in entry]
    if not logs:
        return None
    figure = new_figure(*_SIZE)
    axes = line_axes(figure, title="Training", x="optimizer step", y="loss")
    steps = [entry["step"] for entry in logs]
    axes.plot(steps, [entry["loss"] for entry in logs], color=BLUE, label="loss")
    axes.set_ylim(bottom=0)
    right = axes.twinx()
    right.plot(
        steps, [entry.get("in_batch_accuracy", np.nan) for entry in logs], color=ORANGE, label="in-batch accuracy"
    )
    right.set_ylim(0, 1.02)
    right.set_ylabel("in-batch accuracy")
    right.spines[["top"]].set_visible(False)
    handles = axes.get_legend_handles_labels()[0] + right.get_legend_handles_labels()[0]
    axes.legend(handles=handles, loc="center right", frameon=False)
    return save_figure(figure, path)


def plot_validation(
    log_history: Sequence[Mapping[str, Any]], path: str | Path, molecules: int, captions: int
) -> Path | None:
    """Draws the validation MRR against wall time.

    Args:
        log_history: `trainer.state.log_history`.
        path: the PNG file.
        molecules: number of candidate molecules during training, for the legend.
        captions: number of candidate captions during training, for the legend.

    Returns:
        The path, or None if training had no evaluation.
    """
    logs = [entry for entry in log_history if "eval_mrr" in entry and "wall_seconds" in entry]
    if not logs:
        return None
    figure = new_figure(*_SIZE)
    axes = line_axes(figure, title="Validation during training", x="wall time (seconds)", y="MRR")
    seconds = [entry["wall_seconds"] for entry in logs]
    captions_key = "eval_split_molecule_to_text_mrr"
    if captions_key not in logs[0]:
        captions_key = "eval_split_sample_molecule_to_text_mrr"  # the evaluator ranked a sample of the split
    for key, label, colour in (
        ("eval_mrr", f"text to molecule, {molecules:,} candidates", BLUE),
        (captions_key, f"molecule to text, {captions:,} candidates", ORANGE),
    ):
        axes.plot(seconds, [entry[key] for entry in logs], marker="o", markersize=4, color=colour, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(loc="lower right", frameon=False)
    return save_figure(figure, path)


def plot_ranks(
    ranks: Mapping[str, Mapping[str, tuple[np.ndarray, int]]],
    path: str | Path,
    split: str,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Draws Hits@k for every k: the share of queries whose true candidate is among the first k.

    Args:
        ranks: by pool and direction, the ranks (Q,) and the number of candidates.
        path: the PNG file.
        split: name of the evaluated split, for the title.
        metadata: text chunks of the PNG file.

    Returns:
        The path.
    """
    figure = new_figure(*_SIZE)
    axes = line_axes(figure, title=f"Ranks, {split}", x="k (log scale)", y="Hits@k")
    colours = {"text_to_molecule": BLUE, "molecule_to_text": ORANGE}
    for pool, directions in ranks.items():
        for direction, (values, candidates) in directions.items():
            ordered = np.sort(values)
            axes.step(
                np.concatenate((ordered, [candidates])),
                np.concatenate((np.arange(1, ordered.size + 1) / ordered.size, [1.0])),
                where="post",
                color=colours[direction],
                linestyle="-" if pool == "full" else "--",
                label=f"{direction.replace('_', ' ')}, {pool} pool ({candidates:,})",
            )
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right", frameon=False)
    return save_figure(figure, path, metadata)


def plot_run(
    folder: Path,
    log_history: Sequence[dict[str, Any]],
    watched: RetrievalEvaluator,
    evaluator: RetrievalEvaluator,
    embeddings: dict[str, torch.Tensor],
    ranks: Ranks,
) -> None:
    """Draws the pictures of a finished run: the loss, the validation during training, the ranks, some retrievals.

    Args:
        folder: folder of the pictures.
        log_history: logs of the trainer.
        watched: evaluator of the evaluation during training.
        evaluator: evaluator of the final evaluation.
        embeddings: its embeddings.
        ranks: its (ranks, candidates) by pool and direction.
    """
    plot_loss(log_history, folder / "loss.png")
    plot_validation(log_history, folder / "validation.png", len(watched.pool), len(watched.pairs))
    plot_ranks(ranks, folder / "ranks.png", evaluator.name)
    plot_retrievals(embeddings, ranks, evaluator.pairs, evaluator.pool, folder / "retrievals.png")
