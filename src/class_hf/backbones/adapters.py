"""Adapters of peft on the towers of a dual encoder: put on, saved, loaded onto their base, merged into it."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from peft import PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import CONFIG_NAME, ModulesToSaveWrapper, get_peft_model_state_dict, load_peft_weights
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import cached_file

from class_hf.config.parsing import check_fields
from class_hf.hub.loading import package_model
from class_hf.models.configuration_text_molecule import SHORT_NAMES
from class_hf.models.modeling_towers import resolve_tower
from class_hf.utils.files import write_json, write_text
from class_hf.utils.suggestions import did_you_mean

BASE_NAME = "dual_encoder.json"  # beside an adapter whose base is not one dual encoder but the towers of one
# A missing file is no error.
_MAYBE: dict[str, Any] = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
}

# What this module sets itself, or what has no meaning for a tower.
_OWN_FIELDS = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "modules_to_save", "peft_type", "peft_version",
    "revision", "task_type",
}  # fmt: skip
_REFUSED = {
    "ADALORA": "it moves its budget between layers by a state that no checkpoint holds; take LORA.",
    "LILY": "its layers cannot be merged into the tower.",
    "POLY": "it needs task ids.",
    "SHADOW": "it needs a language model.",
}


def add_adapters(
    model: PreTrainedModel, text: Mapping[str, Any] | None = None, molecule: Mapping[str, Any] | None = None
) -> PeftModel:
    """Puts an adapter on one tower or on both; the towers' own weights no longer learn.

    All else that learned before learns on and is saved with the adapter (`modules_to_save` of peft): projections, the
    factor of the logits, and the tower without an adapter. The whole dual encoder is wrapped, since an adapter of
    the inner tower alone would be saved without them and load with wrong outputs.

    Args:
        model: a dual encoder; it is changed in place.
        text, molecule: the adapter of that tower: `peft_type` and fields of that type's configuration. Names in
            `target_modules` count inside the tower: a list of (ends of) module names, a regular expression, or
            `"all-linear"`, which is the default. If both towers have one, they may differ in `target_modules` only.

    Returns:
        the wrapped model; `forward`, `get_text_features` and the rest work as before.

    Raises:
        ValueError: if a type, field or module is not known, a type does not fit a tower, or the tower is frozen.

    Example:

    ```python
    model = TextMoleculeDualEncoderModel.from_pretrained("ORG/NAME")
    model = add_adapters(model, text={"peft_type": "LORA", "r": 8})
    ```
    """
    given = {side: dict(one) for side, one in (("text", text), ("molecule", molecule)) if one}
    if not given:
        raise ValueError("no adapter is given: name one for `text`, `molecule` or both.")
    patterns, others = [], []
    for side, fields in given.items():
        if getattr(model.config, f"freeze_{side}", False):
            raise ValueError(
                f"{side}_adapter and freeze_{side} exclude each other: a frozen tower learns nothing. Leave out "
                f"freeze_{side}; beside an adapter the tower's own weights do not learn."
            )
        patterns.append(_pattern(model, side, fields.pop("target_modules", "all-linear")))
        others.append(fields)
    if others[0] != others[-1]:
        raise ValueError(
            f"text_adapter and molecule_adapter differ in more than target_modules: {others[0]} and {others[-1]}. "
            "One adapter serves both towers: give them the same fields."
        )
    config = _peft_config(f"{next(iter(given))}_adapter", others[0], patterns, _learning_besides(model, given))
    with _without_deprecation():
        wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


@contextmanager
def _without_deprecation() -> Iterator[None]:
    """peft asks for a property of transformers by its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def _peft_config(name: str, fields: dict[str, Any], patterns: list[str], modules_to_save: list[str]) -> PeftConfig:
    """The configuration object of the adapter that a recipe describes."""
    kind = str(fields.get("peft_type", "")).upper()
    classes = {str(getattr(one, "value", one)): cls for one, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    kinds = sorted(one for one, cls in classes.items() if _fits_towers(cls) and one not in _REFUSED)
    if kind not in kinds:
        reason = _REFUSED.get(kind)
        if reason is None and kind in classes:
            reason = "it changes what a whole language model reads, not the layers of a tower."
        if reason is None:
            reason = did_you_mean(kind, kinds)
        raise ValueError(f"{name} has the peft_type {fields.get('peft_type')!r}: {reason}")
    cls = classes[kind]
    known = set(cls.__dataclass_fields__) - _OWN_FIELDS | {"peft_type"}
    check_fields(name, fields, known | {"target_modules"})
    values = {key: value for key, value in fields.items() if key != "peft_type"}
    pattern = patterns[0] if len(patterns) == 1 else "|".join(f"(?:{one})" for one in patterns)
    try:
        return cls(target_modules=pattern, modules_to_save=modules_to_save, **values)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def _fits_towers(cls: Any) -> bool:
    return {"target_modules", "modules_to_save"} <= set(cls.__dataclass_fields__)


def _pattern(model: nn.Module, side: str, wanted: Any) -> str:
    """Regular expression of the full names of the tower's modules that the adapter goes to.

    Raises:
        ValueError: if it matches none.
    """
    prefix = f"{side}_model"
    tower = getattr(model, prefix)
    names = [name for name, _ in tower.named_modules() if name]
    if wanted == "all-linear":
        linear = [name for name, module in tower.named_modules() if isinstance(module, nn.Linear)]
        ends = sorted({name.rpartition(".")[2] for name in linear})
        # By their last names if those are names of linear layers only, as a reader of the file would write it.
        short = rf"(?:.*\.)?(?:{'|'.join(map(re.escape, ends))})"
        exact = {name for name in names if re.fullmatch(short, name)} == set(linear)
        wanted = short if exact else "|".join(map(re.escape, linear))
    elif isinstance(wanted, (list, tuple)) and all(isinstance(name, str) for name in wanted):
        wanted = rf"(?:.*\.)?(?:{'|'.join(map(re.escape, wanted))})"
    elif not isinstance(wanted, str):
        raise ValueError(f"target_modules of {side}_adapter is {wanted!r}; expected names, a pattern, or all-linear.")
    if not wanted or not any(re.fullmatch(wanted, name) for name in names):
        ends = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
        raise ValueError(
            f"target_modules of {side}_adapter match no module of the {side} tower. Ends of their names: "
            f"{', '.join(ends)}."
        )
    return rf"{prefix}\.(?:{wanted})"


def _learning_besides(model: nn.Module, sides: Mapping[str, Any]) -> list[str]:
    """Names of the parts of the model that learn and have no adapter."""
    adapted = {f"{side}_model" for side in sides}
    parts = [
        name
        for name, part in model.named_children()
        if name not in adapted and any(parameter.requires_grad for parameter in part.parameters())
    ]
    # peft takes the ends of names for the names.
    for name, _ in model.named_modules():
        if name not in parts and name.endswith(tuple(parts)):
            raise ValueError(
                f"the tower's module {name!r} has the name of a part of the dual encoder; peft mixes them."
            )
    return parts


def trainable_parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters that learn, and all that the model computes with, in that order.

    >>> trainable_parameters(nn.Linear(2, 3))
    (9, 9)
    """
    # The originals of what is saved with an adapter are kept, but take no part.
    counted = {name: one for name, one in model.named_parameters() if ".original_module." not in name}
    return sum(one.numel() for one in counted.values() if one.requires_grad), sum(
        one.numel() for one in counted.values()
    )


def towers_of_base(model: PeftModel, towers: Mapping[str, str]) -> dict[str, str]:
    """The towers from which the base of an adapter is built again: those that are not in the adapter as a whole.

    Args:
        model: from [`add_adapters`].
        towers: name of each tower that training began with: `{"text": ..., "molecule": ...}`.

    Raises:
        ValueError: if one of them began at random, for then nobody can build the base.
    """
    kept = model.peft_config["default"].modules_to_save
    names = {side: name for side, name in towers.items() if f"{side}_model" not in kept}
    for side, name in names.items():
        if name in SHORT_NAMES:
            raise ValueError(
                f"the {side} tower {name!r} begins at random and would not learn as a whole, so that the adapter "
                "would be worth nothing without those random weights. Begin with a trained dual encoder "
                f"(model_name_or_path) or a pretrained tower, or leave out {side}_adapter or freeze_{side}."
            )
    return names


def save_adapter(
    model: PeftModel, folder: str | Path, *, base: str | Mapping[str, str], processor: Any = None
) -> None:
    """Writes an adapter so that [`load_adapter`] finds its base.

    Args:
        model: from [`add_adapters`].
        folder: gets `adapter_config.json`, `adapter_model.safetensors` and a card.
        base: folder or Hub id of the dual encoder that training began with; or, if it began with towers that were
            never one model, the name of each: `{"text": ..., "molecule": ...}`. Then [`BASE_NAME`] says how the base
            is built from them, and the adapter holds all that they do not.
        processor: saved beside it, if given.

    Raises:
        ValueError: see [`towers_of_base`].
    """
    folder = Path(folder)
    names = {"dual encoder": base} if isinstance(base, str) else towers_of_base(model, base)
    # Known only now: in the checkpoints of a run peft would ask the Hub for it each time.
    config = model.peft_config["default"]
    config.base_model_name_or_path = next(iter(names.values()))
    model.save_pretrained(str(folder), save_embedding_layers=False)
    if not isinstance(base, str):
        write_json(folder / BASE_NAME, {"towers": names, "config": model.config.to_dict()})
    if processor is not None:
        processor.save_pretrained(folder)
    write_text(folder / "README.md", _card(config, names))


def _card(config: PeftConfig, bases: Mapping[str, str]) -> str:
    """A card whose metadata the Hub accepts: peft's own names folders of this machine as base models."""
    on_hub = [name for name in bases.values() if ":" not in name and not Path(name).exists()]
    data = ModelCardData(
        library_name="peft",
        base_model=on_hub or None,
        pipeline_tag="feature-extraction",
        tags=["chemistry", "class_hf", str(config.peft_type.value).lower(), "molecules", "text-molecule-retrieval"],
    )
    base = " and ".join(f"the {side} `{name}`" for side, name in bases.items())
    return str(ModelCard(_CARD.format(data=data.to_yaml(), kind=config.peft_type.value, base=base)))


_CARD = """---
{data}
---

# Adapter of a text-molecule dual encoder

A {kind} adapter on {base}, trained with `class_hf`. It holds what was learnt besides as well, such as the projections.

```python
from class_hf.backbones.adapters import load_adapter, merge_adapter
from transformers import AutoProcessor

folder = "."  # or the id of this repository
model = load_adapter(folder).eval()
processor = AutoProcessor.from_pretrained(folder)
outputs = model(**processor(text=["The molecule is a primary alcohol."], smiles=["CCO", "c1ccccc1"]))
scores = outputs.text_embeds @ outputs.molecule_embeds.T  # cosines, (1, 2)
merged = merge_adapter(model)  # a plain model, to be saved and served
```
"""


def load_adapter(
    name: str | Path,
    base: str | Path | PreTrainedModel | None = None,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    is_trainable: bool = False,
) -> PeftModel:
    """A dual encoder with its adapter.

    Args:
        name: folder or Hub id of the adapter.
        base: what it goes on: a dual encoder, its folder or its Hub id. None takes the one that the adapter names, or
            builds it from the towers that it names.
        subfolder: of `name`, such as `adapter`.
        revision: of the adapter, on the Hub.
        is_trainable: whether the adapter is to learn on.

    Raises:
        ValueError: if there is no adapter, or it does not fit the base.
        OSError: if the base is not to be found.

    Example:

    ```python
    model = load_adapter("outputs/finetuned/adapter")
    ```
    """
    place = {"subfolder": subfolder, "revision": revision}
    name = str(name)
    if cached_file(name, CONFIG_NAME, subfolder=subfolder or "", revision=revision, **_MAYBE) is None:
        raise ValueError(f"{name!r} holds no adapter (no {CONFIG_NAME}). Give the folder `adapter` of a training run.")
    config = PeftConfig.from_pretrained(name, **place)
    if base is None:
        towers = cached_file(name, BASE_NAME, subfolder=subfolder or "", revision=revision, **_MAYBE)
        base = config.base_model_name_or_path if towers is None else _built(json.loads(Path(towers).read_text()))
    if base is None:
        raise ValueError(f"the adapter {name!r} does not say what it goes on: pass base=, a dual encoder.")
    where = type(base).__name__ if isinstance(base, nn.Module) else repr(str(base))
    model = base if isinstance(base, nn.Module) else AutoModel.from_pretrained(str(base))
    try:
        with _without_deprecation():
            adapted = PeftModel.from_pretrained(model, name, is_trainable=is_trainable, **place)
        # peft leaves out, without an error, what the base has no place for.
        lost = load_peft_weights(name, device="cpu", **place).keys() - _saved_names(adapted)
        if lost:
            raise ValueError(f"the base has no place for {len(lost)} of its tensors, for instance {min(lost)}.")
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the adapter {name!r} does not fit the base {where}: {error}") from error
    return adapted


def _saved_names(model: PeftModel) -> set[str]:
    """Names under which peft saves the adapter's tensors."""
    return set(get_peft_model_state_dict(model, save_embedding_layers=False))


def _built(description: dict[str, Any]) -> PreTrainedModel:
    """The base that [`BASE_NAME`] describes: its towers as named, the rest at random, for the adapter holds it."""
    model = AutoModel.from_config(AutoConfig.for_model(**description["config"]))
    for side, name in description["towers"].items():
        tower = resolve_tower(package_model(name))
        getattr(model, f"{side}_model").load_state_dict(tower.state_dict())
    return model


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """The plain dual encoder with the adapter in its weights; `model` must not be used afterwards."""
    inner = model.get_base_model()
    # peft's own merge takes each of these for one layer with a `weight`, which a tower is not.
    for name, part in list(inner.named_children()):
        if isinstance(part, ModulesToSaveWrapper):
            setattr(inner, name, part.modules_to_save[model.active_adapter])
    return model.merge_and_unload()


def check_same_adapter(model: PeftModel, checkpoint: str | Path) -> None:
    """A resumed run must go on with the adapter that it began with.

    Raises:
        ValueError: if the checkpoint has none or another one; names the fields that differ.
    """
    if not (Path(checkpoint) / CONFIG_NAME).is_file():
        raise ValueError(f"{checkpoint} was made without an adapter. Resume without, or start anew in another folder.")
    then, now = (_comparable(one) for one in (PeftConfig.from_pretrained(checkpoint), model.peft_config["default"]))
    differences = [f"{key} {then.get(key)!r} -> {now[key]!r}" for key in now if then.get(key) != now[key]]
    if differences:
        raise ValueError(
            f"{checkpoint} was made with another adapter ({', '.join(differences)}). Resume with the one it began "
            "with, or start anew in another output_dir."
        )


def _comparable(config: PeftConfig) -> dict[str, Any]:
    fields = {key: value for key, value in config.to_dict().items() if key not in _OWN_FIELDS - {"modules_to_save"}}
    return json.loads(json.dumps(fields, sort_keys=True, default=lambda value: sorted(map(str, value))))
