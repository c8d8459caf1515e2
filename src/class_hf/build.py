"""From arguments to data, towers and processor: what the recipes share."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from datasets import DatasetDict, load_from_disk
from torch import nn
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from class_hf.data.chebi20 import load_chebi20
from class_hf.data.demo import load_demo
from class_hf.data.validation import LoadReport
from class_hf.hub import load_scored
from class_hf.losses.aman import AmanLoss
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.losses.orma import OrmaLoss
from class_hf.losses.text2mol import Text2MolLoss
from class_hf.models.configuration_aman import AmanConfig
from class_hf.models.configuration_graph import MoleculeGraphConfig
from class_hf.models.configuration_orma import OrmaConfig, OrmaGraphConfig
from class_hf.models.configuration_text2mol import Text2MolConfig, Text2MolMoleculeConfig
from class_hf.models.configuration_text_molecule import (
    OWN_TOWERS,
    MoleculeFingerprintConfig,
    TextMoleculeDualEncoderConfig,
)
from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
from class_hf.models.feature_extraction_fused import MoleculeFusedFeatureExtractor
from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor
from class_hf.models.feature_extraction_orma import OrmaFeatureExtractor
from class_hf.models.feature_extraction_text2mol import Text2MolFeatureExtractor
from class_hf.models.modeling_aman import AmanModel
from class_hf.models.modeling_orma import OrmaModel
from class_hf.models.modeling_text2mol import Text2MolModel
from class_hf.models.modeling_text_molecule import SHORT_NAMES, TextMoleculeDualEncoderModel
from class_hf.models.processing_text_molecule import TextMoleculeProcessor, TextSmilesProcessor
from class_hf.models.tokenization_lexical import LexicalTokenizer
from class_hf.recipe import ModelArguments, check_fields, package_model
from class_hf.training_args import CurriculumTrainingArguments


def load_data(
    data_dir: str | None,
    dataset_name: str | None = None,
    demo: bool = False,
    on_error: Literal["raise", "drop"] = "raise",
) -> tuple[DatasetDict, LoadReport | None]:
    """Pairs by split, and `pool`, from exactly one source; from ChEBI-20's authors if none is named.

    Args:
        data_dir: a folder or file of [`load_chebi20`], or a folder that `recipes/score.py` wrote.
        dataset_name: a Hub id, of plain pairs or of what `recipes/push.py --dataset` pushed.
        demo: the embedded data set.
        on_error: `"raise"` or `"drop"`.

    Returns:
        the data, and what was repaired and dropped; None for sources that were checked before.

    Raises:
        ValueError: if several sources are named, or see [`load_chebi20`].
    """
    if sum((data_dir is not None, dataset_name is not None, demo)) > 1:
        raise ValueError("name one source only: --data_dir, --dataset_name or --demo.")
    if demo:
        return load_demo(), None
    if data_dir is not None:
        for folder in (Path(data_dir), Path(data_dir) / "dataset"):
            if (folder / "dataset_dict.json").is_file():
                return load_from_disk(str(folder)), None
    scored = load_scored(dataset_name) if dataset_name is not None else None
    if scored is not None:
        return scored, None
    source = data_dir if data_dir is not None else dataset_name
    return load_chebi20(source, on_error=on_error, return_report=True)


@contextmanager
def naming_model(argument: str, model: str) -> Iterator[None]:
    """Names the argument in the errors of loading a model, which do not even name the model."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{argument} {model!r} is neither a folder with a model nor reachable on the Hub: {error}"
        ) from error


def load_model(name: str, revision: str | None = None) -> tuple[Any, Any]:
    """A trained model in evaluation mode, on the accelerator if there is one, and its processor.

    Args:
        name: a folder, or a Hub id.
        revision: of a model on the Hub.

    Raises:
        ValueError: if there is no such model.
    """
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise ValueError(f"{name!r} holds no model (no config.json). Give the output folder of recipes/train.py.")
    with naming_model("--model", name):
        model = AutoModel.from_pretrained(name, revision=revision)
        processor = AutoProcessor.from_pretrained(name, revision=revision)
    return model.to(torch.accelerator.current_accelerator() or "cpu").eval(), processor


def _fields(model: str) -> Iterable[str]:
    """Names of a tower's configuration fields."""
    config = (
        OWN_TOWERS[SHORT_NAMES[model]]() if model in SHORT_NAMES else AutoConfig.from_pretrained(package_model(model))
    )
    return [*config.to_dict(), "attn_implementation"]


