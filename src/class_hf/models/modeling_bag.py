"""The two light towers: a bag of embeddings and a small MLP, over n-grams of a caption or substructures."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_text_molecule import BagConfig, LexicalConfig, MoleculeFingerprintConfig
from .dropout import FastDropout


class BagTable(nn.Embedding):
    """The embedding table of bags of ids, whose gradient can be compact.

    A batch uses few rows of a large table. A compact gradient is a coalesced sparse tensor of these rows. It takes
    less time and memory than a dense one, but needs an optimizer that reads it. The trainer sets `compact_gradients`
    where its optimizer does.
    """

    compact_gradients = False


class CompactBagSum(torch.autograd.Function):
    """Sums bags as `F.embedding_bag` does. The gradient of the table is a coalesced sparse tensor.

    `F.embedding_bag(sparse=True)` has one row of the gradient for each id of the batch. This function has one row for
    each different id.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """weight (R, H), ids (T,), offsets (B + 1,) -> (B, H)."""
        ctx.save_for_backward(ids, offsets)
        ctx.shape = weight.shape
        return F.embedding_bag(ids, weight, offsets, mode="sum", include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Gradients of the bags (B, H) -> gradient of the table, (R, H) sparse."""
        ids, offsets = ctx.saved_tensors
        ids, order = ids.sort(stable=True)
        bag = torch.repeat_interleave(offsets.diff(), output_size=len(ids)).index_select(0, order)
        rows, counts = ids.unique_consecutive(return_counts=True)
        # The gradient of a row is the sum over the bags that hold it: a look-up in the table of the bags' gradients.
        starts = F.pad(counts.cumsum(0), (1, 0))
        values = F.embedding_bag(bag, gradients[0].contiguous(), starts, mode="sum", include_last_offset=True)
        gradient = torch.sparse_coo_tensor(
            rows[None].long(), values, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return gradient, None, None


def sum_bags(embedding: nn.Embedding, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Sums the embeddings of each bag. The gradient of a [`BagTable`] with `compact_gradients` is sparse.

    Args:
        embedding: the table, of width H.
        ids (T,): the ids of all bags, one bag after the other.
        offsets (B + 1,): where each bag begins, and T; of the type of `ids`.

    Returns:
        (B, H).

    Raises:
        ValueError: if an id is not in the table. On an accelerator torch reports it instead.
    """
    compact = getattr(embedding, "compact_gradients", False) and torch.is_grad_enabled()
    try:
        if compact and embedding.weight.requires_grad:
            return CompactBagSum.apply(embedding.weight, ids, offsets)
        return F.embedding_bag(ids, embedding.weight, offsets, mode="sum", include_last_offset=True)
    except RuntimeError as error:
        if "valid range" not in str(error):
            raise
        raise ValueError(
            f"the batch has the id {int(ids.max())}, but the tower's embedding table has {embedding.num_embeddings} "
            "rows. Set num_buckets of the tokenizer or the feature extractor to that of the tower."
        ) from error


def embed_bags(embedding: nn.Embedding, ids: torch.Tensor, offsets: torch.Tensor, dropout: float) -> torch.Tensor:
    """Sums the embeddings of each bag and divides by the square root of the bag's size.

    The division gives long and short bags comparable norms at initialisation. A mean would make the members of a
    long bag vanish.

    Args:
        embedding: the table, of width H.
        ids (T,): the ids of all bags, one bag after the other.
        offsets (B + 1,): where each bag begins, and T.
        dropout: probability that an id is left out.

    Returns:
        (B, H).
    """
    sizes = offsets.diff().clamp(min=1).sqrt().unsqueeze(1)
    if dropout > 0:
        # Ids are removed and not weighted by zero: a weighted bag takes a third more time.
        kept = torch.rand(ids.shape, device=ids.device) >= dropout
        kept_before = F.pad(kept.cumsum(0, dtype=offsets.dtype), (1, 0))  # kept ids in front of each position
        ids, offsets, sizes = ids[kept], kept_before[offsets], sizes * (1.0 - dropout)
    bags = sum_bags(embedding, ids, offsets)
    return bags / sizes.to(bags.dtype)


class BagEncoder(nn.Module):
    """Embeds ragged bags of ids and applies one residual MLP: (T,) ids with (B + 1,) offsets to (B, H)."""

    def __init__(self, config: BagConfig):
        super().__init__()
        self.token_dropout = float(config.token_dropout)
        self.embedding = BagTable(config.num_buckets, config.embedding_size)
        self.bag_norm = nn.LayerNorm(config.embedding_size)
        self.dense_in = nn.Linear(config.embedding_size, config.intermediate_size)
        self.dense_out = nn.Linear(config.intermediate_size, config.hidden_size)
        self.shortcut = nn.Linear(config.embedding_size, config.hidden_size, bias=False)
        self.dropout = FastDropout(config.dropout)

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """ids (T,) integers, offsets (B + 1,) with offsets[0] = 0 and offsets[B] = T -> (B, H)."""
        bag = embed_bags(self.embedding, ids, offsets, self.token_dropout if self.training else 0.0)
        bag = self.dropout(self.bag_norm(bag))
        hidden = self.dropout(F.gelu(self.dense_in(bag)))
        return self.shortcut(bag) + self.dense_out(hidden)


class BagPreTrainedModel(PreTrainedModel):
    """Base of the two bag towers: the encoder and the initialisation of weights."""

    base_model_prefix = "encoder"
    supports_gradient_checkpointing = False

    def __init__(self, config: BagConfig):
        super().__init__(config)
        self.encoder = BagEncoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialises the weights of a module that no checkpoint has set."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class LexicalModel(BagPreTrainedModel):
    """Text tower over hashed n-grams.

    Example:

    >>> model = LexicalModel(LexicalConfig(num_buckets=100, hidden_size=8))
    >>> ids, offsets = torch.tensor([1, 5, 7]), torch.tensor([0, 2, 3])
    >>> model(input_ids=ids, text_offsets=offsets).pooler_output.shape
    torch.Size([2, 8])
    """

    config_class = LexicalConfig
    main_input_name = "input_ids"
    input_names = ("input_ids", "text_offsets")

    def forward(self, input_ids: torch.Tensor, text_offsets: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encodes captions.

        Args:
            input_ids (T,): the n-gram ids of all captions, one caption after the other.
            text_offsets (B + 1,): where each caption begins, and T.

        Returns:
            `pooler_output` (B, H).
        """
        return BaseModelOutputWithPooling(pooler_output=self.encoder(input_ids, text_offsets))


class MoleculeFingerprintModel(BagPreTrainedModel):
    """Molecule tower over hashed Morgan substructures, the trainable counterpart of mol2vec (Jaeger et al., 2018).

    Example:

    >>> model = MoleculeFingerprintModel(MoleculeFingerprintConfig(num_buckets=100, hidden_size=8))
    >>> ids, offsets = torch.tensor([1, 5, 7]), torch.tensor([0, 2, 3])
    >>> model(fragment_ids=ids, fragment_offsets=offsets).pooler_output.shape
    torch.Size([2, 8])
    """

    config_class = MoleculeFingerprintConfig
    main_input_name = "fragment_ids"
    input_names = ("fragment_ids", "fragment_offsets")

    def forward(self, fragment_ids: torch.Tensor, fragment_offsets: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encodes molecules.

        Args:
            fragment_ids (T,): the substructure ids of all molecules, one molecule after the other.
            fragment_offsets (B + 1,): where each molecule begins, and T.

        Returns:
            `pooler_output` (B, H).
        """
        return BaseModelOutputWithPooling(pooler_output=self.encoder(fragment_ids, fragment_offsets))
