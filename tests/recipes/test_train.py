"""The recipes run as a user runs them, at a tiny size; wrong input ends in one clear line."""

import importlib.util
import json
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import rows_of_pairs
from huggingface_hub.errors import StrictDataclassError
from run_forked import Forked, launched_environments, run_launcher, run_recipe, run_script
from transformers import AutoModel, AutoProcessor

import class_hf  # noqa: F401  (registers the model with AutoModel)
from class_hf.config.command import USER_ERRORS
from class_hf.training.callbacks import CurriculumCallback
from class_hf.training.resuming import ResumingTrainer

ROOT = Path(__file__).parents[2]
# A study names a recipe and its arms; tests/recipes/test_ablate.py reads it.
RECIPES = [path for path in sorted((ROOT / "recipes").glob("**/*.yaml")) if path.parent.name != "studies"]
TINY = {
    "text_config": '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}',
    "molecule_config": '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}',
    "per_device_train_batch_size": 4,
    "num_train_epochs": 3,
    "difficulty_definition": "complexity",
    "use_cpu": "true",
}


def load_recipe_script(name: str):
    """The script as a module, so that most tests need no process of their own."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


TRAIN, EVALUATE = load_recipe_script("train"), load_recipe_script("evaluate")


def flags(**kwargs) -> list[str]:
    return [str(item) for name, value in {**TINY, **kwargs}.items() for item in (f"--{name}", value)]


def train(recipe: Path | str, *arguments: str, **kwargs) -> None:
    TRAIN.main([str(recipe), *arguments, *flags(**kwargs)])


def evaluate(*arguments) -> None:
    EVALUATE.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A folder as ChEBI-20's, with 16 training, 4 validation and 4 test pairs."""
    folder = tmp_path_factory.mktemp("data")
    rows = rows_of_pairs(24)
    splits = {"train": range(0, 16), "validation": range(16, 20), "test": range(20, 24)}
    lines = ["CID\tSMILES\tsplit\thas_description"]
    for split, indices in splits.items():
        pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
        (folder / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
        lines += [f"{1000 + i}\t{rows['smiles'][i]}\t{split}\t1" for i in indices]
    (folder / "molecules.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A recipe that leaves all but the towers to the command line."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text("text_model: lexical\nmolecule_model: fingerprint\nlearning_rate: 1e-2\nlogging_steps: 1\n")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, recipe, data_dir) -> Path:
    output = tmp_path_factory.mktemp("out") / "run"
    settings = {"difficulty_definition": "alignment", "eval_strategy": "epoch", "num_train_epochs": 8}
    arguments = flags(data_dir=data_dir, output_dir=output, **settings)
    (environment,) = launched_environments("--config_file", "recipes/accelerate/cpu.yaml")
    done = run_recipe("train", recipe, *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "text to molecule, full (24)" in done.stdout and "untrained" in done.stdout
    return output


def test_the_output_folder(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    expected = {"model.safetensors", "config.json", "processor_config.json", "tokenizer_config.json", "metrics.json"}
    expected |= {"plan.json", "train_summary.json", "README.md", "load_report.json", "difficulty.npz"}
    expected |= {f"plots/{name}.png" for name in ("plan", "loss", "validation", "ranks", "retrievals")}
    assert expected <= names and not [
        name for name in names if name.startswith((".", "plots/.")) or name.endswith(".bin")
    ]
    summary = json.loads((trained / "train_summary.json").read_text())
    names = {"wall_seconds", "cpu_seconds", "steps", "pairs_seen", "tokens_seen", "pairs_per_second"}
    assert {*names, "peak_memory_bytes"} <= set(summary) and summary["tokens_seen"] > summary["pairs_seen"]
    plan = json.loads((trained / "plan.json").read_text())
    assert summary["steps"] == plan["total_steps"] < plan["steps_without_curriculum"]
    assert summary["pairs_seen"] == summary["steps"] * 4
    metrics = json.loads((trained / "metrics.json").read_text())
    keys = {"hits@1", "hits@10", "mrr", "mean_rank", "median_rank", "queries", "candidates"}
    for pool in ("full", "split"):
        for direction in ("text_to_molecule", "molecule_to_text"):
            assert keys <= set(metrics["pools"][pool][direction])
    assert metrics["split"] == "validation" and metrics["pools"]["full"]["text_to_molecule"]["queries"] == 4
    assert all((trained / "plots" / f"{name}.png").stat().st_size > 5000 for name in ("plan", "loss", "ranks"))


def test_evaluate_gives_the_numbers_of_training(trained, data_dir, tmp_path):
    evaluate("--model", trained, "--data_dir", data_dir, "--output", tmp_path / "m.json",
             "--save_embeddings", tmp_path / "e.npz", "--plot", tmp_path / "r.png")  # fmt: skip
    metrics, before = (json.loads(path.read_text()) for path in (tmp_path / "m.json", trained / "metrics.json"))
    for pool, directions in before["pools"].items():
        for direction, row in directions.items():
            for name in ("hits@1", "hits@10", "mrr", "mean_rank", "median_rank", "queries", "candidates"):
                assert metrics["pools"][pool][direction][name] == row[name]
    with np.load(tmp_path / "e.npz") as file:
        arrays = dict(file)
    assert arrays["text_embeds"].shape[0] == 4 and arrays["molecule_embeds"].shape[0] == 24
    scores = arrays["text_embeds"] @ arrays["molecule_embeds"].T
    gold = scores[np.arange(4), arrays["gold"]]
    ranks = (scores > gold[:, None]).sum(1) + 1
    assert (1 / ranks).mean() == pytest.approx(metrics["pools"]["full"]["text_to_molecule"]["mrr"])
    assert (tmp_path / "r.png").stat().st_size > 5000


def test_evaluate_with_a_query_bank_and_several_models(trained, data_dir, tmp_path, capsys):
    output = tmp_path / "m.json"
    evaluate("--model", trained, trained, "--data_dir", data_dir, "--output", output, "--query_bank",
             "--bank_method", "nearest", "--bootstrap_samples", 0)  # fmt: skip
    metrics, before = (json.loads(path.read_text()) for path in (output, trained / "metrics.json"))
    assert metrics["model"] == [str(trained), str(trained)]
    for pool, directions in before["pools"].items():  # a model averaged with itself ranks as it does alone
        for direction, row in directions.items():
            assert metrics["pools"][pool][direction]["mrr"] == pytest.approx(row["mrr"])
    assert metrics["query_bank"]["method"] == "nearest" and metrics["query_bank"]["pairs"] == 16
    assert set(metrics["query_bank"]["pools"]) == {"full", "split"}
    assert "with query-bank normalisation by 16 training pairs" in capsys.readouterr().out


def test_evaluate_takes_the_test_split(trained, data_dir, tmp_path):
    output = tmp_path / "m.json"
    evaluate("--model", trained, "--data_dir", data_dir, "--split", "test", "--output", output)
    assert json.loads(output.read_text())["split"] == "test"


def test_the_cards_snippet_runs(trained, monkeypatch):
    card = (trained / "README.md").read_text()
    snippet = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(trained)
    names: dict = {}
    exec(snippet, names)
    assert names["scores"].shape == (1, 2)
    model, processor = AutoModel.from_pretrained("."), AutoProcessor.from_pretrained(".")
    assert model(**processor(text="An acid.")).text_embeds.shape[0] == 1


def test_a_finished_run_is_not_overwritten(trained, recipe, data_dir):
    with pytest.raises(ValueError, match="already holds a finished run"):
        train(recipe, data_dir=data_dir, output_dir=trained)


def test_dry_run_shows_the_plan_and_trains_nothing(recipe, data_dir, tmp_path, capsys):
    train(recipe, "--dry_run", data_dir=data_dir, output_dir=tmp_path)
    printed = capsys.readouterr().out
    assert "competence" in printed and "without the curriculum" in printed
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")] == ["plots/dry_run_plan.png"]


@pytest.mark.parametrize("order", ("none", "random", "hard_first"))
def test_every_order(recipe, data_dir, tmp_path, order):
    train(recipe, data_dir=data_dir, output_dir=tmp_path, curriculum_order=order, max_steps=3)
    assert json.loads((tmp_path / "plan.json").read_text())["order"] == order


def test_resume_on_the_command_line(recipe, data_dir, tmp_path):
    given = {"data_dir": data_dir, "output_dir": tmp_path, "save_strategy": "steps", "save_steps": 2}
    train(recipe, **given)
    whole = (tmp_path / "model.safetensors").read_bytes()
    train(recipe, **given, resume_from_checkpoint="true")
    assert (tmp_path / "model.safetensors").read_bytes() == whole
    plan = (tmp_path / "plan.json").read_text()
    with pytest.raises(ValueError, match="made with other settings"):
        train(recipe, **given, resume_from_checkpoint="true", seed=9)
    assert (tmp_path / "plan.json").read_text() == plan
    (tmp_path / "train_summary.json").unlink()
    with pytest.raises(ValueError, match="holds an unfinished run"):
        train(recipe, **given)
    with pytest.raises(ValueError, match="holds an unfinished run"):
        train(recipe, **given, resume_from_checkpoint="false")


def test_early_stopping_on_the_command_line(recipe, data_dir, tmp_path):
    train(recipe, data_dir=data_dir, output_dir=tmp_path, early_stopping_patience=1, learning_rate=1e-12,
          eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end="true", num_train_epochs=6)  # fmt: skip
    summary = json.loads((tmp_path / "train_summary.json").read_text())
    assert summary["steps"] < json.loads((tmp_path / "plan.json").read_text())["total_steps"]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes(recipe, data_dir, tmp_path):
    arguments = flags(data_dir=data_dir, output_dir=tmp_path, per_device_train_batch_size=2)
    # The launcher is forked, and starts both processes as in a shell.
    options = ["--config_file", "recipes/accelerate/cpu_2_processes.yaml", "--main_process_port", "0"]
    done = run_launcher(*options, "recipes/train.py", recipe, *arguments, environment={"GLOO_SOCKET_IFNAME": "lo"})
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "train_summary.json").read_text())
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert summary["processes"] == 2 and plan["batch_size"] == 4 and summary["steps"] == plan["total_steps"]
    assert done.stdout.count("text to molecule, full") == 1


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1", r"asked for several processes and started one.*cpu_2_processes.yaml --num_processes N"),
        ("10.0.0.1", r"asked for several hosts \(main_process_ip 10.0.0.1\).*each host would train its own model"),
    ],
)
def test_processes_that_accelerate_did_not_start_are_missed(address, message, recipe, data_dir, tmp_path, monkeypatch):
    """What `accelerate launch` sets for the one process that it starts on a CPU, on one host and on two."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", address)
    with pytest.raises(ValueError, match=message):
        train(recipe, data_dir=data_dir, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("hosts", (1, 2))
def test_accelerates_separate_processes_are_refused_in_one_line(hosts, recipe, data_dir, tmp_path):
    """`--num_processes 2`, and `--cpu` with the configuration of several hosts; each would train alone."""
    options = ["--num_processes", "2"]
    if hosts == 2:
        options = ["--config_file", "recipes/accelerate/several_hosts.yaml", "--cpu", "--machine_rank", "0",
                   "--main_process_ip", "192.0.2.1", "--mixed_precision", "no"]  # fmt: skip
    arguments = flags(data_dir=data_dir, output_dir=tmp_path / "out", per_device_train_batch_size=2, max_steps=2)
    (environment,) = launched_environments("--quiet", *options)
    done = run_recipe("train", recipe, *arguments, environment=environment)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert ("each host would train its own model" in lines[0]) == (hosts == 2)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_needs_overwrite(recipe, data_dir, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model.safetensors").write_text("another model")
    given = {"data_dir": data_dir, "output_dir": tmp_path, "max_steps": 2}
    with pytest.raises(ValueError, match="holds other files"):
        train(recipe, **given)
    assert (tmp_path / "model.safetensors").read_text() == "another model"
    train(recipe, "--overwrite", **given)
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "train_summary.json").is_file()
    first = (tmp_path / "model.safetensors").read_bytes()
    train(recipe, "--overwrite", **given, seed=4)
    assert (tmp_path / "model.safetensors").read_bytes() != first


def test_the_current_folder_is_refused_before_work(recipe, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is the current folder"):
        train(recipe, data_dir=data_dir, output_dir=".")
    assert not list(tmp_path.iterdir())


def test_resume_without_a_checkpoint_starts_from_the_beginning(recipe, data_dir, tmp_path, monkeypatch, caplog):
    """As after a kill while the first checkpoint was saved; twice the same command is no error."""
    given = {"data_dir": data_dir, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    train(recipe, **given, output_dir=tmp_path / "straight")
    killed = tmp_path / "killed"
    (killed / "checkpoint-2").mkdir(parents=True)
    (killed / "checkpoint-2" / "model.safetensors").write_text("half a file")
    with pytest.raises(ValueError, match="holds an unfinished run. Resume it with --resume_from_checkpoint true"):
        train(recipe, **given, output_dir=killed)
    train(recipe, **given, output_dir=killed, resume_from_checkpoint="true")
    assert "manifest.json is missing" in caplog.text and "the run starts from the beginning" in caplog.text
    for folder in (killed, tmp_path / "new"):
        train(recipe, **given, output_dir=folder, resume_from_checkpoint="true")
        weights = [path / "model.safetensors" for path in (folder, tmp_path / "straight")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    for name, value in {"learning_rate": 0.5, "sentence_dropout": 0.5, "difficulty_combination": "max"}.items():
        with pytest.raises(ValueError, match=f"made with other settings .*{name}.* -> '?{value}"):
            train(recipe, **given, output_dir=killed, resume_from_checkpoint="true", **{name: value})


def test_a_damaged_checkpoint_is_found_before_data_is_scored(recipe, data_dir, tmp_path, monkeypatch):
    train(recipe, data_dir=data_dir, output_dir=tmp_path, save_strategy="steps", save_steps=2, max_steps=2)
    checkpoint = tmp_path / "checkpoint-2"
    (checkpoint / "optimizer.pt").write_bytes((checkpoint / "optimizer.pt").read_bytes()[:99])
    monkeypatch.setattr(TRAIN, "load_splits", lambda *args, **kwargs: pytest.fail("the data was loaded"))
    with pytest.raises(ValueError, match="optimizer.pt has 99 bytes instead of"):
        train(recipe, data_dir=data_dir, output_dir=tmp_path, resume_from_checkpoint=checkpoint)


def train_interrupted(*words: str) -> None:
    """The recipe as a script; it gets SIGINT in its fourth step."""
    plain = CurriculumCallback.on_pre_optimizer_step

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, args, state, control, **kwargs)

    CurriculumCallback.on_pre_optimizer_step = interrupt
    run_script(f"{ROOT}/recipes/train.py", *words)


def train_on_a_full_disk(*words: str) -> None:
    """The recipe as a script; no file of its first checkpoint can be longer than 20 kB."""
    plain = ResumingTrainer._save_checkpoint

    def limited(self, *args):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        return plain(self, *args)

    ResumingTrainer._save_checkpoint = limited
    run_script(f"{ROOT}/recipes/train.py", *words)


@pytest.mark.slow
def test_ctrl_c_and_a_full_disk_end_in_one_line(recipe, data_dir, tmp_path):
    """SIGINT while training leaves a checkpoint; so does a limit of the file size, from which the run resumes."""
    arguments = flags(data_dir=data_dir, output_dir=tmp_path / "run", save_strategy="no")
    done = Forked(train_interrupted, recipe, *arguments).end()
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"interrupted: a checkpoint of step 4 is in {tmp_path / 'run'}"
    assert (tmp_path / "run" / "checkpoint-4" / "manifest.json").is_file()
    arguments = flags(data_dir=data_dir, output_dir=tmp_path / "full", save_strategy="epoch")
    done = Forked(train_on_a_full_disk, recipe, *arguments).end()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "cannot be written: the disk is full" in last
    train(
        recipe, data_dir=data_dir, output_dir=tmp_path / "full", save_strategy="epoch", resume_from_checkpoint="true"
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses(path):
    """All keys are known and all values convert; accelerate's own configurations load."""
    if path.parent.name == "accelerate":
        from accelerate.commands.config.config_args import load_config_from_file

        assert load_config_from_file(str(path)).num_processes >= 1
        return
    from class_hf import CurriculumTrainingArguments
    from class_hf.config.arguments import DataArguments, ModelArguments
    from class_hf.config.parsing import parse_recipe

    argv = [str(path), "--bf16", "false", "--use_cpu", "true"]
    _, data, model, args = parse_recipe(argv, (DataArguments, ModelArguments, CurriculumTrainingArguments), "train")
    values = yaml.safe_load(path.read_text())
    assert args.learning_rate == float(values["learning_rate"]) and args.num_train_epochs == values["num_train_epochs"]
    assert model.text_model == values["text_model"] and data.sentence_dropout == values["sentence_dropout"]


