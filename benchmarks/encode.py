"""Requirement 20, encoding: molecules per core-second, overhead of the engines, and memory at n and 10 n rows.

    python benchmarks/encode.py --model MODEL --data_dir DATA [--rows 20000] [--earlier CHECKOUT/src]

The molecules are synthetic amides of acids and amines of ChEBI-20, all different. `--earlier` is the folder `src` of a
checkout of an earlier version: its describe, prepare and embed steps are timed in turn with `class-hf encode`. Without
it, these steps of this version are timed. Memory is the largest anonymous memory of a process (Linux).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import ROOT, arguments, bar, finish
from rdkit import Chem, rdBase

ACID = "[CX3;!R](=O)[OX2H1]"
AMINE = "[NX3;H2;+0;$(N[CX4])]"
MOST_ATOMS = 20  # heavy atoms of an acid or an amine

# Each prints its CPU seconds, without imports and the first rows, and its largest anonymous memory in bytes.
_WATCH = """
import json, sys, threading, time
most, ended = [0], threading.Event()
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
from datasets import Dataset
from class_hf.search.encoder import IndexEncoder
from class_hf.search.properties import describe
datasets.disable_progress_bars()
torch.set_num_threads(1)
path, model = sys.argv[1:3]
encoder = IndexEncoder.open(model)
embed = getattr(encoder, "embed_molecules", None) or encoder.molecules  # its earlier name
table = Dataset.from_parquet(path)
def steps(table):
    described, _ = describe(table)
    prepared = encoder.prepare(described, None)
    for start in range(0, len(prepared), 8192):
        embed(prepared.select(range(start, min(start + 8192, len(prepared)))), 256)
steps(table.select(range(300)).flatten_indices())
started = time.process_time()
steps(table)
report(time.process_time() - started)
"""
)
_ENCODE = (
    _WATCH
    + """
import datasets
from distributed import LocalCluster
from class_hf.shards.run import EncodeSettings, encode_table
datasets.disable_progress_bars()
path, warm, model, output = sys.argv[1:5]
def timed(table, folder, scheduler=None):
    settings = EncodeSettings(shard_size=1000, scheduler=scheduler)
    started = time.process_time()
    inside = encode_table(table, model, output + folder, settings).seconds
    return time.process_time() - started, inside
options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
with LocalCluster(host="127.0.0.1", protocol="tcp", **options) as cluster:
    timed(warm, "warm", cluster.scheduler_address)
    total, shards = timed(warm, "start")
    start = total - shards  # opens table and model
    seconds, inside = timed(path, "plain")
    most_plain = most[0]
    dask, inside_dask = timed(path, "dask", cluster.scheduler_address)
