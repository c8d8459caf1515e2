"""Requirement 15, light import: the cost of `import class_hf` above bare Python, and the packages that it loads.

    python benchmarks/light_import.py [--output FILE]

Each measurement runs in a new process. The two kinds take turns. Needs no data.
"""

import subprocess
import sys

from common import arguments, bar, best_of, finish, fresh_process

HEAVY = ("torch", "transformers", "datasets", "rdkit", "faiss", "numpy", "scipy", "matplotlib")


def main() -> None:
    args = arguments(__doc__)
    codes = {"bare": "pass", "import": "import class_hf"}
    commands = {name: [sys.executable, "-c", code] for name, code in codes.items()}
    timing = best_of(
        {name: lambda command=command: subprocess.run(command, check=True) for name, command in commands.items()},
        repeats=7,
    )
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
            bar(f"15 light import: heavy packages loaded, of {len(HEAVY)}", "<=", 0, len(loaded["heavy"])),
        ],
        args.output,
        seconds={name: value.wall for name, value in timing.items()},
        asked_for=HEAVY,
        **loaded,
    )


if __name__ == "__main__":
    main()
