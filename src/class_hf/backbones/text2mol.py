"""Text2Mol: a text tower, and an MLP or a GCN over mol2vec features."""

from inspect import signature

from transformers import PreTrainedModel

from class_hf.backbones.towers import backbone_fields, refuse_names, text_side
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.models.configuration_text2mol import Text2MolConfig, Text2MolMoleculeConfig
from class_hf.models.feature_extraction_text2mol import Text2MolFeatureExtractor
from class_hf.models.modeling_text2mol import Text2MolModel
from class_hf.models.processing_text_molecule import TextMoleculeProcessor


def build_text2mol(arguments: ModelArguments) -> tuple[PreTrainedModel, TextMoleculeProcessor]:
    refuse_names(arguments)
    if arguments.molecule_model != ModelArguments.molecule_model:
        raise ValueError(
            f"molecule_model is {arguments.molecule_model!r}, but the backbone text2mol has a molecule tower of its "
            'own: leave it out, and choose the tower by molecule_config {"molecule_type": "mlp"} or "gcn".'
        )
    text, tokenizer = text_side(arguments)
    molecule_kwargs, featurizer_kwargs = arguments.as_dict("molecule_config"), arguments.as_dict("featurizer_config")
    check_fields("molecule_config", molecule_kwargs, Text2MolMoleculeConfig().to_dict())
    check_fields("featurizer_config", featurizer_kwargs, signature(Text2MolFeatureExtractor.__init__).parameters)
    extractor = Text2MolFeatureExtractor(**featurizer_kwargs)
    molecule_kwargs.setdefault("num_buckets", extractor.num_buckets)
    model = Text2MolModel.from_towers(
        **text,
        molecule=Text2MolMoleculeConfig(**molecule_kwargs),
        **backbone_fields(arguments, Text2MolConfig()),
    )
    return model, TextMoleculeProcessor(tokenizer, extractor, max_text_length=arguments.max_text_length)
