"""The style that all figures share: palette, figure factory, PNG writing, molecule pictures, captions."""

import io
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from class_hf.utils.files import temporary_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008) is readable under every common form of colour blindness.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
GREY, DARK_GREY = "#999999", "#555555"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW)
# One line style for each further round of the palette.
LINE_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))

# Of figures with several panels or pictures, in inches.
WIDE_PADDING = (0.12, 0.08)
# Cards show a figure about 800 pixels wide. A wider figure than this would be shrunk until its text is unreadable.
COLUMN_WIDTH = 8.4
_CELL_WIDTH, PICTURE_WIDTH, PICTURE_HEIGHT = 2.75, 2.5, 1.9
# Height of the picture of a molecule, as a share of its width.
PICTURE_RATIO = 460 / 660


def new_figure(width: float, height: float, *, dpi: int = 120, padding: tuple[float, float] | None = None) -> "Figure":
    """Makes an empty figure on white with a constrained layout.

    Args:
        width: width of the figure in inches.
        height: height of the figure in inches.
        dpi: pixels per inch. Default: 120.
        padding: space around each axes in inches, horizontal and vertical. Default: the padding of matplotlib.

    Returns:
        The figure. [`save_figure`] writes it, and a notebook displays it.

    >>> figure = new_figure(4, 3)
    >>> figure.get_size_inches().tolist(), figure._repr_png_()[:4]
    ([4.0, 3.0], b'\\x89PNG')
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout: Any = "constrained" if padding is None else ConstrainedLayoutEngine(w_pad=padding[0], h_pad=padding[1])
    return _figure_class()(figsize=(width, height), dpi=dpi, facecolor="white", layout=layout)


@cache
def _figure_class() -> "type[Figure]":
    """A figure that notebooks display. pyplot would do so too, but it keeps every figure alive and needs a display."""
    from matplotlib.figure import Figure

    class DisplayedFigure(Figure):
        def _repr_png_(self) -> bytes:
            stream = io.BytesIO()
            self.savefig(stream, format="png")
            return stream.getvalue()

    return DisplayedFigure


def line_axes(figure: "Figure", *, title: str, x: str, y: str) -> "Axes":
    """Adds one axes with a light grid for a line chart.

    Args:
        figure: the figure that gets the axes.
        title: title of the axes, on the left.
        x: label of the horizontal axis, with its unit.
        y: label of the vertical axis, with its unit.
    """
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    hide_spines(axes)
    return axes


def hide_spines(axes: "Axes") -> None:
    """Removes the frame at the top and at the right of an axes."""
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: "Figure", path: str | Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes a figure as PNG. The old file is replaced only after the new one is complete.

    Args:
        figure: the figure to write.
        path: the PNG file. Missing parent folders are created.
        metadata: text chunks of the PNG file. Default: those of matplotlib.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # `Figure.savefig` draws a figure with a layout twice, once for the layout alone. The file is the same.
    with temporary_file(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary, metadata=metadata)
    return Path(path)


def cut_caption(caption: str, width: int = 39, lines: int = 8) -> str:
    """Wraps a caption and cuts it after a number of lines.

    Args:
        caption: the text.
        width: characters in a line.
        lines: maximum number of lines. A longer caption ends with ` ...`.

    >>> print(cut_caption("The molecule is a primary alcohol.", width=16, lines=2))
    The molecule is
    a primary ...
    """
    return "\n".join(textwrap.wrap(caption, width, max_lines=lines, placeholder=" ..."))


def draw_molecule(smiles: str, name: str) -> np.ndarray:
    """Draws a molecule on white.

    Args:
        smiles: the molecule.
        name: the id of the molecule, for the error message.

    Returns:
        The picture, (460, 660, channels), with values in [0, 1].

    Raises:
        ValueError: if the SMILES is refused.

    >>> draw_molecule("CCO", "ethanol").shape[:2]
    (460, 660)
    """
    from matplotlib.image import imread
    from rdkit.Chem.Draw import rdMolDraw2D

    from class_hf.data.smiles import read_smiles

    molecule, fault = read_smiles(smiles)
    if molecule is None:
        raise ValueError(f"id {name}: {fault}.")
    canvas = rdMolDraw2D.MolDraw2DCairo(660, 460)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    return imread(io.BytesIO(canvas.GetDrawingText()))


class Sheet:
    """A figure on which pictures and texts are placed in inches from its top left corner.

    It has one axes. With axes of its own for each picture, the layout takes several times as long as the drawing.

    Args:
        width: width of the figure in inches.
        height: height of the figure in inches.

    >>> sheet = Sheet(2, 1)
    >>> sheet.add_text("ethanol", 0.1, 0.1)
    >>> sheet.add_molecule("CCO", "ethanol", 0.1, 0.3, 1.0)
    >>> sheet.figure.get_size_inches().tolist()
    [2.0, 1.0]
    """

    def __init__(self, width: float, height: float):
        self.figure = _figure_class()(figsize=(width, height), dpi=120, facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.axis("off")
        self.axes.set(xlim=(0, width), ylim=(height, 0))

    def add_title(self, text: str, size: float = 12) -> None:
        """Writes a title over the middle of the figure."""
        height = self.figure.get_size_inches()[1]
        self.figure.suptitle(text, y=1 - 0.1 / height, va="top", fontsize=size, parse_math=False)

    def add_text(self, text: str, left: float, top: float, **style: Any) -> None:
        """Writes a text. A dollar sign does not start a formula."""
        self.axes.text(left, top, text, va="top", parse_math=False, **style)

    def add_molecule(
        self, smiles: str, name: str, left: float, top: float, width: float, frame: tuple[str, float] | None = None
    ) -> None:
        """Draws a molecule. Its height is `PICTURE_RATIO` times its width.

        Args:
            smiles: the molecule.
            name: the id of the molecule, for an error.
            left: distance from the left, in inches.
            top: distance from the top, in inches.
            width: width in inches.
            frame: colour and line width of a frame.
        """
        from matplotlib.patches import Rectangle

        height = PICTURE_RATIO * width
        extent = (left, left + width, top + height, top)
        self.axes.imshow(draw_molecule(smiles, name), extent=extent, aspect="auto")
        if frame is not None:
            colour, line_width = frame
            rectangle = Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=line_width)
            self.axes.add_patch(rectangle)


def molecule_grid(
    count: int, columns: int, *, text_height: float, title: str = "", title_height: float = 0.0
) -> tuple[Sheet, list[tuple[float, float]]]:
    """Makes a sheet with a grid of cells. Each cell has space for a picture above space for a text.

    Args:
        count: number of cells.
        columns: maximum number of cells in a row.
        text_height: height of each text in inches.
        title: title of the figure.
        title_height: height of the title in inches.

    Returns:
        The sheet, and (left, top) of each cell in inches, row by row. The text begins `PICTURE_HEIGHT` below the top.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    title_height = title_height if title else 0.0
    row_height = PICTURE_HEIGHT + text_height
    sheet = Sheet(_CELL_WIDTH * columns, row_height * rows + title_height)
    if title:
        sheet.add_title(title)
    left, top = WIDE_PADDING
    return sheet, [
        (left + column * _CELL_WIDTH, top + title_height + row * row_height)
        for row, column in (divmod(place, columns) for place in range(count))
    ]
