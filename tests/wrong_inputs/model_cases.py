"""Missing and damaged models."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from commands import TRAIN, content_of, copied, cut, recipe, removed
from safetensors.torch import load_file, save_file
from workshop import Case


def weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def config(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def _missing(tensors: dict[str, torch.Tensor]) -> None:
    tensors.pop(sorted(tensors)[0])


def _extra(tensors: dict[str, torch.Tensor]) -> None:
    tensors["unknown.weight"] = torch.zeros(2, 2)


def _shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["text_projection.weight"] = torch.zeros(3, 5)


def _nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["text_projection.weight"] = torch.full_like(tensors["text_projection.weight"], float("nan"))


def _renamed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["text_projektion.weight"] = tensors.pop("text_projection.weight")


MODELS: dict[str, Callable[[Path], None]] = {
    "no config": removed("config.json"),
    "empty config": content_of("config.json", ""),
    "config is a list": content_of("config.json", "[]"),
    "config is cut": cut("config.json", 50),
    "config of another model": content_of("config.json", '{"model_type": "bert"}'),
    "config of no model": content_of("config.json", '{"a": 1}'),
    "unknown type": config(model_type="nothing"),
    "wrong width": config(projection_dim=16),
    "width is text": config(projection_dim="wide"),
    "no weights": removed("model.safetensors"),
    "empty weights": content_of("model.safetensors", ""),
    "cut weights": cut("model.safetensors", 5000),
    "cut header": cut("model.safetensors", 20),
    "weights are text": content_of("model.safetensors", "hello" * 100),
    "missing tensor": weights(_missing),
    "extra tensor": weights(_extra),
    "wrong shape": weights(_shape),
    "renamed tensor": weights(_renamed),
    "NaN": weights(_nan),
    "no processor": removed("processor_config.json"),
    "empty processor": content_of("processor_config.json", ""),
    "no tokenizer": removed("tokenizer_config.json"),
    "empty tokenizer": content_of("tokenizer_config.json", ""),
}
# `NaN` weights have no wrong form. Their vectors are refused where they are used.
MODEL_COMMANDS = {
    "evaluate": ("--model", "{here}/model", "--data_dir", "{data}", "--output", "{out}/metrics.json"),
    "index": ("--model", "{here}/model", "--molecules", "{table}", "--output_dir", "{out}"),
    "search": ("An alcohol.", "--index", "{index}", "--model", "{here}/model"),
    "export": ("--model", "{here}/model", "--output_dir", "{out}", "--format", "sentence-transformers"),
}


def models() -> Iterator[Case]:
    """Models that are missing or damaged, for the commands that load one."""
    for command, words in MODEL_COMMANDS.items():
        for name, change in MODELS.items():
            if (command, name) == ("export", "NaN"):
                continue  # an export copies weights and computes nothing
            yield Case(f"{command}: model with {name}", command, words, "model|tensor|nan|config", copied(change))
        for name, path in (
            ("missing", "/no/such/model"),
            ("empty folder", "{here}"),
            ("file", "{table}"),
            ("Hub id", "nobody/nothing"),
            ("bad Hub id", "a/b/c d"),
            ("empty name", ""),
        ):
            changed_words = tuple(path if word == "{here}/model" else word for word in words)
            yield Case(f"{command}: model is {name}", command, changed_words, "model|a/b/c d|nobody|empty")
    for name, change in MODELS.items():
        if name not in ("NaN",):
            yield Case(
                f"train: continues from a model with {name}",
                "train",
                (*TRAIN, "--model_name_or_path", "{here}/model"),
                "model|tensor|config",
                lambda shop, here, change=change: (recipe(shop, here), copied(change)(shop, here))[0],
            )
