"""The dual encoder of any two towers, and AMAN, which has the same towers."""

from inspect import signature
from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel

from class_hf.backbones.towers import backbone_fields, text_side, tower_fields
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.hub.loading import model_errors, package_model
from class_hf.models.configuration_graph import MoleculeGraphConfig
from class_hf.models.configuration_text_molecule import (
    MoleculeFingerprintConfig,
)
from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
from class_hf.models.feature_extraction_fused import MoleculeFusedFeatureExtractor
from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor
from class_hf.models.modeling_text_molecule import TextMoleculeDualEncoderModel
from class_hf.models.processing_text_molecule import TextMoleculeProcessor, TextSmilesProcessor


def build_dual_encoder(
    arguments: ModelArguments, model_class: type[TextMoleculeDualEncoderModel] = TextMoleculeDualEncoderModel
) -> tuple[PreTrainedModel, TextMoleculeProcessor]:
    text, tokenizer = text_side(arguments)
    molecule_kwargs, featurizer_kwargs = arguments.as_dict("molecule_config"), arguments.as_dict("featurizer_config")
    with model_errors("molecule_model", arguments.molecule_model):
        check_fields("molecule_config", molecule_kwargs, tower_fields(arguments.molecule_model))
    dual_encoder_kwargs = backbone_fields(arguments, model_class.config_class())
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
