"""A study is checked before it starts, continues where it stopped, and reports the finished runs."""

# ruff: noqa: F811 (fixtures)
import json
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import rows_of_pairs
from run_forked import Forked, run_script
from study_parts import ABLATE, ARMS, QUERIES, place, quick  # noqa: F401
from train_parts import ROOT

from class_hf.studies import runner
from class_hf.studies.definition import Planned, read_study
from class_hf.training.checkpoints import write_manifest

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

STUDIES = sorted((ROOT / "recipes" / "studies").glob("*.yaml"))


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


@pytest.mark.parametrize("name", ("demo", "demo.yaml", "near", "near.yaml"))
def test_a_recipe_is_near_the_study_or_shipped(name, tmp_path):
    (tmp_path / "near.yaml").write_text("demo: true\nlearning_rate: 1e-3\n")
    (tmp_path / "study.yaml").write_text(f"recipe: {name}\narms: {{none: {{curriculum_order: none}}}}\n")
    assert read_study(tmp_path / "study.yaml").recipe["learning_rate"] == "1e-3"


@pytest.fixture
def source(tmp_path):
    """A file with 24 pairs, and a study of three arms that reads it."""
    columns = rows_of_pairs(24)
    splits = ["validation" if number >= 20 else "train" for number in range(24)]
    rows = zip(columns["id"], columns["smiles"], columns["description"], splits, strict=True)
    lines = ["\t".join(row) for row in [("id", "smiles", "description", "split"), *rows]]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text("per_device_train_batch_size: 4\ncurriculum_order: random\n")
    return tmp_path / "pairs.tsv"


def dry_run(source: Path, arm: dict, *words: str) -> Path:
    study = {"recipe": "recipe.yaml", "arms": {"random": {}, "own": arm}, "baselines": ["random"]}
    (source.parent / "study.yaml").write_text(yaml.safe_dump(study))
    output = source.parent / "out"
    ABLATE.main(
        [
            str(source.parent / "study.yaml"),
            "--data_dir",
            str(source),
            "--output_dir",
            str(output),
            "--dry_run",
            *words,
        ]
    )
    return output


def test_a_dry_run_tries_all_arms_and_writes_nothing(source, capsys):
    output = dry_run(source, {"curriculum_order": "easy_first", "difficulty_definition": ["complexity"]})
    printed = capsys.readouterr().out
    assert printed.startswith("study: 6 runs, 0 finished") and not output.exists()


@pytest.mark.parametrize(
    ("arm", "message"),
    (
        ({"backbone": "class_hf.backbones.registry:countz"}, "arm 'own': backbone .* has no 'countz'"),
        ({"backbone": "collections:OrderedDict"}, "arm 'own': backbone .* is a type; expected a"),
        ({"loss_config": {"label_smothing": 0.1}}, "arm 'own': .*did you mean 'label_smoothing'"),
        ({"per_device_train_batch_size": 64}, "arm 'own': the data set has 20 pairs, fewer than one global batch"),
        ({"text_config": {"hiden_size": 8}}, "arm 'own': .*did you mean 'hidden_size'"),
    ),
)
def test_a_dry_run_refuses_what_a_run_would(source, arm, message):
    with pytest.raises(ValueError, match=message):
        dry_run(source, arm)
    assert not (source.parent / "out").exists()


def test_a_dry_run_reads_the_data_and_the_folder(source):
    with pytest.raises((ValueError, OSError), match="no_such_file"):
        dry_run(source.with_name("no_such_file.tsv"), {})
    output = source.parent / "out" / "difficulty" / "alignment-mean-seed_0"
    output.mkdir(parents=True)
    (output / "summary.json").write_text("{}")
    (source.parent / "out" / "study.json").write_text(json.dumps({"data": ["--demo"], "launch": []}))
    with pytest.raises(ValueError, match="have data '--demo', but it is"):
        dry_run(source, {})


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


