"""The style that all figures share: palette, figure factory, atomic PNG files, molecules, captions."""

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Okabe and Ito's palette (2008), which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"


def save_figure(figure: Any, path: str | Path) -> Path:
    """Writes a figure as PNG, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, format="png")
    aside.replace(path)
    return path


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure on white, in inches."""
    # Not pyplot: it keeps every figure alive, and would ask for a display.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=120, facecolor="white", layout=layout)


def hide_spines(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def cut_caption(caption: str, width: int = 46, lines: int = 8) -> str:
    """Wrapped to ``lines`` lines of ``width`` characters; what is left out is marked."""
    return "\n".join(textwrap.wrap(caption, width, max_lines=lines, placeholder=" ..."))


def draw_molecule(smiles: str, name: str) -> np.ndarray:
    """(height, width, channels) picture on white."""
    from matplotlib.image import imread
    from rdkit import Chem, rdBase
    from rdkit.Chem.Draw import rdMolDraw2D

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ValueError(f"id {name}: RDKit cannot parse the SMILES {smiles!r}.")
    canvas = rdMolDraw2D.MolDraw2DCairo(660, 460)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, mol)
    canvas.FinishDrawing()
    return imread(io.BytesIO(canvas.GetDrawingText()))
