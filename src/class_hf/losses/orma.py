"""ORMA's loss: a symmetric contrastive loss at each of three levels."""

import torch
import torch.nn.functional as F
from torch import nn

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.contrastive import score_losses, targets_of
from class_hf.losses.focal import LossOutput, focal_mean
from class_hf.models.argument_checks import check_integer, check_number
from class_hf.models.token_alignment import MoleculeStates, TextStates, all_scores
from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, world_size


class OrmaLoss(nn.Module):
    """Weighted sum of three symmetric contrastive losses: sentence-molecule, multi-token-motif and token-atom.

    In a global batch of B pairs, every caption is scored against every molecule at every level. Each level's (B, B)
    scores have the loss of [`ContrastiveLoss`], with its intensity and its masked pairs:

        loss = sum_level weight_level sum_i w_i l_i / sum_i w_i,     w_i = (1 - p_i) ** focus   of that level

    The accuracy is that of the full score, the weighted sum of the levels.

    With several processes each process scores its captions against all molecules, and all captions against its
    molecules. The states of tokens, motifs and atoms are gathered with the exact gradient.

    Args:
        label_smoothing (`float`, *optional*, defaults to 0.0): share of the target that is spread evenly over the
            batch, in [0, 1).
        block_pairs (`int`, *optional*): number of the B x B pairs whose tokens are aligned at once. Memory is
            proportional to it. Defaults to 256 on a CPU and 1,024 elsewhere.

    Returns:
        A call returns a [`LossOutput`].

    Raises:
        ValueError: if an argument is out of its range.

    Requirements:
        1. A model that returns the fields of [`OrmaOutput`], such as [`OrmaModel`].
        2. Every process holds the same number of pairs.
        3. No cached gradients (`forward_chunk_size`): the states of chunks cannot be joined.

    Recommendations:
        - The time grows with B x B alignments. Begin with batches of 32 to 64 pairs.

    Relations:
        - With the level weights (1, 0, 0) it is [`ContrastiveLoss`].

    Source: Min et al., 2024 (level weights, symmetric cross-entropy at each level). Scoring all B x B pairs is this
    project's.

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
        self.label_smoothing = check_number("label_smoothing", label_smoothing, least=0, below=1)
        if block_pairs is not None:
            check_integer("block_pairs", block_pairs, 1)
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
        pair_weights: torch.Tensor | None = None,
    ) -> LossOutput:
        """Computes the loss of this process's b pairs.

        The arguments are the fields of [`OrmaOutput`], one by one: the trainer passes those fields of a model's output
        that the signature of its loss names.

        Args:
            text_embeds: (b, D) sentence embeddings.
            molecule_embeds: (b, D) molecule embeddings; row i belongs to sentence i.
            logit_scale: (), factor of the cosines of all levels, not its logarithm.
            motif_tokens, atom_tokens, token_offsets: the fields of [`TextStates`].
            motifs, motif_offsets, atoms, atom_offsets: the fields of [`MoleculeStates`].
            level_weights: (3,) weights of the levels sentence-molecule, multi-token-motif and token-atom.
            intensity: sharpness and focus. Default: both without effect.
            pair_keys: (b, 2) integers, a key of the caption and a key of the molecule. None masks nothing.
            pair_weights: (b,) weights of the pairs, for instance the probability that each is right. Default: 1.

        Returns:
            [`LossOutput`].

        Raises:
            ValueError: if the states belong to another number of pairs.
        """
        texts = TextStates(motif_tokens, atom_tokens, token_offsets)
        molecules = MoleculeStates(motifs, motif_offsets, atoms, atom_offsets)
        _check_offsets(texts, molecules, len(text_embeds))
        intensity = intensity or Intensity()
        with torch.autocast(text_embeds.device.type, enabled=False):
            scale = intensity.sharpness * logit_scale.float()
            text_scores, molecule_scores = self._scores(text_embeds.float(), molecule_embeds.float(), texts, molecules)
            pairs = len(text_embeds)
            targets, excluded = targets_of(pairs, pair_keys, text_embeds.device)
            loss, per_pair = text_embeds.new_zeros(()), text_embeds.new_zeros(pairs)
            for weight, *directions in zip(level_weights, text_scores, molecule_scores, strict=True):
                logits = [scale * scores for scores in directions]
                level = score_losses(logits, targets, excluded, self.label_smoothing)
                loss = loss + focal_mean(level.losses, level.probabilities, intensity.focus, weight, pair_weights)
                per_pair = per_pair + weight * level.losses.detach()
            weights = level_weights[:, None, None]
            full_scores = [(weights * scores.detach()).sum(0) for scores in (text_scores, molecule_scores)]
            hits = score_losses(full_scores, targets, excluded).hits
        return LossOutput(loss, per_pair, global_sum(hits.sum()) / (pairs * world_size()))

    def _scores(
        self, text_embeds: torch.Tensor, molecule_embeds: torch.Tensor, texts: TextStates, molecules: MoleculeStates
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines of this process's captions with all molecules, and of its molecules with all captions: (3, b, B)."""
        all_molecules = MoleculeStates(
            *gather_ragged(molecules.motifs, molecules.motif_offsets),
            *gather_ragged(molecules.atoms, molecules.atom_offsets),
        )
        text_scores = torch.stack(
            [
                text_embeds @ gather_with_gradient(molecule_embeds).T,
                *all_scores(texts, all_molecules, self.block_pairs),
            ]
        )
        if world_size() == 1:
            return text_scores, text_scores.mT
        all_texts = TextStates(
            gather_ragged(texts.motif_tokens, texts.token_offsets)[0],
            *gather_ragged(texts.atom_tokens, texts.token_offsets),
        )
        molecule_scores = torch.stack(
            [
                molecule_embeds @ gather_with_gradient(text_embeds).T,
                *(level.T for level in all_scores(all_texts, molecules, self.block_pairs)),
            ]
        )
        return text_scores, molecule_scores


def _check_offsets(texts: TextStates, molecules: MoleculeStates, pairs: int) -> None:
    """Raises ValueError if the states belong to another number of pairs."""
    states = {**texts._asdict(), **molecules._asdict()}
    for name in ("token_offsets", "motif_offsets", "atom_offsets"):
        if len(states[name]) != pairs + 1:
            raise ValueError(
                f"{name} has {len(states[name])} entries for {pairs} pairs; expected {pairs + 1}. The states of "
                "several chunks cannot be joined: leave forward_chunk_size out, and use a smaller batch."
            )


def gather_ragged(states: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gathers the ragged rows of all processes, in the order of the ranks, with the exact gradient.

    Args:
        states: (R, D) of this process; R may differ between processes.
        offsets: (b + 1,) where each item begins, and R; b must be the same in all processes.

    Returns:
        The states of all processes, and their offsets.
    """
    if world_size() == 1:
        return states, offsets
    lengths = gather(offsets.diff())
    totals = lengths.view(world_size(), -1).sum(1)
    longest = int(totals.max())
    rows = gather_with_gradient(F.pad(states, (0, 0, 0, longest - len(states))))
    kept = torch.arange(longest, device=states.device) < totals[:, None]
    return rows[kept.flatten()], F.pad(lengths.cumsum(0), (1, 0))
