"""What a search found, as HTML: drawn molecules in a grid of cards.

Whatever comes from users or tables is escaped, and drawings go into `<img>`, where nothing in an SVG can run.
"""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np
from rdkit import Chem
from rdkit.Chem import Descriptors, rdMolDescriptors
from rdkit.Chem.Draw import rdMolDraw2D

from class_hf.models.feature_extraction_fingerprint import parse_smiles
from class_hf.search.query import Hit

# Laying out a chain of 300 atoms in small rings takes seconds.
MAX_DRAWN_ATOMS = 150
_SIZE = (320, 220)
_CUT = 150
_NAMES = ("name", "title", "preferred_name", "iupac_name")
_RAISED = (0.30, 0.78, 0.45)
# Below this a cosine hardly moved, and the strongest colour would stand for nothing.
_LEAST = 0.02

STYLE = """
.hits { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 235px), 1fr)); gap: 14px; }
.hit { border: 1px solid var(--border-color-primary); border-radius: 10px; overflow: hidden; min-width: 0;
  background: var(--background-fill-primary); display: flex; flex-direction: column; }
.hit img, .drawn img { display: block; width: 100%; background: white; }
.hit .undrawn { background: white; color: #555; padding: 30px 12px; text-align: center; }
.hit .text { padding: 10px 12px 12px; overflow-wrap: anywhere; line-height: 1.4; font-size: 14px; }
.hit .head { display: flex; justify-content: space-between; gap: 8px; font-weight: 600; font-size: 15px; }
.hit .score { font-variant-numeric: tabular-nums; white-space: nowrap; }
.hit .plain { opacity: 0.75; font-size: 13px; }
.hit .smiles { font-family: ui-monospace, monospace; font-size: 12px; opacity: 0.75; }
.hit .caption { margin-top: 6px; }
.hit summary { cursor: pointer; list-style: none; }
.hit summary::-webkit-details-marker { display: none; }
.hit summary b { color: var(--link-text-color); font-weight: 500; }
.hit details[open] summary { display: none; }
.captions { grid-template-columns: minmax(0, 1fr); }
.captions .hit { flex-direction: row; }
.captions .hit > .picture { flex: 0 0 min(34%, 200px); background: white; align-content: center; }
.captions .hit > .text { flex: 1; min-width: 0; }
.drawn img { max-width: 420px; border: 1px solid var(--border-color-primary); border-radius: 10px; }
.note { margin: 0 0 10px; opacity: 0.8; font-size: 14px; overflow-wrap: anywhere; }
.sorry { border-left: 4px solid #d97706; padding: 8px 12px; background: var(--background-fill-secondary);
  border-radius: 6px; overflow-wrap: anywhere; }
.green { display: inline-block; width: 0.9em; height: 0.9em; border-radius: 50%; background: rgb(77, 199, 115);
  vertical-align: -0.1em; }
"""


def molecule_svg(smiles: str, contributions: np.ndarray | None = None, size: tuple[int, int] = _SIZE) -> str:
    """A molecule as SVG on white.

    Args:
        smiles: the molecule.
        contributions: (N,) what each of its atoms contributes to a score. Those above 0 are green, the strongest the
            one that contributes most.
        size: width and height in pixels.

    Raises:
        ValueError: if the SMILES cannot be parsed, or the molecule has more than `MAX_DRAWN_ATOMS` atoms.
    """
    molecule = parse_smiles(smiles)
    if molecule.GetNumAtoms() > MAX_DRAWN_ATOMS:
        raise ValueError(f"{molecule.GetNumAtoms()} atoms are too many to draw; at most {MAX_DRAWN_ATOMS}.")
    canvas = rdMolDraw2D.MolDraw2DSVG(*size)
    options: Any = canvas.drawOptions()
    options.addStereoAnnotation = False
    options.fixedBondLength = 28
    shades = {} if contributions is None else _shades(contributions)
    bonds = [bond for bond in molecule.GetBonds() if {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} <= shades.keys()]
    between = {bond.GetIdx(): min(shades[bond.GetBeginAtomIdx()], shades[bond.GetEndAtomIdx()]) for bond in bonds}
    rdMolDraw2D.PrepareAndDrawMolecule(
        canvas,
        molecule,
        highlightAtoms=list(shades),
        highlightAtomColors={atom: _colour(shade) for atom, shade in shades.items()},
        highlightBonds=list(between),
        highlightBondColors={bond: _colour(shade) for bond, shade in between.items()},
    )
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def _shades(contributions: np.ndarray) -> dict[int, float]:
    """Of the atoms that raised the score, their share of the most that one raised it, in (0, 1]."""
    most = max(float(contributions.max()), _LEAST)
    return {atom: float(one) / most for atom, one in enumerate(contributions) if one > 0.05 * most}


