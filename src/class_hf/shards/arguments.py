"""The arguments of commands that work in shards."""

import argparse
from collections.abc import Sequence

from class_hf.utils.numbers import positive_integer


def add_shard_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds `--shard_size`, `--workers` and `--scheduler`.

    >>> parser = argparse.ArgumentParser()
    >>> add_shard_arguments(parser)
    >>> parser.parse_args(["--workers", "8"]).shard_size
    50000
    """
    parser.add_argument(
        "--shard_size", type=positive_integer, default=50_000, help="rows in a file (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=positive_integer, default=1, help="processes on this machine (default: %(default)s)"
    )
    parser.add_argument(
        "--scheduler", help="a cluster in place of local processes: tcp://HOST:PORT (Dask) or ray://HOST:PORT (Ray)"
    )


def refuse_arguments(
    parser: argparse.ArgumentParser, namespace: argparse.Namespace, names: Sequence[str], source: str
) -> None:
    """Ends the command with one line if an argument is set that has no effect with this source of the data.

    Args:
        parser: of the command.
        namespace: the parsed arguments.
        names: of the arguments.
        source: name of the source in the message.
    """
    for name in names:
        if getattr(namespace, name) != parser.get_default(name):
            parser.error(f"--{name} has no effect with {source}. Leave it out")
