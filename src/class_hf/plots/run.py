"""Pictures of a run: the plan, the loss, the validation MRR against wall time, the ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.plots.style import BLUE, GREY, ORANGE, save_figure


def _figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: no global state, no window

    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot_plan(plan: CurriculumPlan, path: str | Path) -> Path:
    """The size of the pool over the steps, against training without a curriculum."""
    order = plan.settings["order"]
    figure, axes = _figure(
        f"Curriculum plan, {order}: {plan.total_steps:,} steps ({plan.full_steps:,} without a curriculum)",
        "optimizer step",
        "pairs admitted",
    )
    edges = np.concatenate(([0], np.cumsum(plan.steps_per_epoch)))
    axes.stairs(plan.pool_sizes, edges, fill=True, color=BLUE, alpha=0.25)
    axes.stairs(plan.pool_sizes, edges, color=BLUE, linewidth=1.5, label=f"pool, {plan.epochs} epochs")
    axes.axhline(plan.num_pairs, color=GREY, linestyle="--", linewidth=1, label=f"all {plan.num_pairs:,} pairs")
    if plan.settings["max_steps"] is None:
        axes.axvline(plan.full_steps, color=GREY, linestyle=":", linewidth=1.5, label="end without a curriculum")
    axes.set_xlim(0, max(plan.total_steps, plan.full_steps if plan.settings["max_steps"] is None else 0) * 1.02)
    axes.set_ylim(0, plan.num_pairs * 1.25)
    axes.legend(loc="upper left", frameon=False, ncol=3)
    return save_figure(figure, path)


def plot_loss(log_history: Sequence[dict[str, Any]], path: str | Path) -> Path | None:
    """The training loss and the in-batch accuracy over the steps; None if nothing was logged."""
    logs = [entry for entry in log_history if "loss" in entry]
    if not logs:
        return None
    figure, axes = _figure("Training", "optimizer step", "loss")
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
    log_history: Sequence[dict[str, Any]], path: str | Path, molecules: int, captions: int
) -> Path | None:
    """The validation MRR against wall time; None if nothing was evaluated.

    Args:
        log_history: of the trainer.
        path: the PNG.
        molecules, captions: how many candidates the evaluation during training ranked, in either direction.
    """
    logs = [entry for entry in log_history if "eval_mrr" in entry and "wall_seconds" in entry]
    if not logs:
        return None
    figure, axes = _figure("Validation during training", "wall time (seconds)", "MRR")
    seconds = [entry["wall_seconds"] for entry in logs]
    for key, label, colour in (
        ("eval_mrr", f"text to molecule, {molecules:,} candidates", BLUE),
        ("eval_split_molecule_to_text_mrr", f"molecule to text, {captions:,} candidates", ORANGE),
    ):
        axes.plot(seconds, [entry[key] for entry in logs], marker="o", markersize=4, color=colour, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(loc="lower right", frameon=False)
    return save_figure(figure, path)


def plot_ranks(ranks: dict[str, dict[str, tuple[np.ndarray, int]]], path: str | Path, split: str) -> Path:
    """Hits@k for every k: the share of queries whose partner is among the first k, by pool and direction."""
    figure, axes = _figure(f"Ranks, {split}", "k (log scale)", "Hits@k")
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
    return save_figure(figure, path)
