"""Figures of a study: quality against cost for all arms, and gains by difficulty quartile."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from class_hf.plots.style import COLUMN_WIDTH, LINE_STYLES, PALETTE, hide_spines, new_figure, save_figure


def plot_curves(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    baselines: Sequence[str],
    path: str | Path,
    *,
    clock: str = "seconds",
) -> Path | None:
    """Draws the MRR during training against time and against pairs seen, for all arms.

    Args:
        curves: by arm, `seconds` or `cpu_seconds`, `pairs_seen` and `mrr` (T,) in the order of training.
        baselines: names of the arms that are drawn in black.
        path: the PNG file.
        clock: the time to draw: `seconds` (wall time) or `cpu_seconds`.

    Returns:
        The path, or None if no arm had an evaluation during training.
    """
    drawn = {arm: curve for arm, curve in curves.items() if len(curve["mrr"])}
    if not drawn:
        return None
    few = len(drawn) <= 6  # then the legend is below the panels, and the figure fits into a column of text
    columns = min(len(drawn), 3) if few else 1 + (len(drawn) - 1) // 24
    size = (COLUMN_WIDTH, 4.0) if few else (11 + 2.2 * columns, min(max(4.6, 0.16 * len(drawn)), 8.0))
    figure = new_figure(*size)
    panels = figure.subplots(1, 2, sharey=True)
    styles = _styles(drawn, baselines)
    time_label = "wall time of training (seconds)" if clock == "seconds" else "CPU time of training (seconds)"
    for axes, name, label in zip(panels, (clock, "pairs_seen"), (time_label, "pairs seen"), strict=True):
        for arm, curve in drawn.items():
            axes.plot(curve[name], curve["mrr"], label=arm, **styles[arm])
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        hide_spines(axes)
    panels[0].set_ylabel("MRR at evaluations during training")
    panels[1].xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k" if value >= 1000 else f"{value:.0f}")
    # The legend lists the arms in the order of the ends of their curves, the best first.
    handles, labels = panels[0].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda row: -drawn[labels[row]]["mrr"][-1])
    figure.legend(
        [handles[row] for row in order],
        [labels[row] for row in order],
        loc="outside lower center" if few else "outside right upper",
        title="by last MRR",
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=3,
    )
    return save_figure(figure, path)


def _styles(arms: Mapping[str, Any], baselines: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The line properties of each arm. Baselines are black, the others take the palette in order."""
    others = [arm for arm in arms if arm not in baselines]
    styles: dict[str, dict[str, Any]] = {
        arm: {
            "color": PALETTE[number % len(PALETTE)],
            "linestyle": LINE_STYLES[number // len(PALETTE) % len(LINE_STYLES)],
            "linewidth": 1.3,
        }
        for number, arm in enumerate(others)
    }
    for number, arm in enumerate(baselines):
        style = LINE_STYLES[number % len(LINE_STYLES)]
        styles[arm] = {"color": "black", "linestyle": style, "linewidth": 2.0, "zorder": 3}
    return styles


def plot_quartiles(
    quartiles: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], path: str | Path
) -> Path | None:
    """Draws the gain in MRR over each baseline by difficulty quartile, with one panel for each baseline.

    A gain is in bold if its 95 % interval does not contain zero.

    Args:
        quartiles: by baseline and arm, the quarters of the queries from the easiest to the hardest, each with
            `difference` and `interval_95`.
        path: the PNG file.

    Returns:
        The path, or None if no arm was compared.
    """
    panels = {baseline: arms for baseline, arms in quartiles.items() if arms}
    if not panels:
        return None
    lines = max(len(arms) for arms in panels.values())
    longest = max(len(arm) for arms in panels.values() for arm in arms)
    figure = new_figure(len(panels) * (4.2 + 0.075 * longest) + 1.0, 0.3 * lines + 1.8)
    values = {
        baseline: np.array([[part["difference"] for part in parts] for parts in arms.values()])
        for baseline, arms in panels.items()
    }
    limit = max(float(np.abs(value).max()) for value in values.values()) or 1.0
    for axes, (baseline, arms) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        image = axes.imshow(values[baseline], cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for row, parts in enumerate(arms.values()):
            for column, part in enumerate(parts):
                low, high = part["interval_95"]
                axes.text(
                    column,
                    row,
                    f"{part['difference']:+.3f}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    fontweight="bold" if low > 0 or high < 0 else "normal",
                    color="white" if abs(part["difference"]) > 0.65 * limit else "black",
                )
        parts = values[baseline].shape[1]
        names = ["easiest", "second", "third", "hardest"] if parts == 4 else [str(part + 1) for part in range(parts)]
        axes.set_xticks(range(parts), names)
        axes.set_yticks(range(len(arms)), list(arms), fontsize=8.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(f"against {baseline}", fontsize=11, loc="left")
        axes.set_xlabel("quarter of the queries by difficulty")
    # The label of the colour bar would not fit: with two arms the bar is very short.
    figure.suptitle("gain in MRR; bold: 95 % interval without 0", fontsize=9, color="0.35", ha="right", x=0.99)
    figure.colorbar(image, ax=figure.axes, shrink=0.9, aspect=35)
    return save_figure(figure, path)
