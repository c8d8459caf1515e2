"""A study's numbers as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from class_hf.studies.statistics import PRIMARY

_METHOD = """\
- MRR, Hits@1 and Hits@10: text to molecule in the full pool, all validation queries, after training; mean over seeds.
- sd: standard deviation of one run over the seeds. Interval over seeds: Student's t for the mean. Interval over
  queries: bootstrap over the queries of the seed-averaged reciprocal ranks.
- Seconds: wall time of the training without the evaluations in it; preparing and scoring data is not counted.
- Tests: difference of the reciprocal ranks of the same query and seed. Interval and p: seeds and queries resampled at
  once (pigeonhole bootstrap, two-sided). p (Holm): adjusted for all arms tested against that baseline. p (seeds):
  paired t-test over the seeds alone; with few seeds it is weak, and the bootstrap's interval too narrow; with one
  seed the interval knows the queries only. No bootstrap p is below 0.0002.
- Quality during training (curves, time to reach) is that of the evaluations during training, on the sample of queries
  and candidates that the study sets. An arm is held to the best evaluation of the baseline with the same seed, which,
  as the best of many noisy ones, is a little too good."""


def study_markdown(report: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """The report of a study.

    Args:
        report: what [`class_hf.studies.statistics.summarise`] gave, with `name`, `data`, `training_pairs`,
            `candidates`, `command`, `environments`, `baselines`, `reference` and `missing` of the script.
        pictures: files to show, relative to the report.
    """
    parts = [f"# Study {report['name']}", _origin(report)]
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
            title = f"## Gain over `{baseline}` by difficulty quartile"
            parts += [
                title,
                f"Quarters of the queries by {report['reference']}, the same for all arms.",
                _quarters(arms),
            ]
    parts += ["## Other pools and directions", _pools(report["arms"])]
    parts += [f"![{name}]({name})" for name in pictures]
    parts += ["## How the numbers are made", _METHOD]
    return "\n\n".join(parts) + "\n"


def _origin(report: dict[str, Any]) -> str:
    lines = [
        f"- Data: {report['data']}; {report['training_pairs']:,} training pairs.",
        f"- Pool: {PRIMARY.replace('.', ', ').replace('_', ' ')}, {report['queries']:,} validation queries, "
        f"{report['candidates']:,} candidates.",
    ]
    for one in report["environments"]:
        device = f", {one['gpu']}" if one["gpu"] else ""
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        lines.append(
            f"- Machine: {one['processor']}{device}, {one['cores']} cores, {one['processes']} process(es) of "
            f"{one['threads']} thread(s); {versions}. {one['runs']} run(s)."
        )
    return "\n".join([*lines, f"- Command: `{report['command']}`"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _interval(bounds: Sequence[float] | None, form: str = ".4f") -> str:
    return "-" if bounds is None else " to ".join(format(bound, form) for bound in bounds)


def _quality(arms: dict[str, Any]) -> str:
    head = ["arm", "seeds", "MRR", "sd", "95 % over seeds", "95 % over queries", "Hits@1", "Hits@10"]
    rows = [
        [
            arm,
            str(len(one["seeds"])),
            _number(one["mrr"]["mean"]),
            _number(one["mrr"]["sd"]),
            _interval(one["mrr"]["interval_95"]),
            _interval(one["mrr"]["interval_95_queries"]),
            *(_number(one[f"hits@{k}"]["mean"]) for k in (1, 10)),
            _number(one["steps"]["mean"], ",.0f"),
            _number(one["seconds"]["mean"], ",.1f"),
            _number(one["pairs_seen"]["mean"], ",.0f"),
        ]
        for arm, one in arms.items()
    ]
    return _table([*head, "steps", "seconds", "pairs seen"], rows)


def _tests(tests: dict[str, Any]) -> str:
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


def _reach(reach: dict[str, dict[int, dict[str, float] | None]], baseline: str) -> str:
    own = reach.get(baseline, {})
    rows = []
    for arm, seeds in reach.items():
        found = {seed: at for seed, at in seeds.items() if at is not None}
        cells = ["-", "-", "-", "not reached" if seeds else "no common seed with evaluations"]
        if found:
            cells = [
                _number(sum(at[name] for at in found.values()) / len(found), ",.1f") for name in ("seconds", "steps")
            ]
            # Against the baseline with the same seeds, or an arm that fails with the slow ones would look fast.
            both = [(at["steps"], base["steps"]) for seed, at in found.items() if (base := own.get(seed)) is not None]
            share = sum(at for at, _ in both) / sum(base for _, base in both) if both else None
            cells += [_number(share, ".2f"), f"{len(found)} of {len(seeds)} seeds"]
        rows.append([arm, *cells])
    return _table(["arm", "seconds", "steps", f"steps over `{baseline}`", "reached by"], rows)


def _quarters(arms: dict[str, Any]) -> str:
    rows = [
        [arm, *(f"{_number(part['difference'], '+.4f')} ({_interval(part['interval_95'], '+.4f')})" for part in parts)]
        for arm, parts in arms.items()
    ]
    count = max(len(row) for row in rows) - 1
    names = ["easiest", "second", "third", "hardest"] if count == 4 else [f"part {part + 1}" for part in range(count)]
    return _table(["arm", *names], rows)


def _pools(arms: dict[str, Any]) -> str:
    keys = list(next(iter(arms.values()))["mrr_by_pool"])
    rows = []
    for arm, one in arms.items():
        cells = [one["mrr_by_pool"][key] for key in keys]
        rows.append([arm, *(f"{cell['mean']:.4f}" + (f" ± {cell['sd']:.4f}" if cell["sd"] else "") for cell in cells)])
    heads = [f"MRR, {key.split('.')[1].replace('_', ' ')}, {key.split('.')[0]}" for key in keys]
    return _table(["arm", *heads], rows)


def _missing(runs: Sequence[str], finished: Mapping[str, Any]) -> list[str]:
    """What the study still lacks: single runs (`"arm seed 0"`), and arms of which nothing is there."""
    pairs = [run.rsplit(" seed ", 1) for run in runs]
    untouched = list(dict.fromkeys(arm for arm, _ in pairs if arm not in finished))
    single = [run for run, (arm, _) in zip(runs, pairs, strict=True) if arm in finished]
    lines = [f"**Missing runs:** {'; '.join(single)}."] if single else []
    return lines + ([f"**Arms not run:** {', '.join(untouched)}."] if untouched else [])
