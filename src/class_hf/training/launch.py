"""How the processes of a run were launched, and what they print."""

import os
import sys

import datasets
import torch
import torch.distributed as dist
import transformers
from transformers import TrainingArguments

from class_hf.utils.logs import set_up_logging
from class_hf.utils.threads import keep_freed_memory, limit_shape_caches


def print_once(args: TrainingArguments, text: str) -> None:
    """Prints a line on the first process of each host.

    Args:
        args: the arguments of the run, which know the process.
        text: the line.
    """
    if args.should_log:
        print(text, flush=True)


def check_launch(args: TrainingArguments) -> None:
    """Refuses a launch in which `accelerate` asked for several processes and started one.

    On a CPU, `accelerate launch` leaves several processes to mpirun. Without mpirun it starts one process and prints
    no warning. With several hosts, each host would then train a model of its own.

    Args:
        args: the arguments of the run.

    Raises:
        ValueError: if processes are missing. The message names the command that starts them.
    """
    # accelerate sets MASTER_ADDR if it was asked for several processes. RANK is set by a launcher that starts them.
    asked_for_several = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if not asked_for_several or "RANK" in os.environ or args.world_size > 1:
        return
    address = os.environ["MASTER_ADDR"]
    if address not in ("127.0.0.1", "localhost"):
        raise ValueError(
            f"accelerate was asked for several hosts (main_process_ip {address}) and started one separate process: "
            "each host would train its own model. Leave out `--cpu`, and set `use_cpu: true` in the file of "
            "--config_file (for instance several_hosts.yaml)."
        )
    raise ValueError(
        "accelerate was asked for several processes and started one, which is what it does on a CPU. Use `accelerate "
        "launch --config_file recipes/accelerate/cpu_2_processes.yaml --num_processes N ...`."
    )


def set_up_cpu(args: TrainingArguments) -> None:
    """On a CPU: keeps freed memory and limits oneDNN's caches. Prints a hint if only one of several cores is used.

    Args:
        args: the arguments of the run.
    """
    if args.device.type != "cpu":
        return
    keep_freed_memory()
    limit_shape_caches()
    if torch.get_num_threads() == 1 and (os.cpu_count() or 1) > args.world_size:
        print_once(
            args,
            "running on one thread: OMP_NUM_THREADS is 1, which `accelerate launch` also sets on a CPU. Without it, "
            "`class-hf train RECIPE` uses all cores, and so does `accelerate launch --config_file "
            "recipes/accelerate/cpu.yaml`.",
        )


def set_up_log(args: TrainingArguments, log_format: str) -> None:
    """Sets up the log of this package at the level of `--log_level`. Only one process on each host logs warnings.

    Args:
        args: the arguments of the run.
        log_format: `"text"` or `"json"`. JSON lines have the level `info`.
    """
    level = {"passive": "info" if log_format == "json" else "warning", "detail": "info", "critical": "error"}
    set_up_logging(level.get(args.log_level, args.log_level) if args.should_log else "error", log_format)


def limit_progress_bars(args: TrainingArguments) -> None:
    """Switches progress bars off on all processes but the first, and where stderr is no terminal."""
    if not sys.stderr.isatty() or not args.should_log:
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
        args.disable_tqdm = True


def end_processes() -> None:
    """Waits for all processes and closes their connections. gloo can abort if one process leaves early."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def parse_resume(value: str | bool | None) -> str | bool | None:
    """The value of `--resume_from_checkpoint`.

    Args:
        value: `true`, `false`, `none`, or the folder of a checkpoint; letters may be upper case.

    Returns:
        True for the last complete checkpoint, None for a new run, or the folder.

    >>> parse_resume("True"), parse_resume("false"), parse_resume("outputs/demo/checkpoint-20")
    (True, None, 'outputs/demo/checkpoint-20')
    """
    known: dict[str, str | bool | None] = {"true": True, "false": None, "none": None, "": None}
    return known.get(str(value if value is not None else "").lower(), value)
