"""Builds the dual encoder of any two towers, and AMAN, which has the same towers."""

from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig

from class_hf.backbones.towers import (
    backbone_fields,
    build_extractor,
    build_text_side,
    parameters_of,
    tower_fields,
)
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.hub.loading import model_errors, package_model
from class_hf.models.configuration_graph import MoleculeGraphConfig
from class_hf.models.configuration_text_molecule import MoleculeFingerprintConfig
from class_hf.models.feature_extraction_fingerprint import MoleculeFingerprintFeatureExtractor
from class_hf.models.feature_extraction_fused import MoleculeFusedFeatureExtractor
from class_hf.models.feature_extraction_graph import MoleculeGraphFeatureExtractor
from class_hf.models.modeling_text_molecule import TextMoleculeDualEncoderModel
from class_hf.models.processing_text_molecule import MoleculeFeaturizer, TextMoleculeProcessor, TextSmilesProcessor


def build_dual_encoder(
    arguments: ModelArguments, model_class: type[TextMoleculeDualEncoderModel] = TextMoleculeDualEncoderModel
) -> tuple[TextMoleculeDualEncoderModel, TextMoleculeProcessor]:
    """Builds a dual encoder and its processor.

    Args:
        arguments: names of the towers, and fields of their configurations.
        model_class: the dual encoder, or a subclass that is built from the same towers.

    Returns:
        The model, with random weights except in pretrained towers, and its processor.

    Raises:
        ValueError: if there is no such tower, or a field is unknown.

    >>> model, processor = build_dual_encoder(ModelArguments(molecule_model="graph"))
    >>> model(**processor(text="An acid.", smiles="CCO")).text_embeds.shape
    torch.Size([1, 256])
    """
    text, tokenizer = build_text_side(arguments)
    molecule_kwargs = arguments.as_dict("molecule_config")
    with model_errors("molecule_model", arguments.molecule_model):
        check_fields("molecule_config", molecule_kwargs, tower_fields(arguments.molecule_model))
    dual_encoder_kwargs = backbone_fields(arguments, model_class.config_class)
    extractor: MoleculeFeaturizer | None = None
    if arguments.molecule_model == "fingerprint":
        fingerprint = build_extractor(arguments, MoleculeFingerprintFeatureExtractor)
        molecule_kwargs.setdefault("num_buckets", fingerprint.num_buckets)
        extractor = fingerprint
    elif arguments.molecule_model == "graph":
        extractor = build_extractor(arguments, MoleculeGraphFeatureExtractor)
    elif arguments.molecule_model == "fused":
        extractor = _build_fused_extractor(arguments, molecule_kwargs)
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
    name = package_model(arguments.molecule_model)
    molecule_tokenizer = AutoTokenizer.from_pretrained(name, **arguments.as_dict("featurizer_config"))
    return model, TextSmilesProcessor(tokenizer, molecule_tokenizer, **caption_kwargs)


def _build_fused_extractor(
    arguments: ModelArguments, molecule_kwargs: dict[str, Any]
) -> MoleculeFusedFeatureExtractor:
    """Builds the featurizer of a fused tower, and sets the tower's number of buckets in `molecule_kwargs`.

    The parts of both configurations are checked one by one: nested dicts would take any field.
    """
    featurizer_kwargs = arguments.as_dict("featurizer_config")
    parts: tuple[tuple[str, type, type[PreTrainedConfig]], ...] = (
        ("fingerprint", MoleculeFingerprintFeatureExtractor, MoleculeFingerprintConfig),
        ("graph", MoleculeGraphFeatureExtractor, MoleculeGraphConfig),
    )
    check_fields("featurizer_config", featurizer_kwargs, parameters_of(MoleculeFusedFeatureExtractor))
    for part, extractor_class, config_class in parts:
        fields = featurizer_kwargs.get(part, {})
        check_fields(f"featurizer_config's {part}", fields, parameters_of(extractor_class))
        fields = molecule_kwargs.get(f"{part}_config", {})
        check_fields(f"molecule_config's {part}_config", fields, config_class().to_dict())
    fused = build_extractor(arguments, MoleculeFusedFeatureExtractor)
    fingerprint = {"num_buckets": fused.names_extractor.num_buckets, **molecule_kwargs.get("fingerprint_config", {})}
    molecule_kwargs["fingerprint_config"] = fingerprint
    if molecule_kwargs.setdefault("minimol", fused.minimol) != fused.minimol:
        raise ValueError(
            f"molecule_config has minimol {molecule_kwargs['minimol']!r}, but featurizer_config has {fused.minimol}. "
            "Set it in featurizer_config only; the tower follows."
        )
    return fused