def build_loss(arguments: ModelArguments, training: CurriculumTrainingArguments) -> nn.Module:
    """The loss of the backbone that the arguments name.

    Raises:
        ValueError: if an argument does not fit the loss.
    """
    loss, given = _BACKBONES[backbone_of(arguments)].loss, arguments.as_dict("loss_config")
    accepted = signature(loss.__init__).parameters
    check_fields("loss_config", given, accepted)
    if "label_smoothing" in accepted:
        given.setdefault("label_smoothing", training.contrastive_label_smoothing)
    if "seed" in accepted:
        given.setdefault("seed", training.seed)
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
    from class_hf.adapters import add_adapters, towers_of_base  # peft takes a second to import

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
    with naming_model("model_name_or_path", name):
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
    with naming_model("model_name_or_path", name):
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


def _text_side(arguments: ModelArguments) -> tuple[dict[str, Any], Any]:
    """The text tower as `from_towers` takes it, `text` and `text_kwargs`, and its tokenizer."""
    text_kwargs, tokenizer_kwargs = arguments.as_dict("text_config"), arguments.as_dict("tokenizer_config")
    with naming_model("text_model", arguments.text_model):
        check_fields("text_config", text_kwargs, _fields(arguments.text_model))
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


def _backbone_fields(arguments: ModelArguments, config: PreTrainedConfig) -> dict[str, Any]:
    """The fields that the arguments set of the backbone's configuration, of which `config` is an example."""
    given = arguments.as_dict("dual_encoder_config")
    # `read_names` is an argument of its own, since the processor has to know of it too.
    fields = set(config.to_dict()) - {"text_config", "molecule_config", "read_names"}
    check_fields("dual_encoder_config", given, fields)
    return given


def _refuse_names(arguments: ModelArguments) -> None:
    if arguments.read_names:
        raise ValueError(
            f"read_names is set, but the backbone {arguments.backbone} reads captions as its paper does. Leave it "
            "out, or take the backbone dual_encoder or aman."
        )


def _build_dual_encoder(
    arguments: ModelArguments, model_class: type[TextMoleculeDualEncoderModel] = TextMoleculeDualEncoderModel
) -> tuple[PreTrainedModel, TextMoleculeProcessor]:
    text, tokenizer = _text_side(arguments)
    molecule_kwargs, featurizer_kwargs = arguments.as_dict("molecule_config"), arguments.as_dict("featurizer_config")
    with naming_model("molecule_model", arguments.molecule_model):
        check_fields("molecule_config", molecule_kwargs, _fields(arguments.molecule_model))
    dual_encoder_kwargs = _backbone_fields(arguments, model_class.config_class())
    extractor: Any = None
    if arguments.molecule_model == "fingerprint":
        accepted = signature(MoleculeFingerprintFeatureExtractor.__init__).parameters
        check_fields("featurizer_config", featurizer_kwargs, accepted)
        extractor = MoleculeFingerprintFeatureExtractor(**featurizer_kwargs)
        molecule_kwargs.setdefault("num_buckets", extractor.num_buckets)
    elif arguments.molecule_model == "graph":
        accepted = signature(MoleculeGraphFeatureExtractor.__init__).parameters
        check_fields("featurizer_config", featurizer_kwargs, accepted)
        extractor = MoleculeGraphFeatureExtractor(**featurizer_kwargs)
    elif arguments.molecule_model == "fused":
        extractor = _fused_extractor(featurizer_kwargs, molecule_kwargs)
    model = model_class.from_towers(
        **text,
        molecule=package_model(arguments.molecule_model),
        molecule_kwargs=molecule_kwargs,
        read_names=arguments.read_names,
        **dual_encoder_kwargs,
    )
    caption_kwargs: dict[str, Any] = {"max_text_length": arguments.max_text_length, "read_names": arguments.read_names}
    if extractor is not None:
        return model, TextMoleculeProcessor(tokenizer, extractor, **caption_kwargs)
    molecule_tokenizer = AutoTokenizer.from_pretrained(package_model(arguments.molecule_model), **featurizer_kwargs)
    return model, TextSmilesProcessor(tokenizer, molecule_tokenizer, **caption_kwargs)


