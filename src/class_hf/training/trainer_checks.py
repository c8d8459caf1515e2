"""Checks of what a [`CurriculumTrainer`] is given: each argument has an effect, or is refused by name."""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.curriculum.stages import STAGE_SETTINGS
from class_hf.training.argument_checks import METRICS
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.training.planning import column, column_names
from class_hf.training.streams import is_stream
from class_hf.training.without_effect import unused_settings, unused_without_order
from class_hf.utils.suggestions import did_you_mean

logger = logging.getLogger(__name__)

# The Trainer reads these only when it is made, so that a later change would have no effect.
FIXED_ARGUMENTS = (
    "bf16",
    "fp16",
    "use_cpu",
    "deepspeed",
    "fsdp",
    "torch_compile",
    "report_to",
    "push_to_hub",
    "forward_chunk_size",
    "ddp_gradient_compression",
)
PLAN_ARGUMENTS = ["num_train_epochs", "max_steps", "seed", "data_seed", "global_batch_size"]
PLAN_ARGUMENTS += [
    f"curriculum_{name}"
    for name in (
        "order",
        "pacing",
        "start",
        "power",
        "stages",
        "span",
        "end",
        "group_size",
        "group_from",
        *STAGE_SETTINGS,
    )
]
# With so many of the steps, leaving wrong pairs out gained what docs/wrong_pairs.md reports.
_SHARE_OF_STEPS = 0.9
# A larger share of an epoch's pairs that are not drawn is warned of.
_MOST_NOT_DRAWN = 0.1
# Arguments of `Trainer` that have no effect here.
_REFUSED = {
    "compute_loss_func": "pass loss=, which receives the embeddings",
    "preprocess_logits_for_metrics": "there are no logits; compute_metrics receives the embeddings",
}


