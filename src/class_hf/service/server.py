"""Runs the service until it is stopped."""

import os
import signal
import socket
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from class_hf.service.settings import TOKEN_VARIABLE, ServiceSettings, token_from_environment
from class_hf.utils.logs import set_up_logging
from class_hf.utils.messages import one_line

if TYPE_CHECKING:
    from fastapi import FastAPI

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")
_STARTUP_FAILURE = 3  # uvicorn does not start a worker again that ends with this status
_GRACE = 5  # seconds above the time limit of a request before open connections are cut at the end


def require_packages() -> None:
    """Checks that the packages of the extra `serve` are installed.

    Raises:
        ImportError: If one is missing. The message names the extra to install.
    """
    if any(find_spec(name) is None for name in _PACKAGES):
        raise ImportError('the service needs FastAPI, uvicorn and prometheus-client: pip install "class-hf[serve]".')


def load_app(
    location: str, model: str | None, settings: ServiceSettings, log_level: str, log_format: str
) -> "FastAPI":
    """Opens an index and its model, and builds the application. Each worker calls this.

    Args:
        location (`str`): folder or URL of the index.
        model (`str`, *optional*): its model, if it moved.
        settings: the limits.
        log_level, log_format (`str`): As for [`~class_hf.utils.logs.set_up_logging`].

    Raises:
        ValueError: If the index or its model cannot be loaded.
    """
    import transformers

    from class_hf.search.index import MoleculeIndex
    from class_hf.service.app import build_app

    set_up_logging(log_level, log_format)
    transformers.logging.disable_progress_bar()
    return build_app(MoleculeIndex.load(location, model), settings, token_from_environment())


def load_in_worker(*arguments: Any) -> "FastAPI":
    """Calls [`load_app`]. An error is printed in one line, and ends the worker, which is not started again."""
    try:
        return load_app(*arguments)
    except Exception as error:
        print(f"error: {one_line(error) or type(error).__name__}", file=sys.stderr)  # noqa: T201
        sys.exit(_STARTUP_FAILURE)


def serve(
    location: str,
    *,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    settings: ServiceSettings | None = None,
    log_level: str = "info",
    log_format: str = "json",
) -> None:
    """Serves an index until SIGTERM or Ctrl-C. Requests that were accepted are answered before it ends.

    Args:
        location (`str`): folder or URL of the index.
        model (`str`, *optional*): its model, if it moved.
        host (`str`, defaults to `"127.0.0.1"`): address to listen on.
        port (`int`, defaults to 8000): port. 0 for any free one.
        workers (`int`, defaults to 1): processes. Each loads the model. They share the files of an index in a folder.
        settings (`ServiceSettings`, *optional*): limits.
        log_level (`str`, defaults to `"info"`): `"debug"`, `"info"`, `"warning"` or `"error"`.
        log_format (`str`, defaults to `"json"`): `"json"`, one object per line, or `"text"`.

    Raises:
        ImportError: If the extra `serve` is not installed.
        ValueError: If the index or its model cannot be loaded, or the token is unusable.
        OSError: If the address cannot be listened on.
    """
    require_packages()
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    settings = settings or ServiceSettings()
    token = token_from_environment()
    arguments = (location, model, settings, log_level, log_format)
    options: dict[str, Any] = {
        "access_log": False,  # the guard logs requests
        "log_config": None,
        "log_level": "warning",
        "lifespan": "on",
        "server_header": False,
        "timeout_graceful_shutdown": int(settings.time_limit) + _GRACE,
    }
    with _bind(host, port) as listening, tempfile.TemporaryDirectory(prefix="class_hf_metrics_") as folder:
        if workers == 1:
            app = load_app(*arguments)
            signal.signal(signal.SIGTERM, _end)  # uvicorn calls it again after its shutdown
            _announce(listening, location, token)
            uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=[listening])
            return
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # as in class_hf.service.metrics, which must not be imported
        config = uvicorn.Config(partial(load_in_worker, *arguments), factory=True, workers=workers, **options)
        _announce(listening, location, token)
        Multiprocess(config, sockets=[listening]).run()


def _bind(host: str, port: int) -> socket.socket:
    """A socket with the address. It accepts connections when the server listens on it."""
    listening: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        if listening is not None:
            listening.close()
        reason = error.strerror or error
        raise OSError(f"cannot listen on {host}:{port}: {reason}. Choose another --port or --host.") from error
    listening.set_inheritable(True)
    return listening


def _announce(listening: socket.socket, location: str, token: str | None) -> None:
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"serving {location} at {address} (described in {address}/openapi.json)", flush=True)  # noqa: T201
    if token is None and host not in ("127.0.0.1", "::1"):
        print(  # noqa: T201
            f"warning: everyone who reaches {host} can search. Set {TOKEN_VARIABLE} to require a token.",
            file=sys.stderr,
        )


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)