def _fused_extractor(
    featurizer_kwargs: dict[str, Any], molecule_kwargs: dict[str, Any]
) -> MoleculeFusedFeatureExtractor:
    """The featurizer of a fused tower; checks the fields of both parts, and gives the tower the featurizer's buckets.

    Raises:
        ValueError: if a field does not fit.
    """
    check_fields("featurizer_config", featurizer_kwargs, signature(MoleculeFusedFeatureExtractor.__init__).parameters)
    parts: tuple[tuple[str, Any, type[PreTrainedConfig]], ...] = (
        ("fingerprint", MoleculeFingerprintFeatureExtractor, MoleculeFingerprintConfig),
        ("graph", MoleculeGraphFeatureExtractor, MoleculeGraphConfig),
    )
    for part, extractor, config in parts:
        accepted = signature(extractor.__init__).parameters
        check_fields(f"featurizer_config's {part}", featurizer_kwargs.get(part, {}), accepted)
        check_fields(f"molecule_config's {part}_config", molecule_kwargs.get(f"{part}_config", {}), config().to_dict())
    fused = MoleculeFusedFeatureExtractor(**featurizer_kwargs)
    fingerprint = {"num_buckets": fused.names_extractor.num_buckets, **molecule_kwargs.get("fingerprint_config", {})}
    molecule_kwargs["fingerprint_config"] = fingerprint
    return fused


def _build_text2mol(arguments: ModelArguments) -> tuple[PreTrainedModel, TextMoleculeProcessor]:
    _refuse_names(arguments)
    if arguments.molecule_model != ModelArguments.molecule_model:
        raise ValueError(
            f"molecule_model is {arguments.molecule_model!r}, but the backbone text2mol has a molecule tower of its "
            'own: leave it out, and choose the tower by molecule_config {"molecule_type": "mlp"} or "gcn".'
        )
    text, tokenizer = _text_side(arguments)
    molecule_kwargs, featurizer_kwargs = arguments.as_dict("molecule_config"), arguments.as_dict("featurizer_config")
    check_fields("molecule_config", molecule_kwargs, Text2MolMoleculeConfig().to_dict())
    check_fields("featurizer_config", featurizer_kwargs, signature(Text2MolFeatureExtractor.__init__).parameters)
    extractor = Text2MolFeatureExtractor(**featurizer_kwargs)
    molecule_kwargs.setdefault("num_buckets", extractor.num_buckets)
    model = Text2MolModel.from_towers(
        **text,
        molecule=Text2MolMoleculeConfig(**molecule_kwargs),
        **_backbone_fields(arguments, Text2MolConfig()),
    )
    return model, TextMoleculeProcessor(tokenizer, extractor, max_text_length=arguments.max_text_length)


def _build_orma(arguments: ModelArguments) -> tuple[PreTrainedModel, TextMoleculeProcessor]:
    _refuse_names(arguments)
    if arguments.molecule_model != ModelArguments.molecule_model:
        raise ValueError(
            f"molecule_model is {arguments.molecule_model!r}, but the backbone orma has a molecule tower of its own: "
            "leave it out, and set the tower's sizes by molecule_config."
        )
    text, tokenizer = _text_side(arguments)
    molecule_kwargs, featurizer_kwargs = arguments.as_dict("molecule_config"), arguments.as_dict("featurizer_config")
    check_fields("molecule_config", molecule_kwargs, OrmaGraphConfig().to_dict())
    check_fields("featurizer_config", featurizer_kwargs, signature(OrmaFeatureExtractor.__init__).parameters)
    model = OrmaModel.from_towers(
        **text,
        molecule=molecule_kwargs,
        **_backbone_fields(arguments, OrmaConfig()),
    )
    extractor = OrmaFeatureExtractor(**featurizer_kwargs)
    return model, TextMoleculeProcessor(tokenizer, extractor, max_text_length=arguments.max_text_length)


class _Backbone(NamedTuple):
    """How a backbone is built, the loss that it is trained by, and its name in a saved configuration."""

    build: Callable[[ModelArguments], tuple[PreTrainedModel, TextMoleculeProcessor]]
    loss: type[nn.Module]
    model_type: str


_BACKBONES = {
    "dual_encoder": _Backbone(_build_dual_encoder, ContrastiveLoss, TextMoleculeDualEncoderConfig.model_type),
    "aman": _Backbone(partial(_build_dual_encoder, model_class=AmanModel), AmanLoss, AmanConfig.model_type),
    "orma": _Backbone(_build_orma, OrmaLoss, OrmaConfig.model_type),
    "text2mol": _Backbone(_build_text2mol, Text2MolLoss, Text2MolConfig.model_type),
}
