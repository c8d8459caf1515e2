"""Configurations of the dual encoder, of its two light towers, and of the one that joins a light one to a graph."""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_graph import MoleculeGraphConfig


@strict
class BagConfig(PreTrainedConfig):
    r"""What [`LexicalConfig`] and [`MoleculeFingerprintConfig`] share: a bag of embeddings and a small MLP.

    Args:
        num_buckets: rows of the hashed embedding table; equals the tokenizer's or featurizer's `num_buckets`.
        embedding_size: width of one token's embedding.
        hidden_size: width H of the pooled output.
        intermediate_size: width of the hidden layer of the MLP.
        dropout: dropout probability inside the MLP.
        token_dropout: probability with which a single token is left out in training.
    """

    num_buckets: int = 2**16
    embedding_size: int = 256
    hidden_size: int = 512
    intermediate_size: int = 1024
    dropout: float | int = 0.1
    token_dropout: float | int = 0.0
    initializer_range: float = 0.02

    def validate_probabilities(self):
        """Part of the `@strict` validation."""
        for name in ("dropout", "token_dropout"):
            _check_probability(name, getattr(self, name))


@strict
class LexicalConfig(BagConfig):
    r"""Configuration of [`LexicalModel`], a text tower over hashed word and character n-grams (ours).

    Args: see [`BagConfig`]; a token is an n-gram of the caption.

    Example:

    >>> LexicalConfig(hidden_size=64).hidden_size
    64
    """

    model_type = "lexical"


@strict
class MoleculeFingerprintConfig(BagConfig):
    r"""Configuration of [`MoleculeFingerprintModel`], a molecule tower over Morgan substructures (ours).

    It is the learnable counterpart of mol2vec (Jaeger et al., 2018): each substructure has an embedding of its own,
    and a molecule is the bag of its substructures.

    Args: see [`BagConfig`]; a token is a substructure of the molecule.
    """

    model_type = "molecule_fingerprint"


@strict
class MoleculeFusedConfig(PreTrainedConfig):
    r"""Configuration of [`MoleculeFusedModel`], a molecule tower over substructures and the graph (ours).

    Args:
        fingerprint_config: a [`MoleculeFingerprintConfig`], or a dict of its fields; its `hidden_size` is the tower's.
        graph_config: a [`MoleculeGraphConfig`], or a dict of its fields.
        graph_dropout: dropout probability of the graph's vector.

    Example:

    >>> MoleculeFusedConfig(fingerprint_config={"hidden_size": 64}, graph_config={"num_layers": 2}).hidden_size
    64
    """

    model_type = "molecule_fused"

    fingerprint_config: dict[str, Any] | PreTrainedConfig | None = None
    graph_config: dict[str, Any] | PreTrainedConfig | None = None
    graph_dropout: float | int = 0.3

    def __post_init__(self, **kwargs: Any) -> None:
        for name, config in (("fingerprint_config", MoleculeFingerprintConfig), ("graph_config", MoleculeGraphConfig)):
            value = getattr(self, name)
            if not isinstance(value, PreTrainedConfig):
                setattr(self, name, config.from_dict(value or {}))
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width H of the tower's vector, the fingerprint's."""
        fingerprint: Any = self.fingerprint_config
        return fingerprint.hidden_size

    def validate_graph_dropout(self) -> None:
        """Part of the `@strict` validation."""
        _check_probability("graph_dropout", self.graph_dropout)


def _check_probability(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"`{name}` is {value}; expected a probability in [0, 1).")


OWN_TOWERS: dict[str, type[PreTrainedConfig]] = {
    LexicalConfig.model_type: LexicalConfig,
    MoleculeFingerprintConfig.model_type: MoleculeFingerprintConfig,
    MoleculeGraphConfig.model_type: MoleculeGraphConfig,
    MoleculeFusedConfig.model_type: MoleculeFusedConfig,
}


def tower_config(config: dict[str, Any] | PreTrainedConfig, role: str) -> PreTrainedConfig:
    """The configuration object of one tower, from a dict that names its `model_type` or from itself.

    Raises:
        ValueError: if the dict has no `model_type`.
    """
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config)
    model_type = values.pop("model_type", None)
    if model_type is None:
        raise ValueError(f"`{role}` has no `model_type`; expected one of {sorted(OWN_TOWERS)} or a transformers one.")
    if model_type in OWN_TOWERS:
        return OWN_TOWERS[model_type].from_dict(values)
    return AutoConfig.for_model(model_type, **values)


@strict
class TextMoleculeDualEncoderConfig(PreTrainedConfig):
    r"""Configuration of [`TextMoleculeDualEncoderModel`].

    Args:
        text_config: configuration of the text tower: a dict with `model_type`, or a configuration object.
            Defaults to [`LexicalConfig`].
        molecule_config: configuration of the molecule tower. Defaults to [`MoleculeFingerprintConfig`].
        projection_dim: width D of the shared space.
        projection_dropout: dropout probability before each projection.
        logit_scale_init_value: initial log of the factor of the cosines (CLIP's log(1 / 0.07) by default).
        logit_scale_max: bound of that factor, not its log (CLIP's 100 by default).
        learn_logit_scale: whether the factor is learnt.
        freeze_text: keep the text tower's weights fixed (its projection still learns).
        freeze_molecule: keep the molecule tower's weights fixed.
        tower_chunk_size: rows of a batch that go through a transformer tower at once, neighbours in length together.
        read_names: captions come with the structures that they name (see [`TextMoleculeProcessor`]), which the
            molecule tower reads for the text side.
        name_dropout: dropout probability of what is read from names.
        name_context_buckets: ids of the tokens around names, by which a named structure is scaled; 0 reads none.

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
        self.text_config = tower_config(self.text_config or LexicalConfig(), "text_config")
        self.molecule_config = tower_config(self.molecule_config or MoleculeFingerprintConfig(), "molecule_config")
        super().__post_init__(**kwargs)

    def validate_scale(self):
        """Part of the `@strict` validation."""
        _check_probability("projection_dropout", self.projection_dropout)
        _check_probability("name_dropout", self.name_dropout)
        if self.read_names and self.freeze_text:
            raise ValueError(
                "`read_names` and `freeze_text` are both set, but a frozen text tower's vectors are computed once, "
                "without the names, which the molecule tower reads anew as it learns. Leave one of them out."
            )
        if self.name_context_buckets < 0:
            raise ValueError(
                f"`name_context_buckets` is {self.name_context_buckets}; expected a number of ids, or 0 for none."
            )
        if self.projection_dim < 1:
            raise ValueError(f"`projection_dim` is {self.projection_dim}; expected at least 1.")
        if self.tower_chunk_size < 1:
            raise ValueError(f"`tower_chunk_size` is {self.tower_chunk_size}; expected at least 1 row.")
        if self.logit_scale_max <= 0:
            raise ValueError(f"`logit_scale_max` is {self.logit_scale_max}; expected a positive factor.")
        if self.logit_scale_init_value > math.log(self.logit_scale_max):
            raise ValueError(
                f"`logit_scale_init_value` is {self.logit_scale_init_value}, the log of more than `logit_scale_max` "
                f"{self.logit_scale_max}; expected a log of at most {math.log(self.logit_scale_max):.4f}."
            )
