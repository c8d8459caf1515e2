"""Gradients that are exchanged in 16 bits: DDP's own communication hooks."""

from typing import Any, Literal

from accelerate.utils import DDPCommunicationHookType
from transformers import TrainingArguments

from class_hf.utils.suggestions import check_choice

_ARGUMENT = "ddp_gradient_compression"


def check_compression(args: TrainingArguments, kind: Literal["fp16", "bf16"] | None) -> None:
    """Refuses a compression that has no effect in a run, or that DDP would refuse when training starts.

    Args:
        args: the arguments of the run, which know its processes.
        kind: type of the exchanged numbers. None: gradients are exchanged as they are.

    Raises:
        ValueError: with one process, for bf16 on a CPU, or if the type is not known.

    >>> check_compression(TrainingArguments("out", use_cpu=True), "fp16")
    Traceback (most recent call last):
    ValueError: ddp_gradient_compression is 'fp16', but this run has one process, which exchanges no gradients. Leave \
it out, or start several processes.
    """
    if kind is None:
        return
    check_choice(_ARGUMENT, kind, ("fp16", "bf16"))
    if args.world_size == 1:
        raise ValueError(
            f"{_ARGUMENT} is {kind!r}, but this run has one process, which exchanges no gradients. Leave it out, or "
            "start several processes."
        )
    if kind == "bf16" and args.device.type == "cpu":
        raise ValueError(
            f"{_ARGUMENT} is 'bf16', which DDP exchanges between GPUs only (NCCL), and this run uses the CPU. Set it "
            "to fp16."
        )


def compress_gradients(accelerator: Any, kind: Literal["fp16", "bf16"] | None) -> None:
    """Lets DDP exchange gradients in 16 bits, in models that are prepared from now on.

    Each process divides its gradients by the number of processes and rounds them. Sums are rounded too. The weights
    and the optimizer keep their types. The hook has no state, so a resumed run needs none.

    Args:
        accelerator: of a trainer.
        kind: type of the exchanged numbers. None: gradients are exchanged as they are.

    Raises:
        ValueError: if the processes do not exchange gradients by DDP.
    """
    if kind is None:
        return
    distributed = accelerator.distributed_type.value
    if not distributed.startswith("MULTI_"):
        raise ValueError(f"{_ARGUMENT} is {kind!r}, which has no effect with {distributed}. Leave it out, or use DDP.")
    accelerator.ddp_handler.comm_hook = DDPCommunicationHookType(kind)
