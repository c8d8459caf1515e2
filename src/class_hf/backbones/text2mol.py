"""Builds Text2Mol: a text tower, and an MLP or a GCN over mol2vec features."""

from typing import Any

import torch

from class_hf.backbones.towers import backbone_fields, build_extractor, build_text_side, refuse_molecule_model
from class_hf.config.arguments import ModelArguments
from class_hf.config.parsing import check_fields
from class_hf.models.configuration_text2mol import Text2MolConfig, Text2MolMoleculeConfig
from class_hf.models.feature_extraction_text2mol import Text2MolFeatureExtractor
from class_hf.models.modeling_text2mol import Text2MolModel, Text2MolMoleculeModel
from class_hf.models.mol2vec import Mol2vecVectors
from class_hf.models.processing_text_molecule import TextMoleculeProcessor


def build_text2mol(arguments: ModelArguments) -> tuple[Text2MolModel, TextMoleculeProcessor]:
    """Builds Text2Mol (Edwards et al., 2021) and its processor.

    Args:
        arguments: `molecule_config` chooses the molecule tower by `molecule_type`. Its entry `mol2vec` names a file of
            vectors, see [`Mol2vecVectors.read`][class_hf.models.mol2vec.Mol2vecVectors.read]. The molecule is then
            read as published: by these vectors, which stay fixed, and an atom of the graph carries its largest
            substructure only.

    Returns:
        The model, with random weights except in a pretrained text tower, and its processor.

    Raises:
        ValueError: if an argument has no meaning for Text2Mol, or contradicts the file of vectors.

    >>> type(build_text2mol(ModelArguments(backbone="text2mol"))[0]).__name__
    'Text2MolModel'
    """
    refuse_molecule_model(arguments, 'choose the tower by molecule_config {"molecule_type": "mlp"} or "gcn".')
    text, tokenizer = build_text_side(arguments)
    molecule_kwargs = arguments.as_dict("molecule_config")
    check_fields("molecule_config", molecule_kwargs, [*Text2MolMoleculeConfig().to_dict(), "mol2vec"])
    if molecule_kwargs.get("mol2vec") is not None:
        molecule, extractor = _published_side(arguments, molecule_kwargs)
    else:
        extractor = build_extractor(arguments, Text2MolFeatureExtractor)
        molecule_kwargs = {"num_buckets": extractor.num_buckets, **molecule_kwargs}
        molecule_kwargs.pop("mol2vec", None)
        molecule = Text2MolMoleculeModel(Text2MolMoleculeConfig(**molecule_kwargs))
    model = Text2MolModel.from_towers(**text, molecule=molecule, **backbone_fields(arguments, Text2MolConfig))
    return model, TextMoleculeProcessor(tokenizer, extractor, max_text_length=arguments.max_text_length)


def _published_side(
    arguments: ModelArguments, fields: dict[str, Any]
) -> tuple[Text2MolMoleculeModel, Text2MolFeatureExtractor]:
    """The molecule tower and the featurizer over the mol2vec vectors of a file."""
    path = fields.pop("mol2vec")
    featurizer = arguments.as_dict("featurizer_config")
    set_by_file = {name for name in ("num_buckets", "embedding_size") if name in fields} | {*featurizer}
    if set_by_file:
        name = min(set_by_file)
        raise ValueError(
            f"{name} is set, but mol2vec names the file {path}, which sets the substructures and their vectors. "
            "Remove one of them."
        )
    vectors = Mol2vecVectors.read(path)
    molecule = Text2MolMoleculeModel.from_vectors(torch.from_numpy(vectors.vectors), **fields)
    largest_only = molecule.config.molecule_type == "gcn"
    return molecule, Text2MolFeatureExtractor(vocabulary=vectors.tokens, largest_only=largest_only)
