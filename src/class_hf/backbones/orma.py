"""ORMA: a text tower, and a graph network with motifs."""

from inspect import signature

from transformers import PreTrainedModel

from class_hf.backbones.towers import backbone_fields, refuse_names, text_side
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.models.configuration_orma import OrmaConfig, OrmaGraphConfig
from class_hf.models.feature_extraction_orma import OrmaFeatureExtractor
from class_hf.models.modeling_orma import OrmaModel
from class_hf.models.processing_text_molecule import TextMoleculeProcessor


def build_orma(arguments: ModelArguments) -> tuple[PreTrainedModel, TextMoleculeProcessor]:
    refuse_names(arguments)
    if arguments.molecule_model != ModelArguments.molecule_model:
        raise ValueError(
            f"molecule_model is {arguments.molecule_model!r}, but the backbone orma has a molecule tower of its own: "
            "leave it out, and set the tower's sizes by molecule_config."
        )
    text, tokenizer = text_side(arguments)
    molecule_kwargs, featurizer_kwargs = arguments.as_dict("molecule_config"), arguments.as_dict("featurizer_config")
    check_fields("molecule_config", molecule_kwargs, OrmaGraphConfig().to_dict())
    check_fields("featurizer_config", featurizer_kwargs, signature(OrmaFeatureExtractor.__init__).parameters)
    model = OrmaModel.from_towers(
        **text,
        molecule=molecule_kwargs,
        **backbone_fields(arguments, OrmaConfig()),
    )
    extractor = OrmaFeatureExtractor(**featurizer_kwargs)
    return model, TextMoleculeProcessor(tokenizer, extractor, max_text_length=arguments.max_text_length)
