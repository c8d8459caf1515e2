"""Processes for tests that need them, without the six seconds in which a new Python imports torch and transformers.

A fork server of the standard library imports `preloaded.py` once for each worker of pytest. A process that is forked
from it starts in a few milliseconds and is as fresh as a new Python: it shares no state with the test.

    done = run_recipe("train", "demo.yaml", "--output_dir", folder)       # as `python recipes/train.py demo.yaml ...`
    done = run_command("search", "a thiol", cwd=folder)                   # as `class-hf search "a thiol"`
    both = run_processes(function, folder, processes=2)                   # under gloo, with RANK and its relatives set
    environments = launched_environments("--config_file", "cpu.yaml")     # what `accelerate launch` sets
    process = Forked(function, folder)                                    # to be killed: process.kill(), process.end()

A function must be importable, that is, stand at the top of a test module. Use a real subprocess only to prove what a
fork cannot: imports, the interpreter's flags, or the installed command.
"""

import importlib
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

TESTS = Path(__file__).parent
ROOT = TESTS.parent
TIMEOUT = 300.0  # seconds


class Finished(NamedTuple):
    """How a process ended. A negative status is a signal."""

    returncode: int
    stdout: str
    stderr: str


class Forked:
    """A running process that calls a function.

    Args:
        function: an importable function. Its `SystemExit` is the exit status, and any other exception the status 1.
        arguments: its arguments.
        environment: variables that differ from those of the test.
        cwd: current folder of the process. Default: that of the test.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> None:
        _start_server()
        self._folder = Path(tempfile.mkdtemp(prefix="forked_"))
        self.stdout, self.stderr = self._folder / "stdout", self._folder / "stderr"
        for path in (self.stdout, self.stderr):
            path.touch()
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        streams = (str(self.stdout), str(self.stderr))
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_call, args=(function, arguments, variables, str(cwd or os.getcwd()), streams)
        )
        self._process.start()
        self.pid = self._process.pid
        self._finished: Finished | None = None

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while the process runs."""
        return self._process.exitcode if self._finished is None else self._finished.returncode

    def printed(self) -> str:
        """What the process has printed on both streams."""
        return self.stdout.read_text() + self.stderr.read_text()

    def wait_for(self, text: str, seconds: float = TIMEOUT) -> None:
        """Waits until the process has printed a text."""
        deadline = time.monotonic() + seconds
        while text not in self.printed():
            ended = self.returncode is not None and text not in self.printed()
            assert not ended and time.monotonic() < deadline, f"{text!r} is missing in:\n{self.printed()}"
            time.sleep(0.01)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal to the process, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def end(self, seconds: float = TIMEOUT) -> Finished:
        """Waits for the end of the process. It is killed if it takes longer than `seconds`."""
        self._process.join(seconds)
        if self.returncode is None:
            self.kill()
            self._process.join()
        self._finished = Finished(self._process.exitcode, self.stdout.read_text(), self.stderr.read_text())
        self._process.close()
        shutil.rmtree(self._folder)
        return self._finished


def run_recipe(
    name: str, *arguments: Any, environment: Mapping[str, str] | None = None, cwd: str | Path = ROOT
) -> Finished:
    """Runs a recipe as `python recipes/NAME.py ARGUMENTS` does."""
    return Forked(run_script, ROOT / "recipes" / f"{name}.py", *arguments, environment=environment, cwd=cwd).end()


def run_command(*words: Any, environment: Mapping[str, str] | None = None, cwd: str | Path = ROOT) -> Finished:
    """Runs the console command as `class-hf WORDS` does."""
    return Forked(_run_command, words, environment=environment, cwd=cwd).end()


def run_processes(
    function: Callable[..., Any],
    *arguments: Any,
    processes: int = 2,
    environment: Mapping[str, str] | None = None,
    environments: Sequence[Mapping[str, str]] | None = None,
    cwd: str | Path | None = None,
) -> list[Finished]:
    """Calls a function in several processes that can form a gloo group, as a launcher starts them.

    Args:
        function: an importable function. `dist.init_process_group("gloo")` or accelerate reads the environment.
        arguments: its arguments, the same in each process.
        processes: number of processes.
        environment: variables of all processes.
        environments: variables of each process, from `launched_environments`. They decide the number of processes.
        cwd: current folder of the processes.

    Returns:
        How each process ended. If a process fails, the others are ended after ten seconds.
    """
    count = processes if environments is None else len(environments)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(count):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        place |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        variables = {**(environments[rank] if environments else {}), **(environment or {}), **place}
        started.append(Forked(function, *arguments, environment=variables, cwd=cwd))
    deadline = time.monotonic() + TIMEOUT
    while any(process.returncode is None for process in started) and time.monotonic() < deadline:
        if any(process.returncode for process in started):
            deadline = min(deadline, time.monotonic() + 10)
        time.sleep(0.01)
    return [process.end(0) for process in started]


