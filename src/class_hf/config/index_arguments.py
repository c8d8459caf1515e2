"""The arguments of the command that builds and changes an index."""

import argparse

from class_hf.utils.numbers import non_negative_integer, positive_integer

_INDEX = {"output_dir", "store", "model"}
_TABLE = {"smiles_column", "text_column", "id_column", "column_mapping", "encoding"}
_MOLECULES = _INDEX | _TABLE | {"molecules", "split", "on_error", "batch_size"}
# The arguments that each change of an index reads, and those that all commands have.
_READ = {"append": _MOLECULES | {"vectors"}, "update": _MOLECULES, "delete": _INDEX, "verify": set[str]()}
_ALWAYS = {"log_level", "log_format"}


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `class-hf index`, without those of a table.

    >>> parser = argparse.ArgumentParser()
    >>> add_index_arguments(parser)
    >>> parser.parse_args(["--delete", "a", "b"]).delete
    ['a', 'b']
    """
    parser.add_argument("--model", help="folder or Hub id of a trained dual encoder")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--append", action="store_true", help="add --molecules or --vectors to the index")
    change.add_argument("--update", action="store_true", help="replace molecules of the same ids in the index")
    change.add_argument("--delete", nargs="+", metavar="ID", help="delete molecules from the index by their ids")
    change.add_argument("--verify", metavar="FOLDER", help="check all files of an index against their checksums")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--molecules",
        help="a table of molecules (.csv, .tsv, .smi, .sdf, .jsonl or .parquet) or a saved data set",
    )
    source.add_argument("--vectors", help="folder or URL of `class-hf encode`; its vectors are indexed")
    source.add_argument("--data_dir", help="a folder with pairs; their candidate pool is indexed")
    source.add_argument("--dataset_name", help="Hub id of a data set of pairs; its candidate pool is indexed")
    source.add_argument("--demo", action="store_true", help="index the synthetic data set of the package")
    parser.add_argument("--output_dir", help="folder of the index (default: outputs/index)")
    parser.add_argument(
        "--store",
        help="a folder, or a database: lance:PATH_OR_URL, postgresql://USER@HOST/DATABASE/TABLE, "
        "qdrant+http://HOST:6333/COLLECTION, qdrant+path:FOLDER/COLLECTION, or package.module:Name@LOCATION for a "
        "store class of your own",
    )
    parser.add_argument(
        "--exact_up_to",
        type=non_negative_integer,
        help="with more molecules than this, the search is approximate (default: depends on the store)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing index")
    parser.add_argument("--split", help="split of a saved data set with several splits")
    parser.add_argument(
        "--on_error", choices=("raise", "drop"), default="raise", help="stop at a bad row, or leave it out"
    )
    parser.add_argument(
        "--batch_size", type=positive_integer, default=256, help="molecules that are embedded at a time"
    )
    parser.add_argument("--num_proc", type=positive_integer, help="processes that read and featurise the molecules")
    parser.add_argument(
        "--query_bank",
        action="store_true",
        help="query-bank normalisation with the training captions of a data set of pairs: lower the scores of "
        "molecules that are close to many of them",
    )
    parser.add_argument(
        "--bank_captions",
        nargs="+",
        metavar="FILE",
        help="further captions of the query bank, one in each line of a text file; named as --extra_train",
    )
    parser.add_argument(
        "--bank_method", choices=("softmax", "nearest"), default="softmax", help="how penalties are computed"
    )


def check_change_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses arguments that a change or a check of an index would ignore. An index that is built reads all of them.

    Args:
        parser: the parser, whose defaults count as not given. Its `error` is called.
        args: its result.

    >>> parser = argparse.ArgumentParser()
    >>> add_index_arguments(parser)
    >>> check_change_arguments(parser, parser.parse_args(["--delete", "a", "--store", "lance:index"]))
    """
    change = next((name for name in _READ if getattr(args, name) not in (None, False)), None)
    if change is None:
        return
    read = _READ[change] | _ALWAYS | {change}
    if args.vectors:  # `class-hf encode` has read the table
        read -= _MOLECULES - _INDEX
    unread = [
        f"--{name}" for name, value in vars(args).items() if name not in read and value != parser.get_default(name)
    ]
    if unread:
        parser.error(f"--{change} does not use {', '.join(unread)}; leave out what it does not use")
