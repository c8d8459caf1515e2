"""Training in spite of wrong pairs: curriculum_end, suspect_weights, and tables of suspects that a user edited."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk
from recipe_scripts import load_recipe_script

from class_hf.data.collator import TextMoleculeCollator
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.studies import runner
from class_hf.training.trainer import CurriculumTrainer

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

ROOT = Path(__file__).parents[2]
TINY = {
    "text_config": '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}',
    "molecule_config": '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}',
    "per_device_train_batch_size": "16",
    "num_train_epochs": "2",
    "use_cpu": "true",
    "difficulty_definition": "complexity",
}


TRAIN, SCORE, ABLATE = map(load_recipe_script, ("train", "score", "ablate"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV of 108 training pairs, two of them with exchanged captions, and 8 validation pairs."""
    groups = {"O": "alcohol", "N": "amine", "Cl": "chloride", "S": "thiol", "Br": "bromide", "C#N": "nitrile"}
    rows = [(a, b, n) for n in range(1, 4) for a in groups for b in groups]
    captions = [f"The molecule is an {groups[a]} and an {groups[b]} with a chain of {n} carbons." for a, b, n in rows]
    captions[0], captions[50] = captions[50], captions[0]
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "smiles", "description", "split"])
        for number, (a, b, n) in enumerate(rows):
            writer.writerow([f"m{number}", f"C({a}){'C' * n}{b}", captions[number], "train"])
        for number in range(8):
            writer.writerow(
                [f"v{number}", "C" * (number + 6) + "O", f"An alcohol of {number + 6} carbons.", "validation"]
            )
    return path


def train(table, output, **options):
    values = {**TINY, "data_dir": str(table), "output_dir": str(output), **options}
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    empty = output.parent / "empty.yaml"
    empty.write_text("seed: 0\n")
    TRAIN.main([str(empty), *words])
    return json.loads((output / "plan.json").read_text())


def test_auto_finds_the_suspects_and_lists_what_it_leaves_out(table, tmp_path, capsys):
    plan = train(table, tmp_path / "run", curriculum_end="auto", curriculum_span="0.5")
    printed = capsys.readouterr().out
    assert "pairs are more likely wrong than right; estimated share of wrong pairs" in printed
    with np.load(tmp_path / "run" / "difficulty.npz") as arrays:
        likely = int((arrays["train.wrong_probability"] > 0.25).sum())
    assert plan["left_out"] == likely
    left_out = tmp_path / "run" / "left_out.csv"
    assert left_out.is_file() == bool(likely)
    if likely:
        assert len(left_out.read_text().splitlines()) == likely + 1


def test_a_number_leaves_out_the_most_suspect_pairs(table, tmp_path):
    plan = train(table, tmp_path / "run", curriculum_end="0.9", curriculum_order="none")
    assert plan["left_out"] == 10
    with (tmp_path / "run" / "left_out.csv").open() as file:
        rows = list(csv.DictReader(file))
    with np.load(tmp_path / "run" / "difficulty.npz") as arrays:
        largest = np.sort(arrays["train.wrong_probability"])[::-1][:10]
    assert [float(row["wrong_probability"]) for row in rows] == largest.tolist()
    assert {"m0", "m50"} <= {row["id"] for row in rows}


def test_weights_and_a_dropped_pair(table, tmp_path, capsys):
    edited = tmp_path / "suspects.csv"
    edited.write_text("id,keep\nm0,no\nm1,yes\n")
    plan = train(table, tmp_path / "run", suspect_weights="true", drop_suspects=edited)
    assert plan["num_pairs"] == 107 and plan["left_out"] == 0
    assert "1 of 108 training pairs left out by" in capsys.readouterr().out


def test_a_dry_run_says_that_auto_is_not_known_yet(table, tmp_path, capsys):
    values = {**TINY, "data_dir": str(table), "output_dir": str(tmp_path / "run"), "curriculum_end": "auto"}
    (tmp_path / "empty.yaml").write_text("seed: 0\n")
    words = [word for name, value in values.items() for word in (f"--{name}", value)]
    TRAIN.main([str(tmp_path / "empty.yaml"), *words, "--dry_run"])
    assert "curriculum_end is auto: the run finds suspects first" in capsys.readouterr().out


