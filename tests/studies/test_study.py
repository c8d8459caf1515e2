"""The statistics of a study against direct computations and hand-worked cases."""

import numpy as np
import pytest
from scipy import stats

from class_hf.studies.report import _reach, study_markdown
from class_hf.studies.statistics import (
    PRIMARY,
    Curve,
    Run,
    adjust_holm,
    bootstrap_over_queries,
    compare,
    compare_by_quartile,
    read_curve,
    summarise,
    summarise_seeds,
    time_to_reach,
)

EMPTY = Curve(np.zeros(0, int), np.zeros(0), np.zeros(0))


def test_over_seeds_equals_scipy():
    values = [0.41, 0.44, 0.43]
    found = summarise_seeds(values)
    interval = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert found["interval_95"] == pytest.approx(interval)
    assert found["mean"] == pytest.approx(np.mean(values)) and found["sd"] == pytest.approx(np.std(values, ddof=1))
    assert summarise_seeds([0.4]) == {"mean": 0.4, "sd": None, "interval_95": None}


def test_over_queries_equals_scipys_bootstrap():
    values = np.random.default_rng(0).random((3, 200))
    found = bootstrap_over_queries(values)
    expected = stats.bootstrap((values.mean(0),), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert found == pytest.approx(expected.confidence_interval, abs=0.002)


def test_one_seed_is_the_bootstrap_over_queries_alone():
    generator = np.random.default_rng(0)
    arm, baseline = generator.random((2, 1, 300))
    found = compare(arm, baseline)
    expected = stats.bootstrap(((arm - baseline)[0],), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert found["interval_95"] == pytest.approx(expected.confidence_interval, abs=0.004)
    assert found["p_seeds"] is None and found["difference"] == pytest.approx((arm - baseline).mean())


def test_p_over_many_queries_is_that_of_the_paired_t_test():
    generator = np.random.default_rng(3)
    baseline = generator.random((1, 2000))
    arm = baseline + generator.normal(0.004, 0.1, baseline.shape)
    assert compare(arm, baseline)["p"] == pytest.approx(stats.ttest_rel(arm[0], baseline[0]).pvalue, abs=0.01)


def test_seeds_and_queries_are_resampled_together():
    """Compared with direct draws of indices."""
    generator = np.random.default_rng(0)
    difference = generator.normal(0.05, 0.2, (4, 1)) + generator.normal(0, 0.3, (4, 30))
    drawn = [
        difference[np.ix_(generator.integers(0, 4, 4), generator.integers(0, 30, 30))].mean() for _ in range(4000)
    ]
    found = compare(difference, np.zeros_like(difference))
    assert found["interval_95"] == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.01)
    assert found["p"] == pytest.approx(2 * min(np.mean(np.array(drawn) <= 0), np.mean(np.array(drawn) >= 0)), abs=0.05)
    expected = stats.ttest_1samp(difference.mean(1), 0).pvalue
    assert found["p_seeds"] == pytest.approx(expected)


def test_a_difference_on_which_seeds_disagree_is_not_significant():
    """All queries agree within a seed, so only the seeds show the spread."""
    difference = np.repeat([[0.3], [-0.1], [0.2]], 500, axis=1)
    found = compare(difference, np.zeros_like(difference))
    assert found["p"] > 0.05 and found["p_seeds"] > 0.05


def test_no_difference_and_an_obvious_one():
    baseline = np.random.default_rng(0).random((3, 100)) / 2
    same, better = compare(baseline, baseline), compare(baseline + 0.5, baseline)
    assert same["p"] == 1.0 and same["p_seeds"] == 1.0 and same["interval_95"] == [0.0, 0.0]
    assert better["p"] == pytest.approx(2 / 10_001) and better["difference"] == pytest.approx(0.5)
    assert better["p_seeds"] < 1e-6


def test_shapes_that_differ():
    with pytest.raises(ValueError, match=r"shapes \(2, 5\) and \(3, 5\)"):
        compare(np.ones((2, 5)), np.ones((3, 5)))


def test_holm_by_hand():
    # 0.005 x 4; 0.01 x 3; 0.03 x 2 = 0.06, which 0.04 x 1 may not fall below.
    assert adjust_holm([0.03, 0.005, 0.04, 0.01]) == pytest.approx([0.06, 0.02, 0.06, 0.03])
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0] and adjust_holm([]) == []


