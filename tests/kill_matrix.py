"""Kills training runs at seeded random moments, resumes them, and compares the results with an uninterrupted run.

    python tests/kill_matrix.py             # a few moments, one process
    python tests/kill_matrix.py --long      # 20 moments with one process, 20 with two, and damaged checkpoints

Each run is the recipe `recipes/train.py` on 24 tiny pairs with adaptive intensity, in a forked process, so that the
imports are paid once. A run is killed inside one of its steps: scoring, training, saving a checkpoint, saving the
model, final evaluation, writing the records, drawing, writing the card. The kernel kills it (SIGALRM with the default
action), so that no Python code runs afterwards. It is then resumed with `--resume_from_checkpoint true`. Its weights,
metrics and ranks must be equal to those of the uninterrupted run, bit for bit.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from conftest import rows_of_pairs  # noqa: E402
from recipe_scripts import load_recipe_script

from class_hf import CurriculumTrainer  # noqa: E402
from class_hf.training.checkpoints import MANIFEST_NAME, last_complete_checkpoint  # noqa: E402

ROOT = Path(__file__).parents[1]
TOWER = '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16, "dropout": 0.2}'
TIMEOUT = 3600  # seconds of a run; only a run that hangs reaches it, not one on a loaded machine


TRAIN = load_recipe_script("train")
# The steps of a run, by name: the owner of a function, and its name.
STEPS: dict[str, tuple[Any, str]] = {
    "scoring": (TRAIN, "add_difficulty"),
    "training": (CurriculumTrainer, "train"),
    "saving a checkpoint": (CurriculumTrainer, "_save_checkpoint"),
    "saving the model": (CurriculumTrainer, "save_model"),
    "final evaluation": (TRAIN, "evaluate_run"),
    "writing the records": (TRAIN, "write_records"),
    "drawing": (TRAIN, "plot_run"),
    "writing the card": (CurriculumTrainer, "create_model_card"),
}


class Moment(NamedTuple):
    """When a process is killed: in which call of a step, counted from 0, and after how many seconds."""

    step: str
    call: int
    seconds: float
    rank: int = 0


@contextmanager
def _patched(on_call: Callable[[str, int], None], on_return: Callable[[str, float], None]) -> Iterator[None]:
    """Reports each call of a step, with its number, and its duration when it returns."""
    originals = {name: getattr(owner, function) for name, (owner, function) in STEPS.items()}

    def wrap(name: str, function: Any) -> Any:
        calls = [0]

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            on_call(name, calls[0])
            calls[0] += 1
            started = time.perf_counter()
            result = function(*args, **kwargs)
            on_return(name, time.perf_counter() - started)
            return result

        return wrapped

    for name, (owner, function) in STEPS.items():
        setattr(owner, function, wrap(name, originals[name]))
    try:
        yield
    finally:
        for name, (owner, function) in STEPS.items():
            setattr(owner, function, originals[name])


def _child(argv: list[str], rank: int, processes: int, port: int, log: Path, moment: Moment | None) -> None:
    """The forked process: runs the recipe and never returns."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
        os.environ.update(LOCAL_WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    durations: dict[str, list[float]] = {name: [] for name in STEPS}

    def on_call(name: str, call: int) -> None:
        if moment is not None and rank == moment.rank and (name, call) == (moment.step, moment.call):
            signal.setitimer(signal.ITIMER_REAL, max(moment.seconds, 1e-6))

    status = 1
    try:
        with _patched(on_call, lambda name, seconds: durations[name].append(seconds)):
            TRAIN.main(argv)
        if rank == 0:
            log.with_suffix(".json").write_text(json.dumps(durations))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(argv: list[str], log: Path, processes: int = 1, moment: Moment | None = None) -> list[int]:
    """Runs the recipe in forked processes.

    Args:
        argv: the arguments of the recipe.
        log: file for what they print.
        processes: their number.
        moment: when one of them is killed.

    Returns:
        Their exit statuses; a negative one is a signal.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log.parent.mkdir(parents=True, exist_ok=True)
    pids = []
    for rank in range(processes):
        pid = os.fork()
        if pid == 0:
            _child(argv, rank, processes, port, log, moment)
        pids.append(pid)
    statuses: dict[int, int] = {}
    deadline = time.monotonic() + TIMEOUT
    while len(statuses) < len(pids):
        for pid in pids:
            if pid not in statuses:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    statuses[pid] = os.waitstatus_to_exitcode(status)
                    if statuses[pid] != 0:
                        # A launcher ends the other processes when one fails.
                        deadline = min(deadline, time.monotonic() + 5)
        if time.monotonic() > deadline:
            for pid in pids:
                if pid not in statuses:
                    os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.01)
    return [statuses[pid] for pid in pids]


def write_data(folder: Path) -> None:
    """Writes 16 training and 8 validation pairs."""
    folder.mkdir()
    rows = rows_of_pairs(24)
    for split, numbers in {"train": range(16), "validation": range(16, 24)}.items():
        lines = [f"{1000 + row}\t{rows['smiles'][row]}\t{rows['description'][row]}" for row in numbers]
        (folder / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *lines]) + "\n")
    (folder / "recipe.yaml").write_text("text_model: lexical\nmolecule_model: fingerprint\n")


def arguments(data: Path, output: Path, processes: int, *further: str) -> list[str]:
    """The arguments of one run."""
    settings = {
        "data_dir": data, "output_dir": output, "text_config": TOWER, "molecule_config": TOWER,
        "sentence_dropout": 0.3, "difficulty_definition": "complexity", "num_train_epochs": 4,
        "learning_rate": 1e-2, "logging_steps": 1,
        "per_device_train_batch_size": 4 // processes, "save_strategy": "steps", "save_steps": 3, "use_cpu": "true",
        "curriculum_start": 0.5, "intensity_mode": "adaptive", "intensity_momentum": 0.5, "seed": 3,
        "report_to": "none", "eval_strategy": "epoch", "curriculum_span": 0.7,
    }  # fmt: skip
    flags = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    return [str(data / "recipe.yaml"), *flags, "--intensity_actions", "sharpness", "focus", "step_size", *further]


def difference(straight: Path, other: Path) -> str | None:
    """The first file of a finished run that differs from the uninterrupted run; None if all are equal."""
    for name in ("train_summary.json", "README.md", "model.safetensors", "metrics.json", "ranks.npz"):
        if not (other / name).is_file():
            return f"{name} is missing"
    for name in ("model.safetensors", "metrics.json"):
        if (straight / name).read_bytes() != (other / name).read_bytes():
            return f"{name} differs"
    with np.load(straight / "ranks.npz") as first, np.load(other / "ranks.npz") as second:
        if any(not np.array_equal(first[name], second[name]) for name in first):
            return "ranks.npz differs"
    leftovers = [path.name for path in other.iterdir() if path.name == "run.lock" or path.name.startswith(".")]
    return f"{leftovers[0]} is left" if leftovers else None


def moments_of(durations: dict[str, list[float]], count: int, processes: int, seed: int) -> list[Moment]:
    """Seeded random moments: the steps in turn, a random call of each, a random time inside the call."""
    generator = random.Random(seed)
    moments = []
    for number in range(count):
        name = list(STEPS)[number % len(STEPS)]
        call = generator.randrange(len(durations[name]))
        # From the second process of two, only steps that it runs.
        ranks = processes if name in ("scoring", "training", "saving a checkpoint", "final evaluation") else 1
        seconds = durations[name][call] * generator.random()
        moments.append(Moment(name, call, seconds, generator.randrange(ranks)))
    return moments


def kill_and_resume(folder: Path, count: int, processes: int, seed: int, report: Callable[[str], None]) -> int:
    """Kills and resumes `count` runs.

    Returns:
        How many of them end equal to the uninterrupted run.
    """
    data, straight = folder / "data", folder / f"straight_{processes}"
    argv = arguments(data, straight, processes)
    statuses = run(argv, folder / f"straight_{processes}.log", processes)
    assert statuses == [0] * processes, (folder / f"straight_{processes}.log").read_text()[-3000:]
    durations = json.loads((folder / f"straight_{processes}.json").read_text())
    equal = 0
    for number, moment in enumerate(moments_of(durations, count, processes, seed)):
        output, log = folder / f"killed_{processes}_{number}", folder / f"killed_{processes}_{number}.log"
        killed = run(arguments(data, output, processes), log, processes, moment)
        while killed[moment.rank] != -signal.SIGALRM:  # this run was faster than the uninterrupted one
            shutil.rmtree(output)
            moment = moment._replace(seconds=moment.seconds / 2)
            killed = run(arguments(data, output, processes), log, processes, moment)
        resumed = run(arguments(data, output, processes, "--resume_from_checkpoint", "true"), log, processes)
        fault = difference(straight, output) if resumed == [0] * processes else f"resume ended with {resumed}"
        equal += fault is None
        what = f"{moment.step}, call {moment.call}, {moment.seconds * 1000:.0f} ms, process {moment.rank}"
        report(f"{processes} process(es), {what}: {fault or 'equal'}")
        if fault is None:
            shutil.rmtree(output)
        else:
            report(log.read_text()[-2000:])
    return equal


def damage(path: Path, kind: str, generator: random.Random) -> None:
    """Damages a file: removes it, flips one bit, or truncates it."""
    if kind == "missing":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if kind == "flipped bit":
        place = generator.randrange(len(content))
        content[place] ^= 1 << generator.randrange(8)
    else:
        content = content[: len(content) // 2]
    path.write_bytes(bytes(content))


def damage_and_resume(
    folder: Path, seed: int, report: Callable[[str], None], limit: int | None = None
) -> tuple[int, int]:
    """Damages each file of the newest checkpoint in each way, and resumes.

    Returns:
        How many runs end equal to the uninterrupted run, and how many there were.
    """
    straight, generator = folder / "straight_1", random.Random(seed)
    checkpoint = Path(last_complete_checkpoint(str(straight)))
    names = sorted(path.name for path in checkpoint.iterdir())
    cases = [(name, kind) for name in names for kind in ("missing", "flipped bit", "truncated")]
    generator.shuffle(cases)
    cases = cases[:limit]
    equal = 0
    for number, (name, kind) in enumerate(cases):
        output, log = folder / f"damaged_{number}", folder / f"damaged_{number}.log"
        shutil.copytree(straight, output)
        for result in ("model.safetensors", "metrics.json", "ranks.npz", "train_summary.json"):
            (output / result).unlink()
        damage(output / checkpoint.name / name, kind, generator)
        status = run(arguments(folder / "data", output, 1, "--resume_from_checkpoint", "true"), log)
        fault = difference(straight, output) if status == [0] else f"resume ended with {status}"
        skipped = [line for line in log.read_text().splitlines() if "Skipping" in line]
        if fault is None and (len(skipped) != 1 or (name if name != MANIFEST_NAME else "manifest") not in skipped[0]):
            fault = f"no line names the file: {skipped}"
        equal += fault is None
        report(f"{name}, {kind}: {fault or 'equal'}")
        shutil.rmtree(output)
    return equal, len(cases)


def warm_up() -> None:
    """Imports what a run would import on first use, once for all forked runs."""
    from matplotlib.backends import backend_agg  # noqa: F401
    from matplotlib.figure import Figure
    from rdkit.Chem import Draw  # noqa: F401

    figure = Figure()
    figure.add_subplot().set_title("fonts")
    figure.savefig(os.devnull, format="png")


def main(argv: list[str]) -> int:
    """Runs the matrix and prints its results; the exit status is 0 if all runs are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="20 moments for 1 and 2 processes, all damaged files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warm_up()

    def report(line: str) -> None:
        print(line, flush=True)

    with tempfile.TemporaryDirectory(prefix="kill_matrix_") as name:
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        write_data(folder / "data")
        count, fails = (20, 0) if args.long else (3, 0)
        for processes in (1, 2) if args.long else (1,):
            equal = kill_and_resume(folder, count, processes, args.seed, report)
            report(f"{equal} of {count} killed runs with {processes} process(es) end bit-equal")
            fails += count - equal
        equal, cases = damage_and_resume(folder, args.seed, report, None if args.long else 3)
        report(f"{equal} of {cases} damaged checkpoints are skipped with one line, and the runs end bit-equal")
        fails += cases - equal
    return 1 if fails else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