BAD = {
    "unknown key": ("learning_rat: 1e-3\n", {}, "unknown argument 'learning_rat'; did you mean 'learning_rate'?"),
    "text for a number": ("learning_rate: fast\n", {}, "invalid float value"),
    "illegal choice": ("curriculum_order: sideways\n", {}, "invalid choice: 'sideways'"),
    "not a mapping": ("- a\n- b\n", {}, "must be a mapping"),
    "broken YAML": ("a: [1\n", {}, "not valid YAML"),
    "bad JSON": ("text_model: lexical\n", {"text_config": "{hidden"}, "expected JSON"),
    "unknown option": ("text_model: lexical\n", {"no_such_thing": "1"}, "unknown argument 'no_such_thing'"),
    "large batch": ("text_model: lexical\n", {"per_device_train_batch_size": "64"}, "fewer than one global batch"),
    "tower field": ("text_model: lexical\n", {"text_config": '{"hiden_size": 3}'}, "did you mean 'hidden_size'?"),
    "no such package": ("text_model: package:nonesuch\n", {}, "'nonesuch' is not installed"),
    "list for a value": ("learning_rate: [1, 2]\n", {}, "learning_rate is the list [1, 2], but takes one value"),
    "bare no": ("save_strategy: no\n", {}, "save_strategy is False: YAML reads an unquoted yes"),
    "out of range": ("sentence_dropout: 3\n", {}, "sentence_dropout is 3.0"),
    "no pairs": ("text_model: lexical\n", {"eval_pairs": "0"}, "eval_pairs is 0"),
    "half an epoch": ("text_model: lexical\n", {"num_train_epochs": "2.5"}, "epochs is 2.5"),
    "tower value": ("text_model: lexical\n", {"text_config": '{"dropout": 2}'}, "`dropout` is 2"),
    "no such folder": ("text_model: lexical\n", {"data_dir": "/nowhere/at/all"}, "/nowhere/at/all"),
    "no such model": ("text_model: nobody/nothing\n", {}, "nobody/nothing"),
    "two sources": ("text_model: lexical\ndemo: true\n", {}, "several data sources are named"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_clear_error_and_nothing_half_written(case, data_dir, tmp_path, capsys):
    content, kwargs, message = BAD[case]
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    output = tmp_path / "out"
    # The last is the error of a configuration, which `run_script` prints in one line too.
    with pytest.raises((*USER_ERRORS, SystemExit, StrictDataclassError)) as error:
        train(path, **{"data_dir": data_dir, "output_dir": output, **kwargs})
    assert message in f"{error.value}{capsys.readouterr().err}"  # argparse prints its own
    assert not list(output.rglob("*.json"))


def test_an_error_is_a_line_and_not_a_traceback(data_dir):
    done = run_recipe("train", "nowhere.yaml", "--data_dir", data_dir)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the recipe 'nowhere.yaml' does not exist;")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7\tC1CC(\tThe molecule is broken.\n", r"id 7,.*C1CC\("),
        ("7\tCCO\t\n", r"id 7,.*empty"),
        ("1000\tCCCCO\tThe molecule is another.\n", "1000"),
    ],
    ids=("SMILES", "empty caption", "duplicate id"),
)
def test_bad_rows_stop_training_or_are_dropped(line, message, recipe, data_dir, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("validation.tsv", "test.tsv"):
        (folder / name).write_text((data_dir / name).read_text())
    (folder / "train.tsv").write_text((data_dir / "train.tsv").read_text() + line)
    with pytest.raises(ValueError, match=message):
        train(recipe, data_dir=folder, output_dir=tmp_path / "out", max_steps=2)
    assert not (tmp_path / "out").exists()
    train(recipe, data_dir=folder, output_dir=tmp_path / "out", max_steps=2, on_error="drop")
    assert "16 training pairs" in capsys.readouterr().out


def test_the_recipe_comes_first(data_dir):
    with pytest.raises(ValueError, match="expected the recipe"):
        TRAIN.main(["--data_dir", str(data_dir), "recipe.yaml"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "tests"), "no split 'tests'"),
        (("--split", "pool"), "no split 'pool'"),
        (("--model", ROOT / "recipes"), "holds no model"),
        (("--model", "nobody/nothing"), "--model 'nobody/nothing' is neither a folder"),
        (("--output", ROOT / "recipes"), "is a folder"),
        (("--split", "train", "--query_bank"), "needs training pairs that are not evaluated"),
        (("--model", "a", "b", "--rescore_top_k", 5), "needs the pair score of one model"),
    ],
)
def test_wrong_input_to_evaluate(arguments, message, trained, data_dir):
    with pytest.raises(ValueError, match=message):
        evaluate("--model", trained, "--data_dir", data_dir, *arguments)
