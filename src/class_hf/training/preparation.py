"""The pairs and candidates of a run: loaded, and encoded once before training."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from datasets import Dataset, DatasetDict
from transformers import TrainingArguments

from class_hf.data.demo.dataset import DEMO_DESCRIPTION
from class_hf.data.frozen_towers import cache_frozen
from class_hf.data.keep import drop_marked
from class_hf.data.prepare import prepare_molecules, prepare_pairs
from class_hf.data.source import load_data
from class_hf.data.training_files import FileNames
from class_hf.data.validation import LoadReport
from class_hf.training.launch import print_once
from class_hf.utils.protocols import Processor


def load_splits(
    args: TrainingArguments,
    data_dir: str | None = None,
    dataset_name: str | None = None,
    demo: bool = False,
    on_error: Literal["raise", "drop"] = "raise",
    max_train_pairs: int | None = None,
    drop_suspects: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    extra_train: FileNames = None,
    replace_captions: FileNames = None,
) -> tuple[DatasetDict, LoadReport | None]:
    """Loads the pairs of a run on the main process first, and prints their numbers.

    Args:
        args: the arguments of the run.
        data_dir, dataset_name, demo, on_error: see [`~class_hf.data.source.load_data`].
        column_mapping, encoding, extra_train, replace_captions: see [`~class_hf.data.source.load_data`].
        drop_suspects: *optional*, a table of suspects, see [`~class_hf.data.keep.drop_marked`].
        max_train_pairs: *optional*, keep only the first training pairs. Default: all.

    Returns:
        The pairs by split with the candidates as `pool`, and the report of the loader, if there is one.

    Raises:
        ValueError: if a split is missing, or the loader refuses the data.
    """
    with args.main_process_first(desc="loading the data"):
        data, report = load_data(
            data_dir, dataset_name, demo, on_error, column_mapping, encoding, extra_train, replace_captions
        )
    missing = [name for name in ("train", "validation", "pool") if name not in data]
    if missing:
        raise ValueError(f"the data has no {missing}; it has {sorted(data)}. Training needs train and validation.")
    if drop_suspects is not None:
        pairs = len(data["train"])
        data["train"] = drop_marked(data["train"], drop_suspects)
        print_once(args, f"{pairs - len(data['train']):,} of {pairs:,} training pairs left out by {drop_suspects}")
    if max_train_pairs is not None:
        data["train"] = data["train"].select(range(min(max_train_pairs, len(data["train"]))))
    sizes = [len(data[name]) for name in ("train", "validation", "pool")]
    print_once(args, "{:,} training pairs, {:,} validation pairs, {:,} candidates".format(*sizes))
    if report is not None:
        print_once(args, str(report))
    if DEMO_DESCRIPTION in (data["train"].info.description or ""):
        print_once(args, DEMO_DESCRIPTION)
    return data, report


def prepare_splits(
    data: Mapping[str, Dataset],
    model: Any,
    processor: Processor,
    args: TrainingArguments,
    *,
    num_proc: int | None = None,
    captions_vary: bool = False,
) -> tuple[dict[str, Dataset], Dataset, float]:
    """Encodes captions and molecules, and runs frozen towers once.

    Args:
        data: pairs by split, and the candidate molecules as `pool`.
        model: the model to train. Its configuration says which towers are frozen.
        processor: its processor.
        args: the arguments of the run.
        num_proc: *optional*, processes that encode.
        captions_vary: *optional*, defaults to False; True if captions change during training (sentence dropout). A
            frozen text tower then runs in each step.

    Returns:
        The prepared pairs by split, the prepared candidates, and the seconds that encoding took.
    """
    with args.main_process_first(desc="preparing the data"):
        started = time.perf_counter()
        prepared = {split: prepare_pairs(data[split], processor, num_proc) for split in data if split != "pool"}
        pool = prepare_molecules(data["pool"], processor, num_proc)
        preparation_seconds = time.perf_counter() - started
    for side in ("text", "molecule"):
        if not getattr(model.config, f"freeze_{side}", False):
            continue
        if side == "text" and captions_vary:
            print_once(args, "the frozen text tower runs in each step, because sentence_dropout changes the captions")
            continue
        with args.main_process_first(desc=f"encoding {side}s once"):
            started = time.perf_counter()
            encode = partial(cache_frozen, model=model, processor=processor, side=side, device=args.device)
            prepared = {split: encode(pairs) for split, pairs in prepared.items()}
            if side == "molecule":
                pool = encode(pool)
            seconds = time.perf_counter() - started
            print_once(args, f"the frozen {side} tower ran once over all {side}s, in {seconds:.1f} s")
    return prepared, pool, preparation_seconds
