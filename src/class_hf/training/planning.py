"""The curriculum plan that training arguments describe."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from class_hf.curriculum.grouping import pair_vectors
from class_hf.curriculum.plan import CurriculumPlan
from class_hf.curriculum.stages import DEFAULT_SPAN, STAGE_SETTINGS
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.training.streams import is_stream
from class_hf.utils.column_names import WRONG_PROBABILITY

# `curriculum_end: auto` leaves out pairs with a larger probability of being wrong. On ChEBI-20 training on a wrong
# pair costs two to three times the MRR that a missing right pair costs (docs/wrong_pairs.md), so 1 / (1 + 3).
LEFT_OUT_ABOVE = 0.25


def plan_from_arguments(args: CurriculumTrainingArguments, train_dataset: Any) -> CurriculumPlan:
    """The plan that the arguments describe for a training set.

    Args:
        args: the arguments. The batch size and the number of processes are taken from them.
        train_dataset: a data set or a list of rows with `difficulty` (unless the order needs none) and, if there is
            one, `id`.

    Returns:
        The plan.

    Raises:
        ValueError: if the order needs a difficulty that the data set lacks, or see [`CurriculumPlan`].

    >>> pairs = Dataset.from_dict({"id": ["a", "b", "c", "d"], "difficulty": [0.9, 0.1, 0.5, 0.3]})
    >>> args = CurriculumTrainingArguments("out", use_cpu=True, per_device_train_batch_size=2, num_train_epochs=3)
    >>> plan_from_arguments(args, pairs).pool_sizes
    (2, 3, 4)
    """
    if is_stream(train_dataset):
        return _plan_of_stream(args, train_dataset)
    columns = column_names(train_dataset)
    probabilities = None
    if args.end_share != 1.0 and WRONG_PROBABILITY in columns:
        probabilities = np.asarray(column(train_dataset, WRONG_PROBABILITY), np.float64)
    needs_difficulty = args.curriculum_order in ("easy_first", "hard_first")
    return CurriculumPlan(
        column(train_dataset, "difficulty") if needs_difficulty and "difficulty" in columns else None,
        ids=column(train_dataset, "id") if "id" in columns else None,
        num_pairs=len(train_dataset),
        wrong_probability=probabilities,
        end=_end_share(args, probabilities),
        **_plan_settings(args),
        group_size=args.curriculum_group_size,
        group_from=args.curriculum_group_from,
        vectors=_pair_vectors(train_dataset, columns) if args.curriculum_group_size > 1 else None,
    )


def _end_share(args: CurriculumTrainingArguments, probabilities: np.ndarray | None) -> float:
    """The share of the pairs to admit. `auto` leaves out the pairs above [`LEFT_OUT_ABOVE`]."""
    if args.end_share is not None:
        return args.end_share
    if probabilities is None:
        raise ValueError(
            f"curriculum_end is auto, and the training set has no column {WRONG_PROBABILITY!r}. Add it with "
            "DifficultyScorer.suspects, train with class-hf train, or set a number."
        )
    return max(1, int((probabilities <= LEFT_OUT_ABOVE).sum())) / max(1, len(probabilities))


def _plan_settings(args: CurriculumTrainingArguments) -> dict[str, Any]:
    return {
        "epochs": args.num_train_epochs,  # a float there; the plan checks that it is an integer
        "batch_size": args.global_batch_size,
        "order": args.curriculum_order,
        "pacing": args.curriculum_pacing,
        "start": args.curriculum_start,
        "power": args.curriculum_power,
        "stages": args.curriculum_stages,
        "span": _span(args),
        "seed": args.seed if args.data_seed is None else args.data_seed,
        "max_steps": args.max_steps if args.max_steps > 0 else None,
        **{name: getattr(args, f"curriculum_{name}") for name in STAGE_SETTINGS},
    }


def _span(args: CurriculumTrainingArguments) -> float:
    """The span of the plan. By default the usual one, or a smaller one with which the last of few epochs admits all
    pairs.

    >>> runs = [CurriculumTrainingArguments("out", use_cpu=True, num_train_epochs=epochs) for epochs in (1, 2, 3, 4)]
    >>> [round(_span(args), 3) for args in runs]
    [0.75, 0.5, 0.667, 0.75]
    """
    if args.curriculum_span is not None:
        return args.curriculum_span
    epochs = args.num_train_epochs
    # Epochs of stages replace the span.
    return DEFAULT_SPAN if args.curriculum_stage_epochs or epochs <= 1 else min(DEFAULT_SPAN, (epochs - 1) / epochs)


def _plan_of_stream(args: CurriculumTrainingArguments, rows: Any) -> CurriculumPlan:
    """The plan for rows without random access: only their number is known."""
    if args.end_share != 1.0:
        raise ValueError(
            f"curriculum_end is {args.curriculum_end}, but the training set is a stream: leaving out pairs needs "
            "random access to them. Set curriculum_end to 1, or pass a Dataset."
        )
    if args.curriculum_order not in ("none", "random") or args.curriculum_group_size > 1:
        raise ValueError(
            f"curriculum_order is {args.curriculum_order!r} and curriculum_group_size {args.curriculum_group_size}, "
            "but the training set is a stream: order and groups need random access to the pairs. Set curriculum_order "
            "to 'none' or 'random' and curriculum_group_size to 1, or pass a Dataset."
        )
    if not hasattr(rows, "__len__"):
        raise ValueError(
            "the training set is a stream of unknown length. Pass plan=CurriculumPlan(num_pairs=N, epochs=..., "
            "batch_size=..., order='none' or 'random')."
        )
    return CurriculumPlan(num_pairs=len(rows), **_plan_settings(args))


def outline_plan(args: CurriculumTrainingArguments, num_pairs: int) -> CurriculumPlan:
    """The sizes of the plan, before any pair is scored: they do not depend on which pairs are easy.

    Args:
        args: the arguments.
        num_pairs: number of training pairs.

    Returns:
        A plan whose pool sizes and steps are those of the run. Its order is not. With `curriculum_end` of `auto` it
        admits all pairs at the end, because the suspects are not known yet.

    Raises:
        ValueError: see [`CurriculumPlan`].
    """
    args = copy.copy(args)
    args.curriculum_group_size = 1
    zeros = np.zeros(num_pairs)
    return plan_from_arguments(args, Dataset.from_dict({"difficulty": zeros, WRONG_PROBABILITY: zeros}))


def column_names(rows: Any) -> list[str]:
    """Names of the columns of a data set, or of the first row of a list of rows or of a torch data set.

    >>> column_names([{"id": "a", "difficulty": 0.5}])
    ['id', 'difficulty']
    """
    names = getattr(rows, "column_names", None)
    if names is not None:
        return list(names)
    first = rows[0] if hasattr(rows, "__getitem__") and hasattr(rows, "__len__") and len(rows) else None
    return list(first) if isinstance(first, Mapping) else []


def column(rows: Any, name: str) -> list[Any]:
    """A column of a data set, or of a list of rows.

    >>> column([{"id": "a"}, {"id": "b"}], "id")
    ['a', 'b']
    """
    if hasattr(rows, "column_names"):
        return rows[name][:]
    return [rows[row][name] for row in range(len(rows))]  # a torch data set need not be iterable


def _pair_vectors(pairs: Any, columns: Sequence[str]) -> np.ndarray:
    missing = [name for name in ("smiles", "description") if name not in columns]
    if missing:
        raise ValueError(
            f"groups of similar pairs need the columns {missing}, which the training set lacks. Add them, set "
            "curriculum_group_size to 1, or pass a plan with vectors of your own."
        )
    ids = column(pairs, "id") if "id" in columns else [str(row) for row in range(len(pairs))]
    return pair_vectors(PairFeatures(ids, column(pairs, "description"), column(pairs, "smiles")))
