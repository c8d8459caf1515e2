"""A study is checked before it starts, continues where it stopped, and reports the finished runs."""

import json
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import rows_of_pairs
from datasets import Dataset, DatasetDict
from run_forked import Forked, run_script
from train_parts import ROOT, load_recipe_script

from class_hf.studies import runner
from class_hf.studies.definition import read_study
from class_hf.training.checkpoints import write_manifest

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

ABLATE = load_recipe_script("ablate")
STUDIES = sorted((ROOT / "recipes" / "studies").glob("*.yaml"))
QUERIES = 8

# Replaces the launcher of recipes/train.py. It writes the files that a report reads, in a tenth of a second.
STUB = """
import json, pathlib, sys
import numpy as np
train, recipe, _, output, *rest = sys.argv[1:]
values, folder, here = pathlib.Path(recipe).read_text(), pathlib.Path(output), pathlib.Path(__file__).parent
name = f"{folder.parent.name}/{folder.name}"
with (here / "calls").open("a") as calls:
    calls.write(" ".join([name, *rest]) + "\\n")
if name in (here / "fail").read_text().split():
    (folder / "half").mkdir(parents=True)
    sys.exit("error: out of luck")
settings = dict(line.split(": ", 1) for line in values.splitlines() if ": " in line)
steps = int(settings.get("max_steps", 8 if settings["curriculum_order"] == "none" else 6))
ranks = 1.0 + np.arange(8) * (1 + (settings["curriculum_order"] == "none"))
ranks *= 1 + abs(float(settings["learning_rate"]) - 2e-3)  # the best rate is twice that of the recipe
dropping = "sentence_dropout" in settings  # halves the tokens of a step, and takes .75 of its time
batch = int(settings.get("per_device_train_batch_size", 16))
(folder / "checkpoint-1").mkdir(parents=True, exist_ok=True)
(folder / "model.safetensors").write_text("heavy")
np.savez(folder / "ranks.npz", **{"id": np.array([f"v{i}" for i in range(8)]), "full.text_to_molecule": ranks})
logs = [{"eval_mrr": 0.1 * step, "eval_runtime": 1.0, "wall_seconds": 2.0 * step, "step": step} for step in (2, steps)]
machine = {"processor": "a CPU", "cores": 2, "threads": 2, "gpu": None, "versions": {"torch": "2"}}
for file, content in {
    "plan": {"total_steps": steps, "num_pairs": 64},
    "metrics": {"pools": {"full": {"text_to_molecule": {"mrr": float((1 / ranks).mean()), "candidates": 900}}}},
    "log_history": logs,
    "train_summary": {"wall_seconds": 2.0 * steps, "evaluation_seconds": 2.0, "steps": steps, "processes": 1,
                      "cpu_seconds": (3.0 if dropping else 4.0) * steps + 1.0, "evaluation_cpu_seconds": 1.0,
                      "tokens_seen": (10 if dropping else 20) * batch * steps, "pairs_seen": batch * steps,
                      "environment": machine},
}.items():
    (folder / f"{file}.json").write_text(json.dumps(content))
"""
ARMS = {
    "none": {"curriculum_order": "none"},
    "random": {"curriculum_order": "random"},
    "easy": {"difficulty_definition": ["complexity"], "difficulty_combination": "text"},
    "equal": {"curriculum_order": "none", "same_steps_as": "random"},
}


