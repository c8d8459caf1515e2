"""A picture of what captions retrieve."""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from class_hf.evaluation.retrieval_evaluator import Ranks
from class_hf.plots.style import cut_caption, draw_molecule, save_figure

_PERCENTILES = (20, 40, 60, 80)
_TOP = 5
_RIGHT, _WRONG = "#009E73", "#999999"


def typical_queries(ranks: np.ndarray, percentiles: tuple[int, ...] = _PERCENTILES) -> list[int]:
    """The queries whose rank stands at these percentiles: neither the best nor chosen by hand.

    Args:
        ranks: (Q,) ranks, 1 the best.
        percentiles: of the ranks; ties go to the earlier query, and few queries give fewer rows.

    >>> typical_queries(np.array([9.0, 1.0, 4.0, 2.0]), (0, 50, 100))
    [1, 3, 0]
    """
    order = np.argsort(ranks, kind="stable")
    places = [int(share / 100 * (len(order) - 1)) for share in percentiles]
    return [int(order[place]) for place in dict.fromkeys(places)]


def plot_retrievals(
    embeddings: dict[str, torch.Tensor], ranks: Ranks, pairs: Dataset, pool: Dataset, path: str | Path
) -> Path:
    """Captions at the 20th, 40th, 60th and 80th percentile of the rank, each with its first five molecules.

    The true molecule has a green frame among the five, and stands once more at the end of the line with its rank.

    Args:
        embeddings: `text_embeds` (Q, D), `molecule_embeds` (P, D) and `gold` (Q,) of a [`RetrievalEvaluator`].
        ranks: of the same; the first pool is drawn.
        pairs: the Q queries, with `description`.
        pool: the P candidates, with `smiles`.
        path: the PNG.
    """
    from matplotlib.figure import Figure

    name, directions = next(iter(ranks.items()))
    values, candidates = directions["text_to_molecule"]
    rows = typical_queries(values)
    gold = embeddings["gold"][rows].tolist()
    scores = embeddings["text_embeds"][rows] @ embeddings["molecule_embeds"].T
    best = scores.topk(min(_TOP, candidates)).indices.tolist()
    figure = Figure(figsize=(16, 2.05 * len(rows) + 0.4), dpi=100, layout="constrained", facecolor="white")
    figure.suptitle(
        f"Text to molecule, {name} pool of {candidates:,} candidates: true molecules in green", fontsize=13
    )
    grid = figure.add_gridspec(len(rows), _TOP + 2, width_ratios=[1.6] + [1] * (_TOP + 1))
    for line, row in enumerate(rows):
        caption = figure.add_subplot(grid[line, 0])
        caption.axis("off")
        text = cut_caption(pairs[row]["description"], width=42, lines=12)
        caption.text(0, 1, text, fontsize=8.5, va="top", transform=caption.transAxes, parse_math=False)
        shown = [(one, f"{place}.  {scores[line, one]:.2f}") for place, one in enumerate(best[line], start=1)]
        shown.append((gold[line], f"true: rank {values[row]:,.0f}.  {scores[line, gold[line]]:.2f}"))
        for column, (molecule, title) in enumerate(shown, start=1):
            axes = figure.add_subplot(grid[line, _TOP + 1 if column == len(shown) else column])
            axes.imshow(draw_molecule(pool[molecule]["smiles"], pool[molecule]["id"]))
            axes.set_title(title, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
            right = molecule == gold[line]
            for spine in axes.spines.values():
                spine.set(color=_RIGHT if right else _WRONG, linewidth=2.5 if right else 0.6)
    return save_figure(figure, path)
