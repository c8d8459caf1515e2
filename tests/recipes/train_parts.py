"""What the tests of `class-hf train` share: a folder with pairs, a recipe, and the script as a module."""

from pathlib import Path

import pytest
from conftest import rows_of_pairs
from recipe_scripts import load_recipe_script

ROOT = Path(__file__).parents[2]
TINY = {
    "text_config": '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}',
    "molecule_config": '{"embedding_size": 16, "hidden_size": 16, "intermediate_size": 16}',
    "per_device_train_batch_size": 4,
    "num_train_epochs": 3,
    "difficulty_definition": "complexity",
    "use_cpu": "true",
}


TRAIN = load_recipe_script("train")


def flags(**kwargs) -> list[str]:
    return [str(item) for name, value in {**TINY, **kwargs}.items() for item in (f"--{name}", value)]


def train(recipe: Path | str, *arguments: str, **kwargs) -> None:
    TRAIN.main([str(recipe), *arguments, *flags(**kwargs)])


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
