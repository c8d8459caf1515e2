"""A figure of search results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from class_hf.plots.style import PICTURE_HEIGHT, PICTURE_WIDTH, cut_caption, molecule_grid
from class_hf.search.query import Hit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_hits(hits: Sequence[Hit], *, title: str = "", columns: int = 3) -> "Figure":
    """Draws the molecules in order of rank, each above its rank, score, id and the start of its caption.

    Args:
        hits: the hits of one query, 1 to 50.
        title: title of the figure, for example the query. Default: no title.
        columns: molecules in a row. Default: 3.

    Returns:
        The figure. `figure.savefig(path)` writes it.

    Raises:
        ValueError: if there are no hits or more than 50, or RDKit cannot parse a SMILES.

    >>> figure = draw_hits([Hit(1, 0.9, "ethanol", "CCO")], title="an alcohol")
    >>> figure.get_suptitle()
    'an alcohol'
    """
    if not 1 <= len(hits) <= 50:
        raise ValueError(f"there are {len(hits)} hits; a figure holds 1 to 50.")
    captioned = any(hit.fields.get("description") for hit in hits)
    title = cut_caption(title, width=30 * min(columns, len(hits)), lines=2)
    text_height = 1.5 if captioned else 0.5
    sheet, cells = molecule_grid(len(hits), columns, text_height=text_height, title=title, title_height=0.6)
    for hit, (left, top) in zip(hits, cells, strict=True):
        sheet.add_molecule(hit.smiles, hit.id, left, top, PICTURE_WIDTH)
        name = hit.id if len(hit.id) <= 18 else hit.id[:15] + "..."
        heading = f"{hit.rank}.  {name}   score {hit.score:.3f}"
        sheet.add_text(heading, left, top + PICTURE_HEIGHT, fontsize=9, fontweight="bold")
        if captioned:
            caption = cut_caption(hit.fields.get("description") or "", lines=6)
            sheet.add_text(caption, left, top + PICTURE_HEIGHT + 0.24, fontsize=8.5)
    return sheet.figure
