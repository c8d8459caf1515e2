"""A page to search molecules by text, and captions by molecule.

    python recipes/app.py --demo
    python recipes/app.py --index INDEX [INDEX2 ...] --id_url "https://pubchem.ncbi.nlm.nih.gov/compound/{id}"
    python recipes/app.py --index INDEX --export_space FOLDER

recipes/index.py makes an index. The page needs no internet: nothing on it comes from another host.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import transformers

import class_hf
from class_hf.build import load_model
from class_hf.explain import MAX_ATOMS, atom_contributions
from class_hf.models.chemical_names import OpsinError
from class_hf.models.feature_extraction_fingerprint import parse_smiles
from class_hf.recipe import run_script
from class_hf.search.cards import STYLE, cards, drawn, sorry
from class_hf.search.filters import MAX_SMARTS, MAX_SMILES, MAX_TEXT, Hit, MoleculeFilter, check_string
from class_hf.search.index import MoleculeIndex
from class_hf.search.matcher import check_smiles
from class_hf.shipped import program
from class_hf.space import export_space

DEFAULT_INDEX = "outputs/index"
MAX_RESULTS = 50
# So many queries wait; the next one is told to come again. Two are worked on at a time.
WAITING, AT_ONCE = 32, 2
TIME_LIMIT = 10.0
SKETCHER = Path(class_hf.__file__).parent / "static" / "openchemlib"

TEXTS = [
    "The molecule is a monocarboxylic acid with an acetate ester on a benzene ring.",
    "The molecule is a primary alcohol with a long unbranched alkyl chain.",
    "The molecule contains a bromine atom and a nitro group on an aromatic ring.",
    "The molecule is a 3-oxo steroid with a hydroxy group.",
]
MOLECULES = ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O", "OCC(O)CO"]

PAGE_STYLE = """
.gradio-container { width: 100%; min-width: 0 !important; max-width: 1180px !important; margin: 0 auto !important; }
.gallery-item { max-width: 100%; }
.gallery-item .gallery { white-space: normal; text-align: left; }
.sketcher { width: 100%; height: 380px; border: 1px solid var(--border-color-primary); background: white;
  border-radius: 10px; overflow: hidden; }
