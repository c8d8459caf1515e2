"""Builds Text2Mol: a text tower, and an MLP or a GCN over mol2vec features."""

from class_hf.backbones.towers import backbone_fields, build_extractor, build_text_side, refuse_molecule_model
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.models.configuration_text2mol import Text2MolConfig, Text2MolMoleculeConfig
from class_hf.models.feature_extraction_text2mol import Text2MolFeatureExtractor
from class_hf.models.modeling_text2mol import Text2MolModel
from class_hf.models.processing_text_molecule import TextMoleculeProcessor


def build_text2mol(arguments: ModelArguments) -> tuple[Text2MolModel, TextMoleculeProcessor]:
    """Builds Text2Mol (Edwards et al., 2021) and its processor.

    Args:
        arguments: `molecule_config` chooses the molecule tower by `molecule_type`.

    Returns:
        The model, with random weights except in a pretrained text tower, and its processor.

    Raises:
        ValueError: if an argument has no meaning for Text2Mol.

    >>> type(build_text2mol(ModelArguments(backbone="text2mol"))[0]).__name__
    'Text2MolModel'
    """
    refuse_molecule_model(arguments, 'choose the tower by molecule_config {"molecule_type": "mlp"} or "gcn".')
    text, tokenizer = build_text_side(arguments)
    molecule_kwargs = arguments.as_dict("molecule_config")
    check_fields("molecule_config", molecule_kwargs, Text2MolMoleculeConfig().to_dict())
    extractor = build_extractor(arguments, Text2MolFeatureExtractor)
    molecule_kwargs.setdefault("num_buckets", extractor.num_buckets)
    model = Text2MolModel.from_towers(
        **text,
        molecule=Text2MolMoleculeConfig(**molecule_kwargs),
        **backbone_fields(arguments, Text2MolConfig),
    )
    return model, TextMoleculeProcessor(tokenizer, extractor, max_text_length=arguments.max_text_length)
