"""Draws docs/overview.png from a model trained on the demo: python docs/overview.py --model outputs/demo"""

import argparse
import io
import textwrap
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D
from transformers import AutoModel, AutoProcessor

from class_hf import CurriculumPlan, load_demo, score_dataset
from class_hf.plots.style import BLUE, GREEN, GREY


def picture(smiles: str) -> np.ndarray:
    """A molecule as an image."""
    drawer = rdMolDraw2D.MolDraw2DCairo(420, 300)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, Chem.MolFromSmiles(smiles))
    drawer.FinishDrawing()
    return np.asarray(Image.open(io.BytesIO(drawer.GetDrawingText())).convert("RGB"))


def draw(axes, smiles: str, title: str, colour: str = "black", bold: bool = False) -> None:
    axes.imshow(picture(smiles))
    axes.set_title(title, fontsize=9, color=colour, fontweight="bold" if bold else "normal")
    axes.set_xticks([]), axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour if bold else "#dddddd")
        spine.set_linewidth(2 if bold else 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a model trained by recipes/demo.yaml")
    parser.add_argument("--query", type=int, default=100, help="which validation pair is the query")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("overview.png"))
    args = parser.parse_args()
    data = load_demo()
    train = score_dataset(data["train"], definition="alignment")
    order = np.argsort(train["difficulty"][:])

    figure = Figure(figsize=(12, 9), dpi=100, layout="constrained", facecolor="white")
    grid = figure.add_gridspec(3, 5, height_ratios=[1, 0.75, 1.35])
    for column, share in enumerate((0.02, 0.45, 0.65, 0.82, 0.98)):
        row = train[int(order[int(share * (len(order) - 1))])]
        title = f"difficulty {row['difficulty']:.2f}"
        draw(figure.add_subplot(grid[0, column]), row["smiles"], ("1  score    " if column == 0 else "") + title)

    plan = CurriculumPlan(train["difficulty"][:], ids=train["id"][:], epochs=12, batch_size=256)
    axes = figure.add_subplot(grid[1, :])
    edges = np.concatenate(([0], np.cumsum(plan.steps_per_epoch)))
    axes.stairs(plan.pool_sizes, edges, fill=True, color=BLUE, alpha=0.25)
    axes.stairs(plan.pool_sizes, edges, color=BLUE)
    axes.axvline(plan.full_steps, color=GREY, linestyle=":", label="end without a curriculum")
    axes.set_title("2  schedule: easy pairs first, so early epochs are short", loc="left", fontsize=11)
    axes.set_xlabel("optimizer step"), axes.set_ylabel("pairs admitted")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")

    model, processor = AutoModel.from_pretrained(args.model).eval(), AutoProcessor.from_pretrained(args.model)
    query = data["validation"][args.query]
    smiles = data["pool"]["smiles"][:]
    with torch.inference_mode():
        text = model.get_text_features(**processor(text=query["description"]))
        molecules = torch.cat(
            [model.get_molecule_features(**processor(smiles=smiles[i : i + 512])) for i in range(0, len(smiles), 512)]
        )
    scores = (text @ molecules.T)[0]
    best = scores.argsort(descending=True)[:5].tolist()
    rank = int((scores > scores[data["pool"]["id"][:].index(query["id"])]).sum()) + 1
    print(f"rank of the true molecule: {rank}")
    bottom = grid[2, :].subgridspec(2, 5, height_ratios=[0.32, 1])
    caption = figure.add_subplot(bottom[0, :])
    caption.axis("off")
    caption.set_title(f"3  retrieve among {len(smiles):,} molecules", loc="left", fontsize=11)
    caption.text(0, 0.9, textwrap.fill(query["description"], 150), fontsize=10, va="top", style="italic")
    for place, row in enumerate(best):
        true = data["pool"]["id"][row] == query["id"]
        title = f"{place + 1}.  cosine {scores[row]:.2f}" + ("  the true one" if true else "")
        draw(figure.add_subplot(bottom[1, place]), smiles[row], title, GREEN if true else "black", true)
    figure.savefig(args.output)


if __name__ == "__main__":
    main()