@media (max-width: 640px) { .gradio-container > .main { padding: 10px !important; } }
"""
# The sketcher is fetched when it is opened, not before: it is larger than the rest of the page.
SKETCH = '<div class="sketcher" aria-label="sketcher"></div>'
SKETCH_JS = """
const host = element.querySelector('.sketcher');
const start = async () => {
  const { CanvasEditor } = await import(new URL(props.module, document.baseURI).href);
  const editor = new CanvasEditor(host, { initialMode: 'molecule' });
  editor.setOnChangeListener(({ type, isUserEvent }) => {
    if (type !== 'molecule' || !isUserEvent) return;
    props.value = editor.getMolecule().toIsomericSmiles();
    trigger('change');
  });
};
new IntersectionObserver((seen, observer) => {
  if (seen.some((one) => one.isIntersecting)) { observer.disconnect(); start(); }
}).observe(host);
"""


@dataclass(frozen=True)
class Pool:
    """An index with its model, under the name that the page shows."""

    label: str
    index: MoleculeIndex
    model: Any
    processor: Any
    id_url: str | None


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("app"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--index", nargs="+", default=[DEFAULT_INDEX], help="folders of indexes (default: %(default)s)"
    )
    source.add_argument(
        "--demo", action="store_true", help="train on the embedded synthetic data (minutes), index it, and show that"
    )
    parser.add_argument("--model", help="folder or Hub id of the indexes' model, if it moved")
    parser.add_argument(
        "--id_url",
        nargs="+",
        help="where ids lead, with {id} in it: one address for all indexes, or one for each, `none` for no links",
    )
    parser.add_argument("--host", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860 on)")
    parser.add_argument("--export_space", metavar="FOLDER", help="write a Hugging Face Space of it, and start nothing")
    parser.add_argument(
        "--package",
        default=f"class-hf[app]=={class_hf.__version__}",
        help="what the Space installs this package from, such as git+https://... (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a Space that is there")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    transformers.logging.disable_progress_bar()
    locations = [make_demo()] if args.demo else args.index
    if locations == [DEFAULT_INDEX] and not Path(DEFAULT_INDEX).is_dir():
        raise ValueError(
            f"there is no index in {DEFAULT_INDEX!r}, and --index names no other. Either let --demo make a small one, "
            "or make one of your own:\n"
            "  python recipes/train.py recipes/demo.yaml --output_dir outputs/demo\n"
            "  python recipes/index.py --model outputs/demo --demo"
        )
    urls = id_urls(args.id_url, len(locations))
    if args.export_space:
        export_space(args.export_space, locations, args.model, args.id_url, args.package, args.overwrite)
        print(f"a Space is written to {args.export_space}. Upload it:")
        print(f"  hf upload YOU/NAME {args.export_space} --repo-type space")
        return
    page = build_page(open_pools(locations, args.model, urls))
    launch(page, host=args.host, port=args.port)


def make_demo(folder: str = "outputs") -> str:
    """The folder of an index of the embedded data; trains a model for it, if that was not done before."""
    model, index = f"{folder}/demo", f"{folder}/demo_index"
    recipes = Path(__file__).parent
    steps = {
        f"{model}/config.json": ["train.py", str(recipes / "demo.yaml"), "--output_dir", model],
        f"{index}/index.json": ["index.py", "--model", model, "--demo", "--output_dir", index, "--query_bank"],
    }
    for made, (script, *arguments) in steps.items():
        if not Path(made).is_file():
            print("running", script, *arguments, flush=True)
            if subprocess.run([sys.executable, str(recipes / script), *arguments], check=False).returncode:
                raise ValueError(f"{script} failed; its message is above.")
    return index


def id_urls(given: Sequence[str] | None, count: int) -> list[str | None]:
    """The address of ids for each of `count` indexes.

    Raises:
        ValueError: if an address is none, or there are neither one nor `count` of them.
    """
    urls = list(given or ["none"])
    for url in urls:
        if url != "none" and not (url.startswith(("https://", "http://")) and "{id}" in url):
            raise ValueError(f"--id_url {url!r}: expected an address with {{id}} in it, or none.")
    if len(urls) not in (1, count):
        raise ValueError(f"--id_url names {len(urls)} addresses for {count} indexes; give one, or one for each.")
    return [None if url == "none" else url for url in (urls * count if len(urls) == 1 else urls)]


def open_pools(locations: Sequence[str], model: str | None, urls: Sequence[str | None]) -> list[Pool]:
    """Opens indexes; a model that several name is loaded once.

    Raises:
        ValueError: if an index does not open, or its model cannot be found.
    """
    loaded: dict[tuple[str, str | None], Any] = {}
    pools: list[Pool] = []
    for location, url in zip(locations, urls, strict=True):
        config = MoleculeIndex.load(location).config
        name, revision = (model, None) if model else (config["model"], config["revision"])
        if name is None:
            raise ValueError(f"the index {location!r} does not name its model; name it by --model.")
        if (name, revision) not in loaded:
            loaded[name, revision] = load_model(name, revision)
        its_model, processor = loaded[name, revision]
        index = MoleculeIndex.load(location, its_model, processor)
        label = f"{Path(location).name}: {len(index):,} molecules by {Path(name).name}"
        if any(pool.label == label for pool in pools):
            label += f" ({location})"
        pools.append(Pool(label, index, its_model, processor, url))
    return pools


def kindly(answer: Callable[..., str]) -> Callable[..., str]:
    """Turns what a user can mend into a message on the page. All else is logged by Gradio, which says "Error"."""

    @wraps(answer)
    def answered(*values: Any) -> str:
        try:
            return answer(*values)
        except (ValueError, TimeoutError, ImportError, OpsinError) as error:
            return sorry(f"Sorry, that did not work: {error}")

    return answered


def contributions_of(pool: Pool, hits: Sequence[Hit], **query: str) -> list[np.ndarray | None]:
    """Of each hit's atoms; None for a molecule that is too large."""
    return [
        atom_contributions(pool.model, pool.processor, hit.smiles, **query)
        if parse_smiles(hit.smiles).GetNumAtoms() <= MAX_ATOMS
        else None
        for hit in hits
    ]


