"""Loads pairs from one source: a folder, a file, the Hub, or the demo set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from datasets import DatasetDict, load_from_disk

from class_hf.data.demo.dataset import load_demo
from class_hf.data.loading import load_chebi20
from class_hf.data.scored import load_scored
from class_hf.data.training_files import FileNames
from class_hf.data.validation import LoadReport


def load_data(
    data_dir: str | None,
    dataset_name: str | None = None,
    demo: bool = False,
    on_error: Literal["raise", "drop"] = "raise",
    column_mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    extra_train: FileNames = None,
    replace_captions: FileNames = None,
) -> tuple[DatasetDict, LoadReport | None]:
    """Loads pairs from one source. Without a source, ChEBI-20 is downloaded from its authors' repository.

    Args:
        data_dir (`str`, *optional*): a folder or file that [`load_chebi20`] reads, or the output folder of
            `class-hf score`.
        dataset_name (`str`, *optional*): Hub id of plain pairs, or of a data set that `class-hf push --dataset`
            pushed.
        demo (`bool`, *optional*, defaults to `False`): load the demo set.
        on_error (`str`, *optional*, defaults to `"raise"`): `"raise"` at unusable rows, or `"drop"` them.
        column_mapping (`dict`, *optional*): column of the source to `"id"`, `"smiles"`, `"description"`, `"split"` or
            `"keep"`.
        encoding (`str`, *optional*): encoding of text files. Default: UTF-8.
        extra_train, replace_captions (*optional*): files that change the training split, see [`load_chebi20`].

    Returns:
        The splits of pairs and `pool`; and the [`LoadReport`], or None if the source was checked when it was written.

    Raises:
        ValueError: if several sources are named, `dataset_name` is a folder or file, or as [`load_chebi20`].
    """
    if sum((data_dir is not None, dataset_name is not None, demo)) > 1:
        raise ValueError("several data sources are named; pass only one of --data_dir, --dataset_name and --demo.")
    options = {
        "column_mapping": column_mapping,
        "encoding": encoding,
        "extra_train": extra_train,
        "replace_captions": replace_captions,
    }
    named = [name for name, value in options.items() if value]
    if demo:
        _refuse_options(named, "the demo set")
        return load_demo(), None
    if data_dir == "":
        raise ValueError("--data_dir is empty; expected a folder or a file with pairs.")
    if data_dir is not None:
        for folder in (Path(data_dir), Path(data_dir) / "dataset"):
            if (folder / "dataset_dict.json").is_file():
                _refuse_options(named, f"{str(folder)!r}, which holds a prepared data set")
                return load_from_disk(str(folder)), None
    if dataset_name is not None and Path(dataset_name).exists():
        raise ValueError(
            f"--dataset_name is {dataset_name!r}, but a folder or file of this name is here, and would be read "
            "in place of the data set of the Hub. Read it with --data_dir, or run the command in another folder."
        )
    scored = load_scored(dataset_name) if dataset_name is not None else None
    if scored is not None:
        _refuse_options(named, f"{dataset_name!r}, which is a scored data set")
        return scored, None
    source = data_dir if data_dir is not None else dataset_name
    return load_chebi20(
        source,
        on_error=on_error,
        column_mapping=column_mapping,
        return_report=True,
        encoding=encoding,
        extra_train=extra_train,
        replace_captions=replace_captions,
    )


def _refuse_options(names: list[str], source: str) -> None:
    """Refuses options of table files for another source, because they would have no effect."""
    if names:
        raise ValueError(
            f"{' and '.join(names)} cannot be used with {source}: its columns and pairs are fixed. Leave them out."
        )
