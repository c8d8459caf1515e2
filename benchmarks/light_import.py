"""Requirement 15, light import: the cost of `import class_hf` above bare Python, and the packages that it loads.

    python benchmarks/light_import.py [--output FILE]

Also measures the CPU time of the help of the console command, and of a cold search over 10,000 molecules. Each
measurement runs in a new process. The kinds take turns. Needs no data.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, bar, best_of, finish, fresh_process

HELPS = ("--help", "train --help", "search --help")
HEAVY = ("torch", "transformers", "datasets", "rdkit", "faiss", "numpy", "scipy", "matplotlib")


def run(command: list[str]) -> None:
    """Runs a command without its output."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def cpu_seconds(command: list[str]) -> float:
    """CPU seconds of a command, the best of three runs."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def cold_search() -> float:
    """CPU seconds of `class-hf search` over 10,000 molecules, with the import of its libraries."""
    from service import build  # the index of the benchmark of the service

    with tempfile.TemporaryDirectory() as scratch:
        build(Path(scratch), None)
        index = str(Path(scratch, "index"))
        return cpu_seconds([sys.executable, "-m", "class_hf", "search", "an aromatic amine", "--index", index])


def main() -> None:
    args = arguments(__doc__)
    codes = {"bare": "pass", "import": "import class_hf"}
    commands = {name: [sys.executable, "-c", code] for name, code in codes.items()}
    commands |= {name: [sys.executable, "-m", "class_hf", *name.split()] for name in HELPS}
    timing = best_of({name: lambda command=command: run(command) for name, command in commands.items()}, repeats=7)
    # Seconds of the processes, since this process only waits for them.
    timing = {name: value._replace(cpu=cpu_seconds(commands[name])) for name, value in timing.items()}
    loaded = fresh_process(
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import class_hf\n"
        "print(json.dumps({'heavy': [n for n in sys.argv[1:] if n in sys.modules],"
        " 'new': len(set(sys.modules) - before)}))",
        *HEAVY,
    )
    finish(
        [
            bar("15 light import: seconds over bare Python", "<=", 0.3, timing["import"].wall - timing["bare"].wall),
            *(
                bar(f"15 light import: CPU seconds of class-hf {name}".rstrip(), "<=", 1.0, timing[name].cpu)
                for name in HELPS
            ),
            bar("15 light import: CPU seconds of a cold search over 10,000 molecules", "<=", 2.5, cold_search()),
            bar(f"15 light import: heavy packages loaded, of {len(HEAVY)}", "<=", 0, len(loaded["heavy"])),
        ],
        args.output,
        seconds={name: value.wall for name, value in timing.items()},
        asked_for=HEAVY,
        **loaded,
    )


if __name__ == "__main__":
    main()
