"""Writes suspects for review: a table to edit, an SDF, and a page of pictures."""

import base64
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from datasets import Dataset
from rdkit.Chem.Draw import rdMolDraw2D

from class_hf.data.smiles import read_smiles
from class_hf.difficulty.suspects import Suspects
from class_hf.search.results import MAX_LAYOUT_ATOMS, format_sdf
from class_hf.utils.column_names import WRONG_PROBABILITY
from class_hf.utils.spreadsheets import format_csv

COLUMNS = (
    "keep",
    "rank",
    "id",
    WRONG_PROBABILITY,
    "expected_precision",
    "kind",
    "description",
    "smiles",
    "better_molecules",
    "better_captions",
)
# A page with more pictures loads slowly.
MAX_PICTURES = 200
_MAX_TEXT = 600

_STYLE = """body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem;color:#1d2328}
article{border-top:1px solid #ccd3d9;padding:1rem 0}h2{font-size:1.05rem;margin:0 0 .5rem}
.own,.others{display:flex;flex-wrap:wrap;gap:1rem}.own p{flex:1 1 20rem;margin:0}
figure{margin:0;max-width:15rem}figcaption{font-size:.8rem;color:#4a545c;overflow-wrap:anywhere}
img{width:15rem;height:auto;border:1px solid #e3e7ea;background:#fff}summary{cursor:pointer;margin:.6rem 0}
td,th{text-align:right;padding:.1rem .8rem .1rem 0}li{overflow-wrap:anywhere}"""


def suspect_rows(suspects: Suspects, pairs: Dataset) -> Iterator[dict[str, Any]]:
    """One record for each listed suspect, the most suspect first.

    Args:
        suspects: of the pairs.
        pairs: with `id`, `smiles` and `description`, in the order of the suspects.

    Yields:
        The columns of `suspects.csv`, and `row`, the row of the pair.
    """
    total = 0.0
    for place, row in enumerate(suspects.listed.tolist()):
        probability = float(suspects.wrong_probability[row])
        total += probability
        pair = pairs[row]
        yield {
            "keep": "no" if probability > 0.5 else "yes",
            "rank": place + 1,
            "id": pair["id"],
            WRONG_PROBABILITY: round(probability, 4),
            "expected_precision": round(total / (place + 1), 4),
            "kind": suspects.kinds[place],
            "description": pair["description"],
            "smiles": pair["smiles"],
            "better_molecules": " ".join(suspects.ids[other] for other in suspects.better_molecules[place]),
            "better_captions": " ".join(suspects.ids[other] for other in suspects.better_captions[place]),
            "row": row,
        }


def write_suspects(folder: str | Path, suspects: Suspects, pairs: Dataset) -> None:
    """Writes `suspects.csv`, `suspects.sdf` and `review.html` into a folder.

    Args:
        folder: an existing folder.
        suspects: of the pairs.
        pairs: with `id`, `smiles` and `description`, in the order of the suspects.
    """
    folder = Path(folder)
    records = list(suspect_rows(suspects, pairs))
    cells = ([record[name] for name in COLUMNS] for record in records)
    (folder / "suspects.csv").write_text(format_csv(COLUMNS, cells), encoding="utf-8", newline="")
    (folder / "suspects.sdf").write_bytes(format_sdf(COLUMNS, records))
    (folder / "review.html").write_text(review_page(records, suspects, pairs), encoding="utf-8")


def review_page(records: list[dict[str, Any]], suspects: Suspects, pairs: Dataset) -> str:
    """A page with the first suspects: structure, caption, and what fits better. It loads nothing from other hosts.

    Args:
        records: of [`suspect_rows`].
        suspects: of the pairs.
        pairs: with `id`, `smiles` and `description`, in the order of the suspects.

    Returns:
        HTML. All text of the data is escaped, and pictures are in `<img>`, where an SVG cannot run code.
    """
    shown = records[:MAX_PICTURES]
    parts = [_article(record, suspects, pairs, place) for place, record in enumerate(shown)]
    listed = f"The first {len(shown):,} of {len(records):,} listed suspects:" if shown else "No pair is suspect."
    depths = [depth for depth in (10, 50, 100, 500, 1000) if depth < len(suspects.ids)]
    table = "".join(f"<tr><td>{depth:,}</td><td>{suspects.precision_at(depth):.0%}</td></tr>" for depth in depths)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Suspect pairs</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src 'unsafe-inline'\"><style>{_STYLE}</style></head><body><h1>Suspect pairs</h1>"
        f"<p>{escape(str(suspects))}.</p><p>Set the column <code>keep</code> of suspects.csv to no or yes, and pass "
        "the file as <code>--drop_suspects</code> to class-hf train or class-hf score.</p>"
        f"<table><tr><th>first suspects</th><th>expected to be wrong</th></tr>{table}</table>"
        f"<p>{listed}</p>{''.join(parts)}</body></html>\n"
    )


def _article(record: dict[str, Any], suspects: Suspects, pairs: Dataset, place: int) -> str:
    """The part of the page for one suspect."""
    molecules = pairs.select(suspects.better_molecules[place].tolist())
    captions = pairs.select(suspects.better_captions[place].tolist())
    others = "".join(_figure(pair["smiles"], pair["id"]) for pair in molecules)
    texts = "".join(f"<li>{escape(pair['id'])}: {escape(_shorten(pair['description']))}</li>" for pair in captions)
    return (
        f"<article><h2>{record['rank']}. {escape(record['id'])}: {record['wrong_probability']:.0%} likely wrong, "
        f"{escape(record['kind'])}</h2><div class=own>{_figure(record['smiles'], record['id'])}"
        f"<p>{escape(_shorten(record['description']))}</p></div><details><summary>What fits better</summary>"
        f"<p>Molecules that fit the caption:</p><div class=others>{others}</div>"
        f"<p>Captions that fit the molecule:</p><ul>{texts}</ul></details></article>"
    )


def _figure(smiles: str, name: str) -> str:
    """A picture of a molecule with its id, or its SMILES if it is too large to draw."""
    molecule, _ = read_smiles(smiles)
    caption = f"<figcaption>{escape(name)}</figcaption>"
    if molecule is None or molecule.GetNumAtoms() > MAX_LAYOUT_ATOMS:
        return f"<figure><code>{escape(_shorten(smiles))}</code>{caption}</figure>"
    canvas = rdMolDraw2D.MolDraw2DSVG(280, 200)
    options: Any = canvas.drawOptions()
    options.fixedBondLength = 26
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    data = base64.b64encode(canvas.GetDrawingText().encode()).decode()
    alt = escape(f"structure of {_shorten(smiles)}")
    return f'<figure><img loading=lazy alt="{alt}" src="data:image/svg+xml;base64,{data}">{caption}</figure>'


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 4]} ..."