def check_inputs(
    args: CurriculumTrainingArguments,
    train_dataset: Any,
    eval_dataset: Any,
    evaluator: Any,
    further: Mapping[str, Any],
) -> None:
    """Refuses what a trainer cannot use.

    Args:
        args: the training arguments.
        train_dataset, eval_dataset, evaluator: as given to the trainer.
        further: further arguments of `transformers.Trainer`.

    Raises:
        ValueError: names the argument, and what to do instead.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"one process sees {args.n_gpu} GPUs, and would split ragged batches wrongly. Start it with `accelerate "
            "launch`, one process for each GPU, or set CUDA_VISIBLE_DEVICES to one of them."
        )
    for name, instead in _REFUSED.items():
        if further.get(name) is not None:
            raise ValueError(f"{name} has no effect in a CurriculumTrainer: {instead}.")
    if args.text_learning_rate is not None and (further.get("optimizers") or (None,))[0] is not None:
        raise ValueError(
            f"text_learning_rate is {args.text_learning_rate}, which has no effect on an optimizer of your own. Give "
            "its parameter groups their rates, and leave it out."
        )
    if isinstance(train_dataset, Mapping):
        raise ValueError(
            f"train_dataset holds several splits ({', '.join(map(str, train_dataset))}). Pass one of them, for "
            "instance train_dataset=data['train']."
        )
    if is_stream(train_dataset) and args.dataloader_num_workers > 0:
        raise ValueError(
            f"dataloader_num_workers is {args.dataloader_num_workers}, and the training set is a stream, which each "
            "worker would read completely. Set dataloader_num_workers to 0."
        )
    if evaluator is not None and eval_dataset is not None:
        raise ValueError("evaluator and eval_dataset are both set, and only one of them can be used. Pass one.")
    datasets = eval_dataset.values() if isinstance(eval_dataset, Mapping) else [eval_dataset]
    if any(is_stream(pairs) for pairs in datasets):
        raise ValueError("eval_dataset is a stream; ranking needs random access. Pass a Dataset or a list of rows.")


def check_label_smoothing(loss: Any, args: CurriculumTrainingArguments) -> None:
    """Refuses a label smoothing that a loss of the user's own does not have.

    Args:
        loss: the loss.
        args: the training arguments.

    Raises:
        ValueError: if `contrastive_label_smoothing` is set and is not that of the loss.
    """
    smoothing = getattr(loss, "label_smoothing", 0.0)
    if args.contrastive_label_smoothing and args.contrastive_label_smoothing != smoothing:
        raise ValueError(
            f"contrastive_label_smoothing is {args.contrastive_label_smoothing}, but the loss "
            f"{type(loss).__name__} has {smoothing}. Set it in the loss."
        )


def check_chunks(size: int, model: Any, *, uses_deepspeed: bool) -> None:
    """Refuses chunks of a batch with a model or an engine that cannot use them.

    Args:
        size: `forward_chunk_size`.
        model: the model.
        uses_deepspeed: whether DeepSpeed trains it.

    Raises:
        ValueError: if the model normalises over the batch, or DeepSpeed is used.
    """
    if getattr(model, "uses_batch_statistics", False):
        raise ValueError(
            f"forward_chunk_size is {size}, but {type(model).__name__} normalises over the batch, and the "
            "statistics of a chunk differ from those of the batch. Leave it out."
        )
    if uses_deepspeed:
        raise ValueError(
            f"forward_chunk_size is {size}, which takes several backward passes per step; DeepSpeed allows one. "
            "Use DDP or FSDP2, or leave it out."
        )


def check_resume_argument(args: CurriculumTrainingArguments, resume: Any) -> None:
    """Refuses `resume_from_checkpoint` in the arguments if the call of `train` does not say what to do.

    Args:
        args: the training arguments.
        resume: what `train` was called with.

    Raises:
        ValueError: if the argument is set and `resume` is None.
    """
    if resume is None and args.resume_from_checkpoint:
        raise ValueError(
            f"resume_from_checkpoint is {args.resume_from_checkpoint!r} in the arguments, which a Trainer does not "
            "read. Call train(resume_from_checkpoint=...), or train(False) to start from the beginning."
        )


def plan_key(args: CurriculumTrainingArguments) -> tuple[Any, ...]:
    """The arguments that a plan follows from."""
    return tuple(getattr(args, name) for name in PLAN_ARGUMENTS)


def check_plan(plan: CurriculumPlan, args: CurriculumTrainingArguments, rows: Any) -> None:
    """Checks that a plan fits the training set and the batch.

    Args:
        plan: the plan.
        args: the training arguments.
        rows: the training set.

    Raises:
        ValueError: if a size differs.
    """
    if hasattr(rows, "__len__") and plan.num_pairs != len(rows):
        raise ValueError(
            f"the plan is for {plan.num_pairs} pairs, the training set has {len(rows)}. Make the plan for this "
            "training set."
        )
    if plan.batch_size != args.global_batch_size:
        raise ValueError(
            f"the plan has a global batch of {plan.batch_size}, the arguments one of {args.global_batch_size} "
            "(per_device_train_batch_size x processes x gradient_accumulation_steps). Make them equal."
        )
    parts = args.world_size * args.gradient_accumulation_steps
    for size in plan.batch_sizes:
        if size % parts:
            raise ValueError(
                f"a stage has a global batch of {size} pairs, which {parts} micro-batches (processes x accumulation "
                "steps) cannot share equally. Change curriculum_stage_batch_sizes."
            )
    if len(set(plan.batch_sizes)) > 1 and is_stream(rows):
        raise ValueError(
            "curriculum_stage_batch_sizes is set, but the training set is a stream. Leave it out, or pass a Dataset."
        )


def check_selection(
    args: CurriculumTrainingArguments, callbacks: Iterable[TrainerCallback], *, own_metrics: bool
) -> None:
    """Checks that the best model can be selected, before training rather than after its first evaluation.

    Args:
        args: the training arguments.
        callbacks: the callbacks of the trainer.
        own_metrics: whether `compute_metrics` adds metrics of unknown names.

    Raises:
        ValueError: if early stopping has no evaluations, or the metric is unknown.
    """
    stops = any(isinstance(callback, EarlyStoppingCallback) for callback in callbacks)
    if stops and args.eval_strategy == IntervalStrategy.NO:
        raise ValueError(
            "early stopping needs evaluations during training, and eval_strategy is 'no'. Set eval_strategy to "
            "'epoch' or 'steps'."
        )
    for setting, is_set in (
        ("save_strategy is 'best'", args.save_strategy == SaveStrategy.BEST),
        ("load_best_model_at_end is True", args.load_best_model_at_end),
    ):
        if is_set and args.eval_strategy == IntervalStrategy.NO:
            raise ValueError(
                f"{setting}, which needs evaluations during training, and eval_strategy is 'no'. Set eval_strategy to "
                "'epoch' or 'steps'."
            )
    name = (args.metric_for_best_model or "").removeprefix("eval_")
    selects = stops or args.load_best_model_at_end or args.save_strategy == SaveStrategy.BEST
    known = any(name == metric or name.endswith(f"_{metric}") for metric in METRICS) and not name.startswith("eval_")
    if selects and not own_metrics and not known:
        raise ValueError(
            f"metric_for_best_model is {args.metric_for_best_model!r}, which no evaluation computes; "
            f"{did_you_mean(name, METRICS)}"
        )


def pairs_not_drawn(plan: CurriculumPlan, batch_size: int) -> float:
    """Share of the admitted pairs that are not drawn, because an epoch has complete batches only.

    Args:
        plan: the plan.
        batch_size: global batch size.

    Returns:
        The mean over the epochs, weighted by their pools, in [0, 1).

    >>> plan = CurriculumPlan(num_pairs=177, epochs=2, batch_size=128, order="none")
    >>> round(pairs_not_drawn(plan, 128), 3), round(pairs_not_drawn(plan, 88), 3)
    (0.277, 0.006)
    """
    return sum(pool % batch_size for pool in plan.pool_sizes) / sum(plan.pool_sizes)


def _warn_of_batch(plan: CurriculumPlan, args: CurriculumTrainingArguments) -> None:
    """Warns if complete batches leave out many pairs of each epoch, and names the best batch size."""
    share = pairs_not_drawn(plan, plan.batch_size)
    if share <= _MOST_NOT_DRAWN or plan.has_stages:
        return
    parts = args.world_size * args.gradient_accumulation_steps
    largest = args.per_device_train_batch_size
    sizes = range(largest, largest // 2, -1)  # of equal ones the largest: more negatives
    best = min(sizes, key=lambda size: pairs_not_drawn(plan, size * parts))
    rest = pairs_not_drawn(plan, best * parts)
    logger.warning(
        "Batches are complete, so each epoch leaves out %s pairs, %.0f %% of those it admits (others in each epoch). "
        "per_device_train_batch_size %s leaves out %s %%.",
        "some"
        if len(set(plan.pool_sizes)) > 1
        else f"{plan.pool_sizes[0] % plan.batch_size:,} of {plan.pool_sizes[0]:,}",
        100 * share,
        best,
        f"{100 * rest:.0f}" if rest >= 0.005 else "less than 1",
    )


def warn_of_plan(plan: CurriculumPlan, rows: Any, args: CurriculumTrainingArguments) -> None:
    """Warns of arguments without effect, of a plan that never admits or draws some pairs or is short, and of captions
    or molecules that are all equal.

    Args:
        plan: the plan of the run.
        rows: the training set.
        args: the arguments of the run.
    """
    for sentence in unused_without_order(args):
        logger.info("%s", sentence)
    for sentence in unused_settings(args, plan):
        logger.warning("%s", sentence)
    _warn_of_batch(plan, args)
    missing = plan.num_pairs - plan.num_left_out - max(plan.pool_sizes)
    if missing > 0:
        span = math.floor(1000 * (plan.epochs - 1) / plan.settings["epochs"]) / 1000
        remedy = f"set curriculum_span to {span} or less" if span > 0 else "train more epochs"
        logger.warning(
            "The last epoch admits %s of %s pairs: the other %s are never trained on. To admit all pairs, %s.",
            f"{max(plan.pool_sizes):,}",
            f"{plan.num_pairs - plan.num_left_out:,}",
            f"{missing:,}",
            remedy,
        )
    kept = plan.num_pairs - plan.num_left_out
    if plan.settings["max_steps"] is None and kept < _SHARE_OF_STEPS * plan.num_pairs:
        logger.warning(
            "%s of %s pairs are left out, so %s epochs have %s steps in place of %s. The other pairs deserve more: "
            "max_steps %s takes %s of the steps of all pairs.",
            f"{plan.num_left_out:,}",
            f"{plan.num_pairs:,}",
            plan.epochs,
            f"{plan.total_steps:,}",
            f"{plan.full_steps:,}",
            math.ceil(_SHARE_OF_STEPS * plan.full_steps),
            _SHARE_OF_STEPS,
        )
    if is_stream(rows):
        return
    if plan.settings["order"] in ("easy_first", "hard_first") and "difficulty" in column_names(rows):
        values = column(rows, "difficulty")
        if len(values) > 1 and all(value == values[0] for value in values):
            logger.warning("All training pairs have the same difficulty: the curriculum admits them by their ids.")
    for name in ("description", "smiles"):
        if name in column_names(rows) and plan.num_pairs > 1 and len(set(column(rows, name))) == 1:
            logger.warning("All training pairs have the same %s: the model cannot learn from them.", name)
            break
