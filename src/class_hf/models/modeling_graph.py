"""Graph molecule tower in plain torch: GCN, GINE and graph transformer layers over ragged batches.

A batch is one large graph of A atoms and E bonds without padding, so the cost is proportional to the number of atoms.
No layer uses statistics of the batch, so a molecule's output does not depend on the rest of its batch.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from .configuration_graph import MoleculeGraphConfig
from .dropout import FastDropout
from .graph_environments import Environments, MoleculeGraph, find_environments


def segment_sum(values: torch.Tensor, index: torch.Tensor, size: int) -> torch.Tensor:
    """Sums the rows that share an index: values (M, ...), index (M,) -> (size, ...).

    Deterministic on a CPU. On CUDA only under `torch.use_deterministic_algorithms(True)`.
    """
    # Zeros of the values' dtype: index_add refuses mixed dtypes, and autocast does not cover it.
    return values.new_zeros(size, *values.shape[1:]).index_add_(0, index, values)


def segment_mean(values: torch.Tensor, index: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Averages the rows that share an index: values (M, H), index (M,), counts (S,) -> (S, H)."""
    # In float32, since a bf16 sum over hundreds of atoms loses small values.
    return (segment_sum(values.float(), index, len(counts)) / counts.clamp(min=1)[:, None]).to(values.dtype)


def segment_softmax(scores: torch.Tensor, index: torch.Tensor, size: int) -> torch.Tensor:
    """Softmax over the rows that share an index, column by column: scores (M, K), index (M,) -> (M, K) float32."""
    scores = scores.float()
    with torch.no_grad():  # the softmax and its gradient do not depend on the shift
        shift = scores.new_full((size, scores.shape[1]), -torch.inf)
        shift = shift.scatter_reduce(0, index[:, None].expand_as(scores), scores, "amax")
    weights = (scores - shift.index_select(0, index)).exp()
    return weights / segment_sum(weights, index, size).index_select(0, index)


def repeat_rows(counts: torch.Tensor, size: int) -> torch.Tensor:
    """The row of each member, (size,), from the number of members of each row, (B,).

    >>> repeat_rows(torch.tensor([2, 0, 1]), 3).tolist()
    [0, 0, 2]
    """
    # `output_size` avoids a synchronisation with the device.
    return torch.repeat_interleave(counts, output_size=size)


