"""Score the difficulty of text-molecule pairs, and look at the easiest and the hardest.

    python recipes/score.py --data_dir chebi20 --output_dir scored
    python recipes/score.py --demo --output_dir scored-demo --definition confusability,complexity

The scorer is fitted on the training split and applied to every split of pairs. The output folder holds
dataset/ (for datasets.load_from_disk), summary.json and plots/; it appears whole or not at all. recipes/push.py
--dataset shares it.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, DatasetDict, disable_progress_bars

from class_hf.config.parsing import run_script
from class_hf.config.recipe_files import program
from class_hf.data.source import load_data
from class_hf.difficulty.ranks import spearman
from class_hf.difficulty.scorer import DEFINITIONS, DifficultyScorer, score_dataset
from class_hf.plots.difficulty import draw_pairs, plot_histograms, plot_text_against_molecule
from class_hf.utils.files import atomic_folder

SCORES = ("text_difficulty", "molecule_difficulty", "difficulty")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def neighbours(text: str) -> int | Literal["all"]:
    """The value of --neighbours; argparse names this function where it is none."""
    return "all" if text == "all" else int(text)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=program("score"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data_dir", help="folder, or data set of the Hub, in a format that load_chebi20 reads")
    source.add_argument("--demo", action="store_true", help="score the small demo pairs; needs no files")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write; must not hold anything")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace output_dir if this recipe wrote what is in it"
    )
    parser.add_argument(
        "--definition",
        type=lambda names: names.split(","),
        default=["alignment"],
        help=f"one or several, with commas between, of {', '.join(DEFINITIONS)} (default: alignment)",
    )
    parser.add_argument(
        "--combination",
        default="mean",
        help="of text and molecule: mean, max, product, text or molecule (default: %(default)s)",
    )
    parser.add_argument(
        "--text_weight",
        type=float,
        default=0.5,
        help="of the text in the mean, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--neighbours",
        type=neighbours,
        default=8,
        help="nearest pairs that confusability averages over, or all: every pair, fast (default: %(default)s)",
    )
    parser.add_argument(
        "--text_similarity",
        default="tfidf",
        help="of captions, for confusability: tfidf, or hashed, which is faster (default: %(default)s)",
    )
    parser.add_argument(
        "--exact_up_to",
        type=int,
        default=100_000,
        help="training pairs above which an index (faiss) finds confusability's neighbours (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of alignment's reference models (default: %(default)s)")
    parser.add_argument(
        "--reference_steps",
        type=int,
        default=150,
        help="training steps of each of alignment's two reference models (default: %(default)s)",
    )
    parser.add_argument("--num_proc", type=int, help="processes that score (default: this one)")
    parser.add_argument(
        "--on_error",
        choices=("raise", "drop"),
        default="raise",
        help="at a row that cannot be used: stop, or drop and list it (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Load, fit, score, write, report."""
    args = parse_arguments(arguments)
    # Wrong arguments should fail in the first second, not after loading.
    scorer = DifficultyScorer(
        args.definition,
        args.combination,
        args.text_weight,
        args.neighbours,
        args.seed,
        args.reference_steps,
        args.text_similarity,
        args.exact_up_to,
    )
    if not sys.stderr.isatty():
        disable_progress_bars()
    with atomic_folder(args.output_dir, "summary.json", args.overwrite) as folder:
        clock = {"start": time.perf_counter()}
        data = load(args)
        clock["load"] = time.perf_counter()
        scorer.fit(data["train"])
        clock["fit"] = time.perf_counter()
        scored = score_splits(data, scorer, args.num_proc)
        clock["score"] = time.perf_counter()
        scored.save_to_disk(folder / "dataset")
        draw(scored, scorer, folder / "plots")
        clock["write"] = time.perf_counter()
        summary = {
            "source": {"name": "class_hf demo" if args.demo else Path(args.data_dir).name, "synthetic": args.demo},
            "command": f"python recipes/score.py {shlex.join(sys.argv[1:] if arguments is None else arguments)}",
            **summarise(scored, scorer, clock),
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(table(summary, scored["train"]))
    print(f"\nWritten to {args.output_dir}: dataset/, plots/, summary.json")


def load(args: argparse.Namespace) -> DatasetDict:
    """The splits of pairs, and the pool."""
    data, report = load_data(args.data_dir, demo=args.demo, on_error=args.on_error)
    if report is not None:
        print(report)
    if "train" not in data:
        raise ValueError(f"no train split, only {', '.join(data)}: the scorer is fitted on training pairs.")
    return data


def score_splits(data: DatasetDict, scorer: DifficultyScorer, num_proc: int | None) -> DatasetDict:
    """Every split of pairs with the three difficulty columns; the pool of candidates as it is."""
    return DatasetDict(
        {split: ds if split == "pool" else score_dataset(ds, scorer, num_proc=num_proc) for split, ds in data.items()}
    )


def draw(scored: DatasetDict, scorer: DifficultyScorer, folder: Path) -> None:
    """Write the figures as PNG."""
    folder.mkdir()
    pairs = {split: ds for split, ds in scored.items() if split != "pool"}
    train = scored["train"]
    shown = min(8, len(train))
    ends = extremes(train, shown)
    figures = {
        "raw_scores": plot_histograms({split: scorer.raw_scores(ds[:]) for split, ds in pairs.items()}),
        "difficulty": plot_histograms(
            {split: {score: ds[score][:] for score in SCORES} for split, ds in pairs.items()}, bins=20
        ),
        "text_against_molecule": plot_text_against_molecule(train),
        "easiest": draw_pairs(train, ends["easiest"], title=f"The {shown} easiest training pairs"),
        "hardest": draw_pairs(train, ends["hardest"], title=f"The {shown} hardest training pairs, hardest first"),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def extremes(ds: Dataset, count: int) -> dict[str, list[int]]:
    """The rows of the easiest and of the hardest pairs, the most extreme first; ties by id."""
    order = sorted(range(len(ds)), key=list(zip(ds["difficulty"][:], ds["id"][:], strict=True)).__getitem__)
    return {"easiest": order[:count], "hardest": order[::-1][:count]}


def summarise(scored: DatasetDict, scorer: DifficultyScorer, clock: dict[str, float]) -> dict[str, Any]:
    """What was scored, how, how long each part took, and how the scores are spread."""
    train = scored["train"]
    splits: dict[str, dict[str, Any]] = {}
    for split, ds in scored.items():
        splits[split] = {"rows": len(ds)}
        if split != "pool" and len(ds):
            columns = {score: np.asarray(ds[score][:]) for score in SCORES}
            splits[split] |= {
                "spearman_text_molecule": spearman(columns["text_difficulty"], columns["molecule_difficulty"]),
                "mean": {score: float(values.mean()) for score, values in columns.items()},
                "quantiles": {
                    score: dict(zip(map(str, QUANTILES), np.quantile(values, QUANTILES).tolist(), strict=True))
                    for score, values in columns.items()
                },
            }
    ends = extremes(train, 10)
    return {
        "definition": list(scorer.definition),
        "combination": scorer.combination,
        "text_weight": scorer.text_weight,
        "neighbours": scorer.neighbours,
        "seed": scorer.seed,
        "reference_steps": scorer.reference_steps,
        "text_similarity": scorer.text_similarity,
        "exact_up_to": scorer.exact_up_to,
        "splits": splits,
        "easiest": [train[row]["id"] for row in ends["easiest"]],
        "hardest": [train[row]["id"] for row in ends["hardest"]],
        "seconds": {
            part: round(end - start, 2)
            for (part, end), start in zip(list(clock.items())[1:], clock.values(), strict=False)
        },
    }


def table(summary: dict[str, Any], train: Dataset) -> str:
    """The summary as a few lines of text."""
    lines = [f"{'split':<12}{'pairs':>8}{'text':>8}{'molecule':>10}{'both':>8}{'Spearman':>10}"]
    for split, numbers in summary["splits"].items():
        if "mean" in numbers:
            text, molecule, both = (numbers["mean"][score] for score in SCORES)
            rho = numbers["spearman_text_molecule"]
            shown = "-" if rho is None else f"{rho:.2f}"
            lines.append(f"{split:<12}{numbers['rows']:>8,}{text:>8.2f}{molecule:>10.2f}{both:>8.2f}{shown:>10}")
    rows = {name: row for row, name in enumerate(train["id"][:])}
    for end in ("easiest", "hardest"):
        lines.append(f"\n{end} training pairs")
        for name in summary[end][:5]:
            lines.append(f"  {name:<12} {train[rows[name]]['description'][:90]}")
    lines.append("\nseconds: " + ", ".join(f"{part} {spent:.1f}" for part, spent in summary["seconds"].items()))
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
