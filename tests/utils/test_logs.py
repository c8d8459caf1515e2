"""The log: levels, formats, and each warning once."""

import json
import logging
from io import StringIO

import pytest

from class_hf.config.command import CommandParser
from class_hf.utils.logs import set_up_logging


@pytest.fixture
def logger():
    package = logging.getLogger("class_hf")
    before = package.handlers, package.level
    yield logging.getLogger("class_hf.data.loading")
    package.handlers = before[0]
    package.setLevel(before[1])


def test_a_warning_is_written_once(logger):
    stream = StringIO()
    set_up_logging(stream=stream)
    for _ in range(2):
        logger.warning("%s rows are left out", 3)
        logger.info("hidden")
        logger.error("shown each time")
    assert stream.getvalue().splitlines() == ["warning: 3 rows are left out", *["error: shown each time"] * 2]


def test_levels_and_json(logger):
    stream = StringIO()
    set_up_logging("debug", "json", stream)
    logger.debug("read", extra={"rows": 3})
    line = json.loads(stream.getvalue())
    assert line["level"] == "debug" and line["rows"] == 3 and line["time"].endswith("Z")


def test_the_arguments_of_a_command(logger, capsys):
    parser = CommandParser(prog="class-hf x")
    parser.add_log_arguments()
    parser.parse_args(["--log_level", "info", "--log_format", "json"])
    logger.info("three\nlines")
    assert json.loads(capsys.readouterr().err)["message"] == "three\nlines"
    parser.parse_args([])
    logger.info("hidden")
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        parser.parse_args(["--log_level", "loud"])
    assert capsys.readouterr().err.startswith("error: argument --log_level: invalid choice")
