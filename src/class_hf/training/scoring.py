"""Difficulty of a run's pairs: the main process computes or reads it, and all processes receive it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import TrainingArguments

from class_hf.difficulty.scorer import COLUMNS, DIFFICULTY_COLUMNS, DifficultyScorer
from class_hf.training.launch import print_once
from class_hf.utils.column_names import WRONG_PROBABILITY
from class_hf.utils.distributed import world_size
from class_hf.utils.plugins import is_object_path

SPLITS = ("train", "validation")
DIFFICULTY_FILE = "difficulty.npz"


def difficulty_arrays(prepared: Mapping[str, Dataset]) -> dict[str, np.ndarray]:
    """The difficulty columns of all splits that have them.

    Args:
        prepared: pairs by split.

    Returns:
        One array (N,) per column, named `split.column`.

    >>> pairs = Dataset.from_dict({"id": ["a", "b"], "difficulty": [0.25, 0.75]})
    >>> difficulty_arrays({"train": pairs})
    {'train.difficulty': array([0.25, 0.75])}
    """
    return {
        f"{split}.{name}": np.asarray(pairs[name][:])
        for split, pairs in prepared.items()
        for name in (*DIFFICULTY_COLUMNS, WRONG_PROBABILITY)
        if name in pairs.column_names
    }


def add_suspects(
    prepared: Mapping[str, Dataset], args: TrainingArguments, *, saved: Path | None = None
) -> dict[str, Dataset]:
    """Adds `wrong_probability` to the training pairs, and prints how many are suspect.

    Args:
        prepared: pairs by split, with `id`, `smiles` and `description`; must hold `train`.
        args: the arguments of the run. `seed` is the seed of the judges.
        saved: *optional*, a file of [`difficulty_arrays`] to read, if it has the probabilities.

    Returns:
        The training pairs with the column.
    """
    message: list[Any] = [None]
    if args.process_index == 0:
        name = f"train.{WRONG_PROBABILITY}"
        if saved is not None and saved.is_file():
            with np.load(saved) as arrays:
                message = [arrays[name] if name in arrays else None]
        if message[0] is None:
            started = time.perf_counter()
            pairs = prepared["train"].select_columns(list(COLUMNS))
            suspects = DifficultyScorer(seed=args.seed).suspects(pairs, max_listed=1)
            message = [suspects.wrong_probability]
            print_once(args, f"{suspects}; found in {time.perf_counter() - started:.1f} s")
    if world_size() > 1:
        broadcast_object_list(message)
    return {"train": prepared["train"].add_column(WRONG_PROBABILITY, list(message[0]))}


def add_difficulty(
    prepared: Mapping[str, Dataset],
    args: TrainingArguments,
    *,
    definition: Sequence[str] | str = "alignment",
    combination: str = "mean",
    text_weight: float = 0.5,
    saved: Path | None = None,
) -> dict[str, Dataset]:
    """Adds the difficulty columns to the training and the validation pairs.

    The main process fits a [`DifficultyScorer`] on the training pairs, or reads what an earlier start of the same run
    saved. The other processes receive the result, so that all processes order the pairs equally.

    Args:
        prepared: pairs by split, with `id`, `smiles` and `description`; must hold `train` and `validation`.
        args: the arguments of the run. `seed` is the scorer's seed.
        definition: *optional*, defaults to `"alignment"`; one definition of difficulty or several.
        combination: *optional*, defaults to `"mean"`; how the two modalities are combined.
        text_weight: *optional*, defaults to 0.5; weight of the text in the mean, in [0, 1].
        saved: *optional*, a file of [`difficulty_arrays`] to read, if it exists.

    Returns:
        Both splits with `text_difficulty`, `molecule_difficulty` and `difficulty`.
    """
    message: list[Any] = [None]
    definitions = [definition] if isinstance(definition, str) else list(definition)
    if args.process_index == 0:
        if saved is not None and saved.is_file():
            with np.load(saved) as arrays:
                message = [dict(arrays)]
            if own := [name for name in definitions if is_object_path(name)]:
                print_once(
                    args, f"difficulty of {saved}: later changes of the code of {', '.join(own)} have no effect"
                )
        else:
            print_once(args, f"scoring difficulty: {', '.join(definitions)}")
            started = time.perf_counter()
            scorer = DifficultyScorer(
                definitions,
                combination=combination,
                text_weight=text_weight,
                seed=args.seed,
            ).fit(prepared["train"])
            message = [
                {
                    f"{split}.{name}": values
                    for split in SPLITS
                    for name, values in scorer(prepared[split].select_columns(list(COLUMNS))[:]).items()
                }
            ]
            seconds = time.perf_counter() - started
            print_once(args, f"scored in {seconds:.1f} s (class-hf score scores once for many runs)")
    if world_size() > 1:
        broadcast_object_list(message)
    scored = {}
    for split in SPLITS:
        scored[split] = prepared[split]
        for name in DIFFICULTY_COLUMNS:
            scored[split] = scored[split].add_column(name, list(message[0][f"{split}.{name}"]))
    return scored
