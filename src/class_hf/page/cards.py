"""Hits as HTML: drawn molecules in a grid of cards.

All text from users and tables is escaped. Drawings are in `<img>`, where nothing in an SVG can run.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np
from rdkit import Chem
from rdkit.Chem import Descriptors, rdMolDescriptors
from rdkit.Chem.Draw import rdMolDraw2D

from class_hf.models.smiles import parse_smiles
from class_hf.page.style import RAISED_COLOUR
from class_hf.search.printing import format_value
from class_hf.search.query import Hit
from class_hf.search.results import render_hits

# The layout of a chain of 300 atoms in small rings takes seconds.
MAX_DRAWN_ATOMS = 150
_SIZE = (320, 220)
_FOLDED_LENGTH = 150
_NAME_COLUMNS = ("name", "title", "preferred_name", "iupac_name")
# A smaller contribution than this is not drawn in the strongest colour, even if it is the largest.
_SMALLEST_SCALE = 0.02


@dataclass(frozen=True)
class CardOptions:
    """What cards show besides the molecule.

    Attributes:
        id_url (`str`, *optional*): address that an id links to, with `{id}` in it. Without it ids are not links.
        link_pubchem (`bool`, defaults to `False`): whether each molecule links to PubChem.
        show_captions (`bool`, defaults to `False`): whether the hits are captions. They are in a list, each next to
            its molecule.
        query (`str`, *optional*): the query. With it, the hits can be saved as files.
        link (`str`, *optional*): address of the search, as the part after #.
        columns (`tuple`, *optional*): columns of the indexed table that a card shows, such as those of a condition.
    """

    id_url: str | None = None
    link_pubchem: bool = False
    show_captions: bool = False
    query: str | None = None
    link: str | None = None
    columns: tuple[str, ...] = ()


def molecule_svg(smiles: str, contributions: np.ndarray | None = None, size: tuple[int, int] = _SIZE) -> str:
    """Draws a molecule as SVG on white.

    Args:
        smiles (`str`): the molecule.
        contributions (`np.ndarray` (N,), *optional*): contribution of each atom to a score. Atoms with positive
            contributions are green. The largest contribution has the strongest colour.
        size (`tuple`, defaults to `(320, 220)`): width and height in pixels.

    Raises:
        ValueError: If RDKit cannot parse the SMILES, or the molecule has more than `MAX_DRAWN_ATOMS` atoms.

    >>> molecule_svg("CCO").startswith("<?xml")
    True
    """
    molecule = parse_smiles(smiles)
    if molecule.GetNumAtoms() > MAX_DRAWN_ATOMS:
        raise ValueError(f"{molecule.GetNumAtoms()} atoms are too many to draw; the limit is {MAX_DRAWN_ATOMS}.")
    canvas = rdMolDraw2D.MolDraw2DSVG(*size)
    options: Any = canvas.drawOptions()
    options.addStereoAnnotation = False
    options.fixedBondLength = 28
    shades = {} if contributions is None else _shades(contributions)
    bonds = [bond for bond in molecule.GetBonds() if {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} <= shades.keys()]
    bond_shades = {bond.GetIdx(): min(shades[bond.GetBeginAtomIdx()], shades[bond.GetEndAtomIdx()]) for bond in bonds}
    rdMolDraw2D.PrepareAndDrawMolecule(
        canvas,
        molecule,
        highlightAtoms=list(shades),
        highlightAtomColors={atom: _colour(shade) for atom, shade in shades.items()},
        highlightBonds=list(bond_shades),
        highlightBondColors={bond: _colour(shade) for bond, shade in bond_shades.items()},
    )
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def _shades(contributions: np.ndarray) -> dict[int, float]:
    """For atoms with a positive contribution, its share of the largest one, in (0, 1]."""
    largest = max(float(contributions.max()), _SMALLEST_SCALE)
    return {atom: float(value) / largest for atom, value in enumerate(contributions) if value > 0.05 * largest}


def _colour(shade: float) -> tuple[float, float, float]:
    red, green, blue = (1 - shade * (1 - component) for component in RAISED_COLOUR)
    return red, green, blue


def picture(smiles: str, contributions: np.ndarray | None = None) -> str:
    """An `<img>` of a molecule, or a line with the reason why there is none.

    >>> picture("C1CC").partition(" the SMILES")[0]
    '<div class="undrawn">RDKit cannot parse'
    """
    try:
        svg = molecule_svg(smiles, contributions)
    except ValueError as error:
        return f'<div class="undrawn">{escape(_shorten(str(error), 120))}</div>'
    return f'<img alt="structure of {escape(_shorten(smiles, 200))}" src="{_data_url("image/svg+xml", svg.encode())}">'


def drawn_molecule(smiles: str) -> str:
    """One molecule with its formula and weight."""
    molecule = parse_smiles(smiles)
    return f'<div class="drawn">{picture(smiles)}<div class="note">{_facts(molecule)}</div></div>'


def hit_cards(
    hits: Sequence[Hit],
    contributions: Sequence[np.ndarray | None] | None = None,
    *,
    options: CardOptions | None = None,
    note: str = "",
) -> str:
    """The hits as a grid of cards.

    Args:
        hits: in the order of their ranks.
        contributions (list, *optional*): contributions of each hit's atoms. None for a hit without them.
        options (`CardOptions`, *optional*): what the cards show.
        note (`str`, *optional*): a line above the cards.

    Returns:
        `str`: HTML.
    """
    options = options or CardOptions()
    coloured = contributions or [None] * len(hits)
    cards = "".join(_card(hit, shades, options) for hit, shades in zip(hits, coloured, strict=True))
    parts = [escape(note)] if note else []
    if any(shades is not None for shades in coloured):
        parts.append('<span class="raised"></span> atoms that raised the score')
    if options.query is not None:
        parts.append(_save_links(options.query, hits))
    if options.link is not None:
        parts.append(f'<a class="save link" href="{escape(options.link)}">Link to this search</a>')
    line = f'<p class="note">{" ".join(parts)}</p>' if parts else ""
    return f'{line}<div class="hits{" captions" if options.show_captions else ""}">{cards}</div>'


def message(text: str, is_error: bool = False) -> str:
    """A message in place of results.

    >>> message("k is <0>", is_error=True)
    '<div class="message error" role="alert">k is &lt;0&gt;</div>'
    """
    return f'<div class="message{" error" if is_error else ""}" role="alert">{escape(text)}</div>'


def is_error(html: str) -> bool:
    """Whether HTML is an error from [`message`]."""
    return html.startswith('<div class="message error"')


def _save_links(query: str, hits: Sequence[Hit]) -> str:
    """Links that save the hits. They carry the files, so that the server keeps none."""
    links = []
    for suffix, media_type in ((".csv", "text/csv"), (".sdf", "chemical/x-mdl-sdfile")):
        url = _data_url(media_type, render_hits(suffix, [query], [hits]))
        links.append(f'<a class="save" download="hits{suffix}" href="{url}">Save as {suffix[1:].upper()}</a>')
    return " ".join(links)


def _card(hit: Hit, contributions: np.ndarray | None, options: CardOptions) -> str:
    name = next((str(hit.fields[column]) for column in _NAME_COLUMNS if hit.fields.get(column)), "")
    caption = " ".join(str(hit.fields.get("description") or "").split())
    shown_id = escape(_shorten(hit.id, 40))
    if options.id_url is not None:
        shown_id = _link(options.id_url.replace("{id}", quote(hit.id, safe="")), shown_id)
    try:
        molecule = parse_smiles(hit.smiles)
    except ValueError:
        facts, pubchem = "", ""
    else:
        facts, pubchem = _facts(molecule), _pubchem_link(molecule) if options.link_pubchem else ""
    values = [
        f"{escape(_shorten(name, 40))}:&nbsp;{escape(_shorten(format_value(hit.fields[name]), 80))}"
        for name in options.columns
        if name in hit.fields and name != "description"
    ]
    lines = [
        f'<div class="head"><span>{hit.rank}. {escape(_shorten(name, 80)) or shown_id}</span>'
        f'<span class="score" title="cosine of query and result">{hit.score:.3f}</span></div>',
        f'<div class="plain">{" · ".join(filter(None, [shown_id if name else "", facts, pubchem, *values]))}</div>',
        f'<div class="caption">{_folded(caption, _FOLDED_LENGTH)}</div>' if caption else "",
        "" if options.show_captions else f'<div class="smiles">{_folded(hit.smiles, 90)}</div>',
    ]
    drawing = f'<div class="picture">{picture(hit.smiles, contributions)}</div>'
    return f'<article class="hit">{drawing}<div class="text">{"".join(lines)}</div></article>'


def _pubchem_link(molecule: Chem.Mol) -> str:
    key = Chem.MolToInchiKey(molecule)  # empty where InChI has none, for instance for wildcards
    return _link(f"https://pubchem.ncbi.nlm.nih.gov/#query={key}", "PubChem") if key else ""


def _facts(molecule: Chem.Mol) -> str:
    """Formula and weight. The counts in the formula are subscripts."""
    formula = escape(rdMolDescriptors.CalcMolFormula(molecule))
    formula, _, charge = re.sub(r"([+-]\d*)$", r" \1", formula).partition(" ")
    formula = re.sub(r"(?<=[A-Za-z)\]])(\d+)", r"<sub>\1</sub>", formula) + (f"<sup>{charge}</sup>" if charge else "")
    return f"<span>{formula} · {Descriptors.MolWt(molecule):.1f} Da</span>"  # type: ignore[attr-defined]


def _folded(text: str, length: int) -> str:
    """The text. A long one is folded, and opens with a click."""
    if len(text) <= length:
        return escape(text)
    return f"<details><summary>{escape(text[:length].rstrip())}… <b>more</b></summary>{escape(text)}</details>"


def _link(url: str, content: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{content}</a>'


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
