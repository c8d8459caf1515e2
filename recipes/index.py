"""Build an index of molecules, which are then found by a description or by a molecule.

    class-hf index --model outputs/demo --demo
    class-hf index --model MODEL --molecules chembl.csv --smiles_column canonical_smiles --output_dir INDEX
    class-hf index --vectors ENCODED --output_dir INDEX
    class-hf index --append --molecules new.csv --output_dir INDEX
    class-hf index --delete ID1 ID2 --output_dir INDEX
    class-hf index --vectors ENCODED --store lance:INDEX
    class-hf index --verify INDEX

The molecules are a table (CSV, TSV, Parquet, SDF, SMILES, a folder of `Dataset.save_to_disk`), or the candidate pool
of a data set of pairs with the captions of its pairs. `class-hf search` searches the index.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.index_arguments import add_index_arguments, check_change_arguments
from class_hf.config.recipe_files import program
from class_hf.data.columns import add_table_arguments, add_training_file_arguments, table_options, training_files

DEFAULT_INDEX = "outputs/index"

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    import datasets

    from class_hf.data.caption_files import read_captions
    from class_hf.data.molecule_tables import read_molecules
    from class_hf.data.source import load_data
    from class_hf.search.building import IndexSettings
    from class_hf.search.captions import with_captions
    from class_hf.search.index import MoleculeIndex
    from class_hf.search.stores.base import hide_password
    from class_hf.search.vector_search import LEAST_RECALL
    from class_hf.shards.indexing import add_vectors, index_vectors


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog=program("index"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_index_arguments(parser)
    add_training_file_arguments(parser)
    add_table_arguments(parser)
    parser.add_log_arguments()
    args = parser.parse_args(argv)
    if args.store is not None and args.output_dir is not None:
        parser.error("--output_dir and --store both name the index; pass one of them")
    has_source = bool(args.vectors or args.molecules or args.data_dir or args.dataset_name or args.demo)
    if any(training_files(args).values()) and not (args.data_dir or args.dataset_name or args.demo):
        parser.error("--extra_train and --replace_captions need a data set of pairs: --data_dir or --dataset_name")
    if args.bank_captions and not args.query_bank:
        parser.error("--bank_captions needs --query_bank")
    if args.append or args.update:
        if not args.molecules and not (args.append and args.vectors):
            parser.error(f"{'--append' if args.append else '--update'} needs --molecules")
    elif args.delete:
        if has_source:
            parser.error("--delete takes ids only, and an index in --output_dir or --store")
    elif args.verify is None:
        if args.model is None and args.vectors is None:
            parser.error("the following argument is required: --model")
        if not has_source:
            parser.error("one of the arguments --molecules --vectors --data_dir --dataset_name --demo is required")
        if args.vectors and (args.split or args.num_proc or args.query_bank or any(table_options(args).values())):
            parser.error("--vectors takes no arguments of a table, because `class-hf encode` has read it")
    check_change_arguments(parser, args)
    return args


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    started = time.perf_counter()
    if args.verify is not None:
        print(verify(args.verify))
        return
    if args.append or args.update or args.delete:
        print(change_index(args))
        return
    molecules, bank = (None, None) if args.vectors else read_source(args)
    settings = IndexSettings(
        batch_size=args.batch_size,
        query_bank=bank,
        bank_method=args.bank_method,
        num_proc=args.num_proc,
        exact_up_to=args.exact_up_to,
        on_error=args.on_error,
        overwrite=args.overwrite,
    )
    location = args.store or args.output_dir or DEFAULT_INDEX
    if molecules is None:
        index = index_vectors(args.vectors, store=location, model=args.model, settings=settings)
    else:
        index = MoleculeIndex.build(molecules, args.model, store=location, settings=settings)
    print_report(index.config)
    print(f"{len(index):,} molecules and {index.config['captions']:,} captions, {time.perf_counter() - started:.0f} s")
    if bank is not None:
        print(f"query-bank normalisation by {len(bank):,} captions")
    print(f"written to {hide_password(location)}")


def read_source(args: argparse.Namespace) -> tuple[datasets.Dataset, list[str] | None]:
    """The molecules to index, and the captions of the query bank."""
    if args.molecules:
        if args.query_bank:
            raise ValueError("--query_bank needs training captions: use a data set of pairs, not --molecules.")
        return read_molecules(args.molecules, split=args.split, on_error=args.on_error, **table_options(args)), None
    data, report = load_data(
        args.data_dir, args.dataset_name, args.demo, args.on_error, **table_options(args), **training_files(args)
    )
    if report is not None:
        print(report)
    if args.query_bank and "train" not in data:
        raise ValueError("--query_bank needs training pairs; this data set has none.")
    bank = data["train"]["description"][:] if args.query_bank else None
    if bank is not None and args.bank_captions:
        bank += read_captions(args.bank_captions, leave_out=bank, encoding=args.encoding, data_dir=args.data_dir)
    return with_captions(data), bank


def print_report(config: dict) -> None:
    """Prints which rows were left out, and which ids are repeated."""
    dropped, duplicates = config["dropped"], config["duplicates"]
    if dropped["rows"]:
        print(f"{dropped['rows']:,} rows dropped, the first:", *dropped["first"], sep="\n  ")
    if duplicates["rows"]:
        print(f"{duplicates['rows']:,} rows left out, because they repeat an earlier row in every column")
    if duplicates["ids"]:
        ids = ", ".join(duplicates["first"])
        print(f"{duplicates['ids']:,} rows repeat the id of an earlier row and are kept; the first ids: {ids}")
    recall = config.get("recall_at_10")
    if recall is not None:
        aim = "" if recall >= LEAST_RECALL else f", below {LEAST_RECALL}: a larger --exact_up_to searches exactly"
        print(f"recall@10 of the approximate search: {recall:.3f} (effort {config['effort']}){aim}")


def change_index(args: argparse.Namespace) -> str:
    """Adds, updates or deletes molecules. Returns a line about it.

    Raises:
        ValueError: If an id, a column or a row does not fit the index.
    """
    location = args.store or args.output_dir or DEFAULT_INDEX
    shown = hide_password(location)
    with MoleculeIndex.load(location, args.model) as index:
        before = len(index)
        if args.delete:
            index.delete(args.delete)
            return f"{before - len(index):,} molecules deleted from {shown}; it has {len(index):,}"
        if args.vectors:
            add_vectors(index, args.vectors)
            return f"{len(index) - before:,} molecules added to {shown}; it has {len(index):,}"
        molecules, _ = read_source(args)
        change = index.add if args.append else index.update
        change(molecules, on_error=args.on_error, batch_size=args.batch_size)
        done = (
            f"{len(index) - before:,} molecules added to"
            if args.append
            else f"{len(molecules):,} molecules updated in"
        )
        return f"{done} {shown}; it has {len(index):,}"


def verify(location: str) -> str:
    """Checks an index in a folder. Returns a line about it.

    Raises:
        ValueError: If the index is damaged.
    """
    index = MoleculeIndex.load(location)
    checked = index.verify()
    if not checked["files"]:
        return f"{location} has no checksums, because an earlier version built it; its sizes and values are valid"
    return f"{location} is intact: {len(index):,} molecules, {checked['files']} files, {checked['bytes']:,} bytes"


if __name__ == "__main__":
    run_script(main)
