"""Protects the page's server: only the routes that the page uses, and limits on requests."""

import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The largest request of the page is a description of 10,000 characters.
MAX_BODY = 1_000_000
MAX_JSON_DEPTH = 20

_GET = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/[\w-]+)?"
    r"|/(assets|static|svelte)/.*"
    r"|/gradio_api/(info/?|app_id/?|login_check/?|token/?|user/?|startup-events|theme\.css|queue/data"
    r"|heartbeat/[\w-]+|file=.*|call/\w+/\w+)"
)
_POST = re.compile(r"/gradio_api/(queue/join|cancel|reset/?|(call|run|api)/\w+/?)")

_logger = logging.getLogger(__name__)


class RequestGuard:
    """ASGI middleware that refuses requests which the page does not make. Each refusal is one line of text.

    - Routes: Gradio also serves uploads, recordings, proxies and editors. They get the status 404.
    - Bodies: more than `MAX_BODY` bytes get 413. A body that is not a JSON object, or is nested deeper than
      `MAX_JSON_DEPTH`, gets 400.
    - Errors of the server get 500. The log has the type of the error and the route, never a body.

    Args:
        app: the application.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        allowed = {"GET": _GET, "HEAD": _GET, "POST": _POST}.get(method)
        if method != "OPTIONS" and (allowed is None or not allowed.fullmatch(path)):
            await _refuse(send, 404, "this page has no such route.")
            return
        if method == "POST":
            body = await _read_body(scope, receive)
            if body is None:
                await _refuse(send, 413, f"the request is too large; the limit is {MAX_BODY:,} bytes.")
                return
            if (fault := body_fault(body)) is not None:
                await _refuse(send, 400, fault)
                return
            receive = _replay(body, receive)
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_noting_start)
        except Exception as error:
            _logger.error("%s %s: %s", method, path[:100], type(error).__name__)
            if not started:
                await _refuse(send, 500, "the server could not answer this request.")


def body_fault(body: bytes) -> str | None:
    """What is wrong with the body of a call. None for a valid one.

    >>> body_fault(b'{"data": ["an ester"]}')
    >>> body_fault(b"[1]")
    'the body is not a JSON object; expected {"data": [...]}.'
    """
    expected = 'expected {"data": [...]}.'
    try:
        content = json.loads(body)
    except RecursionError:
        return f"the body is nested too deeply; {expected}"
    except ValueError:
        return f"the body is not valid JSON; {expected}"
    if not isinstance(content, dict):
        return f"the body is not a JSON object; {expected}"
    if "data" in content and not isinstance(content["data"], list):
        return f"data is not a list; {expected}"
    if _depth(content) > MAX_JSON_DEPTH:
        return f"the body is nested too deeply; {expected}"
    return None


def _depth(value: Any) -> int:
    """Depth of nested lists and objects, computed without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [item for nested in level for item in (nested.values() if isinstance(nested, dict) else nested)]
    return depth


async def _read_body(scope: Message, receive: Receive) -> bytes | None:
    """The body. None if it is too large; then the rest is not read."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > MAX_BODY:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # the client went away
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and then what the server gives."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return pending.pop() if pending else await receive()

    return replaying


async def _refuse(send: Send, status: int, reason: str) -> None:
    content = f"error: {reason}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