def run_launcher(*words: Any, environment: Mapping[str, str] | None = None) -> Finished:
    """Runs `accelerate launch WORDS`. Each process that the launcher starts imports what its script imports."""
    return Forked(_launch, [*map(str, words)], environment=environment, cwd=ROOT).end()


def run_launched(options: Sequence[Any], function: Callable[..., Any], *arguments: Any) -> Finished:
    """Calls a function in the processes of `accelerate launch OPTIONS`, without the seconds of their imports.

    The launcher is the real one, with its rendezvous. It starts `launched_script.py`, and for each such process this
    forks one that calls the function in its environment. The script prints what the fork printed, and ends as it ends.

    Args:
        options: options of the launcher.
        function: an importable function.
        arguments: its arguments, the same in each process.

    Returns:
        How the launcher ended, with what all processes have printed.
    """
    with tempfile.TemporaryDirectory(prefix="launched_") as folder:
        words = [*map(str, options), str(TESTS / "launched_script.py"), folder]
        launcher = Forked(_launch, words, environment={"GLOO_SOCKET_IFNAME": "lo"}, cwd=ROOT)
        running: dict[Path, Forked] = {}
        deadline = time.monotonic() + TIMEOUT
        while launcher.returncode is None and time.monotonic() < deadline:
            for path in Path(folder).glob("*.environment"):
                running[path] = Forked(function, *arguments, environment=json.loads(path.read_text()), cwd=ROOT)
                path.rename(path.with_suffix(".started"))
            for path in [path for path, process in running.items() if process.returncode is not None]:
                path.with_suffix(".part").write_text(json.dumps(running.pop(path).end()))
                path.with_suffix(".part").rename(path.with_suffix(".finished"))
            time.sleep(0.01)
        for process in running.values():
            process.end(0)
        return launcher.end(0)


def launched_environments(*options: Any) -> list[dict[str, str]]:
    """The variables that `accelerate launch OPTIONS SCRIPT` sets for each process, without those of its rendezvous.

    The launcher is the real one. Its script writes its environment, which is a hundred times cheaper than a training.
    """
    with tempfile.TemporaryDirectory(prefix="launched_") as folder:
        script = Path(folder, "script.py")
        script.write_text(
            "import json, os, pathlib\n"
            f"pathlib.Path({folder!r}, str(os.getpid())).write_text(json.dumps(dict(os.environ)))\n"
        )
        done = run_launcher(*options, script)
        script.unlink()
        assert done.returncode == 0, done.stderr
        written = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
    kept = [
        {name: value for name, value in variables.items() if not name.startswith(("TORCHELASTIC_", "TORCH_"))}
        for variables in written
    ]
    return sorted(kept, key=lambda variables: int(variables.get("RANK", 0)))


def run_script(path: str | Path, *arguments: Any) -> None:
    """Runs a script as the main program of this process."""
    sys.argv = [str(path), *map(str, arguments)]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(str(path), run_name="__main__")


def _run_command(words: Sequence[Any]) -> None:
    sys.argv = ["class-hf", *map(str, words)]
    importlib.import_module("class_hf.cli").main()


def _launch(words: list[str]) -> None:
    sys.argv = ["accelerate", *words]
    importlib.import_module("accelerate.commands.launch").main()


def _start_server() -> None:
    """Starts the fork server unless it runs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    with mock.patch.dict(os.environ, {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}):
        forkserver.ensure_running()


def _call(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    environment: dict[str, str],
    cwd: str,
    streams: tuple[str, str],
) -> None:
    """The forked process."""
    multiprocessing.set_start_method(None, force=True)  # it inherits the server's, unlike a script
    for number, path in enumerate(streams, start=1):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    function(*arguments)
