"""Checks of the training set, the plan, the model and the loss that a [`CurriculumTrainer`] is made with."""

import logging
from dataclasses import MISSING, fields
from typing import Any

import torch
from datasets import Dataset

from class_hf.data.prepare import MOLECULE_FEATURES, TEXT_FEATURES, check_prepared
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.training.planning import column_names
from class_hf.training.streams import is_stream
from class_hf.training.trainer_checks import PLAN_ARGUMENTS
from class_hf.utils.column_names import WRONG_PROBABILITY
from class_hf.utils.in_memory import plain_rows

logger = logging.getLogger(__name__)


def training_rows(rows: Any, processor: Any, collator: Any) -> Any:
    """The training set as the trainer reads it.

    Args:
        rows: as given to the trainer.
        processor: its `processing_class`.
        collator: its collator, or None.

    Returns:
        The rows; a prepared data set without its format, which can cut features.

    Raises:
        ValueError: if the rows are no data set, nothing can collate prepared rows, or another processor has prepared
            them.
    """
    if rows is None or is_stream(rows):
        return rows
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        raise ValueError(
            f"train_dataset is a {type(rows).__name__}; expected a Dataset, a list of rows, a torch data set, or a "
            "stream (an IterableDataset)."
        )
    names = column_names(rows)
    if TEXT_FEATURES not in names and MOLECULE_FEATURES not in names:
        return rows
    if collator is None:
        raise ValueError(
            "the training set is prepared, and nothing can collate it. Pass processing_class=, the processor, or "
            "data_collator=TextMoleculeCollator(processor)."
        )
    rows = plain_rows(rows) if isinstance(rows, Dataset) else rows
    if hasattr(processor, "encode_molecules"):
        check_prepared(rows, processor, "training pairs")
    return rows


def check_passed(args: CurriculumTrainingArguments, plan: Any, intensity: Any) -> None:
    """Compares the arguments with a plan or an intensity schedule that replaces them.

    Warns of arguments that are set to other values than those of the plan.

    Args:
        args: the training arguments.
        plan, intensity: as given to the trainer.

    Raises:
        ValueError: if the arguments and the schedule both name what the intensity acts on.
    """
    if intensity is not None and args.intensity_actions:
        raise ValueError(
            f"intensity_actions is {args.intensity_actions}, and the trainer was made with intensity=, which replaces "
            "it. Leave it out."
        )
    if plan is None:
        return
    replaced = []
    for field in fields(args):
        value = getattr(args, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name not in PLAN_ARGUMENTS or value == default:
            continue
        name = {"num_train_epochs": "epochs", "data_seed": "seed"}.get(field.name)
        planned = plan.settings.get(name or field.name.removeprefix("curriculum_"))
        if planned is not None and value != planned:
            replaced.append(f"{field.name} {value!r} (plan: {planned!r})")
    if replaced:
        logger.warning("The plan of the trainer replaces these arguments: %s.", ", ".join(replaced))


def check_precision(model: Any, *, uses_deepspeed: bool) -> None:
    """Refuses to train weights in float16, whose gradients and steps are lost below 6e-8.

    Args:
        model: the model.
        uses_deepspeed: whether DeepSpeed trains it, which keeps weights in float32.

    Raises:
        ValueError: names the first such weight.
    """
    if model is None or uses_deepspeed:  # a search of hyperparameters makes the model later
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype == torch.float16:
            raise ValueError(
                f"{name} is in float16, in which training diverges. Train in float32 (model.float()) with "
                "fp16=True or bf16=True, or in bfloat16."
            )


def refuse_divergence(loss: torch.Tensor | None, model: Any, step: int) -> None:
    """Ends a training whose weights are lost. The Trainer logs a loss of 0 in place of NaN.

    Args:
        loss: of the last step, (); None before the first step.
        model: the model.
        step: number of the step, for the error.

    Raises:
        ValueError: if the loss and a weight are not finite.
    """
    if loss is None or torch.isfinite(loss):
        return
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"the training has diverged: after step {step} the loss and {name} are not finite. Lower "
                "learning_rate."
            )


def weigh_pairs(loss: Any, takes_weights: bool, pair_weights: Any) -> dict[str, Any]:
    """The argument of the loss that `suspect_weights` adds.

    Args:
        loss: the loss.
        takes_weights: whether it has the argument `pair_weights`.
        pair_weights: (B,), the probability that each pair of a batch is right; None if the batch has none.

    Raises:
        ValueError: if the batch or the loss has no weights.
    """
    if pair_weights is None:
        raise ValueError(
            f"suspect_weights is set, but the batches have no pair_weights. Add the column {WRONG_PROBABILITY!r} to "
            "the training set (DifficultyScorer.suspects), keep pair_weights in the collator, or set suspect_weights "
            "to false."
        )
    if not takes_weights:
        raise ValueError(
            f"suspect_weights is set, but {type(loss).__name__} takes no pair_weights. Add the argument to its "
            "forward, or set suspect_weights to false."
        )
    return {"pair_weights": pair_weights}
