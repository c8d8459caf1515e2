"""Configurations of the dual encoder, of its bag towers and of the fused molecule tower, and the names of inputs."""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .argument_checks import check_integer, check_misspelt_fields, check_number
from .configuration_graph import MoleculeGraphConfig

# Names of a batch. An input with this prefix goes to the molecule tower, which receives it without the prefix.
MOLECULE_PREFIX = "molecule_"
# The structures that captions name: inputs of the molecule tower with the first prefix, and three inputs of their own.
NAMED_PREFIX = "named_"
NAMED_INPUT_NAMES = ("named_rows", "named_context_ids", "named_context_offsets")

# Short names of this package's towers, as users write them, and the `model_type` of each.
SHORT_NAMES = {
    "lexical": "lexical",
    "fingerprint": "molecule_fingerprint",
    "graph": "molecule_graph",
    "fused": "molecule_fused",
}


@strict
class BagConfig(PreTrainedConfig):
    r"""Common configuration of [`LexicalConfig`] and [`MoleculeFingerprintConfig`]: a bag of embeddings and an MLP.

    Args:
        num_buckets (`int`, *optional*, defaults to 65,536): rows of the hashed embedding table. It must equal the
            `num_buckets` of the tokenizer or the featurizer.
        embedding_size (`int`, *optional*, defaults to 256): width of a token's embedding.
        hidden_size (`int`, *optional*, defaults to 512): width H of the pooled output.
        intermediate_size (`int`, *optional*, defaults to 1024): width of the hidden layer of the MLP.
        dropout (`float`, *optional*, defaults to 0.1): dropout probability inside the MLP, in [0, 1).
        token_dropout (`float`, *optional*, defaults to 0.0): probability that training leaves a token out of its
            bag, in [0, 1).
        initializer_range (`float`, *optional*, defaults to 0.02): standard deviation of the initial embeddings.
    """

    num_buckets: int = 2**16
    embedding_size: int = 256
    hidden_size: int = 512
    intermediate_size: int = 1024
    dropout: float | int = 0.1
    token_dropout: float | int = 0.0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        check_misspelt_fields(self, kwargs)
        super().__post_init__(**kwargs)

    def validate_ranges(self):
        """Checks the ranges of all values; called by `@strict`."""
        for name in ("num_buckets", "embedding_size", "hidden_size", "intermediate_size"):
            check_integer(name, getattr(self, name), 1)
        for name in ("dropout", "token_dropout"):
            check_number(name, getattr(self, name), least=0, below=1)
        check_number("initializer_range", self.initializer_range, least=0)


@strict
class LexicalConfig(BagConfig):
    r"""Configuration of [`LexicalModel`], a text tower over hashed word and character n-grams.

    Args: see [`BagConfig`]. A token is an n-gram of the caption.

    Example:

    >>> LexicalConfig(hidden_size=64).hidden_size
    64
    """

    model_type = "lexical"


@strict
class MoleculeFingerprintConfig(BagConfig):
    r"""Configuration of [`MoleculeFingerprintModel`], a molecule tower over Morgan substructures.

    The tower is the trainable counterpart of mol2vec (Jaeger et al., 2018): each substructure has an embedding, and
    a molecule is the bag of its substructures.

    Args: see [`BagConfig`]. A token is a substructure of the molecule.

    Example:

    >>> MoleculeFingerprintConfig(num_buckets=1000).num_buckets
    1000
    """

    model_type = "molecule_fingerprint"


