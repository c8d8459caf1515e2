"""The figure of a search names each hit and the query."""

import pytest

from class_hf import Hit
from class_hf.plots.hits import draw_hits


def test_a_figure_names_each_hit_and_the_query():
    hits = [Hit(rank, 1 - rank / 10, "x" * 40, "CCO", {"description": "costs $5 " * 60}) for rank in (1, 2)]
    figure = draw_hits(hits, title="an alcohol " * 20)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts[0] == f"1.  {'x' * 15}...   score 0.900" and texts[1].endswith(" ...")
    assert figure.get_suptitle().count("\n") == 1
    figure.canvas.draw()
    with pytest.raises(ValueError, match="there are 0 hits"):
        draw_hits([])
