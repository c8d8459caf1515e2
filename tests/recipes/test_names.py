"""A model that reads the names in captions: trained, evaluated, indexed and searched as a user does it."""

import json
from pathlib import Path

import pytest
import torch
from conftest import CHAINS, rows_of_pairs
from recipe_scripts import load_recipe_script

from class_hf.config.command import USER_ERRORS
from class_hf.hub.loading import load_model
from class_hf.models import chemical_names

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

ROOT = Path(__file__).parents[2]
TOWER = '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}'
# What OPSIN would read in the hand-written captions.
READ = {f"{chain}{end}": form.format(smiles) for chain, smiles in CHAINS.items()
        for end, form in (("ol", "{}O"), ("amine", "{}N"), ("oic acid", "{}C(=O)O"), ("thiol", "{}S"))}  # fmt: skip


TRAIN, EVALUATE, INDEX, SEARCH = map(load_recipe_script, ("train", "evaluate", "index", "search"))


@pytest.fixture(autouse=True)
def opsin(monkeypatch):
    monkeypatch.setattr(chemical_names, "_ask_opsin", lambda names: [READ.get(name, "") for name in names])
    monkeypatch.setattr(chemical_names, "_CACHE", {})
    monkeypatch.setattr(chemical_names, "look_up", lambda names: {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder, rows = tmp_path_factory.mktemp("names"), rows_of_pairs(24)
    for split, indices in {"train": range(0, 24, 2), "validation": range(1, 24, 2)}.items():
        pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
        (folder / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
    return folder


def train(folder: Path, output: Path, **kwargs) -> dict:
    settings = {
        "data_dir": folder, "output_dir": output, "text_model": "lexical", "read_names": "true", "text_config": TOWER,
        "molecule_config": TOWER, "per_device_train_batch_size": 4, "num_train_epochs": 30, "learning_rate": 1e-2,
        "curriculum_order": "random", "use_cpu": "true", "report_to": "none", "logging_steps": 50,
    }  # fmt: skip
    recipe = folder / "tiny.yaml"
    recipe.write_text("molecule_model: fingerprint\n")
    TRAIN.main(
        [str(recipe), *(str(word) for key, value in {**settings, **kwargs}.items() for word in (f"--{key}", value))]
    )
    return json.loads((output / "metrics.json").read_text())["pools"]["split"]["text_to_molecule"]


def test_trained_evaluated_and_searched(folder, tmp_path, capsys):
    named = train(folder, tmp_path / "named")
    plain = train(folder, tmp_path / "plain", read_names="false")
    # The captions of the validation pairs name their very molecules, by words never seen in training.
    assert named["mrr"] > plain["mrr"] + 0.1

    EVALUATE.main(
        ["--model", str(tmp_path / "named"), "--data_dir", str(folder), "--output", str(tmp_path / "m.json")]
    )
    again = json.loads((tmp_path / "m.json").read_text())["pools"]["split"]["text_to_molecule"]
    assert again["mrr"] == pytest.approx(named["mrr"], abs=1e-6)

    index = str(tmp_path / "index")
    INDEX.main(["--model", str(tmp_path / "named"), "--data_dir", str(folder), "--output_dir", index])
    capsys.readouterr()
    query = "The molecule is a thiol, hexanethiol."
    SEARCH.main([query, "--k", "24", "--json", "--index", index])
    scores = {hit["smiles"]: hit["score"] for hit in json.loads(capsys.readouterr().out)}
    model, processor = load_model(str(tmp_path / "named"))
    with torch.no_grad():
        output = model(**processor(text=query, smiles=list(scores)))
    expected = (output.text_embeds @ output.molecule_embeds.T)[0].tolist()
    assert list(scores.values()) == pytest.approx(expected, abs=1e-3)


def test_what_is_missing_is_said(folder, tmp_path, monkeypatch):
    def missing(names):
        raise OSError("the model reads chemical names by OPSIN, which needs Java")

    monkeypatch.setattr(chemical_names, "_ask_opsin", missing)
    with pytest.raises(USER_ERRORS, match="needs Java"):
        train(folder, tmp_path / "run", featurizer_config='{"radius": 1}')  # prepared again
    assert not (tmp_path / "run" / "train_summary.json").exists()
