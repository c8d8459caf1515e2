"""The answers of the page: functions from the values of its fields to HTML."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from class_hf.evaluation.explain import MAX_ATOMS, atom_contributions
from class_hf.hub.loading import load_model
from class_hf.models.chemical_names import OpsinError
from class_hf.models.smiles import parse_smiles
from class_hf.page.cards import CardOptions, drawn_molecule, hit_cards, message
from class_hf.page.links import fragment
from class_hf.search.index import MoleculeIndex
from class_hf.search.query import MAX_SMILES, MAX_TEXT, Hit, MoleculeFilter, check_notation, check_string
from class_hf.search.substructure import check_smiles
from class_hf.utils.protocols import Processor, RetrievalModel

MAX_RESULTS = 50
# Seconds for the substructure of a query.
TIME_LIMIT = 10.0
# What a molecule can be asked for.
CAPTIONS, SIMILAR = "captions", "similar molecules"
# Names of the filters, in the order of the page's fields.
FILTERS = ("min_weight", "max_weight", "elements", "substructure", "ignore_stereo", "where")


@dataclass(frozen=True)
class Pool:
    """An index with its model, as the page offers it.

    Attributes:
        label (`str`): its name on the page.
        index (`MoleculeIndex`): the index.
        model (`RetrievalModel`): the model of the index.
        processor (`Processor`): the processor of the model.
        id_url (`str`, *optional*): address that an id links to, with `{id}` in it.
        link_pubchem (`bool`, defaults to `False`): whether each molecule links to PubChem. The link has its InChIKey,
            which tells PubChem the compound when it is followed.
    """

    label: str
    index: MoleculeIndex
    model: RetrievalModel
    processor: Processor
    id_url: str | None
    link_pubchem: bool = False


def open_pools(
    locations: Sequence[str], model: str | None, urls: Sequence[str | None], link_pubchem: bool = False
) -> list[Pool]:
    """Opens indexes. A model that several indexes name is loaded once.

    Args:
        locations (list of `str`): folders or URLs of indexes.
        model (`str`, *optional*): the model of all indexes. Default: the model that each index names.
        urls (list of `str`): `id_url` of each index.
        link_pubchem (`bool`, defaults to `False`): As in [`Pool`].

    Raises:
        ValueError: If an index cannot be opened, or its model cannot be found.
    """
    loaded: dict[tuple[str, str | None], tuple[RetrievalModel, Processor]] = {}
    pools: list[Pool] = []
    for location, url in zip(locations, urls, strict=True):
        with MoleculeIndex.load(location) as opened:
            name, revision = (model, None) if model else (opened.config["model"], opened.config["revision"])
        if name is None:
            raise ValueError(f"the index {location!r} does not name its model; name it with --model.")
        if (name, revision) not in loaded:
            loaded[name, revision] = load_model(name, revision)
        index = MoleculeIndex.load(location, *loaded[name, revision])
        label = f"{Path(location).name}: {len(index):,} molecules by {Path(name).name}"
        if any(pool.label == label for pool in pools):
            label += f" ({location})"
        pools.append(Pool(label, index, *loaded[name, revision], url, link_pubchem))
    return pools


def report_user_errors(answer: Callable[..., str]) -> Callable[..., str]:
    """Shows errors that a user can cause on the page. Gradio logs all others and shows "Error"."""

    @wraps(answer)
    def reporting(*values: Any) -> str:
        try:
            return answer(*values)
        except (ValueError, TimeoutError, ImportError, OpsinError) as error:
            return message(str(error), is_error=True)

    return reporting


def build_answers(pools: Sequence[Pool]) -> dict[str, Callable[..., str]]:
    """The functions behind the page's buttons.

    Args:
        pools: the pools to choose from.

    Returns:
        `dict`: `find` (molecules for a text), `from_molecule` (captions or molecules for a molecule) and `show` (a
        drawing of a molecule). Each takes the values of the page's fields and returns HTML.
    """
    by_label = {pool.label: pool for pool in pools}

    def link_of(label: str, k: Any, filter_values: Sequence[Any]) -> dict[str, Any]:
        """The fields of a link that all searches share."""
        chosen = dict(zip(FILTERS, filter_values, strict=False))
        return {
            "pool": label if len(pools) > 1 else None,
            "k": k,
            **chosen,
            "max_weight": chosen.get("max_weight") or None,
        }

    def pool_of(label: Any) -> Pool:
        if not isinstance(label, str) or label not in by_label:
            raise ValueError("this model and pool do not exist; choose one from the list.")
        return by_label[label]

    @report_user_errors
    def find(label, text, k, colour, bank, *filter_values):
        pool = pool_of(label)
        if is_empty(text):
            raise ValueError("the description is empty; describe the molecule in words, or take an example.")
        has_bank = pool.index.config["query_bank"] is not None
        filters = read_filters(*filter_values)
        hits = pool.index.search(
            text, k=number_of_results(k), filters=filters, query_bank=bool(bank) if has_bank else None
        )
        text = check_string(text, "text", MAX_TEXT, "")
        scores = "cosines minus query-bank penalties" if has_bank and bank else "cosines"
        link = link_of(label, k, filter_values) | {"text": text, "bank": "0" if has_bank and not bank else None}
        scores = f"Scores are {scores}."
        return show_hits(pool, text, hits, colour, {"text": text}, scores, fragment(link), filters.columns)

    @report_user_errors
    def from_molecule(label, smiles, wanted, k, colour, *filter_values):
        pool = pool_of(label)
        if is_empty(smiles):
            raise ValueError("there is no molecule; paste a SMILES, draw a molecule, or take an example.")
        if wanted not in (CAPTIONS, SIMILAR):
            raise ValueError(f"find is {str(wanted)[:60]!r}; expected {CAPTIONS!r} or {SIMILAR!r}.")
        if wanted == SIMILAR:
            filters = read_filters(*filter_values)
            hits = pool.index.search(smiles=smiles, k=number_of_results(k), filters=filters)
            asked = smiles.strip()
            link = link_of(label, k, filter_values) | {"smiles": asked, "find": SIMILAR}
            scores = "Scores are cosines."
            return show_hits(pool, asked, hits, colour, {"like": asked}, scores, fragment(link), filters.columns)
        hits = pool.index.search_captions(smiles, number_of_results(k))
        note = f"{len(hits)} of {pool.index.config['captions']:,} captions. Each is next to its molecule."
        link = link_of(label, k, ()) | {"smiles": smiles.strip()}
        options = CardOptions(pool.id_url, pool.link_pubchem, show_captions=True, link=fragment(link))
        return hit_cards(hits, options=options, note=note)

    @report_user_errors
    def show(smiles):
        if is_empty(smiles):
            return ""
        smiles = check_notation(smiles, "smiles", MAX_SMILES, "a SMILES")
        check_smiles([smiles])
        return drawn_molecule(smiles)

    return {"find": find, "from_molecule": from_molecule, "show": show}


def show_hits(
    pool: Pool,
    asked: str,
    hits: Sequence[Hit],
    colour: Any,
    query: dict[str, str],
    scores: str,
    link: str,
    columns: tuple[str, ...],
) -> str:
    """Hits as cards with the values of `columns`, and links to the search and to files of the hits."""
    if not hits:
        return message("No molecule passes the filters. Loosen them and search again.")
    contributions = contributions_of(pool, hits, **query) if colour else None
    options = CardOptions(pool.id_url, pool.link_pubchem, query=asked, link=link, columns=columns)
    return hit_cards(
        hits, contributions, options=options, note=f"{len(hits)} of {len(pool.index):,} molecules. {scores}"
    )


def contributions_of(pool: Pool, hits: Sequence[Hit], **query: Any) -> list[np.ndarray | None]:
    """The contributions of each hit's atoms to its score. None for a molecule with too many atoms."""
    small = [hit.smiles for hit in hits if parse_smiles(hit.smiles).GetNumAtoms() <= MAX_ATOMS]
    by_smiles = dict(zip(small, atom_contributions(pool.model, pool.processor, small, **query), strict=True))
    return [by_smiles.get(hit.smiles) for hit in hits]


