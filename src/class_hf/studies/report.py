"""Writes the numbers of a study as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from class_hf.studies.statistics import PRIMARY

LEVEL = 0.05  # of the adjusted p-value, below which the verdict is better or worse

_METHOD = """\
- MRR, Hits@1 and Hits@10: text to molecule in the full pool, all validation queries, after training. Mean over seeds.
- sd: standard deviation of a single run over the seeds. Interval over seeds: Student's t for the mean. Interval over
  queries: bootstrap over the queries of the seed-averaged reciprocal ranks.
- Seconds: wall time of the training without its evaluations. Preparing and scoring the data is not counted.
- Tests: difference of the reciprocal ranks of the same query and seed. Interval and p: seeds and queries are resampled
  together (pigeonhole bootstrap, two-sided). p (Holm): adjusted for all arms tested against that baseline. p (seeds):
  paired t-test over the seeds alone.
- Verdict: better or worse if p (Holm) is below 0.05.
- With few seeds the t-test is weak and the interval of the bootstrap is too narrow. With one seed the interval covers
  the queries only. No bootstrap p is below 0.0002.
- Quality during training (curves, time to reach) is measured in the evaluations during training, on the sample of
  queries and candidates that the study sets. The target of an arm is the best evaluation of the baseline with the same
  seed. As the best of many noisy evaluations, the target is slightly too high."""


def study_markdown(report: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
    """Writes the report of a study.

    Args:
        report: the result of [`class_hf.studies.statistics.summarise`], with `name`, `data`, `training_pairs`,
            `candidates`, `command`, `environments`, `baselines`, `reference` and `missing` of the runner.
        pictures: paths of pictures to show, relative to the report.

    Returns:
        The report as Markdown.
    """
    parts = [f"# Study {report['name']}", _origin(report)]
    parts += ["## Verdict", _verdict(report["tests"])]
    parts += _missing(report["missing"], report["arms"])
    parts += ["## Quality and cost", _quality(report["arms"])]
    for baseline, tests in report["tests"].items():
        if tests:
            parts += [f"## Difference to `{baseline}`", _tests(tests)]
    if report["reach"]:
        baseline = report["baselines"][0]
        parts += [f"## Training to the best quality of `{baseline}`", _reach(report["reach"], baseline)]
    for baseline, arms in report["quartiles"].items():
        if arms:
            parts += [
                f"## Gain over `{baseline}` by difficulty quartile",
                f"Quarters of the queries by {report['reference']}, the same for all arms.",
                _quartiles(arms),
            ]
    parts += ["## Other pools and directions", _pools(report["arms"])]
    parts += [f"![{name}]({name})" for name in pictures]
    parts += ["## How the numbers are made", _METHOD]
    return "\n\n".join(parts) + "\n"


def _verdict(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence for each arm and baseline."""
    lines = [f"- {verdict(arm, baseline, test)}" for baseline, by_arm in tests.items() for arm, test in by_arm.items()]
    return (
        "\n".join(lines) or "No arm can be compared: a baseline and another arm need finished runs of the same seed."
    )


def verdict(arm: str, baseline: str, test: Mapping[str, Any]) -> str:
    """The outcome of the test of an arm against a baseline, in one sentence.

    An arm is better or worse if its p-value, adjusted for all arms tested against the baseline, is below 0.05.

    Args:
        arm: name of the arm.
        baseline: name of the baseline.
        test: result of [`class_hf.studies.statistics.compare`], with `p_holm`.

    >>> test = {"difference": 0.02, "interval_95": [0.01, 0.03], "p_holm": 0.0006, "seeds": 3}
    >>> verdict("easy", "none", test)
    '`easy` is better than `none`: MRR +0.0200 (95 % +0.0100 to +0.0300), p (Holm) 0.0006, 3 seeds.'
    """
    if test["p_holm"] >= LEVEL:
        outcome = "is not distinguishable from"
    else:
        outcome = "is better than" if test["difference"] > 0 else "is worse than"
    seeds = f"{test['seeds']} seeds" if test["seeds"] > 1 else "one seed, so the spread over seeds is unknown"
    return (
        f"`{arm}` {outcome} `{baseline}`: MRR {_number(test['difference'], '+.4f')} "
        f"(95 % {_interval(test['interval_95'], '+.4f')}), p (Holm) {_number(test['p_holm'], '.2g')}, {seeds}."
    )


