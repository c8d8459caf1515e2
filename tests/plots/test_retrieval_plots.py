"""The figure of retrievals shows typical queries, and marks the true molecule."""

import numpy as np
import torch
from matplotlib.image import imread

from class_hf.plots.retrieval import plot_retrievals, typical_queries


def test_typical_queries_are_neither_the_best_nor_the_worst():
    ranks = np.arange(1.0, 102.0)[::-1]
    assert ranks[typical_queries(ranks)].tolist() == [21, 41, 61, 81]
    assert typical_queries(np.array([3.0])) == [0]


def test_the_figure_is_written(pairs, tmp_path):
    rows = pairs.select(range(6))
    generator = torch.Generator().manual_seed(0)
    embeddings = {f"{side}_embeds": torch.randn(6, 4, generator=generator) for side in ("text", "molecule")}
    embeddings["gold"] = torch.arange(6)
    ranks = {"full": {"text_to_molecule": (np.arange(1.0, 7.0), 6)}}
    picture = imread(plot_retrievals(embeddings, ranks, rows, rows, tmp_path / "new" / "retrievals.png"))
    assert (picture[0, 0] == 1).all()
    red, green, blue = np.round(picture[..., :3] * 255).astype(int).reshape(-1, 3).T
    assert ((red == 0x00) & (green == 0x9E) & (blue == 0x73)).any()  # the frame of a true molecule
