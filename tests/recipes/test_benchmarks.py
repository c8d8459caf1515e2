"""The helpers, the runner and the table of the benchmarks. No benchmark is run."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HELPERS = ("common", "run", "wrong_pairs_report", "amides", "namespaces", "gpu_common", "gpu_kernels", "gpu_training")
MACHINE = {"processor": "AMD EPYC", "cores": 8, "threads": 2, "matrix_units": False, "gpu": None}


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def common(monkeypatch):
    return load("common", monkeypatch)


@pytest.fixture
def runner(monkeypatch):
    return load("run", monkeypatch)


def scripts():
    return sorted(file.stem for file in BENCHMARKS.glob("*.py") if file.stem not in HELPERS)


def test_every_script_is_in_the_list(runner):
    assert set(scripts()) <= set(runner.SCRIPTS)
    assert len(set(runner.SCRIPTS)) == len(runner.SCRIPTS) and set(runner.NEED_DATA) <= set(runner.SCRIPTS)


@pytest.mark.parametrize("name", scripts())
def test_every_script_says_what_it_measures_and_how_it_is_run(name):
    tree = ast.parse((BENCHMARKS / f"{name}.py").read_text())
    assert f"python benchmarks/{name}.py" in (ast.get_docstring(tree) or "")
    assert "main" in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize(
    ("sign", "limit", "measured", "met"),
    [("<=", 1.3, 1.3, True), ("<=", 1.3, 1.31, False), (">=", 3, 3.0, True), (">=", 3, 2.9, False)],
)
def test_bar(common, sign, limit, measured, met):
    row = common.bar("12 evaluation: time", sign, limit, measured, queries=7)
    assert row == {
        "requirement": "12 evaluation: time",
        "bar": f"{sign} {limit}",
        "measured": measured,
        "met": met,
        "details": {"queries": 7},
    }


def test_a_number_that_is_not_one_meets_no_bar(common):
    assert not common.bar("1", "<=", 1, float("nan"))["met"] and not common.bar("1", ">=", 1, float("nan"))["met"]


def test_skipped_is_neither_met_nor_missed(common):
    row = common.skipped("10 precision", ">= 2", "no matrix units", 1.23456)
    assert row["met"] is None and row["measured"] == 1.235 and row["skipped"] == "no matrix units"
    assert common.skipped("10 precision", ">= 2", "no matrix units")["measured"] is None


def test_best_of_takes_turns(common):
    order = []
    best = common.best_of({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert order == [*"ababab"] and set(best) == {"a", "b"}
    assert all(timing.wall >= 0 and timing.cpu >= 0 for timing in best.values())


@pytest.mark.parametrize(("measured", "status"), [(1.0, 0), (2.0, 1)])
def test_finish_writes_machine_and_command(common, monkeypatch, tmp_path, capsys, measured, status):
    monkeypatch.setattr("sys.argv", ["/somewhere/evaluation.py", "--data_dir", "/home/me/data", "--size", "9"])
    output = tmp_path / "new" / "evaluation.json"
    rows = [common.bar("12 time", "<=", 1.3, measured), common.skipped("12 more", "<= 1", "no GPU")]
    with pytest.raises(SystemExit) as ended:
        common.finish(rows, output, pairs=9)
    assert ended.value.code == status
    written = json.loads(output.read_text())
    assert written["details"] == {"pairs": 9}
    for row in written["results"]:
        assert row["command"] == "python benchmarks/evaluation.py --data_dir DATA --size 9"
        assert {"processor", "cores", "torch"} <= set(row["machine"])
    assert ("MISSED" in capsys.readouterr().out) == bool(status)


def test_table(runner, common):
    rows = [
        common.bar("1 padding: padded over real tokens", "<=", 1.1, 1.0774),
        common.bar("2 prepared once: calls", "<=", 0, 3),
        common.skipped("10 precision: a|b", ">= 2", "no matrix units"),
        common.skipped("20 scoring", "-", "no bar"),
    ]
    lines = runner.table([{**row, "machine": MACHINE} for row in rows]).splitlines()
    assert lines[2:] == [
        "| 1 padding: padded over real tokens | <= 1.1 | 1.077 | met | 2 of 8 |",
        "| 2 prepared once: calls | <= 0 | 3 | **missed** | 2 of 8 |",
        "| 10 precision: a\\|b | >= 2 |  | skipped: no matrix units | 2 of 8 |",
        "| 20 scoring | - |  | no bar | 2 of 8 |",
    ]
    assert lines[0].endswith("| cores, AMD EPYC |")
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)


def test_describe(runner):
    assert runner.describe({**MACHINE, "matrix_units": True}) == "2 of 8 cores, AMD EPYC with matrix units"
    assert runner.describe({**MACHINE, "gpu": "NVIDIA H200"}) == "NVIDIA H200; 2 of 8 cores, AMD EPYC"


def test_the_table_goes_between_the_markers(runner):
    text = "# A\n<!-- results -->\nold\n<!-- /results -->\nB\n"
    once = runner.with_table(text, "new")
    assert once == "# A\n<!-- results -->\nnew\n<!-- /results -->\nB\n"
    assert runner.with_table(once, "new") == once
    for lacking in ("nothing", "<!-- results -->", "<!-- /results --> <!-- results -->"):
        with pytest.raises(ValueError, match="there is no <!-- results -->"):
            runner.with_table(lacking, "new")


SCRIPT = """
import json, sys
from pathlib import Path
assert sys.argv[1:] in ([], ["--data_dir", "D"]), sys.argv
row = {{"requirement": "{name}", "bar": "<= 1", "measured": 2.0, "met": {met}, "machine": {machine}}}
Path(__file__).with_name("results").joinpath("{name}.json").write_text(json.dumps({{"results": [row]}}))
sys.exit({status})
"""


@pytest.fixture
def folder(tmp_path):
    """Four scripts: one fails, one misses its bar, one meets it, one needs data."""
    (tmp_path / "results").mkdir()
    (tmp_path / "measurements.md").write_text("# Results\n<!-- results -->\n<!-- /results -->\n")
    (tmp_path / "padding.py").write_text("raise RuntimeError('broken')")
    for name, status in (("processes", 1), ("evaluation", 0), ("fast_cpu", 0)):
        met = status == 0
        text = SCRIPT.format(name=name, met=met, status=status, machine=MACHINE)
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def run(runner, folder, *words):
    return runner.main([*words], folder=folder, results=folder / "results")


def test_run_continues_after_failures_and_writes_the_table(runner, folder, capfd):
    (folder / "results" / "scaling.json").write_text(json.dumps({"bars": []}))  # of another form
    assert run(runner, folder) == 1
    summary = [line.split()[:2] for line in capfd.readouterr().out.splitlines() if line.endswith(" s")]
    assert summary == [["padding", "FAILED"], ["processes", "MISSED"], ["evaluation", "met"], ["fast_cpu", "not"]]
    rows = (folder / "measurements.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows[4:-1]] == ["| processes", "| evaluation"]


def test_run_passes_the_data_on_and_keeps_what_was_measured_before(runner, folder):
    assert run(runner, folder, "--only", "evaluation") == 0
    assert run(runner, folder, "--only", "fast_cpu", "--data_dir", "D") == 0
    rows = (folder / "measurements.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows[4:-1]] == ["| evaluation", "| fast_cpu"]


def test_run_knows_its_scripts(runner, folder, capsys):
    with pytest.raises(SystemExit):
        run(runner, folder, "--only", "nothing")
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
