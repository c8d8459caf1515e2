"""Reads and answers HTTP requests in ASGI middleware, with a limit on the size of a body."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


async def read_body(scope: Message, receive: Receive, limit: int) -> bytes | None:
    """Reads the body of a request.

    Args:
        scope, receive: As ASGI defines them.
        limit (`int`): largest number of bytes.

    Returns:
        The body. None if it is larger than the limit; then the rest is not read. Empty if the client has gone.
    """
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limit:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body once, and then what the server gives."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return pending.pop() if pending else await receive()

    return replaying


async def respond(
    send: Send, status: int, content: bytes, media_type: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Sends a complete answer. After the status 413 the connection is closed, since the body was not read."""
    all_headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(content)).encode()), *headers]
    if status == 413:
        all_headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": content})


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