def test_score_adds_the_probabilities_and_reads_an_edited_table(table, tmp_path, capsys):
    edited = tmp_path / "suspects.csv"
    edited.write_text("id,keep\nm3,no\n")
    words = ["--data_dir", str(table), "--definition", "complexity", "--suspects", "--drop_suspects", str(edited)]
    SCORE.main([*words, "--output_dir", str(tmp_path / "scored")])
    train_pairs = load_from_disk(str(tmp_path / "scored" / "dataset"))["train"]
    assert len(train_pairs) == 107 and "m3" not in train_pairs["id"][:]
    assert 0 <= min(train_pairs["wrong_probability"][:]) <= max(train_pairs["wrong_probability"][:]) <= 1
    assert "pairs are more likely wrong than right" in capsys.readouterr().out


# Studies


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs of a study in this process, in place of one process each. Returns the commands."""
    commands = []

    def execute(command, log, append=False):
        commands.append(command)
        script, words = Path(command[1]), command[2:]
        try:
            (SCORE if script.name == "score.py" else TRAIN).main(words)
        except KeyboardInterrupt as error:
            raise runner.RunFailed("interrupted") from error

    monkeypatch.setattr(runner, "execute", execute)
    # Other tests draw the figures, which take most of the time.
    monkeypatch.setattr(TRAIN, "plot_run", lambda *args: None)
    monkeypatch.setattr(SCORE, "write_figures", lambda *args: None)
    return commands


def test_a_study_of_curriculum_end_runs_resumes_and_reports(table, tmp_path, in_this_process, monkeypatch, capsys):
    values = {**TINY, "curriculum_order": "none", "eval_strategy": "epoch", "save_strategy": "epoch"}
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))  # JSON is YAML
    arms = {name: {"curriculum_end": end} for name, end in (("auto", "auto"), ("part", 0.6), ("all", 1))}
    study = {"recipe": "recipe.yaml", "seeds": [0], "arms": arms, "baselines": ["all"]}
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    words = [str(tmp_path / "study.yaml"), "--data_dir", str(table), "--output_dir", str(tmp_path / "out")]

    # The second arm is interrupted in its second epoch.
    step = CurriculumTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.plan.num_left_out == 43 and self.state.global_step == 6:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(CurriculumTrainer, "training_step", interrupted)
        ABLATE.main(words)
    assert "part seed 0: FAILED: interrupted" in capsys.readouterr().out
    in_this_process.clear()
    ABLATE.main(words)
    assert [command[-2:] for command in in_this_process] == [["--resume_from_checkpoint", "true"]]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["arms"]) == list(arms) and report["missing"] == []
    assert set(report["tests"]["all"]) == {"auto", "part"}
    folders = {arm: tmp_path / "out" / arm / "seed_0" for arm in arms}
    plans = {arm: json.loads((folder / "plan.json").read_text()) for arm, folder in folders.items()}
    assert plans["part"]["left_out"] == 43 and plans["all"]["left_out"] == 0
    assert plans["part"]["total_steps"] == 8 and plans["all"]["total_steps"] == 12
    assert len((folders["part"] / "left_out.csv").read_text().splitlines()) == 44
    assert "43 pairs that are likely wrong are left out" in (folders["part"] / "README.md").read_text()
    # The suspects were found once for both arms.
    scored = {name: (tmp_path / "out" / f"{name}/seed_0.yaml").read_text() for name in arms}
    assert "suspects-seed_0" in scored["auto"] and "suspects-seed_0" in scored["part"]
    assert "suspects" not in scored["all"]


# The weights


def test_weights_are_those_of_a_weighted_mean():
    torch.manual_seed(0)
    texts, molecules = torch.nn.functional.normalize(torch.randn(2, 6, 4), dim=-1)
    weights = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.25, 1.0])
    loss = ContrastiveLoss()
    plain = loss(texts, molecules, 10.0)
    weighted = loss(texts, molecules, 10.0, pair_weights=weights)
    torch.testing.assert_close(weighted.per_pair, plain.per_pair)
    expected = (weights * plain.per_pair).sum() / weights.sum()
    torch.testing.assert_close(weighted.loss, expected, rtol=1e-4, atol=1e-4)
    equal = loss(texts, molecules, 10.0, pair_weights=torch.ones(6))
    torch.testing.assert_close(equal.loss, plain.loss)


def test_the_collator_passes_the_probability_of_being_right(prepared, processor):
    rows = Dataset.from_dict(prepared[:4]).add_column("wrong_probability", [0.0, 0.25, 1.0, 0.5])
    batch = TextMoleculeCollator(processor)(list(rows))
    assert batch["pair_weights"].tolist() == [1.0, 0.75, 0.0, 0.5]
    assert "pair_weights" not in TextMoleculeCollator(processor)(list(Dataset.from_dict(prepared[:4])))
