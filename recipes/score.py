"""Score the difficulty of text-molecule pairs, and show the easiest and the hardest.

    class-hf score --data_dir chebi20 --output_dir scored
    class-hf score --demo --output_dir scored-demo --definition confusability,complexity
    class-hf score "pairs/*.parquet" --output_dir scored --workers 8

With --data_dir or --demo the scorer is fitted on the training split and scores each split of pairs. The output folder
contains dataset/ (for datasets.load_from_disk), summary.json and plots/. It is written completely, or not at all.
`class-hf push --dataset` uploads it.

With a TABLE of any size the scorer is fitted on a sample, and the rows are scored in shards. Each becomes a Parquet
file. If the run is killed, the same command scores the missing shards only.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.config.scorer_arguments import add_scorer_arguments
from class_hf.data.columns import (
    TRAINING_FILES,
    add_table_arguments,
    add_training_file_arguments,
    table_options,
    training_files,
)
from class_hf.shards.arguments import add_shard_arguments, refuse_arguments
from class_hf.utils.numbers import positive_integer

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from datasets import DatasetDict

    from class_hf.data.keep import drop_marked
    from class_hf.data.source import load_data
    from class_hf.difficulty.density import DensitySettings
    from class_hf.difficulty.scorer import DifficultyScorer, score_dataset
    from class_hf.difficulty.summary import format_summary, summarise_scores
    from class_hf.hub.data_source import source_names
    from class_hf.hub.loading import package_model
    from class_hf.plots.difficulty import write_figures
    from class_hf.shards.parts import print_rejects
    from class_hf.shards.scoring import ScoreSettings, score_table
    from class_hf.utils.column_names import WRONG_PROBABILITY
    from class_hf.utils.files import atomic_folder


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(
        prog=program("score"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # Not in the group, because the value of a misspelt argument would be taken for it, and the error would name TABLE.
    parser.add_argument("table", nargs="?", metavar="TABLE", help="a table of pairs, as for class-hf encode")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data_dir", help="folder, or data set of the Hub, in a format that load_chebi20 reads")
    source.add_argument("--demo", action="store_true", help="score the small demo data set; needs no files")
    parser.add_argument("--output_dir", required=True, help="folder to write, new or empty; of TABLE also a URL")
    parser.add_argument("--overwrite", action="store_true", help="replace output_dir if this command wrote it")
    add_scorer_arguments(parser)
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
    shards = parser.add_argument_group("of TABLE")
    add_shard_arguments(shards)
    shards.add_argument(
        "--fit_rows", type=positive_integer, default=100_000, help="pairs that are fitted (default: %(default)s)"
    )
    add_training_file_arguments(parser)
    add_table_arguments(parser)
    parser.add_log_arguments()
    args = parser.parse_args(arguments)
    if args.table and (args.data_dir or args.demo):
        parser.error(f"argument {'--demo' if args.demo else '--data_dir'}: not allowed with TABLE")
    if not (args.table or args.data_dir or args.demo):
        parser.error("one of the arguments TABLE --data_dir --demo is required")
    if args.table:
        refuse_arguments(
            parser, args, ("suspects", "drop_suspects", "num_proc", "overwrite", *TRAINING_FILES), "TABLE"
        )
    else:
        names = ("shard_size", "workers", "scheduler", "fit_rows")
        refuse_arguments(parser, args, names, "--demo" if args.demo else "--data_dir")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Loads, fits, scores, writes and reports."""
    args = parse_arguments(arguments)
    text_model = None if args.density_text_model is None else package_model(args.density_text_model)
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
        DensitySettings(args.density_quantile, text_model, args.density_mol2vec),
    )
    if args.table:
        score_shards(args, scorer)
        return
    with atomic_folder(Path(args.output_dir), "summary.json", args.overwrite) as folder:
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
            "source": describe_source(args),
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


def score_shards(args: argparse.Namespace, scorer: DifficultyScorer) -> None:
    """Scores a table in shards, and reports."""
    settings = ScoreSettings(
        args.fit_rows, args.shard_size, args.on_error, args.workers, args.scheduler, **table_options(args)
    )
    report = score_table(args.table, args.output_dir, scorer, settings)
    print_rejects(report.rejects, report.first)
    print(f"scored {report.scored:,} of {report.shards:,} shards in {report.seconds:,.0f} core-seconds")
    print(f"{report.rows - report.rejects:,} scored pairs of {report.rows:,} rows in {args.output_dir}")


def load(args: argparse.Namespace) -> DatasetDict:
    """The splits of pairs, and the candidate pool."""
    data, report = load_data(
        args.data_dir, demo=args.demo, on_error=args.on_error, **table_options(args), **training_files(args)
    )
    if report is not None:
        print(report)
    if "train" not in data:
        raise ValueError(f"no train split, only {', '.join(data)}. The scorer is fitted on training pairs: add them.")
    if args.drop_suspects is not None:
        pairs = len(data["train"])
        data["train"] = drop_marked(data["train"], args.drop_suspects)
        print(f"{pairs - len(data['train']):,} of {pairs:,} training pairs left out by {args.drop_suspects}")
    return data


def describe_source(args: argparse.Namespace) -> dict[str, Any]:
    """The record of the source, for the cards of the data set and of models that are trained on it."""
    name, *files = ["class_hf demo"] if args.demo else source_names(args.data_dir)
    files += [Path(file).name for names in training_files(args).values() for file in names or ()]
    return {"name": name, "synthetic": args.demo, **({"files": files} if files else {})}


def score_splits(data: DatasetDict, scorer: DifficultyScorer, num_proc: int | None) -> DatasetDict:
    """Each split of pairs with the three difficulty columns, and the candidate pool as it is."""
    return DatasetDict(
        {split: ds if split == "pool" else score_dataset(ds, scorer, num_proc=num_proc) for split, ds in data.items()}
    )


if __name__ == "__main__":
    run_script(main)
