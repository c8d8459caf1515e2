"""Limits of each request, its token, and its line in the log."""

import hmac
import logging
import time
import traceback
from pathlib import Path

import anyio

from class_hf.service.metrics import ServiceMetrics
from class_hf.service.settings import ServiceSettings
from class_hf.utils.asgi import Application, Message, Receive, RequestBody, Send, replay, respond
from class_hf.utils.json_text import json_text

logger = logging.getLogger("class_hf.service")

OPEN_ROUTES = ("/health",)  # no token: load balancers ask for it
_QUIET = ("/health", "/metrics")  # asked for every few seconds
ROUTES = ("/v1/search", "/v1/captions", "/v1/embed/text", "/v1/embed/molecules", "/openapi.json", *_QUIET)
_RETRY = [(b"retry-after", b"1")]
# The key of a request's scope with its number of queries, for the log.
QUERIES = "class_hf.queries"


def error_body(reason: str) -> bytes:
    """An error as one line of JSON.

    >>> error_body("k is 0.")
    b'{"error": "k is 0."}\\n'
    """
    return (json_text({"error": " ".join(reason.split())}) + "\n").encode()


class ServiceGuard:
    """ASGI middleware around the service. Each refusal is one line of JSON.

    - 401: the bearer token is missing or wrong.
    - 413: the body is too large. It is dropped.
    - 503: the request takes longer than its time limit.
    - 500: any other error. The log has its type and place. It never has a body or a message, which may quote a body.

    Args:
        app: the application.
        settings: its limits.
        metrics: counts the requests.
        token (`str`, *optional*): the bearer token.
    """

    def __init__(self, app: Application, settings: ServiceSettings, metrics: ServiceMetrics, token: str | None = None):
        self.app, self.settings, self.metrics = app, settings, metrics
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        cause: str | None = None
        try:
            with anyio.fail_after(self.settings.time_limit):
                await self._answer(scope, receive, send_noting_status)
        except TimeoutError:
            if not status:
                reason = f"the request takes longer than the time limit of {self.settings.time_limit:g} s."
                await respond(send_noting_status, 503, error_body(reason), "application/json", _RETRY)
        except Exception as error:
            cause = _place(error)
            if not status:
                reason = "the server could not answer this request."
                await respond(send_noting_status, 500, error_body(reason), "application/json")
        finally:
            self._note(scope, status, time.perf_counter() - started, cause)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        request = RequestBody(scope, receive)
        if not self._may_enter(scope):
            reason = "the bearer token is missing or wrong; send it as 'Authorization: Bearer TOKEN'."
            headers = [(b"www-authenticate", b"Bearer")]
            await respond(send, 401, error_body(reason), "application/json", headers, request)
            return
        if scope["method"] not in ("GET", "HEAD"):
            body = await request.read(self.settings.max_body)
            if body is None:
                reason = f"the request is too large; the limit is {self.settings.max_body:,} bytes."
                await respond(send, 413, error_body(reason), "application/json", unread=request)
                return
            receive = replay(body, receive)
        await self.app(scope, receive, send)

    def _may_enter(self, scope: Message) -> bool:
        if self._token is None or scope["path"] in OPEN_ROUTES:
            return True
        scheme, _, sent = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        # The comparison takes the same time wherever the tokens differ.
        return scheme.lower() == b"bearer" and hmac.compare_digest(sent, self._token)

    def _note(self, scope: Message, status: int, seconds: float, cause: str | None) -> None:
        route = scope["path"] if scope["path"] in ROUTES else "other"
        self.metrics.observe_request(route, status, seconds)
        level = logging.ERROR if status >= 500 else logging.DEBUG if route in _QUIET else logging.INFO
        details = {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 4)}
        if QUERIES in scope:
            details["queries"] = scope[QUERIES]
        if cause is not None:
            details["cause"] = cause
        logger.log(level, "request", extra=details)


def _place(error: BaseException) -> str:
    """The type of an error, and the last line of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
