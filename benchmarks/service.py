"""The service under load: latency and throughput of 50 clients, compared with the same search in Python, and memory.

    python benchmarks/service.py [--data_dir DATA] [--requests 10000] [--clients 50]

The service and its clients share the machine. Each client sends its next request when it has the answer. The search in
Python runs one query after the other in a process of its own. Both take turns. CPU seconds are those of the service
alone. The index has 10,000 molecules and a model of the usual size with random weights.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from common import ROOT, arguments, bar, finish, fresh_process, load
from datasets import Dataset, concatenate_datasets, disable_progress_bars

K = 10
MOLECULES = 10_000
REPEATS = 3

DIRECT = """
import json, sys, time
from class_hf import MoleculeIndex

texts = json.loads(open(sys.argv[2]).read())
with MoleculeIndex.load(sys.argv[1]) as index:
    index.search(texts[0])
    wall, cpu = time.perf_counter(), time.process_time()
    for text in texts:
        hits = index.search(text, k=10)
    done = len(texts)
    print(json.dumps({"wall": (time.perf_counter() - wall) / done, "cpu": (time.process_time() - cpu) / done,
                      "last": [hit.id for hit in hits]}))
"""


def build(folder: Path, data_dir: Path | None) -> list[str]:
    """Writes an index of captioned molecules, and returns texts to search."""
    import torch

    from class_hf import (
        LexicalTokenizer,
        MoleculeFingerprintFeatureExtractor,
        MoleculeIndex,
        TextMoleculeDualEncoderModel,
        TextMoleculeProcessor,
    )

    disable_progress_bars()
    data = load(data_dir)
    pairs = data["train"].select_columns(["id", "smiles", "description"])
    copies = -(-MOLECULES // len(pairs))
    parts = [pairs.map(lambda row, part=part: {"id": f"{row['id']}-{part}"}) for part in range(copies)]
    table: Dataset = concatenate_datasets(parts).select(range(MOLECULES))
    torch.manual_seed(0)
    model = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint").eval()
    processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    for part in (model, processor):
        part.save_pretrained(folder / "model")
    MoleculeIndex.build(table, str(folder / "model"), output_dir=folder / "index").close()
    return data["validation"]["description"][:]


class Server:
    """The service in a process of its own."""

    def __init__(self, index: Path):
        command = [sys.executable, "-m", "class_hf", "serve", "--index", str(index), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--log_level", "warning"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split("http://127.0.0.1:")[1].split()[0])
        for _ in range(200):
            try:
                self.numbers()
                return
            except OSError:
                time.sleep(0.05)

    def numbers(self) -> dict[str, float]:
        """What the service counts of itself."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def stop(self) -> int:
        """Stops the service, and returns its exit status."""
        self.process.terminate()
        return self.process.wait(60)


async def client(port: int, texts: list[str], seconds: list[float], last: dict[str, Any]) -> None:
    """Sends a request for each text on one connection. A small client, since it shares the cores with the service."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while texts:
        text = texts.pop()
        body = json.dumps({"text": text, "k": K}).encode()
        started = time.perf_counter()
        writer.write(
            b"POST /v1/search HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        seconds.append(time.perf_counter() - started)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head[:200]!r} {content[:200]!r}")
        last[text] = content
    writer.close()


async def clients(port: int, texts: list[str], count: int) -> tuple[list[float], float, dict[str, Any]]:
    """Latencies of the requests, wall seconds of all of them, and the answers."""
    pending, seconds, last = texts[::-1], [], {}
    started = time.perf_counter()
    await asyncio.gather(*(client(port, pending, seconds, last) for _ in range(count)))
    return seconds, time.perf_counter() - started, last


def main() -> None:
    args = arguments(
        __doc__,
        requests={"type": int, "default": 10_000, "help": "requests of the memory measurement"},
        clients={"type": int, "default": 50, "help": "clients"},
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        captions = build(folder, args.data_dir)
        texts = [captions[place % len(captions)] for place in range(max(args.requests, 1_000))]
        (folder / "texts.json").write_text(json.dumps(texts[:500]))
        server = Server(folder / "index")
        asyncio.run(clients(server.port, texts[:1_000], args.clients))  # warm
        direct: list[dict[str, Any]] = []
        rounds: list[tuple[list[float], float, float]] = []
        for _ in range(REPEATS):
            direct.append(fresh_process(DIRECT, folder / "index", folder / "texts.json"))
            before = server.numbers()["process_cpu_seconds_total"]
            seconds, wall, answers = asyncio.run(clients(server.port, texts[:1_000], args.clients))
            cpu = server.numbers()["process_cpu_seconds_total"] - before
            rounds.append((seconds, wall / 1_000, cpu / 1_000))
        ids = [hit["id"] for hit in json.loads(answers[texts[499]])["results"][0]]
        if ids != direct[-1]["last"]:
            raise SystemExit("error: the service and Python find different molecules.")
        memory = server.numbers()["process_resident_memory_bytes"]
        asyncio.run(clients(server.port, texts[: args.requests], args.clients))
        numbers = server.numbers()
        growth = (numbers["process_resident_memory_bytes"] - memory) / 2**20
        status = server.stop()
    best = min(rounds, key=lambda measured: measured[1])
    p50, p95 = 1_000 * np.percentile(best[0], [50, 95])
    single = min(measured["wall"] for measured in direct)
    batch = numbers["class_hf_batch_queries_sum"] / numbers["class_hf_batch_queries_count"]
    finish(
        [
            bar(f"service: p95 in ms, {args.clients} clients", "<=", 500, p95, p50=float(p50)),
            bar("service: requests a second over the same search in Python", ">=", 0.5, single / best[1]),
            bar(
                "service: CPU seconds a request over those of the search in Python",
                "<=",
                1.0,
                min(cpu for _, _, cpu in rounds) / min(measured["cpu"] for measured in direct),
            ),
            bar(f"service: MB of memory more after {args.requests:,} requests", "<=", 20, growth),
            bar("service: exit status after SIGTERM", "<=", 0, status),
        ],
        args.output,
        milliseconds={"p50": float(p50), "p95": float(p95), "python": 1_000 * single, "service": 1_000 * best[1]},
        requests_a_second={"service": 1 / best[1], "python": 1 / single},
        queries_a_batch=batch,
        memory_bytes=numbers["process_resident_memory_bytes"],
    )


if __name__ == "__main__":
    main()
