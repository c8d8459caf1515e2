"""Reads and answers HTTP requests in ASGI middleware, with a limit on the size of a body."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


# Seconds for which the rest of a refused body is read and dropped. If a connection is closed while data arrive, the
# client's system reports an error in place of the answer.
LINGER = 10.0


class RequestBody:
    """The body of a request.

    Args:
        scope, receive: As ASGI defines them.
    """

    def __init__(self, scope: Message, receive: Receive):
        self._headers, self._receive = dict(scope["headers"]), receive
        self._is_complete = False

    async def read(self, limit: int) -> bytes | None:
        """Reads the body.

        Args:
            limit (`int`): largest number of bytes.

        Returns:
            The body. None if it is larger than the limit; then the rest is not read. Empty if the client has gone.
        """
        length = self._headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            return None
        parts: list[bytes] = []
        size = 0
        while not self._is_complete:
            part = await self._next()
            if part is None:
                return b""
            parts.append(part)
            size += len(part)
            if size > limit:
                return None
        return b"".join(parts)

    async def drop(self) -> None:
        """Reads what the client still sends, for at most `LINGER` seconds, and keeps nothing of it."""

        async def read_all() -> None:
            while not self._is_complete:
                await self._next()

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(read_all(), LINGER)

    async def _next(self) -> bytes | None:
        """The next part. None if the client has gone."""
        message = await self._receive()
        is_part = message["type"] == "http.request"
        self._is_complete = not is_part or not message.get("more_body")
        return message.get("body", b"") if is_part else None


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body once, and then what the server gives."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return pending.pop() if pending else await receive()

    return replaying


async def respond(
    send: Send,
    status: int,
    content: bytes,
    media_type: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
    unread: RequestBody | None = None,
) -> None:
    """Sends a complete answer.

    Args:
        send: As ASGI defines it.
        status (`int`): the status.
        content (`bytes`): the body of the answer.
        media_type (`str`): its type.
        headers: further headers.
        unread ([`RequestBody`], *optional*): the body of the request if it was not read to its end. The rest is
            dropped after the answer, and the connection is closed.
    """
    all_headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(content)).encode()), *headers]
    if unread is not None:
        all_headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": content, "more_body": unread is not None})
    if unread is not None:
        await unread.drop()
        await send({"type": "http.response.body", "body": b""})


def json_depth(value: Any) -> int:
    """Depth of nested lists and objects, computed without recursion.

    >>> json_depth({"data": [1, [2]]}), json_depth("text")
    (3, 0)
    """
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [item for nested in level for item in (nested.values() if isinstance(nested, dict) else nested)]
    return depth
