"""Measures how well wrong pairs are found: captions of training pairs are exchanged, and each judge is scored.

    python benchmarks/suspects.py --data_dir DATA

For each share of exchanged captions, the details of the result have the AUC and the precision among the first 1 % of
each step, the estimated share of wrong pairs, what `curriculum_end: auto` leaves out, and the seconds.
"""

import json
import time
from typing import Any

import common
import numpy as np
from datasets import Dataset, disable_progress_bars

from class_hf.data.exchange import exchange_captions
from class_hf.difficulty import suspects as judges
from class_hf.difficulty.evidence import CANDIDATES, Reference, Votes, neighbourhoods
from class_hf.difficulty.pair_features import PairFeatures, first_by_hash
from class_hf.difficulty.reference import encode
from class_hf.difficulty.wrong_model import estimate_share, log_ratios, wrong_probabilities
from class_hf.training.planning import LEFT_OUT_ABOVE

FOUND = "find_suspects, two rounds without reference models"
CASES = [(0.0, "random"), (0.05, "random"), (0.2, "random"), (0.4, "random"), (0.4, "neighbours"), (0.2, "neighbours")]


class NoBar:
    """A progress bar that shows nothing."""

    def update(self) -> None:
        """Do nothing."""


def area(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the ROC curve."""
    ranks = scores.argsort(kind="stable").argsort()
    positive = int(wrong.sum())
    return float((ranks[wrong].sum() - positive * (positive - 1) / 2) / (positive * (len(wrong) - positive)))


def quality(scores: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """AUC, and precision among the first 1 %."""
    if not wrong.any():
        return {}
    first = np.argsort(-scores, kind="stable")[: round(0.01 * len(wrong))]
    return {"auc": round(area(scores, wrong), 4), "precision_of_first_percent": round(float(wrong[first].mean()), 3)}


def measure(pairs: Dataset, wrong: np.ndarray, cross_fits: int) -> dict[str, Any]:
    """Each step of the judge on one data set, and the package's own function."""
    pairs = pairs.sort("id")
    features = PairFeatures(pairs["id"][:], pairs["description"][:], pairs["smiles"][:])
    rows = np.arange(len(pairs))
    steps: dict[str, Any] = {}
    text, molecule = neighbourhoods(features, None)
    candidates = first_by_hash(features.ids, CANDIDATES)
    partners = judges.draw_partners(features.ids, 0, cross_fits)
    votes = Votes(text, molecule, np.ones(len(rows)), candidates)
    observed, known = votes.judge(rows, rows), votes.judge(rows, partners)
    directions = (
        "molecules for a caption's votes",
        "votes for a molecule",
        "captions for a molecule's votes",
        "votes for a caption",
    )
    for column, direction in enumerate(directions):
        steps[f"votes, {direction}"] = quality(observed[:, column], wrong)
    steps["votes, mean of four directions"] = quality(observed.mean(axis=1), wrong)
    ratios, known_ratios = log_ratios(observed, known)
    share = estimate_share(ratios, known_ratios)
    steps["votes, learned"] = quality(ratios, wrong)
    context = judges._context(votes, observed)
    with_context = np.concatenate([observed, *context], axis=1)
    known_context = np.concatenate([known, context[0], context[1][partners]], axis=1)
    ratios, _ = log_ratios(with_context, known_context)
    steps["votes and neighbours' agreement, learned"] = quality(ratios, wrong)
    if cross_fits:
        encoded, parts, known_parts = encode(features), [], []
        for number in range(cross_fits):
            reference = Reference.fit(features.ids, encoded, np.ones(len(rows), bool), 2 * number, 150, NoBar())
            parts.append(reference.judge(rows, rows))
            known_parts.append(reference.judge(rows, partners))
            name = "one cross-fit of reference models" if not number else f"{number + 1} cross-fits, averaged"
            steps[name] = quality(np.mean(parts, axis=0).mean(axis=1), wrong)
        ratios, _ = log_ratios(
            np.concatenate([with_context, np.mean(parts, axis=0)], axis=1),
            np.concatenate([known_context, np.mean(known_parts, axis=0)], axis=1),
        )
        steps[f"all of these, learned ({cross_fits} cross-fits)"] = quality(ratios, wrong)
        probabilities = wrong_probabilities(ratios, share.value)
        votes = Votes(text, molecule, 1 - probabilities, candidates)
        observed, known = votes.judge(rows, rows), votes.judge(rows, partners)
        context = judges._context(votes, observed)
        ratios, _ = log_ratios(
            np.concatenate([observed, np.mean(parts, axis=0), *context], axis=1),
            np.concatenate([known, np.mean(known_parts, axis=0), context[0], context[1][partners]], axis=1),
        )
        steps[f"all of these, second round ({cross_fits} cross-fits)"] = quality(ratios, wrong)
    started, cpu = time.perf_counter(), time.process_time()
    found = judges.find_suspects(features)
    seconds = {"wall": round(time.perf_counter() - started, 1), "cpu": round(time.process_time() - cpu, 1)}
    left_out = found.wrong_probability > LEFT_OUT_ABOVE
    return {
        "steps": steps,
        FOUND: quality(found.score, wrong),
        "true_share": round(float(wrong.mean()), 4),
        "estimated_share": {name: round(value, 4) for name, value in found.share._asdict().items()},
        "left_out_by_auto": int(left_out.sum()),
        "left_out_right_pairs": int((left_out & ~wrong).sum()),
        "left_out_wrong_pairs": int((left_out & wrong).sum()),
        "expected_precision_of_first_percent": round(found.precision_at(round(0.01 * len(rows))), 3),
        "seconds": seconds,
    }


def main() -> None:
    args = common.arguments(
        __doc__,
        seed={"type": int, "default": 0, "help": "of the exchange"},
        cross_fits={"type": int, "default": 1, "help": "reference models to compare with; 0 for none"},
    )
    disable_progress_bars()
    train = common.load(args.data_dir)["train"].select_columns(["id", "smiles", "description"])
    cases: dict[str, Any] = {}
    for share, among in CASES:
        if share:
            pairs = exchange_captions(train, share, args.seed, among)
        else:
            pairs = train.add_column("exchanged", [False] * len(train))
        pairs = pairs.sort("id")
        name = f"{share:.0%} exchanged, {among}"
        cases[name] = measure(pairs, np.array(pairs["exchanged"][:]), args.cross_fits)
        print(name, json.dumps(cases[name], indent=1), flush=True)
    rows = []
    for share, goal in ((0.05, 0.99), (0.2, 0.985), (0.4, 0.98)):
        case = cases[f"{share:.0%} exchanged, random"]
        rows.append(common.bar(f"suspects: AUC, {share:.0%} exchanged at random", ">=", goal, case[FOUND]["auc"]))
    precision = cases["5% exchanged, random"][FOUND]["precision_of_first_percent"]
    rows.append(common.bar("suspects: precision of the first 1 %, 5 % exchanged at random", ">=", 0.95, precision))
    for name in (f"{share:.0%} exchanged, random" for share in (0.0, 0.05, 0.2, 0.4)):
        error = abs(cases[name]["estimated_share"]["value"] - cases[name]["true_share"])
        rows.append(common.bar(f"suspects: error of the estimated share, {name}", "<=", 0.02, error))
    left_out = cases["40% exchanged, neighbours"]["left_out_by_auto"] / len(train)
    rows.append(common.bar("suspects: share left out, 40 % exchanged among neighbours", "<=", 0.02, left_out))
    clean = cases["0% exchanged, random"]["left_out_by_auto"] / len(train)
    rows.append(common.bar("suspects: share left out, nothing exchanged", "<=", 0.02, clean))
    seconds = cases["5% exchanged, random"]["seconds"]["cpu"]
    rows.append(common.bar("suspects: CPU seconds of two rounds, 60 s of two cores", "<=", 120, seconds))
    common.finish(rows, args.output, pairs=len(train), seed=args.seed, cases=cases)


if __name__ == "__main__":
    main()
