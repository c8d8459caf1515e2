"""Configuration of Text2Mol and of its molecule tower."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .argument_checks import check_integer, check_misspelt_fields, check_number
from .configuration_text_molecule import TextMoleculeDualEncoderConfig

MOLECULE_TYPES = ("mlp", "gcn")


@strict
class Text2MolMoleculeConfig(PreTrainedConfig):
    r"""Configuration of [`Text2MolMoleculeModel`], with the published sizes as defaults.

    Args:
        molecule_type (`str`, *optional*, defaults to `"mlp"`): `"mlp"` sums the embeddings of all substructures.
            `"gcn"` passes the embeddings of each atom along the bonds.
        num_buckets (`int`, *optional*, defaults to 65,536): rows of the hashed embedding table. It must equal the
            feature extractor's `num_buckets`.
        embedding_size (`int`, *optional*, defaults to 300): width of a substructure's embedding.
        hidden_size (`int`, *optional*, defaults to 600): width H of the hidden layers and of the tower's output.
        num_convolutions (`int`, *optional*, defaults to 3): number of graph convolutions of `"gcn"`.
        train_embeddings (`bool`, *optional*, defaults to `True`): whether the embeddings are trained. The paper's are
            mol2vec's and fixed, see [`Text2MolMoleculeModel.from_vectors`].
        initializer_range (`float`, *optional*, defaults to 0.1): standard deviation of the initial embeddings, which
            are pretrained in the paper. It is small enough that a few thousand steps at a learning rate of 1e-4
            change it, and large against the epsilon of the layer norm.

    Example:

    >>> Text2MolMoleculeConfig(molecule_type="gcn").hidden_size
    600
    """

    model_type = "text2mol_molecule"

    molecule_type: str = "mlp"
    num_buckets: int = 2**16
    embedding_size: int = 300
    hidden_size: int = 600
    num_convolutions: int = 3
    train_embeddings: bool = True
    initializer_range: float = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        check_misspelt_fields(self, kwargs)
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Checks the ranges of all values; called by `@strict`."""
        if self.molecule_type not in MOLECULE_TYPES:
            raise ValueError(f"`molecule_type` is {self.molecule_type!r}; choose one of {', '.join(MOLECULE_TYPES)}.")
        for name in ("num_buckets", "embedding_size", "hidden_size", "num_convolutions"):
            check_integer(name, getattr(self, name), 1)
        check_number("initializer_range", self.initializer_range, least=0)


@strict
class Text2MolConfig(TextMoleculeDualEncoderConfig):
    r"""Configuration of [`Text2MolModel`].

    The fields are those of [`TextMoleculeDualEncoderConfig`]. Three have other defaults, which are the published ones.

    Args:
        molecule_config (`Text2MolMoleculeConfig` or `dict`, *optional*): the molecule tower.
        projection_dim (`int`, *optional*, defaults to 300): width D of the shared space.
        logit_scale_init_value (`float`, *optional*, defaults to 0.14): logarithm of the initial logit scale.

    Example:

    >>> config = Text2MolConfig(molecule_config={"molecule_type": "gcn"})
    >>> config.projection_dim, config.molecule_config.num_convolutions
    (300, 3)
    """

    model_type = "text2mol"

    projection_dim: int = 300
    logit_scale_init_value: float | int = 0.14

    def __post_init__(self, **kwargs):
        if not isinstance(self.molecule_config, PreTrainedConfig):
            self.molecule_config = Text2MolMoleculeConfig.from_dict(self.molecule_config or {})
        if self.molecule_config.model_type != Text2MolMoleculeConfig.model_type:
            raise ValueError(
                f"`molecule_config` is of the type {self.molecule_config.model_type!r}; expected "
                f"{Text2MolMoleculeConfig.model_type!r}. TextMoleculeDualEncoderModel accepts other molecule towers."
            )
        super().__post_init__(**kwargs)
