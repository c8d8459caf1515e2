"""Score the difficulty of text-molecule pairs, and show the easiest and the hardest.

    class-hf score --data_dir chebi20 --output_dir scored
    class-hf score --demo --output_dir scored-demo --definition confusability,complexity

The scorer is fitted on the training split and scores each split of pairs. The output folder contains dataset/ (for
datasets.load_from_disk), summary.json and plots/. It is written completely, or not at all. `class-hf push --dataset`
uploads it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from class_hf.config.arguments import DIFFICULTY_NAMES
from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.data.columns import add_table_arguments, table_options
from class_hf.utils.numbers import non_negative_integer, positive_integer, share

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from datasets import DatasetDict, disable_progress_bars

    from class_hf.data.keep import drop_marked
    from class_hf.data.source import load_data
    from class_hf.difficulty.scorer import DifficultyScorer, score_dataset
    from class_hf.difficulty.summary import format_summary, summarise_scores
    from class_hf.plots.difficulty import write_figures
    from class_hf.utils.column_names import WRONG_PROBABILITY
    from class_hf.utils.files import atomic_folder


def neighbours(text: str) -> int | Literal["all"]:
    """The value of --neighbours: a number, or all."""
    return "all" if text == "all" else positive_integer(text)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(
        prog=program("score"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data_dir", help="folder, or data set of the Hub, in a format that load_chebi20 reads")
    source.add_argument("--demo", action="store_true", help="score the small demo data set; needs no files")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write; must be new or empty")
    parser.add_argument("--overwrite", action="store_true", help="replace output_dir if this command wrote it")
    parser.add_argument(
        "--definition",
        type=lambda names: names.split(","),
        default=["alignment"],
        help=f"one or several, separated by commas, of {', '.join(DIFFICULTY_NAMES)}, or your own as "
        "package.module:Name (default: alignment)",
    )
    parser.add_argument(
        "--combination",
        default="mean",
        help="how text and molecule are combined: mean, max, product, text or molecule (default: %(default)s)",
    )
    parser.add_argument(
        "--text_weight", type=share, default=0.5, help="weight of the text in the mean, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--neighbours",
        type=neighbours,
        default=8,
        help="of confusability: nearest pairs to average over, or all for the fast mean over all pairs "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--text_similarity",
        default="tfidf",
        help="of confusability: how captions are compared, tfidf, or hashed, which is faster (default: %(default)s)",
    )
    parser.add_argument(
        "--exact_up_to",
        type=non_negative_integer,
        default=100_000,
        help="of confusability: with more training pairs, faiss finds the neighbours (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_integer,
        default=0,
        help="of alignment: seed of its reference models (default: %(default)s)",
    )
    parser.add_argument(
        "--reference_steps",
        type=positive_integer,
        default=150,
        help="of alignment: training steps of each of its two reference models (default: %(default)s)",
    )
    parser.add_argument(
        "--suspects", action="store_true", help="also add wrong_probability to the training pairs, for class-hf train"
    )
    parser.add_argument(
        "--drop_suspects", help="table of class-hf suspects: training pairs whose column keep is no are left out"
    )
    parser.add_argument("--num_proc", type=positive_integer, help="processes that score (default: one)")
    parser.add_argument(
        "--on_error",
        choices=("raise", "drop"),
        default="raise",
        help="what to do with a bad row: stop, or drop and list it (default: %(default)s)",
    )
    add_table_arguments(parser)
    parser.add_log_arguments()
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Loads, fits, scores, writes and reports."""
    args = parse_arguments(arguments)
    # Before loading, so that wrong arguments fail in the first second.
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
        if args.suspects:
            suspects = scorer.suspects(data["train"], max_listed=1)
            print(suspects)
            probabilities = suspects.wrong_probability.tolist()
            scored["train"] = scored["train"].add_column(WRONG_PROBABILITY, probabilities)
        scored.save_to_disk(folder / "dataset")
        write_figures(scored, scorer, folder / "plots")
        clock["write"] = time.perf_counter()
        times = list(clock.items())
        summary = {
            "source": {"name": "class_hf demo" if args.demo else Path(args.data_dir).name, "synthetic": args.demo},
            "command": f"class-hf score {shlex.join(sys.argv[1:] if arguments is None else arguments)}",
            **scorer.describe(),
            **summarise_scores(scored),
            "seconds": {
                part: round(end - start, 2) for (part, end), (_, start) in zip(times[1:], times, strict=False)
            },
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(format_summary(summary, scored["train"]))
    print(f"\nWritten to {args.output_dir}: dataset/, plots/, summary.json")


def load(args: argparse.Namespace) -> DatasetDict:
    """The splits of pairs, and the candidate pool."""
    data, report = load_data(args.data_dir, demo=args.demo, on_error=args.on_error, **table_options(args))
    if report is not None:
        print(report)
    if "train" not in data:
        raise ValueError(f"no train split, only {', '.join(data)}. The scorer is fitted on training pairs: add them.")
    if args.drop_suspects is not None:
        pairs = len(data["train"])
        data["train"] = drop_marked(data["train"], args.drop_suspects)
        print(f"{pairs - len(data['train']):,} of {pairs:,} training pairs left out by {args.drop_suspects}")
    return data


def score_splits(data: DatasetDict, scorer: DifficultyScorer, num_proc: int | None) -> DatasetDict:
    """Each split of pairs with the three difficulty columns, and the candidate pool as it is."""
    return DatasetDict(
        {split: ds if split == "pool" else score_dataset(ds, scorer, num_proc=num_proc) for split, ds in data.items()}
    )


if __name__ == "__main__":
    run_script(main)
