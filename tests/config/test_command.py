"""Commands end each error with one line; numeric arguments are checked."""

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest

from class_hf.config.command import INTERRUPTED, CommandParser, describe_error, hide_bars_in_pipes, run_command
from class_hf.utils.numbers import integer, non_negative, number, port_number, positive_integer, probability, share


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("k is 0;\n  expected 1."), "error: k is 0; expected 1."),
        (
            FileNotFoundError(2, "No such file or directory", "pairs.csv"),
            "error: pairs.csv: No such file or directory",
        ),
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (KeyError("id"), "error: KeyError: 'id'. Run the command again with --debug to see the traceback."),
        (RuntimeError(), "error: RuntimeError. Run the command again with --debug to see the traceback."),
        (MemoryError(), "error: out of memory."),
    ],
)
def test_an_error_takes_one_line(error, line, capsys):
    assert run_command(raising(error), []) == 1
    assert capsys.readouterr().err == f"{line}\n"


def test_bars_are_for_terminals(monkeypatch, capsys):
    import datasets
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys.stderr, "isatty", lambda: True)
            hide_bars_in_pipes()
        assert "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
        hide_bars_in_pipes()
        assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1" == os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"]
        assert are_progress_bars_disabled() and datasets.are_progress_bars_disabled()
        assert not transformers.logging.is_progress_bar_enabled()
    finally:
        enable_progress_bars(), datasets.enable_progress_bars(), transformers.logging.enable_progress_bar()


def test_an_unexpected_error_names_its_place_in_the_package():
    from class_hf.curriculum.pacing import competence

    with pytest.raises(TypeError) as raised:
        competence("soon")
    assert "class_hf/curriculum/pacing.py, line " in describe_error(raised.value)


def test_debug_shows_the_traceback(capsys):
    seen = []

    def main(argv):
        seen.append(argv)
        raise ValueError("wrong")

    assert run_command(main, ["a", "--debug", "--k", "3"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed and printed.endswith("error: wrong\n") and seen == [["a", "--k", "3"]]
    # With a value it is an argument of transformers.
    run_command(main, ["a", "--debug", "underflow_overflow"])
    assert "Traceback" not in capsys.readouterr().err and seen[1] == ["a", "--debug", "underflow_overflow"]


def test_errors_of_the_parser_take_one_line(capsys):
    parser = CommandParser(prog="class-hf x")
    parser.add_argument("--number", type=positive_integer)
    for words, message in (
        (["--number", "0"], "argument --number: '0' is not accepted; expected an integer of at least 1."),
        (["--num", "3"], "unrecognized arguments: --num 3."),
    ):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"error: {message} See class-hf x --help\n"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_with_one_line_and_status_130():
    code = (
        "from class_hf.config.command import run_script\nimport time\n"
        "def main(argv):\n    print('ready', flush=True)\n    time.sleep(60)\nrun_script(main)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED and printed == "interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes of a POSIX shell")
def test_a_reader_that_leaves_causes_no_traceback():
    code = "from class_hf.config.command import run_script\nrun_script(lambda argv: print('x\\n' * 10**6))"
    command = f'"{sys.executable}" -c "$CODE" | head -1'
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "CODE": code}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "x\n" and done.stderr == ""


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [
        (positive_integer, ["1", "7"], ["0", "-1", "1.0", "nan", "", "9" * 30]),
        (integer, ["-3", "0"], ["1e3", "x"]),
        (share, ["0", "1", "0.5"], ["-0.1", "1.1", "nan", "inf"]),
        (probability, ["0", "0.99"], ["1", "-1"]),
        (non_negative, ["0", "1e9"], ["-1e-9", "inf", "1e400"]),
        (number, ["-1.5"], ["nan", "-inf"]),
        (port_number, ["0", "65535"], ["65536", "-1"]),
    ],
)
def test_ranges(allowed, good, bad):
    for word in good:
        assert allowed(word) == float(word)
        allowed.check("x", allowed(word))
    for word in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="is not accepted; expected a"):
            allowed(word)
    with pytest.raises(ValueError, match="x is nan; expected a"):
        allowed.check("x", float("nan"))
    with pytest.raises(ValueError, match="x is True"):
        allowed.check("x", True)
    allowed.check("x", None)
