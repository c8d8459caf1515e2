"""The recipes `train` and `evaluate` run as a user runs them, at a tiny size."""

import json
import re
from pathlib import Path

# ruff: noqa: F811 (fixtures)
import numpy as np
import pytest
from recipe_scripts import load_recipe_script
from run_forked import launched_environments, run_launched, run_recipe, run_script
from train_parts import ROOT, data_dir, flags, recipe, train  # noqa: F401
from transformers import AutoModel, AutoProcessor

from class_hf import TextMoleculeDualEncoderModel

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

EVALUATE = load_recipe_script("evaluate")


def evaluate(*arguments) -> None:
    EVALUATE.main([str(argument) for argument in arguments])


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


@pytest.mark.pictures
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
    captions = tmp_path / "captions.txt"
    captions.write_text("An alcohol of six carbon atoms.\n\nA thiol with a ring.\n")
    evaluate("--model", trained, trained, "--data_dir", data_dir, "--output", output, "--query_bank",
             "--bank_captions", captions, "--bank_method", "nearest", "--bootstrap_samples", 0)  # fmt: skip
    metrics, before = (json.loads(path.read_text()) for path in (output, trained / "metrics.json"))
    assert metrics["model"] == [str(trained), str(trained)]
    for pool, directions in before["pools"].items():  # a model averaged with itself ranks as it does alone
        for direction, row in directions.items():
            assert metrics["pools"][pool][direction]["mrr"] == pytest.approx(row["mrr"])
    assert metrics["query_bank"]["method"] == "nearest" and metrics["query_bank"]["pairs"] == 16
    assert set(metrics["query_bank"]["pools"]) == {"full", "split"}
    assert metrics["query_bank_with_captions"]["captions"] == 2
    out = capsys.readouterr().out
    assert "with query-bank normalisation by 16 training pairs\n" in out
    assert "with query-bank normalisation by 16 training pairs and 2 further captions\n" in out


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
    names = sorted(trained.rglob("*"))
    for words in ((), ("--dry_run",)):
        with pytest.raises(ValueError, match="already holds a finished run"):
            train(recipe, *words, data_dir=data_dir, output_dir=trained)
    assert sorted(trained.rglob("*")) == names


def test_dry_run_shows_the_plan_and_trains_nothing(recipe, data_dir, tmp_path, capsys):
    for _ in range(2):  # its picture is no obstacle to the next one
        train(recipe, "--dry_run", data_dir=data_dir, output_dir=tmp_path)
    printed = capsys.readouterr().out
    assert "competence" in printed and "without the curriculum" in printed
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")] == ["plots/dry_run_plan.png"]


def test_a_dry_run_refuses_a_folder_that_another_process_writes(recipe, data_dir, tmp_path):
    (tmp_path / "run.lock").write_text(json.dumps({"pid": 7, "host": "elsewhere"}))
    for words in ((), ("--dry_run",), ("--dry_run", "--overwrite")):
        with pytest.raises(ValueError, match="is written by process 7 on host elsewhere"):
            train(recipe, *words, data_dir=data_dir, output_dir=tmp_path)


REFUSED = {
    "backbone": ({"backbone": "class_hf.backbones.registry:no_such"}, "has no 'no_such'"),
    "no backbone": ({"backbone": "collections:OrderedDict"}, "'collections:OrderedDict' is a type; expected a"),
    "loss": ({"loss_config": '{"label_smothing": 0.1}'}, "did you mean 'label_smoothing'?"),
    "difficulty": ({"difficulty_definition": "collections:OrderedDict"}, "it has no method 'fit'"),
    "tower": ({"text_config": '{"hiden_size": 3}'}, "did you mean 'hidden_size'?"),
    "pairs for difficulty": ({"difficulty_definition": "confusability", "max_train_pairs": 8}, "neighbours is 8"),
    "pairs for suspects": ({"curriculum_end": "0.9"}, "finding suspects needs at least 50 pairs, got 16"),
    "checkpoint": ({"resume_from_checkpoint": "no/such/checkpoint"}, "no/such/checkpoint"),
    "trainer": ({"forward_chunk_size": 2, "backbone": "aman"}, "normalises over the batch"),
    "optimizer": ({"optim": "adamw_bnb_8bit"}, "bitsandbytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_dry_run_refuses_what_the_run_would(case, recipe, data_dir, tmp_path):
    arguments, message = REFUSED[case]
    with pytest.raises((ValueError, ImportError, OSError), match=re.escape(message)):
        train(recipe, "--dry_run", data_dir=data_dir, output_dir=tmp_path / "out", **arguments)
    assert not list(tmp_path.rglob("*.*"))


def test_a_dry_run_tries_the_model(recipe, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(
        TextMoleculeDualEncoderModel, "forward", lambda self, **batch: {"logit_scale": self.logit_scale()}
    )
    with pytest.raises(ValueError, match="the model's output lacks"):
        train(recipe, "--dry_run", data_dir=data_dir, output_dir=tmp_path)


@pytest.mark.parametrize("order", ("none", "random", "hard_first"))
def test_every_order(recipe, data_dir, tmp_path, order):
    train(recipe, data_dir=data_dir, output_dir=tmp_path, curriculum_order=order, max_steps=3)
    assert json.loads((tmp_path / "plan.json").read_text())["order"] == order


def test_early_stopping_on_the_command_line(recipe, data_dir, tmp_path):
    train(recipe, data_dir=data_dir, output_dir=tmp_path, early_stopping_patience=1, learning_rate=1e-12,
          eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end="true", num_train_epochs=6)  # fmt: skip
    summary = json.loads((tmp_path / "train_summary.json").read_text())
    assert summary["steps"] < json.loads((tmp_path / "plan.json").read_text())["total_steps"]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes(recipe, data_dir, tmp_path):
    arguments = flags(data_dir=data_dir, output_dir=tmp_path, per_device_train_batch_size=2)
    options = ["--config_file", "recipes/accelerate/cpu_2_processes.yaml", "--main_process_port", "0"]
    done = run_launched(options, run_script, ROOT / "recipes" / "train.py", recipe, *arguments)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "tests"), "no split 'tests'"),
        (("--split", "pool"), "no split 'pool'"),
        (("--model", ROOT / "recipes"), "holds no model"),
        (("--model", "nobody/nothing"), "--model 'nobody/nothing' is neither a folder"),
        (("--output", ROOT / "recipes"), "is a folder"),
        (("--split", "train", "--query_bank"), "needs training pairs that are not evaluated"),
        (("--bank_captions", "captions.txt"), "--bank_captions needs --query_bank"),
        (("--query_bank", "--bank_captions", ROOT / "README.md", ROOT / "pyproject.toml"), "README.md line"),
        (("--model", "a", "b", "--rescore_top_k", 5), "needs the pair score of one model"),
    ],
)
def test_wrong_input_to_evaluate(arguments, message, trained, data_dir):
    with pytest.raises(ValueError, match=message):
        evaluate("--model", trained, "--data_dir", data_dir, *arguments)
