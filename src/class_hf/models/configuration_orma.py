"""Configurations of ORMA: its graph tower of atoms, motifs and molecules, and the whole model."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_graph import MoleculeGraphConfig
from .configuration_text_molecule import LexicalConfig, TextMoleculeDualEncoderConfig


@strict
class OrmaGraphConfig(MoleculeGraphConfig):
    r"""Configuration of [`OrmaGraphModel`]: that of the graph tower, with ORMA's sizes as defaults.

    The fields are those of [`MoleculeGraphConfig`]. `layer_type` is `"gcn"` (the published one) or `"gine"`; `pooling`
    is not used, since a node of its own stands for the molecule.

    Example:

    >>> OrmaGraphConfig().hidden_size, OrmaGraphConfig().num_layers
    (300, 3)
    """

    model_type = "orma_graph"

    hidden_size: int = 300
    num_layers: int = 3
    layer_type: str = "gcn"

    def validate_layer_type(self) -> None:
        """Part of the `@strict` validation."""
        if self.layer_type == "transformer":
            raise ValueError(
                "layer_type is 'transformer', whose attention over the whole molecule would by-pass the motifs; "
                "choose 'gcn' or 'gine'."
            )


@strict
class OrmaConfig(TextMoleculeDualEncoderConfig):
    r"""Configuration of [`OrmaModel`] (Min et al., 2024).

    Args:
        text_config: configuration of a transformer text tower with two layers or more. Defaults to BERT's.
        molecule_config: an [`OrmaGraphConfig`] or a dict of its fields.
        projection_dim: width D of the spaces of all three levels.
        level_weights: weights of the levels sentence-molecule, multi-token-motif and token-atom, in the score and in
            the loss; >= 0, not all 0.

    The other fields are those of [`TextMoleculeDualEncoderConfig`]. A tower cannot be frozen: what is kept of a frozen
    one's output is a vector an item, and this model compares its tokens and atoms.

    Example:

    >>> OrmaConfig(molecule_config={"hidden_size": 64}).molecule_config.num_layers
    3
    """

    model_type = "orma"

    projection_dim: int = 300
    level_weights: list[float | int] | tuple[float | int, ...] = (0.3, 0.2, 0.5)

    def __post_init__(self, **kwargs):
        self.text_config = self.text_config or {"model_type": "bert"}
        molecule = self.molecule_config or {}
        if not isinstance(molecule, PreTrainedConfig):
            fields = {name: value for name, value in molecule.items() if name != "model_type"}
            if molecule.get("model_type", OrmaGraphConfig.model_type) != OrmaGraphConfig.model_type:
                raise ValueError(
                    f"the molecule tower is {molecule['model_type']!r}; ORMA has its own: leave `model_type` out."
                )
            molecule = OrmaGraphConfig.from_dict(fields)
        self.molecule_config = molecule
        self.level_weights = tuple(self.level_weights)  # JSON has no tuples
        super().__post_init__(**kwargs)

    def validate_levels(self) -> None:
        """Part of the `@strict` validation."""
        if isinstance(self.text_config, LexicalConfig):
            raise ValueError(
                "the text tower is 'lexical', which has no states of tokens for ORMA to align; choose a transformer, "
                "for instance allenai/scibert_scivocab_uncased."
            )
        if len(self.level_weights) != 3 or min(self.level_weights) < 0 or sum(self.level_weights) == 0:
            raise ValueError(f"`level_weights` is {self.level_weights}; expected three weights >= 0, not all 0.")
        if self.freeze_text or self.freeze_molecule:
            raise ValueError(
                "`freeze_text` or `freeze_molecule` is set; ORMA compares tokens and atoms, of which a frozen tower "
                "keeps none. Leave both out."
            )
