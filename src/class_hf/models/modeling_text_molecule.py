"""The dual encoder: a text tower, a molecule tower, and one space for both."""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_graph import MoleculeGraphConfig
from .configuration_text_molecule import (
    OWN_TOWERS,
    LexicalConfig,
    MoleculeFingerprintConfig,
    MoleculeFusedConfig,
    TextMoleculeDualEncoderConfig,
)
from .modeling_bag import LexicalModel, MoleculeFingerprintModel, embed_bags
from .modeling_fused import MoleculeFusedModel
from .modeling_graph import MoleculeGraphModel
from .ragged_text import encode_ragged, mean_pool

MOLECULE_PREFIX = "molecule_"  # batch keys with it go to the molecule tower, without the prefix
NAMED_PREFIX = "named_"  # of the structures that captions name: the molecule tower's inputs, and these
NAMED_INPUT_NAMES = ("named_rows", "named_context_ids", "named_context_offsets")

_OWN_MODELS: dict[str, type[PreTrainedModel]] = {
    LexicalConfig.model_type: LexicalModel,
    MoleculeFingerprintConfig.model_type: MoleculeFingerprintModel,
    MoleculeGraphConfig.model_type: MoleculeGraphModel,
    MoleculeFusedConfig.model_type: MoleculeFusedModel,
}
_CONTEXT_SIZE, _CONTEXT_DROPOUT = 128, 0.2  # width, and share of the tokens around a name that training leaves out
SHORT_NAMES = {
    "lexical": "lexical",
    "fingerprint": "molecule_fingerprint",
    "graph": "molecule_graph",
    "fused": "molecule_fused",
}


@dataclass
class TextMoleculeDualEncoderOutput(ModelOutput):
    """
    Args:
        text_embeds (B, D): caption vectors of length 1.
        molecule_embeds (B, D): molecule vectors of length 1.
        logit_scale (): factor of the cosines, not its log.
    """

    text_embeds: torch.Tensor | None = None
    molecule_embeds: torch.Tensor | None = None
    logit_scale: torch.Tensor | None = None


class LogitScale(nn.Module):
    """The learnt factor of the cosines, kept as a bounded log (CLIP; Radford et al., 2021, section 2.5).

    A module of its own, so that adapters can name it among the modules that they save.
    """

    def __init__(self, init_value: float, max_value: float, learnt: bool):
        super().__init__()
        self.init_value = init_value
        self.max_value = max_value
        # One number in a row of its own: FSDP2 splits parameters along their first dimension.
        self.log_scale = nn.Parameter(torch.tensor([float(init_value)]), requires_grad=learnt)

    def forward(self) -> torch.Tensor:
        """() factor in (0, max_value]."""
        bound = math.log(self.max_value)
        if self.training and self.log_scale.requires_grad:
            # The parameter itself, as CLIP does: a clamped output alone has no gradient, and could never come down.
            # FSDP2 and DeepSpeed show a copy here: the factor is bounded and has a gradient, what they keep may go on.
            # Through `data`, since autograd would take a second forward pass before the backward one for a fault.
            self.log_scale.data.clamp_(max=bound)
        return self.log_scale.float().clamp(max=bound).squeeze(0).exp()


def _build_tower(config: PreTrainedConfig) -> PreTrainedModel:
    own = _OWN_MODELS.get(config.model_type)
    if own is not None:
        return own(config)
    pooler = _without_pooler(AutoModel._model_mapping.get(type(config), None))
    return AutoModel.from_config(config, dtype=torch.float32, **_attention(config), **pooler)


def _attention(config: PreTrainedConfig) -> dict[str, str]:
    """Keyword that chooses eager attention on a CPU, unless the configuration names one.

    With matrix units eager trains captions of some 100 tokens 1.5 times as fast as SDPA on a CPU, and no slower
    without them. On an accelerator transformers' own choice, SDPA, stays.
    """
    named = getattr(config, "_attn_implementation", None) is not None
    return {} if named or torch.accelerator.is_available() else {"attn_implementation": "eager"}


def _without_pooler(model_class: Any) -> dict[str, bool]:
    """Keyword that leaves the pooler out where a model has one: mean pooling never trains it, and DDP minds."""
    if isinstance(model_class, type) and "add_pooling_layer" in inspect.signature(model_class).parameters:
        return {"add_pooling_layer": False}
    return {}


