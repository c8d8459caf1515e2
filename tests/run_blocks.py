"""Run the code blocks of a page in one process, in the current folder, and print what each prints as JSON.

A test forks the process by run_forked. A shell line that starts with `class-hf` runs in it, and a line with another
command or with `||` runs in bash.
"""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from class_hf import cli

MAY_FAIL = " 2>&1 || true"


def run_command(line: str, in_shell: bool = True) -> None:
    """Runs a line of a shell block.

    Args:
        line: the line.
        in_shell: whether a `class-hf` command with `2>&1 || true` runs in bash, where its imports take seconds.
    """
    words = shlex.split(line)
    if words[0] == "class-hf" and line.endswith(MAY_FAIL) and not in_shell:
        with contextlib.redirect_stderr(sys.stdout), contextlib.suppress(SystemExit):
            cli.main(shlex.split(line.removesuffix(MAY_FAIL))[1:])
        return
    if words[0] != "class-hf" or "||" in words:
        # The command of this Python, whether or not its environment is active.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            env={**os.environ, "PATH": path}, check=True, capture_output=True, text=True,
        )  # fmt: skip
        sys.stdout.write(run.stdout)
        return
    try:
        cli.main(words[1:])
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RuntimeError(f"{line!r} ended with {end.code!r}") from end


def run_blocks(blocks: Sequence[tuple[str, str]]) -> None:
    """Runs blocks (language, code). Prints a list with what each prints, or ends with the traceback of an error."""
    sys.path.insert(0, "")  # as Python does for `-c` and in a notebook
    outputs = []
    for language, code in blocks:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if language == "python":
                    exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})
                else:
                    for line in code.splitlines():
                        run_command(line)
        except Exception:
            sys.exit(f"{code}\n{printed.getvalue()}\n{traceback.format_exc()}")
        outputs.append(printed.getvalue())
    json.dump(outputs, sys.stdout)
