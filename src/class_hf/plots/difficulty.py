"""Figures of difficulty: the spread of scores, text against molecule, the easiest and the hardest pairs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from class_hf.difficulty.ranks import spearman
from class_hf.plots.style import cut_caption, draw_molecule, hide_spines, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart under every common form of colour blindness.
SPLIT_COLOURS = {"train": "#0072B2", "validation": "#D55E00", "test": "#009E73"}
_OTHER_COLOUR = "#555555"

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
    """Histograms of scores, one panel a score and one line a split, each of area 1.

    Args:
        scores: split to score name to values (n,), as `DifficultyScorer.raw_scores` returns them, or the
            difficulty columns. Ranks are flat for the training split by definition; another split's line
            shows how it differs from it.
        bins: of each histogram, over the range of all splits.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: if there is no score, or a split lacks one.

    Example:

    ```python
    plot_histograms({split: scorer.raw_scores(ds[:]) for split, ds in data.items()}).savefig("raw.png")
    ```
    """
    names = list(next(iter(scores.values()), {}))
    if not names or any(list(columns) != names for columns in scores.values()):
        raise ValueError(f"expected the same scores in every split, got {_outline(scores)}.")
    across = 2 if len(names) % 2 == 0 else min(len(names), 3)
    down = -(-len(names) // across)
    figure = new_figure(width=4.4 * across, height=3.2 * down)
    for number, name in enumerate(names, start=1):
        ax = figure.add_subplot(down, across, number)
        values = np.concatenate([columns[name] for columns in scores.values()])
        edges = np.histogram_bin_edges(values, bins, range=(0, 1) if name.endswith("difficulty") else None)
        for split, columns in scores.items():
            colour = SPLIT_COLOURS.get(split, _OTHER_COLOUR)
            label = f"{split} ({len(columns[name]):,})"
            ax.hist(
                columns[name],
                edges.tolist(),
                density=True,
                histtype="step",
                linewidth=1.8,
                color=colour,
                label=label,
            )
        ax.set_xlabel(_UNITS.get(name, name))
        ax.set_ylabel("density")
        ax.margins(y=0.25)
        hide_spines(ax)
        if number == 1:
            ax.legend(frameon=False, loc="upper left", fontsize=9)
    return figure


def plot_text_against_molecule(ds: Any, *, title: str = "Training pairs") -> "Figure":
    """How the difficulty of the text and of the molecule go together, as counts in hexagons.

    Args:
        ds: N rows with columns ``text_difficulty`` and ``molecule_difficulty``.
        title: what the rows are; the number of pairs and Spearman's rank correlation are added.

    Returns:
        The figure.
    """
    text, molecule = (np.asarray(ds[f"{modality}_difficulty"][:]) for modality in ("text", "molecule"))
    correlation = spearman(text, molecule)
    figure = new_figure(width=5.4, height=4.6)
    ax = figure.add_subplot()
    grid = int(np.clip(np.sqrt(len(text) / 12), 6, 32))
    # Log counts: the pairs that the reference gets right share one cell, and would fade all others.
    extent = (0, 1, 0, 1)
    cells = ax.hexbin(text, molecule, bins="log", gridsize=grid, extent=extent, cmap="Blues", mincnt=1, linewidths=0.2)
    figure.colorbar(cells, ax=ax, label="pairs in a cell", shrink=0.9)
    ax.set(xlabel=_UNITS["text_difficulty"], ylabel=_UNITS["molecule_difficulty"], aspect="equal")
    shown = "undefined" if correlation is None else f"{correlation:.2f}"
    ax.set_title(f"{title} ({len(text):,}), Spearman {shown}", fontsize=11)
    hide_spines(ax)
    return figure


def draw_pairs(ds: Any, rows: Sequence[int], *, title: str = "", columns: int = 4) -> "Figure":
    """Molecules, each over its id, its scores and the beginning of its caption.

    Args:
        ds: rows with ``id``, ``smiles``, ``description`` and the three difficulty columns.
        rows: which to draw, in order.
        title: of the figure.
        columns: molecules in a line.

    Returns:
        The figure.

    Raises:
        ValueError: if ``rows`` is empty, or RDKit cannot parse a SMILES.
    """
    if not len(rows):
        raise ValueError("rows is empty: give the indices of the pairs to draw.")
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(width=3.3 * columns, height=4.5 * lines + (0.4 if title else 0))
    grid = figure.add_gridspec(2 * lines, columns, height_ratios=[2.3, 1.9] * lines)
    for place, row in enumerate(rows):
        pair = ds[int(row)]
        line, column = divmod(place, columns)
        picture, caption = (figure.add_subplot(grid[2 * line + half, column]) for half in range(2))
        picture.imshow(draw_molecule(pair["smiles"], pair["id"]))
        picture.axis("off")
        caption.axis("off")
        # parse_math: a dollar sign in a caption starts no formula.
        style: dict[str, Any] = {"va": "top", "transform": caption.transAxes, "parse_math": False}
        caption.text(0, 1, _heading(pair), fontsize=9, fontweight="bold", **style)
        caption.text(0, 0.8, cut_caption(pair["description"]), fontsize=8.5, **style)
    if title:
        figure.suptitle(title, fontsize=13)
    return figure


def _outline(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    return {split: list(columns) for split, columns in scores.items()}


def _heading(pair: Mapping[str, Any]) -> str:
    name = pair["id"] if len(pair["id"]) <= 40 else pair["id"][:37] + "..."
    scores = pair["text_difficulty"], pair["molecule_difficulty"], pair["difficulty"]
    return f"{name}\n" + "text {:.2f}  molecule {:.2f}  both {:.2f}".format(*scores)
