"""The page's server: malformed requests get one clear line, nothing is logged of them, and it continues to serve.

CLASS_HF_LONG_TESTS=1 sends 300 requests in place of 60.
"""

import asyncio
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

# ruff: noqa: F811 (fixtures)
from page_fixtures import saved, server  # noqa: F401

from class_hf.page import guard

httpx = pytest.importorskip("httpx", reason="needs the extra `app`, whose Gradio brings httpx")

LONG = bool(os.environ.get("CLASS_HF_LONG_TESTS"))
SECRET = "CONFIDENTIALCOMPOUND"
TEXT = "The molecule is a carboxylic acid."


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.address, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def label(client):
    components = client.get("config").json()["components"]
    return next(part["props"]["value"] for part in components if part["props"].get("elem_id") == "pool")


def call(client, data, name="find", **fields):
    """The answer to a call: the HTML of its result, or the line of its refusal."""
    response = client.post(f"gradio_api/call/{name}", json={"data": data, **fields})
    if response.status_code != 200:
        return response.text
    events = client.get(f"gradio_api/call/{name}/{response.json()['event_id']}").text
    assert events.startswith("event: complete\ndata: "), events[:500]
    return json.loads(events.partition("data: ")[2])[0]


def values_of(label, **changed):
    values = {"label": label, "text": TEXT, "k": 3, "colour": False, "bank": True}
    values |= dict.fromkeys(("min_weight", "max_weight", "elements", "smarts", "ignore_stereo", "where"))
    return list({**values, **changed}.values())


STRANGE = [
    None, True, -1, 1e308, "", SECRET, SECRET * 2000, [], [SECRET], {}, {"path": "/etc/passwd"}, {SECRET: [1]},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "\x00",
]  # fmt: skip


def bodies(label, count):
    """Malformed bodies, seeded."""
    generator = random.Random(0)
    good = values_of(label)
    fixed = [
        b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"1e999", b'"x"', b'{"data":3}', b'{"data":{}}', b"{}",
        b"[" * 50_000, b'{"data":' + b"[" * 30 + b"]" * 30 + b"}", b'{"data":[NaN]}', b"\x00" * 100,
        json.dumps({"data": good, "unknown": SECRET}).encode(), json.dumps({"data": good[:-1]}).encode(),
        json.dumps({"data": good + [SECRET]}).encode(), json.dumps({"data": good, "fn_index": "0"}).encode(),
        json.dumps({"data": good, "session_hash": [SECRET]}).encode(),
        json.dumps({"data": good, "trigger_id": "x"}).encode(),
        f'{{"data": ["{SECRET}'.encode(),
    ]  # fmt: skip
    yield from fixed
    for _ in range(count - len(fixed)):
        data = list(good)
        for place in generator.sample(range(len(data)), generator.randint(1, 3)):
            data[place] = generator.choice(STRANGE)
        yield json.dumps({"data": data}).encode()


