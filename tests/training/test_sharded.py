"""Towers split among processes (FSDP2, DeepSpeed) train, are saved and resume as whole ones, by the recipes' configs.

accelerate offers FSDP to accelerators only, though torch splits on a CPU by the same code; told that the processes
have GPUs, it goes ahead.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import rows_of_pairs
from recipe_scripts import load_recipe_script
from run_forked import launched_environments, run_processes, run_script
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))


def shard_on_cpu() -> None:
    """Makes accelerate believe that the processes of this run have GPUs; their device stays the CPU."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    begin = PartialState.__init__

    def pretend(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = pretend


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """16 training and 5 validation pairs: an odd number, so that two processes have unequal shares."""
    folder = tmp_path_factory.mktemp("data")
    rows = rows_of_pairs(24)
    pool = ["CID\tSMILES\tsplit\thas_description"]
    for split, indices in {"train": range(16), "validation": range(16, 21), "test": range(21, 24)}.items():
        pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
        (folder / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
        pool += [f"{1000 + i}\t{rows['smiles'][i]}\t{split}\t1" for i in indices]
    (folder / "molecules.tsv").write_text("\n".join(pool) + "\n")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, data_dir) -> Path:
    """A recipe with a tiny BERT and a tiny graph tower, without dropout: each process would draw its own."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("recipe")
    words = sorted({word.strip(",.").lower() for text in rows_of_pairs(24)["description"] for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", *words]
    BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)}).save_pretrained(folder / "bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes, **dropout)).save_pretrained(folder / "bert")
    path = folder / "tiny.yaml"
    values = {
        "data_dir": str(data_dir),
        "text_model": str(folder / "bert"),
        "molecule_model": "graph",
        "molecule_config": {"hidden_size": 16, "num_layers": 2, "dropout": 0.0},
        # One caption at a time: a layer of the text tower runs several times in a forward pass.
        "dual_encoder_config": {"projection_dim": 8, "tower_chunk_size": 1},
        "difficulty_definition": ["complexity"],
        "num_train_epochs": 3,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        # Ranked before the first step: weights that are gathered without a gradient must be trainable afterwards.
        "eval_on_start": True,
    }
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, recipe) -> Path:
    """The run of one process, at the same global batch of 4."""
    output = tmp_path_factory.mktemp("whole")
    batches = ["--per_device_train_batch_size", "4", "--per_device_eval_batch_size", "4"]
    load_recipe_script("train").main([str(recipe), "--output_dir", str(output), "--use_cpu", "true", *batches])
    return output


def train_split(config: str, *words: str) -> None:
    """One of the processes: the recipe as a script."""
    if config == "fsdp2":
        shard_on_cpu()
    run_script(f"{ROOT}/recipes/train.py", *words)


def launch(config: str, recipe: Path, output: Path, *arguments: str) -> None:
    """Runs the recipe with two processes on CPUs, in float32, in the environment that `accelerate launch` makes."""
    options = ["--config_file", f"recipes/accelerate/{config}.yaml", "--num_processes", "2"]
    environments = launched_environments(*options, "--mixed_precision", "no", "--main_process_port", "0")
    words = [str(recipe), "--output_dir", str(output), "--per_device_train_batch_size", "2"]
    words += ["--per_device_eval_batch_size", "2", *arguments]
    for done in run_processes(
        train_split, config, *words, environments=environments, environment={"DS_ACCELERATOR": "cpu"}
    ):
        assert done.returncode == 0, done.stderr


def metrics_of(path: Path) -> dict:
    """Rank metrics by pool and direction."""
    names = ("hits@1", "hits@10", "mrr", "mean_rank", "queries", "candidates")
    pools = json.loads(path.read_text())["pools"]
    return {
        (pool, direction): [values[name] for name in names]
        for pool, directions in pools.items()
        for direction, values in directions.items()
    }


SPLIT = {
    # FSDP2 resumes with cached gradients, which change the memory only. DeepSpeed allows one backward pass per step.
    "fsdp2": (("--forward_chunk_size", "1"), 1e-4),
    "deepspeed": ((), 0.0),
}
without_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the extra `deepspeed`")


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("config", ("fsdp2", pytest.param("deepspeed", marks=without_deepspeed)))
def test_split_towers_train_as_whole_ones(config, whole, recipe, data_dir, tmp_path):
    output = tmp_path / "split"
    launch(config, recipe, output)
    split = load_file(output / "model.safetensors")
    torch.testing.assert_close(split, load_file(whole / "model.safetensors"), rtol=0, atol=1e-4)
    assert metrics_of(output / "metrics.json") == metrics_of(whole / "metrics.json")
    assert json.loads((output / "config.json").read_text())["architectures"] == ["TextMoleculeDualEncoderModel"]

    # One process loads what was saved, and finds the same.
    arguments = ["--model", output, "--data_dir", data_dir, "--output", tmp_path / "metrics.json"]
    load_recipe_script("evaluate").main([str(argument) for argument in arguments])
    assert metrics_of(tmp_path / "metrics.json") == metrics_of(output / "metrics.json")

    # As if killed in the last epoch.
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)
    for name in ("model.safetensors", "train_summary.json"):
        (output / name).unlink()
    arguments, tolerance = SPLIT[config]
    launch(config, recipe, output, "--resume_from_checkpoint", "true", *arguments)
    torch.testing.assert_close(load_file(output / "model.safetensors"), split, rtol=0, atol=tolerance)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_knows_every_field_of_a_config(path):
    """Its loader refuses unknown fields, except in the blocks of FSDP and DeepSpeed, which it takes as they are."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(path))
    arguments = vars(launch_command_parser().parse_args(["--config_file", str(path), "recipes/train.py"]))
    assert set(config.fsdp_config) | set(config.deepspeed_config) <= set(arguments)
