"""Configuration of Text2Mol and of its molecule tower."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_text_molecule import TextMoleculeDualEncoderConfig

MOLECULE_TYPES = ("mlp", "gcn")


@strict
class Text2MolMoleculeConfig(PreTrainedConfig):
    r"""Configuration of [`Text2MolMoleculeModel`], with the published sizes.

    Args:
        molecule_type: `"mlp"` sums the embeddings of all substructures, `"gcn"` passes each atom's on along the bonds.
        num_buckets: rows of the hashed embedding table; equals the feature extractor's `num_buckets`.
        embedding_size: width of a substructure's embedding.
        hidden_size: width H of the hidden layers, and of the tower's output.
        num_convolutions: graph convolutions of `"gcn"`.
        initializer_range: standard deviation of the embeddings at the start (ours; the published ones are pretrained).
            Small enough to be moved by some thousand steps of 1e-4, large against the epsilon of the layer norm.

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
    initializer_range: float = 0.1

    def validate_architecture(self) -> None:
        """Part of the `@strict` validation: checks the values that types cannot."""
        if self.molecule_type not in MOLECULE_TYPES:
            raise ValueError(f"`molecule_type` is {self.molecule_type!r}; choose one of {', '.join(MOLECULE_TYPES)}.")
        for name in ("num_buckets", "embedding_size", "hidden_size", "num_convolutions"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected at least 1.")


@strict
class Text2MolConfig(TextMoleculeDualEncoderConfig):
    r"""Configuration of [`Text2MolModel`].

    The fields are those of [`TextMoleculeDualEncoderConfig`]; `molecule_config` is a [`Text2MolMoleculeConfig`], or a
    dict of its fields. The published space has 300 dimensions, and the factor of the dot products begins at exp(0.14).

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
                f"`molecule_config` is of the type {self.molecule_config.model_type!r}; Text2Mol has a molecule tower "
                f"of its own, {Text2MolMoleculeConfig.model_type!r}. TextMoleculeDualEncoderModel takes other towers."
            )
        super().__post_init__(**kwargs)
