"""Index molecules, so that they are found by text and by molecule.

    python recipes/index.py --model outputs/demo --demo
    python recipes/index.py --model MODEL --molecules chembl.csv --smiles_column canonical_smiles --output_dir INDEX

The molecules are a table (CSV, TSV, Parquet, SDF, SMILES, a folder of `Dataset.save_to_disk`), or the candidate pool
of a data set of pairs, then with the captions of its pairs. recipes/search.py searches the index.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import datasets
import transformers

from class_hf.config.parsing import run_script
from class_hf.config.recipe_files import program
from class_hf.data.molecule_tables import FORMATS, read_molecules
from class_hf.data.source import load_data
from class_hf.search.index import MoleculeIndex


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("index"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained dual encoder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--molecules", help=f"a table of molecules: {', '.join(FORMATS)}, or a saved data set")
    source.add_argument("--data_dir", help="a folder with pairs; their candidate pool is indexed")
    source.add_argument("--dataset_name", help="Hub id of a data set of pairs; its candidate pool is indexed")
    source.add_argument("--demo", action="store_true", help="index the embedded synthetic data set")
    parser.add_argument("--output_dir", default="outputs/index", help="folder of the index (default: %(default)s)")
    parser.add_argument(
        "--store",
        help="in place of a folder, the URL of a database: qdrant+http://HOST:6333/COLLECTION or "
        "qdrant+path:FOLDER/COLLECTION",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an index that is there")
    parser.add_argument("--smiles_column", help="column of the table with the SMILES (default: by its usual names)")
    parser.add_argument("--id_column", help="column with the ids (default: by its usual names, else the row's number)")
    parser.add_argument("--description_column", help="column with captions (default: by its usual names, if any)")
    parser.add_argument("--split", help="split of a saved data set that has several")
    parser.add_argument("--on_error", choices=("raise", "drop"), default="raise", help="what to do with bad rows")
    parser.add_argument("--batch_size", type=int, default=256, help="molecules embedded at once")
    parser.add_argument("--num_proc", type=int, help="processes that read and featurise the molecules")
    parser.add_argument(
        "--query_bank",
        action="store_true",
        help="query-bank normalisation by the training captions of a data set of pairs: take from each molecule's "
        "scores what it owes to being near to many of them, or to one",
    )
    parser.add_argument(
        "--bank_method", choices=("softmax", "nearest"), default="softmax", help="how the bank is reckoned with"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if args.query_bank and args.molecules:
        raise ValueError("--query_bank needs training captions: name a data set of pairs, not a table of molecules.")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
    started = time.perf_counter()
    bank = None
    if args.molecules:
        molecules = read_molecules(
            args.molecules, args.smiles_column, args.id_column, args.description_column, args.split
        )
    else:
        data, report = load_data(args.data_dir, args.dataset_name, args.demo, args.on_error)
        if report is not None:
            print(report)
        molecules = with_captions(data)
        if args.query_bank:
            if "train" not in data:
                raise ValueError("--query_bank needs training pairs; this data set has none.")
            bank = data["train"]["description"][:]
    index = MoleculeIndex.build(
        molecules,
        args.model,
        output_dir=None if args.store else args.output_dir,
        store=args.store,
        batch_size=args.batch_size,
        query_bank=bank,
        bank_method=args.bank_method,
        num_proc=args.num_proc,
        on_error=args.on_error,
        overwrite=args.overwrite,
    )
    dropped = index.config["dropped"]
    if dropped["rows"]:
        print(f"{dropped['rows']:,} rows dropped, the first:", *dropped["first"], sep="\n  ")
    print(f"{len(index):,} molecules and {index.config['captions']:,} captions, {time.perf_counter() - started:.0f} s")
    if bank is not None:
        print(f"query-bank normalisation by {len(bank):,} training captions")
    print(f"written to {args.store or args.output_dir}")


def with_captions(data: datasets.DatasetDict) -> datasets.Dataset:
    """The candidate pool, with the captions that its molecules have in the pairs."""
    captions: dict[str, str] = {}
    for split, pairs in data.items():
        if split != "pool":
            captions |= dict(zip(pairs["id"][:], pairs["description"][:], strict=True))
    pool = data["pool"]
    return pool.add_column("description", [captions.get(one, "") for one in pool["id"][:]])


if __name__ == "__main__":
    run_script(main)
