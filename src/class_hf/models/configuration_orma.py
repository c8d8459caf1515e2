"""Configurations of ORMA: its graph tower over atoms, motifs and molecules, and the complete model."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .argument_checks import check_number
from .configuration_graph import MoleculeGraphConfig
from .configuration_text_molecule import LexicalConfig, TextMoleculeDualEncoderConfig


@strict
class OrmaGraphConfig(MoleculeGraphConfig):
    r"""Configuration of [`OrmaGraphModel`]: a graph tower with ORMA's sizes as defaults.

    The fields are those of [`MoleculeGraphConfig`]. `pooling` is not used, since the graph has a node for the
    molecule.

    Args:
        hidden_size (`int`, *optional*, defaults to 300): width H of the node states.
        num_layers (`int`, *optional*, defaults to 3): number of message-passing layers.
        layer_type (`str`, *optional*, defaults to `"gcn"`): `"gcn"`, as published, or `"gine"`.

    Example:

    >>> OrmaGraphConfig().hidden_size, OrmaGraphConfig().num_layers
    (300, 3)
    """

    model_type = "orma_graph"

    hidden_size: int = 300
    num_layers: int = 3
    layer_type: str = "gcn"

    def validate_layer_type(self) -> None:
        """Refuses the graph transformer; called by `@strict`."""
        if self.layer_type == "transformer":
            raise ValueError(
                "layer_type is 'transformer'; expected 'gcn' or 'gine'. Attention over the complete molecule would "
                "by-pass the motifs."
            )


def orma_graph_config(molecule: dict[str, Any] | PreTrainedConfig | None) -> Any:
    """Returns the configuration object of ORMA's molecule tower.

    Args:
        molecule: a configuration object, which is returned itself, a dict of fields, or None for the defaults.

    Returns:
        The configuration object.

    Raises:
        ValueError: if a dict names another `model_type`.

    Example:

    >>> orma_graph_config({"hidden_size": 64}).num_layers
    3
    """
    if isinstance(molecule, PreTrainedConfig):
        return molecule
    fields = dict(molecule or {})
    model_type = fields.pop("model_type", OrmaGraphConfig.model_type)
    if model_type != OrmaGraphConfig.model_type:
        raise ValueError(f"the molecule tower is {model_type!r}, but ORMA has its own tower: leave `model_type` out.")
    return OrmaGraphConfig.from_dict(fields)


@strict
class OrmaConfig(TextMoleculeDualEncoderConfig):
    r"""Configuration of [`OrmaModel`] (Min et al., 2024).

    The other fields are those of [`TextMoleculeDualEncoderConfig`]. A tower cannot be frozen: a frozen tower's output
    is cached as one vector per item, but this model compares tokens and atoms.

    Args:
        text_config (`dict` or `PreTrainedConfig`, *optional*): a transformer text tower with two layers or more.
            Defaults to BERT.
        molecule_config (`OrmaGraphConfig` or `dict`, *optional*): the graph tower.
        projection_dim (`int`, *optional*, defaults to 300): width D of the spaces of all three levels.
        level_weights (three `float`, *optional*, defaults to (0.3, 0.2, 0.5)): weights of the levels
            sentence-molecule, multi-token-motif and token-atom, in the score and in the loss. At least 0, not all 0.

    Example:

    >>> OrmaConfig(molecule_config={"hidden_size": 64}).molecule_config.num_layers
    3
    """

    model_type = "orma"

    projection_dim: int = 300
    level_weights: list[float | int] | tuple[float | int, ...] = (0.3, 0.2, 0.5)

    def __post_init__(self, **kwargs):
        self.text_config = self.text_config or {"model_type": "bert"}
        self.molecule_config = orma_graph_config(self.molecule_config)
        self.level_weights = tuple(self.level_weights)  # JSON has no tuples
        super().__post_init__(**kwargs)

    def validate_levels(self) -> None:
        """Checks the towers and the weights; called by `@strict`."""
        if isinstance(self.text_config, LexicalConfig):
            raise ValueError(
                "the text tower is 'lexical', which has no token states for ORMA to align. Choose a transformer, for "
                "instance allenai/scibert_scivocab_uncased."
            )
        for weight in self.level_weights:
            check_number("level_weights", weight, least=0)
        if len(self.level_weights) != 3 or sum(self.level_weights) == 0:
            raise ValueError(f"`level_weights` is {self.level_weights}; expected three weights >= 0, not all 0.")
        if self.freeze_text or self.freeze_molecule:
            raise ValueError(
                "`freeze_text` or `freeze_molecule` is set, but ORMA compares tokens and atoms, which the cache of a "
                "frozen tower does not hold. Leave both out."
            )
