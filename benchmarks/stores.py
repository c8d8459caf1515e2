"""Requirement 20, stores: recall, CPU time of searches and changes, and size of an index in each store.

    python benchmarks/stores.py --model MODEL --data_dir DATA [--rows 100000] [--vectors FOLDER]
        --stores FOLDER lance:FOLDER "postgresql://USER@/DATABASE/TABLE?host=SOCKET_FOLDER"

The molecules are the synthetic amides of `encode.py`, with a column of random prices from 0 to 100. `class-hf encode`
makes their vectors in the folder `--vectors`, where a second run finds them. Queries are 1 % further molecules, which
are then added and deleted. An index that exists is replaced. Times are CPU times of this process, its children and its
process in a local PostgreSQL server, because other programs may use the machine. The time of a build lacks the server.
The memory of a build is the largest anonymous memory of this process above that before, so it lacks the server too.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from amides import amides_of_chebi20
from common import anonymous_during, arguments, bar, finish

from class_hf.search.building import IndexSettings
from class_hf.search.index import MoleculeIndex
from class_hf.search.query import MoleculeFilter
from class_hf.search.requests import SearchRequest, find_hits
from class_hf.search.stores.base import hide_password
from class_hf.shards.indexing import add_vectors, index_vectors
from class_hf.shards.run import EncodeSettings, encode_table

K = 10
QUERIES = 50
PATTERN = "c1ccncc1"
SEARCHES = {
    "plain": None,
    "2 % filter": MoleculeFilter(where="price < 2"),
    "substructure": MoleculeFilter(substructure=PATTERN, time_limit=600),
}
SUBSTRUCTURES = 10  # queries with a substructure, which start a process each


def encoded(args: Any) -> tuple[str, str]:
    """The folders with the vectors of the molecules and of the queries."""
    folders = {"rows": args.rows, "queries": args.rows // 100}
    if not all((args.vectors / f"{name}.parquet").is_file() for name in folders):
        molecules = amides_of_chebi20(args.data_dir, sum(folders.values()))
        generator = random.Random(0)
        generator.shuffle(molecules)
        args.vectors.mkdir(parents=True, exist_ok=True)
        for name, count in folders.items():
            smiles, molecules = molecules[:count], molecules[count:]
            columns = {
                "id": [f"{name}-{row}" for row in range(count)],
                "smiles": smiles,
                "price": [generator.uniform(0, 100) for _ in smiles],
            }
            pq.write_table(pa.table(columns), args.vectors / f"{name}.parquet")
    for name in folders:
        table, folder = str(args.vectors / f"{name}.parquet"), args.vectors / name
        if not (folder / "encode.json").is_file():
            encode_table(table, args.model, str(folder), EncodeSettings(shard_size=10_000))
    return str(args.vectors / "rows"), str(args.vectors / "queries")


def read_vectors(folder: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The ids, vectors and prices of an encoding."""
    tables = [pq.read_table(path, columns=["id", "vector", "price"]) for path in sorted(Path(folder).glob("part-*"))]
    table = pa.concat_tables(tables)
    vectors = table["vector"].combine_chunks()
    return (
        table["id"].to_pylist(),
        vectors.flatten().to_numpy().reshape(len(vectors), -1),
        table["price"].to_numpy(),
    )


def cpu_seconds(store: Any) -> float:
    """CPU seconds of this process, of its ended children, and of the server of a store."""
    times = os.times()
    seconds = time.process_time() + times.children_user + times.children_system
    connection = getattr(store, "_connection", None)
    if connection is not None:  # its process on this machine
        counted = Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0]
        seconds += int(counted) / 1e9
    return seconds


