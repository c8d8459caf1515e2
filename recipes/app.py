"""Serve a page that finds molecules by a description, and captions by a molecule.

    class-hf app --demo
    class-hf app --index INDEX [INDEX2 ...] --id_url "https://pubchem.ncbi.nlm.nih.gov/compound/{id}"
    class-hf app --index INDEX --export_space FOLDER

`class-hf index` builds an index. The page needs no internet. It loads nothing from other hosts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program
from class_hf.utils.numbers import port_number

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    import transformers

    from class_hf.page.answers import open_pools
    from class_hf.page.app import build_page, launch
    from class_hf.page.space import export_space
    from class_hf.utils.threads import share_memory_pools

DEFAULT_INDEX = "outputs/index"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog=program("app"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--index", nargs="+", default=[DEFAULT_INDEX], help="folders of indexes (default: %(default)s)"
    )
    source.add_argument(
        "--demo",
        action="store_true",
        help="train on the synthetic data of the package (minutes), index it, and serve it",
    )
    parser.add_argument("--model", help="folder or Hub id of the indexes' model, if it moved")
    parser.add_argument(
        "--id_url",
        nargs="+",
        help="address that ids link to, with {id} in it: one for all indexes, or one for each; `none` for no links",
    )
    parser.add_argument(
        "--pubchem_links",
        action="store_true",
        help="link each molecule to PubChem by its InChIKey; following a link tells PubChem the compound",
    )
    parser.add_argument("--host", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=port_number, help="port (default: the first free one from 7860)")
    parser.add_argument("--export_space", metavar="FOLDER", help="write a Hugging Face Space, and serve nothing")
    parser.add_argument(
        "--package",
        help="requirement by which the Space installs this package, such as git+https://... (default: the Space "
        "contains a copy of it)",
    )
    parser.add_argument(
        "--license",
        help="licence of the Space, as the Hub spells it (default: that of the Space it replaces, or of the model)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing Space")
    parser.add_log_arguments()
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    transformers.logging.disable_progress_bar()
    locations = [make_demo()] if args.demo else args.index
    if locations == [DEFAULT_INDEX] and not Path(DEFAULT_INDEX).is_dir():
        raise ValueError(
            f"there is no index in {DEFAULT_INDEX!r}, and --index names no other. Pass --demo to make a small one, or "
            "make one of your own:\n"
            "  class-hf train demo --output_dir outputs/demo\n"
            "  class-hf index --model outputs/demo --demo"
        )
    urls = id_urls(args.id_url, len(locations))
    if args.export_space:
        links = ["--id_url", *args.id_url] if args.id_url else []
        links += ["--pubchem_links"] if args.pubchem_links else []
        export_space(
            args.export_space, locations, args.model, links, args.package, args.license, overwrite=args.overwrite
        )
        print(f"a Space was written to {args.export_space}. Upload it:")
        print(f"  hf upload YOU/NAME {args.export_space} --repo-type space")
        return
    share_memory_pools()
    page = build_page(open_pools(locations, args.model, urls, args.pubchem_links))
    launch(page, host=args.host, port=args.port)


def make_demo(folder: str = "outputs") -> str:
    """Trains a model on the synthetic data and indexes them, unless this was done before. Returns the index folder."""
    model, index = f"{folder}/demo", f"{folder}/demo_index"
    recipes = Path(__file__).parent
    steps = {
        f"{model}/config.json": ["train.py", str(recipes / "demo.yaml"), "--output_dir", model],
        f"{index}/index.json": ["index.py", "--model", model, "--demo", "--output_dir", index, "--query_bank"],
    }
    for result, (script, *arguments) in steps.items():
        if not Path(result).is_file():
            print("running", script, *arguments, flush=True)
            if subprocess.run([sys.executable, str(recipes / script), *arguments], check=False).returncode:
                raise ValueError(f"{script} failed; its message is above.")
    return index


def id_urls(addresses: Sequence[str] | None, count: int) -> list[str | None]:
    """The address of ids for each of `count` indexes. None for no links.

    Raises:
        ValueError: If an address is malformed, or there are neither one nor `count` of them.
    """
    urls = list(addresses or ["none"])
    for url in urls:
        if url != "none" and not (url.startswith(("https://", "http://")) and "{id}" in url):
            raise ValueError(f"--id_url {url!r}: expected an address with {{id}} in it, or none.")
    if len(urls) not in (1, count):
        raise ValueError(f"--id_url names {len(urls)} addresses for {count} indexes; give one, or one for each.")
    return [None if url == "none" else url for url in (urls * count if len(urls) == 1 else urls)]


if __name__ == "__main__":
    run_script(main)