def _colour(shade: float) -> tuple[float, float, float]:
    red, green, blue = (1 - shade * (1 - part) for part in _RAISED)
    return red, green, blue


def picture(smiles: str, contributions: np.ndarray | None = None) -> str:
    """An `<img>` of a molecule, or a line that says why there is none."""
    try:
        svg = molecule_svg(smiles, contributions)
    except ValueError as error:
        return f'<div class="undrawn">{escape(_short(str(error), 120))}</div>'
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="structure of {escape(_short(smiles, 200))}" src="data:image/svg+xml;base64,{data}">'


def drawn(smiles: str) -> str:
    """One molecule with its formula and weight."""
    molecule = parse_smiles(smiles)
    return f'<div class="drawn">{picture(smiles)}<div class="note">{_facts(molecule)}</div></div>'


def cards(
    hits: Sequence[Hit],
    contributions: Sequence[np.ndarray | None] | None = None,
    *,
    id_url: str | None = None,
    captions: bool = False,
    note: str = "",
) -> str:
    """The hits as a grid of cards.

    Args:
        hits: in the order of their ranks.
        contributions: of each hit's atoms; None for a hit without them.
        id_url: where an id leads, with `{id}` in it; ids are not linked without one.
        captions: the hits are captions: they stand in a list, each beside its molecule.
        note: a line above the cards.
    """
    coloured = contributions or [None] * len(hits)
    inside = "".join(_card(hit, shades, id_url, captions) for hit, shades in zip(hits, coloured, strict=True))
    legend = ' <span class="green"></span> atoms that raised the score' if any(c is not None for c in coloured) else ""
    line = f'<p class="note">{escape(note)}{legend}</p>' if note or legend else ""
    return f'{line}<div class="hits{" captions" if captions else ""}">{inside}</div>'


def sorry(message: str) -> str:
    """A message instead of results."""
    return f'<div class="sorry" role="alert">{escape(message)}</div>'


def _card(hit: Hit, contributions: np.ndarray | None, id_url: str | None, captions: bool) -> str:
    name = next((str(hit.fields[key]) for key in _NAMES if hit.fields.get(key)), "")
    described = " ".join(str(hit.fields.get("description") or "").split())
    shown_id = escape(_short(hit.id, 40))
    if id_url is not None:
        shown_id = _link(id_url.replace("{id}", quote(hit.id, safe="")), shown_id)
    try:
        molecule = parse_smiles(hit.smiles)
    except ValueError:
        facts, elsewhere = "", ""
    else:
        facts = _facts(molecule)
        key = Chem.MolToInchiKey(molecule)  # empty where InChI has none, as for wildcards
        elsewhere = _link(f"https://pubchem.ncbi.nlm.nih.gov/#query={key}", "PubChem") if key else ""
    lines = [
        f'<div class="head"><span>{hit.rank}. {escape(_short(name, 80)) or shown_id}</span>'
        f'<span class="score" title="cosine of query and result">{hit.score:.3f}</span></div>',
        f'<div class="plain">{" · ".join(filter(None, [shown_id if name else "", facts, elsewhere]))}</div>',
        _caption(described) if described else "",
        "" if captions else f'<div class="smiles">{_folded(hit.smiles, 90)}</div>',
    ]
    drawing = f'<div class="picture">{picture(hit.smiles, contributions)}</div>'
    return f'<article class="hit">{drawing}<div class="text">{"".join(lines)}</div></article>'


def _facts(molecule: Any) -> str:
    formula = rdMolDescriptors.CalcMolFormula(molecule)
    return f"{escape(formula)} · {Descriptors.MolWt(molecule):.1f} Da"  # type: ignore[attr-defined]


def _caption(text: str) -> str:
    return f'<div class="caption">{_folded(text, _CUT)}</div>'


def _folded(text: str, length: int) -> str:
    """The text; a long one's beginning, which opens into all of it."""
    if len(text) <= length:
        return escape(text)
    return f"<details><summary>{escape(text[:length].rstrip())}… <b>more</b></summary>{escape(text)}</details>"


def _link(url: str, inside: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{inside}</a>'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
