"""The backbone of AMAN: a text tower and a graph transformer, with one head for both modalities."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .configuration_aman import GRAPH_TRANSFORMER, AmanConfig
from .modeling_text_molecule import TextMoleculeDualEncoderModel, TextMoleculeDualEncoderOutput, split_inputs


def _world_size() -> int:
    """Number of processes, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherRows(torch.autograd.Function):
    """All processes' rows in the order of the ranks. Backward: sum all gradients, keep this process's rows.

    A copy of the gather in `class_hf.utils.distributed`. Files of this folder are uploaded with models, so they
    import only their neighbours.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd may own the original
        dist.all_reduce(total)
        return total.chunk(_world_size())[dist.get_rank()]


class GlobalBatchNorm(nn.BatchNorm1d):
    """Batch norm in float32 whose training statistics are those of all processes' rows.

    torch's SyncBatchNorm needs a GPU. The rows are few and narrow here, so all of them are gathered. Every process
    must hold the same number of rows.

    Source: Ioffe & Szegedy (2015, algorithm 1).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(b, D) of any precision -> (b, D) float32."""
        with torch.autocast(input.device.type, enabled=False):
            rows = input.float()
            if not self.training or _world_size() == 1:
                return super().forward(rows)
            return super().forward(_GatherRows.apply(rows)).chunk(_world_size())[dist.get_rank()]


class SharedHead(nn.Module):
    """z = normalize(tanh(BN(W h))), with the same W and BN for captions and molecules: (N, D) -> (N, D) float32.

    Args:
        width: D.
    """

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)  # batch norm would subtract a bias
        self.batch_norm = GlobalBatchNorm(width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (N, D), L2-normalised."""
        return F.normalize(self.batch_norm(self.linear(hidden)).tanh(), dim=-1)


class AmanModel(TextMoleculeDualEncoderModel):
    """The backbone of AMAN (adversarial modality alignment network, 2023). Train it with [`AmanLoss`].

    The towers are those of [`TextMoleculeDualEncoderModel`]. A linear map brings each tower's vector to
    `projection_dim`, unless it has that width. Then both modalities pass through one head ([`SharedHead`]).

    In training the head's batch norm sees the captions and molecules of the global batch as one set of rows. The
    running statistics describe both sides together. Evaluation uses them for each side alone. This has three
    consequences:

    - training needs both sides in one call;
    - cached gradients (`forward_chunk_size`) are refused, since a chunk has other statistics than its batch;
    - each micro-batch of gradient accumulation has its own statistics.

    AMAN's code is not public: layers and sizes follow fragments of it and re-implementations. The choice of pre-norm
    towers, mean-pooled captions and joint statistics is this project's.

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
        self.post_init()  # a second call, which initialises the head

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
        """Joins two towers, as [`TextMoleculeDualEncoderModel.from_towers`]. `"graph"` is AMAN's graph transformer."""
        if molecule == "graph":
            molecule_kwargs = {**GRAPH_TRANSFORMER, **(molecule_kwargs or {})}
        return super().from_towers(text, molecule, text_kwargs=text_kwargs, molecule_kwargs=molecule_kwargs, **kwargs)

    def _hidden_texts(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Caption vectors in front of the head, (B, D)."""
        return self.text_projection(self.projection_dropout(self.pooled_text(**inputs)))

    def _hidden_molecules(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Molecule vectors in front of the head, (B, D)."""
        return self.molecule_projection(self.projection_dropout(self.pooled_molecules(**inputs)))

    def _embed_one_side(self, hidden: torch.Tensor) -> torch.Tensor:
        """The head's output for captions or molecules alone; refused in training mode."""
        if self.training:
            raise ValueError(
                "one side alone has no batch statistics in training mode, in which the head normalises captions and "
                "molecules together. Pass both sides, or call model.eval() first."
            )
        return self.head(hidden)

    def get_text_features(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """Embeds captions with the running statistics: the text tower's inputs to (B, D), L2-normalised."""
        return self._embed_one_side(self._hidden_texts(text_inputs))

    def get_molecule_features(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """Embeds molecules with the running statistics: the molecule tower's inputs to (B, D), L2-normalised."""
        return self._embed_one_side(self._hidden_molecules(molecule_inputs))

    def forward(self, **inputs: torch.Tensor) -> TextMoleculeDualEncoderOutput:
        """Embeds a batch, as [`TextMoleculeDualEncoderModel.forward`]. Training mode needs both sides."""
        text_inputs, molecule_inputs = split_inputs(inputs)
        if not (self.training and text_inputs and molecule_inputs):
            return super().forward(**inputs)
        hidden = self._hidden_texts(text_inputs), self._hidden_molecules(molecule_inputs)
        texts, molecules = self.head(torch.cat(hidden)).split([len(side) for side in hidden])
        return TextMoleculeDualEncoderOutput(
            text_embeds=texts, molecule_embeds=molecules, logit_scale=self.logit_scale()
        )
