"""Pairs from one source: a folder, a file, the Hub, or the embedded demo."""

from pathlib import Path
from typing import Literal

from datasets import DatasetDict, load_from_disk

from class_hf.data.demo.dataset import load_demo
from class_hf.data.loading import load_chebi20
from class_hf.data.scored import load_scored
from class_hf.data.validation import LoadReport


def load_data(
    data_dir: str | None,
    dataset_name: str | None = None,
    demo: bool = False,
    on_error: Literal["raise", "drop"] = "raise",
) -> tuple[DatasetDict, LoadReport | None]:
    """Pairs by split, and `pool`, from exactly one source; from ChEBI-20's authors if none is named.

    Args:
        data_dir: a folder or file of [`load_chebi20`], or a folder that `recipes/score.py` wrote.
        dataset_name: a Hub id, of plain pairs or of what `recipes/push.py --dataset` pushed.
        demo: the embedded data set.
        on_error: `"raise"` or `"drop"`.

    Returns:
        the data, and what was repaired and dropped; None for sources that were checked before.

    Raises:
        ValueError: if several sources are named, or see [`load_chebi20`].
    """
    if sum((data_dir is not None, dataset_name is not None, demo)) > 1:
        raise ValueError("name one source only: --data_dir, --dataset_name or --demo.")
    if demo:
        return load_demo(), None
    if data_dir is not None:
        for folder in (Path(data_dir), Path(data_dir) / "dataset"):
            if (folder / "dataset_dict.json").is_file():
                return load_from_disk(str(folder)), None
    scored = load_scored(dataset_name) if dataset_name is not None else None
    if scored is not None:
        return scored, None
    source = data_dir if data_dir is not None else dataset_name
    return load_chebi20(source, on_error=on_error, return_report=True)
