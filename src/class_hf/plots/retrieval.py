"""A figure of the molecules that typical captions retrieve."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from class_hf.evaluation.retrieval_evaluator import Ranks
from class_hf.plots.style import (
    COLUMN_WIDTH,
    GREEN,
    GREY,
    cut_caption,
    draw_molecule,
    new_figure,
    save_figure,
    write_text,
)

_PERCENTILES = (20, 40, 60, 80)
_TOP = 5


def typical_queries(ranks: np.ndarray, percentiles: tuple[int, ...] = _PERCENTILES) -> list[int]:
    """Selects the queries whose rank is at given percentiles, so that a figure does not show hand-picked queries.

    Args:
        ranks: (Q,) ranks. 1 is the best.
        percentiles: percentiles of the ranks. Among equal ranks the earlier query is taken.

    Returns:
        The rows of the queries. With few queries there are fewer rows than percentiles.

    >>> typical_queries(np.array([9.0, 1.0, 4.0, 2.0]), (0, 50, 100))
    [1, 3, 0]
    """
    order = np.argsort(ranks, kind="stable")
    places = [int(share / 100 * (len(order) - 1)) for share in percentiles]
    return [int(order[place]) for place in dict.fromkeys(places)]


def plot_retrievals(
    embeddings: Mapping[str, torch.Tensor], ranks: Ranks, pairs: Dataset, pool: Dataset, path: str | Path
) -> Path:
    """Draws four captions, at the 20th, 40th, 60th and 80th percentile of the rank, with their first five molecules.

    The last column repeats the true molecule with its rank. The true molecule has a green frame.

    Args:
        embeddings: `text_embeds` (Q, D), `molecule_embeds` (P, D) and `gold` (Q,), as returned by
            [`~class_hf.evaluation.retrieval_evaluator.RetrievalEvaluator.embeddings`].
        ranks: the ranks of the same evaluator. The first pool is drawn.
        pairs: the Q queries, with `description`.
        pool: the P candidates, with `smiles` and `id`.
        path: the PNG file.

    Returns:
        The path.
    """
    name, directions = next(iter(ranks.items()))
    values, candidates = directions["text_to_molecule"]
    rows = typical_queries(values)
    gold = embeddings["gold"][rows].tolist()
    scores = embeddings["text_embeds"][rows] @ embeddings["molecule_embeds"].T
    best = scores.topk(min(_TOP, candidates)).indices.tolist()
    figure = new_figure(COLUMN_WIDTH, 2.0 * len(rows) + 0.4)
    figure.suptitle(
        f"Text to molecule, {name} pool of {candidates:,} candidates: true molecules in green", fontsize=11
    )
    grid = figure.add_gridspec(2 * len(rows), _TOP + 1, height_ratios=[0.7, 1.3] * len(rows))
    for line, row in enumerate(rows):
        caption = figure.add_subplot(grid[2 * line, :])
        caption.axis("off")
        write_text(caption, 1, cut_caption(pairs[row]["description"], width=120, lines=3), fontsize=8.5)
        shown = [
            (molecule, f"{place}.  {scores[line, molecule]:.2f}") for place, molecule in enumerate(best[line], start=1)
        ]
        shown.append((gold[line], f"true: rank {values[row]:,.0f}.  {scores[line, gold[line]]:.2f}"))
        for column, (molecule, title) in enumerate(shown, start=1):
            axes = figure.add_subplot(grid[2 * line + 1, _TOP if column == len(shown) else column - 1])
            axes.imshow(draw_molecule(pool[molecule]["smiles"], pool[molecule]["id"]))
            axes.set_title(title, fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
            is_true = molecule == gold[line]
            for spine in axes.spines.values():
                spine.set(color=GREEN if is_true else GREY, linewidth=2.5 if is_true else 0.6)
    return save_figure(figure, path)
