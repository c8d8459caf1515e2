"""ORMA: a dual encoder that compares sentence and molecule, tokens and motifs, tokens and atoms.

Source: Min et al., 2024, "Exploring Optimal Transport-Based Multi-Grained Alignments for Text-Molecule Retrieval"
(arXiv 2411.11875). All tokens of a caption take part, [CLS] and [SEP] included, as published. Differences from the
released code: gradients flow through the vectors of atoms and motifs into the graph network, a token is assigned to
the motif that receives most of its mass, and the score of a pair depends on its caption and its molecule only.
Differences from the paper: cosines at all levels with one trained scale, mean-pooled sentences, and those that
`token_alignment.py` lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_orma import OrmaConfig, OrmaGraphConfig, orma_graph_config
from .configuration_text_molecule import MOLECULE_PREFIX
from .graph_environments import MoleculeGraph
from .modeling_graph import MoleculeGraphModel, multi_hot
from .modeling_text_molecule import TextMoleculeDualEncoderModel, split_inputs
from .modeling_towers import check_tower_inputs, resolve_tower
from .ragged_text import check_length, mean_pool, padded_chunks
from .token_alignment import MoleculeStates, TextStates, pair_scores

# The layers of the text tower, counted from its end, whose token states are compared with motifs and with atoms.
_MOTIF_LAYER = -2
_ATOM_LAYER = -3


@dataclass
class OrmaGraphOutput(ModelOutput):
    """States of the three kinds of nodes.

    Args:
        last_hidden_state (A, H): states of the atoms.
        motif_states (M, H): states of the motifs.
        pooler_output (B, H): states of the molecule nodes.
    """

    last_hidden_state: torch.Tensor | None = None
    motif_states: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None


class OrmaGraphModel(MoleculeGraphModel):
    r"""Graph network over atoms, motifs and one node for the molecule.

    Edges: bonds in both directions, each atom to its motifs, each motif to its molecule. The initial state of an atom
    comes from its features, that of a motif or a molecule node from one trained vector per level. Only bonds have edge
    features. The layers are those of [`MoleculeGraphModel`]. The published network has no norm and no residual around
    its layers.

    Args:
        config: an [`OrmaGraphConfig`].

    Example:

    >>> from class_hf import OrmaFeatureExtractor
    >>> model = OrmaGraphModel(OrmaGraphConfig(hidden_size=8))
    >>> model(**OrmaFeatureExtractor()(["CC(=O)Nc1ccccc1"])).motif_states.shape
    torch.Size([3, 8])
    """

    config_class = OrmaGraphConfig
    base_model_prefix = "orma_graph"
    input_names = (*MoleculeGraphModel.input_names, "motif_atoms", "motif_sizes", "motif_counts")

    def __init__(self, config: OrmaGraphConfig) -> None:
        super().__init__(config)
        self.level_embedding = nn.Embedding(2, config.hidden_size)  # motif, molecule
        self.post_init()

    def forward(
        self,
        atom_features: torch.Tensor,
        atom_counts: torch.Tensor,
        bond_index: torch.Tensor,
        bond_features: torch.Tensor,
        motif_atoms: torch.Tensor,
        motif_sizes: torch.Tensor,
        motif_counts: torch.Tensor,
    ) -> OrmaGraphOutput:
        """Encodes B molecules with A atoms, E bonds and M motifs in total.

        Args:
            atom_features, atom_counts, bond_index, bond_features: as for [`MoleculeGraphModel`].
            motif_atoms: (K,) int64, the atoms of one motif after those of another. Motifs may share atoms.
            motif_sizes: (M,) int64, number of atoms of each motif; the sum is K.
            motif_counts: (B,) int64, number of motifs of each molecule; the sum is M.

        Returns:
            [`OrmaGraphOutput`].

        Raises:
            ValueError: if a tensor's shape does not fit, as for [`MoleculeGraphModel`].
        """
        self._check_shapes(atom_features, atom_counts, bond_index, bond_features)
        atoms, motifs, molecules = len(atom_features), len(motif_sizes), len(atom_counts)
        first_motif, first_molecule = atoms, atoms + motifs
        device = atom_features.device
        motif_of = torch.repeat_interleave(motif_sizes, output_size=len(motif_atoms))
        molecule_of = torch.repeat_interleave(motif_counts, output_size=motifs)
        bonds = multi_hot(bond_features, self.config.bond_feature_sizes).to(self.dtype)
        graph = MoleculeGraph(
            source=torch.cat([bond_index.flatten(), motif_atoms, first_motif + torch.arange(motifs, device=device)]),
            target=torch.cat([bond_index.flip(0).flatten(), first_motif + motif_of, first_molecule + molecule_of]),
            bonds=torch.cat([bonds, bonds, bonds.new_zeros(len(motif_atoms) + motifs, bonds.shape[1])]),
            molecule=torch.cat(
                [
                    torch.repeat_interleave(atom_counts, output_size=atoms),
                    molecule_of,
                    torch.arange(molecules, device=device),
                ]
            ),
            atom_counts=atom_counts,
        )
        motif, molecule = self.level_embedding.weight
        states = torch.cat(
            [
                self.atom_embedding(multi_hot(atom_features, self.config.atom_feature_sizes).to(self.dtype)),
                motif.expand(motifs, -1),
                molecule.expand(molecules, -1),
            ]
        )
        for layer in self.layers:
            states = layer(states, graph)
        states = self.norm(states)
        return OrmaGraphOutput(states[:atoms], states[first_motif:first_molecule], states[first_molecule:])


@dataclass
class OrmaOutput(ModelOutput):
    """L2-normalised vectors of B captions with T tokens and of B molecules with M motifs and A atoms in total.

    Args:
        text_embeds (B, D): sentences.
        molecule_embeds (B, D): molecules.
        logit_scale (): factor of the cosines of all levels in the loss, not its logarithm.
        motif_tokens (T, D): tokens, for the comparison with motifs.
        atom_tokens (T, D): tokens, for the comparison with atoms.
        token_offsets (B + 1,): where each caption's tokens begin, and T.
        motifs (M, D): motifs.
        motif_offsets (B + 1,): where each molecule's motifs begin, and M.
        atoms (A, D): atoms.
        atom_offsets (B + 1,): where each molecule's atoms begin, and A.
        level_weights (3,): weights of the levels sentence-molecule, multi-token-motif and token-atom.
    """

    text_embeds: torch.Tensor | None = None
    molecule_embeds: torch.Tensor | None = None
    logit_scale: torch.Tensor | None = None
    motif_tokens: torch.Tensor | None = None
    atom_tokens: torch.Tensor | None = None
    token_offsets: torch.Tensor | None = None
    motifs: torch.Tensor | None = None
    motif_offsets: torch.Tensor | None = None
    atoms: torch.Tensor | None = None
    atom_offsets: torch.Tensor | None = None
    level_weights: torch.Tensor | None = None


class OrmaModel(TextMoleculeDualEncoderModel):
    """Aligns captions and molecules at three levels. Train it with [`OrmaLoss`].

    `text_embeds` and `molecule_embeds` rank a candidate pool, as those of any dual encoder. `fine_scores` computes
    the full score of single pairs, which re-ranks the first candidates.

    Example:

    >>> from transformers import BertConfig
    >>> text = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    >>> model = OrmaModel.from_towers(text=text, molecule={"hidden_size": 16}, projection_dim=8)
    >>> model.config.level_weights
    (0.3, 0.2, 0.5)
    """

    config_class = OrmaConfig
    base_model_prefix = "orma"

    def __init__(
        self,
        config: OrmaConfig,
        text_model: PreTrainedModel | None = None,
        molecule_model: PreTrainedModel | None = None,
    ):
        molecule_config: Any = config.molecule_config
        super().__init__(config, text_model, molecule_model or OrmaGraphModel(molecule_config))
        text_width, molecule_width = self.text_model.config.hidden_size, molecule_config.hidden_size
        self.motif_token_projection = nn.Linear(text_width, config.projection_dim, bias=False)
        self.atom_token_projection = nn.Linear(text_width, config.projection_dim, bias=False)
        self.motif_projection = nn.Linear(molecule_width, config.projection_dim, bias=False)
        self.atom_projection = nn.Linear(molecule_width, config.projection_dim, bias=False)
        self.post_init()

    @classmethod
    def from_towers(  # type: ignore[override]  # ORMA has one kind of molecule tower
        cls,
        text: str | PreTrainedConfig | PreTrainedModel,
        molecule: dict[str, Any] | OrmaGraphConfig | None = None,
        *,
        text_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> "OrmaModel":
        """Joins a text tower and a new graph tower. A text tower that has trained weights keeps them.

        Args:
            text: a folder or Hub id of a transformer, a configuration, or a model.
            molecule: an [`OrmaGraphConfig`] or a dict of its fields.
            text_kwargs: fields of the text tower's configuration.
            **kwargs: fields of [`OrmaConfig`].

        Returns:
            The model, with a new graph tower and new projections.

        Raises:
            ValueError: if the text tower has no token states (`"lexical"`).
        """
        text_model = resolve_tower(text, **(text_kwargs or {}))
        return super().from_towers(text_model, OrmaGraphModel(orma_graph_config(molecule)), **kwargs)

    def pooled_molecules(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """Encodes molecules up to the projection: the inputs, with or without `molecule_`, to (B, H)."""
        inputs = {name.removeprefix(MOLECULE_PREFIX): value for name, value in molecule_inputs.items()}
        return self._graph(inputs).pooler_output

    def _graph(self, inputs: dict[str, torch.Tensor]) -> Any:
        """The graph tower's [`OrmaGraphOutput`]."""
        if "pooled" in inputs:
            raise ValueError("molecule_pooled holds one vector per molecule; ORMA needs its atoms and motifs.")
        check_tower_inputs(self.molecule_model, inputs)
        return self.molecule_model(**inputs)

    def _embed(self, projection: nn.Module, states: torch.Tensor) -> torch.Tensor:
        """Projected and L2-normalised states, float32."""
        return F.normalize(projection(self.projection_dropout(states)).float(), dim=-1)

    def _text_fields(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The fields of [`OrmaOutput`] that describe captions."""
        if "text_offsets" not in inputs:
            raise ValueError(
                f"the caption inputs are {sorted(inputs)}; ORMA reads ragged ones, `input_ids` (T,) and "
                "`text_offsets` (B + 1,), as its processor returns them."
            )
        pooled, (motif_tokens, atom_tokens) = encode_tokens(
            self.text_model,
            inputs["input_ids"],
            inputs["text_offsets"],
            self.config.tower_chunk_size,
            (_MOTIF_LAYER, _ATOM_LAYER),
        )
        return {
            "text_embeds": self._embed(self.text_projection, pooled),
            "motif_tokens": self._embed(self.motif_token_projection, motif_tokens),
            "atom_tokens": self._embed(self.atom_token_projection, atom_tokens),
            "token_offsets": inputs["text_offsets"].long(),
        }

    def _molecule_fields(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The fields of [`OrmaOutput`] that describe molecules."""
        graph = self._graph(inputs)
        return {
            "molecule_embeds": self._embed(self.molecule_projection, graph.pooler_output),
            "motifs": self._embed(self.motif_projection, graph.motif_states),
            "motif_offsets": F.pad(inputs["motif_counts"].cumsum(0), (1, 0)),
            "atoms": self._embed(self.atom_projection, graph.last_hidden_state),
            "atom_offsets": F.pad(inputs["atom_counts"].cumsum(0), (1, 0)),
        }

    def forward(self, **inputs: torch.Tensor) -> OrmaOutput:  # type: ignore[override]  # with further fields
        """Embeds a batch of captions, of molecules, or of both.

        Args:
            **inputs: the processor's output.

        Returns:
            [`OrmaOutput`]. The fields of a missing side are None.

        Raises:
            ValueError: if there are no inputs.
        """
        text_inputs, molecule_inputs = split_inputs(inputs)
        scale = self.logit_scale()
        return OrmaOutput(
            **(self._text_fields(text_inputs) if text_inputs else {}),
            **(self._molecule_fields(molecule_inputs) if molecule_inputs else {}),
            logit_scale=scale,
            level_weights=scale.new_tensor(self.config.level_weights),
        )

    def fine_scores(
        self,
        texts: Mapping[str, torch.Tensor],
        molecules: Mapping[str, torch.Tensor],
        text_rows: torch.Tensor,
        molecule_rows: torch.Tensor,
    ) -> torch.Tensor:
        """Computes the full score of P pairs, the weighted sum of the cosines of the three levels.

        Args:
            texts: the output's fields for captions.
            molecules: the output's fields for molecules.
            text_rows (P,): int64, the caption of each pair.
            molecule_rows (P,): int64, the molecule of each pair.

        Returns:
            (P,) float32.
        """
        products = texts["text_embeds"][text_rows] * molecules["molecule_embeds"][molecule_rows]
        by_motif, by_atom = pair_scores(
            TextStates.from_fields(texts), MoleculeStates.from_fields(molecules), text_rows, molecule_rows
        )
        weights = self.config.level_weights
        return weights[0] * products.float().sum(1) + weights[1] * by_motif + weights[2] * by_atom


# Not compiled, as `encode_ragged`: the shapes of the chunks differ from batch to batch.
@torch.compiler.disable(recursive=False)
def encode_tokens(
    tower: nn.Module, ids: torch.Tensor, offsets: torch.Tensor, chunk_size: int, layers: tuple[int, ...]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Runs a transformer over ragged rows and returns pooled states and the token states of some layers.

    Args:
        tower: a transformer that returns its hidden states.
        ids (T,): the tokens of all rows, one row after the other.
        offsets (B + 1,): where each row begins, and T.
        chunk_size: largest number of rows in a chunk.
        layers: negative indices into `hidden_states`.

    Returns:
        The mean-pooled last states (B, H), and token states (T, H) for each layer, in the order of `ids`.

    Raises:
        ValueError: if the tower has too few layers, or a row is longer than its table of positions.
    """
    pad_token_id = getattr(tower.config, "pad_token_id", None) or 0
    rows, pooled, widths = [], [], []
    levels: list[list[torch.Tensor]] = [[] for _ in layers]
    for part, input_ids, attention_mask in padded_chunks(ids, offsets, chunk_size, pad_token_id):
        check_length(tower, input_ids.shape[1])
        output = tower(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        if len(output.hidden_states) < -min(layers):
            raise ValueError(
                f"the text tower returns {len(output.hidden_states)} hidden states, including its embeddings; "
                f"expected at least {-min(layers)}. Choose a tower with at least {-min(layers) - 1} layers."
            )
        rows.append(part)
        pooled.append(mean_pool(output.last_hidden_state, attention_mask))
        widths.append(input_ids.shape)
        for level, layer in zip(levels, layers, strict=True):
            level.append(output.hidden_states[layer].flatten(0, 1))
    original_order = torch.argsort(torch.cat(rows))
    # Where each row begins among the padded rows of all chunks.
    padded_lengths = torch.repeat_interleave(
        torch.tensor([width for _, width in widths], device=ids.device),
        torch.tensor([count for count, _ in widths], device=ids.device),
        output_size=len(original_order),
    )
    starts = (padded_lengths.cumsum(0) - padded_lengths)[original_order]
    shift = torch.repeat_interleave(starts - offsets[:-1], offsets.diff(), output_size=len(ids))
    positions = shift + torch.arange(len(ids), device=ids.device)
    return torch.cat(pooled)[original_order], [torch.cat(level).index_select(0, positions) for level in levels]
