"""What the cards say about the pairs: their source and their licence."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from class_hf.data.demo.dataset import DEMO_DESCRIPTION
from class_hf.hub.card_text import hub_ids, plain

_CHEBI20 = (
    "ChEBI-20 (Edwards et al., Text2Mol, EMNLP 2021): molecules of PubChem with descriptions from ChEBI. ChEBI has "
    "the licence [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), which requires attribution. The authors "
    "of ChEBI-20 state no licence of the collection. The captions are English, in the style of ChEBI. Natural "
    "products and lipids are frequent; most of chemistry is absent."
)
_DEMO = (
    "The demo set of `class_hf`: real molecules of the NCI set that RDKit contains (BSD-3-Clause), with **synthetic** "
    "captions that rules made from the structures (Apache-2.0). Results on it do not transfer to real data."
)


class DataSource(NamedTuple):
    """The source of pairs.

    Attributes:
        id: name without characters that metadata forbids.
        license: identifier of the licence on the Hub.
        text: Markdown for a card.
    """

    id: str
    license: str
    text: str


def data_source(*names: str, synthetic: bool = False) -> DataSource:
    """Describes data sets by their names.

    Args:
        *names (`str`): names of folders, of files, or of data sets on the Hub. A name with `chebi` is ChEBI-20.
        synthetic (`bool`, *optional*, defaults to `False`): whether it is the embedded demo set.

    Returns:
        The source. Its licence is `"unknown"` if the data sets have several.

    >>> data_source("chebi20").license, data_source("my pairs").id
    ('cc-by-4.0', 'my-pairs')
    >>> data_source("chebi20", "more.tsv").license
    'unknown'
    """
    identifier = re.sub(r"[^\w./-]+", "-", ", ".join(names)).strip("-./") or "pairs"
    licenses: dict[str, None] = {}
    texts: dict[str, None] = {}
    for name in names:
        license_, text = "unknown", f"{plain(name)}. Its licence is not recorded; see its source."
        if synthetic:
            license_, text = "apache-2.0", _DEMO
        elif "chebi" in name.lower():
            license_, text = "cc-by-4.0", _CHEBI20
        licenses[license_] = texts[text] = None
    return DataSource(identifier, next(iter(licenses)) if len(licenses) == 1 else "unknown", " ".join(texts))


def card_fields(
    train: Dataset, dataset_name: str | None = None, data_dir: str | None = None, files: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the fields of a model card that name the training data.

    Args:
        train (`Dataset`): the training pairs.
        dataset_name (`str`, *optional*): their id on the Hub.
        data_dir (`str`, *optional*): their folder or file, or their id on the Hub. Default: ChEBI-20 from its authors.
            A folder of `class-hf score` has the names of the pairs that were scored.
        files (`Sequence[str]`, *optional*): files of further pairs, or of captions that replaced others.

    Returns:
        `dataset`, the name of the data set; `training_files`, the names of the files if there are any; and
        `synthetic` for the demo set.
    """
    if DEMO_DESCRIPTION in (train.info.description or ""):
        return {"dataset": "class_hf demo", "synthetic": True}
    names = [dataset_name or "ChEBI-20"] if dataset_name or not data_dir else source_names(data_dir)
    name, *further = [*names, *(Path(file).name for file in files)]
    return {"dataset": name, **({"training_files": further} if further else {})}


def source_names(data_dir: str) -> list[str]:
    """The name of a data set, then the names of further files of its training pairs.

    The name is the last part of a path, an id on the Hub, or that of the pairs that were scored. Only scored pairs
    have further files.

    Args:
        data_dir (`str`): a folder or file, or an id on the Hub. A folder or file of that name has priority, as in
            [`load_chebi20`].

    >>> source_names("nobody/pairs"), source_names("../data/chebi20/")
    (['nobody/pairs'], ['chebi20'])
    """
    if not Path(data_dir).expanduser().exists() and hub_ids([data_dir]):
        return [data_dir]
    path = Path(data_dir).expanduser().resolve()
    for folder in (path, path.parent):  # the output of `class-hf score`, or the data set in it
        if (folder / "summary.json").is_file() and (folder / "dataset" / "dataset_dict.json").is_file():
            try:
                source = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["source"]
                return [str(name) for name in (source["name"], *source.get("files", ()))]
            except (ValueError, KeyError, TypeError, AttributeError):  # a damaged record costs the name, not the run
                break
    return [path.name]