def number_of_results(k: Any) -> int:
    """Checks the number of results.

    >>> number_of_results(0)
    Traceback (most recent call last):
    ValueError: the number of results is 0; expected 1 to 50.
    """
    if not isinstance(k, int | float) or not 1 <= k <= MAX_RESULTS:
        raise ValueError(f"the number of results is {str(k)[:60]}; expected 1 to {MAX_RESULTS}.")
    return int(k)


def is_empty(text: Any) -> bool:
    """Whether a field is empty.

    >>> is_empty(None), is_empty("  "), is_empty("CCO")
    (True, True, False)
    """
    return text is None or (isinstance(text, str) and not text.strip())


def read_filters(
    min_weight: Any, max_weight: Any, elements: Any, smarts: Any, ignore_stereo: Any, where: Any
) -> MoleculeFilter:
    """The filters from the fields of the page. An empty field is no condition."""
    if not is_empty(elements) and not isinstance(elements, str):
        raise ValueError("elements is not a text; expected symbols such as N, Cl.")
    return MoleculeFilter(
        min_weight=min_weight,
        max_weight=max_weight or None,  # an untouched field has the value 0
        elements=None if is_empty(elements) else elements,
        substructure=None if is_empty(smarts) else smarts,
        time_limit=TIME_LIMIT,
        use_stereo=not ignore_stereo,
        where=None if is_empty(where) else where,
    )
