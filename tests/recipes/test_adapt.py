"""Recipes with adapters: what training leaves, going on from a trained model, and export, as a user runs them."""

import json
from pathlib import Path

import pytest
import torch
from conftest import rows_of_pairs, tiny_bert
from recipe_scripts import load_recipe_script
from run_forked import run_processes, run_script
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from class_hf.backbones.adapters import load_adapter
from class_hf.backbones.registry import build_loss, build_model
from class_hf.config.arguments import ModelArguments

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

ROOT = Path(__file__).parents[2]
TINY = '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}'
LORA = '{"peft_type": "LORA", "r": 4}'


TRAIN, EVALUATE, EXPORT = map(load_recipe_script, ("train", "evaluate", "export"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`data` as ChEBI-20's, 16 training and 4 validation pairs; `bert`; two recipes."""
    root = tmp_path_factory.mktemp("adapt")
    tiny_bert(root / "bert")
    rows, data = rows_of_pairs(20), root / "data"
    data.mkdir()
    lines = ["CID\tSMILES\tsplit\thas_description"]
    for split, indices in {"train": range(16), "validation": range(16, 20)}.items():
        pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
        (data / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
        lines += [f"{1000 + i}\t{rows['smiles'][i]}\t{split}\t1" for i in indices]
    (data / "molecules.tsv").write_text("\n".join(lines) + "\n")
    (root / "towers.yaml").write_text(
        f"text_model: {root / 'bert'}\nmolecule_model: fingerprint\nmolecule_config: {TINY}\nmax_text_length: 24\n"
        f"text_adapter: {LORA}\n"
    )
    (root / "go_on.yaml").write_text(f"model_name_or_path: {root / 'run'}\n")
    return root


def train(folder: Path, recipe: str, output: str, **kwargs) -> Path:
    settings = {
        "data_dir": folder / "data", "output_dir": folder / output, "per_device_train_batch_size": 4,
        "num_train_epochs": 2, "learning_rate": 1e-2, "curriculum_order": "random", "use_cpu": "true",
        "report_to": "none", **kwargs,
    }  # fmt: skip
    TRAIN.main(
        [str(folder / recipe), *(str(item) for name, value in settings.items() for item in (f"--{name}", value))]
    )
    return folder / output


@pytest.fixture(scope="module")
def run(folder) -> Path:
    """A run with an adapter on the text tower and a checkpoint at each second step."""
    return train(folder, "towers.yaml", "run", save_strategy="steps", save_steps=2)


def outputs(model, folder: Path) -> torch.Tensor:
    rows, processor = rows_of_pairs(6), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        output = model.eval()(**processor(text=rows["description"], smiles=rows["smiles"]))
    return torch.cat([output.text_embeds, output.molecule_embeds])


def test_a_text_tower_from_scratch(folder):
    """The tokenizer and the configuration stay, with other sizes; the weights are new, and those of the seed."""
    bert, sizes = str(folder / "bert"), '{"hidden_size": 24}'
    arguments = ModelArguments(text_model=bert, text_from_scratch=True, molecule_config=TINY, text_config=sizes)
    towers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model, processor = build_model(arguments)
        towers.append(model.text_model.state_dict())
    pretrained, _ = build_model(ModelArguments(text_model=bert, molecule_config=TINY))
    words = "embeddings.word_embeddings.weight"
    assert towers[0][words].shape == (len(processor.tokenizer), 24)
    assert pretrained.text_model.state_dict().keys() == towers[0].keys()
    assert torch.equal(towers[0][words], towers[1][words]) and not torch.equal(towers[0][words], towers[2][words])


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"text_model": "lexical"}, "text_model is 'lexical', text_adapter None"),
        ({"text_model": "bert", "text_adapter": LORA}, "text_model is 'bert', text_adapter '{\"peft_type"),
    ],
)
def test_nothing_to_leave_out(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ModelArguments(text_from_scratch=True, **kwargs)


def test_what_training_leaves(run, folder, tmp_path):
    merged = outputs(AutoModel.from_pretrained(run), run)
    adapted = outputs(load_adapter(run, subfolder="adapter"), run / "adapter")
    torch.testing.assert_close(adapted, merged, atol=1e-5, rtol=0)
    summary = json.loads((run / "train_summary.json").read_text())
    assert 0 < summary["trainable_parameters"] < summary["parameters"]
    assert "lora" in (run / "adapter" / "README.md").read_text() and "lora" not in (run / "config.json").read_text()
    EVALUATE.main(["--model", str(run), "--data_dir", str(folder / "data"), "--output", str(tmp_path / "m.json")])
    before = json.loads((run / "metrics.json").read_text())["pools"]["full"]["text_to_molecule"]
    assert json.loads((tmp_path / "m.json").read_text())["pools"]["full"]["text_to_molecule"]["mrr"] == before["mrr"]


def test_the_adapters_card_runs(run, monkeypatch):
    snippet = (run / "adapter" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(run / "adapter")
    names: dict = {}
    exec(snippet, names)
    assert names["scores"].shape == (1, 2) and not hasattr(names["merged"], "peft_config")


def test_resumed_run(run, folder):
    """Killed after its second checkpoint and resumed, it leaves the same files; another adapter is refused."""
    killed = folder / "killed"
    train(folder, "towers.yaml", "killed", save_strategy="steps", save_steps=2)
    last = max(killed.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in (killed / "model.safetensors", killed / "adapter" / "adapter_model.safetensors"):
        path.unlink()
    (killed / "train_summary.json").unlink()
    (last / "trainer_state.json").unlink()
    for dry_run in ("true", "false"):
        with pytest.raises(ValueError, match=r"saved with another adapter \(r 4 -> 2\)"):
            train(folder, "towers.yaml", "killed", save_strategy="steps", save_steps=2, resume_from_checkpoint="true",
                  text_adapter='{"peft_type": "LORA", "r": 2}', dry_run=dry_run)  # fmt: skip
    train(folder, "towers.yaml", "killed", save_strategy="steps", save_steps=2, resume_from_checkpoint="true")
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        one, other = load_file(run / name), load_file(killed / name)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_resume_exactly(folder):
    output = folder / "two"
    arguments = {
        "data_dir": folder / "data", "output_dir": output, "per_device_train_batch_size": 2, "num_train_epochs": 2,
        "learning_rate": 1e-2, "curriculum_order": "random", "use_cpu": "true", "report_to": "none",
        "save_strategy": "steps", "save_steps": 2,
    }  # fmt: skip
    words = [ROOT / "recipes" / "train.py", folder / "towers.yaml"]
    words += [item for name, value in arguments.items() for item in (f"--{name}", value)]
    states = []
    for further in ([], ["--resume_from_checkpoint", "true"]):
        for done in run_processes(run_script, *map(str, words), *further):
            assert done.returncode == 0, done.stderr
        states.append(load_file(output / "adapter" / "adapter_model.safetensors"))
        last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        (last / "trainer_state.json").unlink()
        assert json.loads((output / "train_summary.json").read_text())["processes"] == 2
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("adapter", [None, "text_adapter", "molecule_adapter"])
def test_going_on_from_a_trained_model(run, folder, adapter):
    arguments = {adapter: LORA} if adapter else {}
    arguments["dual_encoder_config"] = '{"freeze_molecule": true}' if adapter == "text_adapter" else "{}"
    output = train(folder, "go_on.yaml", f"on_{adapter}", max_steps=2, **arguments)
    before, after = AutoModel.from_pretrained(run), AutoModel.from_pretrained(output)
    moved = {
        name.split(".")[0]
        for name, value in before.state_dict().items()
        if not torch.equal(after.state_dict()[name], value)
    }
    assert ("molecule_model" in moved) == (adapter != "text_adapter") and "text_model" in moved
    if adapter:
        config = json.loads((output / "adapter" / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(run)
        assert not (output / "adapter" / "dual_encoder.json").exists()
        adapted = outputs(load_adapter(output / "adapter"), output)
        torch.testing.assert_close(adapted, outputs(after, output), atol=1e-5, rtol=0)


def test_the_backbone_comes_with_the_model(tmp_path):
    model, processor = build_model(ModelArguments(backbone="aman", text_config=TINY, molecule_config=TINY))
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)

    arguments = ModelArguments(model_name_or_path=str(tmp_path), text_config='{"dropout": 0.3}')
    assert type(build_loss(arguments)).__name__ == "AmanLoss"
    assert build_model(arguments)[0].text_model.config.dropout == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"molecule_model": "graph"}, "Leave out molecule_model"),
        ({"backbone": "orma"}, "Leave out backbone"),
        ({"text_config": '{"dropou": 1}'}, "unknown field 'dropou'"),
        ({"dual_encoder_config": '{"projection_dim": 3}'}, "must keep the sizes of the trained model"),
        ({"model_name_or_path": "nobody/nothing"}, "neither a folder with a model nor reachable"),
        ({"model_name_or_path": "BERT"}, "is a 'bert', no trained dual encoder"),
    ],
)
def test_wrong_input_to_going_on(arguments, message, run, folder):
    given = {"model_name_or_path": str(run), **arguments}
    if given["model_name_or_path"] == "BERT":
        given["model_name_or_path"] = str(folder / "bert")
    with pytest.raises(ValueError, match=message):
        build_model(ModelArguments(**given))


