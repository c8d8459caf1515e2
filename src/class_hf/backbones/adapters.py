"""Adds peft adapters to the towers of a dual encoder, saves them, loads them and merges them."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import CONFIG_NAME, ModulesToSaveWrapper, get_peft_model_state_dict, load_peft_weights
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import cached_file

from class_hf.backbones.adapter_card import adapter_card
from class_hf.config.parsing import check_fields
from class_hf.hub.loading import OPTIONAL_FILE, load_weights, package_model, short_message
from class_hf.models.configuration_text_molecule import SHORT_NAMES
from class_hf.models.modeling_towers import resolve_tower
from class_hf.utils.files import write_json, write_text
from class_hf.utils.suggestions import did_you_mean

# Saved next to an adapter that was trained on two towers that were never saved as one dual encoder.
BASE_NAME = "dual_encoder.json"

# Fields that this module sets, or that have no meaning for a tower.
_RESERVED_FIELDS = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "modules_to_save", "peft_type", "peft_version",
    "revision", "task_type",
}  # fmt: skip
_REFUSED = {
    "ADALORA": "no checkpoint holds the state by which it moves its budget between layers. Use LORA.",
    "LILY": "its layers cannot be merged into the tower.",
    "POLY": "it needs task ids.",
    "SHADOW": "it needs a language model.",
}


def add_adapters(
    model: PreTrainedModel, text: Mapping[str, Any] | None = None, molecule: Mapping[str, Any] | None = None
) -> PeftModel:
    """Adds an adapter to one tower or to both. The weights of an adapted tower are no longer trained.

    All other weights that were trained before are still trained, and are saved with the adapter (peft's
    `modules_to_save`): the projections, the logit scale, and a tower without an adapter. The dual encoder is wrapped
    as a unit, because an adapter of an inner tower would be saved without them and would load with wrong outputs.

    Args:
        model (`PreTrainedModel`): a dual encoder. It is changed in place.
        text (`Mapping[str, Any]`, *optional*):
            Adapter of the text tower: `peft_type`, and fields of the peft configuration of that type. The names in
            `target_modules` are those inside the tower: a list of (ends of) module names, a regular expression, or
            `"all-linear"`, the default.
        molecule (`Mapping[str, Any]`, *optional*):
            Adapter of the molecule tower. If both towers have one, they may differ in `target_modules` only.

    Returns:
        `PeftModel`: the wrapped model. `forward`, `get_text_features` and the other methods work as before.

    Raises:
        ValueError: if a type, field or module is unknown, a type does not fit a tower, or the tower is frozen.

    >>> from class_hf import TextMoleculeDualEncoderModel
    >>> model = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint")
    >>> adapted = add_adapters(model, text={"peft_type": "LORA", "r": 8})
    >>> trainable_parameters(adapted)[0] < trainable_parameters(model)[1]
    True
    """
    adapters = {side: dict(fields) for side, fields in (("text", text), ("molecule", molecule)) if fields}
    if not adapters:
        raise ValueError("there is no adapter; expected one for `text`, `molecule` or both.")
    patterns, others = [], []
    for side, fields in adapters.items():
        if getattr(model.config, f"freeze_{side}", False):
            raise ValueError(
                f"{side}_adapter and freeze_{side} exclude each other. Remove freeze_{side}: with an adapter, the "
                "weights of the tower are not trained."
            )
        patterns.append(_pattern(model, side, fields.pop("target_modules", "all-linear")))
        others.append(fields)
    if others[0] != others[-1]:
        raise ValueError(
            f"text_adapter and molecule_adapter differ in more than target_modules: {others[0]} and {others[-1]}. "
            "Give both the same fields."
        )
    config = _peft_config(f"{next(iter(adapters))}_adapter", others[0], patterns, _trained_parts(model, adapters))
    with _ignore_peft_deprecation():
        wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


@contextmanager
def _ignore_peft_deprecation() -> Iterator[None]:
    """Hides a warning that peft causes: it reads a property of transformers by its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def _peft_config(name: str, fields: dict[str, Any], patterns: list[str], modules_to_save: list[str]) -> PeftConfig:
    """The peft configuration of an adapter; `name` is the argument that describes it, for errors."""
    kind = str(fields.get("peft_type", "")).upper()
    classes = {str(getattr(key, "value", key)): cls for key, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    kinds = sorted(key for key, cls in classes.items() if _fits_towers(cls) and key not in _REFUSED)
    if kind not in kinds:
        reason = _REFUSED.get(kind)
        if reason is None and kind in classes:
            reason = "it changes the input of a language model, not the layers of a tower."
        if reason is None:
            reason = did_you_mean(kind, kinds)
        raise ValueError(f"{name} has the peft_type {fields.get('peft_type')!r}: {reason}")
    cls = classes[kind]
    known = set(cls.__dataclass_fields__) - _RESERVED_FIELDS | {"peft_type"}
    check_fields(name, fields, known | {"target_modules"})
    values = {key: value for key, value in fields.items() if key != "peft_type"}
    pattern = patterns[0] if len(patterns) == 1 else "|".join(f"(?:{alternative})" for alternative in patterns)
    try:
        return cls(target_modules=pattern, modules_to_save=modules_to_save, **values)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def _fits_towers(cls: type[PeftConfig]) -> bool:
    """Whether a type of adapter changes chosen layers of any module."""
    return {"target_modules", "modules_to_save"} <= set(cls.__dataclass_fields__)


def _pattern(model: nn.Module, side: str, wanted: Any) -> str:
    """Regular expression of the full names of the modules of a tower that get the adapter.

    Raises:
        ValueError: if it matches no module.
    """
    prefix = f"{side}_model"
    tower = getattr(model, prefix)
    names = [name for name, _ in tower.named_modules() if name]
    if wanted == "all-linear":
        linear = [name for name, module in tower.named_modules() if isinstance(module, nn.Linear)]
        ends = sorted({name.rpartition(".")[2] for name in linear})
        # Shortened to the last parts of the names, where only linear layers have them.
        short = rf"(?:.*\.)?(?:{'|'.join(map(re.escape, ends))})"
        exact = {name for name in names if re.fullmatch(short, name)} == set(linear)
        wanted = short if exact else "|".join(map(re.escape, linear))
    elif isinstance(wanted, (list, tuple)) and all(isinstance(name, str) for name in wanted):
        wanted = rf"(?:.*\.)?(?:{'|'.join(map(re.escape, wanted))})"
    elif not isinstance(wanted, str):
        raise ValueError(
            f"target_modules of {side}_adapter is {wanted!r}; expected a list of names, a pattern, or all-linear."
        )
    if not wanted or not any(re.fullmatch(wanted, name) for name in names):
        ends = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
        raise ValueError(
            f"target_modules of {side}_adapter match no module of the {side} tower; expected ends of module names, "
            f"such as {', '.join(ends)}."
        )
    return rf"{prefix}\.(?:{wanted})"


def _trained_parts(model: nn.Module, sides: Mapping[str, Any]) -> list[str]:
    """Names of the parts of the model that are trained and get no adapter."""
    adapted = {f"{side}_model" for side in sides}
    parts = [
        name
        for name, part in model.named_children()
        if name not in adapted and any(parameter.requires_grad for parameter in part.parameters())
    ]
    for name, _ in model.named_modules():
        if name not in parts and name.endswith(tuple(parts)):
            raise ValueError(
                f"the module {name!r} of a tower has the name of a part of the dual encoder. peft identifies modules "
                "by the ends of their names, and would confuse the two."
            )
    return parts


def trainable_parameters(model: nn.Module) -> tuple[int, int]:
    """Counts the parameters of a model.

    Args:
        model: any model, with or without an adapter.

    Returns:
        The number of trained parameters, and the number of all parameters.

    >>> trainable_parameters(nn.Linear(2, 3))
    (9, 9)
    """
    # peft keeps the originals of `modules_to_save`, but the model does not use them.
    used = [parameter for name, parameter in model.named_parameters() if ".original_module." not in name]
    trained = sum(parameter.numel() for parameter in used if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in used)


def towers_of_base(model: PeftModel, towers: Mapping[str, str]) -> dict[str, str]:
    """Finds the towers that are needed to build the base of an adapter.

    Args:
        model: from [`add_adapters`].
        towers: name of each tower that training started from: `{"text": ..., "molecule": ...}`.

    Returns:
        The names of the towers whose weights are not saved with the adapter.

    Raises:
        ValueError: if such a tower started from random weights, so that its weights are lost.
    """
    kept = model.peft_config["default"].modules_to_save
    names = {side: name for side, name in towers.items() if f"{side}_model" not in kept}
    for side, name in names.items():
        if name in SHORT_NAMES:
            raise ValueError(
                f"the {side} tower {name!r} starts from random weights, which are neither trained nor saved with the "
                "adapter. Start from a trained dual encoder (model_name_or_path) or a pretrained tower, or remove "
                f"{side}_adapter or freeze_{side}."
            )
    return names


def save_adapter(
    model: PeftModel, folder: str | Path, *, base: str | Mapping[str, str], processor: Any = None
) -> None:
    """Saves an adapter so that [`load_adapter`] finds its base.

    Args:
        model: from [`add_adapters`].
        folder: gets `adapter_config.json`, `adapter_model.safetensors` and a model card.
        base: folder or Hub id of the dual encoder that training started from. If it started from two towers, the name
            of each: `{"text": ..., "molecule": ...}`; then `dual_encoder.json` records how to build the base, and the
            adapter holds all weights that the towers lack.
        processor: saved in the same folder.

    Raises:
        ValueError: see [`towers_of_base`].
    """
    folder = Path(folder)
    names = {"dual encoder": base} if isinstance(base, str) else towers_of_base(model, base)
    # Set here and not earlier: peft would look it up on the Hub at each checkpoint of a run.
    config = model.peft_config["default"]
    config.base_model_name_or_path = next(iter(names.values()))
    model.save_pretrained(str(folder), save_embedding_layers=False)
    if not isinstance(base, str):
        write_json(folder / BASE_NAME, {"towers": names, "config": model.config.to_dict()})
    if processor is not None:
        processor.save_pretrained(folder)
    write_text(folder / "README.md", adapter_card(config, names))


def load_adapter(
    name: str | Path,
    base: str | Path | PreTrainedModel | None = None,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    is_trainable: bool = False,
) -> PeftModel:
    """Loads an adapter onto its base.

    Args:
        name: folder or Hub id of the adapter.
        base: the dual encoder, its folder or its Hub id. By default the base that the adapter names, or a base that is
            built from the towers that it names.
        subfolder: of `name`, such as `adapter`.
        revision: of the adapter, on the Hub.
        is_trainable: whether the adapter can be trained further.

    Returns:
        The dual encoder with the adapter.

    Raises:
        ValueError: if there is no adapter, the base is not found or damaged, or the adapter does not fit the base.

    Example:

    ```python
    model = load_adapter("outputs/finetuned/adapter")
    ```
    """
    location = {"subfolder": subfolder, "revision": revision}
    name = str(name)
    if cached_file(name, CONFIG_NAME, subfolder=subfolder or "", revision=revision, **OPTIONAL_FILE) is None:
        raise ValueError(f"{name!r} holds no adapter (no {CONFIG_NAME}). Pass the folder `adapter` of a training run.")
    config = PeftConfig.from_pretrained(name, **location)
    if base is None:
        towers = cached_file(name, BASE_NAME, subfolder=subfolder or "", revision=revision, **OPTIONAL_FILE)
        base = config.base_model_name_or_path if towers is None else _build_base(json.loads(Path(towers).read_text()))
    if base is None:
        raise ValueError(f"the adapter {name!r} does not name its base; pass the dual encoder as base.")
    where = type(base).__name__ if isinstance(base, nn.Module) else repr(str(base))
    model = base if isinstance(base, nn.Module) else load_weights(str(base), argument="the base")
    try:
        with _ignore_peft_deprecation():
            adapted = PeftModel.from_pretrained(model, name, is_trainable=is_trainable, **location)
        # peft ignores tensors that have no place in the base.
        tensors = load_peft_weights(name, device="cpu", **location).keys()
        ignored, missing = tensors - _saved_names(adapted), _saved_names(adapted) - tensors
        if ignored:
            raise ValueError(f"{len(ignored)} tensors have no place in the base, such as {min(ignored)}.")
        if missing:
            raise ValueError(f"its file lacks {len(missing)} tensors, such as {min(missing)}.")
    except KeyError as error:
        raise ValueError(f"the adapter {name!r} does not fit the base {where}: its file lacks {error}.") from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the adapter {name!r} does not fit the base {where}: {short_message(error)}") from error
    return adapted


def _saved_names(model: PeftModel) -> set[str]:
    """Names under which peft saves the adapter's tensors."""
    return set(get_peft_model_state_dict(model, save_embedding_layers=False))


def _build_base(description: dict[str, Any]) -> PreTrainedModel:
    """Builds the base that `dual_encoder.json` describes. The weights that its towers lack come from the adapter."""
    model = AutoModel.from_config(AutoConfig.for_model(**description["config"]))
    for side, name in description["towers"].items():
        tower = resolve_tower(package_model(name))
        getattr(model, f"{side}_model").load_state_dict(tower.state_dict())
    return model


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """Merges an adapter into the weights of its base.

    Args:
        model: from [`add_adapters`] or [`load_adapter`]. It must not be used afterwards.

    Returns:
        The dual encoder without peft.
    """
    inner = model.get_base_model()
    # The merge of peft expects a layer with a `weight` in each of these; a tower has none.
    for name, part in list(inner.named_children()):
        if isinstance(part, ModulesToSaveWrapper):
            setattr(inner, name, part.modules_to_save[model.active_adapter])
    return model.merge_and_unload()


def check_same_adapter(model: nn.Module, checkpoint: str | Path) -> None:
    """Checks that a resumed run has the adapter of its checkpoint.

    Args:
        model: the model of the run. Without an adapter, nothing is checked.
        checkpoint: folder of the checkpoint.

    Raises:
        ValueError: if the checkpoint has no adapter or another one, with the fields that differ.
    """
    if not isinstance(model, PeftModel):
        return
    if not (Path(checkpoint) / CONFIG_NAME).is_file():
        raise ValueError(
            f"{checkpoint} was saved without an adapter. Resume without one, or choose another --output_dir."
        )
    saved = _comparable(PeftConfig.from_pretrained(checkpoint))
    current = _comparable(model.peft_config["default"])
    differences = [
        f"{key} {saved.get(key)!r} -> {value!r}" for key, value in current.items() if saved.get(key) != value
    ]
    if differences:
        raise ValueError(
            f"{checkpoint} was saved with another adapter ({', '.join(differences)}). Resume with the same adapter, "
            "or choose another --output_dir."
        )


def _comparable(config: PeftConfig) -> dict[str, Any]:
    """The fields of an adapter that decide its weights, as JSON values."""
    fields = {
        key: value for key, value in config.to_dict().items() if key not in _RESERVED_FIELDS - {"modules_to_save"}
    }
    return json.loads(json.dumps(fields, sort_keys=True, default=lambda value: sorted(map(str, value))))
