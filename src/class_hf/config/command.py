"""Runs a command: parses its arguments, and ends each error with one line. Imports nothing heavy."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from class_hf.utils.logs import FORMATS, LEVELS, set_up_logging
from class_hf.utils.messages import one_line

# Errors that a user can cause. Their message says what to do, so nothing is added to it.
USER_ERRORS: tuple[type[Exception], ...] = (ValueError, OSError, ImportError)
INTERRUPTED = 130  # status of a process that SIGINT ended, as shells report it
# Switches for the bars of libraries that are imported already.
_BARS = {
    "huggingface_hub.utils": "disable_progress_bars",
    "datasets": "disable_progress_bars",
    "transformers.utils.logging": "disable_progress_bar",
}
_PACKAGE = str(Path(__file__).parents[1])


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors take one line, without the usage of the command.

    Arguments cannot be abbreviated: an abbreviation would change its meaning with a new argument.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def add_log_arguments(self, level: str = "warning", log_format: str = "text") -> None:
        """Adds `--log_level` and `--log_format`, in a group of their own.

        Args:
            level, log_format: the defaults.
        """
        group = self.add_argument_group("log")
        for name, choices, default, text in (
            ("log_level", LEVELS, level, "smallest level of the lines on standard error"),
            ("log_format", FORMATS, log_format, "text, or one JSON object a line"),
        ):
            group.add_argument(f"--{name}", choices=choices, default=default, help=f"{text} (default: %(default)s)")

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parses the words, and sets up the log if there are arguments for it."""
        namespace = super().parse_args(*args, **kwargs)
        if hasattr(namespace, "log_format") and hasattr(namespace, "log_level"):
            set_up_logging(namespace.log_level, namespace.log_format)
        return namespace

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with status 2."""
        self.exit(2, f"error: {one_line(message).rstrip('.')}. See {self.prog} --help\n")


def asks_for_help() -> bool:
    """Whether the command line of this process asks for the help of a command.

    The recipes skip their heavy imports then, so that the help takes a fraction of a second.
    """
    return any(word in ("-h", "--help") for word in sys.argv[1:])


def run_script(main: Callable[[list[str]], None]) -> None:
    """Runs the `main` of a command with the words of the command line, and exits with its status.

    Args:
        main: gets the words after the name of the command.
    """
    hide_bars_in_pipes()
    status = run_command(main, sys.argv[1:])
    if status:
        sys.exit(status)


def run_command(main: Callable[[list[str]], None], argv: Sequence[str]) -> int:
    """Runs the `main` of a command. An error is printed in one line on standard error.

    Args:
        main: gets the words.
        argv: the words of the command line. `--debug` without a value is removed; with it, errors have a traceback.

    Returns:
        The exit status: 0, 1 after an error, 130 after Ctrl-C.

    >>> def main(argv):
    ...     raise ValueError("k is 0; expected an integer of at least 1")
    >>> import contextlib, io
    >>> with contextlib.redirect_stderr(io.StringIO()) as printed:
    ...     status = run_command(main, [])
    >>> status, printed.getvalue()
    (1, 'error: k is 0; expected an integer of at least 1\\n')
    """
    words, debug = _without_debug(argv)
    try:
        main(words)
        return 0
    except KeyboardInterrupt as interrupt:
        if debug:
            traceback.print_exc()
        print(f"interrupted: {one_line(interrupt)}" if str(interrupt) else "interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output is gone, for instance `head`. Python would fail once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"error: {describe_error(error)}", file=sys.stderr)
        return 1


def hide_bars_in_pipes() -> None:
    """Switches off the progress bars of all libraries where standard error is no terminal, here and in processes that
    this one starts.

    The bars of this package check the stream. Those of transformers, datasets and huggingface_hub do not.
    """
    if sys.stderr.isatty():
        return
    for name in ("HF_HUB", "HF_DATASETS"):  # read when the library is imported; transformers reads the first
        os.environ.setdefault(f"{name}_DISABLE_PROGRESS_BARS", "1")
    for module, function in _BARS.items():
        if module in sys.modules:
            getattr(sys.modules[module], function)()


def _without_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """The words without `--debug`, and whether it was there. `--debug VALUE` is an argument of transformers."""
    words = list(argv)
    for place, word in enumerate(words):
        if word == "--debug" and all(following.startswith("-") for following in words[place + 1 : place + 2]):
            return words[:place] + words[place + 1 :], True
    return words, False


def describe_error(error: BaseException) -> str:
    """Describes an error in one line.

    Args:
        error: any exception.

    Returns:
        The message of an error that a user can cause. Otherwise the message with its type and its place in this
        package, and how to see the traceback.

    >>> describe_error(FileNotFoundError(2, "No such file or directory", "pairs.csv"))
    'pairs.csv: No such file or directory'
    >>> describe_error(KeyError("id"))
    "KeyError: 'id'. Run the command again with --debug to see the traceback."
    """
    message = one_line(error)
    if isinstance(error, OSError) and error.strerror:
        cause = one_line(error.strerror)
        return cause if error.filename is None else f"{_name(error.filename)}: {cause}"
    hub_errors = sys.modules.get("huggingface_hub.errors")  # not imported here, since it takes long
    strict = getattr(hub_errors, "StrictDataclassError", ())
    if message and isinstance(error, (*USER_ERRORS, argparse.ArgumentTypeError, *((strict,) if strict else ()))):
        return message
    if isinstance(error, MemoryError):
        return f"out of memory. {message}".strip()
    kind = f"{type(error).__name__}: {message.rstrip('.')}" if message else type(error).__name__
    return f"{kind}{_place(error)}. Run the command again with --debug to see the traceback."


def _name(path: object) -> str:
    return path.decode(errors="replace") if isinstance(path, bytes) else str(path)


def _place(error: BaseException) -> str:
    """The last line of this package in the traceback of an error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(_PACKAGE) and frame.filename != __file__:
            return f" (in class_hf/{os.path.relpath(frame.filename, _PACKAGE)}, line {frame.lineno})"
    return ""