@strict
class MoleculeFusedConfig(PreTrainedConfig):
    r"""Configuration of [`MoleculeFusedModel`], a molecule tower over substructures and the graph.

    Args:
        fingerprint_config (`MoleculeFingerprintConfig` or `dict`, *optional*): the fingerprint tower. Its
            `hidden_size` is the width of the fused tower.
        graph_config (`MoleculeGraphConfig` or `dict`, *optional*): the graph tower.
        graph_dropout (`float`, *optional*, defaults to 0.3): dropout probability of the graph's vector, in [0, 1).
        minimol (`bool`, *optional*, defaults to `False`): also read the vector of MiniMol (see
            [`~class_hf.models.minimol.minimol_vector`]). The feature extractor needs `minimol=True` too.
        minimol_dropout (`float`, *optional*, defaults to 0.2): dropout probability of MiniMol's vector, in [0, 1).

    Example:

    >>> MoleculeFusedConfig(fingerprint_config={"hidden_size": 64}, graph_config={"num_layers": 2}).hidden_size
    64
    """

    model_type = "molecule_fused"

    fingerprint_config: dict[str, Any] | PreTrainedConfig | None = None
    graph_config: dict[str, Any] | PreTrainedConfig | None = None
    graph_dropout: float | int = 0.3
    minimol: bool = False
    minimol_dropout: float | int = 0.2

    def __post_init__(self, **kwargs: Any) -> None:
        check_misspelt_fields(self, kwargs)
        for name, config in (("fingerprint_config", MoleculeFingerprintConfig), ("graph_config", MoleculeGraphConfig)):
            value = getattr(self, name)
            if not isinstance(value, PreTrainedConfig):
                setattr(self, name, config.from_dict(value or {}))
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width H of the tower's vector, which is the fingerprint tower's."""
        fingerprint: Any = self.fingerprint_config
        return fingerprint.hidden_size

    def validate_ranges(self) -> None:
        """Checks the dropout probabilities; called by `@strict`."""
        for name in ("graph_dropout", "minimol_dropout"):
            check_number(name, getattr(self, name), least=0, below=1)


# Configurations of this package's towers by `model_type`.
TOWER_CONFIGS: dict[str, type[PreTrainedConfig]] = {
    LexicalConfig.model_type: LexicalConfig,
    MoleculeFingerprintConfig.model_type: MoleculeFingerprintConfig,
    MoleculeGraphConfig.model_type: MoleculeGraphConfig,
    MoleculeFusedConfig.model_type: MoleculeFusedConfig,
}


def tower_config(config: dict[str, Any] | PreTrainedConfig, role: str) -> PreTrainedConfig:
    """Returns the configuration object of a tower.

    Args:
        config: a configuration object, which is returned itself, or a dict with `model_type` and the fields.
        role: name of the argument, for the error message.

    Returns:
        The configuration object.

    Raises:
        ValueError: if the dict has no `model_type`.

    Example:

    >>> tower_config({"model_type": "lexical", "hidden_size": 8}, "text_config").hidden_size
    8
    """
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config)
    model_type = values.pop("model_type", None)
    if model_type is None:
        raise ValueError(
            f"`{role}` has no `model_type`; expected one of {sorted(TOWER_CONFIGS)} or a transformers one."
        )
    if model_type in TOWER_CONFIGS:
        return TOWER_CONFIGS[model_type].from_dict(values)
    return AutoConfig.for_model(model_type, **values)


@strict
class TextMoleculeDualEncoderConfig(PreTrainedConfig):
    r"""Configuration of [`TextMoleculeDualEncoderModel`].

    Args:
        text_config (`dict` or `PreTrainedConfig`, *optional*): the text tower; a dict needs `model_type`. Defaults
            to [`LexicalConfig`].
        molecule_config (`dict` or `PreTrainedConfig`, *optional*): the molecule tower. Defaults to
            [`MoleculeFingerprintConfig`].
        projection_dim (`int`, *optional*, defaults to 256): width D of the shared space.
        projection_dropout (`float`, *optional*, defaults to 0.0): dropout probability in front of each projection.
        logit_scale_init_value (`float`, *optional*, defaults to 2.6592): logarithm of the initial logit scale. The
            default is CLIP's log(1 / 0.07).
        logit_scale_max (`float`, *optional*, defaults to 100): upper bound of the logit scale, not of its logarithm.
            The default is CLIP's.
        learn_logit_scale (`bool`, *optional*, defaults to `True`): train the logit scale.
        freeze_text (`bool`, *optional*, defaults to `False`): keep the text tower's weights fixed. Its projection is
            trained.
        freeze_molecule (`bool`, *optional*, defaults to `False`): keep the molecule tower's weights fixed.
        tower_chunk_size (`int`, *optional*, defaults to 64): largest number of rows that a transformer tower encodes
            at once. Rows of similar length share a chunk.
        read_names (`bool`, *optional*, defaults to `False`): captions carry the structures that they name (see
            [`TextMoleculeProcessor`]), and the molecule tower encodes these structures for the text side.
        name_dropout (`float`, *optional*, defaults to 0.3): dropout probability of the vector of the names.
        name_context_buckets (`int`, *optional*, defaults to 16,384): number of ids of the tokens around a name, which
            scale the named structure. 0 ignores these tokens.
        initializer_range (`float`, *optional*, defaults to 0.02): standard deviation of initial embeddings.

    Raises:
        StrictDataclassFieldValidationError: if a value has the wrong type.
        StrictDataclassClassValidationError: if a value is out of its range; the message names it.

    Example:

    >>> config = TextMoleculeDualEncoderConfig(text_config={"model_type": "lexical", "hidden_size": 64})
    >>> config.text_config.hidden_size, config.molecule_config.model_type
    (64, 'molecule_fingerprint')
    """

    model_type = "text_molecule_dual_encoder"

    text_config: dict | PreTrainedConfig | None = None
    molecule_config: dict | PreTrainedConfig | None = None
    projection_dim: int = 256
    projection_dropout: float | int = 0.0
    logit_scale_init_value: float | int = 2.6592
    logit_scale_max: float | int = 100.0
    learn_logit_scale: bool = True
    freeze_text: bool = False
    freeze_molecule: bool = False
    tower_chunk_size: int = 64
    read_names: bool = False
    name_dropout: float | int = 0.3
    name_context_buckets: int = 2**14
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        check_misspelt_fields(self, kwargs)
        self.text_config = tower_config(self.text_config or LexicalConfig(), "text_config")
        self.molecule_config = tower_config(self.molecule_config or MoleculeFingerprintConfig(), "molecule_config")
        super().__post_init__(**kwargs)

    def validate_ranges(self):
        """Checks the ranges of all values; called by `@strict`."""
        for name in ("projection_dropout", "name_dropout"):
            check_number(name, getattr(self, name), least=0, below=1)
        for name, least in (("projection_dim", 1), ("tower_chunk_size", 1), ("name_context_buckets", 0)):
            check_integer(name, getattr(self, name), least)
        check_number("initializer_range", self.initializer_range, least=0)
        check_number("logit_scale_max", self.logit_scale_max, above=0)
        check_number("logit_scale_init_value", self.logit_scale_init_value)
        if self.read_names and self.freeze_text:
            raise ValueError(
                "`read_names` and `freeze_text` are both set; expected at most one. A frozen text tower's vectors "
                "are computed once, but the vectors of the names change while the molecule tower is trained."
            )
        if self.logit_scale_init_value > math.log(self.logit_scale_max):
            raise ValueError(
                f"`logit_scale_init_value` is {self.logit_scale_init_value}; expected at most "
                f"{math.log(self.logit_scale_max):.4f}, the logarithm of `logit_scale_max` {self.logit_scale_max}."
            )
