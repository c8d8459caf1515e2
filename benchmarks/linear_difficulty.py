"""Requirement 7: difficulty in linear time and indexed neighbours, compared with their exact forms.

    python benchmarks/linear_difficulty.py [--data_dir DIR]

Pairs are those of training and validation, molecules those of the pool. The molecules repeat for the anchors if there
are fewer than 26,408. The exact forms are also this package's.
"""

from typing import Any

import numpy as np
from common import arguments, bar, best_of, finish, load, skipped
from exact_difficulty import repeated
from scipy.stats import spearmanr

from class_hf.difficulty.confusability import Confusability, fingerprints, terms_of, vectors_of
from class_hf.difficulty.neighbours import sums
from class_hf.difficulty.pair_features import Frequencies, PairFeatures
from class_hf.difficulty.similarities import (
    MeanToAnchors,
    MeanToCentroid,
    Nearest,
    NearestByTerms,
    NearestIndexed,
    load_faiss,
)
from class_hf.difficulty.sparse_rows import Rows

K = 8
MOLECULES = 26408


def first(pairs: PairFeatures, size: int) -> PairFeatures:
    """The first pairs, with their features, so that only scoring is measured."""
    part = PairFeatures(*(column[:size] for column in (pairs.ids, pairs.descriptions, pairs.smiles)))
    assert len(part.words) == len(part.fragments) == size
    return part


def mean_to_others(rows: Rows, similarity: str) -> np.ndarray:
    """(N,) mean similarity to all other rows, from all N x N similarities."""
    dense = rows.dense()
    return (sums(dense, similarity, dense) - 1) / (len(rows) - 1)


def cosines_to_others(rows: Rows, queries: np.ndarray) -> np.ndarray:
    """(B,) mean cosine similarity of the queries to all other rows."""
    units = rows.matrix.multiply(1 / np.sqrt(rows.squares.astype(np.float64))[:, None]).tocsr()
    return ((units[queries] @ units.T).sum(axis=1) - 1) / (len(rows) - 1)


def index_rows(exact: dict[str, Any], indexed: dict[str, Any], seconds: dict[str, float]) -> list[dict[str, Any]]:
    """One result row for each kind of neighbours; `indexed` is empty without faiss."""
    requirements = {name: f"7 linear difficulty: neighbours by index and exact, {name}: Spearman" for name in exact}
    if not indexed:
        return [skipped(text, ">= 0.98", "faiss is not installed") for text in requirements.values()]
    return [
        bar(
            text,
            ">=",
            0.98,
            spearmanr(exact[name], indexed[name]).statistic,
            seconds_exact=round(seconds[f"exact {name}"], 2),
            seconds_index=round(seconds[f"index {name}"], 2),
        )
        for name, text in requirements.items()
    ]


def main() -> None:
    args = arguments(__doc__)
    data = load(args.data_dir)
    columns = ["id", "description", "smiles"]
    rows = [row for split in ("train", "validation") for row in data[split].select_columns(columns)]
    pairs = PairFeatures(*([row[column] for row in rows] for column in columns))
    pool = data["pool"]["smiles"][:]
    fragments = PairFeatures(pool, ["x"] * len(pool), pool).fragments
    molecules, many = fingerprints(fragments), fingerprints(repeated(fragments, max(len(pool), MOLECULES)))
    names = [str(row) for row in range(len(many))]

    terms_by_caption, counts = terms_of(pairs.words)
    terms = Frequencies.of(terms_by_caption)
    tfidf, hashed = (vectors_of(terms_by_caption, counts, terms, kind) for kind in ("tfidf", "hashed"))
    half = first(pairs, len(pairs) // 2)
    taken = best_of(
        {
            "half": lambda: Confusability.fit(half, "all"),
            "whole": lambda: Confusability.fit(pairs, "all"),
        },
        repeats=9,
    )
    taken |= best_of(
        {
            "all": lambda: mean_to_others(many, "tanimoto"),
            "anchors": lambda: MeanToAnchors.fit(many, names),
        }
    )
    seconds = {name: time.wall for name, time in taken.items()}
    queries = np.random.default_rng(0).permutation(len(pairs))[:256]
    centroid = np.abs(MeanToCentroid.fit(tfidf)[1][queries] - cosines_to_others(tfidf, queries)).max()
    anchors = MeanToAnchors.fit(many, names)[1]

    cases: dict[str, tuple[Any, Rows, str]] = {
        "captions": (lambda: NearestByTerms.fit(tfidf, K), tfidf, "cosine"),
        "hashed captions": (lambda: Nearest.fit(hashed, "cosine", K), hashed, "cosine"),
        "molecules": (lambda: Nearest.fit(molecules, "tanimoto", K), molecules, "tanimoto"),
    }
    scores: dict[str, dict[str, np.ndarray]] = {"exact": {}, "index": {}}
    try:
        load_faiss()
        kinds = ["exact", "index"]
    except ImportError:
        kinds = ["exact"]
    for name, (exact, vectors, similarity) in cases.items():
        ways = {"exact": exact, "index": lambda v=vectors, s=similarity: NearestIndexed.fit(v, s, K)}
        for kind in kinds:
            timed: dict[str, Any] = {}
            timings = best_of({kind: lambda run=ways[kind], into=timed: into.update(result=run()[1])}, repeats=1)
            seconds[f"{kind} {name}"] = timings[kind].wall
            scores[kind][name] = timed["result"]

    mean_and_nearest = spearmanr(anchors[: len(molecules)], scores["exact"]["molecules"])
    size = len(many)
    finish(
        [
            bar(
                f"7 linear difficulty: time of {len(pairs):,} pairs over half of them",
                "<=",
                2.3,
                seconds["whole"] / seconds["half"],
            ),
            bar("7 linear difficulty: centroid and brute force, largest difference", "<=", 1e-5, centroid),
            bar(
                f"7 linear difficulty: anchors and all {size:,} molecules, Spearman",
                ">=",
                0.99,
                spearmanr(anchors, mean_to_others(many, "tanimoto")).statistic,
            ),
            bar(
                f"7 linear difficulty: all {size:,} molecules over anchors, time",
                ">=",
                8,
                seconds["all"] / seconds["anchors"],
            ),
            *index_rows(scores["exact"], scores["index"], seconds),
        ],
        args.output,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        spearman_of_mean_and_neighbours=round(float(mean_and_nearest.statistic), 3),
    )


if __name__ == "__main__":
    main()
