"""Requirement 20, encoding: molecules per core-second, overhead and bytes of the engines, memory at n and 10 n rows.

    python benchmarks/encode.py --model MODEL --data_dir DATA [--rows 20000] [--shard_size N] [--earlier CHECKOUT/src]

The molecules are synthetic amides of acids and amines of ChEBI-20, all different. `--earlier` is the folder `src` of a
checkout of an earlier version: its describe, prepare and embed steps are timed in turn with `class-hf encode`. Without
it, these steps of this version are timed. Memory is the largest anonymous memory of a process (Linux).

Each measurement is a new process with one thread. CPU seconds are those of the process and of all processes that it
starts (workers, schedulers, agents), without their start and without what a table of 300 rows takes, which is opening
the model. Dask and Ray run a scheduler and one worker. Their processes wake up many times a second, so their overhead
grows with the wall time: measure on free cores.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from amides import amides_of_chebi20
from common import ROOT, arguments, bar, finish, skipped

ENGINES = ("none", "2 workers", "dask", "dask's defaults", "ray")
# What docs/scale.md recommends for Dask's scheduler and workers.
QUIET_DASK = {
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "1s",
}

# Each prints its CPU seconds and its largest anonymous memory in bytes.
_WATCH = """
import contextlib, json, os, sys, threading, time
import psutil
most, ended = [0], threading.Event()
def cpu_seconds():
    # Of this process, its descendants, and those that have ended.
    times = os.times()
    seconds = time.process_time() + times.children_user + times.children_system
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:4])
    return seconds
def anonymous():
    # Not the USS, which counts the pages of mapped files too.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))
def watch():
    while not ended.wait(0.2):
        most[0] = max(most[0], anonymous())
thread = threading.Thread(target=watch, daemon=True)
thread.start()
def report(seconds, **further):
    ended.set()
    print(json.dumps({"seconds": seconds, "anonymous": most[0], **further}))
"""
_STEPS = (
    _WATCH
    + """
import datasets, torch
import torch.nn.functional as F
from datasets import Dataset
from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import prepare_molecules
try:
    from class_hf.evaluation.embedding import embed
    from class_hf.hub.loading import load_model
    from class_hf.search.properties import describe
except ImportError:  # the modules of 0.1.0
    from class_hf.build import load_model
    from class_hf.evaluation.retrieval import embed
    from class_hf.search.molecules import describe
datasets.disable_progress_bars()
torch.set_num_threads(1)
path, model = sys.argv[1:3]
model, processor = load_model(model)
collator = TextMoleculeCollator(processor)
table = Dataset.from_parquet(path)
def steps(table):
    described, _ = describe(table)
    prepared = prepare_molecules(described.select_columns(["smiles"]), processor, None)
    for start in range(0, len(prepared), 8192):
        part = prepared.select(range(start, min(start + 8192, len(prepared))))
        F.normalize(embed(model, part, collator, "molecule", 256).float(), dim=-1)
steps(table.select(range(300)).flatten_indices())
started = time.process_time()
steps(table)
report(time.process_time() - started)
"""
)
_ENCODE = (
    _WATCH
    + """
import datasets, torch
from class_hf.shards.run import EncodeSettings, encode_table
datasets.disable_progress_bars()
torch.set_num_threads(1)
path, warm, model, output, engine, shard_size = sys.argv[1:7]
def timed(table, folder, size, **engine):
    settings = EncodeSettings(shard_size=int(size), **engine)
    started = cpu_seconds()
    inside = encode_table(table, model, output + folder, settings).seconds
    return cpu_seconds() - started, inside
@contextlib.contextmanager
def started_engine():
    if engine.startswith("dask"):
        from distributed import LocalCluster
        options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(host="127.0.0.1", protocol="tcp", **options) as cluster:
            yield {"scheduler": cluster.scheduler_address}
    elif engine == "ray":
        import ray
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        try:
            yield {"scheduler": "ray://127.0.0.1:10001"}
        finally:
            ray.shutdown()
    else:
        yield {"workers": 1 if engine == "none" else int(engine.split()[0])}
if __name__ == "__main__":
    with started_engine() as settings:
        timed(warm, "_warm", 150, **settings)
        total, inside = timed(warm, "_start", 150, **settings)
        start = total - inside
        began = time.monotonic()
        total, inside = timed(path, "", shard_size, **settings)
        wall = time.monotonic() - began
    report(total - start, start=start, inside=inside, wall=wall)