class Place:
    """A study in a temporary folder, with a stub for the training."""

    def __init__(self, folder: Path):
        self.folder, self.output = folder, folder / "out"
        (folder / "stub.py").write_text(STUB)
        (folder / "recipe.yaml").write_text("learning_rate: 1e-3\ncurriculum_order: easy_first\n")
        self.write()
        self.fail()

    def write(self, **changes) -> Path:
        values = {"recipe": "recipe.yaml", "seeds": [0, 1], "common": {"num_train_epochs": 2}, "arms": ARMS, **changes}
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    def fail(self, *names: str) -> None:
        (self.folder / "fail").write_text(" ".join(names))

    def run(self, *arguments: str) -> None:
        launch = f"{sys.executable} {self.folder / 'stub.py'}"
        words = ["--data_dir", str(self.folder), "--output_dir", str(self.output), "--launch", launch]
        ABLATE.main([str(self.folder / "small.yaml"), *words, *arguments])

    def calls(self) -> list[str]:
        """The runs that were trained since the last call."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    def score(folder: Path, options: list[str]) -> None:
        if (folder / "summary.json").exists():
            return
        rows = {"id": [f"v{i}" for i in range(QUERIES)], "difficulty": np.linspace(0, 1, QUERIES)}
        DatasetDict({"validation": Dataset.from_dict(rows)}).save_to_disk(folder / "dataset")
        (folder / "summary.json").write_text(json.dumps(options))

    monkeypatch.setattr(runner, "score", score)
    return Place(tmp_path)


@pytest.fixture
def quick(place, monkeypatch) -> Place:
    """Runs the stub in this process."""

    def execute(command: list[str], log: Path, append: bool = False) -> None:
        monkeypatch.setattr(sys, "argv", command[1:])
        runpy.run_path(command[1])

    monkeypatch.setattr(runner, "execute", execute)
    return place


@pytest.mark.pictures
def test_runs_every_arm_and_reports(place, capsys):
    place.run()
    runs = [f"{arm}/seed_{seed}" for seed in (0, 1) for arm in ARMS]
    assert place.calls() == runs
    printed = capsys.readouterr().out
    assert "[8/8] equal seed 1: MRR" in printed and "8 of 8 runs compared" in printed
    names = {path.name for path in place.output.iterdir() if path.is_file()}
    assert names == {"study.json", "report.md", "report.json", "curves.png", "quartiles.png"}
    report = json.loads((place.output / "report.json").read_text())
    assert list(report["arms"]) == list(ARMS) and report["missing"] == []
    assert report["baselines"] == ["none", "random"] and report["tests"]["none"]["easy"]["difference"] > 0
    assert [report["arms"][arm]["steps"]["mean"] for arm in ARMS] == [8, 6, 6, 6]
    assert [report["arms"][arm]["cpu_seconds"]["mean"] for arm in ARMS] == [32, 24, 24, 24]
    assert report["equal_costs"] == {"equal": {"cost": "same_steps_as", "source": "random", "ratio": 1.0}}
    assert report["arms"]["none"]["seconds"]["mean"] == 14.0 and report["queries"] == QUERIES
    assert report["environments"][0]["runs"] == 8 and report["candidates"] == 900
    assert report["command"].startswith("class-hf ablate") and "--data_dir DATA" in report["command"]
    # Weights and checkpoints are deleted, the settings of a run are kept.
    assert not list(place.output.rglob("*.safetensors")) and not list(place.output.rglob("checkpoint-*"))
    settings = yaml.safe_load((place.output / "equal" / "seed_1.yaml").read_text())
    assert settings["max_steps"] == 6 and settings["seed"] == 1 and settings["learning_rate"] == "1e-3"
    assert "same_steps_as" not in settings and settings["num_train_epochs"] == 2


def test_difficulty_is_scored_once_for_all_runs_that_need_it(place):
    place.run()
    folder = place.output / "difficulty"
    assert sorted(path.name for path in folder.iterdir()) == ["alignment-mean-seed_0", "complexity-text"]
    options = json.loads((folder / "complexity-text" / "summary.json").read_text())
    assert options[2:] == ["--definition", "complexity", "--combination", "text"]
    for arm, name in (("none", "alignment-mean-seed_0"), ("easy", "complexity-text")):
        settings = yaml.safe_load((place.output / arm / "seed_1.yaml").read_text())
        assert settings["data_dir"] == str(folder / name)


def test_alignment_is_scored_by_seed(place):
    (place.output / "difficulty").mkdir(parents=True)
    values = {"seed": 3, "difficulty_definition": ["alignment", "complexity"], "difficulty_text_weight": 0.25}
    assert runner.score_for_run(values, place.output).name == "alignment+complexity-mean-text_0.25-seed_3"


def test_finished_runs_are_skipped(place):
    place.run("--arms", "none", "random", "--seeds", "1", "--keep_models")
    assert place.calls() == ["none/seed_1", "random/seed_1"]
    assert len(list(place.output.rglob("*.safetensors"))) == 2
    assert len(json.loads((place.output / "report.json").read_text())["missing"]) == 6
    place.run("--arms", "random")
    assert place.calls() == ["random/seed_0"]
    place.run()
    assert place.calls() == ["none/seed_0", "easy/seed_0", "equal/seed_0", "easy/seed_1", "equal/seed_1"]
    place.run()
    assert place.calls() == []


def test_report_only(place):
    with pytest.raises(ValueError, match="holds no study"):
        place.run("--report_only")
    place.run("--arms", "none", "random", "--seeds", "0")
    before = (place.output / "report.json").read_text()
    for name in ("report.md", "report.json", "curves.png"):
        (place.output / name).unlink()
    place.calls()
    ABLATE.main([str(place.folder / "small.yaml"), "--output_dir", str(place.output), "--report_only"])
    assert place.calls() == [] and (place.output / "report.md").is_file()
    assert json.loads((place.output / "report.json").read_text()) == json.loads(before)


def test_a_failed_run_is_reported_and_the_others_still_run(place, capsys):
    place.fail("random/seed_0")
    with pytest.raises(SystemExit) as ended:
        place.run()
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "random seed 0: FAILED: status 1; the last line of" in printed and "error: out of luck" in printed
    # `equal` takes its steps from the plan of the failed run, which was not written.
    assert "equal seed 0: FAILED: it takes the steps of arm 'random'" in printed
    report = json.loads((place.output / "report.json").read_text())
    assert report["missing"] == ["random seed 0", "equal seed 0"]
    assert report["tests"]["random"]["none"]["seeds"] == 1 and "out of luck" in printed
    place.calls(), place.fail()
    place.run()
    assert place.calls() == ["random/seed_0", "equal/seed_0"]
    assert not (place.output / "random" / "seed_0" / "half").exists()


def interrupt(folder: Path) -> None:
    """Makes a finished run look like one that was killed after its first checkpoint."""
    checkpoint = folder / "checkpoint-4"
    checkpoint.mkdir()
    (folder / "train_summary.json").unlink()
    (checkpoint / "trainer_state.json").write_text("{}")
    (checkpoint / "curriculum_state.json").write_text('{"processes": 1}')
    with zipfile.ZipFile(checkpoint / "rng_state.pth", "w"):
        pass
    write_manifest(checkpoint)


def test_an_unfinished_run_is_resumed_or_started_again(place):
    place.run("--arms", "none", "--seeds", "0")
    folder = place.output / "none" / "seed_0"
    interrupt(folder), place.calls()
    place.run("--arms", "none", "--seeds", "0")
    assert place.calls() == ["none/seed_0 --resume_from_checkpoint true"]
    # Without a complete checkpoint, and with other settings, it starts again.
    interrupt(folder)
    (folder / "checkpoint-4" / "trainer_state.json").write_text("{")
    place.run("--arms", "none", "--seeds", "0")
    assert place.calls() == ["none/seed_0"]
    interrupt(folder)
    place.write(common={"num_train_epochs": 3})
    place.run("--arms", "none", "--seeds", "0")
    assert place.calls() == ["none/seed_0"] and not (folder / "checkpoint-4").exists()


def test_changed_settings_of_a_finished_run(place):
    place.run("--arms", "none", "--seeds", "0")
    place.calls()
    place.write(common={"num_train_epochs": 3})
    message = r"seed_0 was finished with other settings \(num_train_epochs 2 -> 3\). Give the arm another name"
    with pytest.raises(ValueError, match=message):
        place.run()
    with pytest.raises(ValueError, match=message):
        place.run("--report_only")
    place.write()
    (place.folder / "recipe.yaml").write_text("learning_rate: 2e-3\nwarmup_steps: 5\n")
    with pytest.raises(ValueError, match=r"learning_rate '1e-3' -> '2e-3', warmup_steps None -> 5\)"):
        place.run()
    assert place.calls() == []


def test_data_and_launcher_are_those_of_the_study(place):
    place.run("--arms", "none", "--seeds", "0")
    with pytest.raises(ValueError, match="have launch .* Pass the same value, or choose another --output_dir"):
        place.run("--launch", "accelerate launch")
    with pytest.raises(ValueError, match="have data .*--data_dir"):
        place.run("--data_dir", "another/data_set")


def test_a_folder_of_another_kind_is_not_removed(place, capsys):
    folder = place.output / "none" / "seed_0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit):
        place.run("--arms", "none")
    assert "is not a run of this study" in capsys.readouterr().out and (folder / "thesis.tex").exists()


COSTS = {
    "none": {"curriculum_order": "none"},
    "time": {"curriculum_order": "none", "sentence_dropout": 0.5, "same_time_as": "none"},
    "tokens": {"curriculum_order": "none", "sentence_dropout": 0.5, "same_tokens_as": "none"},
    "pairs": {"curriculum_order": "none", "per_device_train_batch_size": 4, "same_pairs_as": "none"},
    "same": {"curriculum_order": "none", "same_time_as": "none"},
}


def test_arms_of_equal_cost(quick, capsys):
    """8 steps of `none` take the time of 8 / .75 steps with dropped sentences, and their tokens those of 16."""
    quick.write(arms=COSTS, baselines=["none"], common={"per_device_train_batch_size": 16})
    quick.run()
    first, second = ([f"{arm}/seed_{seed}" for arm in COSTS] for seed in (0, 1))
    # Only the first runs whose step has another cost are trained twice. The batch size tells the pairs beforehand.
    assert quick.calls() == [first[0], *first[1:2] * 2, *first[2:3] * 2, *first[3:], *second]
    assert "time seed 0: MRR 0.2525, 8 steps, 14 s (CPU 24 s); trained again with the" in capsys.readouterr().out
    report = json.loads((quick.output / "report.json").read_text())
    assert [report["arms"][arm]["steps"]["mean"] for arm in COSTS] == [8, 11, 16, 32, 8]
    ratios = {arm: round(row["ratio"], 3) for arm, row in report["equal_costs"].items()}
    assert ratios == {"time": 1.031, "tokens": 1.0, "pairs": 1.0, "same": 1.0}
    text = (quick.output / "report.md").read_text()
    assert (
        "- `time` took 1.03 of the time of `none`." in text and "- `pairs` took 1.00 of the pairs of `none`." in text
    )
    quick.run()
    assert quick.calls() == []


def test_steps_of_different_cost_are_corrected_twice(quick):
    """The first two steps with dropped sentences read no tokens: 8, 21 and 18 steps."""
    stub = quick.folder / "stub.py"
    stub.write_text(stub.read_text().replace('batch * steps, "pairs', 'batch * (steps - 2 * dropping), "pairs'))
    quick.write(arms={"none": COSTS["none"], "tokens": COSTS["tokens"]}, baselines=["none"], seeds=[0])
    quick.run()
    assert quick.calls() == ["none/seed_0", *["tokens/seed_0"] * 3]
    report = json.loads((quick.output / "report.json").read_text())
    assert report["arms"]["tokens"]["steps"]["mean"] == 18 and report["equal_costs"]["tokens"]["ratio"] == 1.0
    assert json.loads((quick.output / "tokens" / "steps_over_source.json").read_text())["corrections"] == 2


def test_a_cost_that_is_not_equal_is_in_bold(quick):
    quick.write(arms=COSTS, baselines=["none"], common={"per_device_train_batch_size": 16})
    quick.run("--seeds", "0")
    for file in quick.output.glob("tokens/seed_0/train_summary.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "tokens_seen": 1280}))
    quick.run("--report_only")
    assert (
        "- **`tokens` took 0.50 of the text tokens of `none`, not as much.**"
        in (quick.output / "report.md").read_text()
    )


def test_an_interruption_between_the_measurement_and_the_second_training(quick):
    quick.write(arms=COSTS, baselines=["none"])
    quick.run("--seeds", "0", "--arms", "none")
    quick.run("--seeds", "0", "--arms", "time")
    (quick.output / "time" / "steps_over_source.json").unlink()
    (quick.output / "time" / "seed_0" / "train_summary.json").unlink()
    quick.calls()
    quick.run("--seeds", "0", "--arms", "time")
    assert quick.calls() == ["time/seed_0", "time/seed_0"]
    assert json.loads((quick.output / "time" / "seed_0" / "train_summary.json").read_text())["steps"] == 11


def test_tokens_that_were_not_counted(quick, capsys):
    stub = quick.folder / "stub.py"
    stub.write_text(stub.read_text().replace("(10 if dropping else 20)", "0"))
    quick.write(arms=COSTS, baselines=["none"])
    with pytest.raises(SystemExit):
        quick.run("--arms", "none", "tokens", "--seeds", "0")
    message = "tokens seed 0: FAILED: same_tokens_as cannot be used: the training counted no tokens seen"
    assert message in capsys.readouterr().out
    assert not (quick.output / "tokens" / "seed_0" / "train_summary.json").exists()


def test_learning_rates_are_chosen_for_each_arm(quick):
    arms = {"none": ARMS["none"], "random": ARMS["random"], "equal": ARMS["equal"]}
    quick.write(arms=arms, learning_rates=[1, 0.5, 2], seeds=[0])
    quick.run()
    assert len(quick.calls()) == 9
    settings = yaml.safe_load((quick.output / "random" / "learning_rate_x2" / "seed_0.yaml").read_text())
    assert settings["learning_rate"] == 0.002
    report = json.loads((quick.output / "report.json").read_text())
    assert [row["best"] for row in report["learning_rates"].values()] == [2.0, 2.0, 2.0]
    rates = report["learning_rates"]["none"]["mrr"]
    assert report["arms"]["none"]["mrr"]["mean"] == rates["2"] > rates["1"] > rates["0.5"]
    row = next(
        line for line in (quick.output / "report.md").read_text().splitlines() if "(an end of the sweep)" in line
    )
    assert row.startswith("| none | 1 | ") and row.endswith(f"| **{rates['2']:.4f}** | x2 (an end of the sweep) |")


def test_the_best_candidate_is_confirmed_on_held_out_seeds(quick, capsys):
    arms = {**ARMS, "easy": {**ARMS["easy"], "same_time_as": "random"}}
    changes = {"arms": arms, "seeds": None, "choose_seeds": [0], "confirm_seeds": [3, 4], "learning_rates": [1, 2]}
    path = quick.write(**changes)
    values = {key: value for key, value in yaml.safe_load(path.read_text()).items() if value is not None}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    quick.run("--dry_run")
    printed = capsys.readouterr().out
    assert "small: 8 runs, 0 finished" in printed and not quick.output.exists()
    assert "then none, random and the best of easy, equal: seeds 3, 4" in printed
    quick.run("--arms", "none", "random")
    assert "nothing is chosen to confirm: easy seed 0 and 3 more is not finished" in capsys.readouterr().out
    quick.calls()
    quick.run()
    confirming = [f"{arm}/learning_rate_x2/seed_{seed}" for seed in (3, 4) for arm in ("none", "random", "easy")]
    names = [path.parent.relative_to(quick.output).as_posix() for path in quick.output.rglob("train_summary.json")]
    assert set(confirming) <= set(names) and len(names) == 8 + 6 and len(quick.calls()) == 4 + 6
    report = json.loads((quick.output / "report.json").read_text())
    assert list(report["arms"]) == list(arms) and report["arms"]["easy"]["seeds"] == [0]
    confirmed = report["confirmed"]
    assert confirmed["seeds"] == [3, 4] and list(confirmed["arms"]) == ["none", "random", "easy"]
    assert confirmed["tests"]["none"]["easy"]["difference"] > 0 and confirmed["equal_costs"]["easy"]["ratio"] == 1.0
    text = (quick.output / "report.md").read_text()
    assert "- **confirmed** on held-out seeds 3, 4: `easy` is better than `none`: MRR +" in text
    assert "- **not confirmed** on held-out seeds 3, 4: `easy` is not distinguishable from `random`: MRR" in text
    assert text.index("## Confirmed on held-out seeds (3, 4)") < text.index("## Quality")
    quick.run(), quick.run("--report_only")
    assert quick.calls() == []


BAD = {
    "unknown key": ({"arm": {}}, r"unknown key 'arm'; did you mean 'arms'\?"),
    "no recipe": ({"recipe": None}, "recipe is None; expected the path"),
    "missing recipe": ({"recipe": "nowhere.yaml"}, "nowhere.yaml' does not exist"),
    "no arms": ({"arms": {}}, "arms is {}; expected a mapping"),
    "arm is no mapping": ({"arms": {"none": "none"}}, "arm 'none' is 'none'; expected a mapping"),
    "seeds": ({"seeds": [0, 0]}, r"seeds is \[0, 0\]; expected a list of different integers"),
    "seed is text": ({"seeds": "all"}, "seeds is 'all'"),
    "baseline": ({"baselines": ["nothing"]}, "unknown arm 'nothing'"),
    "baselines": ({"baselines": "none"}, "baselines is 'none'; expected a list"),
    "argument": ({"arms": {"a": {"curiculum_order": "none"}}},
                 r"arm 'a': unknown argument 'curiculum_order'; did you mean 'curriculum_order'\?$"),
    "common argument": ({"common": {"learning_rat": 1}}, "unknown argument 'learning_rat'"),
    "choice": ({"arms": {"a": {"curriculum_order": "sideways"}}}, "arm 'a': .*invalid choice: 'sideways'"),
    "set by the study": ({"arms": {"a": {"seed": 3}}}, "arm 'a' sets seed, which the study sets"),
    "data of an arm": ({"arms": {"a": {"demo": True}}}, "arm 'a' sets demo"),
    "name": ({"arms": {"a/b": {}}}, "'a/b' cannot be the name of an arm"),
    "seeds twice": ({"choose_seeds": [0]}, "seeds and choose_seeds are the same"),
    "seeds that choose and confirm": ({"confirm_seeds": [1, 2]}, r"seeds \[1\] are in seeds and in confirm_seeds"),
    "nothing to confirm": ({"confirm_seeds": [3], "baselines": list(ARMS)}, "need a baseline and a candidate"),
    "candidate": ({"candidates": ["eazy"]}, r"candidates: unknown arm 'eazy'; did you mean 'easy'\?"),
    "rates": ({"learning_rates": [0.5, 2]}, r"learning_rates is \[0.5, 2\]; expected .* with 1 among them"),
    "margin": ({"reach_margin": -1}, r"reach_margin is -1; expected an MRR in \[0, 1\)"),
    "costs in common": ({"common": {"same_time_as": "none"}}, "common sets same_time_as, which is a setting of an"),
    "two costs": ({"arms": {"a": {}, "b": {"same_time_as": "a", "same_pairs_as": "a"}}},
                  "arm 'b' sets same_pairs_as and same_time_as; both set its steps"),
    "cost and steps": ({"arms": {"a": {}, "b": {"same_time_as": "a", "max_steps": 5}}},
                       "arm 'b' sets same_time_as and max_steps"),
    "time": ({"arms": {"a": {"same_time_as": "b"}, "b": {}}}, r"same_time_as 'b'; expected an arm above it"),
    "steps": ({"arms": {"a": {"same_steps_as": "b"}, "b": {}}}, r"same_steps_as 'b'; expected an arm above it"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_wrong_studies(case, place):
    changes, message = BAD[case]
    place.write(**changes)
    with pytest.raises(ValueError, match=message):
        place.run()
    assert not place.output.exists()


def test_wrong_command_lines(place, monkeypatch):
    with pytest.raises(ValueError, match=r"--arms: unknown arm 'eazy'; did you mean 'easy'\?"):
        place.run("--arms", "eazy")
    with pytest.raises(ValueError, match="does not exist"):
        ABLATE.main(["nowhere.yaml", "--output_dir", str(place.output)])
    with pytest.raises(ValueError, match="the recipe names no data; pass --data_dir"):
        ABLATE.main([str(place.folder / "small.yaml"), "--output_dir", str(place.output)])
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="pass the launcher as --launch"):
        place.run()


def test_a_missing_launcher(place, capsys):
    with pytest.raises(ValueError, match="no run in .* is finished"):
        place.run("--launch", "/no/such/program", "--arms", "none", "--seeds", "0")
    assert "'/no/such/program' cannot be started" in capsys.readouterr().out


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_parses(path):
    study = read_study(path)
    orders = {name: arguments.get("curriculum_order") for name, arguments in study.arms.items()}
    # A curriculum is compared with the same growth in random order, and with full epochs where the study has them.
    assert "easy_first" in orders.values() and "random" in [orders[name] for name in study.baselines]
    assert study.baselines[0] == "none" or "none" not in orders


@pytest.mark.slow
def run_in_fork(command: list[str], log: Path, append: bool = False) -> None:
    """Runs `python SCRIPT ARGUMENTS` without the time of its imports."""
    python, script, *arguments = command
    assert python == sys.executable
    done = Forked(run_script, script, *arguments).end()
    log.write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr


def test_a_small_study_with_the_real_recipes(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "execute", run_in_fork)
    rows = rows_of_pairs(24)
    lines = ["CID\tSMILES\tsplit\thas_description"]
    for split, indices in {"train": range(18), "validation": range(18, 24)}.items():
        pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
        (tmp_path / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
        lines += [f"{1000 + i}\t{rows['smiles'][i]}\t{split}\t1" for i in indices]
    (tmp_path / "molecules.tsv").write_text("\n".join(lines) + "\n")
    sizes = {"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}
    recipe = {"text_config": sizes, "molecule_config": sizes, "per_device_train_batch_size": 4, "use_cpu": True,
              "eval_strategy": "epoch", "num_train_epochs": 3, "save_strategy": "no"}  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    study = {"recipe": "recipe.yaml", "seeds": [0], "arms": {"random": {"curriculum_order": "random"}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    words = ["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    ABLATE.main([str(tmp_path / "study.yaml"), *words])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["queries"] == 6 and report["candidates"] == 24 and report["training_pairs"] == 18
    assert len(report["curves"]["random"]["mrr"]) == 3 and report["environments"][0]["versions"]["torch"]
    metrics = json.loads((tmp_path / "out" / "random" / "seed_0" / "metrics.json").read_text())
    mrr = metrics["pools"]["full"]["text_to_molecule"]["mrr"]
    assert report["arms"]["random"]["mrr"]["mean"] == pytest.approx(mrr)