def number_of_results(k: Any) -> int:
    if not isinstance(k, int | float) or not 1 <= k <= MAX_RESULTS:
        raise ValueError(f"the number of results is {k!r}; expected 1 to {MAX_RESULTS}.")
    return int(k)


def is_empty(text: Any) -> bool:
    return text is None or (isinstance(text, str) and not text.strip())


def filters_of(least: Any, most: Any, elements: Any, smarts: Any) -> MoleculeFilter:
    """The filters; an empty field is no condition."""
    if not is_empty(elements) and not isinstance(elements, str):
        raise ValueError("the elements are no text; expected symbols such as N, Cl.")
    return MoleculeFilter(
        min_weight=least,
        max_weight=most or None,  # an untouched field shows 0
        elements=None if is_empty(elements) else elements,
        substructure=None if is_empty(smarts) else smarts,
        time_limit=TIME_LIMIT,
    )


def answers(pools: Sequence[Pool]) -> dict[str, Callable[..., str]]:
    """What the page's buttons call: functions of the fields' values to HTML."""
    by_label = {pool.label: pool for pool in pools}

    def pool_of(label: Any) -> Pool:
        if not isinstance(label, str) or label not in by_label:
            raise ValueError("that model and pool are not here; choose one from the list.")
        return by_label[label]

    @kindly
    def find(label, text, k, colour, bank, least, most, elements, smarts):
        pool = pool_of(label)
        if is_empty(text):
            raise ValueError("the description is empty. Say in words what the molecule is, or take an example.")
        has_bank = pool.index.config["query_bank"] is not None
        filters = filters_of(least, most, elements, smarts)
        hits = pool.index.search(
            text, k=number_of_results(k), filters=filters, query_bank=bool(bank) if has_bank else None
        )
        if not hits:
            return sorry("No molecule passes the filters. Loosen them and try again.")
        shades = contributions_of(pool, hits, text=check_string(text, "text", MAX_TEXT, "")) if colour else None
        kind = "cosines less the query bank's penalties" if has_bank and bank else "cosines"
        return cards(hits, shades, id_url=pool.id_url, note=f"{len(hits)} of {len(pool.index):,}; scores are {kind}.")

    @kindly
    def from_molecule(label, smiles, wanted, k, colour, least, most, elements, smarts):
        pool = pool_of(label)
        if is_empty(smiles):
            raise ValueError("there is no molecule. Paste a SMILES, draw one, or take an example.")
        if wanted == "similar molecules":
            filters = filters_of(least, most, elements, smarts)
            hits = pool.index.search(smiles=smiles, k=number_of_results(k), filters=filters)
            if not hits:
                return sorry("No molecule passes the filters. Loosen them and try again.")
            shades = contributions_of(pool, hits, like=smiles.strip()) if colour else None
            return cards(hits, shades, id_url=pool.id_url, note=f"{len(hits)} of {len(pool.index):,}.")
        hits = pool.index.search_captions(smiles, number_of_results(k))
        note = f"{len(hits)} of {pool.index.config['captions']:,} captions, each beside its molecule."
        return cards(hits, id_url=pool.id_url, captions=True, note=note)

    @kindly
    def show(smiles):
        if is_empty(smiles):
            return ""
        smiles = check_string(smiles, "smiles", MAX_SMILES, "a SMILES")
        check_smiles([smiles])
        return drawn(smiles)

    return {"find": find, "from_molecule": from_molecule, "show": show}


