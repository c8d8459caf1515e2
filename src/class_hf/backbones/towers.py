"""What the backbones share: the text tower from the arguments, and checks of configuration fields."""

from collections.abc import Iterable
from inspect import signature
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.hub.loading import model_errors, package_model
from class_hf.models.configuration_text_molecule import SHORT_NAMES, TOWER_CONFIGS
from class_hf.models.tokenization_lexical import LexicalTokenizer


def tower_fields(model: str) -> Iterable[str]:
    """Names of a tower's configuration fields."""
    if model in SHORT_NAMES:
        config = TOWER_CONFIGS[SHORT_NAMES[model]]()
    else:
        config = AutoConfig.from_pretrained(package_model(model))
    return [*config.to_dict(), "attn_implementation"]


def text_side(arguments: ModelArguments) -> tuple[dict[str, Any], Any]:
    """The text tower as `from_towers` takes it, `text` and `text_kwargs`, and its tokenizer."""
    text_kwargs, tokenizer_kwargs = arguments.as_dict("text_config"), arguments.as_dict("tokenizer_config")
    with model_errors("text_model", arguments.text_model):
        check_fields("text_config", text_kwargs, tower_fields(arguments.text_model))
    name = package_model(arguments.text_model)
    if arguments.text_model != "lexical":
        given: dict[str, Any] = {"text": name, "text_kwargs": text_kwargs}
        if arguments.text_from_scratch:
            given = {"text": AutoConfig.from_pretrained(name, **text_kwargs)}
        return given, AutoTokenizer.from_pretrained(name, **tokenizer_kwargs)
    check_fields("tokenizer_config", tokenizer_kwargs, signature(LexicalTokenizer.__init__).parameters)
    tokenizer = LexicalTokenizer(**tokenizer_kwargs)
    text_kwargs.setdefault("num_buckets", tokenizer.num_buckets)
    return {"text": name, "text_kwargs": text_kwargs}, tokenizer


def backbone_fields(arguments: ModelArguments, config: PreTrainedConfig) -> dict[str, Any]:
    """The fields that the arguments set of the backbone's configuration, of which `config` is an example."""
    given = arguments.as_dict("dual_encoder_config")
    # `read_names` is an argument of its own, since the processor has to know of it too.
    fields = set(config.to_dict()) - {"text_config", "molecule_config", "read_names"}
    check_fields("dual_encoder_config", given, fields)
    return given


def refuse_names(arguments: ModelArguments) -> None:
    if arguments.read_names:
        raise ValueError(
            f"read_names is set, but the backbone {arguments.backbone} reads captions as its paper does. Leave it "
            "out, or take the backbone dual_encoder or aman."
        )
