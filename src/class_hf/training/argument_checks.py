"""Ranges of the numeric training arguments, and arguments of transformers that this trainer does not use."""

from numbers import Real
from typing import Any, NamedTuple

import torch
from transformers import Trainer, get_scheduler
from transformers.integrations import get_available_reporting_integrations

_MANY = 1_000_000_000


class Range(NamedTuple):
    """An interval of allowed values. `open_low` and `open_high` exclude its ends."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value is inside. NaN is not.

        >>> Range(0, 1, open_high=True).holds(1), Range(0, 1).holds(1), Range(0, 1).holds(float("nan"))
        (False, True, False)
        """
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return bool(above and below)

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{left}{self.low:,g}, {self.high:,g}{right}".replace("e+0", "e")


_COUNT = Range(1, _MANY)
_RATE = Range(0, 100, open_low=True)
_SHARE = Range(0, 1)
# Values that are None are not checked.
RANGES = {
    "num_train_epochs": Range(1, 1_000_000),
    "learning_rate": _RATE,
    "text_learning_rate": _RATE,
    "warmup_steps": Range(0, _MANY),
    "weight_decay": Range(0, 100),
    "adam_beta1": Range(0, 1, open_high=True),
    "adam_beta2": Range(0, 1, open_high=True),
    "adam_epsilon": Range(0, 1),
    "max_grad_norm": Range(0, 1e30),
    "per_device_train_batch_size": Range(1, 10_000_000),
    "per_device_eval_batch_size": Range(1, 10_000_000),
    "gradient_accumulation_steps": Range(1, 1_000_000),
    "logging_steps": Range(0, _MANY, open_low=True),
    "eval_steps": Range(0, _MANY, open_low=True),
    "save_steps": Range(0, _MANY, open_low=True),
    "eval_delay": Range(0, _MANY),
    "save_total_limit": _COUNT,
    "seed": Range(0, 2**32 - 1),
    "data_seed": Range(0, 2**32 - 1),
    "torch_empty_cache_steps": _COUNT,
    "dataloader_num_workers": Range(0, 4096),
    "dataloader_prefetch_factor": Range(1, 100_000),
    "ddp_bucket_cap_mb": Range(1, 1_000_000),
    "ddp_timeout": Range(1, _MANY),
    "curriculum_start": Range(0, 1, open_low=True),
    "curriculum_power": Range(1, 1000),
    "curriculum_stages": Range(1, 1_000_000),
    "curriculum_span": Range(0, 1, open_low=True),
    "curriculum_group_size": Range(1, 1_000_000),
    "curriculum_group_from": _SHARE,
    "intensity_start": Range(0, 1, open_low=True),
    "intensity_gamma": Range(0, 1000),
    "intensity_momentum": Range(0, 1, open_high=True),
    "contrastive_label_smoothing": Range(0, 1, open_high=True),
    "forward_chunk_size": _COUNT,
}
# Of these only whole numbers are accepted; a fraction would be cut.
_INTEGERS = {
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "save_total_limit"),
    *("seed", "data_seed", "torch_empty_cache_steps", "dataloader_num_workers", "dataloader_prefetch_factor"),
    *("ddp_bucket_cap_mb", "ddp_timeout", "curriculum_stages", "curriculum_group_size", "forward_chunk_size"),
}
# Arguments of transformers that have no effect here, with what to do instead.
UNUSED = {
    "label_smoothing_factor": "use contrastive_label_smoothing",
    "neftune_noise_alpha": "use the dropout of the towers",
    "prediction_loss_only": "evaluation ranks candidates and computes no loss",
    "eval_accumulation_steps": "evaluation ranks in blocks",
    "batch_eval_metrics": "evaluation ranks the complete pool at once",
    "include_for_metrics": "compute_metrics receives the embeddings",
    "fp16_full_eval": "evaluation runs in the precision of the weights",
    "bf16_full_eval": "evaluation runs in the precision of the weights",
    "remove_unused_columns": "the collator picks the columns",
    "label_names": "pairs have no labels",
    "eval_use_gather_object": "evaluation gathers tensors of equal shapes",
    "use_liger_kernel": "the kernels replace parts of language models, which no dual encoder has",
    "liger_kernel_config": "the kernels replace parts of language models, which no dual encoder has",
    "use_cache": "encoders keep no cache",
    "do_predict": "evaluate the test split with class-hf evaluate, or with an evaluator of its pairs",
    "hub_always_push": "a push is one commit of the finished run",
    "parallelism_config": "the batch is split over all processes; use DDP, FSDP2 or DeepSpeed",
}
# Arguments whose other values have no effect here: the only value, and the reason.
FIXED_VALUES = {
    "eval_do_concat_batches": (True, "evaluation ranks the complete pool at once"),
    "average_tokens_across_devices": (True, "the loss is a mean over pairs, not over tokens"),
    "length_column_name": ("length", "batches are those of the plan, and lengths do not matter"),
    "include_num_input_tokens_seen": ("no", "the logs count pairs, not tokens"),
}
# Of the optimizers that use `optim_args`, the names that they read; None for those whose libraries check them. All
# other optimizers use none.
_OPTIMIZER_ARGUMENTS: dict[str, tuple[str, ...] | None] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
}
_ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused")
_OPTIMIZERS_WITHOUT = (*_ADAMW, "adafactor", "lomo", "adalomo")
_LOW_RANK = ("galore", "apollo", "lomo", "adalomo")
# Names of the metrics of an evaluation, without the prefix `eval_`.
METRICS = ("mrr", "hits@1", "hits@10", "mean_rank")


