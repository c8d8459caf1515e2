"""The dual encoder: a text tower, a molecule tower, and a projection of each into a shared space."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .argument_checks import check_fields
from .configuration_text_molecule import (
    MOLECULE_PREFIX,
    NAMED_INPUT_NAMES,
    NAMED_PREFIX,
    TextMoleculeDualEncoderConfig,
)
from .dropout import FastDropout
from .modeling_bag import embed_bags
from .modeling_towers import TOWER_MODELS, build_tower, check_tower_inputs, resolve_tower
from .ragged_text import encode_ragged, mean_pool

_CONTEXT_SIZE = 128  # width of the embeddings of the tokens around a name
_CONTEXT_DROPOUT = 0.2  # share of these tokens that training leaves out

DualEncoder = TypeVar("DualEncoder", bound="TextMoleculeDualEncoderModel")


@dataclass
class TextMoleculeDualEncoderOutput(ModelOutput):
    """Embeddings of a batch.

    Args:
        text_embeds (B, D): L2-normalised caption embeddings; None without captions.
        molecule_embeds (B, D): L2-normalised molecule embeddings; None without molecules.
        logit_scale (): factor of the cosines in the loss, not its logarithm.
    """

    text_embeds: torch.Tensor | None = None
    molecule_embeds: torch.Tensor | None = None
    logit_scale: torch.Tensor | None = None


def split_inputs(inputs: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Separates a batch into the inputs of the text side and those of the molecule tower.

    Args:
        inputs: a collated batch. Names with the prefix `molecule_` belong to the molecule tower.

    Returns:
        The text inputs, and the molecule inputs without their prefix. Each may be empty, but not both.

    Raises:
        ValueError: if the batch is empty.

    Example:

    >>> split_inputs({"input_ids": torch.zeros(1), "molecule_fragment_ids": torch.zeros(1)})
    ({'input_ids': tensor([0.])}, {'fragment_ids': tensor([0.])})
    """
    if not inputs:
        raise ValueError("no inputs: pass the processor's output for captions, molecules or both.")
    text_inputs, molecule_inputs = {}, {}
    for name, value in inputs.items():
        if name.startswith(MOLECULE_PREFIX):
            molecule_inputs[name.removeprefix(MOLECULE_PREFIX)] = value
        else:
            text_inputs[name] = value
    return text_inputs, molecule_inputs


class LogitScale(nn.Module):
    """The factor of the cosines in the loss, stored as a bounded logarithm.

    It is a module, so that adapters can name it among the modules that they save.

    Source: CLIP (Radford et al., 2021, section 2.5).

    Args:
        init_value: logarithm of the initial factor.
        max_value: upper bound of the factor.
        learnt: whether the factor is trained.
    """

    def __init__(self, init_value: float, max_value: float, learnt: bool):
        super().__init__()
        self.init_value = init_value
        self.max_value = max_value
        # Shape (1,) and not (): FSDP2 splits parameters along their first dimension.
        self.log_scale = nn.Parameter(torch.tensor([float(init_value)]), requires_grad=learnt)

    def forward(self) -> torch.Tensor:
        """Returns the factor, (), in (0, max_value]."""
        bound = math.log(self.max_value)
        if self.training and self.log_scale.requires_grad:
            # Clamp the stored parameter, as CLIP does. Clamping only the output zeroes its gradient at the bound, so
            # the scale could never decrease. FSDP2 and DeepSpeed pass a copy of the parameter; with them the stored
            # value may exceed the bound, but the output stays bounded and keeps its gradient.
            # `data`, because autograd refuses in-place changes between two forward passes and their backward pass.
            self.log_scale.data.clamp_(max=bound)
        return self.log_scale.float().clamp(max=bound).squeeze(0).exp()


