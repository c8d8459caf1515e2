"""From arguments to data, towers and processor: what the recipes share."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoProcessor, PreTrainedModel

from class_hf.backbones.dual_encoder import build_dual_encoder
from class_hf.backbones.orma import build_orma
from class_hf.backbones.text2mol import build_text2mol
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.hub.loading import model_errors
from class_hf.losses.aman import AmanLoss
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.losses.orma import OrmaLoss
from class_hf.losses.text2mol import Text2MolLoss
from class_hf.models.configuration_aman import AmanConfig
from class_hf.models.configuration_orma import OrmaConfig
from class_hf.models.configuration_text2mol import Text2MolConfig
from class_hf.models.configuration_text_molecule import (
    TextMoleculeDualEncoderConfig,
)
from class_hf.models.modeling_aman import AmanModel
from class_hf.models.processing_text_molecule import TextMoleculeProcessor


def build_loss(arguments: ModelArguments, *, label_smoothing: float = 0.0, seed: int = 0) -> nn.Module:
    """The loss of the backbone that the arguments name.

    Raises:
        ValueError: if an argument does not fit the loss.
    """
    loss, given = _BACKBONES[backbone_of(arguments)].loss, arguments.as_dict("loss_config")
    accepted = signature(loss.__init__).parameters
    check_fields("loss_config", given, accepted)
    if "label_smoothing" in accepted:
        given.setdefault("label_smoothing", label_smoothing)
    if "seed" in accepted:
        given.setdefault("seed", seed)
    return loss(**given)


def build_model(arguments: ModelArguments) -> tuple[Any, TextMoleculeProcessor]:
    """The backbone, with its adapter if there is to be one, and its processor, as the arguments describe them.

    Raises:
        ValueError: if an argument does not fit the towers.
    """
    if arguments.model_name_or_path is None:
        model, processor = _BACKBONES[arguments.backbone].build(arguments)
    else:
        model, processor = _load_trained(arguments.model_name_or_path, arguments)
    adapters = arguments.as_dict("text_adapter"), arguments.as_dict("molecule_adapter")
    if not any(adapters):
        return model, processor
    from class_hf.backbones.adapters import add_adapters, towers_of_base  # peft takes a second to import

    adapted = add_adapters(model, *adapters)
    if arguments.model_name_or_path is None:
        towers_of_base(adapted, arguments.towers())  # now, rather than after the training
    return adapted, processor


def backbone_of(arguments: ModelArguments) -> str:
    """Name of the backbone: that of the trained model if training goes on from one.

    Raises:
        ValueError: if the model is none of this package's dual encoders.
    """
    name = arguments.model_name_or_path
    if name is None:
        return arguments.backbone
    with model_errors("model_name_or_path", name):
        try:
            model_type = AutoConfig.from_pretrained(name).model_type
        except ValueError as error:  # a type that nobody knows, or a configuration that is none
            raise ValueError(f"model_name_or_path {name!r} is no trained dual encoder: {error}") from error
    for backbone, parts in _BACKBONES.items():
        if parts.model_type == model_type:
            return backbone
    raise ValueError(
        f"model_name_or_path {name!r} is a {model_type!r}, no trained dual encoder. If it is to be one of the towers, "
        "name it as text_model or molecule_model."
    )


def _load_trained(name: str, arguments: ModelArguments) -> tuple[PreTrainedModel, TextMoleculeProcessor]:
    """A trained dual encoder, with the fields that the arguments set anew, and its processor."""
    backbone = backbone_of(arguments)
    wrong = [one for one in _OF_NEW_MODELS if getattr(arguments, one) != getattr(ModelArguments, one)]
    if arguments.backbone not in (backbone, ModelArguments.backbone):
        wrong.append("backbone")
    if wrong:
        raise ValueError(
            f"model_name_or_path is {name!r}, whose backbone, towers, tokenizer and featurizer stay as they are; "
            f"leave out {', '.join(wrong)}. Fields of text_config, molecule_config and dual_encoder_config may be set."
        )
    config = AutoConfig.from_pretrained(name)
    for part, owner in (
        ("text_config", config.text_config),
        ("molecule_config", config.molecule_config),
        ("dual_encoder_config", config),
    ):
        fields = arguments.as_dict(part)
        check_fields(part, fields, set(owner.to_dict()) - {"text_config", "molecule_config", "read_names"})
        for field, value in fields.items():
            setattr(owner, field, value)
    config.validate()
    with model_errors("model_name_or_path", name):
        try:
            model = AutoModel.from_pretrained(name, config=config, dtype=torch.float32)
        except RuntimeError as error:
            raise ValueError(
                f"model_name_or_path {name!r} cannot be loaded with the fields that are set anew; sizes stay as they "
                f"were trained. {error}"
            ) from error
        return model, AutoProcessor.from_pretrained(name)


# What a trained model has already.
_OF_NEW_MODELS = (
    "text_model",
    "text_from_scratch",
    "molecule_model",
    "tokenizer_config",
    "featurizer_config",
    "max_text_length",
    "read_names",
)


class _Backbone(NamedTuple):
    """How a backbone is built, the loss that it is trained by, and its name in a saved configuration."""

    build: Callable[[ModelArguments], tuple[PreTrainedModel, TextMoleculeProcessor]]
    loss: type[nn.Module]
    model_type: str


_BACKBONES = {
    "dual_encoder": _Backbone(build_dual_encoder, ContrastiveLoss, TextMoleculeDualEncoderConfig.model_type),
    "aman": _Backbone(partial(build_dual_encoder, model_class=AmanModel), AmanLoss, AmanConfig.model_type),
    "orma": _Backbone(build_orma, OrmaLoss, OrmaConfig.model_type),
    "text2mol": _Backbone(build_text2mol, Text2MolLoss, Text2MolConfig.model_type),
}
