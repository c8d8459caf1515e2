"""The search page under load: 50 clients for a minute, malformed requests, large uploads; latency, memory and log.

    python benchmarks/page_load.py [--data_dir DATA] [--clients 50] [--seconds 60]

The page and its clients share the machine. Each client sends its next search when it has the answer. A search that
waits too long in the queue is refused with a line, which is counted apart. Then malformed requests, a body of 60 MB
and an upload of 300 MB are sent. The index has 10,000 molecules and a model of the usual size with random weights.
"""

import asyncio
import json
import os
import random
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from common import ROOT, arguments, bar, finish
from service import build

MALFORMED = 245
MEGABYTE = 1_000_000
# Values that the page's fields do not have, and marks that must not appear in the log.
SECRET = "CONFIDENTIALCOMPOUND"
STRANGE = [None, True, -1, 1e308, "", SECRET, SECRET * 2_000, [], [SECRET], {}, {"path": "/etc/passwd"}, "\x00"]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 50_000,
    b'{"data": 3}',
    b"{}",
    f'{{"data": ["{SECRET}'.encode(),
]


class Page:
    """`class-hf app` in a process of its own."""

    def __init__(self, index: Path, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log
        command = [sys.executable, "-m", "class_hf", "app", "--index", str(index), "--port", str(self.port)]
        with log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
        self.address = f"http://127.0.0.1:{self.port}/"
        for _ in range(1_200):
            try:
                components = httpx.get(self.address + "config").json()["components"]
            except (httpx.TransportError, ValueError):
                if self.process.poll() is not None:
                    sys.exit(f"the page did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.1)
            else:
                break
        pool = next(part["props"]["value"] for part in components if part["props"].get("elem_id") == "pool")
        self.values: list[Any] = [pool, "", 12, True, False, None, None, None, None, False, None]

    def memory(self) -> float:
        """Resident memory in MB (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self) -> None:
        """Stops the page."""
        self.process.terminate()
        self.process.wait(60)


def kind(status: int, text: str) -> str:
    """What an answer is: `"answered"`, `"refused"` by one line, or `"failed"`."""
    if "Traceback" in text:
        return "failed"
    if status in (400, 404, 413):
        return "refused" if text.startswith("error: ") and text.count("\n") == 1 else "failed"
    if status == 200 and "event: complete\ndata: " in text:
        html = json.loads(text.rpartition("event: complete\ndata: ")[2].partition("\n")[0])[0]
        known = "<article" in html or 'class="message"' in html  # hits, or that no molecule passes
        return "refused" if 'class="message error"' in html else "answered" if known else "failed"
    return "refused" if status == 503 or "Queue is full" in text else "failed"


async def call(client: httpx.AsyncClient, body: bytes) -> tuple[str, str]:
    """Calls the search of the page. Returns the kind of the answer, and the answer if it failed."""
    response = await client.post("gradio_api/call/find", content=body, headers={"content-type": "application/json"})
    if response.status_code == 200:
        response = await client.get(f"gradio_api/call/find/{response.json()['event_id']}")
    result = kind(response.status_code, response.text)
    return result, response.text[:300] if result == "failed" else ""


async def search(page: Page, texts: list[str], clients: int, seconds: float) -> tuple[list[float], Counter[str], list]:
    """Latencies of the answered searches in seconds, how many there are of each kind, and the failures."""
    latencies: list[float] = []
    kinds: Counter[str] = Counter()
    failures: list[str] = []
    end = time.perf_counter() + seconds

    async def one(number: int, client: httpx.AsyncClient) -> None:
        generator = random.Random(number)
        while not kinds or time.perf_counter() < end:
            values = [page.values[0], generator.choice(texts), *page.values[2:]]
            started = time.perf_counter()
            result, text = await call(client, json.dumps({"data": values}).encode())
            kinds[result] += 1
            if result == "answered":
                latencies.append(time.perf_counter() - started)
            elif result == "failed":
                failures.append(text)
            else:
                await asyncio.sleep(1.0)  # a person waits after "Queue is full"

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=page.address, timeout=120, limits=limits) as client:
        await asyncio.gather(*(one(number, client) for number in range(clients)))
    return latencies, kinds, failures


async def send_malformed(page: Page, text: str) -> tuple[Counter[str], list[str]]:
    """Sends malformed requests, one after the other. Returns how many there are of each kind, and the failures."""
    generator = random.Random(0)
    good = [page.values[0], text, *page.values[2:]]
    bodies = [*BODIES, json.dumps({"data": good[:-1]}).encode(), json.dumps({"data": good, SECRET: 1}).encode()]
    while len(bodies) < MALFORMED:
        data = list(good)
        for place in generator.sample(range(len(data)), generator.randint(1, 3)):
            data[place] = generator.choice(STRANGE)
        bodies.append(json.dumps({"data": data}).encode())
    kinds: Counter[str] = Counter()
    failures = []
    async with httpx.AsyncClient(base_url=page.address, timeout=120) as client:
        for body in bodies:
            result, answer = await call(client, body)
            kinds[result] += 1
            failures += [answer] if result == "failed" else []
    return kinds, failures


def send_large(page: Page, path: str, megabytes: int) -> tuple[int, str]:
    """Sends a large body. Returns how many MB the server took before it answered, and the answer."""
    block, sent, answer = b"a" * MEGABYTE, 0, b""
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        head = f"POST /{path} HTTP/1.1\r\nHost: test\r\nContent-Length: {megabytes * MEGABYTE}\r\n\r\n"
        connection.sendall(head.encode())
        try:
            while sent < megabytes and not select.select([connection], [], [], 0)[0]:
                connection.sendall(block)
                sent += 1
            while part := connection.recv(65_536):
                answer += part
                if b"\r\n\r\nerror" in answer and answer.endswith(b"\n"):
                    break
        except OSError:
            pass  # the server closed the connection
    return sent, answer.decode(errors="replace")


def main() -> None:
    args = arguments(
        __doc__,
        clients={"type": int, "default": 50, "help": "clients"},
        seconds={"type": float, "default": 60.0, "help": "seconds of the load"},
    )
    with tempfile.TemporaryDirectory() as scratch:
        texts = build(Path(scratch), args.data_dir)
        page = Page(Path(scratch, "index"), Path(scratch, "log"))
        asyncio.run(search(page, texts, args.clients, min(10.0, args.seconds)))  # warm
        memory, load = page.memory(), os.getloadavg()[0]
        latencies, kinds, failures = asyncio.run(search(page, texts, args.clients, args.seconds))
        loaded = page.memory()
        malformed, more = asyncio.run(send_malformed(page, texts[0]))
        large = {f"{size} MB": send_large(page, path, size) for path, size in
                 (("gradio_api/call/find", 60), ("gradio_api/upload", 300))}  # fmt: skip
        unclear = [answer for _, answer in large.values() if "\r\n\r\nerror: " not in answer]
        after = asyncio.run(search(page, texts, 1, 0.1))[1]["answered"]
        growth, log = page.memory() - memory, page.log.read_text(errors="replace")
        page.stop()
    failures += more + unclear
    p50, p95 = np.percentile(latencies, [50, 95])
    finish(
        [
            bar(f"page: p95 in s, {args.clients} clients", "<=", 5, p95, p50=float(p50), load_before=load),
            bar("page: requests that fail without a clear line", "<=", 0, len(failures)),
            bar("page: malformed requests that are refused", ">=", 0.5 * MALFORMED, malformed["refused"]),
            bar("page: searches answered afterwards", ">=", 1, after),
            bar("page: MB of memory more afterwards", "<=", 100, growth),
            bar("page: MB of log", "<=", 1, len(log) / MEGABYTE),
            bar("page: bodies of requests in the log", "<=", 0, log.count(SECRET)),
        ],
        args.output,
        searches={**kinds, "seconds": args.seconds, "a_second": len(latencies) / args.seconds},
        malformed=dict(malformed),
        megabytes_read={name: sent for name, (sent, _) in large.items()},
        memory_mb={"before": memory, "under_load": loaded, "growth": growth},
        failures=failures[:5],
        cores_used_by_others=f"load average {load:.1f} before the measurement",
    )


if __name__ == "__main__":
    main()