def test_the_code_of_a_definition_belongs_to_its_scores(quick, monkeypatch):
    module = quick.folder / "mine_of_study.py"
    module.write_text("class Mine:\n    fit = score = staticmethod(len)\n")
    monkeypatch.syspath_prepend(quick.folder)
    study = read_study(
        quick.write(arms={"own": {"difficulty_definition": ["mine_of_study:Mine"]}, "none": ARMS["none"]})
    )
    runs = [Planned(arm, 0) for arm in ("own", "none")]
    for run in runs:
        runner.train(study, run, quick.output, [sys.executable, str(quick.folder / "stub.py")])
        runner.check_unchanged(study, run, quick.output)
    module.write_text(module.read_text().replace("len", "sum"))
    with pytest.raises(
        ValueError, match=r"other settings \(other code of difficulty_definition \['mine_of_study:Mine'"
    ):
        runner.check_unchanged(study, runs[0], quick.output)
    runner.check_unchanged(study, runs[1], quick.output)
    runner.train(study, runs[0], quick.output, [sys.executable, str(quick.folder / "stub.py")])
    runner.check_unchanged(study, runs[0], quick.output)
    names = sorted(path.name for path in (quick.output / "difficulty").glob("mine*"))
    assert len(names) == 2 and all("mine_of_study:Mine-mean-code_" in name for name in names)


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
    (place.output / "study.json").unlink()
    with pytest.raises(ValueError, match="no study.json, .*Choose another --output_dir"):
        place.run("--arms", "none", "--seeds", "0")


def test_the_source_in_common_replaces_that_of_the_recipe(quick):
    (quick.folder / "recipe.yaml").write_text("demo: true\ncurriculum_order: easy_first\n")
    study = read_study(quick.write(common={"data_dir": "pairs", "extra_train": ["more.tsv"]}))
    assert runner.data_source(study, None) == ["--data_dir", "pairs", "--extra_train", "more.tsv"]
    with pytest.raises(ValueError, match="data_dir and demo both name the data"):
        runner.data_source(read_study(quick.write(common={"data_dir": "pairs", "demo": True})), None)


def test_how_the_pairs_are_read_belongs_to_the_scoring(quick):
    """Further pairs and columns are read when the pairs are scored. Runs get the scored pairs."""
    common = {"extra_train": ["a.tsv", "b.tsv"], "replace_captions": "c.tsv", "column_mapping": {"drug": "smiles"}}
    study, run = read_study(quick.write(common=common)), Planned("none", 0)
    source = ["--data_dir", "pairs", "--column_mapping", '{"drug": "smiles"}']
    source += ["--extra_train", "a.tsv", "b.tsv", "--replace_captions", "c.tsv"]
    assert runner.data_source(study, "pairs") == source
    runner.train(study, run, quick.output, [sys.executable, str(quick.folder / "stub.py")])
    assert not common.keys() & yaml.safe_load((quick.output / "none" / "seed_0.yaml").read_text()).keys()
    runner.check_unchanged(study, run, quick.output)


def test_a_folder_of_another_kind_is_not_removed(place, capsys):
    folder = place.output / "none" / "seed_0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit):
        place.run("--arms", "none")
    assert "is not a run of this study" in capsys.readouterr().out and (folder / "thesis.tex").exists()


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
    "pairs of an arm": ({"arms": {"a": {"extra_train": "more.tsv"}}}, "arm 'a' sets extra_train"),
    "name": ({"arms": {"a/b": {}}}, "'a/b' cannot be the name of an arm"),
    "seeds twice": ({"choose_seeds": [0]}, "seeds and choose_seeds are the same"),
    "seeds that choose and confirm": ({"confirm_seeds": [1, 2]}, r"seeds \[1\] are in seeds and in confirm_seeds"),
    "nothing to confirm": ({"confirm_seeds": [3], "baselines": list(ARMS)}, "need a baseline and a candidate"),
    "name of a file": ({"arms": {"report.md": {}}}, "'report.md' cannot be the name of an arm: the study writes"),
    "a baseline as candidate": ({"candidates": ["none"]}, "candidates: 'none' is a baseline"),
    "rates of one name": ({"learning_rates": [1, 1.00000001]}, "learning_rates is .* expected different factors"),
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


def run_in_fork(command: list[str], log: Path, append: bool = False) -> None:
    """Runs `python SCRIPT ARGUMENTS` without the time of its imports."""
    python, script, *arguments = command
    assert python == sys.executable
    done = Forked(run_script, script, *arguments).end()
    log.write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
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