def _resolve_tower(tower: str | PreTrainedConfig | PreTrainedModel, **config_kwargs: Any) -> PreTrainedModel:
    """A tower from its short name, its configuration, a folder or Hub id, or itself."""
    # In float32 throughout: half-precision weights do not train; autocast (bf16=True) is what saves time.
    if isinstance(tower, PreTrainedModel):
        return tower.float()
    if isinstance(tower, PreTrainedConfig):
        return _build_tower(tower)
    if tower in SHORT_NAMES:
        return _build_tower(OWN_TOWERS[SHORT_NAMES[tower]](**config_kwargs))
    config = AutoConfig.from_pretrained(tower, **config_kwargs)
    own = _OWN_MODELS.get(config.model_type)
    if own is not None:
        return own.from_pretrained(tower, config=config, dtype=torch.float32)
    pooler = _without_pooler(AutoModel._model_mapping.get(type(config), None))
    return AutoModel.from_pretrained(tower, config=config, dtype=torch.float32, **_attention(config), **pooler)


class NamedStructures(nn.Module):
    """What a caption's names add to its vector (ours): the molecule tower's vectors of K structures to (B, H).

    Each is scaled, component by component, by what stands around its name: what the molecule derives from is not what
    replaces a hydrogen of it. They are added up by caption, normalised, and mapped linearly. The tower is the one that
    reads the candidates, so that a caption which names a relative of its molecule lies next to it from the start; the
    scales begin at 1.

    Args:
        molecule_size, text_size: H_m and H.
        dropout: of the sums, and of the surroundings.
        context_buckets: ids of the tokens around names; 0 does not read them, and all structures count alike.
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
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        vectors: torch.Tensor,
        rows: torch.Tensor,
        context_ids: torch.Tensor,
        context_offsets: torch.Tensor,
        captions: int,
    ) -> torch.Tensor:
        """
        Args:
            vectors (K, H_m): of the structures.
            rows (K,): the captions that name them; a structure of row `captions` belongs to none.
            context_ids (N,), context_offsets (K + 1,): hashes of the tokens around each.
            captions: B.

        Returns:
            (B, H) what is added to the captions' vectors.
        """
        if self.context_buckets:
            ids = context_ids % self.context_buckets
            context = embed_bags(self.context, ids, context_offsets, _CONTEXT_DROPOUT if self.training else 0.0)
            vectors = vectors * (1.0 + self.scale(self.dropout(self.context_norm(context)))).to(vectors.dtype)
        sums = vectors.new_zeros(captions + 1, vectors.shape[1]).index_add(0, rows, vectors)[:captions]
        return self.projection(self.dropout(self.norm(sums)))


class TextMoleculeDualEncoderModel(PreTrainedModel):
    """Embeds captions and molecules in one space, where a caption lies next to its molecule.

    Towers are this package's (`lexical`; `fingerprint`, `graph`, `fused`) or any `AutoModel`; the latter's token
    states are mean-pooled. A linear projection of each tower's vector is brought to length 1. With `read_names` the
    molecule tower also reads the structures that a caption names, which are added to the caption's vector.

    Example:

    >>> model = TextMoleculeDualEncoderModel.from_towers(text="lexical", molecule="fingerprint", projection_dim=16)
    >>> model.config.projection_dim, model.config.text_config.model_type
    (16, 'lexical')
    """

    config_class = TextMoleculeDualEncoderConfig
    base_model_prefix = "dual_encoder"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(
        self,
        config: TextMoleculeDualEncoderConfig,
        text_model: PreTrainedModel | None = None,
        molecule_model: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        text_config: Any = config.text_config  # the configuration has made objects of dicts
        molecule_config: Any = config.molecule_config
        self.text_model = _build_tower(text_config) if text_model is None else text_model
        self.molecule_model = _build_tower(molecule_config) if molecule_model is None else molecule_model
        self.text_projection = nn.Linear(text_config.hidden_size, config.projection_dim, bias=False)
        self.molecule_projection = nn.Linear(molecule_config.hidden_size, config.projection_dim, bias=False)
        self.projection_dropout = nn.Dropout(config.projection_dropout)
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
        cls,
        text: str | PreTrainedConfig | PreTrainedModel = "lexical",
        molecule: str | PreTrainedConfig | PreTrainedModel = "fingerprint",
        *,
        text_kwargs: dict[str, Any] | None = None,
        molecule_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> "TextMoleculeDualEncoderModel":
        """Joins two towers; their weights are kept where they have any.

        Args:
            text: `"lexical"`, a folder or Hub id of any `AutoModel`, a configuration, or a model.
            molecule: `"fingerprint"`, `"graph"`, `"fused"`, a folder or Hub id of an `AutoModel` that reads SMILES, a
                configuration, or a model.
            text_kwargs, molecule_kwargs: fields of that tower's configuration.
            **kwargs: fields of [`TextMoleculeDualEncoderConfig`].
        """
        text_model = _resolve_tower(text, **(text_kwargs or {}))
        molecule_model = _resolve_tower(molecule, **(molecule_kwargs or {}))
        config = TextMoleculeDualEncoderConfig(
            text_config=text_model.config, molecule_config=molecule_model.config, **kwargs
        )
        return cls(config, text_model=text_model, molecule_model=molecule_model)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
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

    def get_input_embeddings(self) -> None:  # type: ignore[override]  # no one table
        """None: the towers have their own. accelerate asks for FSDP2, to split them apart from the other layers."""
        return None

    def train(self, mode: bool = True) -> "TextMoleculeDualEncoderModel":
        """As `nn.Module.train`, but a frozen tower stays in evaluation mode: its output must not be random."""
        super().train(mode)
        if self.config.freeze_text:
            self.text_model.eval()
        if self.config.freeze_molecule:
            self.molecule_model.eval()
        return self

    def _pooled(self, tower: PreTrainedModel, inputs: dict[str, Any], frozen: bool) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            if tower.config.model_type in _OWN_MODELS:
                return tower(**inputs).pooler_output
            if "text_offsets" in inputs:
                chunk_size = self.config.tower_chunk_size
                return encode_ragged(tower, inputs["input_ids"], inputs["text_offsets"], chunk_size)
            return mean_pool(tower(**inputs).last_hidden_state, inputs.get("attention_mask"))

    def pooled_text(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """The text tower's vectors before the projection, what names add included: its inputs to (B, H).

        `text_pooled` (B, H), a frozen tower's vectors computed before, comes back as it is.

        Raises:
            ValueError: if the model reads names and the inputs have none, or the other way round.
        """
        if "text_pooled" in text_inputs:
            return text_inputs["text_pooled"]
        named = {name: value for name, value in text_inputs.items() if name.startswith(NAMED_PREFIX)}
        if bool(named) != (self.names is not None):
            raise ValueError(
                f"the model has read_names={self.config.read_names}, but the batch has {sorted(text_inputs)}. Prepare "
                f"it with the model's own processor, or one with read_names={self.config.read_names}."
            )
        texts = {name: value for name, value in text_inputs.items() if name not in named}
        pooled = self._pooled(self.text_model, texts, self.config.freeze_text)
        if self.names is None:
            return pooled
        rows, *context = (named.pop(name) for name in NAMED_INPUT_NAMES)
        structures = {name.removeprefix(NAMED_PREFIX): value for name, value in named.items()}
        vectors = self._pooled(self.molecule_model, structures, self.config.freeze_molecule)
        return pooled + self.names(vectors, rows, *context, len(pooled))

    def pooled_molecules(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """The molecule tower's vectors before the projection: its inputs, with or without `molecule_`, to (B, H).

        `molecule_pooled` (B, H), a frozen tower's vectors computed before, comes back as it is.
        """
        inputs = {name.removeprefix(MOLECULE_PREFIX): value for name, value in molecule_inputs.items()}
        if "pooled" in inputs:
            return inputs["pooled"]
        return self._pooled(self.molecule_model, inputs, self.config.freeze_molecule)

    def get_text_features(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """Caption vectors of length 1: the text tower's inputs to (B, D)."""
        pooled = self.pooled_text(**text_inputs)
        return F.normalize(self.text_projection(self.projection_dropout(pooled)).float(), dim=-1)

    def get_molecule_features(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """Molecule vectors of length 1: the molecule tower's inputs, with or without `molecule_`, to (B, D)."""
        pooled = self.pooled_molecules(**molecule_inputs)
        return F.normalize(self.molecule_projection(self.projection_dropout(pooled)).float(), dim=-1)

    def forward(self, **inputs: torch.Tensor) -> TextMoleculeDualEncoderOutput:
        """
        Args:
            **inputs: what the processor gives: the text tower's inputs by their own names, the molecule tower's
                with the prefix `molecule_`. Either side may be missing.

        Returns:
            [`TextMoleculeDualEncoderOutput`]; the embeddings of a missing side are None.
        """
        molecule_inputs = {name: value for name, value in inputs.items() if name.startswith(MOLECULE_PREFIX)}
        text_inputs = {name: value for name, value in inputs.items() if name not in molecule_inputs}
        if not inputs:
            raise ValueError("no inputs: pass the processor's output for captions, molecules or both.")
        return TextMoleculeDualEncoderOutput(
            text_embeds=self.get_text_features(**text_inputs) if text_inputs else None,
            molecule_embeds=self.get_molecule_features(**molecule_inputs) if molecule_inputs else None,
            logit_scale=self.logit_scale(),
        )
