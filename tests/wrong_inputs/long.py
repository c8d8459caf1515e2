"""The long form of the wrong inputs: each case in its own process, within 30 s of CPU and 1 GB of memory.

    python tests/wrong_inputs/long.py [--only REGULAR_EXPRESSION] [--every N] [--fresh]

Prints one line for each fault and exits with status 1 if there is any. Each process is forked after the imports, which
takes a few minutes for all cases. With `--fresh` each is a new Python, which takes about two hours on one core.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")

from cases import all_cases  # noqa: E402
from recipe_scripts import load_recipe_script  # noqa: E402
from workshop import ROOT, Case, Workshop, faults, listing  # noqa: E402

from class_hf.config.command import run_command  # noqa: E402

MEGABYTES = 1000
PATIENCE = 3600  # seconds until a process is taken for one that hangs; the bound is on CPU seconds


def start(case: Case, workshop: Workshop, here: Path, printed: int, fresh: bool) -> int:
    """Starts the command of a case. Returns the id of its process."""
    words = workshop.words(case, here)
    if fresh:
        command = [sys.executable, str(ROOT / "recipes" / f"{case.command}.py"), *words]
        return subprocess.Popen(command, cwd=here, stdout=subprocess.DEVNULL, stderr=printed).pid
    main = load_recipe_script(case.command).main
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.chdir(here)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(printed, 2)
            status = run_command(main, words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(status or 0)
    return process


def run(case: Case, workshop: Workshop, here: Path, fresh: bool) -> list[str]:
    """Runs a case in its own process. Returns its faults."""
    here.mkdir()
    if case.prepare is not None:
        case.prepare(workshop, here)
    before, started = listing(here), time.monotonic()
    words = workshop.words(case, here)
    if any("\0" in word for word in words) or sum(map(len, words)) > 100_000:
        return []  # the operating system refuses such a command line
    with tempfile.TemporaryFile() as printed:
        process = start(case, workshop, here, printed.fileno(), fresh)
        while (waited := os.wait4(process, os.WNOHANG))[0] == 0:
            if time.monotonic() - started > PATIENCE:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.02)
        _, status, usage = waited
        seconds, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    problems = faults(case, os.waitstatus_to_exitcode(status), text, seconds, before, listing(here))
    return problems + ([f"{megabytes:,.0f} MB"] if megabytes > MEGABYTES else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="regular expression of the names of the cases")
    parser.add_argument("--every", type=int, default=1, help="run each N-th case")
    parser.add_argument("--fresh", action="store_true", help="a new Python for each case")
    args = parser.parse_args()
    cases = [case for case in all_cases() if re.search(args.only, case.name)][:: args.every]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        if (process := os.fork()) == 0:  # so that this process starts no threads, which a fork would lose
            Workshop(Path(folder) / "workshop")
            os._exit(0)
        os.waitpid(process, 0)
        workshop = Workshop(Path(folder) / "workshop")
        for number, case in enumerate(cases):
            problems = run(case, workshop, Path(folder) / str(number), args.fresh)
            failed += bool(problems)
            for problem in problems:
                print(f"{case.name}: {problem}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} wrong inputs end in one clear line")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
