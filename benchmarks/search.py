"""Requirement 13, search: one-bit codes with exact rescoring compared with flat search, and opening an index.

    python benchmarks/search.py [--vectors FILE.npy --queries FILE.npy] [--size 200000] [--large 1000000]

Measures single queries, one after the other. With `--vectors` and `--queries` (`molecules.npy` and `captions.npy` of
an index) the candidates are these molecules, and noisy mixtures of two of them up to the size. Without them the
vectors are random and L2-normalised, and the neighbours of a query are noisy copies of it. Needs no other data.
"""

import tempfile
from pathlib import Path

import faiss
import numpy as np
import torch
from common import arguments, bar, best_of, finish
from datasets import Dataset, disable_progress_bars

from class_hf.search.stores.folder import FolderStore
from class_hf.search.vector_search import OVERSAMPLING, compute_codes, top_rows, top_rows_by_codes

DIMENSION = 256
QUERIES = 200
K = 10
SMALL = 1_000  # molecules of the small index with which opening the large one is compared


def unit(rows: np.ndarray) -> np.ndarray:
    """L2-normalises the rows."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made_up(size: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Candidates (N, D) and queries (Q, D). Each query has fifty near candidates, at cosines of 0.5 to 0.9."""
    queries = unit(generator.standard_normal((QUERIES, DIMENSION), np.float32))
    candidates = unit(generator.standard_normal((size, DIMENSION), np.float32))
    near = np.repeat(np.arange(QUERIES), 50)
    cosines = generator.uniform(0.5, 0.9, (len(near), 1)).astype(np.float32)
    candidates[: len(near)] = cosines * queries[near] + np.sqrt(1 - cosines**2) * candidates[: len(near)]
    return unit(candidates), queries


def grown(vectors: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """(N, D) vectors: the given ones, and mixtures of two of them with noise of length 0.3."""
    count = max(size - len(vectors), 0)
    first, second = generator.integers(0, len(vectors), (2, count))
    share = generator.uniform(0.5, 1, (count, 1)).astype(np.float32)
    noise = generator.standard_normal((count, vectors.shape[1]), np.float32) * 0.3 / vectors.shape[1] ** 0.5
    return np.concatenate([vectors[:size], unit(share * vectors[first] + (1 - share) * vectors[second] + noise)])


def write_index(folder: Path, vectors: np.ndarray) -> None:
    """Writes an index whose molecules are all methane."""
    rows = len(vectors)
    table = Dataset.from_dict(
        {
            "id": [str(row) for row in range(rows)],
            "smiles": ["C"] * rows,
            "_weight": [16.04] * rows,
            "_elements": [["H", "C"]] * rows,
            "_pattern": [bytes(256)] * rows,
        }
    )
    config = {
        "class_hf_version": "",
        "model": None,
        "revision": None,
        "dimension": vectors.shape[1],
        "molecules": rows,
        "captions": 0,
        "exact_up_to": 200_000,
        "query_bank": None,
        "probes": {},
    }
    with FolderStore.create(folder, table, vectors.shape[1], np.empty(0, np.int64), overwrite=True) as writer:
        writer.add_molecules(0, vectors)
        writer.finish(config)


def measure(vectors: np.ndarray, queries: np.ndarray) -> tuple[float, float, dict[str, float]]:
    """Recall@10 of the codes, time of the faster flat search over that of the codes, and milliseconds of each."""
    codes, flat = compute_codes(vectors), faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    exact = flat.search(queries, K)[1]
    near = top_rows_by_codes(vectors, codes, queries, K)[1]
    recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(exact, near, strict=True)]))
    few = queries[:20]
    timings = best_of(
        {
            "codes": lambda: [top_rows_by_codes(vectors, codes, query[None], K) for query in few],
            "flat (faiss)": lambda: [flat.search(query[None], K) for query in few],
            "flat (matrix product)": lambda: [top_rows(vectors, query[None], K) for query in few],
        }
    )
    milliseconds = {name: 1000 * timing.wall / len(few) for name, timing in timings.items()}
    fastest = min(value for name, value in milliseconds.items() if name != "codes")
    return recall, fastest / milliseconds["codes"], milliseconds


def main() -> None:
    args = arguments(
        __doc__,
        size={"type": int, "default": 200_000, "help": "candidates"},
        large={"type": int, "default": 1_000_000, "help": "candidates of the larger run; 0 leaves it out"},
        vectors={"type": Path, "help": "molecules.npy of an index"},
        queries={"type": Path, "help": "captions.npy of the same index"},
    )
    if (args.vectors is None) != (args.queries is None):
        raise SystemExit("error: pass --vectors and --queries together.")
    faiss.omp_set_num_threads(torch.get_num_threads())
    disable_progress_bars()
    generator = np.random.default_rng(0)
    if args.vectors is None:
        vectors, queries = made_up(max(args.size, args.large), generator)
    else:
        vectors = grown(np.load(args.vectors), max(args.size, args.large), generator)
        captions = np.load(args.queries)
        queries = captions[generator.choice(len(captions), QUERIES, replace=False)]
    recall, ratio, milliseconds = measure(vectors[: args.size], queries)
    details = {f"milliseconds a query, {args.size:,}": milliseconds}
    large_recall, large_ratio = None, None
    if args.large:
        large_recall, large_ratio, details[f"milliseconds a query, {args.large:,}"] = measure(
            vectors[: args.large], queries
        )
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"small": Path(scratch, "small"), "large": Path(scratch, "large")}
        write_index(folders["small"], vectors[:SMALL])
        write_index(folders["large"], vectors[: args.size])
        FolderStore(folders["small"])  # imports
        opening = best_of({name: lambda folder=folder: FolderStore(folder) for name, folder in folders.items()}, 7)
    finish(
        [
            bar("13 search: recall@10 of codes with x10 rescoring", ">=", 0.97, recall, candidates=args.size),
            bar("13 search: time of a single query, flat over codes", ">=", 10, ratio, candidates=args.size),
            bar(
                f"13 search: opening an index, {args.size:,} over {SMALL:,} molecules",
                "<=",
                2.0,
                opening["large"].wall / opening["small"].wall,
            ),
        ],
        args.output,
        **details,
        large={"candidates": args.large, "recall": large_recall, "flat over codes": large_ratio},
        vectors="made up" if args.vectors is None else "of a trained model, and mixtures of them",
        oversampling=OVERSAMPLING,
        bytes_a_code=int(compute_codes(vectors[:8]).bits.shape[1]),
        opening_seconds={name: timing.wall for name, timing in opening.items()},
        queries=QUERIES,
    )


if __name__ == "__main__":
    main()