most[0] = most_plain
report(inside, total=seconds, start=start, dask=dask, inside_dask=inside_dask)
"""
)


def fragments(smiles: list[str], pattern: str) -> list[str]:
    """The different molecules with one match of a pattern, as SMILES `*R` that begin with an open bond.

    Args:
        smiles: of the molecules.
        pattern: a SMARTS. The open bond is at its first atom. The third atom, an acid's hydroxy group, is removed.
    """
    wanted, found = Chem.MolFromSmarts(pattern), {}
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        if molecule is None or molecule.GetNumHeavyAtoms() > MOST_ATOMS or "." in text:
            continue
        matches = molecule.GetSubstructMatches(wanted)
        if len(matches) != 1:
            continue
        editable = Chem.RWMol(molecule)
        if len(matches[0]) == 3:  # the hydroxy group of the acid
            marker = matches[0][2]
            editable.ReplaceAtom(marker, Chem.Atom(0))
        else:
            marker = editable.AddAtom(Chem.Atom(0))
            editable.AddBond(matches[0][0], marker, Chem.BondType.SINGLE)
        marked = editable.GetMol()
        marked.UpdatePropertyCache(strict=False)
        text = Chem.MolToSmiles(marked, rootedAtAtom=marker)
        if text.startswith("*") and text.count("*") == 1:
            found.setdefault(text, None)
    return list(found)


def amides(smiles: list[str], count: int) -> list[str]:
    """Amides of the first acids and primary amines among molecules: all pairs, as canonical SMILES.

    Args:
        smiles: of the molecules. ChEBI-20 has more than 1,300 acids and 1,300 amines of at most 20 heavy atoms with
            one carboxylic acid, or one primary amine.
        count: number of amides. They are different, because the fragments are.
    """
    with rdBase.BlockLogs():
        acids, amines = fragments(smiles, ACID), fragments(smiles, AMINE)
        side = int(count**0.5) + 1
        acids, amines = acids[: max(side, -(-count // len(amines)))], amines[: max(side, -(-count // len(acids)))]
        products: dict[str, None] = {}
        for acid in acids:
            for amine in amines:
                # The two open bonds close to the amide bond: `*C(=O)R` and `*NR'` become `C%99(=O)R.N%99R'`.
                joined = f"{_opened(acid)}.{_opened(amine)}"
                molecule = Chem.MolFromSmiles(joined)
                if molecule is not None:
                    products.setdefault(Chem.MolToSmiles(molecule), None)
                if len(products) == count:
                    return list(products)
    raise SystemExit(f"only {len(products):,} amides of {len(acids):,} acids and {len(amines):,} amines.")


def _opened(fragment: str) -> str:
    """`*CR` with an open ring bond in place of the mark: `C%99R`.

    >>> _opened("*[C@H](N)C"), _opened("*NCC")
    ('[C@H]%99(N)C', 'N%99CC')
    """
    end = fragment.index("]") + 1 if fragment[1] == "[" else 2
    return f"{fragment[1:end]}%99{fragment[end:]}"


def measured(code: str, *words: object, source: Path | None = None) -> dict:
    """Runs code in a new process with one thread, with the package of `source`."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": cache, "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = str(source or ROOT / "src")
        command = [sys.executable, "-c", code, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"a measurement failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = arguments(
        __doc__,
        model={"help": "folder of a trained dual encoder"},
        rows={"type": int, "default": 20_000, "help": "molecules; a tenth of them is the smaller table"},
        repeats={"type": int, "default": 1, "help": "repeats, of which the best counts"},
        earlier={"type": Path, "help": "folder `src` of a checkout of an earlier version"},
    )
    if args.data_dir is None or args.model is None:
        print("skipped: needs --data_dir, the folder with ChEBI-20, and --model")
        return
    lines = (args.data_dir / "molecules.tsv").read_text(encoding="utf-8").splitlines()
    place = lines[0].split("\t").index("SMILES")
    molecules = amides([line.split("\t")[place] for line in lines[1:]], args.rows)
    with tempfile.TemporaryDirectory() as scratch:
        paths = {size: Path(scratch, f"{size}.parquet") for size in (args.rows, args.rows // 10, 300)}
        for size, path in paths.items():
            pq.write_table(pa.table({"smiles": molecules[:size]}), path)
        table, small, warm = paths.values()
        best: dict[str, dict] = {}
        for repeat in range(args.repeats):
            out = Path(scratch, f"out{repeat}")
            runs = {
                "steps": lambda: measured(_STEPS, table, args.model, source=args.earlier),
                "encode": lambda out=out: measured(_ENCODE, table, warm, args.model, f"{out}a"),
                "encode, a tenth": lambda out=out: measured(_ENCODE, small, warm, args.model, f"{out}b"),
            }
            for name, run in runs.items():
                result = run()
                if name not in best or result["seconds"] < best[name]["seconds"]:
                    best[name] = result
    rates = {name: args.rows / best[name]["seconds"] for name in ("steps", "encode")}
    encode = best["encode"]
    # Opening the table and the model takes as long for any number of rows.
    overhead = (encode["total"] - encode["start"]) / encode["seconds"] - 1
    overhead_dask = (encode["dask"] - encode["start"]) / encode["inside_dask"] - 1
    gain = rates["encode"] / rates["steps"]
    memory = encode["anonymous"] / best["encode, a tenth"]["anonymous"]
    finish(
        [
            bar("20 encoding: rate per core-second over the separate steps", ">=", 1.5, gain),
            bar("20 encoding: overhead of the driver", "<=", 0.05, overhead),
            bar("20 encoding: overhead of Dask", "<=", 0.05, overhead_dask),
            bar("20 encoding: private memory at ten times the rows", "<=", 1.1, memory),
        ],
        args.output,
        molecules=args.rows,
        molecules_per_core_second=rates,
        processes=best,
        steps="this version" if args.earlier is None else "an earlier version",
    )


if __name__ == "__main__":
    main()
