"""recipes/push.py and the push after a training, against a local server with the Hub's API."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from conftest import rows_of_pairs
from hub_server import TOKEN, HubServer, client_environment, client_here
from huggingface_hub import DatasetCard, ModelCard
from recipe_scripts import load_recipe_script

from class_hf.hub.push import PushError

ROOT = Path(__file__).parents[2]
SIZES = '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}'
# The client's own way of sending large files without Xet is deprecated by its HTTP library.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.usefixtures("blank_pictures"),
]


PUSH, SCORE, TRAIN = map(load_recipe_script, ("push", "score", "train"))


@pytest.fixture(scope="module")
def hub() -> HubServer:
    return HubServer()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = rows_of_pairs(24)
    for split, indices in {"train": range(0, 16), "validation": range(16, 24)}.items():
        pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
        (folder / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
    return folder


def train(hub: HubServer, data_dir: Path, output: Path, *further: str) -> None:
    recipe = output.parent / "tiny.yaml"
    recipe.write_text(
        "text_model: lexical\nmolecule_model: fingerprint\nlearning_rate: 1e-2\nlogging_steps: 1\n"
        f"text_config: {SIZES}\nmolecule_config: {SIZES}\nper_device_train_batch_size: 4\nnum_train_epochs: 2\n"
        "eval_strategy: epoch\ndifficulty_definition: [complexity]\nuse_cpu: true\npush_to_hub: true\n"
    )
    with client_here(hub):
        TRAIN.main([str(recipe), "--data_dir", str(data_dir), "--output_dir", str(output), *further])


def test_a_training_pushes_itself_or_names_the_command(hub, data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    hub.fail("POST", "/commit/", 403)
    arguments = ["--hub_model_id", "org/run", "--hub_private_repo", "true", "--hub_remote_code", "true"]
    with pytest.raises(PushError, match=r"the push to org/run failed \(403") as error:
        train(hub, data_dir, output, *arguments)
    repository = hub.repositories["models/org/run"]
    assert len(repository.commits) == 1 and repository.private
    command = str(error.value).split("Run again: class-hf push ")[1].split()
    assert command[-1] == "--trust_remote_code_export"
    with client_here(hub):
        PUSH.main(command)
    assert "load it with: AutoModel.from_pretrained('org/run', trust_remote_code=True)" in capsys.readouterr().out
    files = repository.commits[-1][1]
    assert len(repository.commits) == 2
    assert {f"plots/{name}.png" for name in ("plan", "loss", "validation", "ranks", "retrievals")} <= set(files)
    records = {"metrics.json", "plan.json", "train_summary.json", "training_args.json", "ranks.npz"}
    assert records | {"text_encoder/model.safetensors", "modeling_text_molecule.py"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    assert not [name for name, data in files.items() if TOKEN.encode() in data]
    card(files["README.md"].decode(), json.loads(files["metrics.json"]))


def test_a_training_that_is_not_hindered_makes_one_commit(hub, data_dir, tmp_path):
    train(hub, data_dir, tmp_path / "out", "--hub_model_id", "org/smooth")
    repository = hub.repositories["models/org/smooth"]
    assert len(repository.commits) == 2 and not repository.private
    assert "# smooth" in repository.commits[-1][1]["README.md"].decode()


def card(text: str, metrics: dict) -> None:
    """The metadata is complete, and the numbers are those of metrics.json."""
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.language) == ("class_hf", "feature-extraction", "en")
    assert data.license and data.tags
    results = {(row.dataset_config, row.metric_type): row.metric_value for row in data.eval_results}
    assert results == {
        (pool, f"{direction}_{key}"): row[key]
        for pool, directions in metrics["pools"].items()
        for direction, row in directions.items()
        for key in ("hits@1", "hits@10", "mrr", "mean_rank")
    }
    assert "By quartile of difficulty" in text and "Wall time of training" in text and "train" in text
    assert all(f"](plots/{name}.png)" in text for name in ("plan", "loss", "validation", "ranks", "retrievals"))


def test_a_wrong_login_costs_no_training(hub, data_dir, tmp_path):
    hub.fail("POST", "/api/repos/create", 401)
    with pytest.raises(PushError, match="the push to org/other failed .*`hf auth login`"):
        train(hub, data_dir, tmp_path / "out", "--hub_model_id", "org/other")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_scored_data_set(hub, data_dir, tmp_path):
    """Pushed with its card, it loads as it was, by the card's snippet and as `--dataset_name`."""
    scored = tmp_path / "scored"
    SCORE.main(["--data_dir", str(data_dir), "--output_dir", str(scored), "--definition", "complexity"])
    with client_here(hub):
        PUSH.main(["--dataset", str(scored), "--repo_id", "org/scored", "--private"])
    repository = hub.repositories["datasets/org/scored"]
    files = repository.commits[-1][1]
    assert len(repository.commits) == 2 and repository.private
    text = files["README.md"].decode()
    data = DatasetCard(text).data
    assert data.license and data.tags and data.language == "en" and data.size_categories == "n<1K"
    snippet = text.split("```python\n")[1].split("```")[0]
    code = f"""{snippet}
import sys
from class_hf.data.source import load_data

data, _ = load_data(None, "org/scored")
assert all(data[split].to_dict() == rows.to_dict() for split, rows in pairs.items())
data.save_to_disk(sys.argv[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "loaded")],
        env=client_environment(hub, tmp_path / "home"), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    local, loaded = (datasets.load_from_disk(str(path)) for path in (scored / "dataset", tmp_path / "loaded"))
    assert {split: rows.to_dict() for split, rows in loaded.items()} == {
        split: rows.to_dict() for split, rows in local.items()
    }
    assert hub.unknown == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "recipes"), "'recipes' holds no model"),
        (("--dataset", "recipes"), "'recipes' holds no scored data set"),
        (("--dataset", "recipes", "--trust_remote_code_export"), "is for a model"),
        ((), "one of the arguments --model --dataset is required"),
    ],
)
def test_wrong_input_makes_nothing(arguments, message, hub, capsys):
    with client_here(hub), pytest.raises((ValueError, SystemExit)) as error:
        PUSH.main([*arguments, "--repo_id", "org/wrong"])
    assert message in f"{error.value}{capsys.readouterr().err}"
    assert not [name for name in hub.repositories if name.endswith("org/wrong")]
