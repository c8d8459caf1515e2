"""Configuration of the graph molecule tower, and the layout of the features it reads."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# The layout lives beside the configuration, not beside the extractor that fills it, so that reading a
# configuration needs no RDKit. Name and number of categories of each column, in column order. A change here
# makes old checkpoints and cached features unreadable: raise FEATURE_VERSION with it.
FEATURE_VERSION = 1
ATOM_FEATURES = {
    "atomic_number": 119,  # 0 is the wildcard '*'
    "degree": 13,  # explicit neighbours; 12 is 12 or more
    "formal_charge": 15,  # charge + 7, charges clipped to -7..7
    "isotope": 64,  # 0 natural, else 32 + mass number - that of the commonest isotope, clipped to 1..63
    "hydrogens": 9,  # implicit and explicit ones; 8 is 8 or more
    "chirality": 6,  # none, R, S, r, s, stereo centre without a label
    "aromatic": 2,
    "ring_size": 21,  # 0 outside rings, else the smallest ring; 20 is 20 or more
    "hybridisation": 9,
    "radical_electrons": 6,  # 5 is 5 or more
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
        hidden_size: width H of the atom states and of the molecule embedding, > 0. Default 256.
        num_layers: number of message-passing layers, so how many bonds away an atom sees, >= 1. Default 4.
        layer_type: `"gcn"` (Kipf & Welling, 2017), `"gine"` (Hu et al., 2020) or `"transformer"` (attention
            over bonded atoms and the whole molecule; Shi et al., 2021). Default `"gine"`.
        num_heads: attention heads of the `"transformer"` layers; divides `hidden_size`. The other layers
            ignore it. Default 4.
        dropout: probability of zeroing an entry of a layer's update, in [0, 1). Default 0.1.
        pooling: how atom states become one molecule embedding: `"mean"`, `"sum"`, or `"attention"` (a mean
            with learnt weights, which start out equal). Default `"mean"`.
        atom_feature_sizes: categories of each atom feature, (F_a,). Default: what
            [`MoleculeGraphFeatureExtractor`] writes.
        bond_feature_sizes: categories of each bond feature, (F_b,). Default as above.
        layer_norm_eps: epsilon of the layer norms, > 0. Default 1e-5.

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
        # JSON has no tuples: a loaded configuration must equal the one that was saved.
        self.atom_feature_sizes = tuple(self.atom_feature_sizes)
        self.bond_feature_sizes = tuple(self.bond_feature_sizes)
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Part of the `@strict` validation: checks the values that types cannot."""
        if self.layer_type not in LAYER_TYPES:
            raise ValueError(f"layer_type is {self.layer_type!r}; choose one of {', '.join(LAYER_TYPES)}.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; choose one of {', '.join(POOLINGS)}.")
        for name in ("hidden_size", "num_layers", "num_heads", "layer_norm_eps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be greater than 0.")
        if self.layer_type == "transformer" and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}; change one of them."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1).")
        for name in ("atom_feature_sizes", "bond_feature_sizes"):
            sizes = getattr(self, name)
            # Features travel as uint8, so no column can hold more than 256 categories.
            if not sizes or not all(1 <= size <= 256 for size in sizes):
                raise ValueError(f"{name} is {sizes}; it must hold at least one size, each in 1..256.")
