"""Every recipe parses; wrong input to `train` ends in one clear line."""

# ruff: noqa: F811 (fixtures)
import pytest
import yaml
from huggingface_hub.errors import StrictDataclassError
from run_forked import run_recipe
from train_parts import ROOT, TRAIN, data_dir, recipe, train  # noqa: F401

from class_hf.config.command import USER_ERRORS

# No test here looks at a picture, except those with the mark `pictures`.
pytestmark = pytest.mark.usefixtures("blank_pictures")

# A study names a recipe and its arms; tests/recipes/test_ablate.py reads it.
RECIPES = [path for path in sorted((ROOT / "recipes").glob("**/*.yaml")) if path.parent.name != "studies"]


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
