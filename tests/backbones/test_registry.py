"""A backbone of the user's own is one file, named in a recipe or registered in a process."""

import json
import runpy
import sys

import pytest
import yaml
from conftest import rows_of_pairs

from class_hf.backbones import registry
from class_hf.backbones.registry import BACKBONES, Backbone, build_loss, build_model, find_backbone, register_backbone
from class_hf.config import arguments
from class_hf.config.arguments import BACKBONE_NAMES, ModelArguments
from class_hf.config.recipe_files import recipes_folder


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The file of the docstring of `Backbone`, on the path."""
    lines = [line.strip() for line in Backbone.__doc__.splitlines()]
    code = [
        line[4:]
        for line in lines[: lines.index('>>> register_backbone("counts", counts)')]
        if line[:3] in (">>>", "...")
    ]
    (tmp_path / "my_backbones.py").write_text("\n".join(code) + "\nnumber = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_backbones", raising=False)
    return "my_backbones"


def test_names_of_the_arguments_are_those_of_the_registry():
    assert list(BACKBONES) == BACKBONE_NAMES


def test_a_named_backbone_builds_model_processor_and_loss(module):
    given = ModelArguments(backbone=f"{module}:counts", dual_encoder_config='{"projection_dim": 8}')
    model, processor = build_model(given)
    output = model(**processor(text=["An acid.", "An amine."], smiles=["CCO", "CCN"]))
    assert output["text_embeds"].shape == output["molecule_embeds"].shape == (2, 8)
    assert build_loss(given, label_smoothing=0.25).label_smoothing == 0.25


def test_a_saved_model_of_a_named_backbone_is_continued(module, tmp_path):
    given = ModelArguments(backbone=f"{module}:counts", dual_encoder_config='{"projection_dim": 8}')
    model, processor = build_model(given)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    loaded, _ = build_model(ModelArguments(backbone=f"{module}:counts", model_name_or_path=str(tmp_path / "saved")))
    for name, value in model.state_dict().items():
        assert value.equal(loaded.state_dict()[name]), name


def test_a_registered_name(module, monkeypatch):
    # The example in the docstring registers this name for the whole process.
    monkeypatch.setattr(registry, "BACKBONES", {name: BACKBONES[name] for name in BACKBONES if name != "counts"})
    for owner in (registry, arguments):
        names = [name for name in BACKBONE_NAMES if name != "counts"]
        monkeypatch.setattr(owner, "BACKBONE_NAMES", names, raising=False)
    backbone = find_backbone(f"{module}:counts")
    register_backbone("counts", backbone)
    assert find_backbone("counts") is backbone
    with pytest.raises(ValueError, match="there is already a backbone 'orma'"):
        register_backbone("orma", backbone)


def test_wrong_backbones(module):
    with pytest.raises(ValueError, match="unknown backbone 'dual_encodr'; did you mean 'dual_encoder'"):
        ModelArguments(backbone="dual_encodr")
    with pytest.raises(ValueError, match="'my_backbones:number' is a int; expected a class_hf.backbones.registry"):
        build_model(ModelArguments(backbone=f"{module}:number"))
    with pytest.raises(ImportError, match="there is no module 'no_such_module'"):
        build_model(ModelArguments(backbone="no_such_module:x"))


def test_train_runs_a_named_backbone(module, tmp_path):
    rows = rows_of_pairs(24)
    lines = ["CID\tSMILES\tsplit\thas_description"]
    for split, indices in {"train": range(16), "validation": range(16, 24)}.items():
        pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
        (tmp_path / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
        lines += [f"{1000 + i}\t{rows['smiles'][i]}\t{split}\t1" for i in indices]
    (tmp_path / "molecules.tsv").write_text("\n".join(lines) + "\n")
    recipe = {
        "backbone": f"{module}:counts", "data_dir": str(tmp_path), "curriculum_order": "random", "use_cpu": True,
        "per_device_train_batch_size": 4, "num_train_epochs": 2, "save_strategy": "no", "report_to": "none",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    runpy.run_path(str(recipes_folder() / "train.py"), run_name="train_recipe")["main"](
        [str(tmp_path / "recipe.yaml"), "--output_dir", str(tmp_path / "out")]
    )
    pools = json.loads((tmp_path / "out" / "metrics.json").read_text())["pools"]
    assert 0 < pools["full"]["text_to_molecule"]["mrr"] <= 1
