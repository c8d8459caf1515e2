"""A molecule tower that encodes a molecule as a bag of substructures, as a graph, and with a pretrained network."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_text_molecule import MoleculeFusedConfig
from .dropout import FastDropout
from .minimol import MINIMOL_SIZE
from .modeling_bag import MoleculeFingerprintModel
from .modeling_graph import MoleculeGraphModel


class MoleculeFusedModel(PreTrainedModel):
    """Adds the vector of a [`MoleculeFingerprintModel`] and the projected vector of a [`MoleculeGraphModel`].

    The bag holds which substructures occur, the graph how they are connected. Without graph inputs the result is the
    fingerprint's vector. The structures that captions name are encoded in this way, since they are mostly small and
    the bag is cheap.

    With `config.minimol` a linear map of MiniMol's vector is added too. MiniMol is pretrained, and its weights stay
    fixed.

    Example:

    >>> config = MoleculeFusedConfig(fingerprint_config={"num_buckets": 100, "hidden_size": 8})
    >>> ids, offsets = torch.tensor([1, 5, 7]), torch.tensor([0, 2, 3])
    >>> MoleculeFusedModel(config)(fragment_ids=ids, fragment_offsets=offsets).pooler_output.shape
    torch.Size([2, 8])
    """

    config_class = MoleculeFusedConfig
    base_model_prefix = "molecule_fused"
    main_input_name = "fragment_ids"
    input_names = MoleculeFingerprintModel.input_names
    optional_input_names = (*MoleculeGraphModel.input_names, "minimol_features")  # named structures have none of them
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
        self.minimol_projection = None
        if config.minimol:
            self.minimol_dropout = FastDropout(config.minimol_dropout)
            self.minimol_projection = nn.Linear(MINIMOL_SIZE, config.hidden_size, bias=False)
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
            **graphs: the inputs of [`MoleculeGraphModel`] for the same molecules, and `minimol_features` (B, 512)
                with `config.minimol`; all of them or none.

        Returns:
            `pooler_output` (B, H).
        """
        pooled = self.fingerprint(fragment_ids, fragment_offsets).pooler_output
        if not graphs:
            return BaseModelOutputWithPooling(pooler_output=pooled)
        features = graphs.pop("minimol_features", None)
        if (features is None) != (self.minimol_projection is None):
            expected, found = ("no ", "has") if self.minimol_projection is None else ("", "lacks")
            raise ValueError(
                f"the batch {found} `minimol_features`, but the tower reads {expected}vectors of MiniMol. "
                "Set `minimol` of the feature extractor as in the tower's configuration."
            )
        pooled = pooled + self.graph_projection(self.dropout(self.graph(**graphs).pooler_output))
        if self.minimol_projection is not None and features is not None:
            # Each vector is normalised: the components of MiniMol's vectors are larger for larger molecules.
            features = F.layer_norm(features, (MINIMOL_SIZE,)).to(pooled.dtype)
            pooled = pooled + self.minimol_projection(self.minimol_dropout(features))
        return BaseModelOutputWithPooling(pooler_output=pooled)
