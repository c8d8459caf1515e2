"""Search an index by a description or by a molecule.

    class-hf search "a steroid ester with an oxo group at position 3"
    class-hf search "an antibiotic" --k 5 --max_weight 500 --elements N,S --draw hits.png
    class-hf search "an antibiotic" --where "logS > -3" --output hits.sdf
    class-hf search --smiles "CC(=O)Oc1ccccc1C(=O)O" --captions
    class-hf search --queries queries.txt --output hits.parquet

`class-hf index` builds the index.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.utils.numbers import number, positive, positive_integer

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from huggingface_hub.utils import disable_progress_bars

    from class_hf.plots.hits import draw_hits
    from class_hf.plots.style import save_figure
    from class_hf.search.index import MoleculeIndex
    from class_hf.search.printing import hit_table
    from class_hf.search.query import MoleculeFilter, looks_like_smiles
    from class_hf.search.results import FORMATS, check_output, read_queries, write_hits
    from class_hf.utils.json_text import json_text

DEFAULT_INDEX = "outputs/index"
# For more descriptions the whole model, which embeds in batches, is faster than its start-up takes.
LIGHT_QUERIES = 100


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog=program("search"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", nargs="?", help="description of the molecules, in quotes")
    parser.add_argument("--smiles", help="search by this molecule in place of a description")
    parser.add_argument("--queries", metavar="FILE", help="search by each line of a file; needs --output")
    parser.add_argument("--encoding", help="encoding of the file of queries, such as cp1252 (default: UTF-8)")
    parser.add_argument("--captions", action="store_true", help="search captions, not molecules; needs --smiles")
    parser.add_argument("--index", default=DEFAULT_INDEX, help="folder or URL of the index (default: %(default)s)")
    parser.add_argument("--model", help="folder or Hub id of the index's model, if it moved")
    parser.add_argument("--k", type=positive_integer, default=10, help="number of hits (default: %(default)s)")
    filters = parser.add_argument_group("filters")
    filters.add_argument("--min_weight", type=number, help="smallest molecular weight in Da")
    filters.add_argument("--max_weight", type=number, help="largest molecular weight in Da")
    filters.add_argument("--elements", help="elements that the molecules must contain, such as N,Cl")
    filters.add_argument("--substructure", help="SMARTS that the molecules must match")
    filters.add_argument("--ignore_stereo", action="store_true", help="ignore the stereo marks of the substructure")
    filters.add_argument(
        "--time_limit", type=positive, default=10.0, help="seconds for the substructure (default: %(default)s)"
    )
    filters.add_argument("--where", help="comparisons on columns of the table, such as 'logS < -2 and vendor = \"x\"'")
    filters.add_argument("--min_score", type=number, help="smallest score of a hit")
    parser.add_argument("--no_query_bank", action="store_true", help="do not subtract the query bank's penalties")
    parser.add_argument("--draw", metavar="FILE.png", help="draw the hits")
    parser.add_argument("--json", action="store_true", help="print the hits as JSON")
    parser.add_argument("--output", metavar="FILE", help="write the hits to a file: .csv, .json, .parquet or .sdf")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files of --output and --draw")
    parser.add_log_arguments()
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    filters = check_arguments(args)
    queries: str | list[str]
    if args.queries:
        queries = read_queries(args.queries, args.encoding)
    else:
        queries = args.text if args.smiles is None else args.smiles
    texts = [] if args.smiles is not None else [queries] if isinstance(queries, str) else queries
    if smiles := next(filter(looks_like_smiles, texts), None):
        logging.getLogger("class_hf").warning(
            "the description %r is a SMILES, and was searched as words; --smiles searches by a molecule.", smiles[:60]
        )
    disable_progress_bars()  # of loading a model, also for transformers, which is imported later
    light = not args.queries or len(queries) <= LIGHT_QUERIES
    with MoleculeIndex.load(args.index, args.model, light_text=light) as index:
        bank = index.config["query_bank"] if args.smiles is None and not args.no_query_bank else None
        hits = search(index, queries, args, filters, bank is not None)
    several = [hits] if isinstance(queries, str) else hits
    report = (
        []
        if args.json
        else [f"scores are cosines minus query-bank penalties ({bank['captions']:,} captions)"]
        if bank
        else []
    )
    if args.output:
        write_hits(args.output, [queries] if isinstance(queries, str) else queries, several, args.overwrite)
        report.append(f"{sum(map(len, several)):,} hits written to {args.output}")
    if args.json:
        print(json_text([asdict(hit) for hit in hits], indent=2))
    elif not args.queries:
        width = shutil.get_terminal_size().columns
        print(hit_table(hits, width, columns=filters.columns, are_captions=args.captions))
    if args.draw is not None and hits:
        save_figure(draw_hits(hits[:50], title=str(queries)), args.draw)
        report.append(f"drawn to {args.draw}" + (", the first 50" if len(hits) > 50 else ""))
    if not args.json:
        print(*report, sep="\n", end="\n" if report else "")


def check_arguments(args: argparse.Namespace) -> MoleculeFilter:
    """Checks the arguments before any work. Returns the filters.

    Raises:
        ValueError: If arguments contradict each other, or one has a wrong value.
        FileExistsError: If an output file exists and --overwrite is not set.
    """
    if sum(query is not None for query in (args.text, args.smiles, args.queries)) != 1:
        raise ValueError("give either a description, in quotes, or --smiles, or --queries.")
    if args.captions and args.smiles is None:
        raise ValueError("--captions needs --smiles.")
    if args.queries and (args.output is None or args.draw is not None or args.json):
        raise ValueError("--queries needs --output, and allows neither --draw nor --json.")
    if args.encoding is not None and not args.queries:
        raise ValueError("--encoding is for the file of --queries; leave it out.")
    if args.draw is not None and Path(args.draw).suffix.lower() != ".png":
        raise ValueError(f"--draw {args.draw!r}: expected the name of a .png file.")
    for path in filter(None, (args.output, args.draw)):
        check_output(path, args.overwrite, formats=(".png",) if path == args.draw else FORMATS)
    filters = MoleculeFilter(
        args.min_weight,
        args.max_weight,
        args.elements,
        args.substructure,
        args.time_limit,
        use_stereo=not args.ignore_stereo,
        where=args.where,
        min_score=args.min_score,
    )
    if args.captions and filters:
        raise ValueError("the filters are for molecules; leave them out with --captions.")
    if args.index == DEFAULT_INDEX and not Path(args.index).is_dir():
        raise ValueError(
            f"there is no index in {DEFAULT_INDEX!r}, and --index names no other. These two commands make one:\n"
            "  class-hf train demo --output_dir outputs/demo\n"
            "  class-hf index --model outputs/demo --demo"
        )
    return filters


def search(
    index: MoleculeIndex, queries: str | list[str], args: argparse.Namespace, filters: MoleculeFilter, bank: bool
) -> list:
    """The hits of one query, or a list of hits for each of several."""
    if args.captions:
        return index.search_captions(queries, args.k)
    try:
        if args.smiles is not None:
            return index.search(smiles=args.smiles, k=args.k, filters=filters)
        return index.search(queries, k=args.k, filters=filters, query_bank=bank)
    except TimeoutError as error:
        if filters.substructure is None:
            raise
        raise TimeoutError(f"{error} --time_limit sets the limit.") from error


if __name__ == "__main__":
    run_script(main)