def test_quartiles_go_by_difficulty():
    baseline, difficulty = np.zeros((2, 8)), np.array([0.8, 0.1, 0.5, 0.2, 0.7, 0.3, 0.6, 0.4])
    arm = np.tile(np.where(difficulty > 0.65, 0.5, 0.0), (2, 1))
    parts = compare_by_quartile(arm, baseline, difficulty)
    assert [part["difference"] for part in parts] == [0.0, 0.0, 0.0, 0.5]
    assert [part["queries"] for part in parts] == [2, 2, 2, 2]
    assert len(compare_by_quartile(arm[:, :3], baseline[:, :3], difficulty[:3])) == 3


def test_evaluations_are_subtracted_from_the_time():
    logs = [
        {"eval_mrr": 0.1, "eval_runtime": 2.0, "wall_seconds": 7.0, "step": 10},
        {"loss": 1.0, "wall_seconds": 9.0, "step": 15},
        {"eval_mrr": 0.3, "eval_runtime": 3.0, "wall_seconds": 15.0, "step": 20},
        {"eval_mrr": 0.4, "eval_runtime": 3.0, "step": 20},
    ]
    steps, seconds, mrr, cpu = read_curve(logs)
    assert cpu is None
    with_cpu = [{**entry, "cpu_seconds": 3.0 * entry["step"], "eval_cpu_seconds": 1.0} for entry in logs]
    assert read_curve(with_cpu).cpu_seconds.tolist() == [29.0, 58.0]
    assert (steps.tolist(), seconds.tolist(), mrr.tolist()) == ([10, 20], [5.0, 10.0], [0.1, 0.3])
    assert read_curve([]).mrr.size == 0


def test_reach_interpolates():
    curve = Curve(np.array([10, 20, 30, 40]), np.array([1.0, 2.0, 4.0, 6.0]), np.array([0.1, 0.3, 0.2, 0.4]))
    assert time_to_reach(curve, 0.2) == pytest.approx({"seconds": 1.5, "steps": 15.0})
    assert time_to_reach(curve, 0.35) == pytest.approx({"seconds": 5.5, "steps": 37.5})
    assert time_to_reach(curve, 0.05) == {"seconds": 1.0, "steps": 10.0}
    assert time_to_reach(curve, 0.4) == {"seconds": 6.0, "steps": 40.0}
    with_cpu = curve._replace(cpu_seconds=curve.seconds * 2)
    assert time_to_reach(with_cpu, 0.35)["cpu_seconds"] == pytest.approx(11.0)
    assert time_to_reach(curve, 0.41) is None and time_to_reach(EMPTY, 0.1) is None


def runs_of(arms: dict[str, float], seeds: int = 3, queries: int = 40) -> list[Run]:
    """Runs whose reciprocal ranks and curves differ by arm."""
    ids = np.array([f"q{index}" for index in range(queries)])
    runs = []
    for arm, factor in arms.items():
        for seed in range(seeds):
            ranks = 1.0 + factor * np.random.default_rng(seed).random(queries)
            seconds = np.array([1.0, 2.0]) * factor
            curve = Curve(np.array([5, 10]), seconds, np.array([0.5, 1.0]) / factor, seconds * (2 + seed))
            by_pool = {PRIMARY: ranks, "split.text_to_molecule": ranks}
            runs.append(Run(arm, seed, ids, by_pool, 10, 2.0 * factor, 640, curve, 4.0 * factor))
    return runs


@pytest.fixture(scope="module")
def summary() -> dict:
    difficulty = {f"q{index}": index / 40 for index in range(40)}
    # `late` has one seed only: it is tested on that one.
    runs = runs_of({"none": 2.0, "random": 2.0, "easy": 1.0}) + runs_of({"late": 4.0}, seeds=1)
    return summarise(runs, ["none", "random", "absent"], difficulty)


