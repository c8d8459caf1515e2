"""Draw docs/overview.png and docs/overview_narrow.png with a model that was trained on the demo.

python docs/overview.py --model outputs/demo
"""

import argparse
import io
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D
from transformers import AutoModel, AutoProcessor

from class_hf import CurriculumPlan, load_demo, score_dataset
from class_hf.plots.style import BLUE, GREEN, GREY

SCORE, SCHEDULE, RETRIEVE = "1  score", "2  schedule", "3  retrieve"


class Content(NamedTuple):
    """What both pictures show.

    Attributes:
        scored: (SMILES, difficulty) of training pairs, easiest first.
        plan: the curriculum of the demo.
        caption: the query.
        hits: (SMILES, cosine, whether it is the true molecule), best first.
        candidates: number of molecules that are ranked.
    """

    scored: list[tuple[str, float]]
    plan: CurriculumPlan
    caption: str
    hits: list[tuple[str, float, bool]]
    candidates: int


def read_content(model_folder: str, query: int) -> Content:
    """Scores the training pairs, makes the plan, and ranks the pool for one validation caption."""
    data = load_demo()
    train = score_dataset(data["train"], definition="alignment")
    order = np.argsort(train["difficulty"][:])
    rows = [train[int(order[int(share * (len(order) - 1))])] for share in (0.02, 0.45, 0.65, 0.82, 0.98)]
    plan = CurriculumPlan(train["difficulty"][:], ids=train["id"][:], epochs=12, batch_size=256)

    model, processor = AutoModel.from_pretrained(model_folder).eval(), AutoProcessor.from_pretrained(model_folder)
    pair, smiles, ids = data["validation"][query], data["pool"]["smiles"][:], data["pool"]["id"][:]
    with torch.inference_mode():
        text = model.get_text_features(**processor(text=pair["description"]))
        molecules = torch.cat(
            [model.get_molecule_features(**processor(smiles=smiles[i : i + 512])) for i in range(0, len(smiles), 512)]
        )
    scores = (text @ molecules.T)[0]
    print(f"rank of the true molecule: {int((scores > scores[ids.index(pair['id'])]).sum()) + 1}")
    best = scores.argsort(descending=True)[:5].tolist()
    hits = [(smiles[row], float(scores[row]), ids[row] == pair["id"]) for row in best]
    return Content([(row["smiles"], row["difficulty"]) for row in rows], plan, pair["description"], hits, len(smiles))


def molecule_image(smiles: str) -> np.ndarray:
    """Returns a drawn molecule as an array (300, 420, 3)."""
    drawer = rdMolDraw2D.MolDraw2DCairo(420, 300)
    drawer.drawOptions().minFontSize = 18
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, Chem.MolFromSmiles(smiles))
    drawer.FinishDrawing()
    return np.asarray(Image.open(io.BytesIO(drawer.GetDrawingText())).convert("RGB"))


def draw_molecule(axes, smiles: str, title: str, colour: str = "black", bold: bool = False) -> None:
    """Draws a molecule with its title into the axes."""
    axes.imshow(molecule_image(smiles))
    axes.set_title(title, fontsize=9, color=colour, fontweight="bold" if bold else "normal")
    axes.set_xticks([]), axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour if bold else "#dddddd")
        spine.set_linewidth(2 if bold else 0.8)


def draw_plan(axes, plan: CurriculumPlan) -> None:
    """Draws the number of admitted pairs at each step."""
    edges = np.concatenate(([0], np.cumsum(plan.steps_per_epoch)))
    axes.stairs(plan.pool_sizes, edges, fill=True, color=BLUE, alpha=0.25)
    axes.stairs(plan.pool_sizes, edges, color=BLUE)
    axes.axvline(plan.full_steps, color=GREY, linestyle=":", label="end without a curriculum")
    axes.set_xlabel("optimizer step"), axes.set_ylabel("pairs admitted")
    axes.set_xlim(0, 1.03 * plan.full_steps), axes.set_ylim(0, 1.25 * max(plan.pool_sizes))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", fontsize=9)


