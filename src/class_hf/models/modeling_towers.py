"""Builds the text tower and the molecule tower of a dual encoder."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from .argument_checks import check_fields
from .configuration_graph import MoleculeGraphConfig
from .configuration_text_molecule import (
    SHORT_NAMES,
    TOWER_CONFIGS,
    LexicalConfig,
    MoleculeFingerprintConfig,
    MoleculeFusedConfig,
)
from .modeling_bag import LexicalModel, MoleculeFingerprintModel
from .modeling_fused import MoleculeFusedModel
from .modeling_graph import MoleculeGraphModel

# This package's towers by `model_type`. They return the pooled vector, other towers return token states.
TOWER_MODELS: dict[str, type[PreTrainedModel]] = {
    LexicalConfig.model_type: LexicalModel,
    MoleculeFingerprintConfig.model_type: MoleculeFingerprintModel,
    MoleculeGraphConfig.model_type: MoleculeGraphModel,
    MoleculeFusedConfig.model_type: MoleculeFusedModel,
}
# What a transformer reads of a ragged batch.
TEXT_INPUTS = ("input_ids", "text_offsets")


def build_tower(config: PreTrainedConfig) -> PreTrainedModel:
    """Builds a tower with random weights in float32.

    Args:
        config: configuration of one of this package's towers or of any `AutoModel`.

    Returns:
        The tower, without a pooler.

    Example:

    >>> type(build_tower(LexicalConfig(num_buckets=10, hidden_size=4))).__name__
    'LexicalModel'
    """
    model_class = TOWER_MODELS.get(config.model_type)
    if model_class is not None:
        return model_class(config)
    return AutoModel.from_config(
        config, dtype=torch.float32, **_attention_argument(config), **_pooler_argument(config)
    )


def resolve_tower(tower: str | PreTrainedConfig | PreTrainedModel, **config_kwargs: Any) -> PreTrainedModel:
    """Returns a tower in float32, from any of the forms that `from_towers` accepts.

    Half-precision weights do not train. Autocast (`bf16=True`) gives the speed of half precision.

    Args:
        tower: a short name (`"lexical"`, `"fingerprint"`, `"graph"`, `"fused"`), a folder or a Hub id, a
            configuration, or a model, which is returned itself.
        **config_kwargs: fields of the tower's configuration; only with a name, a folder or a Hub id.

    Returns:
        The tower. It keeps the weights of a folder, a Hub id or a model, and has random weights otherwise.

    Raises:
        ValueError: if a field does not exist, or the configuration is fixed.

    Example:

    >>> resolve_tower("lexical", num_buckets=10, hidden_size=4).config.hidden_size
    4
    """
    if config_kwargs and not isinstance(tower, str):
        raise ValueError(
            f"the tower is a {type(tower).__name__}, whose configuration is fixed: {', '.join(config_kwargs)} has no "
            "effect. Pass the name of a tower, or leave the fields out."
        )
    if isinstance(tower, PreTrainedModel):
        return tower.float()
    if isinstance(tower, PreTrainedConfig):
        return build_tower(tower)
    if tower in SHORT_NAMES:
        config_class = TOWER_CONFIGS[SHORT_NAMES[tower]]
        check_fields(f"the tower {tower!r}", config_kwargs, [*config_class().to_dict(), "attn_implementation"])
        return build_tower(config_class(**config_kwargs))
    config = AutoConfig.from_pretrained(tower, **config_kwargs)
    model_class = TOWER_MODELS.get(config.model_type)
    if model_class is not None:
        return model_class.from_pretrained(tower, config=config, dtype=torch.float32)
    options = {**_attention_argument(config), **_pooler_argument(config)}
    return AutoModel.from_pretrained(tower, config=config, dtype=torch.float32, **options)


def check_tower_inputs(tower: Any, inputs: Iterable[str]) -> None:
    """Refuses inputs that a tower does not read, such as those of the processor of another model.

    Args:
        tower: one of this package's towers, or a transformer.
        inputs: names of the tensors, without a prefix.

    Raises:
        ValueError: if a name is missing or not read.

    Example:

    >>> tower = build_tower(LexicalConfig(num_buckets=10, hidden_size=4))
    >>> check_tower_inputs(tower, ["input_ids", "attention_mask"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: LexicalModel reads input_ids, text_offsets, but the batch has input_ids, attention_mask. Prepare ...
    """
    names, optional = list(inputs), getattr(tower, "optional_input_names", ())
    reads = getattr(tower, "input_names", None)
    if reads is None:  # a transformer; it checks further names itself
        if "input_ids" in names or "inputs_embeds" in names:
            return
        reads = TEXT_INPUTS
    elif not [name for name in reads if name not in names]:
        if not [name for name in names if name not in reads and name not in optional]:
            return
    raise ValueError(
        f"{type(tower).__name__} reads {', '.join([*reads, *optional])}, but the batch has {', '.join(names)}. "
        "Prepare it with the model's own processor."
    )


def _attention_argument(config: PreTrainedConfig) -> dict[str, str]:
    """The argument that selects eager attention on a CPU, unless the configuration names an implementation.

    On CPUs with matrix units eager attention trains on captions of about 100 tokens 1.5 times as fast as SDPA. On
    other CPUs both are equally fast. On an accelerator transformers' default, SDPA, stays.
    """
    is_named = getattr(config, "_attn_implementation", None) is not None
    return {} if is_named or torch.accelerator.is_available() else {"attn_implementation": "eager"}


def _pooler_argument(config: PreTrainedConfig) -> dict[str, bool]:
    """The argument that leaves out the pooler, for model classes that have one.

    Mean pooling never trains the pooler, and DDP fails on parameters without a gradient.
    """
    model_class = AutoModel._model_mapping.get(type(config), None)
    if isinstance(model_class, type) and "add_pooling_layer" in inspect.signature(model_class).parameters:
        return {"add_pooling_layer": False}
    return {}
