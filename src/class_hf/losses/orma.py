"""ORMA's loss: a symmetric contrastive loss at each of its three levels."""

import torch
import torch.nn.functional as F
from torch import nn

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.contrastive import LossOutput, score_losses, targets_of
from class_hf.models.token_alignment import MoleculeStates, TextStates, all_scores
from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, world_size


class OrmaLoss(nn.Module):
    """Weighted sum of three symmetric contrastive losses: sentence-molecule, multi-token-motif and token-atom.

    For a global batch of B pairs, every caption is scored against every molecule at every level, and each level's
    (B, B) scores go through the loss of [`ContrastiveLoss`], with the intensity and the masked pairs of that class:

        loss = sum_level weight_level sum_i w_i l_i / sum_i w_i,     w_i = (1 - p_i) ** focus   of that level

    The accuracy is that of the full score, the weighted sum of the levels.

    Under several processes each one scores its own captions against all molecules and all captions against its own
    molecules. The states of tokens, motifs and atoms are gathered with the exact gradient, and the value is scaled by
    the number of processes, as in [`ContrastiveLoss`].

    Cached gradients (`forward_chunk_size`) are refused: the states of the chunks do not join.

    Source: Min et al., 2024 (weights of the levels, symmetric cross-entropy at each); all B x B scores are ours.

    Args:
        label_smoothing: share of the target spread evenly over the batch, in [0, 1).
        block_pairs: pairs of the B x B whose tokens are aligned at once; memory follows it. None is 256 on a CPU,
            1,024 elsewhere.

    Shapes of the inputs: those of [`OrmaOutput`], for this process's pairs, and:
        intensity: an [`Intensity`]; the default does nothing.
        pair_keys (b, 2) integers: a key of the caption and a key of the molecule; None masks nothing.

    Example:

    >>> u, offsets = torch.eye(3), torch.arange(4)  # three captions of one token, three molecules of one atom
    >>> levels = {"motif_tokens": u, "atom_tokens": u, "token_offsets": offsets, "motifs": u, "atoms": u}
    >>> levels |= {"motif_offsets": offsets, "atom_offsets": offsets, "level_weights": torch.tensor([0.3, 0.2, 0.5])}
    >>> out = OrmaLoss()(u, u, torch.tensor(10.0), **levels)
    >>> round(out.loss.item(), 4), out.accuracy.item()
    (0.0001, 1.0)
    """

    def __init__(self, label_smoothing: float = 0.0, block_pairs: int | None = None):
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {label_smoothing}; expected a share in [0, 1).")
        if block_pairs is not None and block_pairs < 1:
            raise ValueError(f"block_pairs is {block_pairs}; expected at least 1, or None.")
        self.label_smoothing = label_smoothing
        self.block_pairs = block_pairs

    def forward(
        self,
        text_embeds: torch.Tensor,
        molecule_embeds: torch.Tensor,
        logit_scale: torch.Tensor,
        motif_tokens: torch.Tensor,
        atom_tokens: torch.Tensor,
        token_offsets: torch.Tensor,
        motifs: torch.Tensor,
        motif_offsets: torch.Tensor,
        atoms: torch.Tensor,
        atom_offsets: torch.Tensor,
        level_weights: torch.Tensor,
        intensity: Intensity | None = None,
        pair_keys: torch.Tensor | None = None,
    ) -> LossOutput:
        texts = TextStates(motif_tokens, atom_tokens, token_offsets)
        molecules = MoleculeStates(motifs, motif_offsets, atoms, atom_offsets)
        pairs = len(text_embeds)
        for name, offsets in (("token", token_offsets), ("motif", motif_offsets), ("atom", atom_offsets)):
            if len(offsets) != pairs + 1:
                raise ValueError(
                    f"{name}_offsets has {len(offsets)} entries for {pairs} pairs; expected {pairs + 1}. The states "
                    "of several chunks do not join: leave forward_chunk_size out, and take a smaller batch."
                )
        intensity = intensity or Intensity()
        with torch.autocast(text_embeds.device.type, enabled=False):
            scale = intensity.sharpness * logit_scale.float()
            of_texts, of_molecules = self._scores(text_embeds.float(), molecule_embeds.float(), texts, molecules)
            targets, excluded = targets_of(pairs, pair_keys, text_embeds.device)
            loss, per_pair = text_embeds.new_zeros(()), text_embeds.new_zeros(pairs)
            for weight, *scores in zip(level_weights, of_texts, of_molecules, strict=True):
                level = score_losses([scale * one for one in scores], targets, excluded, self.label_smoothing)
                # A floor, as in ContrastiveLoss.
                weights = (1.0 - level.probabilities).clamp(min=1e-6) ** intensity.focus
                loss = loss + weight * (weights * level.losses).sum() / global_sum(weights.sum()) * world_size()
                per_pair = per_pair + weight * level.losses.detach()
            whole = [(level_weights[:, None, None] * scores.detach()).sum(0) for scores in (of_texts, of_molecules)]
            hits = score_losses(whole, targets, excluded).hits
        return LossOutput(loss, per_pair, global_sum(hits.sum()) / (pairs * world_size()))

    def _scores(
        self, text_embeds: torch.Tensor, molecule_embeds: torch.Tensor, texts: TextStates, molecules: MoleculeStates
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines of the own captions with all molecules, and of the own molecules with all captions: (3, b, B)."""
        all_molecules = MoleculeStates(
            *gather_ragged(molecules.motifs, molecules.motif_offsets),
            *gather_ragged(molecules.atoms, molecules.atom_offsets),
        )
        of_texts = torch.stack(
            [
                text_embeds @ gather_with_gradient(molecule_embeds).T,
                *all_scores(texts, all_molecules, self.block_pairs),
            ]
        )
        if world_size() == 1:
            return of_texts, of_texts.mT
        all_texts = TextStates(
            gather_ragged(texts.motif_tokens, texts.token_offsets)[0],
            *gather_ragged(texts.atom_tokens, texts.token_offsets),
        )
        of_molecules = torch.stack(
            [
                molecule_embeds @ gather_with_gradient(text_embeds).T,
                *(level.T for level in all_scores(all_texts, molecules, self.block_pairs)),
            ]
        )
        return of_texts, of_molecules


def gather_ragged(states: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All processes' ragged rows, in the order of the ranks, with the exact gradient.

    Args:
        states: (R, D), of this process; R may differ between processes.
        offsets: (b + 1,), where each item begins, and R; b must be the same everywhere.

    Returns:
        all states and their offsets.
    """
    if world_size() == 1:
        return states, offsets
    lengths = gather(offsets.diff())
    totals = lengths.view(world_size(), -1).sum(1)
    longest = int(totals.max())
    rows = gather_with_gradient(F.pad(states, (0, 0, 0, longest - len(states))))
    kept = torch.arange(longest, device=states.device) < totals[:, None]
    return rows[kept.flatten()], F.pad(lengths.cumsum(0), (1, 0))
