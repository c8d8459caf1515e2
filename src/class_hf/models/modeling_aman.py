"""AMAN's backbone: a text tower and a graph transformer under one head that both modalities share."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .configuration_aman import GRAPH_TRANSFORMER, AmanConfig
from .configuration_text_molecule import MOLECULE_PREFIX
from .modeling_text_molecule import TextMoleculeDualEncoderModel, TextMoleculeDualEncoderOutput
from .modeling_towers import resolve_tower


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherRows(torch.autograd.Function):
    """All processes' rows in the order of the ranks. Backward: sum every process's gradient, keep the own rows.

    As in `class_hf.utils.distributed`, which a file that travels to the Hub cannot import.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(_processes())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd may own the original
        dist.all_reduce(total)
        return total.chunk(_processes())[dist.get_rank()]


class GlobalBatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics in training are those of all processes' rows, in float32.

    The layer itself is Ioffe and Szegedy's (2015, algorithm 1). torch's SyncBatchNorm needs a GPU; the rows here are
    few and narrow enough to be gathered as they are. Every process must hold the same number of rows.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(b, D) of any precision -> (b, D) float32."""
        with torch.autocast(input.device.type, enabled=False):
            rows = input.float()
            if not self.training or _processes() == 1:
                return super().forward(rows)
            return super().forward(_GatherRows.apply(rows)).chunk(_processes())[dist.get_rank()]


class SharedHead(nn.Module):
    """z = L2norm(tanh(BN(W h))), the same W and BN for captions and molecules: (N, D) -> (N, D) float32."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)  # the norm would take a bias away again
        self.batch_norm = GlobalBatchNorm(width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.batch_norm(self.linear(hidden)).tanh(), dim=-1)


class AmanModel(TextMoleculeDualEncoderModel):
    """The backbone of AMAN (adversarial modality alignment network, 2023), to be trained with [`AmanLoss`].

    Towers are those of [`TextMoleculeDualEncoderModel`]; each one's vector is brought to `projection_dim` by a linear
    map if its width is another one, and goes through a head that both modalities share ([`SharedHead`]).

    In training the head's batch norm sees captions and molecules of the global batch as one set of rows, so that the
    running statistics, by which either side alone is embedded in evaluation, are those that training saw. Hence
    training takes both sides at once; cached gradients (`forward_chunk_size`) are refused, because a chunk's
    statistics are not the batch's; and accumulated micro-batches are normalised each by itself.

    AMAN's code is not public: layers and sizes follow fragments and re-implementations. That the towers are pre-norm,
    that a caption is the mean of its token states, and that the statistics are joint are ours.

    Raises:
        ValueError: if one side alone is embedded in training mode.

    Example:

    >>> model = AmanModel.from_towers(text="lexical", molecule="fingerprint", projection_dim=16)
    >>> model.config.model_type, model.text_projection.out_features
    ('aman', 16)
    """

    config_class = AmanConfig
    base_model_prefix = "aman"
    uses_batch_statistics = True  # the trainer refuses to cut the batch of such a model into chunks
    _keep_in_fp32_modules_strict = ["batch_norm"]

    def __init__(
        self,
        config: AmanConfig,
        text_model: PreTrainedModel | None = None,
        molecule_model: PreTrainedModel | None = None,
    ):
        super().__init__(config, text_model, molecule_model)
        width = config.projection_dim
        for name in ("text_projection", "molecule_projection"):
            if getattr(self, name).in_features == width:
                setattr(self, name, nn.Identity())
        self.head = SharedHead(width)
        self.post_init()  # once more, for the head

    @classmethod
    def from_towers(
        cls,
        text: str | PreTrainedConfig | PreTrainedModel = "lexical",
        molecule: str | PreTrainedConfig | PreTrainedModel = "graph",
        *,
        text_kwargs: dict[str, Any] | None = None,
        molecule_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> "AmanModel":
        """As [`TextMoleculeDualEncoderModel.from_towers`]; `"graph"` is the graph transformer of [`AmanConfig`]."""
        if molecule == "graph":
            molecule_kwargs = {**GRAPH_TRANSFORMER, **(molecule_kwargs or {})}
        text_model = resolve_tower(text, **(text_kwargs or {}))
        molecule_model = resolve_tower(molecule, **(molecule_kwargs or {}))
        config = AmanConfig(text_config=text_model.config, molecule_config=molecule_model.config, **kwargs)
        return cls(config, text_model=text_model, molecule_model=molecule_model)

    def _hidden_texts(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.text_projection(self.projection_dropout(self.pooled_text(**inputs)))

    def _hidden_molecules(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.molecule_projection(self.projection_dropout(self.pooled_molecules(**inputs)))

    def _alone(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ValueError(
                "one side alone has no statistics in training, where the head's batch norm takes captions and "
                "molecules together. Pass both sides, or call model.eval() first."
            )
        return self.head(hidden)

    def get_text_features(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """Caption vectors of length 1, by the running statistics; inputs as of the base class."""
        return self._alone(self._hidden_texts(text_inputs))

    def get_molecule_features(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """Molecule vectors of length 1, by the running statistics; inputs as of the base class."""
        return self._alone(self._hidden_molecules(molecule_inputs))

    def forward(self, **inputs: torch.Tensor) -> TextMoleculeDualEncoderOutput:
        """As [`TextMoleculeDualEncoderModel.forward`]; in training with both sides."""
        molecule_inputs = {name: value for name, value in inputs.items() if name.startswith(MOLECULE_PREFIX)}
        text_inputs = {name: value for name, value in inputs.items() if name not in molecule_inputs}
        if not (self.training and text_inputs and molecule_inputs):
            return super().forward(**inputs)
        hidden = self._hidden_texts(text_inputs), self._hidden_molecules(molecule_inputs)
        texts, molecules = self.head(torch.cat(hidden)).split([len(side) for side in hidden])
        return TextMoleculeDualEncoderOutput(
            text_embeds=texts, molecule_embeds=molecules, logit_scale=self.logit_scale()
        )