def timed(store: Any, function: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result of a function, its CPU seconds and its wall seconds."""
    wall, cpu = time.perf_counter(), cpu_seconds(store)
    result = function()
    return result, cpu_seconds(store) - cpu, time.perf_counter() - wall


def disk_bytes(location: str, store: Any) -> int:
    """The size of an index."""
    if location.startswith("postgresql:"):
        from psycopg import sql

        names = [name.as_string() for name in store._names]
        statement = sql.SQL("SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(%s::text[]) AS name")
        return int(store._connection.execute(statement, [names]).fetchone()[0])
    path = location.removeprefix("lance:").removeprefix("qdrant+path:")
    folder = Path(path).parent if location.startswith("qdrant") else Path(path)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measure(location: str, args: Any) -> dict[str, Any]:
    """All measurements of a store."""
    rows, queries = encoded(args)
    _, vectors, prices = read_vectors(rows)
    query_ids, query_vectors, _ = read_vectors(queries)
    settings = IndexSettings(overwrite=True, exact_up_to=args.exact_up_to)
    cpu, memory = cpu_seconds(None), 0
    if not args.keep_index:
        memory = anonymous_during(lambda: index_vectors(rows, store=location, settings=settings).close())
    seconds = cpu_seconds(None) - cpu
    index = MoleculeIndex.load(location)
    store = index.store
    result: dict[str, Any] = {
        **({} if args.keep_index else {"build_cpu_s": round(seconds, 1), "build_memory_mb": round(memory / 1e6)}),
        "megabytes": round(disk_bytes(location, store) / 1e6, 1),
        "recall_at_10_own_vectors": index.config.get("recall_at_10"),
        "effort": index.config.get("effort"),
    }
    for name, filters in SEARCHES.items():
        cpus, walls, recalls, counts = [], [], [], []
        for query in query_vectors[: SUBSTRUCTURES if name == "substructure" else QUERIES]:
            request = SearchRequest("molecule", ("query",), "molecule", K, filters)
            search = lambda request=request, query=query: find_hits(store, [request], [query[None]])  # noqa: E731
            hits, seconds, wall = timed(store, search)
            found = hits[0][0]
            cpus.append(seconds)
            walls.append(wall)
            counts.append(len(found))
            if name != "substructure":
                scores = vectors @ query
                if name != "plain":
                    scores = np.where(prices < 2, scores, -2)
                # Several molecules can have equal vectors, and any of them may be the last hit.
                least = np.partition(scores, -K)[-K] - 1e-6
                recalls.append(sum(hit.score >= least for hit in found) / K)
        result[name] = {
            "cpu_ms_p50": round(1e3 * float(np.median(cpus)), 1),
            "cpu_ms_p95": round(1e3 * float(np.percentile(cpus, 95)), 1),
            "wall_ms_p50": round(1e3 * float(np.median(walls)), 1),
            "wall_ms_p95": round(1e3 * float(np.percentile(walls, 95)), 1),
            "fewest_hits": min(counts),
            **({"recall_at_10": round(float(np.mean(recalls)), 4)} if recalls else {}),
        }
    for name, change in (
        ("add 1 %", lambda: add_vectors(index, queries)),
        ("delete 1 %", lambda: index.delete(query_ids)),
    ):
        _, seconds, wall = timed(store, change)
        result[name] = {"cpu_s": round(seconds, 2), "wall_s": round(wall, 2), "molecules": store.count()}
    index.close()
    return result


def main() -> None:
    args = arguments(
        __doc__,
        model={"help": "folder of a trained dual encoder"},
        rows={"type": int, "default": 100_000, "help": "molecules"},
        vectors={"type": Path, "default": Path("outputs/stores_benchmark"), "help": "folder for the vectors"},
        exact_up_to={"type": int, "help": "as for `class-hf index`"},
        keep_index={"action": "store_true", "help": "measure an index that exists"},
        stores={"nargs": "+", "default": ["outputs/stores_folder", "lance:outputs/stores_lance"]},
    )
    if args.data_dir is None or args.model is None:
        print("skipped: needs --data_dir, the folder with ChEBI-20, and --model")
        return
    datasets.disable_progress_bars()
    bars = []
    for location in args.stores:
        result = measure(location, args)
        name = location.split(":")[0] if ":" in location else "folder"
        print(hide_password(location), json.dumps(result, indent=2), flush=True)
        recall = min(result["plain"]["recall_at_10"], result["2 % filter"]["recall_at_10"])
        bars.append(bar(f"20 stores: {name}, {args.rows:,} molecules: recall@10", ">=", 0.97, recall, **result))
        fewest = min(result[search]["fewest_hits"] for search in SEARCHES)
        bars.append(bar(f"20 stores: {name}, {args.rows:,} molecules: fewest hits of {K}", ">=", K, fewest))
    finish(bars, args.output)


if __name__ == "__main__":
    sys.exit(main())
