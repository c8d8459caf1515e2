"""A refused request gets its answer, however much of it was not read."""

import http.client
import threading
import time
from contextlib import contextmanager

import anyio
import pytest

from class_hf.utils import asgi
from class_hf.utils.asgi import RequestBody, respond

LIMIT = 1_000
SIZE = 30_000_000  # more than the buffers of two sockets hold


async def refuse_large(scope, receive, send):
    if scope["type"] != "http":
        return
    request = RequestBody(scope, receive)
    unread = await request.read(LIMIT) is None
    await respond(send, 413 if unread else 200, b"too large" if unread else b"read", "text/plain", (), request)


@contextmanager
def served(app):
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra `serve`")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


def test_a_large_body_is_answered():
    with served(refuse_large) as port:
        for body, chunked in (
            (b"x" * SIZE, False),
            ((b"x" * 100_000 for _ in range(300)), True),
            (b"x" * LIMIT, False),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/", body, encode_chunked=chunked)
            answer = connection.getresponse()
            is_small = not chunked and len(body) == LIMIT
            assert (answer.status, answer.read()) == ((200, b"read") if is_small else (413, b"too large"))
            connection.close()


def messages(*parts):
    pending = list(parts)

    async def receive():
        if pending:
            return pending.pop(0)
        await anyio.sleep_forever()

    return receive


def part(body, more_body=False):
    return {"type": "http.request", "body": body, "more_body": more_body}


@pytest.mark.parametrize(
    ("headers", "parts", "expected"),
    [
        ([], [part(b"abc")], b"abc"),
        ([(b"content-length", b"6")], [part(b"abc", True), part(b"def")], b"abcdef"),
        ([(b"content-length", b"7")], [part(b"abcdefg")], None),
        ([(b"content-length", b"-1")], [part(b"abc")], None),
        ([], [part(b"abcd", True), part(b"efg")], None),
        ([], [part(b"abc", True), {"type": "http.disconnect"}], b""),
    ],
)
def test_a_body_is_read_up_to_the_limit_and_the_rest_is_dropped(headers, parts, expected):
    async def run():
        body = RequestBody({"headers": headers}, messages(*parts))
        assert await body.read(6) == expected
        await body.drop()

    started = time.monotonic()
    anyio.run(run)  # a body that is complete is not waited for
    assert time.monotonic() - started < asgi.LINGER / 2


def test_a_client_that_stops_sending_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(asgi, "LINGER", 0.05)
    sent = []

    async def run():
        async def send(message):
            sent.append(message)

        body = RequestBody({"headers": [(b"content-length", b"9")]}, messages(part(b"abc", True)))
        assert await body.read(6) is None
        await respond(send, 413, b"too large", "text/plain", unread=body)

    anyio.run(run)
    assert [message.get("body") for message in sent] == [None, b"too large", b""]
    assert (b"connection", b"close") in sent[0]["headers"]
