"""Figures of difficulty: the distribution of scores, text against molecule, the easiest and the hardest pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from class_hf.difficulty.ranks import spearman
from class_hf.difficulty.scorer import DIFFICULTY_COLUMNS, DifficultyScorer
from class_hf.difficulty.summary import find_extremes
from class_hf.plots.style import (
    BLUE,
    COLUMN_WIDTH,
    DARK_GREY,
    GREEN,
    ORANGE,
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
    WIDE_PADDING,
    cut_caption,
    hide_spines,
    molecule_grid,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLIT_COLOURS = {"train": BLUE, "validation": ORANGE, "test": GREEN}

_UNITS = {
    "text_complexity": "text: mean rank of words, rarity",
    "molecule_complexity": "molecule: mean rank of atoms, rings, stereo, rarity",
    "text_confusability": "text: mean cosine to other captions",
    "molecule_confusability": "molecule: mean Tanimoto to other molecules",
    "text_alignment": "text: log rank of the true molecule",
    "molecule_alignment": "molecule: log rank of the true caption",
    "text_difficulty": "difficulty of the text",
    "molecule_difficulty": "difficulty of the molecule",
    "difficulty": "difficulty",
}


def plot_histograms(scores: Mapping[str, Mapping[str, Sequence[float]]], *, bins: int = 40) -> "Figure":
    """Draws histograms of scores, with one panel for each score and one line for each split.

    Each histogram has area 1. Difficulties are ranks, so the line of the training split is flat. The line of another
    split shows how that split differs from the training split.

    Args:
        scores: by split and name of the score, the values (n,). Every split has the same scores.
        bins: number of bins over the range of all splits. Default: 40.

    Returns:
        The figure. `figure.savefig(path)` writes it.

    Raises:
        ValueError: if there are no scores, or a split lacks one.

    >>> figure = plot_histograms({"train": {"difficulty": [0.1, 0.5, 0.9]}})
    >>> figure.axes[0].get_ylabel()
    'density'
    """
    names = list(next(iter(scores.values()), {}))
    if not names or any(list(columns) != names for columns in scores.values()):
        found = {split: list(columns) for split, columns in scores.items()}
        raise ValueError(f"expected the same scores in every split, got {found}.")
    across = 2 if len(names) % 2 == 0 else min(len(names), 3)
    down = -(-len(names) // across)
    figure = new_figure(COLUMN_WIDTH if across > 1 else 4.4, 3.0 * down, padding=WIDE_PADDING)
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(down, across, number)
        values = np.concatenate([columns[name] for columns in scores.values()])
        edges = np.histogram_bin_edges(values, bins, range=(0, 1) if name.endswith("difficulty") else None)
        for split, columns in scores.items():
            axes.hist(
                columns[name],
                edges.tolist(),
                density=True,
                histtype="step",
                linewidth=1.8,
                color=SPLIT_COLOURS.get(split, DARK_GREY),
                label=f"{split} ({len(columns[name]):,})",
            )
        axes.set_xlabel(_UNITS.get(name, name))
        axes.set_ylabel("density")
        axes.margins(y=0.25)
        hide_spines(axes)
        if number == 1:
            axes.legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def plot_text_against_molecule(ds: Any, *, title: str = "Training pairs") -> "Figure":
    """Draws the difficulty of the molecule against the difficulty of the text, as counts in hexagons.

    Args:
        ds: N rows with the columns `text_difficulty` and `molecule_difficulty`.
        title: name of the rows. The number of pairs and the rank correlation of Spearman are added.

    Returns:
        The figure. `figure.savefig(path)` writes it.
    """
    text, molecule = (np.asarray(ds[f"{modality}_difficulty"][:]) for modality in ("text", "molecule"))
    correlation = spearman(text, molecule)
    figure = new_figure(5.4, 4.6, padding=WIDE_PADDING)
    axes = figure.add_subplot()
    grid = int(np.clip(np.sqrt(len(text) / 12), 6, 32))
    # All pairs that the reference model ranks first share one cell. On a linear scale the others would be invisible.
    cells = axes.hexbin(
        text, molecule, bins="log", gridsize=grid, extent=(0, 1, 0, 1), cmap="Blues", mincnt=1, linewidths=0.2
    )
    figure.colorbar(cells, ax=axes, label="pairs in a cell", shrink=0.9)
    axes.set(xlabel=_UNITS["text_difficulty"], ylabel=_UNITS["molecule_difficulty"], aspect="equal")
    shown = "undefined" if correlation is None else f"{correlation:.2f}"
    axes.set_title(f"{title} ({len(text):,}), Spearman {shown}", fontsize=11)
    hide_spines(axes)
    return figure


def draw_pairs(ds: Any, rows: Sequence[int], *, title: str = "", columns: int = 3) -> "Figure":
    """Draws molecules, each above its id, its scores and the start of its caption.

    Args:
        ds: rows with `id`, `smiles`, `description` and the three difficulty columns.
        rows: indices of the rows to draw, in order.
        title: title of the figure. Default: no title.
        columns: molecules in a row. Default: 3.

    Returns:
        The figure. `figure.savefig(path)` writes it.

    Raises:
        ValueError: if `rows` is empty, or RDKit cannot parse a SMILES.
    """
    if not len(rows):
        raise ValueError("rows is empty: give the indices of the pairs to draw.")
    sheet, cells = molecule_grid(len(rows), columns, text_height=2.0, title=title, title_height=0.4)
    for row, (left, top) in zip(rows, cells, strict=True):
        pair = ds[int(row)]
        sheet.add_molecule(pair["smiles"], pair["id"], left, top, PICTURE_WIDTH)
        sheet.add_text(_heading(pair), left, top + PICTURE_HEIGHT, fontsize=8.5, fontweight="bold")
        sheet.add_text(cut_caption(pair["description"]), left, top + PICTURE_HEIGHT + 0.36, fontsize=8.5)
    return sheet.figure


def _heading(pair: Mapping[str, Any]) -> str:
    """Two lines: the id, cut to 40 characters, and the three scores."""
    name = pair["id"] if len(pair["id"]) <= 40 else pair["id"][:37] + "..."
    scores = pair["text_difficulty"], pair["molecule_difficulty"], pair["difficulty"]
    return f"{name}\n" + "text {:.2f}  molecule {:.2f}  both {:.2f}".format(*scores)


def write_figures(scored: Mapping[str, Any], scorer: DifficultyScorer, folder: Path) -> None:
    """Writes the figures of a scored data set as PNG.

    Args:
        scored: data sets by split, with the difficulty columns; `pool` is ignored.
        scorer: the fitted scorer.
        folder: a folder to create.
    """
    folder.mkdir()
    pairs = {split: ds for split, ds in scored.items() if split != "pool"}
    train = scored["train"]
    shown = min(9, len(train))
    ends = find_extremes(train, shown)
    figures = {
        "raw_scores": plot_histograms({split: scorer.raw_scores(ds[:]) for split, ds in pairs.items()}),
        "difficulty": plot_histograms(
            {split: {score: ds[score][:] for score in DIFFICULTY_COLUMNS} for split, ds in pairs.items()}, bins=20
        ),
        "text_against_molecule": plot_text_against_molecule(train),
        "easiest": draw_pairs(train, ends["easiest"], title=f"The {shown} easiest training pairs"),
        "hardest": draw_pairs(train, ends["hardest"], title=f"The {shown} hardest training pairs, hardest first"),
    }
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
