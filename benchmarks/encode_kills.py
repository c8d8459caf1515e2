"""Requirement 20, encoding: SIGKILL of a worker and of the driver at random moments.

    python benchmarks/encode_kills.py --model MODEL --data_dir DATA [--kills 10]

`class-hf encode` runs with two local workers over synthetic amides. A worker, or the driver, is killed at a random
moment, again and again. After the end, the files must be those of a run without a kill, byte for byte, and only shards
in flight may have been encoded twice.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from amides import amides_of_chebi20
from common import ROOT, arguments, bar, finish

WORKERS = 2
SHARDS = 60


def content(folder: Path) -> dict[str, str]:
    """A hash of each file of an encoding."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))}


def versions(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file each name is now. A file that is encoded again is another one."""
    found = {}
    for path in folder.glob("part-*"):
        try:
            found[path.name] = path.stat().st_ino, path.stat().st_mtime_ns
        except FileNotFoundError:  # replaced at this moment
            continue
    return found


def command(table: Path, model: str, output: Path, shard_size: int, workers: int) -> list[str]:
    words = [str(table), "--model", model, "--output_dir", str(output), "--shard_size", str(shard_size)]
    return [sys.executable, str(ROOT / "recipes" / "encode.py"), *words, "--workers", str(workers)]


def workers_of(driver: int) -> list[int]:
    """The worker processes of a driver (Linux)."""
    children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_for_parts(folder: Path, count: int, driver: subprocess.Popen) -> None:
    """Waits until a folder has so many parts, and then for a random part of the time of one."""
    began, before = time.monotonic(), len(versions(folder))
    while len(versions(folder)) < count and driver.poll() is None:
        time.sleep(0.01)
    seconds = (time.monotonic() - began) / max(1, count - before)
    time.sleep(random.uniform(0, min(seconds, 2.0)))


def kill_repeatedly(victim: str, words: list[str], folder: Path, kills: int) -> list[int]:
    """Runs the command to its end in spite of kills. Returns how many complete parts were written again after each."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(words, **silent)
    states: list[dict[str, tuple[int, int]]] = []
    while len(states) < kills:
        wait_for_parts(folder, len(versions(folder)) + WORKERS + 1, driver)
        if driver.poll() is not None:
            sys.exit(f"the encoding ended with status {driver.returncode} after {len(states)} kills; pass more --rows")
        pids = workers_of(driver.pid) if victim == "worker" else [driver.pid]
        if not pids:  # they are being replaced
            continue
        os.kill(random.choice(pids), signal.SIGKILL)
        if victim == "driver":
            driver.wait()
        states.append(versions(folder))
        print(f"{victim} killed, {len(states[-1])} parts complete", flush=True)
        if victim == "driver":
            driver = subprocess.Popen(words, **silent)
    if driver.wait():
        sys.exit(f"the encoding ended with status {driver.returncode}")
    states.append(versions(folder))
    return [
        sum(after.get(name) != version for name, version in before.items())
        for before, after in zip(states, states[1:], strict=False)
    ]


def main() -> None:
    args = arguments(
        __doc__,
        model={"help": "folder of a trained dual encoder"},
        kills={"type": int, "default": 10, "help": "kills of a worker, and of the driver"},
        rows={"type": int, "default": 12_000, "help": "molecules, in 60 shards"},
        seed={"type": int, "default": 0, "help": "of the moments"},
    )
    if args.data_dir is None or args.model is None:
        print("skipped: needs --data_dir, the folder with ChEBI-20, and --model")
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    random.seed(args.seed)
    differ = 0
    repeated: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        table, plain = Path(scratch, "t.parquet"), Path(scratch, "plain")
        pq.write_table(pa.table({"smiles": amides_of_chebi20(args.data_dir, args.rows)}), table)
        size = -(-args.rows // SHARDS)
        subprocess.run(command(table, args.model, plain, size, 1), check=True, capture_output=True)
        for victim in ("worker", "driver"):
            folder = Path(scratch, victim)
            repeated[victim] = kill_repeatedly(
                victim, command(table, args.model, folder, size, WORKERS), folder, args.kills
            )
            differ += content(folder) != content(plain)
            differ += sum(pq.read_metadata(path).num_rows for path in folder.glob("part-*")) != args.rows
    most = max(repeated["worker"] + repeated["driver"])
    finish(
        [
            bar("20 encoding: encodings with other bytes or rows after kills", "<=", 0, differ),
            bar("20 encoding: complete shards written again after a kill, most", "<=", WORKERS, most),
        ],
        args.output,
        repeated=repeated,
        molecules=args.rows,
    )


if __name__ == "__main__":
    main()
