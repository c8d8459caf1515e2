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
from .configuration_text_molecule import MOLECULE_PREFIX
from .modeling_graph import segment_mean, segment_sum
from .modeling_text_molecule import TextMoleculeDualEncoderModel, TextMoleculeDualEncoderOutput
from .modeling_towers import resolve_tower


class GraphConvolution(nn.Module):
    """Graph convolution (Kipf & Welling, 2017, eq. 2, without its nonlinearity).

    W sum_j h_j / sqrt(d_i d_j) + b over the bonded atoms j and i itself, d the number of bonds plus one.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, states: torch.Tensor, bond_index: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """states (A, H_in), bond_index (2, E) with each bond once, scale (A, 1) of 1 / sqrt(d) -> (A, H_out)."""
        scaled = scale * states
        source, target = bond_index.flatten(), bond_index.flip(0).flatten()
        neighbours = segment_sum(scaled.index_select(0, source), target, len(states))
        return self.linear(scale * (scaled + neighbours))


class Text2MolMoleculeModel(PreTrainedModel):
    """Text2Mol's molecule tower up to its last layer, which is the projection of [`Text2MolModel`].

    - `mlp`: relu(W2 relu(W1 m)), m the sum of the embeddings of all substructures, each as often as it occurs;
    - `gcn`: each atom begins with the sum of its own substructures' embeddings; graph convolutions follow, with a ReLU
      between two of them; the mean over the atoms goes through the same two layers.

    Source: Edwards et al., 2021, and the authors' code. There the embeddings are mol2vec's (Jaeger et al., 2018) and
    fixed, and an atom of the graph carries that of one substructure; here they are learnt, and an atom carries those
    of all its radii.

    Example:

    >>> from class_hf import Text2MolFeatureExtractor
    >>> model = Text2MolMoleculeModel(Text2MolMoleculeConfig(molecule_type="gcn", hidden_size=8))
    >>> model(**Text2MolFeatureExtractor()(["CCO", "[Na+].[Cl-]"])).pooler_output.shape
    torch.Size([2, 8])
    """

    config_class = Text2MolMoleculeConfig
    base_model_prefix = "text2mol_molecule"
    main_input_name = "fragment_ids"

    def __init__(self, config: Text2MolMoleculeConfig):
        super().__init__(config)
        width = config.hidden_size
        self.embedding = nn.Embedding(config.num_buckets, config.embedding_size)
        widths = [config.embedding_size] + [width] * (config.num_convolutions if config.molecule_type == "gcn" else 0)
        self.convolutions = nn.ModuleList(GraphConvolution(*sizes) for sizes in pairwise(widths))
        self.mlp = nn.Sequential(nn.Linear(widths[-1], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
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
        """
        Args:
            fragment_ids: (T,) integers, the substructures of one atom after those of another.
            fragment_counts: (A,) int64, substructures of each atom; they add up to T.
            atom_counts: (B,) int64, atoms of each molecule; they add up to A.
            bond_index: (2, E) int64, the two atoms of each bond, each bond once; not used by `mlp`.

        Returns:
            `pooler_output` (B, H).
        """
        atom_offsets = F.pad(fragment_counts.cumsum(0), (1, 0))
        if self.config.molecule_type == "mlp":
            return self._output(self._bags(fragment_ids, atom_offsets[F.pad(atom_counts.cumsum(0), (1, 0))]))
        states = self._bags(fragment_ids, atom_offsets)
        ends = bond_index.flatten()
        degrees = 1 + segment_sum(torch.ones(len(ends), device=ends.device), ends, len(states))
        scale = degrees.rsqrt()[:, None]
        for place, convolution in enumerate(self.convolutions):
            states = convolution(states.relu() if place else states, bond_index, scale)
        # Naming the output's size saves a wait for the device.
        molecule = torch.repeat_interleave(atom_counts, output_size=len(states))
        return self._output(segment_mean(states, molecule, atom_counts))

    def _bags(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Sums of embeddings: ids (T,), offsets (N + 1,) -> (N, embedding_size)."""
        offsets = offsets.to(ids.dtype)
        return F.embedding_bag(ids, self.embedding.weight, offsets, mode="sum", include_last_offset=True)

    def _output(self, molecules: torch.Tensor) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(pooler_output=self.mlp(molecules))


