"""The search page, built with Gradio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from class_hf.evaluation.explain import MAX_ATOMS, atom_contributions
from class_hf.hub.loading import load_model
from class_hf.models.chemical_names import OpsinError
from class_hf.models.feature_extraction_fingerprint import parse_smiles
from class_hf.page.cards import STYLE, cards, drawn, sorry
from class_hf.search.index import MoleculeIndex
from class_hf.search.query import MAX_SMARTS, MAX_SMILES, MAX_TEXT, Hit, MoleculeFilter, check_string
from class_hf.search.substructure import check_smiles

MAX_RESULTS = 50
# So many queries wait; the next one is told to come again. Two are worked on at a time.
WAITING, AT_ONCE = 32, 2
TIME_LIMIT = 10.0
SKETCHER = Path(__file__).parents[1] / "static" / "openchemlib"

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


def report_user_errors(answer: Callable[..., str]) -> Callable[..., str]:
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

    @report_user_errors
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

    @report_user_errors
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

    @report_user_errors
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
