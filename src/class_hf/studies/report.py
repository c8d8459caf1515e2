"""Writes the numbers of a study as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from class_hf.studies.statistics import PRIMARY, summarise_seeds

LEVEL = 0.05  # of the adjusted p-value, below which the verdict is better or worse
OFF = 0.05  # from 1, of the ratio of costs that should be equal

_METHOD = """\
- MRR, Hits@1 and Hits@10: text to molecule in the full pool, all validation queries, after training. Mean over seeds.
- sd: standard deviation of a single run over the seeds. Interval over seeds: Student's t for the mean. Interval over
  queries: bootstrap over the queries of the seed-averaged reciprocal ranks.
- Seconds: wall time of the training without its evaluations. CPU seconds: the same in CPU time of all threads,
  processes and ended data workers. Preparing and scoring the data is not counted.
- Tokens seen: text tokens that the text tower reads, after truncation and dropped sentences, without padding.
- Tests: difference of the reciprocal ranks of the same query and seed. Interval and p: seeds and queries are resampled
  together (pigeonhole bootstrap, two-sided). p (Holm): adjusted for all arms tested against that baseline. p (seeds):
  paired t-test over the seeds alone.
- Verdict: better or worse if p (Holm) is below 0.05.
- With few seeds the t-test is weak. The bootstrap's interval is too narrow if seeds differ on all queries alike, and
  too wide if single queries vary by chance, as on ChEBI-20. With one seed it covers the queries only. No bootstrap p
  is below 0.0002.
- Quality during training (curves, time to reach) is measured in the evaluations during training, on the sample of
  queries and candidates that the study sets. The target of an arm is the best evaluation of the baseline with the same
  seed. As the best of many noisy evaluations, the target is slightly too high. "Time over" is the mean of the ratios
  by seed, with Student's t interval if all seeds reach it. Time is CPU time on a CPU and wall time on a GPU."""

_SWEEP = """\
Mean MRR of each factor of the learning rates (`learning_rate` and `text_learning_rate`), on the seeds that all
factors have. Each arm is compared at its best factor. Beyond an end of the sweep there may be a better one."""

_CONFIRMED = """\
Learning rates and arms were chosen with the other seeds. With these seeds only the baselines and the best candidate
were trained, so no choice of seeds favours them. The queries are the same."""

_COST_NAMES = {
    "same_steps_as": "steps",
    "same_pairs_as": "pairs",
    "same_tokens_as": "text tokens",
    "same_time_as": "time",
}


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
    confirmed = report.get("confirmed")
    parts += ["## Verdict", *([_confirmations(confirmed, report["tests"])] if confirmed else [])]
    parts += [_verdict(report["tests"])]
    parts += _missing(report["missing"], report["arms"])
    if confirmed:
        seeds = ", ".join(map(str, confirmed["seeds"]))
        parts += [f"## Confirmed on held-out seeds ({seeds})", _CONFIRMED, _quality(confirmed["arms"])]
        parts += [_cost(confirmed["arms"]), *_equal_costs(confirmed["equal_costs"])]
        parts += [_tests_of(confirmed["tests"]), *_reach_part(confirmed["reach"], report)]
    parts += ["## Quality", _quality(report["arms"]), "## Cost", _cost(report["arms"])]
    parts += _equal_costs(report.get("equal_costs", {}))
    if report.get("learning_rates"):
        parts += ["## Learning rates", _SWEEP, _sweep(report["learning_rates"])]
    for baseline, tests in report["tests"].items():
        if tests:
            parts += [f"## Difference to `{baseline}`", _tests(tests)]
    if report["reach"]:
        parts += [f"## Training to the best quality of `{report['baselines'][0]}`"]
        parts += _reach_part(report["reach"], report)
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