class NamedStructures(nn.Module):
    """Turns the vectors of the structures that captions name into one vector per caption: (K, H_m) to (B, H).

    Each vector is scaled, component by component, according to the words around its name: "derives from X" and
    "replaced by X" relate the molecule to X in different ways. The scaled vectors are summed by caption, normalised
    and projected. The scales are 1 at initialisation. The molecule tower that encodes the candidates also encodes the
    named structures. A caption that names a close relative of its molecule is therefore near the molecule before
    training.

    Args:
        molecule_size: width H_m of the molecule tower's vectors.
        text_size: width H of the text tower's vectors.
        dropout: dropout probability of the sums and of the context.
        context_buckets: number of ids of the tokens around a name. 0 ignores these tokens and scales nothing.
    """

    def __init__(self, molecule_size: int, text_size: int, dropout: float, context_buckets: int):
        super().__init__()
        self.context_buckets = context_buckets
        if context_buckets:
            self.context = nn.Embedding(context_buckets, _CONTEXT_SIZE)
            self.context_norm = nn.LayerNorm(_CONTEXT_SIZE)
            self.scale = nn.Linear(_CONTEXT_SIZE, molecule_size)
        self.norm = nn.LayerNorm(molecule_size)
        self.projection = nn.Linear(molecule_size, text_size, bias=False)
        self.dropout = FastDropout(dropout)

    def forward(
        self,
        vectors: torch.Tensor,
        rows: torch.Tensor,
        context_ids: torch.Tensor,
        context_offsets: torch.Tensor,
        captions: int,
    ) -> torch.Tensor:
        """Computes the vectors that are added to the captions' vectors.

        Args:
            vectors (K, H_m): vectors of the structures.
            rows (K,): the caption of each structure. A structure of row `captions` belongs to no caption.
            context_ids (N,): hashes of the tokens around the names, one structure after the other.
            context_offsets (K + 1,): where the tokens of each structure begin, and N.
            captions: number of captions B.

        Returns:
            (B, H).
        """
        if self.context_buckets:
            ids = context_ids % self.context_buckets
            context = embed_bags(self.context, ids, context_offsets, _CONTEXT_DROPOUT if self.training else 0.0)
            vectors = vectors * (1.0 + self.scale(self.dropout(self.context_norm(context)))).to(vectors.dtype)
        sums = vectors.new_zeros(captions + 1, vectors.shape[1]).index_add(0, rows, vectors)[:captions]
        return self.projection(self.dropout(self.norm(sums)))


