"""ORMA: a dual encoder that compares sentence and molecule, tokens and motifs, tokens and atoms.

Source: Min et al., 2024, "Exploring Optimal Transport-Based Multi-Grained Alignments for Text-Molecule Retrieval"
(arXiv 2411.11875). Unlike in its released code, gradients flow through the vectors of atoms and motifs into the graph
network, a token goes to the motif that receives the most of it, and the score of a caption and a molecule depends on
nothing else. All tokens of a caption take part, [CLS] and [SEP] too, as published. Ours: cosines at all levels with
one learnt factor, mean-pooled sentences, and what `token_alignment.py` names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_orma import OrmaConfig, OrmaGraphConfig
from .configuration_text_molecule import MOLECULE_PREFIX
from .modeling_graph import MoleculeGraph, MoleculeGraphModel, multi_hot
from .modeling_text_molecule import TextMoleculeDualEncoderModel
from .modeling_towers import resolve_tower
from .ragged_text import mean_pool, padded_chunks
from .token_alignment import MoleculeStates, TextStates, pair_scores

# Hidden states of the text tower, from its end: what the tokens are compared with at each level.
_MOTIF_LAYER = -2
_ATOM_LAYER = -3


@dataclass
class OrmaGraphOutput(ModelOutput):
    """
    Args:
        last_hidden_state (A, H): states of the atoms.
        motif_states (M, H): states of the motifs.
        pooler_output (B, H): states of the molecules' own nodes.
    """

    last_hidden_state: torch.Tensor | None = None
    motif_states: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None


class OrmaGraphModel(MoleculeGraphModel):
    r"""Graph network over atoms, motifs and one node for the molecule, from what [`OrmaFeatureExtractor`] gives.

    Edges: bonds in both directions, each atom to its motifs, each motif to its molecule. Atoms begin with their
    features, the other nodes with one learnt vector a level. The layers are those of [`MoleculeGraphModel`] (with a
    norm and a residual around each, which the published network lacks); only bonds have edge features.

    Args:
        config: an [`OrmaGraphConfig`].
    """

    config_class = OrmaGraphConfig
    base_model_prefix = "orma_graph"

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
        """Embed B molecules of A atoms, E bonds and M motifs with K places in all.

        Args:
            atom_features, atom_counts, bond_index, bond_features: as of [`MoleculeGraphModel`].
            motif_atoms: (K,) int64, the atoms of each motif.
            motif_sizes: (M,) int64, atoms in each motif; they add up to K.
            motif_counts: (B,) int64, motifs in each molecule; they add up to M.

        Raises:
            ValueError: as [`MoleculeGraphModel`].
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
    """Vectors of length 1, of B captions with T tokens and B molecules with M motifs and A atoms in all.

    Args:
        text_embeds (B, D), molecule_embeds (B, D): of sentences and molecules.
        logit_scale (): factor of the cosines of all levels, not its log.
        motif_tokens (T, D), atom_tokens (T, D): of tokens, to be compared with motifs and with atoms.
        token_offsets (B + 1,): where each caption's tokens begin, and T.
        motifs (M, D), motif_offsets (B + 1,): of motifs.
        atoms (A, D), atom_offsets (B + 1,): of atoms.
        level_weights (3,): of the levels sentence-molecule, multi-token-motif and token-atom.
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
    """Aligns captions and molecules at three levels; trained by [`OrmaLoss`].

    `text_embeds` and `molecule_embeds` alone rank a whole pool, as any dual encoder does; [`fine_scores`] gives the
    full score of single pairs, with which the first candidates are ranked again.

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
    def from_towers(  # type: ignore[override]  # the molecule tower is its own
        cls,
        text: str | PreTrainedConfig | PreTrainedModel,
        molecule: dict[str, Any] | OrmaGraphConfig | None = None,
        *,
        text_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> "OrmaModel":
        """Joins a text tower, whose weights are kept where it has any, and a new graph tower.

        Args:
            text: a folder or Hub id of a transformer, a configuration, or a model.
            molecule: fields of [`OrmaGraphConfig`].
            text_kwargs: fields of the text tower's configuration.
            **kwargs: fields of [`OrmaConfig`].

        Raises:
            ValueError: if the text tower has no states of tokens (`"lexical"`).
        """
        text_model = resolve_tower(text, **(text_kwargs or {}))
        config = OrmaConfig(text_config=text_model.config, molecule_config=molecule, **kwargs)
        return cls(config, text_model=text_model)

    def pooled_molecules(self, **molecule_inputs: torch.Tensor) -> torch.Tensor:
        """The states of the molecules' nodes before the projection: the inputs to (B, H)."""
        return self._graph(molecule_inputs).pooler_output

    def _graph(self, molecule_inputs: dict[str, torch.Tensor]) -> Any:
        """The graph tower's [`OrmaGraphOutput`]."""
        if f"{MOLECULE_PREFIX}pooled" in molecule_inputs:
            raise ValueError("molecule_pooled holds one vector a molecule; ORMA needs its atoms and motifs.")
        return self.molecule_model(
            **{name.removeprefix(MOLECULE_PREFIX): one for name, one in molecule_inputs.items()}
        )

    def _unit(self, projection: nn.Module, states: torch.Tensor) -> torch.Tensor:
        return F.normalize(projection(self.projection_dropout(states)).float(), dim=-1)

    def _text_fields(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if "text_offsets" not in inputs:
            raise ValueError(
                f"the caption inputs are {sorted(inputs)}; ORMA reads ragged ones, `input_ids` (T,) and "
                "`text_offsets` (B + 1,), as its processor gives them."
            )
        pooled, (motif_tokens, atom_tokens) = encode_tokens(
            self.text_model,
            inputs["input_ids"],
            inputs["text_offsets"],
            self.config.tower_chunk_size,
            (_MOTIF_LAYER, _ATOM_LAYER),
        )
        return {
            "text_embeds": self._unit(self.text_projection, pooled),
            "motif_tokens": self._unit(self.motif_token_projection, motif_tokens),
            "atom_tokens": self._unit(self.atom_token_projection, atom_tokens),
            "token_offsets": inputs["text_offsets"].long(),
        }

    def _molecule_fields(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        graph = self._graph(inputs)
        return {
            "molecule_embeds": self._unit(self.molecule_projection, graph.pooler_output),
            "motifs": self._unit(self.motif_projection, graph.motif_states),
            "motif_offsets": F.pad(inputs[f"{MOLECULE_PREFIX}motif_counts"].cumsum(0), (1, 0)),
            "atoms": self._unit(self.atom_projection, graph.last_hidden_state),
            "atom_offsets": F.pad(inputs[f"{MOLECULE_PREFIX}atom_counts"].cumsum(0), (1, 0)),
        }

    def forward(self, **inputs: torch.Tensor) -> OrmaOutput:  # type: ignore[override]  # with further fields
        """
        Args:
            **inputs: what the processor gives, for captions, molecules or both.

        Returns:
            [`OrmaOutput`]; the fields of a missing side are None.
        """
        if not inputs:
            raise ValueError("no inputs: pass the processor's output for captions, molecules or both.")
        molecule_inputs = {name: value for name, value in inputs.items() if name.startswith(MOLECULE_PREFIX)}
        text_inputs = {name: value for name, value in inputs.items() if name not in molecule_inputs}
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
        """The full score of P pairs: the weighted sum of the cosines of the three levels, (P,) float32.

        Args:
            texts: fields of the output for captions; molecules those for molecules.
            text_rows: (P,) int64, the caption of each pair; molecule_rows (P,) the molecule.
        """
        whole = texts["text_embeds"][text_rows] * molecules["molecule_embeds"][molecule_rows]
        by_motif, by_atom = pair_scores(
            TextStates(*(texts[name] for name in TextStates._fields)),
            MoleculeStates(*(molecules[name] for name in MoleculeStates._fields)),
            text_rows,
            molecule_rows,
        )
        weights = self.config.level_weights
        return weights[0] * whole.float().sum(1) + weights[1] * by_motif + weights[2] * by_atom


# As in `encode_ragged`: the cutting has other shapes in every batch, and is not compiled.
@torch.compiler.disable(recursive=False)
def encode_tokens(
    tower: nn.Module, ids: torch.Tensor, offsets: torch.Tensor, chunk_size: int, layers: tuple[int, ...]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Mean-pooled last states and token states of some layers of a transformer over ragged rows.

    Args:
        tower: a transformer that gives its hidden states.
        ids: (T,), offsets (B + 1,): as of [`padded_chunks`].
        chunk_size: rows a chunk, at most.
        layers: places in `hidden_states`, from its end.

    Returns:
        (B, H), and (T, H) for each layer, in the order of `ids`.

    Raises:
        ValueError: if the tower has too few layers.
    """
    pad_token_id = getattr(tower.config, "pad_token_id", None) or 0
    rows, pooled, widths = [], [], []
    levels: list[list[torch.Tensor]] = [[] for _ in layers]
    for part, input_ids, attention_mask in padded_chunks(ids, offsets, chunk_size, pad_token_id):
        output = tower(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        if len(output.hidden_states) < -min(layers):
            raise ValueError(
                f"the text tower gives {len(output.hidden_states)} hidden states, its embeddings among them; expected "
                f"{-min(layers)} or more: choose one with {-min(layers) - 1} layers or more."
            )
        rows.append(part)
        pooled.append(mean_pool(output.last_hidden_state, attention_mask))
        widths.append(input_ids.shape)
        for level, layer in zip(levels, layers, strict=True):
            level.append(output.hidden_states[layer].flatten(0, 1))
    back = torch.argsort(torch.cat(rows))
    # Where each row begins among the padded lines, all chunks one after the other.
    lines = torch.repeat_interleave(
        torch.tensor([width for _, width in widths], device=ids.device),
        torch.tensor([count for count, _ in widths], device=ids.device),
        output_size=len(back),
    )
    begins = (lines.cumsum(0) - lines)[back]
    shift = torch.repeat_interleave(begins - offsets[:-1], offsets.diff(), output_size=len(ids))
    places = shift + torch.arange(len(ids), device=ids.device)
    return torch.cat(pooled)[back], [torch.cat(level).index_select(0, places) for level in levels]