def hit_title(place: int, score: float, true: bool) -> str:
    return f"{place}.  cosine {score:.2f}" + (" (true)" if true else "")


def draw_wide(content: Content) -> Figure:
    """Five molecules in a row: for a desktop screen."""
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained", facecolor="white")
    grid = figure.add_gridspec(3, 5, height_ratios=[1, 0.85, 1.3])
    for column, (smiles, difficulty) in enumerate(content.scored):
        title = f"difficulty {difficulty:.2f}"
        draw_molecule(figure.add_subplot(grid[0, column]), smiles, (f"{SCORE}    " if column == 0 else "") + title)
    axes = figure.add_subplot(grid[1, :])
    draw_plan(axes, content.plan)
    axes.set_title(f"{SCHEDULE}: easy pairs first, so early epochs are short", loc="left", fontsize=11)
    bottom = grid[2, :].subgridspec(2, 5, height_ratios=[0.32, 1])
    caption = figure.add_subplot(bottom[0, :])
    caption.axis("off")
    caption.set_title(f"{RETRIEVE} among {content.candidates:,} molecules", loc="left", fontsize=11)
    caption.text(0, 0.9, textwrap.fill(content.caption, 150), fontsize=10, va="top", style="italic")
    for column, (smiles, score, true) in enumerate(content.hits):
        axes = figure.add_subplot(bottom[1, column])
        draw_molecule(axes, smiles, hit_title(column + 1, score, true), GREEN if true else "black", true)
    return figure


def draw_narrow(content: Content) -> Figure:
    """Two molecules in a row: for a phone, where the picture is 390 pixels wide."""
    figure = Figure(figsize=(4.1, 8.6), dpi=190, layout="constrained", facecolor="white")
    grid = figure.add_gridspec(6, 2, height_ratios=[0.14, 1, 1.2, 0.8, 1, 1])

    def heading(row, text: str) -> None:
        axes = figure.add_subplot(row)
        axes.axis("off")
        axes.text(0, 0.3, text, fontsize=11, fontweight="bold", va="center")

    heading(grid[0, :], f"{SCORE}: easy to hard")
    for column, (smiles, difficulty) in enumerate((content.scored[0], content.scored[-1])):
        draw_molecule(figure.add_subplot(grid[1, column]), smiles, f"difficulty {difficulty:.2f}")
    axes = figure.add_subplot(grid[2, :])
    draw_plan(axes, content.plan)
    axes.set_ylabel(""), axes.set_yticks([])
    first, last, steps = content.plan.pool_sizes[0], content.plan.pool_sizes[-1], sum(content.plan.steps_per_epoch)
    axes.text(2, 0.9 * first, f"{first:,}", va="top", fontsize=9)
    axes.text(0.97 * steps, 0.95 * last, f"{last:,}", va="top", ha="right", fontsize=9)
    axes.set_title(f"{SCHEDULE}: pairs admitted", loc="left", fontsize=11, fontweight="bold")
    caption = figure.add_subplot(grid[3, :])
    caption.axis("off")
    caption.set_title(f"{RETRIEVE} among {content.candidates:,} molecules", loc="left", fontsize=11, fontweight="bold")
    caption.text(0, 1, textwrap.fill(content.caption, 50), fontsize=9, va="top", style="italic")
    for place, (smiles, score, true) in enumerate(content.hits[:4]):
        axes = figure.add_subplot(grid[4 + place // 2, place % 2])
        draw_molecule(axes, smiles, hit_title(place + 1, score, true), GREEN if true else "black", true)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model trained by recipes/demo.yaml")
    parser.add_argument("--query", type=int, default=100, help="row of the validation pair that is the query")
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent, help="folder of the pictures")
    args = parser.parse_args()
    content = read_content(args.model, args.query)
    draw_wide(content).savefig(args.output_dir / "overview.png")
    draw_narrow(content).savefig(args.output_dir / "overview_narrow.png")


if __name__ == "__main__":
    main()
