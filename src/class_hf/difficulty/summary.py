"""Summary of a scored data set: the spread of the scores, the easiest and the hardest pairs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from class_hf.difficulty.ranks import spearman
from class_hf.difficulty.scorer import DIFFICULTY_COLUMNS

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def find_extremes(ds: Any, count: int) -> dict[str, list[int]]:
    """Finds the easiest and the hardest pairs of a scored data set.

    Args:
        ds: rows with the columns `id` and `difficulty`.
        count: number of pairs at each end.

    Returns:
        Rows by `easiest` and `hardest`, the most extreme first. Ties are sorted by id.

    >>> find_extremes({"id": ["b", "a", "c"], "difficulty": [0.5, 0.5, 0.9]}, 2)
    {'easiest': [1, 0], 'hardest': [2, 0]}
    """
    keys = list(zip(ds["difficulty"][:], ds["id"][:], strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return {"easiest": order[:count], "hardest": order[::-1][:count]}


def summarise_scores(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Summarises scored splits, ready for JSON.

    Args:
        splits: data sets by split. A split without the difficulty columns, as the candidate pool, is only counted.
            `train` must be scored.

    Returns:
        `splits`: rows, mean and quantiles of each score, and the rank correlation of the two modalities, by split;
        `easiest` and `hardest`: the ids of ten training pairs each.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for split, ds in splits.items():
        summaries[split] = {"rows": len(ds)}
        if len(ds) and set(DIFFICULTY_COLUMNS) <= set(ds.column_names):
            columns = {score: np.asarray(ds[score][:]) for score in DIFFICULTY_COLUMNS}
            summaries[split] |= {
                "spearman_text_molecule": spearman(columns["text_difficulty"], columns["molecule_difficulty"]),
                "mean": {score: float(values.mean()) for score, values in columns.items()},
                "quantiles": {
                    score: dict(zip(map(str, QUANTILES), np.quantile(values, QUANTILES).tolist(), strict=True))
                    for score, values in columns.items()
                },
            }
    train = splits["train"]
    ids = train["id"][:]
    ends = {end: [ids[row] for row in rows] for end, rows in find_extremes(train, 10).items()}
    return {"splits": summaries, **ends}


def format_summary(summary: Mapping[str, Any], train: Any) -> str:
    """A summary as lines of text.

    Args:
        summary: of [`summarise_scores`], with `seconds` by part of the work.
        train: the training pairs, with `id` and `description`.
    """
    lines = [f"{'split':<12}{'pairs':>8}{'text':>8}{'molecule':>10}{'both':>8}{'Spearman':>10}"]
    for split, numbers in summary["splits"].items():
        if "mean" in numbers:
            text, molecule, combined = (numbers["mean"][score] for score in DIFFICULTY_COLUMNS)
            rho = numbers["spearman_text_molecule"]
            shown = "-" if rho is None else f"{rho:.2f}"
            lines.append(f"{split:<12}{numbers['rows']:>8,}{text:>8.2f}{molecule:>10.2f}{combined:>8.2f}{shown:>10}")
    for end, rows in find_extremes(train, 5).items():
        lines.append(f"\n{end} training pairs")
        lines += [f"  {train[row]['id']:<12} {train[row]['description'][:90]}" for row in rows]
    lines.append("\nseconds: " + ", ".join(f"{part} {spent:.1f}" for part, spent in summary["seconds"].items()))
    return "\n".join(lines)
