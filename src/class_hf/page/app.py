"""The search page, built with Gradio."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from class_hf.page import links, sketcher
from class_hf.page.answers import CAPTIONS, MAX_RESULTS, SIMILAR, Pool, build_answers
from class_hf.page.cards import is_error
from class_hf.page.guard import Calls, RequestGuard
from class_hf.page.style import CARD_STYLE, PAGE_STYLE
from class_hf.search.conditions import MAX_WHERE
from class_hf.search.query import MAX_SMARTS, MAX_SMILES, MAX_TEXT

if TYPE_CHECKING:
    import gradio

# This many queries run at a time, and this many wait. A further one is refused with a message.
RUNNING, WAITING = 2, 32
# Gradio keeps the last answer of each session, about 1 MB of HTML, so that it can make links to it. The page makes its
# links itself. The oldest session is forgotten, which costs it nothing: it is created again by its next query.
SESSIONS = 32
# Columns of a table that the page lists.
MAX_COLUMNS = 12

TEXTS = [
    "The molecule is a monocarboxylic acid with an acetate ester on a benzene ring.",
    "The molecule is a primary alcohol with a long unbranched alkyl chain.",
    "The molecule contains a bromine atom and a nitro group on an aromatic ring.",
    "The molecule is a 3-oxo steroid with a hydroxy group.",
]
MOLECULES = ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O", "OCC(O)CO"]


class Settings(NamedTuple):
    """The fields above the tabs, which all searches use."""

    k: Any
    bank: Any
    where: Any
    filters: list[Any]


class TextTab(NamedTuple):
    """The tab that finds molecules by a description."""

    text: Any
    find: Any
    results: Any


class MoleculeTab(NamedTuple):
    """The tab that finds captions and molecules by a molecule."""

    smiles: Any
    sketch: Any
    shown: Any
    wanted: Any
    find: Any
    results: Any


def build_page(pools: Sequence[Pool]) -> "gradio.Blocks":
    """Builds the page.

    Args:
        pools: the pools to choose from, at least one.

    Returns:
        `gradio.Blocks`: the page, for [`launch`].

    Raises:
        ImportError: If Gradio is not installed.
    """
    gr = import_gradio()
    gr.set_static_paths([sketcher.FOLDER])
    answers = build_answers(pools)
    labels = [pool.label for pool in pools]
    with gr.Blocks(title="Molecule search", analytics_enabled=False) as page:
        gr.Markdown("# Molecule search\nFind molecules by a description, or captions by a molecule.")
        pool = gr.Dropdown(labels, value=labels[0], label="Model and pool", elem_id="pool")
        settings = _add_settings(gr, pools[0])
        # Off by default: it takes several times as long as the search.
        colour = gr.Checkbox(False, label="Colour the atoms that raised the score", elem_id="colour")
        # Each tab has its own results, so that they are never shown next to another query.
        with gr.Tabs() as tabs:
            with gr.Tab("Describe", id="text"):
                by_text = _add_text_tab(gr)
            with gr.Tab("Draw or paste", id="molecule"):
                by_molecule = _add_molecule_tab(gr)
        text, smiles, wanted, filters = by_text.text, by_molecule.smiles, by_molecule.wanted, settings.filters
        tickets = [
            _connect_search(
                gr,
                ("find", answers["find"]),
                [by_text.find.click, text.submit],
                [pool, text, settings.k, colour, settings.bank, *filters],
                by_text.results,
                colour,
            ),
            _connect_search(
                gr,
                ("from_molecule", answers["from_molecule"]),
                [by_molecule.find.click, smiles.submit],
                [pool, smiles, wanted, settings.k, colour, *filters],
                by_molecule.results,
                colour,
            ),
        ]
        fields = [pool, settings.k, settings.bank, *filters, text, smiles, wanted]
        page.load(None, fields, [*fields, tabs, *tickets], js=links.FILL)
        _connect_sketch(by_molecule, answers["show"])
        _connect_pool(gr, pool, pools, settings)
    return page.queue(max_size=WAITING, default_concurrency_limit=RUNNING)


def _add_settings(gr: Any, pool: Pool) -> Settings:
    """Adds the settings and filters, as they are for the first pool."""
    with gr.Accordion("Settings and filters", open=False, elem_id="settings"):
        k = gr.Slider(1, MAX_RESULTS, value=12, step=1, label="Results")
        bank = gr.Checkbox(True, label="Query-bank normalisation", visible=_has_bank(pool))
        with gr.Row():
            min_weight = gr.Number(None, label="Weight from (Da)", min_width=130)
            max_weight = gr.Number(None, label="Weight to (Da), 0: any", min_width=130)
            elements = gr.Textbox(label="With the elements", placeholder="N, Cl", max_length=100, min_width=130)
            smarts = gr.Textbox(label="With the substructure (SMARTS)", placeholder="C(=O)[OH]", max_length=MAX_SMARTS)
            ignore_stereo = gr.Checkbox(False, label="Ignore stereo marks of the substructure", min_width=130)
            where = gr.Textbox(
                label="Where (columns of the table)",
                placeholder='logS < -2 and vendor = "x"',
                info=column_names(pool),
                max_length=MAX_WHERE,
                elem_id="where",
            )
        gr.Markdown("Filters apply to molecules. Captions are not filtered.")
    return Settings(k, bank, where, [min_weight, max_weight, elements, smarts, ignore_stereo, where])


def _add_query(gr: Any, name: str, label: str, examples: list[str], **options: int) -> Any:
    """Adds the field of a query. With one line, Enter searches; the field grows with its text."""
    return gr.Textbox(label=label, lines=1, placeholder=examples[0], elem_id=name, **options)


def _add_examples(gr: Any, field: Any, examples: list[str]) -> None:
    gr.Examples([[example] for example in examples], inputs=[field], cache_examples=False)


def _add_text_tab(gr: Any) -> TextTab:
    text = _add_query(gr, "text", "Description", TEXTS, max_lines=8, max_length=MAX_TEXT)
    find = gr.Button("Find molecules", variant="primary", elem_id="find")
    _add_examples(gr, text, TEXTS)
    return TextTab(text, find, gr.HTML(elem_id="results"))


def _add_molecule_tab(gr: Any) -> MoleculeTab:
    smiles = _add_query(gr, "smiles", "SMILES", MOLECULES, max_lines=4, max_length=MAX_SMILES)
    module = f"gradio_api/file={(sketcher.FOLDER / 'openchemlib.js').as_posix()}"
    with gr.Accordion("Draw it", open=False, elem_id="draw"):
        sketch = gr.HTML("", html_template=sketcher.HTML, js_on_load=sketcher.SCRIPT, module=module, elem_id="sketch")
    shown = gr.HTML(elem_id="shown")
    wanted = gr.Radio([CAPTIONS, SIMILAR], value=CAPTIONS, label="Find", elem_id="wanted")
    find = gr.Button("Find", variant="primary", elem_id="ask")
    _add_examples(gr, smiles, MOLECULES)
    return MoleculeTab(smiles, sketch, shown, wanted, find, gr.HTML(elem_id="molecule_results"))


def _connect_search(
    gr: Any, answer: tuple[str, Callable[..., Any]], starts: list[Any], inputs: list[Any], output: Any, colour: Any
) -> Any:
    """Connects a search. The answer comes first, without colours.

    Returns:
        The ticket: a hidden field, whose change asks for the colours, one answer at a time.
    """
    name, function = answer
    place = inputs.index(colour)
    ticket, answered, coloured = (gr.Textbox(visible="hidden") for _ in range(3))
    # Nothing is preprocessed: the functions check their values, with better messages than those of the fields.
    gr.on(
        starts,
        function,
        inputs,
        output,
        preprocess=False,
        js=links.on_search(output.elem_id, place),
        trigger_mode="always_last",  # a search that is asked for during another follows it
        api_name=name,
        concurrency_limit=RUNNING,
        concurrency_id="search",
    ).then(None, colour, ticket, js=links.after_search(output.elem_id))
    colour.change(None, None, ticket, js=links.on_colour(output.elem_id))
    # The answer with colours can come after that of a later search. A script decides whether it is shown.
    ticket.change(
        lambda *values: (function(*values[:-1]), values[-1]),
        [*inputs, ticket],
        [coloured, answered],
        preprocess=False,
        show_progress_on=output,
        api_visibility="private",
        concurrency_limit=1,
        concurrency_id="colour",
    ).then(None, [coloured, answered], output, js=links.after_colours(output.elem_id))
    return ticket


def _connect_sketch(tab: MoleculeTab, show: Callable[..., str]) -> None:
    """Shows the molecule of the SMILES, and keeps the SMILES and the sketch the same."""

    def show_and_sketch(value: Any) -> tuple[str, str]:
        html = show(value)
        return html, value.strip() if html and not is_error(html) else ""

    tab.smiles.change(
        show_and_sketch,
        tab.smiles,
        [tab.shown, tab.sketch],
        trigger_mode="always_last",
        show_progress="hidden",
        api_name="show",
        preprocess=False,
        concurrency_limit=1,
    )
    tab.sketch.change(None, tab.sketch, tab.smiles, js="(value) => value")


def _connect_pool(gr: Any, pool: Any, pools: Sequence[Pool], settings: Settings) -> None:
    """Fits the settings to the chosen pool."""
    has_bank = {choice.label: _has_bank(choice) for choice in pools}
    columns = {choice.label: column_names(choice) for choice in pools}
    pool.change(
        lambda label: (
            gr.update(visible=has_bank.get(str(label), False)),
            gr.update(info=columns.get(str(label))),
        ),
        pool,
        [settings.bank, settings.where],
        preprocess=False,
        api_visibility="private",
    )


def _has_bank(pool: Pool) -> bool:
    return pool.index.config["query_bank"] is not None


def column_names(pool: Pool) -> str:
    """The columns of a pool that a condition can use, in one line."""
    kinds = pool.index.config.get("columns") or {}  # an index of an earlier version does not name them
    columns = [f"{name} ({kind})" for name, kind in kinds.items()]
    return f"Columns: {', '.join(columns[:MAX_COLUMNS])}{', ...' if len(columns) > MAX_COLUMNS else ''}"


def launch(page: "gradio.Blocks", host: str | None = None, port: int | None = None, block: bool = True) -> str:
    """Serves a page.

    Args:
        page: from [`build_page`].
        host (`str`, *optional*): address to listen on. Default: this machine only.
        port (`int`, *optional*): port. Default: the first free one from 7860.
        block (`bool`, defaults to `True`): wait until the server stops. Otherwise return when it has started.

    Returns:
        `str`: address of the page.
    """
    from starlette.middleware import Middleware

    gr = import_gradio()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        state_session_capacity=SESSIONS,
        max_file_size=1,
        app_kwargs={"middleware": [Middleware(RequestGuard, calls=Calls.of(page))]},
        theme=theme,
        css=CARD_STYLE + PAGE_STYLE + sketcher.STYLE,
        prevent_thread_lock=not block,
        quiet=not block,
    )
    return address


def import_gradio() -> ModuleType:
    """Imports Gradio.

    Raises:
        ImportError: If it is not installed. The message names the extra to install.
    """
    if find_spec("gradio") is None:
        raise ImportError('the page needs Gradio: pip install "class-hf[app]"')
    import gradio

    return gradio