def _origin(report: Mapping[str, Any]) -> str:
    """Data, pool, machines and command, as a list."""
    lines = [
        f"- Data: {report['data']}; {report['training_pairs']:,} training pairs.",
        f"- Pool: {PRIMARY.replace('.', ', ').replace('_', ' ')}, {report['queries']:,} validation queries, "
        f"{report['candidates']:,} candidates.",
    ]
    for machine in report["environments"]:
        device = f", {machine['gpu']}" if machine["gpu"] else ""
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        lines.append(
            f"- Machine: {machine['processor']}{device}, {machine['cores']} cores, {machine['processes']} process(es) "
            f"of {machine['threads']} thread(s); {versions}. {machine['runs']} run(s)."
        )
    return "\n".join([*lines, f"- Command: `{report['command']}`"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is aligned left and whose other columns are aligned right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _interval(bounds: Sequence[float] | None, form: str = ".4f") -> str:
    return "-" if bounds is None else " to ".join(format(bound, form) for bound in bounds)


def _quality(arms: Mapping[str, Any]) -> str:
    """Quality and cost, one row for each arm."""
    head = ["arm", "seeds", "MRR", "sd", "95 % over seeds", "95 % over queries", "Hits@1", "Hits@10"]
    rows = [
        [
            name,
            str(len(arm["seeds"])),
            _number(arm["mrr"]["mean"]),
            _number(arm["mrr"]["sd"]),
            _interval(arm["mrr"]["interval_95"]),
            _interval(arm["mrr"]["interval_95_queries"]),
            *(_number(arm[f"hits@{k}"]["mean"]) for k in (1, 10)),
            _number(arm["steps"]["mean"], ",.0f"),
            _number(arm["seconds"]["mean"], ",.1f"),
            _number(arm["pairs_seen"]["mean"], ",.0f"),
        ]
        for name, arm in arms.items()
    ]
    return _table([*head, "steps", "seconds", "pairs seen"], rows)


def _tests(tests: Mapping[str, Any]) -> str:
    """Differences to a baseline, one row for each arm."""
    rows = [
        [
            arm,
            str(test["seeds"]),
            _number(test["difference"], "+.4f"),
            _interval(test["interval_95"], "+.4f"),
            *(_number(test[name], ".2g") for name in ("p", "p_holm", "p_seeds")),
        ]
        for arm, test in tests.items()
    ]
    return _table(["arm", "seeds", "MRR difference", "95 %", "p", "p (Holm)", "p (seeds)"], rows)


def _reach(reach: Mapping[str, Mapping[int, dict[str, float] | None]], baseline: str) -> str:
    """Time and steps to the best quality of the baseline, one row for each arm."""
    baseline_points = reach.get(baseline, {})
    rows = []
    for arm, by_seed in reach.items():
        points = {seed: point for seed, point in by_seed.items() if point is not None}
        cells = ["-", "-", "-", "not reached" if by_seed else "no common seed with evaluations"]
        if points:
            cells = [
                _number(sum(point[name] for point in points.values()) / len(points), ",.1f")
                for name in ("seconds", "steps")
            ]
            # Over the same seeds of the baseline. Otherwise an arm that fails with its slow seeds would look fast.
            steps = [
                (point["steps"], reference["steps"])
                for seed, point in points.items()
                if (reference := baseline_points.get(seed)) is not None
            ]
            share = sum(arm_steps for arm_steps, _ in steps) / sum(other for _, other in steps) if steps else None
            cells += [_number(share, ".2f"), f"{len(points)} of {len(by_seed)} seeds"]
        rows.append([arm, *cells])
    return _table(["arm", "seconds", "steps", f"steps over `{baseline}`", "reached by"], rows)


def _quartiles(arms: Mapping[str, Any]) -> str:
    """Differences by quarter of the queries, one row for each arm."""
    rows = [
        [arm, *(f"{_number(test['difference'], '+.4f')} ({_interval(test['interval_95'], '+.4f')})" for test in tests)]
        for arm, tests in arms.items()
    ]
    count = max(len(row) for row in rows) - 1
    names = ["easiest", "second", "third", "hardest"] if count == 4 else [f"part {part + 1}" for part in range(count)]
    return _table(["arm", *names], rows)


def _pools(arms: Mapping[str, Any]) -> str:
    """MRR in all pools and directions, one row for each arm."""
    keys = list(next(iter(arms.values()))["mrr_by_pool"])
    rows = []
    for name, arm in arms.items():
        cells = [arm["mrr_by_pool"][key] for key in keys]
        rows.append(
            [name, *(f"{cell['mean']:.4f}" + (f" ± {cell['sd']:.4f}" if cell["sd"] else "") for cell in cells)]
        )
    heads = [f"MRR, {key.split('.')[1].replace('_', ' ')}, {key.split('.')[0]}" for key in keys]
    return _table(["arm", *heads], rows)


def _missing(runs: Sequence[str], finished: Mapping[str, Any]) -> list[str]:
    """The missing runs (`"arm seed 0"`) of arms with finished runs. Other arms do not appear in the report."""
    missing = [run for run in runs if run.rsplit(" seed ", 1)[0] in finished]
    return [f"**Missing runs:** {'; '.join(missing)}."] if missing else []
