"""Search an index of molecules by text or by molecule.

    python recipes/search.py "a steroid ester with an oxo group at position 3"
    python recipes/search.py "an antibiotic" --k 5 --max_weight 500 --elements N,S --draw hits.png
    python recipes/search.py --smiles "CC(=O)Oc1ccccc1C(=O)O" --captions

recipes/index.py makes the index.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import transformers

from class_hf.config.parsing import run_script
from class_hf.config.recipe_files import program
from class_hf.plots.hits import draw_hits
from class_hf.search.index import MoleculeIndex
from class_hf.search.query import Hit, MoleculeFilter

DEFAULT_INDEX = "outputs/index"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("search"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("text", nargs="?", help="description of the molecules that are wanted")
    parser.add_argument("--smiles", help="a molecule, in place of the text: those like it are searched")
    parser.add_argument("--captions", action="store_true", help="search captions, not molecules, by --smiles")
    parser.add_argument("--index", default=DEFAULT_INDEX, help="folder or URL of the index (default: %(default)s)")
    parser.add_argument("--model", help="folder or Hub id of the index's model, if it moved")
    parser.add_argument("--k", type=int, default=10, help="number of results (default: %(default)s)")
    parser.add_argument("--min_weight", type=float, help="least molecular weight in Da")
    parser.add_argument("--max_weight", type=float, help="largest molecular weight in Da")
    parser.add_argument("--elements", help="elements that the molecules must contain, such as N,Cl")
    parser.add_argument("--substructure", help="SMARTS that the molecules must match")
    parser.add_argument(
        "--time_limit", type=float, default=10.0, help="seconds for the substructure (default: %(default)s)"
    )
    parser.add_argument(
        "--no_query_bank", action="store_true", help="plain cosines, though the index has a query bank"
    )
    parser.add_argument("--draw", metavar="FILE.png", help="draw the results")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if (args.text is None) == (args.smiles is None):
        raise ValueError("give either a description, in quotes, or --smiles.")
    if args.captions and args.smiles is None:
        raise ValueError("--captions are searched by --smiles.")
    if args.draw is not None and Path(args.draw).suffix.lower() != ".png":
        raise ValueError(f"--draw {args.draw!r}: expected the name of a .png file.")
    filters = MoleculeFilter(args.min_weight, args.max_weight, args.elements, args.substructure, args.time_limit)
    if args.captions and filters:
        raise ValueError("the filters are for molecules; leave them out with --captions.")
    if args.index == DEFAULT_INDEX and not Path(args.index).is_dir():
        raise ValueError(
            f"there is no index in {DEFAULT_INDEX!r}, and --index names no other. These two commands make one:\n"
            "  python recipes/train.py recipes/demo.yaml --output_dir outputs/demo\n"
            "  python recipes/index.py --model outputs/demo --demo"
        )
    transformers.logging.disable_progress_bar()
    with MoleculeIndex.load(args.index, args.model) as index:
        bank = index.config["query_bank"] if args.text is not None and not args.no_query_bank else None
        if args.captions:
            hits = index.search_captions(args.smiles, args.k)
        else:
            hits = index.search(args.text, smiles=args.smiles, k=args.k, filters=filters, query_bank=bank is not None)
    asked = args.text if args.text is not None else args.smiles
    if args.json:
        print(json.dumps([asdict(hit) for hit in hits], indent=2, ensure_ascii=False))
    else:
        print(table(hits, shutil.get_terminal_size().columns, args.captions))
        if bank is not None:
            print(f"scores are cosines less penalties by a query bank of {bank['captions']:,} captions")
    if args.draw is not None and hits:
        Path(args.draw).parent.mkdir(parents=True, exist_ok=True)
        draw_hits(hits[:50], title=asked).savefig(args.draw)
        if not args.json:
            print(f"drawn to {args.draw}" + (", the first 50" if len(hits) > 50 else ""))


def table(hits: Sequence[Hit], width: int, captions: bool = False) -> str:
    """The hits as lines of text, none wider than `width` but where an id is long."""
    if not hits:
        return "nothing found that passes the filters"
    ids = max(len("id"), *(len(hit.id) for hit in hits))
    described = any(hit.fields.get("description") for hit in hits)
    left = max(width - ids - 16, 40)
    shares = (
        (left, 0) if not described else (left // 4, left - left // 4) if captions else (left // 2, left - left // 2)
    )
    head = f"{'rank':>4}  {'score':>6}  {'id':<{ids}}  {'SMILES':<{shares[0]}}"
    lines = [(head + ("  caption" if described else "")).rstrip()]
    for hit in hits:
        line = f"{hit.rank:>4}  {hit.score:>6.3f}  {hit.id:<{ids}}  {cut(hit.smiles, shares[0]):<{shares[0]}}"
        caption = " ".join((hit.fields.get("description") or "").split())
        lines.append((line + (f"  {cut(caption, shares[1] - 2)}" if described else "")).rstrip())
    return "\n".join(lines)


def cut(text: str, width: int) -> str:
    """The text, or its beginning and `...`."""
    return text if len(text) <= width else text[: width - 3] + "..."


if __name__ == "__main__":
    run_script(main)