def test_summary(summary):
    runs = runs_of({"easy": 1.0})
    per_seed = [np.mean(1 / run.ranks[PRIMARY]) for run in runs]
    assert summary["arms"]["easy"]["mrr"]["mean"] == pytest.approx(np.mean(per_seed))
    assert summary["arms"]["easy"]["mrr"]["sd"] == pytest.approx(np.std(per_seed, ddof=1))
    assert summary["arms"]["late"]["seeds"] == [0] and summary["arms"]["late"]["mrr"]["sd"] is None
    assert summary["queries"] == 40 and set(summary["tests"]) == {"none", "random"}
    tests = summary["tests"]["none"]
    assert list(tests) == ["random", "easy", "late"] and tests["late"]["seeds"] == 1
    assert tests["random"]["p"] == 1.0 and tests["easy"]["p"] < 0.001 < tests["random"]["p_holm"]
    assert [test["p_holm"] for test in tests.values()] == adjust_holm([test["p"] for test in tests.values()])
    assert len(summary["quartiles"]["random"]["easy"]) == 4
    # The best of none is 0.5, after 4 seconds; easy has that at its first evaluation, late never.
    assert summary["reach"]["none"][1] == {"mrr": 0.5, "seconds": 4.0, "steps": 10.0, "cpu_seconds": 12.0}
    assert summary["reach"]["easy"][1] == {"mrr": 0.5, "seconds": 1.0, "steps": 5.0, "cpu_seconds": 3.0}
    assert summary["reach"]["late"] == {0: None}
    assert summary["curves"]["easy"]["pairs_seen"] == [320.0, 640.0]


def test_curves_are_averaged_where_all_seeds_were_evaluated():
    first, second = runs_of({"none": 2.0}, seeds=2)
    second = second._replace(curve=Curve(np.array([10, 15]), np.array([6.0, 9.0]), np.array([0.3, 0.6])))
    # CPU time is drawn only if all runs have it.
    curve = summarise([first, second], [])["curves"]["none"]
    assert curve == {"steps": [10], "pairs_seen": [640.0], "seconds": [5.0], "mrr": [0.4]}


def test_time_over_the_baseline_has_an_interval_if_all_seeds_reach_the_target():
    runs = runs_of({"none": 2.0, "easy": 1.0, "slow": 2.2})
    # Twice the time with seed 1: ratios of .25, .5 and .25.
    runs[4] = runs[4]._replace(curve=runs[4].curve._replace(cpu_seconds=runs[4].curve.cpu_seconds * 2))
    numbers = summarise(runs, ["none"], reach_margin=0.1)
    assert numbers["reach"]["none"][0]["mrr"] == pytest.approx(0.4)
    numbers["reach"]["slow"][2] = None
    table = _reach(numbers["reach"], "none", "cpu_seconds")
    rows = {line.split(" |")[0]: line for line in table.splitlines()}
    # To .4: none takes 3.2 s (wall), slow 3.344 s; easy has it at its first evaluation.
    assert rows["| easy"].endswith("| 0.62 | 0.42 (-0.03 to 0.86) | 3 of 3 seeds |")
    assert rows["| slow"].endswith("| 1.10 | 1.21 | 2 of 3 seeds |")


def test_runs_that_cannot_be_compared():
    runs = runs_of({"none": 2.0, "easy": 1.0}, seeds=1)
    with pytest.raises(ValueError, match="easy seed 0 and none seed 0 ranked different queries"):
        summarise([runs[0], runs[1]._replace(ids=runs[1].ids[::-1])], ["none"])
    with pytest.raises(ValueError, match="no run is finished"):
        summarise([], ["none"])


def test_report(summary):
    machine = {"processor": "a CPU", "cores": 2, "threads": 2, "gpu": None, "processes": 1, "runs": 10,
               "versions": {"torch": "2"}}  # fmt: skip
    report = {"name": "small", "data": "DATA", "training_pairs": 64, "candidates": 9000, "command": "python x",
              "environments": [machine], "baselines": ["none", "random"], "reference": "alignment",
              "missing": ["late seed 1", "never seed 0", "never seed 1"], **summary}  # fmt: skip
    text = study_markdown(report, ["curves.png"])
    for words in ("# Study small", "DATA; 64 training pairs", "40 validation queries, 9,000 candidates", "a CPU",
                  "`python x`", "**Missing runs:** late seed 1.", "## Verdict",
                  "- `random` is not distinguishable from `none`: MRR", "- `easy` is better than `none`: MRR +",
                  "- `late` is worse than `random`: MRR -", "one seed, so the spread over seeds is unknown.",
                  "## Difference to `random`",
                  "not reached", "3 of 3 seeds", "![curves.png](curves.png)"):  # fmt: skip
        assert words in text
    assert "**Arms without a finished run:** never." in text and "| never |" not in text
    assert text.index("## Verdict") < text.index("## Quality") < text.index("## Cost")
    for table in text.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, table
    row = next(line for line in text.splitlines() if line.startswith("| easy |"))
    assert f"{summary['arms']['easy']['mrr']['mean']:.4f}" in row
