"""Builds the parts that the backbones share, and checks the fields that arguments set."""

from collections.abc import Iterable
from inspect import signature
from typing import Any, TypeVar

from transformers import (
    AutoConfig,
    AutoTokenizer,
    FeatureExtractionMixin,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.hub.loading import model_errors, package_model
from class_hf.models.configuration_text_molecule import SHORT_NAMES, TOWER_CONFIGS
from class_hf.models.tokenization_lexical import LexicalTokenizer

Extractor = TypeVar("Extractor", bound=FeatureExtractionMixin)


def tower_fields(model: str) -> Iterable[str]:
    """Names of the configuration fields of a tower.

    >>> "num_buckets" in tower_fields("lexical")
    True
    """
    if model in SHORT_NAMES:
        config = TOWER_CONFIGS[SHORT_NAMES[model]]()
    else:
        config = AutoConfig.from_pretrained(package_model(model))
    return [*config.to_dict(), "attn_implementation"]


def parameters_of(cls: type) -> Iterable[str]:
    """Names of the parameters of a class, for [`~class_hf.config.parsing.check_fields`]."""
    return signature(cls).parameters


def build_text_side(arguments: ModelArguments) -> tuple[dict[str, Any], PreTrainedTokenizerBase]:
    """Reads the text tower from the arguments.

    Returns:
        The keyword arguments `text` and `text_kwargs` of `from_towers`, and the tokenizer.

    Raises:
        ValueError: if there is no such tower, or a field is unknown.
    """
    text_kwargs, tokenizer_kwargs = arguments.as_dict("text_config"), arguments.as_dict("tokenizer_config")
    with model_errors("text_model", arguments.text_model):
        check_fields("text_config", text_kwargs, tower_fields(arguments.text_model))
    name = package_model(arguments.text_model)
    if arguments.text_model != "lexical":
        tower: dict[str, Any] = {"text": name, "text_kwargs": text_kwargs}
        if arguments.text_from_scratch:
            tower = {"text": AutoConfig.from_pretrained(name, **text_kwargs)}
        return tower, AutoTokenizer.from_pretrained(name, **tokenizer_kwargs)
    check_fields("tokenizer_config", tokenizer_kwargs, parameters_of(LexicalTokenizer))
    tokenizer = LexicalTokenizer(**tokenizer_kwargs)
    text_kwargs.setdefault("num_buckets", tokenizer.num_buckets)
    return {"text": name, "text_kwargs": text_kwargs}, tokenizer


def build_extractor(arguments: ModelArguments, extractor_class: type[Extractor]) -> Extractor:
    """Builds the molecule featurizer with the fields of `featurizer_config`.

    Raises:
        ValueError: if a field is unknown.
    """
    fields = arguments.as_dict("featurizer_config")
    check_fields("featurizer_config", fields, parameters_of(extractor_class))
    return extractor_class(**fields)


def backbone_fields(arguments: ModelArguments, config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """The fields of `dual_encoder_config`, checked against the configuration class of the backbone.

    Raises:
        ValueError: if a field is unknown.
    """
    fields = arguments.as_dict("dual_encoder_config")
    # The processor needs `read_names` too, so it is an argument of its own.
    known = set(config_class().to_dict()) - {"text_config", "molecule_config", "read_names"}
    check_fields("dual_encoder_config", fields, known)
    return fields


def refuse_molecule_model(arguments: ModelArguments, advice: str) -> None:
    """Refuses the arguments that have no meaning for a backbone with a molecule tower of its own.

    Args:
        arguments: of the run.
        advice: how the molecule tower is chosen instead; the end of the error.

    Raises:
        ValueError: if `read_names` or `molecule_model` is set.
    """
    if arguments.read_names:
        raise ValueError(
            f"read_names is set, but the backbone {arguments.backbone} has no input for the structures that a caption "
            "names. Remove read_names, or use the backbone dual_encoder or aman."
        )
    if arguments.molecule_model != ModelArguments.molecule_model:
        raise ValueError(
            f"molecule_model is {arguments.molecule_model!r}, but the backbone {arguments.backbone} has a molecule "
            f"tower of its own. Remove molecule_model and {advice}"
        )