"""
)


def measured(code: str, *words: object, source: Path | None = None, further: Mapping[str, str] | None = None) -> dict:
    """Runs code in a new process with one thread, the package of `source` and further variables."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": scratch, "HF_HUB_OFFLINE": "1"}
        settings |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"} | dict(further or {})
        settings["PYTHONPATH"] = str(source or ROOT / "src")
        script = Path(scratch, "measurement.py")  # a file, because local workers import it
        script.write_text(code)
        command = [sys.executable, str(script), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def digest(folder: str) -> str:
    """A hash of the parts of an encoding."""
    content = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.parquet")):
        content.update(f"{path.name} ".encode() + path.read_bytes())
    return content.hexdigest()


def main() -> None:
    args = arguments(
        __doc__,
        model={"help": "folder of a trained dual encoder"},
        rows={"type": int, "default": 20_000, "help": "molecules; a tenth of them is the smaller table"},
        repeats={"type": int, "default": 1, "help": "repeats, of which the best counts"},
        shard_size={"type": int, "help": "rows in a shard (default: an eighth of the rows)"},
        engines={"nargs": "+", "choices": ENGINES, "default": ENGINES, "metavar": "ENGINE", "help": "to compare"},
        earlier={"type": Path, "help": "folder `src` of a checkout of an earlier version"},
        earlier_rows={"type": int, "help": "molecules for the separate steps (default: all)"},
        table={"type": Path, "help": "Parquet file with molecules (default: synthetic amides)"},
        keep={"type": Path, "help": "a new folder that keeps the encoding of one process"},
    )
    if args.model is None or (args.data_dir is None and args.table is None):
        print("skipped: needs --data_dir, the folder with ChEBI-20, and --model")
        return
    engines = list(dict.fromkeys(["none", *args.engines]))
    shard_size = args.shard_size or max(args.rows // 8, 100)
    sizes = {
        "all": args.rows,
        "a tenth": args.rows // 10,
        "earlier": min(args.earlier_rows or args.rows, args.rows),
        "warm": 300,
    }
    if args.table is None:
        molecules = pa.table({"smiles": amides_of_chebi20(args.data_dir, args.rows)})
    else:
        molecules = pq.read_table(args.table).slice(0, args.rows)
    best: dict[str, dict] = {}
    digests: dict[str, str] = {}
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        tables = {name: Path(scratch, f"{name}.parquet") for name in sizes}
        for name, path in tables.items():
            pq.write_table(molecules.slice(0, sizes[name]), path)
        del molecules

        def encode(rows: str, engine: str, folder: str) -> dict:
            words = (tables[rows], tables["warm"], args.model, folder, engine, shard_size)
            result = measured(_ENCODE, *words, further=QUIET_DASK if engine == "dask" else None)
            if rows == "all":
                digests[engine] = digest(folder)
            return result

        for repeat in range(args.repeats):
            runs: dict[str, Callable[[], dict]] = {
                "steps": lambda: measured(_STEPS, tables["earlier"], args.model, source=args.earlier)
            }
            for engine in engines:
                folder = str(Path(scratch, f"{repeat} {engine}"))
                if engine == "none" and args.keep is not None and not repeat:
                    folder = str(args.keep)
                runs[engine] = lambda engine=engine, folder=folder: encode("all", engine, folder)
            runs["a tenth"] = lambda folder=str(Path(scratch, f"{repeat} tenth")): encode("a tenth", "none", folder)
            for name, run in runs.items():
                try:
                    result = run()
                except RuntimeError as error:
                    if name in ("none", "2 workers"):
                        sys.exit(f"a measurement failed:\n{error}")
                    reasons[name] = f"did not start: {str(error).strip().splitlines()[-1][:200]}"
                    continue
                print(name, json.dumps(result), flush=True)
                if name not in best or result["seconds"] < best[name]["seconds"]:
                    best[name] = result
    rates = {
        "steps": sizes["earlier"] / best["steps"]["seconds"],
        "none": args.rows / best["none"]["seconds"],
    }
    memory = best["none"]["anonymous"] / best["a tenth"]["anonymous"]
    title = f"20 encoding, {args.rows:,} molecules"
    rows = [
        bar(f"{title}: rate per core-second over the separate steps", ">=", 1.5, rates["none"] / rates["steps"]),
        bar(f"{title}: private memory over that at a tenth of them", "<=", 1.1, memory),
    ]
    for engine in engines:
        name = f"{title}, {engine}: CPU seconds outside the shards over those inside"
        if engine not in best:
            rows.append(skipped(name, "<= 0.05", reasons[engine]))
            continue
        overhead = (best[engine]["seconds"] - best[engine]["inside"]) / best[engine]["inside"]
        if engine == "dask's defaults":
            rows.append(skipped(name, "-", "no bar", overhead))
        else:
            rows.append(bar(name, "<=", 0.05, overhead))
    if len(digests) > 1:
        rows.append(bar(f"{title}: different files among {', '.join(digests)}", "<=", 1, len(set(digests.values()))))
    finish(
        rows,
        args.output,
        molecules=args.rows,
        molecules_of_the_separate_steps=sizes["earlier"],
        shard_size=shard_size,
        molecules_per_core_second=rates,
        processes=best,
        steps="this version" if args.earlier is None else "an earlier version",
    )


if __name__ == "__main__":
    main()
