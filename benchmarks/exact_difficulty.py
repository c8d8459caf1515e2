"""Requirement 6: exact nearest molecules and captions, compared with RDKit's loop and a sparse TF-IDF product.

    python benchmarks/exact_difficulty.py [--data_dir DIR] [--rows 26408]

The 32 nearest rows are searched. Molecules are those of the pool, captions those of training and validation. They
repeat if there are fewer than `--rows`. RDKit's loop and the sparse product run on a sample of the queries, against
all rows, and their time is scaled to all queries. This package starts from substructure ids and from the terms of the
captions. The time of making dense rows is included.
"""

import json
from typing import Any

import numpy as np
import torch
from common import arguments, bar, best_of, finish, fresh_process, load, peak_rss, skipped
from rdkit import DataStructs
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from class_hf.difficulty.confusability import fingerprints, terms_of, vectors_of
from class_hf.difficulty.neighbours import fastest_dtype, nearest
from class_hf.difficulty.pair_features import Frequencies, PairFeatures, Ragged
from class_hf.difficulty.similarities import Nearest, NearestByTerms
from class_hf.difficulty.sparse_rows import Rows

K = 32
QUERIES = 512
MEASURE = "import sys, exact_difficulty; exact_difficulty.print_memory(int(sys.argv[1]))"


def repeated(rows: Ragged, size: int) -> Ragged:
    """The first `size` rows. They repeat if there are fewer."""
    each = [rows.values[rows.offsets[i % len(rows)] : rows.offsets[i % len(rows) + 1]] for i in range(size)]
    return Ragged(np.concatenate(each), np.concatenate([[0], np.cumsum([len(row) for row in each])]))


def rdkit_nearest(queries: list[Any], base: list[Any]) -> np.ndarray:
    """(B, K) similarities in descending order, as users of RDKit compute them."""
    rows = []
    for query in queries:
        similarities = np.array(DataStructs.BulkTanimotoSimilarity(query, base))
        rows.append(np.sort(similarities[np.argpartition(similarities, -K)[-K:]])[::-1])
    return np.array(rows)


def sparse_nearest(queries: csr_array, transposed: csr_array) -> np.ndarray:
    """(B, K) cosine similarities in descending order, as users of TF-IDF in scikit-learn compute them."""
    similarities = (queries @ transposed).toarray()
    rows = np.argpartition(similarities, -K, axis=1)[:, -K:]
    return np.sort(np.take_along_axis(similarities, rows, axis=1), axis=1)[:, ::-1]


def bit_vectors(rows: Rows) -> list[Any]:
    """Binary rows as bit vectors of RDKit."""
    vectors = []
    for row in rows.dense():
        vectors.append(DataStructs.ExplicitBitVect(rows.width))
        vectors[-1].SetBitsFromList(np.flatnonzero(row).tolist())
    return vectors


def unit(rows: Rows) -> csr_array:
    """Rows as float32 unit vectors."""
    return csr_array(rows.matrix.multiply(1 / np.sqrt(rows.squares)[:, None])).astype(np.float32)


def print_memory(size: int) -> None:
    """Prints by how many bytes a search over random fingerprints raises the peak memory of this process."""
    rng = np.random.default_rng(0)
    bits = Ragged(rng.integers(0, 2048, 50 * size), np.arange(0, 50 * size + 1, 50))
    rows = fingerprints(bits)
    nearest(rows.take(slice(0, 1000)).dense(), K, "tanimoto")
    before = peak_rss()
    nearest(rows.dense(), K, "tanimoto")
    print(json.dumps({"bytes": peak_rss() - before}))


def main() -> None:
    args = arguments(__doc__, rows={"type": int, "default": 26408, "help": "molecules, and captions"})
    data = load(args.data_dir)
    pairs = [pair for split in ("train", "validation") for pair in data[split].select_columns(["id", "description"])]
    smiles = data["pool"]["smiles"][:]
    size = args.rows
    names, texts = ([pair[column] for pair in pairs] for column in ("id", "description"))
    fragments = PairFeatures(smiles[:size], ["x"] * len(smiles[:size]), smiles[:size]).fragments
    molecules = fingerprints(repeated(fragments, size))
    captions = repeated(PairFeatures(names, texts, ["C"] * len(texts)).words, size)

    terms_by_caption, counts = terms_of(captions)
    terms = Frequencies.of(terms_by_caption)
    tfidf, hashed = (vectors_of(terms_by_caption, counts, terms, kind) for kind in ("tfidf", "hashed"))
    vectors, plain = bit_vectors(molecules), unit(tfidf)
    transposed = plain.T.tocsr()
    queries = np.random.default_rng(0).permutation(size)[: min(QUERIES, size)]
    taken = best_of(
        {
            "tanimoto": lambda: nearest(molecules.dense(), K, "tanimoto"),
            "rdkit": lambda: rdkit_nearest([vectors[i] for i in queries], vectors),
            "hashed": lambda: nearest(vectors_of(terms_by_caption, counts, terms, "hashed").dense(), K, "cosine"),
            "sparse": lambda: sparse_nearest(plain[queries], transposed),
        }
    )
    taken |= best_of({"by_terms": lambda: NearestByTerms.fit(tfidf, K)}, repeats=1)
    seconds = {name: time.wall for name, time in taken.items()}
    for name in ("rdkit", "sparse"):
        seconds[name] *= size / len(queries)

    bits, numbers = molecules.dense(), hashed.dense()
    errors = [
        nearest(bits, K, "tanimoto", bits[queries])[0] - rdkit_nearest([vectors[i] for i in queries], vectors),
        nearest(numbers, K, "cosine", numbers[queries])[0]
        - sparse_nearest(unit(hashed).astype(np.float64)[queries], unit(hashed).astype(np.float64).T.tocsr()),
    ]
    bytes_ = fresh_process(MEASURE, size)["bytes"]
    scores = Nearest.fit(hashed, "cosine", 8)[1], NearestByTerms.fit(tfidf, 8)[1]
    fast = torch.cuda.is_available() or fastest_dtype("cpu") == torch.int8

    def ratio(requirement: str, limit: float, other: str, ours: str) -> dict[str, Any]:
        measured = seconds[other] / seconds[ours]
        reason = "no GPU, and no CPU that multiplies 8-bit integers faster than float32"
        return (
            bar(requirement, ">=", limit, measured)
            if fast
            else skipped(requirement, f">= {limit:g}", reason, measured)
        )

    rows = [
        ratio(f"6 exact difficulty: Tanimoto top-32 of {size:,}, RDKit's loop over ours", 6, "rdkit", "tanimoto"),
        bar("6 exact difficulty: largest difference from RDKit's values", "<=", 1e-6, np.abs(errors[0]).max()),
        ratio(f"6 exact difficulty: text top-32 of {size:,}, sparse TF-IDF product over ours", 5, "sparse", "hashed"),
        bar(
            "6 exact difficulty: largest difference from a sparse product's values",
            "<=",
            1e-6,
            np.abs(errors[1]).max(),
        ),
        bar(f"6 exact difficulty: peak extra MB at {size:,} molecules", "<=", 600, bytes_ / 1e6),
    ]
    finish(
        rows,
        args.output,
        seconds={name: round(value, 2) for name, value in seconds.items()},
        queries=len(queries),
        distinct_molecules=min(size, len(smiles)),
        distinct_captions=min(size, len(texts)),
        sparse_product_over_exact_tfidf=round(seconds["sparse"] / seconds["by_terms"], 1),
        spearman_of_hashed_and_tfidf_scores=round(float(spearmanr(*scores).statistic), 4),
    )


if __name__ == "__main__":
    main()
