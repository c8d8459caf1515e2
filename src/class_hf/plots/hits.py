"""A figure of what a search found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from class_hf.plots.style import cut_caption, draw_molecule, new_figure
from class_hf.search.query import Hit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_hits(hits: Sequence[Hit], *, title: str = "", columns: int = 5) -> "Figure":
    """Molecules in the order of their ranks, each over its rank, score, id and the beginning of its caption.

    Args:
        hits: of one query, at most 50.
        title: of the figure: what was asked for.
        columns: molecules in a line.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: if there are no hits, or more than 50.
    """
    if not 1 <= len(hits) <= 50:
        raise ValueError(f"there are {len(hits)} hits; a picture holds 1 to 50.")
    columns = min(columns, len(hits))
    lines = -(-len(hits) // columns)
    captioned = any(hit.fields.get("description") for hit in hits)
    text_height = 1.5 if captioned else 0.5
    figure = new_figure(width=3.3 * columns, height=(2.3 + text_height) * lines + (0.6 if title else 0))
    grid = figure.add_gridspec(2 * lines, columns, height_ratios=[2.3, text_height] * lines)
    for place, hit in enumerate(hits):
        line, column = divmod(place, columns)
        picture, caption = (figure.add_subplot(grid[2 * line + half, column]) for half in range(2))
        picture.imshow(draw_molecule(hit.smiles, hit.id))
        picture.axis("off")
        caption.axis("off")
        # parse_math: a dollar sign in a caption starts no formula.
        style: dict[str, Any] = {"va": "top", "transform": caption.transAxes, "parse_math": False}
        name = hit.id if len(hit.id) <= 24 else hit.id[:21] + "..."
        caption.text(0, 1, f"{hit.rank}.  {name}   score {hit.score:.3f}", fontsize=9.5, fontweight="bold", **style)
        if captioned:
            text = cut_caption(hit.fields.get("description") or "", lines=6)
            caption.text(0, 0.84, text, fontsize=8.5, **style)
    if title:
        figure.suptitle(cut_caption(title, width=28 * columns, lines=2), fontsize=12, parse_math=False)
    return figure