def build_page(pools: Sequence[Pool]) -> Any:
    """The page, a `gradio.Blocks`.

    Raises:
        ImportError: if Gradio is not installed.
    """
    gr = gradio()
    gr.set_static_paths([SKETCHER])
    call = answers(pools)
    labels = [pool.label for pool in pools]
    banks = {pool.label: pool.index.config["query_bank"] is not None for pool in pools}
    module = f"gradio_api/file={(SKETCHER / 'openchemlib.js').as_posix()}"
    with gr.Blocks(title="Molecule search", analytics_enabled=False) as page:
        gr.Markdown("# Molecule search\nFind molecules from words, and words from a molecule.")
        pool = gr.Dropdown(labels, value=labels[0], label="Model and pool", elem_id="pool")
        with gr.Tab("Describe"):
            text = gr.Textbox(
                label="Description", lines=3, max_lines=8, max_length=MAX_TEXT, placeholder=TEXTS[0], elem_id="text"
            )
            search = gr.Button("Find molecules", variant="primary", elem_id="find")
            gr.Examples([[one] for one in TEXTS], inputs=[text], cache_examples=False)
        with gr.Tab("Draw or paste"):
            smiles = gr.Textbox(
                label="SMILES", max_length=MAX_SMILES, placeholder=MOLECULES[0], elem_id="smiles", max_lines=4
            )
            with gr.Accordion("Draw it", open=False, elem_id="draw"):
                sketch = gr.HTML("", html_template=SKETCH, js_on_load=SKETCH_JS, module=module, elem_id="sketch")
            shown = gr.HTML(elem_id="shown")
            wanted = gr.Radio(["captions", "similar molecules"], value="captions", label="Find", elem_id="wanted")
            ask = gr.Button("Find", variant="primary", elem_id="ask")
            gr.Examples([[one] for one in MOLECULES], inputs=[smiles], cache_examples=False)
        with gr.Accordion("Settings and filters", open=False, elem_id="settings"):
            k = gr.Slider(1, MAX_RESULTS, value=12, step=1, label="Results")
            with gr.Row():
                colour = gr.Checkbox(True, label="Colour the atoms that raised the score", min_width=260)
                bank = gr.Checkbox(True, label="Query-bank normalisation", min_width=260, visible=banks[labels[0]])
            with gr.Row():
                least = gr.Number(None, label="Weight from (Da)", min_width=130)
                most = gr.Number(None, label="Weight to (Da), 0: any", min_width=130)
                elements = gr.Textbox(label="With the elements", placeholder="N, Cl", max_length=100, min_width=130)
                smarts = gr.Textbox(
                    label="With the substructure (SMARTS)", placeholder="C(=O)[OH]", max_length=MAX_SMARTS
                )
            gr.Markdown("Filters are for molecules; captions are not filtered.")
        results = gr.HTML(elem_id="results")
        filters = [least, most, elements, smarts]
        worked: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "search"}
        gr.on(
            [search.click, text.submit],
            call["find"],
            [pool, text, k, colour, bank, *filters],
            results,
            api_name="find",
            **worked,
        )
        gr.on(
            [ask.click, smiles.submit],
            call["from_molecule"],
            [pool, smiles, wanted, k, colour, *filters],
            results,
            api_name="from_molecule",
            **worked,
        )
        smiles.change(
            call["show"],
            smiles,
            shown,
            trigger_mode="always_last",
            show_progress="hidden",
            api_name="show",
            concurrency_limit=1,
        )
        sketch.change(None, sketch, smiles, js="(value) => value")
        pool.change(lambda label: gr.update(visible=banks.get(label, False)), pool, bank, api_visibility="private")
    return page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)


def launch(page: Any, host: str | None = None, port: int | None = None, block: bool = True) -> str:
    """Serves the page; gives its address, once the server is up, unless it blocks."""
    gr = gradio()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        footer_links=[],
        theme=theme,
        css=STYLE + PAGE_STYLE,
        prevent_thread_lock=not block,
        quiet=not block,
    )
    return address


def gradio() -> Any:
    """Gradio, if it is installed."""
    if find_spec("gradio") is None:
        raise ImportError('the page needs Gradio: pip install "class-hf[app]"')
    import gradio

    return gradio


if __name__ == "__main__":
    run_script(main)
