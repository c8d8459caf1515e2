"""Configuration of the graph molecule tower, and the layout of the features that it reads."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .argument_checks import check_integer, check_misspelt_fields, check_number

# Name and number of categories of each column, in column order. The layout is defined here and not with the feature
# extractor, so that loading a configuration needs no RDKit. A change makes old checkpoints and cached features
# unreadable: increase FEATURE_VERSION with it.
FEATURE_VERSION = 1
ATOM_FEATURES = {
    "atomic_number": 119,  # 0 is the wildcard '*'
    "degree": 13,  # number of explicit neighbours; 12 means 12 or more
    "formal_charge": 15,  # charge + 7, charges clipped to -7..7
    "isotope": 64,  # 0 if unspecified, else 32 + mass number - mass number of the commonest isotope, clipped to 1..63
    "hydrogens": 9,  # implicit and explicit; 8 means 8 or more
    "chirality": 6,  # none, R, S, r, s, stereo centre without a label
    "aromatic": 2,
    "ring_size": 21,  # 0 outside rings, else the size of the smallest ring; 20 means 20 or more
    "hybridisation": 9,
    "radical_electrons": 6,  # 5 means 5 or more
}
BOND_FEATURES = {
    "type": 6,  # other, single, double, triple, aromatic, dative
    "stereo": 6,  # none, E, Z, e, z, stereo bond without a label
    "conjugated": 2,
    "in_ring": 2,
}

LAYER_TYPES = ("gcn", "gine", "transformer")
POOLINGS = ("mean", "sum", "attention")


@strict
class MoleculeGraphConfig(PreTrainedConfig):
    r"""Configuration of a [`MoleculeGraphModel`], a graph neural network over atoms and bonds.

    Args:
        hidden_size (`int`, *optional*, defaults to 256): width H of the atom states and of the molecule embedding,
            at least 1.
        num_layers (`int`, *optional*, defaults to 4): number of message-passing layers, at least 1. Information
            travels one bond per layer.
        layer_type (`str`, *optional*, defaults to `"gine"`): `"gcn"` (Kipf & Welling, 2017), `"gine"` (Hu et al.,
            2020) or `"transformer"` (attention over bonded atoms and the molecule; Shi et al., 2021).
        num_heads (`int`, *optional*, defaults to 4): attention heads of `"transformer"` layers; must divide
            `hidden_size`. Other layers ignore it.
        dropout (`float`, *optional*, defaults to 0.1): dropout probability of a layer's update, in [0, 1).
        pooling (`str`, *optional*, defaults to `"mean"`): how the atom states become one molecule embedding:
            `"mean"`, `"sum"`, or `"attention"` (a mean with trained weights, which are equal at initialisation).
        atom_feature_sizes (F_a `int`, *optional*): number of categories of each atom feature. Defaults to the layout
            of [`MoleculeGraphFeatureExtractor`].
        bond_feature_sizes (F_b `int`, *optional*): number of categories of each bond feature. Defaults to the same
            layout.
        layer_norm_eps (`float`, *optional*, defaults to 1e-5): epsilon of the layer norms, greater than 0.

    Raises:
        StrictDataclassFieldValidationError: if a value has the wrong type.
        StrictDataclassClassValidationError: if a value is out of range; the message names it.

    Example:

    ```python
    >>> from class_hf import MoleculeGraphConfig, MoleculeGraphModel
    >>> model = MoleculeGraphModel(MoleculeGraphConfig(hidden_size=64, layer_type="transformer"))
    >>> model.config.num_heads
    4

    ```
    """

    model_type = "molecule_graph"
    attribute_map = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}

    hidden_size: int = 256
    num_layers: int = 4
    layer_type: str = "gine"
    num_heads: int = 4
    dropout: float | int = 0.1
    pooling: str = "mean"
    atom_feature_sizes: list[int] | tuple[int, ...] = tuple(ATOM_FEATURES.values())
    bond_feature_sizes: list[int] | tuple[int, ...] = tuple(BOND_FEATURES.values())
    layer_norm_eps: float = 1e-5

    def __post_init__(self, **kwargs):
        check_misspelt_fields(self, kwargs)
        # JSON has no tuples, and a loaded configuration must equal the saved one.
        self.atom_feature_sizes = tuple(self.atom_feature_sizes)
        self.bond_feature_sizes = tuple(self.bond_feature_sizes)
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Checks the ranges of all values; called by `@strict`."""
        if self.layer_type not in LAYER_TYPES:
            raise ValueError(f"layer_type is {self.layer_type!r}; choose one of {', '.join(LAYER_TYPES)}.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; choose one of {', '.join(POOLINGS)}.")
        for name in ("hidden_size", "num_layers", "num_heads"):
            check_integer(name, getattr(self, name), 1)
        check_number("layer_norm_eps", self.layer_norm_eps, above=0)
        check_number("dropout", self.dropout, least=0, below=1)
        if self.layer_type == "transformer" and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}; change one of them."
            )
        for name in ("atom_feature_sizes", "bond_feature_sizes"):
            sizes = getattr(self, name)
            # Features are stored as uint8, so a column holds at most 256 categories.
            if not sizes or not all(1 <= size <= 256 for size in sizes):
                raise ValueError(f"{name} is {sizes}; it must hold at least one size, each in 1..256.")
