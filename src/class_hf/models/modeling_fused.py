"""A molecule tower that encodes a molecule twice: as a bag of substructures and as a graph."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_text_molecule import MoleculeFusedConfig
from .dropout import FastDropout
from .modeling_bag import MoleculeFingerprintModel
from .modeling_graph import MoleculeGraphModel


class MoleculeFusedModel(PreTrainedModel):
    """Adds the vector of a [`MoleculeFingerprintModel`] and the projected vector of a [`MoleculeGraphModel`].

    The bag holds which substructures occur, the graph how they are connected. Without graph inputs the result is the
    fingerprint's vector. The structures that captions name are encoded in this way, since they are mostly small and
    the bag is cheap.

    Example:

    >>> config = MoleculeFusedConfig(fingerprint_config={"num_buckets": 100, "hidden_size": 8})
    >>> ids, offsets = torch.tensor([1, 5, 7]), torch.tensor([0, 2, 3])
    >>> MoleculeFusedModel(config)(fragment_ids=ids, fragment_offsets=offsets).pooler_output.shape
    torch.Size([2, 8])
    """

    config_class = MoleculeFusedConfig
    base_model_prefix = "molecule_fused"
    main_input_name = "fragment_ids"
    supports_gradient_checkpointing = True  # of the graph's layers
    _no_split_modules = ["MoleculeGraphLayer"]

    def __init__(self, config: MoleculeFusedConfig):
        super().__init__(config)
        fingerprint_config: Any = config.fingerprint_config  # __post_init__ has converted dicts to objects
        graph_config: Any = config.graph_config
        self.fingerprint = MoleculeFingerprintModel(fingerprint_config)
        self.graph = MoleculeGraphModel(graph_config)
        self.dropout = FastDropout(config.graph_dropout)
        self.graph_projection = nn.Linear(self.graph.config.hidden_size, config.hidden_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialises the weights of a module that no checkpoint has set."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)

    def forward(
        self, fragment_ids: torch.Tensor, fragment_offsets: torch.Tensor, **graphs: torch.Tensor
    ) -> BaseModelOutputWithPooling:
        """Encodes B molecules.

        Args:
            fragment_ids (T,): as for [`MoleculeFingerprintModel`].
            fragment_offsets (B + 1,): as for [`MoleculeFingerprintModel`].
            **graphs: the inputs of [`MoleculeGraphModel`] for the same molecules; all of them or none.

        Returns:
            `pooler_output` (B, H).
        """
        pooled = self.fingerprint(fragment_ids, fragment_offsets).pooler_output
        if graphs:
            pooled = pooled + self.graph_projection(self.dropout(self.graph(**graphs).pooler_output))
        return BaseModelOutputWithPooling(pooler_output=pooled)
