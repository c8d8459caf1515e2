"""The log of this package: its level, and its lines as text or as JSON."""

import json
import logging
import sys
import time
from typing import TextIO

from class_hf.utils.suggestions import check_choice

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
# What every log record has. All other attributes were passed as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time` (UTC), `level`, `logger`, `message`, and what was passed as `extra`.

    >>> record = logging.makeLogRecord({"name": "class_hf", "levelname": "INFO", "msg": "request", "status": 200})
    >>> json.loads(JsonFormatter().format(record))["status"]
    200
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The message. A warning or an error begins with its level.

    >>> TextFormatter().format(logging.makeLogRecord({"levelno": 30, "levelname": "WARNING", "msg": "no pool"}))
    'warning: no pool'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + super().format(record)


class Handler(logging.StreamHandler):
    """Writes to a stream, or to what `sys.stderr` is at the time. A warning is written once.

    Args:
        stream (file, *optional*): the stream.
    """

    def __init__(self, stream: TextIO | None = None):
        logging.Handler.__init__(self)
        self._stream = stream
        self._warned: set[str] = set()

    @property
    def stream(self) -> TextIO:
        """Where the lines go."""
        return sys.stderr if self._stream is None else self._stream

    def filter(self, record: logging.LogRecord) -> bool:
        """Leaves out a warning that was written before."""
        if record.levelno == logging.WARNING:
            message = record.getMessage()
            if message in self._warned:
                return False
            self._warned.add(message)
        return bool(super().filter(record))


def set_up_logging(level: str = "warning", log_format: str = "text", stream: TextIO | None = None) -> None:
    """Writes the log of this package. All its modules use the logger `class_hf` and its children.

    Args:
        level (`str`, defaults to `"warning"`): one of `LEVELS`.
        log_format (`str`, defaults to `"text"`): one of `FORMATS`.
        stream (file, *optional*): where the lines go. Default: standard error.

    Raises:
        ValueError: If a value is unknown.

    >>> set_up_logging(level="loud")
    Traceback (most recent call last):
    ValueError: log_level is 'loud'; expected one of debug, info, warning, error.
    """
    check_choice("log_level", level, LEVELS)
    check_choice("log_format", log_format, FORMATS)
    handler = Handler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.setLevel(level.upper())
    logger = logging.getLogger("class_hf")
    logger.handlers = [handler]
    # Python's default level is that of warnings.
    logger.setLevel(level.upper() if level in ("debug", "info") else logging.NOTSET)
