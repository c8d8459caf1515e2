"""What the cards say of the pairs: where they come from, and under which licence."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from class_hf.data.demo.dataset import DEMO_DESCRIPTION

_CHEBI20 = (
    "ChEBI-20 (Edwards et al., Text2Mol, EMNLP 2021): molecules of PubChem with descriptions from ChEBI. ChEBI is "
    "under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/) and asks to be named; no licence of "
    "ChEBI-20 as a set is known here. The captions are in English and follow ChEBI's style; natural products and "
    "lipids are frequent, and most of chemistry is absent."
)
_DEMO = (
    "The demo set of `class_hf`: real molecules of the NCI set that RDKit ships (BSD-3-Clause), with **synthetic** "
    "captions that rules made from the structures (Apache-2.0). Nobody wrote them, and no number on them says "
    "anything about a real data set."
)


class DataSource(NamedTuple):
    """`id` for metadata, `license` as the Hub spells it, `text` for a card."""

    id: str
    license: str
    text: str


def data_source(name: str, *, synthetic: bool = False) -> DataSource:
    """What is known of a data set by its name.

    Args:
        name: of a folder or of a data set of the Hub; one with `chebi` in it is ChEBI-20.
        synthetic: it is the embedded demo set.

    >>> data_source("chebi20").license, data_source("my pairs").id
    ('cc-by-4.0', 'my-pairs')
    """
    plain = re.sub(r"[^\w./-]+", "-", name)
    if synthetic:
        return DataSource(plain, "apache-2.0", _DEMO)
    if "chebi" in name.lower():
        return DataSource(plain, "cc-by-4.0", _CHEBI20)
    return DataSource(plain, "unknown", f"{name}. Its licence is not known here: see where the pairs come from.")


def card_fields(train: Dataset, dataset_name: str | None = None, data_dir: str | None = None) -> dict[str, Any]:
    """The fields of a model card that name the training data.

    Args:
        train: the training pairs.
        dataset_name: *optional*, their Hub id.
        data_dir: *optional*, their folder or file. Default: ChEBI-20 from its authors.

    Returns:
        `dataset`, and `synthetic` for the demo set.
    """
    if DEMO_DESCRIPTION in (train.info.description or ""):
        return {"dataset": "class_hf demo", "synthetic": True}
    return {"dataset": dataset_name or (Path(data_dir).resolve().name if data_dir else "ChEBI-20")}
