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
    Sheet,
    cut_caption,
    save_figure,
)

_PERCENTILES = (20, 40, 60, 80)
_TOP = 5
# In inches: the title, a row, the caption in it, the margins of the figure, and the gap between pictures.
_TITLE, _ROW, _CAPTION, _MARGIN, _GAP = 0.42, 1.92, 0.56, 0.1, 0.08


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
    sheet = Sheet(COLUMN_WIDTH, _TITLE + _ROW * len(rows))
    title = f"Text to molecule, {name} pool of {candidates:,} candidates: true molecules in green"
    sheet.add_title(title, size=11)
    step = (COLUMN_WIDTH - 2 * _MARGIN + _GAP) / (_TOP + 1)
    for line, row in enumerate(rows):
        top = _TITLE + _ROW * line
        sheet.add_text(cut_caption(pairs[row]["description"], width=120, lines=3), _MARGIN, top, fontsize=8.5)
        shown = [
            (molecule, f"{place}.  {scores[line, molecule]:.2f}") for place, molecule in enumerate(best[line], start=1)
        ]
        shown.append((gold[line], f"true: rank {values[row]:,.0f}.  {scores[line, gold[line]]:.2f}"))
        for column, (molecule, title) in enumerate(shown, start=1):
            left = _MARGIN + step * (_TOP if column == len(shown) else column - 1)
            width = step - _GAP
            frame = (GREEN, 2.5) if molecule == gold[line] else (GREY, 0.6)
            sheet.add_text(title, left + width / 2, top + _CAPTION, fontsize=8, ha="center")
            smiles = pool[molecule]["smiles"]
            sheet.add_molecule(smiles, pool[molecule]["id"], left, top + _CAPTION + 0.18, width, frame)
    return save_figure(sheet.figure, path)