def degree_scale(states: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 / sqrt(d) of each atom, where d is the number of its bonds plus one: states (A, H), target (2E,) -> (A, 1)."""
    degrees = 1 + segment_sum(states.new_ones(len(target)), target, len(states))
    return degrees.rsqrt()[:, None]


def sum_over_neighbours(states: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Adds the states of the bonded atoms to each atom's state: states (A, H), source and target (2E,) -> (A, H)."""
    return states + segment_sum(states.index_select(0, source), target, len(states))


def multi_hot(features: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Marks the category of each column: features (M, F) integer, F sizes -> (M, sum(sizes)) bool.

    A category beyond its column's size is not marked.

    >>> multi_hot(torch.tensor([[1, 0], [0, 2]]), (2, 3)).int().tolist()
    [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    """
    columns = zip(features.unbind(1), sizes, strict=True)
    marks = [
        column[:, None] == torch.arange(size, dtype=features.dtype, device=features.device) for column, size in columns
    ]
    return torch.cat(marks, 1)


class CategoricalEmbedding(nn.Linear):
    """Sum of one embedding per categorical column: multi-hot features (M, sum(sizes)) -> (M, H).

    It is a matrix product and not a look-up: the tables are small, and the gradient needs no scattered additions.

    Args:
        sizes: number of categories of each column.
        hidden_size: H.
    """

    def __init__(self, sizes: Sequence[int], hidden_size: int) -> None:
        super().__init__(sum(sizes), hidden_size, bias=False)
        self.num_columns = len(sizes)


class GCN(nn.Module):
    """Graph convolution (Kipf & Welling, 2017, eq. 2) with bond embeddings added to the messages.

    ReLU(W sum_j (h_j + e_ij) / sqrt(d_i d_j) + b) over the bonded atoms j and i itself, with e_ii = 0. d is the
    number of bonds plus one. The paper has no bond embeddings e. Without them the layer could not distinguish E and Z.
    """

    def __init__(self, config: MoleculeGraphConfig) -> None:
        super().__init__()
        self.bond_embedding = CategoricalEmbedding(config.bond_feature_sizes, config.hidden_size)
        self.linear = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, states: torch.Tensor, graph: MoleculeGraph) -> torch.Tensor:
        """states (A, H) -> (A, H)."""
        scale = degree_scale(states, graph.target)
        summed = sum_over_neighbours(scale * states, graph.source, graph.target)
        # Multi-hot rows are summed and then embedded. The result is the same, without (2E, H) embeddings in memory.
        bonds = segment_sum(graph.bonds * scale.index_select(0, graph.source), graph.target, len(states))
        return self.linear(scale * (summed + self.bond_embedding(bonds))).relu()


class GINE(nn.Module):
    """Graph isomorphism network with edges, GINE (Hu et al., 2020).

    MLP((1 + eps) h_i + sum_j ReLU(h_j + e_ij)) over the bonded atoms j. eps is trained and starts at 0. The MLP is
    H -> 2H -> H. There is no batch norm, since a molecule's output must not depend on the rest of its batch.
    """

    def __init__(self, config: MoleculeGraphConfig) -> None:
        super().__init__()
        self.bond_embedding = CategoricalEmbedding(config.bond_feature_sizes, config.hidden_size)
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = FeedForward(config)

    def forward(self, states: torch.Tensor, graph: MoleculeGraph) -> torch.Tensor:
        """states (A, H) -> (A, H), or (U, H) -> (V, H) where targets are environments."""
        messages = states.index_select(0, graph.source).add_(self.bond_embedding(graph.bonds)).relu_()
        if graph.centre is not None:
            states = states.index_select(0, graph.centre)
        # A scalar keeps the dtype of the states under autocast.
        return self.mlp(((1 + self.eps.squeeze(0)) * states).index_add_(0, graph.target, messages))


class GraphAttention(nn.Module):
    """Multi-head attention of each atom over its bonded atoms, itself, and its molecule.

    Attention over bonded atoms follows Shi et al. (2021, eq. 3 and 4): the bond's embedding is added to key and
    value. The molecule is like the relay node of the Star-Transformer (Guo et al., 2019), but it has no state: its
    key and value are the means over the molecule's atoms. Every atom receives information from all others in one
    layer, at a cost proportional to the number of atoms. Full attention has quadratic cost: a molecule of 574 atoms
    would cost as much as 500 molecules of 25.
    """

    def __init__(self, config: MoleculeGraphConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.bond_embedding = CategoricalEmbedding(config.bond_feature_sizes, width)
        # Used in place of a bond's embedding for the atom itself and for the molecule.
        self.place_embedding = nn.Embedding(2, width)
        self.query = nn.Linear(width, width)
        # No bias: it would shift all scores of an atom by the same amount, so its gradient would be zero.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, states: torch.Tensor, graph: MoleculeGraph) -> torch.Tensor:
        """states (A, H) -> (A, H)."""
        size, num_bonds = len(states), len(graph.target)
        bonds = self.bond_embedding(graph.bonds)
        query = self.query(states)
        queries = query.index_select(0, graph.target), query, query
        keys = self._places(self.key(states), bonds, graph)
        values = self._places(self.value(states), bonds, graph)
        scores = torch.cat([(self._heads(q) * self._heads(k)).sum(-1) for q, k in zip(queries, keys, strict=True)])
        atoms = torch.arange(size, device=states.device)
        index = torch.cat([graph.target, atoms, atoms])
        weights = segment_softmax(scores * (query.shape[1] // self.num_heads) ** -0.5, index, size)
        shares = weights.to(query.dtype).split([num_bonds, size, size])
        from_bonds, from_itself, from_molecule = (
            (share[..., None] * self._heads(v)).flatten(1) for share, v in zip(shares, values, strict=True)
        )
        return self.output(segment_sum(from_bonds, graph.target, size) + from_itself + from_molecule)

    def _places(
        self, projected: torch.Tensor, bonds: torch.Tensor, graph: MoleculeGraph
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys or values of what an atom attends to: bonded atoms (2E, H), itself (A, H), its molecule (A, H)."""
        atom_embedding, molecule_embedding = self.place_embedding.weight.to(projected.dtype)
        means = segment_mean(projected, graph.molecule, graph.atom_counts) + molecule_embedding
        return (
            projected.index_select(0, graph.source) + bonds,
            projected + atom_embedding,
            means.index_select(0, graph.molecule),
        )

    def _heads(self, rows: torch.Tensor) -> torch.Tensor:
        """(M, H) -> (M, num_heads, H / num_heads)."""
        return rows.unflatten(1, (self.num_heads, -1))


class FeedForward(nn.Sequential):
    """A two-layer MLP, H -> 2H -> H with ReLU, applied to each atom: (A, H) -> (A, H)."""

    def __init__(self, config: MoleculeGraphConfig) -> None:
        width = config.hidden_size
        super().__init__(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


_LAYERS = {"gcn": GCN, "gine": GINE, "transformer": GraphAttention}


class MoleculeGraphLayer(GradientCheckpointingLayer):
    """h + dropout(messages(norm(h))). A transformer layer adds h + dropout(feed_forward(norm(h)))."""

    def __init__(self, config: MoleculeGraphConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.messages = _LAYERS[config.layer_type](config)
        self.dropout = FastDropout(config.dropout)
        self.feed_forward = None
        if config.layer_type == "transformer":
            norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.feed_forward = nn.Sequential(norm, FeedForward(config), FastDropout(config.dropout))

    def forward(
        self, states: torch.Tensor, graph: MoleculeGraph, environments: Environments | None = None
    ) -> torch.Tensor:
        """states (A, H), or (U, H) of the distinct atoms of `environments` -> (A, H)."""
        update = self.messages(self.norm(states), graph)
        if environments is not None:
            states = states.index_select(0, environments.kind)
            update = update.index_select(0, environments.environment)
        states = states + self.dropout(update)
        return states if self.feed_forward is None else states + self.feed_forward(states)


class AttentionPooling(nn.Module):
    """Weighted mean of the atom states, with the weights softmax(w . h) over the atoms of a molecule."""

    def __init__(self, config: MoleculeGraphConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, states: torch.Tensor, graph: MoleculeGraph) -> torch.Tensor:
        """states (A, H) -> (B, H)."""
        size = len(graph.atom_counts)
        weights = segment_softmax((states @ self.weight)[:, None], graph.molecule, size)
        return segment_sum(weights * states, graph.molecule, size).to(states.dtype)


class MoleculeGraphModel(PreTrainedModel):
    r"""Graph neural network over the features of [`MoleculeGraphFeatureExtractor`].

    The embeddings of an atom's features are summed. `num_layers` pre-norm residual layers follow, then a last norm
    and pooling over each molecule.

    Args:
        config: a [`MoleculeGraphConfig`].

    Example:

    ```python
    >>> from class_hf import MoleculeGraphConfig, MoleculeGraphFeatureExtractor, MoleculeGraphModel
    >>> extractor, model = MoleculeGraphFeatureExtractor(), MoleculeGraphModel(MoleculeGraphConfig())
    >>> model(**extractor(["CCO", "[Na+].[Cl-]"])).pooler_output.shape
    torch.Size([2, 256])

    ```
    """

    config_class = MoleculeGraphConfig
    base_model_prefix = "molecule_graph"
    main_input_name = "atom_features"
    input_names: tuple[str, ...] = ("atom_features", "atom_counts", "bond_index", "bond_features")
    supports_gradient_checkpointing = True
    _no_split_modules = ["MoleculeGraphLayer"]

    def __init__(self, config: MoleculeGraphConfig) -> None:
        super().__init__(config)
        self.atom_embedding = CategoricalEmbedding(config.atom_feature_sizes, config.hidden_size)
        self.layers = nn.ModuleList(MoleculeGraphLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooling = AttentionPooling(config) if config.pooling == "attention" else None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, CategoricalEmbedding):
            init.normal_(module.weight, std=module.num_columns**-0.5)  # the sum over columns has unit variance
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, GINE):
            init.zeros_(module.eps)
        elif isinstance(module, AttentionPooling):
            init.zeros_(module.weight)  # a plain mean at initialisation
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self,
        atom_features: torch.Tensor,
        atom_counts: torch.Tensor,
        bond_index: torch.Tensor,
        bond_features: torch.Tensor,
    ) -> BaseModelOutputWithPooling:
        """Encodes B molecules with A atoms and E bonds in total.

        Args:
            atom_features: (A, F_a) uint8 or int64, the atoms of one molecule after those of another.
            atom_counts: (B,) int64, number of atoms of each molecule; the sum is A.
            bond_index: (2, E) int64, the two atoms of each bond, each bond once, in either direction.
            bond_features: (E, F_b) uint8 or int64.

        Returns:
            `last_hidden_state` (A, H), the states of the atoms, and `pooler_output` (B, H), the embeddings of the
            molecules.

        Raises:
            ValueError: if a tensor's shape does not fit the configuration or the other tensors. The sum of
                `atom_counts` is checked on a CPU only.
        """
        self._check_shapes(atom_features, atom_counts, bond_index, bond_features)
        bonds = multi_hot(bond_features, self.config.bond_feature_sizes).to(self.dtype)
        graph = MoleculeGraph(
            source=bond_index.flatten(),
            target=bond_index.flip(0).flatten(),
            bonds=bonds.repeat(2, 1),
            molecule=repeat_rows(atom_counts, len(atom_features)),
            atom_counts=atom_counts,
        )
        first, environments = graph, None
        if self._shares_environments(atom_features):
            environments = find_environments(atom_features, bond_features, graph)
            first = environments.graph
            atom_features = atom_features.index_select(0, environments.examples)
        states = self.atom_embedding(multi_hot(atom_features, self.config.atom_feature_sizes).to(self.dtype))
        states = self.layers[0](states, first, environments)
        for layer in self.layers[1:]:
            states = layer(states, graph)
        states = self.norm(states)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=self._pool(states, graph))

    def _shares_environments(self, atom_features: torch.Tensor) -> bool:
        """Whether the first layer computes each environment once. A GPU would wait for their number."""
        is_local = isinstance(self.layers[0].messages, GINE)
        return is_local and self.training and atom_features.device.type == "cpu" and not torch.compiler.is_compiling()

    def _pool(self, states: torch.Tensor, graph: MoleculeGraph) -> torch.Tensor:
        """Pools the atoms of each molecule: (A, H) -> (B, H)."""
        if self.pooling is not None:
            return self.pooling(states, graph)
        if self.config.pooling == "mean":
            return segment_mean(states, graph.molecule, graph.atom_counts)
        return segment_sum(states.float(), graph.molecule, len(graph.atom_counts)).to(states.dtype)

    def _check_shapes(
        self,
        atom_features: torch.Tensor,
        atom_counts: torch.Tensor,
        bond_index: torch.Tensor,
        bond_features: torch.Tensor,
    ) -> None:
        """Raises ValueError if a tensor's shape does not fit the configuration or the other tensors."""
        for name, features, width in (
            ("atom_features", atom_features, len(self.config.atom_feature_sizes)),
            ("bond_features", bond_features, len(self.config.bond_feature_sizes)),
        ):
            if features.ndim != 2 or features.shape[1] != width:
                raise ValueError(
                    f"{name} has shape {tuple(features.shape)}, expected (any, {width}). "
                    "Use the model's own feature extractor."
                )
        if bond_index.shape != (2, len(bond_features)):
            raise ValueError(
                f"bond_index has shape {tuple(bond_index.shape)}, expected (2, {len(bond_features)}), one column for "
                "each row of bond_features. List each bond once."
            )
        # On an accelerator the comparison would wait for the device.
        if atom_counts.device.type == "cpu" and atom_counts.sum() != len(atom_features):
            raise ValueError(
                f"atom_counts add up to {int(atom_counts.sum())}, expected {len(atom_features)}, the number of rows "
                "of atom_features. A ragged batch cannot be sliced: collate a new one."
            )