def test_malformed_calls_get_one_line_and_are_not_logged(server, client, label):
    before = call(client, values_of(label))
    assert before.startswith('<p class="note">3 of 28 molecules.')
    memory = psutil.Process(server.process.pid).memory_info().rss
    refused = 0
    for body in bodies(label, 300 if LONG else 60):
        response = client.post("gradio_api/call/find", content=body, headers={"content-type": "application/json"})
        if response.status_code == 200:
            events = client.get(f"gradio_api/call/find/{response.json()['event_id']}").text
            assert events.startswith("event: complete\ndata: "), (body[:300], events[:300])
            html = json.loads(events.partition("data: ")[2])[0]
            assert html.startswith(('<div class="message', '<p class="note">')), (body[:300], html[:300])
            refused += html.startswith('<div class="message error"')
        else:
            assert response.status_code == 400, (body[:300], response.text[:300])
            assert response.text.startswith("error: ") and response.text.count("\n") == 1, response.text
            assert len(response.text) < 200
            refused += 1
    assert refused > 40
    assert call(client, values_of(label)) == before
    log = server.process.printed()
    assert SECRET not in log and "Traceback" not in log and len(log) < 20_000, log[-3000:]
    assert psutil.Process(server.process.pid).memory_info().rss < memory + 150_000_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(
            ("POST", f"gradio_api/{name}", 404)
            for name in ("upload", "upload?upload_id=a", "component_server", "vibe-edit")
        ),
        *(("POST", f"gradio_api/{name}/find", 404) for name in ("run", "api", "call/v2", "stream")),
        ("POST", "gradio_api/process_recording", 404),
        ("POST", "gradio_api/call/nothing", 400),
        ("POST", "gradio_api/call/show/../../upload", 404),
        ("POST", "gradio_api/queue/join", 400),
        ("POST", "gradio_api/cancel", 422),
        ("POST", "login", 404),
        ("POST", "", 404),
        ("PUT", "gradio_api/queue/join", 404),
        ("DELETE", "", 404),
        ("GET", "gradio_api/upload_progress?upload_id=a", 404),
        ("GET", "gradio_api/proxy=http://127.0.0.1/", 404),
        ("GET", "gradio_api/file=/etc/passwd", 403),
        ("GET", "gradio_api/file=../../../etc/passwd", 404),
        ("GET", "gradio_api/custom_component/a/client/component/index.js", 404),
        ("GET", "monitoring/summary", 404),
        ("GET", "gradio_api/openapi.json", 404),
        ("GET", "nothing", 404),
        ("GET", "gradio_api/call/find/nothing", 200),
        ("GET", "gradio_api/queue/data?session_hash=nothing", 200),
    ],
)
def test_routes_that_the_page_does_not_use(client, method, path, status):
    response = client.request(method, path, content=b"{}" if method in ("POST", "PUT") else None)
    assert response.status_code == status, response.text
    assert len(response.text) < 500 and "Traceback" not in response.text
    if status == 404:
        assert response.text == "error: this page has no such route.\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_are_refused_unread(server, client, label, chunked):
    memory = psutil.Process(server.process.pid).memory_info().rss
    parts = 60 if LONG else 8
    body = (b"a" * 1_000_000 for _ in range(parts)) if chunked else b"a" * 1_000_000 * parts
    try:
        response = client.post("gradio_api/call/find", content=body)
    except httpx.TransportError:
        assert chunked, "the server closed the connection before the end of the body"
    else:
        assert response.status_code == 413 and response.text.startswith("error: the request is too large")
    assert psutil.Process(server.process.pid).memory_info().rss < memory + 50_000_000
    assert "3 of 28" in call(client, values_of(label))


def test_a_full_queue_says_so(client, label):
    """Of many calls at once, each is answered or refused with a line."""
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: call(client, values_of(label)), range(50)))
    served = [answer for answer in answers if answer.startswith('<p class="note">3 of 28')]
    refused = [answer for answer in answers if "Queue is full" in answer]
    assert len(served) >= 32 and len(served) + len(refused) == 50


def test_a_call_waits_until_the_browser_has_read_the_end_of_its_stream(monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(guard, "PAUSE", 60.0)
    monkeypatch.setattr(guard.asyncio, "sleep", sleep)

    async def gradio(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'data: {"msg": "close_stream", "event_id": null}'})

    app = guard.RequestGuard(gradio, guard.Calls({0: 0}, {}))

    def request(method, path, session):
        body = json.dumps({"data": [], "fn_index": 0, "session_hash": session}).encode()
        scope = {"type": "http", "method": method, "path": f"/gradio_api/queue/{path}", "headers": []}
        scope["query_string"] = f"session_hash={session}".encode()

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            pass

        asyncio.run(app(scope, receive, send))

    request("POST", "join", "mine")
    request("GET", "data", "mine")
    request("POST", "join", "other")
    assert waited == []
    request("POST", "join", "mine")
    assert len(waited) == 1 and 0 < waited[0] <= 60
