"""Protects the page's server: only the routes that the page uses, and limits on requests."""

import asyncio
import json
import logging
import re
import time
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from class_hf.utils.asgi import Application, Message, Receive, RequestBody, Send, json_depth, replay, respond

# The largest request of the page is a description of 10,000 characters.
MAX_BODY = 1_000_000
MAX_JSON_DEPTH = 20

_GET = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/[\w-]+)?"
    r"|/(assets|static|svelte)/.*"
    r"|/gradio_api/(info/?|app_id/?|login_check/?|token/?|user/?|startup-events|theme\.css|queue/data"
    r"|heartbeat/[\w-]+|file=.*|call/\w+/\w+)"
)
_CALL = re.compile(r"/gradio_api/call/(\w+)/?")
_QUEUE = "/gradio_api/queue/join"
_STREAM = "/gradio_api/queue/data"
# Gradio sends the answers of a session in a stream, and ends it when none is pending. A browser that gets the receipt
# of its next call before it has read that end opens no new stream, and waits for ever. So a call waits this many
# seconds after the end of its session's stream.
PAUSE = 1.0
_OTHER_POST = re.compile(r"/gradio_api/(cancel|reset/?)")
# The fields of a body, with their types.
_FIELDS: dict[str, tuple[type, ...]] = {
    "data": (list,),
    "event_data": (dict, list, str, int, float, bool, type(None)),
    "event_id": (str, type(None)),
    "fn_index": (int,),
    "session_hash": (str, type(None)),
    "simple_format": (bool,),
    "trigger_id": (int, type(None)),
}

_logger = logging.getLogger(__name__)


class Calls(NamedTuple):
    """The functions of a page.

    Attributes:
        inputs (`dict`): number of inputs of each function, by its index.
        names (`dict`): index of each function that may be called by name.
    """

    inputs: dict[int, int]
    names: dict[str, int]

    @classmethod
    def of(cls, page: Any) -> "Calls":
        """The functions of a `gradio.Blocks`."""
        functions = page.fns.items()
        return cls(
            {index: len(function.inputs) for index, function in functions},
            {
                function.api_name: index
                for index, function in functions
                if function.api_visibility == "public" and isinstance(function.api_name, str)
            },
        )


class RequestGuard:
    """ASGI middleware that refuses requests which the page does not make. Each refusal is one line of text.

    - Routes: Gradio also serves uploads, recordings, proxies and editors. They get the status 404.
    - Bodies: more than `MAX_BODY` bytes get 413. A body that is no call of a function of the page gets 400.
    - Errors of the server get 500. The log has the type of the error and the route, never a body.

    A call that comes less than `PAUSE` seconds after the end of its session's stream waits.

    Args:
        app: the application.
        calls: the functions of the page.
    """

    def __init__(self, app: Application, calls: Calls):
        self.app, self.calls = app, calls
        self._ends: dict[str, float] = {}  # when the streams of sessions ended, for `PAUSE` seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        request = RequestBody(scope, receive)
        if not is_route(method, path):
            await _refuse(send, 404, "this page has no such route.", request)
            return
        if method == "POST":
            body = await request.read(MAX_BODY)
            if body is None:
                await _refuse(send, 413, f"the request is too large; the limit is {MAX_BODY:,} bytes.", request)
                return
            if (fault := body_fault(body, path, self.calls)) is not None:
                await _refuse(send, 400, fault)
                return
            receive = replay(body, receive)
            if path == _QUEUE:
                await self._wait_for_stream(json.loads(body)["session_hash"])
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)
            if path == _STREAM and b'"close_stream"' in message.get("body", b""):
                self._note_end(scope)

        try:
            await self.app(scope, receive, send_noting_start)
        except Exception as error:
            _logger.error("%s %s: %s", method, path[:100], type(error).__name__)
            reason = "the server could not answer this request."
            if not started:
                await _refuse(send, 500, reason)
            else:  # a stream of events
                await send({"type": "http.response.body", "body": f"event: error\ndata: {reason}\n\n".encode()})

    def _note_end(self, scope: Message) -> None:
        """Notes that the stream of a session has ended."""
        now = time.monotonic()
        self._ends = {session: end for session, end in self._ends.items() if now - end < PAUSE}
        for session in parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", []):
            self._ends[session] = now

    async def _wait_for_stream(self, session: str) -> None:
        """Waits until the browser has read the end of a session's last stream."""
        end = self._ends.get(session)
        if end is not None:
            await asyncio.sleep(max(0, end + PAUSE - time.monotonic()))


def is_route(method: str, path: str) -> bool:
    """Whether the page uses a route.

    >>> is_route("GET", "/config"), is_route("POST", "/gradio_api/upload")
    (True, False)
    """
    if method in ("GET", "HEAD"):
        return _GET.fullmatch(path) is not None
    if method == "POST":
        return path == _QUEUE or _CALL.fullmatch(path) is not None or _OTHER_POST.fullmatch(path) is not None
    return method == "OPTIONS"


def body_fault(body: bytes, path: str, calls: Calls) -> str | None:
    """What is wrong with the body of a request. None for a valid one.

    Args:
        body (`bytes`): the body.
        path (`str`): the route.
        calls: the functions of the page.

    >>> calls = Calls({0: 2}, {"find": 0})
    >>> body_fault(b'{"data": ["an ester", 5]}', "/gradio_api/call/find", calls)
    >>> body_fault(b'{"data": ["an ester"]}', "/gradio_api/call/find", calls)
    'data has 1 values; this function takes 2.'
    >>> body_fault(b"[1]", "/gradio_api/call/find", calls)
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
    if json_depth(content) > MAX_JSON_DEPTH:
        return f"the body is nested too deeply; {expected}"
    for name, value in content.items():
        if name not in _FIELDS:
            return f"the body has the unknown field {name[:40]!r}; {expected}"
        if not isinstance(value, _FIELDS[name]) or (isinstance(value, bool) and int in _FIELDS[name][:1]):
            return f"{name} has the wrong type; {expected}"
    if _OTHER_POST.fullmatch(path):
        return None
    return _call_fault(content, path, calls)


def _call_fault(content: dict[str, Any], path: str, calls: Calls) -> str | None:
    """What is wrong with a call of a function."""
    named = _CALL.fullmatch(path)
    index = calls.names.get(named[1]) if named else content.get("fn_index")
    if index not in calls.inputs:
        return f"there is no such function; expected one of {', '.join(calls.names)}."
    if not named and not isinstance(content.get("session_hash"), str):
        return "session_hash is missing; expected a text."
    if "data" not in content:
        return 'data is missing; expected {"data": [...]}.'
    if len(content["data"]) != calls.inputs[index]:
        return f"data has {len(content['data'])} values; this function takes {calls.inputs[index]}."
    for position, value in enumerate(content["data"]):
        if isinstance(value, dict | list):  # Gradio would look for files in it
            return f"value {position} of data is not a text, number, true, false or null."
    return None


async def _refuse(send: Send, status: int, reason: str, unread: RequestBody | None = None) -> None:
    await respond(send, status, f"error: {reason}\n".encode(), "text/plain; charset=utf-8", unread=unread)
