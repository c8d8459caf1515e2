"""Text2Mol (Edwards et al., EMNLP 2021): sums of substructure embeddings, or graph convolutions over them."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_text2mol import Text2MolConfig, Text2MolMoleculeConfig
from .modeling_bag import sum_bags
from .modeling_graph import degree_scale, segment_mean, sum_over_neighbours
from .modeling_text_molecule import TextMoleculeDualEncoderModel, TextMoleculeDualEncoderOutput, split_inputs
from .modeling_towers import check_tower_inputs


class GraphConvolution(nn.Module):
    """Graph convolution (Kipf & Welling, 2017, eq. 2) without bond features and without a nonlinearity.

    W sum_j h_j / sqrt(d_i d_j) + b over the bonded atoms j and i itself. d is the number of bonds plus one.

    Args:
        in_features: width of the input states.
        out_features: width of the output states.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, states: torch.Tensor, bond_index: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """states (A, H_in), bond_index (2, E) with each bond once, scale (A, 1) of 1 / sqrt(d) -> (A, H_out)."""
        source, target = bond_index.flatten(), bond_index.flip(0).flatten()
        return self.linear(scale * sum_over_neighbours(scale * states, source, target))


class Text2MolMoleculeModel(PreTrainedModel):
    """Text2Mol's molecule tower without its last layer, which is the projection of [`Text2MolModel`].

    - `mlp`: relu(W2 relu(W1 m)). m is the sum of the embeddings of all substructures, with multiplicity.
    - `gcn`: an atom's initial state is the sum of its substructures' embeddings. Graph convolutions follow, with a
      ReLU between two of them. The mean over the atoms passes through the same two layers as in `mlp`.

    Source: Edwards et al., 2021, and the authors' code. Their embeddings are mol2vec's (Jaeger et al., 2018) and
    fixed, and an atom of the graph carries the embedding of its largest substructure. [`from_vectors`] makes this
    tower. By default the embeddings are trained, and an atom carries those of all its radii.

    Example:

    >>> from class_hf import Text2MolFeatureExtractor
    >>> model = Text2MolMoleculeModel(Text2MolMoleculeConfig(molecule_type="gcn", hidden_size=8))
    >>> model(**Text2MolFeatureExtractor()(["CCO", "[Na+].[Cl-]"])).pooler_output.shape
    torch.Size([2, 8])
    """

    config_class = Text2MolMoleculeConfig
    base_model_prefix = "text2mol_molecule"
    main_input_name = "fragment_ids"
    input_names = ("fragment_ids", "fragment_counts", "atom_counts", "bond_index")

    def __init__(self, config: Text2MolMoleculeConfig):
        super().__init__(config)
        width = config.hidden_size
        self.embedding = nn.Embedding(config.num_buckets, config.embedding_size)
        if not config.train_embeddings:
            # A buffer, because loading a model makes every parameter trainable.
            vectors = self.embedding.weight.detach()
            del self.embedding.weight
            self.embedding.register_buffer("weight", vectors)
        widths = [config.embedding_size] + [width] * (config.num_convolutions if config.molecule_type == "gcn" else 0)
        self.convolutions = nn.ModuleList(GraphConvolution(*sizes) for sizes in pairwise(widths))
        self.mlp = nn.Sequential(nn.Linear(widths[-1], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.post_init()

    @classmethod
    def from_vectors(cls, vectors: torch.Tensor, **kwargs: Any) -> "Text2MolMoleculeModel":
        """Makes a tower whose embeddings are given, for instance those of mol2vec, and stay fixed.

        Args:
            vectors: (T, embedding_size), one row for each entry of the feature extractor's `vocabulary`.
            **kwargs: further fields of [`Text2MolMoleculeConfig`]. `train_embeddings` defaults to False here.

        Returns:
            The tower, with new weights in its other layers. A saved tower holds the vectors.

        >>> tower = Text2MolMoleculeModel.from_vectors(torch.ones(3, 4), molecule_type="mlp")
        >>> tower.config.num_buckets, tower.embedding.weight.requires_grad
        (3, False)
        """
        rows, width = vectors.shape
        kwargs = {"train_embeddings": False, **kwargs, "num_buckets": rows, "embedding_size": width}
        model = cls(Text2MolMoleculeConfig(**kwargs))
        with torch.no_grad():
            model.embedding.weight.copy_(vectors)
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialises the weights of a module that no checkpoint has set."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)

    def forward(
        self,
        fragment_ids: torch.Tensor,
        fragment_counts: torch.Tensor,
        atom_counts: torch.Tensor,
        bond_index: torch.Tensor,
    ) -> BaseModelOutputWithPooling:
        """Encodes B molecules with A atoms, E bonds and T substructures in total.

        Args:
            fragment_ids: (T,) integers, the substructures of one atom after those of another.
            fragment_counts: (A,) int64, number of substructures of each atom; the sum is T.
            atom_counts: (B,) int64, number of atoms of each molecule; the sum is A.
            bond_index: (2, E) int64, the two atoms of each bond, each bond once; not used by `mlp`.

        Returns:
            `pooler_output` (B, H).
        """
        atom_offsets = F.pad(fragment_counts.cumsum(0), (1, 0))
        if self.config.molecule_type == "mlp":
            return self._output(self._bags(fragment_ids, atom_offsets[F.pad(atom_counts.cumsum(0), (1, 0))]))
        states = self._bags(fragment_ids, atom_offsets)
        scale = degree_scale(states, bond_index.flatten())
        for layer, convolution in enumerate(self.convolutions):
            states = convolution(states.relu() if layer else states, bond_index, scale)
        # `output_size` avoids a synchronisation with the device.
        molecule = torch.repeat_interleave(atom_counts, output_size=len(states))
        return self._output(segment_mean(states, molecule, atom_counts))

    def _bags(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Sums of embeddings: ids (T,), offsets (N + 1,) -> (N, embedding_size)."""
        return sum_bags(self.embedding, ids, offsets.to(ids.dtype))

    def _output(self, molecules: torch.Tensor) -> BaseModelOutputWithPooling:
        """The two dense layers: (B, H_in) -> `pooler_output` (B, H)."""
        return BaseModelOutputWithPooling(pooler_output=self.mlp(molecules))


@dataclass
class Text2MolOutput(TextMoleculeDualEncoderOutput):
    """Embeddings of a batch, and the vectors before normalisation.

    Args:
        text_embeds (B, D): L2-normalised caption embeddings, for ranking by cosine.
        molecule_embeds (B, D): L2-normalised molecule embeddings.
        logit_scale (): factor of the raw dot products in the loss, not its logarithm.
        text_vectors (B, D): caption vectors after the layer norm, for [`Text2MolLoss`].
        molecule_vectors (B, D): molecule vectors after the layer norm.
    """

    text_vectors: torch.Tensor | None = None
    molecule_vectors: torch.Tensor | None = None


class Text2MolModel(TextMoleculeDualEncoderModel):
    """Text2Mol, MLP and GCN: u = LN(W pooled) of a caption, v = LN(W3 h + b) of a molecule.

    Training uses the raw dot products of u and v ([`Text2MolLoss`]), ranking uses their cosines. Two things differ
    from the paper: the substructure embeddings (see [`Text2MolMoleculeModel`]), and the text tower's pooling, which
    is the mean of the token states and not BERT's pooler.

    Source: Edwards et al., 2021, and the authors' code.

    Example:

    >>> model = Text2MolModel.from_towers(text="lexical", molecule="gcn", projection_dim=16)
    >>> model.config.projection_dim, model.config.molecule_config.molecule_type
    (16, 'gcn')
    """

    config_class = Text2MolConfig
    base_model_prefix = "text2mol"

    def __init__(
        self,
        config: Text2MolConfig,
        text_model: PreTrainedModel | None = None,
        molecule_model: PreTrainedModel | None = None,
    ):
        molecule_config: Any = config.molecule_config
        tower = Text2MolMoleculeModel(molecule_config) if molecule_model is None else molecule_model
        super().__init__(config, text_model, tower)
        # With a bias and a norm, unlike the dual encoder's projections.
        for side in ("text", "molecule"):
            width = getattr(config, f"{side}_config").hidden_size
            layers = nn.Linear(width, config.projection_dim), nn.LayerNorm(config.projection_dim)
            setattr(self, f"{side}_projection", nn.Sequential(*layers))
        self.post_init()

    @classmethod
    def from_towers(
        cls,
        text: str | PreTrainedConfig | PreTrainedModel = "lexical",
        molecule: str | PreTrainedConfig | PreTrainedModel = "mlp",
        *,
        text_kwargs: dict[str, Any] | None = None,
        molecule_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> "Text2MolModel":
        """Joins a text tower and one of Text2Mol's molecule towers. A tower that has trained weights keeps them.

        Args:
            text: `"lexical"`, a folder or Hub id of any `AutoModel`, a configuration, or a model.
            molecule: `"mlp"`, `"gcn"`, a [`Text2MolMoleculeConfig`], or a [`Text2MolMoleculeModel`].
            text_kwargs: fields of the text tower's configuration.
            molecule_kwargs: fields of the molecule tower's configuration, for `"mlp"` and `"gcn"`.
            **kwargs: fields of [`Text2MolConfig`].

        Returns:
            The model, with new projections.

        Raises:
            ValueError: if `molecule` is another kind of tower.
        """
        if isinstance(molecule, str):
            molecule = Text2MolMoleculeConfig(molecule_type=molecule, **(molecule_kwargs or {}))
        if isinstance(molecule, Text2MolMoleculeConfig):
            molecule = Text2MolMoleculeModel(molecule)
        if not isinstance(molecule, Text2MolMoleculeModel):
            raise ValueError(
                f"molecule is a {type(molecule).__name__}; expected 'mlp', 'gcn', a Text2MolMoleculeConfig or a "
                "Text2MolMoleculeModel."
            )
        return super().from_towers(text, molecule, text_kwargs=text_kwargs, **kwargs)

    def _pooled(self, tower: PreTrainedModel, inputs: dict[str, Any], frozen: bool) -> torch.Tensor:
        """One vector per caption or molecule, (B, H)."""
        if tower is not self.molecule_model:
            return super()._pooled(tower, inputs, frozen)
        check_tower_inputs(tower, inputs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return tower(**inputs).pooler_output

    def get_text_vectors(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """Computes u: the text tower's inputs to (B, D), not normalised."""
        return self.text_projection(self.projection_dropout(self.pooled_text(**text_inputs))).float()

    def get_molecule_vectors(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """Computes v: the molecule tower's inputs, with or without `molecule_`, to (B, D), not normalised."""
        return self.molecule_projection(self.projection_dropout(self.pooled_molecules(**molecule_inputs))).float()

    def forward(self, **inputs: torch.Tensor) -> Text2MolOutput:
        """Embeds a batch of captions, of molecules, or of both.

        Args:
            **inputs: the processor's output. Names with the prefix `molecule_` go to the molecule tower, the others
                to the text tower.

        Returns:
            [`Text2MolOutput`]. The fields of a missing side are None.

        Raises:
            ValueError: if there are no inputs.
        """
        text_inputs, molecule_inputs = split_inputs(inputs)
        texts = self.get_text_vectors(**text_inputs) if text_inputs else None
        molecules = self.get_molecule_vectors(**molecule_inputs) if molecule_inputs else None
        return Text2MolOutput(
            text_embeds=None if texts is None else F.normalize(texts, dim=-1),
            molecule_embeds=None if molecules is None else F.normalize(molecules, dim=-1),
            logit_scale=self.logit_scale(),
            text_vectors=texts,
            molecule_vectors=molecules,
        )
