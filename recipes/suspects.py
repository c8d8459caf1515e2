"""Find the pairs that are most likely wrong, for review.

    class-hf suspects --data_dir pairs.csv --output_dir suspects
    class-hf train RECIPE --data_dir pairs.csv --drop_suspects suspects/suspects.csv

The output folder contains suspects.csv (edit its column keep), suspects.sdf, review.html (structures with captions and
what fits better), probabilities.csv (all pairs) and summary.json. Only training pairs are judged.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.data.columns import add_table_arguments, add_training_file_arguments, table_options, training_files
from class_hf.utils.numbers import non_negative_integer, positive_integer, share

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from class_hf.data.source import load_data
    from class_hf.difficulty.scorer import DifficultyScorer
    from class_hf.plots.suspects import write_suspects
    from class_hf.utils.column_names import WRONG_PROBABILITY
    from class_hf.utils.files import atomic_folder
    from class_hf.utils.spreadsheets import format_csv


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(
        prog=program("suspects"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data_dir", help="folder or file of pairs, in a format that load_chebi20 reads")
    source.add_argument("--dataset_name", help="Hub id of a data set of pairs")
    source.add_argument("--demo", action="store_true", help="use the small demo data set; needs no files")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write; must be new or empty")
    parser.add_argument("--overwrite", action="store_true", help="replace output_dir if this command wrote it")
    parser.add_argument(
        "--max_listed",
        type=positive_integer,
        default=1000,
        help="largest number of suspects in the table, the SDF and the page (default: %(default)s)",
    )
    parser.add_argument(
        "--min_probability",
        type=share,
        default=0.01,
        help="smallest probability of being wrong of a listed suspect, in [0, 1]; 0 lists all up to --max_listed "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--cross_fits",
        type=non_negative_integer,
        default=0,
        help="cross-fits of small reference models as further judges, at most 8; each takes about 20 CPU seconds for "
        "11,000 pairs (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=non_negative_integer, default=0, help="seed of the judges (default: %(default)s)"
    )
    parser.add_argument(
        "--on_error",
        choices=("raise", "drop"),
        default="raise",
        help="what to do with a bad row: stop, or drop and list it (default: %(default)s)",
    )
    add_training_file_arguments(parser)
    add_table_arguments(parser)
    parser.add_log_arguments()
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Loads, judges, writes and reports."""
    args = parse_arguments(arguments)
    with atomic_folder(args.output_dir, "summary.json", args.overwrite) as folder:
        data, report = load_data(
            args.data_dir, args.dataset_name, args.demo, args.on_error, **table_options(args), **training_files(args)
        )
        if report is not None:
            print(report)
        if "train" not in data:
            raise ValueError(
                f"no train split, only {', '.join(data)}. Suspects are found among training pairs: add them."
            )
        pairs = data["train"]
        started = time.perf_counter()
        options = {name: getattr(args, name) for name in ("cross_fits", "max_listed", "min_probability")}
        suspects = DifficultyScorer(seed=args.seed).suspects(pairs, **options)
        seconds = time.perf_counter() - started
        write_suspects(folder, suspects, pairs)
        rows = zip(pairs["id"][:], suspects.wrong_probability.round(6).tolist(), strict=True)
        (folder / "probabilities.csv").write_text(format_csv(["id", WRONG_PROBABILITY], rows), encoding="utf-8")
        summary = {
            "command": f"class-hf suspects {shlex.join(sys.argv[1:] if arguments is None else arguments)}",
            "pairs": len(pairs),
            "estimated_share": suspects.share._asdict(),
            "more_likely_wrong_than_right": int((suspects.wrong_probability > 0.5).sum()),
            "listed": len(suspects.listed),
            "seconds": round(seconds, 1),
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(suspects)
    more = int((suspects.wrong_probability >= args.min_probability).sum()) - len(suspects.listed)
    print(
        f"listed: {len(suspects.listed):,} with a probability of at least {args.min_probability:g} (--min_probability)"
        + (f"; {more:,} more are above --max_listed" if more else "")
    )
    print(f"judged in {seconds:.1f} s; written to {args.output_dir}: suspects.csv, suspects.sdf, review.html")


if __name__ == "__main__":
    run_script(main)