def check_numbers(args: Any) -> None:
    """Checks each numeric argument against its range.

    Args:
        args: training arguments.

    Raises:
        ValueError: for a value that is no number, NaN, infinite or out of range. Names argument, value and range.
    """
    for name, allowed in RANGES.items():
        value = getattr(args, name, None)
        if value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}; expected a number in {allowed}.")
        if not allowed.holds(float(value)):
            raise ValueError(f"{name} is {value}; expected a number in {allowed}.")
        if name in _INTEGERS and not float(value).is_integer():
            raise ValueError(f"{name} is {value}; expected a whole number in {allowed}.")
    if isinstance(args.max_steps, Real) and not float(args.max_steps).is_integer():
        raise ValueError(f"max_steps is {args.max_steps}; expected a whole number.")
    if args.max_steps != -1 and not (isinstance(args.max_steps, Real) and _COUNT.holds(float(args.max_steps))):
        raise ValueError(f"max_steps is {args.max_steps}; expected a number in {_COUNT}, or -1 for num_train_epochs.")


def check_unused(args: Any) -> None:
    """Refuses arguments of transformers that have no effect in this trainer.

    Args:
        args: training arguments.

    Raises:
        ValueError: for the first such argument. Says what to use instead.
    """
    for name, instead in UNUSED.items():
        if getattr(args, name, None):
            raise ValueError(f"{name} is {getattr(args, name)!r}, which has no effect here: {instead}. Leave it out.")
    for name, (value, reason) in FIXED_VALUES.items():
        given = getattr(args, name)
        if given != value and not (value == "no" and given is False):
            raise ValueError(f"{name} is {given!r}, which has no effect here: {reason}. Leave it out.")
    _check_optimizer(args)


def check_libraries(args: Any) -> None:
    """Tries trackers, optimizer and learning rate schedule, before any data is read.

    Args:
        args: training arguments, complete.

    Raises:
        ValueError: if a package is missing, or a schedule or an optimizer refuses its settings.
    """
    available = get_available_reporting_integrations()
    missing = [name for name in args.report_to or [] if name not in ("all", "none", *available)]
    if missing:
        raise ValueError(
            f"report_to names {missing[0]!r}, which is not installed or not known. Install it, or choose from none"
            f"{''.join(f', {name}' for name in sorted(available))}."
        )
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, ValueError) as error:
        names = f"optim is {str(getattr(args.optim, 'value', args.optim))!r}"
        names += f", optim_args {args.optim_args!r}" if args.optim_args else ""
        if "model" not in str(error):  # which some optimizers need, and which does not exist yet
            raise ValueError(f"{names}: {error}") from error
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=float(args.learning_rate))
    try:
        get_scheduler(args.lr_scheduler_type, optimizer, 1, 10, scheduler_specific_kwargs=args.lr_scheduler_kwargs)
    except (TypeError, ValueError) as error:
        kind = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
        raise ValueError(
            f"lr_scheduler_kwargs is {args.lr_scheduler_kwargs!r}, which the schedule {kind!r} does not take: {error}."
        ) from error


def _check_optimizer(args: Any) -> None:
    """Refuses arguments that the chosen optimizer does not read."""
    optimizer = str(getattr(args.optim, "value", args.optim))
    if args.optim_target_modules is not None and not optimizer.startswith(_LOW_RANK):
        raise ValueError(
            f"optim_target_modules is {args.optim_target_modules!r}, which has no effect with optim {optimizer!r}: "
            "only GaLore and APOLLO use it. Leave it out."
        )
    if not args.optim_args:
        return
    names = [part.partition("=")[0].strip() for part in str(args.optim_args).split(",")]
    if not all("=" in part for part in str(args.optim_args).split(",")):
        raise ValueError(f"optim_args is {args.optim_args!r}; expected a list such as 'momentum=0.9,nesterov=true'.")
    known = () if optimizer in _OPTIMIZERS_WITHOUT else _OPTIMIZER_ARGUMENTS.get(optimizer)
    unknown = [name for name in names if known is not None and name not in known]
    if unknown:
        expected = f"it reads {', '.join(known)}" if known else "set weight_decay, adam_beta1 and their like instead"
        raise ValueError(
            f"optim_args has {unknown[0]!r}, which has no effect with optim {optimizer!r}: {expected}. Leave it out."
        )
