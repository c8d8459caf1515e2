"""Runs the benchmarks, each in its own process, and writes the table of results into benchmarks/measurements.md.

    python benchmarks/run.py [--data_dir DATA] [--only NAME ...]

If a script fails, the others still run. The table has the rows of all files in benchmarks/results/, so results of
scripts that were not run this time stay in it. The exit status is 1 if a bar is missed or a script fails.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT

from class_hf.utils.files import write_text

# In the order of the requirements.
SCRIPTS = (
    "padding",
    "prepared_once",
    "loss_memory",
    "processes",
    "curriculum_cost",
    "exact_difficulty",
    "linear_difficulty",
    "frozen_tower",
    "large_batches",
    "precision",
    "ragged_graphs",
    "evaluation",
    "search",
    "light_import",
    "service",
    "page_load",
    "encoder",
    "peers",
    "scaling",
    "fast_cpu",
    "query_bank",
    "order",
    "study_power",
    "suspects",
    "wrong_pairs",
    "mechanisms",
    "gpu",
    "encode",
    "encode_kills",
    "score_sample",
    "several_hosts",
    "stores",
)
NEED_DATA = ("fast_cpu", "suspects", "wrong_pairs", "mechanisms")  # their bars are for ChEBI-20 only
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def read_rows(results: Path) -> list[dict[str, Any]]:
    """The rows of all result files, in the order of the scripts."""
    files = sorted(results.glob("*.json"), key=lambda file: (_place(file.stem), file.stem))
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8")).get("results", [])]


def _place(name: str) -> int:
    return SCRIPTS.index(name) if name in SCRIPTS else len(SCRIPTS)


def describe(machine: dict[str, Any]) -> str:
    """Describes the machine of a row in a few words.

    >>> describe({"processor": "AMD EPYC", "cores": 8, "threads": 2, "matrix_units": False, "gpu": None})
    '2 of 8 cores, AMD EPYC'
    """
    units = " with matrix units" if machine["matrix_units"] else ""
    processor = f"{machine['threads']} of {machine['cores']} cores, {machine['processor']}{units}"
    return f"{machine['gpu']}; {processor}" if machine["gpu"] else processor


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as a Markdown table: requirement, bar, measured, verdict, machine.

    A processor that all rows have is in the title only, so that most rows take one line.
    """
    rows = list(rows)
    processors = {row["machine"]["processor"] for row in rows}
    common = f" cores, {processors.pop()}" if len(processors) == 1 else ""
    lines = [f"| requirement | bar | measured | verdict | {common.strip() or 'machine'} |", "|---|---|---|---|---|"]
    for row in rows:
        measured = "" if row["measured"] is None else f"{row['measured']:.4g}"
        skipped = "no bar" if row.get("skipped") == "no bar" else f"skipped: {row.get('skipped')}"
        verdict = {True: "met", False: "**missed**", None: skipped}[row["met"]]
        machine = describe(row["machine"]).replace(common, "", 1) if common else describe(row["machine"])
        cells = (row["requirement"], row["bar"], measured, verdict, machine)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def with_table(text: str, new: str) -> str:
    """Replaces the table between the markers of a text.

    Raises:
        ValueError: if the text has no markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} ... {END} for the results. Add the two lines.")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def run(name: str, folder: Path, results: Path, data_dir: Path | None) -> str:
    """Runs one script. Returns `met`, `MISSED`, `FAILED`, or the reason why it was not run."""
    if data_dir is None and name in NEED_DATA:
        return "not run: needs --data_dir"
    before = _written(results / f"{name}.json")
    command = [sys.executable, str(folder / f"{name}.py")]
    status = subprocess.run(command + (["--data_dir", str(data_dir)] if data_dir else []), check=False).returncode
    # Python also exits with status 1 after an exception, and then the file of results is not written.
    if status == 0 and _written(results / f"{name}.json") == before:
        return "skipped"  # for instance gpu.py without a GPU
    if status not in (0, 1) or _written(results / f"{name}.json") == before:
        return f"FAILED with status {status}"
    return "MISSED" if status else "met"


def _written(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else 0


def main(argv: list[str] | None = None, folder: Path = ROOT / "benchmarks", results: Path = RESULTS) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, help="folder with ChEBI-20 (default: the synthetic demo)")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, metavar="NAME", help=f"of {', '.join(SCRIPTS)}")
    args = parser.parse_args(argv)
    page = folder / "measurements.md"
    with_table(page.read_text(encoding="utf-8"), "")  # fails now rather than after the benchmarks
    verdicts: dict[str, str] = {}
    for name in args.only or SCRIPTS:
        if not (folder / f"{name}.py").is_file():
            continue
        print(f"\n== {name}", flush=True)
        started = time.perf_counter()
        verdict = run(name, folder, results, args.data_dir)
        verdicts[name] = f"{verdict:<28} {time.perf_counter() - started:6.1f} s"
    write_text(page, with_table(page.read_text(encoding="utf-8"), table(read_rows(results))))
    print()
    for name, verdict in verdicts.items():
        print(f"{name:<20} {verdict}")
    return int(any(word in verdict for verdict in verdicts.values() for word in ("MISSED", "FAILED")))


if __name__ == "__main__":
    sys.exit(main())
