"""Helpers of the benchmarks: interleaved timing, peak memory, bars, and results as JSON."""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Timing(NamedTuple):
    """Seconds of the best repeat."""

    wall: float
    cpu: float


def arguments(description: str | None, **extra: dict[str, Any]) -> argparse.Namespace:
    """Parses the command line of a benchmark: `--data_dir`, `--output`, and the `extra` arguments by name."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, help="folder with ChEBI-20 (default: the synthetic demo)")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{Path(sys.argv[0]).stem}.json")
    for name, settings in extra.items():
        parser.add_argument(f"--{name}", **settings)
    return parser.parse_args()


def load(data_dir: Path | None) -> Any:
    """Loads the pairs by split and the candidate pool, from `data_dir` or from the demo."""
    from class_hf.data.source import load_data

    return load_data(None if data_dir is None else str(data_dir), demo=data_dir is None)[0]


def machine() -> dict[str, Any]:
    """The machine and the versions."""
    from class_hf.utils.environment import environment

    record = environment()
    versions = record.pop("versions")
    return {**record, "matrix_units": has_matrix_units(), "python": versions["python"], "torch": versions["torch"]}


def has_matrix_units() -> bool:
    """Whether the CPU has bf16 matrix units (AMX)."""
    return "amx_bf16" in cpu_flags()


def cpu_flags() -> set[str]:
    """The instruction sets of the CPU, by their names in Linux. Empty on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return {flag for line in lines if line.startswith("flags") for flag in line.split(":")[1].split()}


def best_of(functions: dict[str, Callable[[], Any]], repeats: int = 3) -> dict[str, Timing]:
    """Times functions and returns the best repeat of each.

    The functions take turns, so that another load on the machine affects all of them.
    """
    best = {name: Timing(math.inf, math.inf) for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            timing = Timing(time.perf_counter() - wall, time.process_time() - cpu)
            best[name] = min(best[name], timing)
    return best


def fresh_process(code: str, *words: object) -> dict[str, Any]:
    """Runs Python code in a new process, for its peak memory. Returns the JSON object in the last line it prints."""
    command = [sys.executable, "-c", code, *map(str, words)]
    # With this setting glibc returns freed blocks to the system at once, so freed memory is not counted.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT / "benchmarks", env=environment
    )
    if done.returncode != 0:
        sys.exit(f"a measurement failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_during(function: Callable[[], Any]) -> int:
    """Peak memory of this process while `function` runs, in bytes above the memory before (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak; see proc(5)
    before = _memory("VmRSS")
    function()
    return _memory("VmHWM") - before


def anonymous_during(function: Callable[[], Any], interval: float = 0.05) -> int:
    """Largest anonymous memory of this process while `function` runs, in bytes above that before (Linux).

    Pages of mapped files are not counted, because the system can drop them.
    """
    before = most = _memory("RssAnon")
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(interval):
            most = max(most, _memory("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        function()
    finally:
        ended.set()
        thread.join()
    return max(most, _memory("RssAnon")) - before


def peak_rss() -> int:
    """Peak memory of this process in bytes (Linux)."""
    return _memory("VmHWM")


def _memory(field: str) -> int:
    """A field of `/proc/self/status`, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def bar(requirement: str, sign: str, limit: float, measured: float, **details: Any) -> dict[str, Any]:
    """A result row: requirement, bar, measured value. `sign` is `<=` or `>=`."""
    met = measured <= limit if sign == "<=" else measured >= limit
    return {
        "requirement": requirement,
        "bar": f"{sign} {limit:g}",
        "measured": float(f"{measured:.4g}"),
        "met": bool(met),
        **({"details": details} if details else {}),
    }


def skipped(requirement: str, text: str, reason: str, measured: float | None = None) -> dict[str, Any]:
    """A result row whose bar does not apply on this machine, with the measured value if there is one."""
    value = None if measured is None else float(f"{measured:.4g}")
    return {"requirement": requirement, "bar": text, "measured": value, "met": None, "skipped": reason}


def finish(rows: Sequence[dict[str, Any]], output: Path, **details: Any) -> None:
    """Writes and prints the rows, with machine and command. Exits with status 1 if a bar is missed."""
    from class_hf.utils.files import write_json

    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    for option, name in (
        ("--data_dir", "DATA"),
        ("--model", "MODEL"),
        ("--runs_dir", "RUNS"),
        ("--arm_runs", "RUNS/ARM"),
        ("--baseline_runs", "RUNS/BASELINE"),
        ("--earlier", "CHECKOUT/src"),
    ):
        if option in words:
            words[words.index(option) + 1] = name
    origin = {"machine": machine(), "command": f"python benchmarks/{shlex.join(words)}"}
    write_json(output, {"results": [{**row, **origin} for row in rows], "details": details})
    verdicts = {True: "met", False: "MISSED", None: "skipped"}
    for row in rows:
        print(f"{row['requirement']:<88} {row['bar']:>10} {row['measured']!s:>10} {verdicts[row['met']]}")
    sys.exit(1 if any(row["met"] is False for row in rows) else 0)
