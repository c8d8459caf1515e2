"""Builds ORMA: a text tower, and a graph network over atoms and motifs."""

from class_hf.backbones.towers import backbone_fields, build_extractor, build_text_side, refuse_molecule_model
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.models.configuration_orma import OrmaConfig, OrmaGraphConfig
from class_hf.models.feature_extraction_orma import OrmaFeatureExtractor
from class_hf.models.modeling_orma import OrmaModel
from class_hf.models.processing_text_molecule import TextMoleculeProcessor


def build_orma(arguments: ModelArguments) -> tuple[OrmaModel, TextMoleculeProcessor]:
    """Builds ORMA and its processor.

    Args:
        arguments: `text_model` names a transformer, since ORMA uses the states of the tokens.

    Returns:
        The model, with random weights except in a pretrained text tower, and its processor.

    Raises:
        ValueError: if an argument has no meaning for ORMA, or the text tower has no token states.
    """
    refuse_molecule_model(arguments, "set the sizes of the tower by molecule_config.")
    text, tokenizer = build_text_side(arguments)
    molecule_kwargs = arguments.as_dict("molecule_config")
    check_fields("molecule_config", molecule_kwargs, OrmaGraphConfig().to_dict())
    extractor = build_extractor(arguments, OrmaFeatureExtractor)
    model = OrmaModel.from_towers(**text, molecule=molecule_kwargs, **backbone_fields(arguments, OrmaConfig))
    return model, TextMoleculeProcessor(tokenizer, extractor, max_text_length=arguments.max_text_length)
