"""Requirement 20, several hosts: two network namespaces train as one process; traffic and steps on a slow network.

    sudo python benchmarks/several_hosts.py [--steps 6] [--seeds 3]

Each host is a process of `recipes/train.py` in a network namespace (Linux, as root), forked from this one. The data
are the demo's, the towers those of `recipes/demo.yaml` (35.7M parameters) without dropout. Skipped where namespaces
are not allowed. `tests/training/test_several_hosts.py` has the killed and the silent host.

With dropout the two sides draw other numbers, so single runs differ. `--seeds` trains smaller towers with the recipe's
dropout for 40 steps, with several seeds on each side. The means of MRR may differ by what the seeds of one process do.

With `fp16` the two hosts exchange gradients in 16 bits (`--ddp_gradient_compression fp16`).
"""

import json
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from common import ROOT, arguments, bar, finish, skipped
from namespaces import Hosts, allowed, network_of
from safetensors.torch import load_file

from class_hf.config.command import run_command

GLOBAL_BATCH = 256
RATES = {"unlimited": None, "1 Gbit/s": "1gbit", "100 Mbit/s": "100mbit"}
FP16 = ("--ddp_gradient_compression", "fp16")


def words(output: Path, batch: int, steps: int) -> list[str]:
    """The arguments of `class-hf train` without dropout."""
    pairs = GLOBAL_BATCH * 2
    return [
        str(ROOT / "recipes" / "demo.yaml"),
        *("--output_dir", str(output), "--per_device_train_batch_size", str(batch)),
        *("--max_train_pairs", str(pairs), "--num_train_epochs", str(steps // 2), "--curriculum_order", "random"),
        *("--curriculum_start", "1.0", "--eval_strategy", "no", "--logging_steps", "1", "--sentence_dropout", "0"),
        *("--text_config", '{"dropout": 0, "token_dropout": 0}'),
        *("--molecule_config", '{"dropout": 0, "token_dropout": 0}'),
        *("--eval_pairs", "64", "--eval_pool", "256"),
    ]


def words_with_dropout(output: Path, batch: int, seed: int) -> list[str]:
    """The arguments of `class-hf train` with dropout, for 40 steps. Narrow tables are quick to update."""
    return [
        str(ROOT / "recipes" / "demo.yaml"),
        *("--output_dir", str(output), "--per_device_train_batch_size", str(batch), "--seed", str(seed)),
        *("--max_train_pairs", str(GLOBAL_BATCH * 8), "--num_train_epochs", "5", "--curriculum_order", "none"),
        *("--eval_strategy", "no", "--eval_pairs", "400", "--eval_pool", "1000"),
        *("--text_config", '{"dropout": 0.3, "token_dropout": 0.2, "embedding_size": 32}'),
        *("--molecule_config", '{"dropout": 0.3, "token_dropout": 0.2, "embedding_size": 32}'),
    ]


def started(recipe: dict, argv: Sequence[str], log: Path, environment: dict[str, str], hosts: Hosts | None) -> int:
    """Forks a process that trains. Returns its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        if hosts is not None:
            hosts.enter(int(environment["RANK"]))
        os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream.fileno())
        torch.set_num_threads(1)
        sys.argv = ["train.py", *argv]
        status = run_command(recipe["main"], argv)
        sys.stdout.flush()
    finally:
        os._exit(status)


def run_hosts(recipe: dict, output: Path, argv: Sequence[str], hosts: Hosts | None) -> None:
    """Trains on one process or on all hosts, to the end."""
    count = 1 if hosts is None else len(hosts.addresses)
    output.mkdir(parents=True, exist_ok=True)
    logs = [output.with_name(f"{output.name}_{number}.log") for number in range(count)]
    environments = [{}] if hosts is None else [hosts.environment(number) for number in range(count)]
    processes = [started(recipe, argv, *pair, hosts) for pair in zip(logs, environments, strict=True)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    if any(ends):
        sys.exit(f"a training failed:\n{''.join(log.read_text()[-2000:] for log in logs)}")


def train(recipe: dict, output: Path, steps: int, hosts: Hosts | None = None, more: Sequence[str] = ()) -> dict:
    """Trains on one process or on two hosts, and returns losses, seconds of a step, and bytes that a host sent."""
    before = hosts.sent(1) if hosts is not None else 0
    run_hosts(recipe, output, [*words(output, batch_of(hosts), steps), *more], hosts)
    history = json.loads((output / "log_history.json").read_text())
    summary = json.loads((output / "train_summary.json").read_text())
    return {
        "loss": [entry["loss"] for entry in history if "loss" in entry],
        "gradient_norm": [entry["grad_norm"] for entry in history if "grad_norm" in entry],
        "seconds_a_step": summary["wall_seconds"] / summary["steps"],
        "sent": hosts.sent(1) - before if hosts is not None else 0,
        "parameters": summary.get("parameters"),
    }


def batch_of(hosts: Hosts | None) -> int:
    """Pairs in a batch of a process."""
    return GLOBAL_BATCH if hosts is None else GLOBAL_BATCH // len(hosts.addresses)


def reciprocal_rank(
    recipe: dict, output: Path, seed: int, hosts: Hosts | None = None, more: Sequence[str] = ()
) -> float:
    """Trains with dropout, and returns the mean of MRR in both directions."""
    run_hosts(recipe, output, [*words_with_dropout(output, batch_of(hosts), seed), *more], hosts)
    pool = json.loads((output / "metrics.json").read_text())["pools"]["full"]
    return (pool["text_to_molecule"]["mrr"] + pool["molecule_to_text"]["mrr"]) / 2


def largest_difference(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def main() -> None:
    args = arguments(
        __doc__,
        steps={"type": int, "default": 6, "help": "optimizer steps of each run, even"},
        seeds={"type": int, "default": 3, "help": "runs with dropout on each side"},
    )
    reason = allowed()
    if reason is not None:
        finish([skipped("20 several hosts: equal to one process", "<= 1e-05", reason)], args.output)
    recipe = runpy.run_path(str(ROOT / "recipes" / "train.py"), run_name="recipe")
    torch.set_num_threads(1)
    runs: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch, network_of(2) as hosts:
        began = time.monotonic()
        runs["one process"] = train(recipe, Path(scratch, "one"), args.steps)
        for name, rate in RATES.items():
            hosts.limit(rate)
            for ending, more in (("", ()), (", fp16", FP16)):
                output = Path(scratch, (name + ending).replace("/", " "))
                runs[name + ending] = train(recipe, output, args.steps, hosts, more)
        hosts.limit(None)
        ranks: dict[str, list[float]] = {"one process": [], "two hosts": [], "two hosts, fp16": []}
        for seed in range(args.seeds):
            for name, side, more in (
                ("one process", None, ()),
                ("two hosts", hosts, ()),
                ("two hosts, fp16", hosts, FP16),
            ):
                ranks[name].append(reciprocal_rank(recipe, Path(scratch, f"{name} {seed}"), seed, side, more))
                print(name, "with dropout, seed", seed, round(ranks[name][-1], 4), flush=True)
        one, two = (load_file(Path(scratch, name, "model.safetensors")) for name in ("one", "unlimited"))
        weights = max(float((one[name] - two[name]).abs().max()) for name in one)
        size = sum(value.numel() * value.element_size() for value in one.values())
        seconds = time.monotonic() - began
    plain, halved = runs["unlimited"], runs["unlimited, fp16"]
    sent = plain["sent"] / args.steps
    rows = [
        bar("20 several hosts: weights, largest difference from one process", "<=", 1e-5, weights),
        bar(
            "20 several hosts: loss, largest difference from one process",
            "<=",
            1e-5,
            largest_difference(runs["one process"]["loss"], plain["loss"]),
        ),
        bar("20 several hosts: bytes that a host sends a step, over the weights", "<=", 1.5, sent / size),
        bar("20 several hosts: bytes with fp16, over those without", "<=", 0.55, halved["sent"] / plain["sent"]),
    ]
    for name in ("1 Gbit/s", "100 Mbit/s"):
        seconds_a_step = runs[name]["seconds_a_step"]
        slowdown, gain = seconds_a_step / plain["seconds_a_step"], runs[f"{name}, fp16"]["seconds_a_step"]
        rows.append(skipped(f"20 several hosts: time of a step at {name} over unlimited", "-", "no bar", slowdown))
        name = f"20 several hosts: time of a step at {name} with fp16, over that without"
        rows.append(skipped(name, "-", "no bar", gain / seconds_a_step))
    if args.seeds > 1:
        means = {name: sum(values) / len(values) for name, values in ranks.items()}
        spread = max(ranks["one process"]) - min(ranks["one process"])
        for name, other in (("two hosts", "one process"), ("two hosts, fp16", "two hosts")):
            difference = abs(means[name] - means[other])
            name = f"20 several hosts, with dropout: difference of MRR, {name} and {other}, over the spread of seeds"
            rows.append(bar(name, "<=", 1, difference / spread, **ranks))
    finish(rows, args.output, runs=runs, bytes_of_weights=size, seconds=seconds)


if __name__ == "__main__":
    main()
