"""What the tests of studies share: a study with a stub for its trainings."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset, DatasetDict
from recipe_scripts import load_recipe_script

from class_hf.studies import runner

ABLATE = load_recipe_script("ablate")
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