def test_an_adapter_on_a_random_tower_is_refused_at_once(folder):
    with pytest.raises(ValueError, match="starts from random weights"):
        build_model(ModelArguments(text_adapter=LORA))


def export(*arguments) -> None:
    EXPORT.main([str(argument) for argument in arguments])


def test_export(run, tmp_path):
    export("--model", run / "adapter", "--output_dir", tmp_path / "merged", "--format", "merged")
    expected = outputs(AutoModel.from_pretrained(run), run)
    merged = outputs(AutoModel.from_pretrained(tmp_path / "merged"), tmp_path / "merged")
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=0)
    for model in (run, run / "adapter"):
        target = tmp_path / f"text_{model.name}"
        export("--model", model, "--output_dir", target, "--format", "sentence-transformers")
        sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra `test`")
        vectors = sentence_transformers.SentenceTransformer(str(target), device="cpu").encode(
            rows_of_pairs(6)["description"], convert_to_tensor=True
        )
        torch.testing.assert_close(vectors, expected[:6], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "RUN", "--format", "merged"), "holds no adapter to merge"),
        (("--model", "RUN", "--base", "RUN", "--format", "sentence-transformers"), "--base is for an adapter"),
        (("--model", "nobody/nothing", "--format", "merged"), "nobody/nothing"),
        (("--model", ROOT / "recipes", "--format", "sentence-transformers"), "holds neither a model"),
    ],
)
def test_wrong_input_to_export(arguments, message, run, tmp_path):
    given = [run if one == "RUN" else one for one in arguments]
    with pytest.raises(ValueError, match=message):
        export(*given, "--output_dir", tmp_path / "x")
    assert not list(tmp_path.iterdir())
