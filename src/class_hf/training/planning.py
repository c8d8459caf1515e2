"""The curriculum plan that training arguments describe."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from class_hf.curriculum.grouping import pair_vectors
from class_hf.curriculum.plan import CurriculumPlan
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.training.arguments import CurriculumTrainingArguments


def plan_from_arguments(args: CurriculumTrainingArguments, train_dataset: Any) -> CurriculumPlan:
    """The plan that the arguments describe for a training set.

    Args:
        args: the arguments; batch and processes are taken from them.
        train_dataset: with `difficulty` (unless the order needs none) and, if there is one, `id`.

    Raises:
        ValueError: if the order needs a difficulty that the data set lacks, or see [`CurriculumPlan`].
    """
    columns = getattr(train_dataset, "column_names", None) or []
    needs_difficulty = args.curriculum_order in ("easy_first", "hard_first")
    return CurriculumPlan(
        train_dataset["difficulty"][:] if needs_difficulty and "difficulty" in columns else None,
        ids=train_dataset["id"][:] if "id" in columns else None,
        num_pairs=len(train_dataset),
        epochs=args.num_train_epochs,  # a float there; the plan checks that it is a whole number
        batch_size=args.global_batch_size,
        order=args.curriculum_order,
        pacing=args.curriculum_pacing,
        start=args.curriculum_start,
        power=args.curriculum_power,
        stages=args.curriculum_stages,
        span=args.curriculum_span,
        seed=args.seed if args.data_seed is None else args.data_seed,
        max_steps=args.max_steps if args.max_steps > 0 else None,
        group_size=args.curriculum_group_size,
        group_from=args.curriculum_group_from,
        vectors=_vectors_of(train_dataset, columns) if args.curriculum_group_size > 1 else None,
    )


def _vectors_of(pairs: Any, columns: Sequence[str]) -> np.ndarray:
    missing = [name for name in ("smiles", "description") if name not in columns]
    if missing:
        raise ValueError(
            f"groups of alike pairs need the columns {missing}, which the training set lacks. Add them, set "
            "curriculum_group_size to 1, or pass a plan with vectors of your own."
        )
    ids = pairs["id"][:] if "id" in columns else [str(row) for row in range(len(pairs))]
    return pair_vectors(PairFeatures(ids, pairs["description"][:], pairs["smiles"][:]))