@dataclass
class Text2MolOutput(TextMoleculeDualEncoderOutput):
    """
    Args:
        text_embeds (B, D): caption vectors of length 1, for ranking by cosine.
        molecule_embeds (B, D): molecule vectors of length 1.
        logit_scale (): factor of the raw dot products, not its log.
        text_vectors (B, D): caption vectors as the last layer norm gives them, for [`Text2MolLoss`].
        molecule_vectors (B, D): molecule vectors likewise.
    """

    text_vectors: torch.Tensor | None = None
    molecule_vectors: torch.Tensor | None = None


class Text2MolModel(TextMoleculeDualEncoderModel):
    """Text2Mol, MLP and GCN: u = LN(W pooled) of a caption, v = LN(W3 h + b) of a molecule.

    It learns from the raw dot products of u and v ([`Text2MolLoss`]) and ranks by their cosines. As published, but for
    the substructure embeddings (see [`Text2MolMoleculeModel`]) and the pooling of the text tower: the mean of the
    token states, where the authors take BERT's pooler.

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
        # With a bias and a norm, where the plain dual encoder has a matrix.
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
        """Joins a text tower, whose weights are kept where it has any, and a molecule tower.

        Args:
            text: `"lexical"`, a folder or Hub id of any `AutoModel`, a configuration, or a model.
            molecule: `"mlp"`, `"gcn"`, a [`Text2MolMoleculeConfig`], or a [`Text2MolMoleculeModel`].
            text_kwargs, molecule_kwargs: fields of that tower's configuration.
            **kwargs: fields of [`Text2MolConfig`].

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
        text_model = resolve_tower(text, **(text_kwargs or {}))
        config = Text2MolConfig(text_config=text_model.config, molecule_config=molecule.config, **kwargs)
        return cls(config, text_model=text_model, molecule_model=molecule)

    def _pooled(self, tower: PreTrainedModel, inputs: dict[str, Any], frozen: bool) -> torch.Tensor:
        if tower is not self.molecule_model:
            return super()._pooled(tower, inputs, frozen)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return tower(**inputs).pooler_output

    def get_text_vectors(self, **text_inputs: torch.Tensor) -> torch.Tensor:
        """u: the text tower's inputs to (B, D), not of length 1."""
        return self.text_projection(self.projection_dropout(self.pooled_text(**text_inputs))).float()

    def get_molecule_vectors(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """v: the molecule tower's inputs, with or without `molecule_`, to (B, D), not of length 1."""
        return self.molecule_projection(self.projection_dropout(self.pooled_molecules(**molecule_inputs))).float()

    def forward(self, **inputs: torch.Tensor) -> Text2MolOutput:
        """
        Args:
            **inputs: what the processor gives: the text tower's inputs by their own names, the molecule tower's
                with the prefix `molecule_`. Either side may be missing.

        Returns:
            [`Text2MolOutput`]; the fields of a missing side are None.
        """
        if not inputs:
            raise ValueError("no inputs: pass the processor's output for captions, molecules or both.")
        molecule_inputs = {name: value for name, value in inputs.items() if name.startswith(MOLECULE_PREFIX)}
        text_inputs = {name: value for name, value in inputs.items() if name not in molecule_inputs}
        texts = self.get_text_vectors(**text_inputs) if text_inputs else None
        molecules = self.get_molecule_vectors(**molecule_inputs) if molecule_inputs else None
        return Text2MolOutput(
            text_embeds=None if texts is None else F.normalize(texts, dim=-1),
            molecule_embeds=None if molecules is None else F.normalize(molecules, dim=-1),
            logit_scale=self.logit_scale(),
            text_vectors=texts,
            molecule_vectors=molecules,
        )
