"""Configuration of AMAN's backbone."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_graph import MoleculeGraphConfig
from .configuration_text_molecule import TextMoleculeDualEncoderConfig

GRAPH_TRANSFORMER: dict[str, Any] = {"layer_type": "transformer", "hidden_size": 300, "num_layers": 3, "num_heads": 4}


@strict
class AmanConfig(TextMoleculeDualEncoderConfig):
    r"""Configuration of [`AmanModel`].

    The fields are those of [`TextMoleculeDualEncoderConfig`]. Three have other defaults.

    Args:
        molecule_config (`dict` or `PreTrainedConfig`, *optional*): the molecule tower. Defaults to a graph
            transformer with 3 layers, 4 heads, 300 channels and mean pooling.
        projection_dim (`int`, *optional*, defaults to 300): width D of the shared head and of the embeddings. A tower
            of another width gets a linear map to it.
        learn_logit_scale (`bool`, *optional*, defaults to `False`): [`AmanLoss`] compares distances and uses no logit
            scale.

    Example:

    >>> config = AmanConfig(text_config={"model_type": "lexical", "hidden_size": 64})
    >>> config.projection_dim, config.molecule_config.layer_type
    (300, 'transformer')
    """

    model_type = "aman"

    projection_dim: int = 300
    learn_logit_scale: bool = False
    molecule_config: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        if self.molecule_config is None:
            self.molecule_config = MoleculeGraphConfig(**GRAPH_TRANSFORMER)
        super().__post_init__(**kwargs)