class TextMoleculeDualEncoderModel(PreTrainedModel):
    """Embeds captions and molecules in one space, in which a caption is near its molecule.

    The text tower is `lexical` or any `AutoModel`. The molecule tower is `fingerprint`, `graph`, `fused` or any
    `AutoModel`. The token states of an `AutoModel` are mean-pooled. A linear projection follows each tower, and the
    result is L2-normalised. With `config.read_names` the molecule tower also encodes the structures that a caption
    names. Their vector is added to that of the caption before the projection.

    Args:
        config: the configuration.
        text_model: the text tower. Default: a new tower from `config.text_config`.
        molecule_model: the molecule tower. Default: a new tower from `config.molecule_config`.

    Example:

    >>> model = TextMoleculeDualEncoderModel.from_towers(text="lexical", molecule="fingerprint", projection_dim=16)
    >>> model.config.projection_dim, model.config.text_config.model_type
    (16, 'lexical')
    """

    config_class = TextMoleculeDualEncoderConfig
    base_model_prefix = "dual_encoder"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(
        self,
        config: TextMoleculeDualEncoderConfig,
        text_model: PreTrainedModel | None = None,
        molecule_model: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        text_config: Any = config.text_config  # __post_init__ has converted dicts to configuration objects
        molecule_config: Any = config.molecule_config
        self.text_model = build_tower(text_config) if text_model is None else text_model
        self.molecule_model = build_tower(molecule_config) if molecule_model is None else molecule_model
        self.text_projection = nn.Linear(text_config.hidden_size, config.projection_dim, bias=False)
        self.molecule_projection = nn.Linear(molecule_config.hidden_size, config.projection_dim, bias=False)
        self.projection_dropout = FastDropout(config.projection_dropout)
        self.names = None
        if config.read_names:
            sizes = (molecule_config.hidden_size, text_config.hidden_size)
            self.names = NamedStructures(*sizes, config.name_dropout, config.name_context_buckets)
        self.logit_scale = LogitScale(config.logit_scale_init_value, config.logit_scale_max, config.learn_logit_scale)
        self.post_init()
        if config.freeze_text:
            self.text_model.requires_grad_(False)
        if config.freeze_molecule:
            self.molecule_model.requires_grad_(False)

    @classmethod
    def from_towers(
        cls: type[DualEncoder],
        text: str | PreTrainedConfig | PreTrainedModel = "lexical",
        molecule: str | PreTrainedConfig | PreTrainedModel = "fingerprint",
        *,
        text_kwargs: dict[str, Any] | None = None,
        molecule_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> DualEncoder:
        """Joins two towers. A tower that has trained weights keeps them.

        Args:
            text: `"lexical"`, a folder or Hub id of any `AutoModel`, a configuration, or a model.
            molecule: `"fingerprint"`, `"graph"`, `"fused"`, a folder or Hub id of an `AutoModel` that reads SMILES, a
                configuration, or a model.
            text_kwargs: fields of the text tower's configuration, for a name, a folder or a Hub id.
            molecule_kwargs: fields of the molecule tower's configuration, likewise.
            **kwargs: fields of the dual encoder's configuration.

        Returns:
            The dual encoder, with new projections.
        """
        text_model = resolve_tower(text, **(text_kwargs or {}))
        molecule_model = resolve_tower(molecule, **(molecule_kwargs or {}))
        config_class: Any = cls.config_class
        check_fields(config_class.__name__, kwargs, config_class().to_dict())
        config = config_class(text_config=text_model.config, molecule_config=molecule_model.config, **kwargs)
        return cls(config, text_model=text_model, molecule_model=molecule_model)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialises the weights of a module that no checkpoint has set."""
        if self.names is not None and module is getattr(self.names, "scale", None):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, LogitScale):
            init.constant_(module.log_scale, float(module.init_value))
        else:
            super()._init_weights(module)

    @property
    def supports_gradient_checkpointing(self) -> bool:  # type: ignore[override]  # it depends on the towers
        """Whether a tower can recompute its activations: transformers and graph networks can, bags cannot."""
        return any(tower.supports_gradient_checkpointing for tower in (self.text_model, self.molecule_model))

    def _refuse_checkpointing(self) -> None:
        """Raises ValueError if no tower can recompute its activations."""
        if not self.supports_gradient_checkpointing:
            towers = (type(tower).__name__ for tower in (self.text_model, self.molecule_model))
            raise ValueError(
                f"activation checkpointing is set, but neither tower supports it: {' and '.join(towers)}. Leave it "
                "out, or choose a transformer or a graph network as a tower."
            )

    # transformers 5.22 renamed the method. The old name calls the new one.
    if hasattr(PreTrainedModel, "activation_checkpointing_enable"):

        def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
            """Recomputes the activations of the towers that support it. Raises ValueError if none does."""
            self._refuse_checkpointing()
            super().activation_checkpointing_enable(*args, **kwargs)

    else:

        def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
            """Recomputes the activations of the towers that support it. Raises ValueError if none does."""
            self._refuse_checkpointing()
            super().gradient_checkpointing_enable(*args, **kwargs)

    def get_input_embeddings(self) -> None:  # type: ignore[override]  # there is no single table
        """Returns None, since each tower has its own embeddings. accelerate asks for FSDP2, to wrap them apart."""
        return None

    def train(self, mode: bool = True) -> "TextMoleculeDualEncoderModel":
        """Sets training or evaluation mode. A frozen tower stays in evaluation mode, so its output is constant."""
        super().train(mode)
        if self.config.freeze_text:
            self.text_model.eval()
        if self.config.freeze_molecule:
            self.molecule_model.eval()
        return self

    def _pooled(self, tower: PreTrainedModel, inputs: dict[str, Any], frozen: bool) -> torch.Tensor:
        """One vector per caption or molecule, (B, H), from a tower of any kind."""
        check_tower_inputs(tower, inputs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            if tower.config.model_type in TOWER_MODELS:
                return tower(**inputs).pooler_output
            if "text_offsets" in inputs:
                return encode_ragged(tower, inputs["input_ids"], inputs["text_offsets"], self.config.tower_chunk_size)
            return mean_pool(tower(**inputs).last_hidden_state, inputs.get("attention_mask"))

    def pooled_text(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """Encodes captions up to the projection.

        Args:
            **text_inputs: inputs of the text tower, and the `named_` inputs if the model reads names. `text_pooled`
                (B, H), vectors of a frozen tower that were computed before, is returned unchanged.

        Returns:
            (B, H), with the vectors of the names added.

        Raises:
            ValueError: if the model reads names and the inputs have none, or the reverse.
        """
        if "text_pooled" in text_inputs:
            return text_inputs["text_pooled"]
        named = {name: value for name, value in text_inputs.items() if name.startswith(NAMED_PREFIX)}
        if bool(named) != (self.names is not None):
            raise ValueError(
                f"the model has read_names={self.config.read_names}, but the batch has {sorted(text_inputs)}. Prepare "
                f"it with the model's own processor, or one with read_names={self.config.read_names}."
            )
        text_inputs = {name: value for name, value in text_inputs.items() if name not in named}
        pooled = self._pooled(self.text_model, text_inputs, self.config.freeze_text)
        if self.names is None:
            return pooled
        rows, *context = (named.pop(name) for name in NAMED_INPUT_NAMES)
        structures = {name.removeprefix(NAMED_PREFIX): value for name, value in named.items()}
        vectors = self._pooled(self.molecule_model, structures, self.config.freeze_molecule)
        return pooled + self.names(vectors, rows, *context, len(pooled))

    def pooled_molecules(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """Encodes molecules up to the projection.

        Args:
            **molecule_inputs: inputs of the molecule tower, with or without the prefix `molecule_`.
                `molecule_pooled` (B, H), vectors of a frozen tower that were computed before, is returned unchanged.

        Returns:
            (B, H).
        """
        inputs = {name.removeprefix(MOLECULE_PREFIX): value for name, value in molecule_inputs.items()}
        if "pooled" in inputs:
            return inputs["pooled"]
        return self._pooled(self.molecule_model, inputs, self.config.freeze_molecule)

    def get_text_features(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """Embeds captions.

        Args:
            **text_inputs: as for `pooled_text`.

        Returns:
            (B, D) float32, L2-normalised.
        """
        pooled = self.pooled_text(**text_inputs)
        return F.normalize(self.text_projection(self.projection_dropout(pooled)).float(), dim=-1)

    def get_molecule_features(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """Embeds molecules.

        Args:
            **molecule_inputs: as for `pooled_molecules`.

        Returns:
            (B, D) float32, L2-normalised.
        """
        pooled = self.pooled_molecules(**molecule_inputs)
        return F.normalize(self.molecule_projection(self.projection_dropout(pooled)).float(), dim=-1)

    def forward(self, **inputs: torch.Tensor) -> TextMoleculeDualEncoderOutput:
        """Embeds a batch of captions, of molecules, or of both.

        Args:
            **inputs: the processor's output. Names with the prefix `molecule_` go to the molecule tower, the others
                to the text tower.

        Returns:
            [`TextMoleculeDualEncoderOutput`]. The embeddings of a missing side are None.

        Raises:
            ValueError: if there are no inputs.
        """
        text_inputs, molecule_inputs = split_inputs(inputs)
        return TextMoleculeDualEncoderOutput(
            text_embeds=self.get_text_features(**text_inputs) if text_inputs else None,
            molecule_embeds=self.get_molecule_features(**molecule_inputs) if molecule_inputs else None,
            logit_scale=self.logit_scale(),
        )
