"""The bars and the figure of `wrong_pairs.py`, from the runs that it has saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np

from class_hf.plots.style import BLUE, GREEN, GREY, ORANGE, hide_spines, new_figure, save_figure
from class_hf.studies.statistics import compare
from class_hf.training.planning import LEFT_OUT_ABOVE

# Seeds with which settings were chosen. The bars are measured with other seeds where there are some.
CHOOSING = (0, 1, 2)


def reciprocal_ranks(runs_dir: Path, setting: str, arms: Sequence[str]) -> tuple[list[int], list[np.ndarray]]:
    """The seeds that all arms of a setting have, without those of the choice if there are others.

    Returns:
        The seeds, and for each arm the reciprocal ranks (seeds, queries) in the full pool.
    """
    files = [{int(path.stem[5:]): path for path in (runs_dir / setting / arm).glob("seed_*.npy")} for arm in arms]
    seeds = sorted(set.intersection(*(set(paths) for paths in files)))
    seeds = [seed for seed in seeds if seed not in CHOOSING] or seeds
    return seeds, [np.array([1 / np.load(paths[seed]) for seed in seeds]) for paths in files]


def bars(runs: list[dict[str, Any]], runs_dir: Path, towers: str) -> list[dict[str, Any]]:
    """What the arms with a curriculum gain over full epochs, for each setting that has the arms."""
    rows = []
    kind = "wrong pairs" if towers == "light" else f"wrong pairs, {towers}"

    def mean(setting: str, arm: str, seeds: list[int]) -> float:
        chosen = [run for run in runs if (run["setting"], run["arm"]) == (setting, arm) and run["seed"] in seeds]
        return float(np.mean([run["full"]["mrr"] for run in chosen]))

    for setting in sorted(path.name for path in runs_dir.iterdir() if path.is_dir()):
        among, share = setting.split("_")
        arm = "cut_auto+s1" if float(share) == 0 else "cut_auto" if among == "random" else "end_auto"
        seeds, (tested, none) = reciprocal_ranks(runs_dir, setting, (arm, "none"))
        if not seeds:
            continue
        test = compare(tested, none)
        name = f"{kind}, {setting}, {arm}, seeds {', '.join(map(str, seeds))}: "
        floor = {"random_0": -0.003, "random_0.4": 0.13, "neighbours_0.4": 0.0}.get(setting)
        if floor is not None:
            gain = mean(setting, arm, seeds) - mean(setting, "none", seeds)
            rows.append(common.bar(name + "MRR less that of full epochs", ">=", floor, gain, test=test))
        seeds, _ = reciprocal_ranks(runs_dir, setting, (arm, "none", "oracle"))
        if seeds and among == "random":
            reached, none_mrr, oracle = (mean(setting, each, seeds) for each in (arm, "none", "oracle"))
            name = f"{kind}, {setting}, {arm}, seeds {', '.join(map(str, seeds))}: "
            share_reached = (reached - none_mrr) / (oracle - none_mrr)
            rows.append(common.bar(name + "share of the oracle's gain in MRR", ">=", 0.8, share_reached))
    return rows


def histogram(file: Path) -> dict[str, list[int]]:
    """Numbers of right and of wrong pairs in 20 equal ranges of the probability of being wrong."""
    with np.load(file) as arrays:
        probability, wrong = arrays["probability"], arrays["wrong"]
    edges = np.linspace(0, 1, 21)
    return {
        name: np.histogram(probability[chosen], edges)[0].tolist()
        for name, chosen in (("right", ~wrong), ("wrong", wrong))
    }


def draw(runs: list[dict[str, Any]], histograms: dict[str, dict[str, list[int]]], path: Path) -> None:
    """Draws the MRR against the share of exchanged captions, and the probabilities of one setting."""
    figure = new_figure(9.6, 3.9)
    left, right = figure.subplots(1, 2)
    names = {"none": "all pairs", "cut_auto": "curriculum_end: auto", "oracle": "right pairs only"}
    for (arm, label), colour in zip(names.items(), (GREY, BLUE, GREEN), strict=True):
        points: dict[float, list[float]] = {}
        for run in runs:
            among, share = run["setting"].split("_")
            if among == "random" and (run["arm"] == arm or (float(share) == 0 and run["arm"] == "none")):
                points.setdefault(float(share), []).append(run["full"]["mrr"])
        shares = sorted(points)
        means = [np.mean(points[share]) for share in shares]
        left.plot([100 * share for share in shares], means, "o-", color=colour, label=label)
    left.legend(frameon=False, loc="lower left")
    left.set_title("Training on ChEBI-20 with wrong pairs", fontsize=11, loc="left")
    left.set_xlabel("captions exchanged, %")
    left.set_ylabel("MRR, full pool")
    left.set_ylim(0, 0.5)
    counts = histograms["random_0.2"]
    edges = np.linspace(0, 1, 21)
    right.stairs(counts["right"], edges, color=BLUE, fill=True, alpha=0.35, label="right pairs")
    right.stairs(counts["wrong"], edges, color=ORANGE, linewidth=1.5, label="wrong pairs")
    right.axvline(LEFT_OUT_ABOVE, color=GREY, linestyle="--", linewidth=1, label="auto leaves out pairs above 1/4")
    right.set_yscale("log")
    right.set_title("20 % exchanged", fontsize=11, loc="left")
    right.set_xlabel("probability of being wrong")
    right.set_ylabel("pairs")
    right.legend(frameon=False, loc="upper center")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        hide_spines(axes)
    save_figure(figure, path)
