"""Encode a table of molecules or texts of any size into Parquet files, on this machine or on a cluster.

    class-hf encode pairs.csv --model outputs/demo --output_dir outputs/encoded
    class-hf encode "catalogue/*.parquet" --model MODEL --output_dir DIR --workers 8 --dtype float16
    class-hf encode s3://BUCKET/catalogue/*.parquet --model MODEL --output_dir s3://BUCKET/encoded \\
        --scheduler tcp://HOST:8786

Rows are encoded in shards. Each shard becomes one file, which appears when it is complete. If the run is killed, the
same command encodes the missing shards only. `class-hf index --vectors DIR` builds an index of the files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.data.columns import add_table_arguments, table_options
from class_hf.shards.arguments import add_shard_arguments
from class_hf.utils.numbers import positive_integer

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from class_hf.shards.parts import print_rejects
    from class_hf.shards.run import EncodeReport, EncodeSettings, encode_table


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog=program("encode"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "table",
        metavar="TABLE",
        help="a table (.csv, .tsv, .smi, .sdf, .jsonl or .parquet), a saved data set, a folder or pattern of Parquet "
        "files, or a URL such as s3://BUCKET/parts/*.parquet",
    )
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained dual encoder")
    parser.add_argument("--output_dir", required=True, help="folder or URL of the files")
    parser.add_argument(
        "--side", choices=("molecule", "text"), default="molecule", help="what is encoded (default: %(default)s)"
    )
    add_shard_arguments(parser)
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="numbers of a vector (default: %(default)s)"
    )
    parser.add_argument(
        "--on_error",
        choices=("drop", "raise"),
        default="drop",
        help="write bad rows to rejects-*.parquet with their reasons, or stop at the first (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_size",
        type=positive_integer,
        default=256,
        help="rows encoded at a time (default: %(default)s)",
    )
    parser.add_argument("--split", help="split of a saved data set with several splits")
    add_table_arguments(parser)
    parser.add_log_arguments()
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    # The arguments have the names of the settings.
    values = {name: value for name, value in vars(args).items() if name in EncodeSettings.__dataclass_fields__}
    settings = EncodeSettings(**(values | table_options(args)))
    print_report(encode_table(args.table, args.model, args.output_dir, settings), args)


def print_report(report: EncodeReport, args: argparse.Namespace) -> None:
    """Prints what was encoded, and the rejects."""
    print_rejects(report.rejects, report.first)
    if report.encoded:
        print(f"encoded {report.encoded:,} of {report.shards:,} shards in {report.seconds:,.0f} core-seconds")
    else:
        print(f"all {report.shards:,} shards were complete")
    print(f"{report.rows - report.rejects:,} vectors of {report.rows:,} rows in {args.output_dir}")


if __name__ == "__main__":
    run_script(main)
