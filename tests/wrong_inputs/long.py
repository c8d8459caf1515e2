"""The long form of the wrong inputs: each case in its own process, within 30 s of CPU and 1 GB of memory.

    python tests/wrong_inputs/long.py [--only REGULAR_EXPRESSION] [--every N]

Prints one line for each fault and exits with status 1 if there is any. All cases take about an hour on two cores.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
os.environ["HF_HUB_OFFLINE"] = "1"

from cases import all_cases  # noqa: E402
from workshop import ROOT, SECONDS, Case, Workshop, faults, listing  # noqa: E402

MEGABYTES = 1000


def run(case: Case, workshop: Workshop, here: Path) -> list[str]:
    """Runs a case in its own process. Returns its faults."""
    here.mkdir()
    if case.prepare is not None:
        case.prepare(workshop, here)
    before, started = listing(here), time.perf_counter()
    command = [sys.executable, str(ROOT / "recipes" / f"{case.command}.py"), *workshop.words(case, here)]
    if any("\0" in word for word in command) or sum(map(len, command)) > 100_000:
        return []  # the operating system refuses such a command line
    with tempfile.TemporaryFile() as printed:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.DEVNULL, stderr=printed)
        while (waited := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.perf_counter() - started > 20 * SECONDS:  # a loaded machine; the bound is on CPU seconds
                process.kill()
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
    args = parser.parse_args()
    cases = [case for case in all_cases() if re.search(args.only, case.name)][:: args.every]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "workshop").mkdir()
        workshop = Workshop(Path(folder) / "workshop")
        for number, case in enumerate(cases):
            problems = run(case, workshop, Path(folder) / str(number))
            failed += bool(problems)
            for problem in problems:
                print(f"{case.name}: {problem}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} wrong inputs end in one clear line")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