def _confirmations(confirmed: Mapping[str, Any], chosen: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence for each comparison on held-out seeds, and whether it confirms that of the choosing seeds."""
    seeds = ", ".join(map(str, confirmed["seeds"]))
    lines = []
    for baseline, by_arm in confirmed["tests"].items():
        for arm, test in by_arm.items():
            same_sign = test["difference"] * chosen[baseline][arm]["difference"] > 0
            mark = "confirmed" if test["p_holm"] < LEVEL and same_sign else "not confirmed"
            lines.append(f"- **{mark}** on held-out seeds {seeds}: {verdict(arm, baseline, test)}")
    return "\n".join(lines)


def _equal_costs(costs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How close each arm came to the cost of another one; in bold if it is off by more than 5 %."""
    lines = []
    for arm, row in costs.items():
        line = f"`{arm}` took {row['ratio']:.2f} of the {_COST_NAMES[row['cost']]} of `{row['source']}`"
        lines.append(f"- **{line}, not as much.**" if abs(row["ratio"] - 1) > OFF else f"- {line}.")
    return ["\n".join(lines)] if lines else []


def _sweep(rates: Mapping[str, Mapping[str, Any]]) -> str:
    """The MRR of each factor, one row for each arm."""
    factors = sorted({factor for row in rates.values() for factor in row["mrr"]}, key=float)
    rows = []
    for arm, row in rates.items():
        best = f"{row['best']:g}"
        end = " (an end of the sweep)" if len(factors) > 1 and best in (factors[0], factors[-1]) else ""
        cells = (
            [
                f"**{_number(row['mrr'][factor])}**" if factor == best else _number(row["mrr"].get(factor))
                for factor in factors
            ]
            if row["mrr"]
            else ["-"] * len(factors)
        )
        rows.append(
            [arm, str(row["seeds"]), *cells, f"x{best}{end}" if row["mrr"] else "not complete; x1 is compared"]
        )
    return _table(["arm", "seeds", *(f"x{factor}" for factor in factors), "best"], rows)


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
    """Quality, one row for each arm."""
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
        ]
        for name, arm in arms.items()
    ]
    return _table(head, rows)


def _cost(arms: Mapping[str, Any]) -> str:
    """Means of what a run cost, one row for each arm."""
    forms = {"steps": ",.0f", "pairs_seen": ",.0f", "tokens_seen": ",.0f", "seconds": ",.1f", "cpu_seconds": ",.1f"}
    rows = [
        [name, *(_number(arm[key]["mean"] if arm.get(key) else None, form) for key, form in forms.items())]
        for name, arm in arms.items()
    ]
    return _table(["arm", "steps", "pairs seen", "tokens seen", "seconds", "CPU seconds"], rows)


def _tests_of(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """The differences to all baselines, each under its name."""
    return "\n\n".join(
        f"Difference to `{baseline}`:\n\n{_tests(by_arm)}" for baseline, by_arm in tests.items() if by_arm
    )


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


def _reach_part(reach: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    """The table of times to the quality of the first baseline, and what the quality is."""
    if not reach:
        return []
    baseline, margin = report["baselines"][0], report.get("reach_margin", 0.0)
    target = f"its best evaluation less {margin:g} MRR" if margin else "its best evaluation"
    clock = report.get("clock", "seconds")
    return [f"The target is that of `{baseline}` with the same seed: {target}.", _reach(reach, baseline, clock)]


def _reach(reach: Mapping[str, Mapping[int, dict[str, float] | None]], baseline: str, clock: str) -> str:
    """Time and steps to the quality of the baseline, one row for each arm."""
    names = ["seconds", "cpu_seconds", "steps"]
    rows = []
    for arm, by_seed in reach.items():
        points = {seed: point for seed, point in by_seed.items() if point is not None}
        means = [
            sum(point[name] for point in points.values()) / len(points)
            if points and all(name in point for point in points.values())
            else None
            for name in names
        ]
        reached = f"{len(points)} of {len(by_seed)} seeds" if points else "not reached"
        rows.append(
            [
                arm,
                *(_number(mean, ",.1f") for mean in means),
                *(_ratio(points, by_seed, reach.get(baseline, {}), name) for name in ("steps", clock)),
                reached if by_seed else "no common seed with evaluations",
            ]
        )
    over = [f"steps over `{baseline}`", f"time over `{baseline}` (95 %)"]
    return _table(["arm", "seconds", "CPU seconds", "steps", *over, "reached by"], rows)


def _ratio(
    points: Mapping[int, Mapping[str, float]],
    by_seed: Mapping[int, Any],
    baseline: Mapping[int, Mapping[str, float] | None],
    name: str,
) -> str:
    """What an arm took over what the baseline took with the same seed. The interval needs all seeds to reach it."""
    ratios = [
        point[name] / reference[name]
        for seed, point in points.items()
        if (reference := baseline.get(seed)) is not None and name in point and reference.get(name)
    ]
    if not ratios:
        return "-"
    spread: Any = summarise_seeds(ratios)
    has_interval = name != "steps" and len(ratios) == len(by_seed) and spread["sd"]
    return f"{spread['mean']:.2f}" + (f" ({_interval(spread['interval_95'], '.2f')})" if has_interval else "")


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
    """The missing runs (`"arm seed 0"`), and the arms of which no run is finished. The tables lack these arms."""
    arm_of = {run: run.rsplit(" seed ", 1)[0] for run in runs}
    missing = [run for run, arm in arm_of.items() if arm in finished]
    absent = dict.fromkeys(arm for arm in arm_of.values() if arm not in finished)
    parts = [f"**Missing runs:** {'; '.join(missing)}."] if missing else []
    return parts + ([f"**Arms without a finished run:** {', '.join(absent)}."] if absent else [])
