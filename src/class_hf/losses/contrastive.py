"""Symmetric contrastive loss with per-pair intensity."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.tiled import PairLosses, share_a_key, tiled_pair_losses
from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, rank, world_size


class LossOutput(NamedTuple):
    """What a loss returns.

    Attributes:
        loss: (), to be back-propagated.
        per_pair: (b,) unweighted loss of each local pair, averaged over both directions; detached.
        accuracy: () share of the global batch whose partner is ranked first, averaged over both directions.
    """

    loss: torch.Tensor
    per_pair: torch.Tensor
    accuracy: torch.Tensor


class ContrastiveLoss(nn.Module):
    """Symmetric InfoNCE in which each pair weighs by its intensity.

    For a global batch of B pairs with similarities s_ij = u_i v_j:

        l_i  = 1/2 [ CE_j(kappa scale s_ij, i) + CE_j(kappa scale s_ji, i) ]
        loss = sum_i w_i l_i / sum_i w_i,     w_i = (1 - p_i) ** focus

    where p_i is the detached probability of the true match, averaged over both directions. Pairs with the same
    molecule or the same caption are never each other's negatives: their logits are left out.

    Under several processes each one holds its own rows and all columns, gathered with the exact gradient; the
    weights are normalised by the sum over all processes. The value is scaled by the number of processes because
    DDP averages gradients: the result is the single process's gradient of the whole global batch.

    Source: the symmetric form is CLIP's (Radford et al., 2021, section 2.3); the weights follow the focal loss
    (Lin et al., 2017); their use as the curriculum's intensity is ours.

    The logits are (b, B) a direction, or exist only tile by tile ([`tiled_pair_losses`]): the same values in a memory
    that grows with B. With D = 256 on a CPU, the tiled form is the faster one from a batch of a few hundred pairs.

    Args:
        label_smoothing: share of the target spread evenly over the batch, in [0, 1).
        tiled_from: global batch from which on the logits are tiled; None tiles none.
        tile_size: rows and columns of a tile; None is 1,024 on a CPU, 4,096 elsewhere.

    Shapes of the inputs:
        text_embeds (b, D), molecule_embeds (b, D): of this process; row i of both is pair i.
        logit_scale (): factor of the similarities (not its log).
        intensity: an [`Intensity`]; the default does nothing.
        pair_keys (b, 2) integers: a key of the caption and a key of the molecule; None masks nothing.

    Example:

    >>> loss = ContrastiveLoss()
    >>> u = torch.eye(3)
    >>> out = loss(u, u, torch.tensor(10.0))
    >>> round(out.loss.item(), 4), out.accuracy.item()
    (0.0001, 1.0)
    """

    def __init__(self, label_smoothing: float = 0.0, tiled_from: int | None = 2048, tile_size: int | None = None):
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {label_smoothing}; expected a share in [0, 1).")
        if tile_size is not None and tile_size < 1:
            raise ValueError(f"tile_size is {tile_size}; expected 1 or more, or None.")
        self.label_smoothing = label_smoothing
        self.tiled_from = tiled_from
        self.tile_size = tile_size

    def forward(
        self,
        text_embeds: torch.Tensor,
        molecule_embeds: torch.Tensor,
        logit_scale: torch.Tensor | float,
        intensity: Intensity | None = None,
        pair_keys: torch.Tensor | None = None,
    ) -> LossOutput:
        if text_embeds.ndim != 2 or text_embeds.shape != molecule_embeds.shape:
            raise ValueError(
                f"text_embeds {tuple(text_embeds.shape)} and molecule_embeds {tuple(molecule_embeds.shape)} "
                "must both be (pairs, width): one row a pair."
            )
        intensity = intensity or Intensity()
        total = text_embeds.shape[0] * world_size()
        # In float32 whatever the towers ran in: the scale multiplies the rounding of bf16 by up to 100.
        with torch.autocast(text_embeds.device.type, enabled=False):
            scale = logit_scale.float() if isinstance(logit_scale, torch.Tensor) else float(logit_scale)
            texts, molecules = intensity.sharpness * scale * text_embeds.float(), molecule_embeds.float()
            if self.tiled_from is not None and total >= self.tiled_from:
                pairs = tiled_pair_losses(texts, molecules, pair_keys, self.label_smoothing, self.tile_size)
            else:
                pairs = dense_pair_losses(texts, molecules, pair_keys, self.label_smoothing)
            # A floor, so that a batch without a single doubtful pair does not divide by zero.
            weights = (1.0 - pairs.probabilities).clamp(min=1e-6) ** intensity.focus  # (b,), all ones without focus
            loss = (weights * pairs.losses).sum() / global_sum(weights.sum()) * world_size()
        return LossOutput(loss, pairs.losses.detach(), global_sum(pairs.hits.sum()) / total)


def dense_pair_losses(
    texts: torch.Tensor,
    molecules: torch.Tensor,
    pair_keys: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> PairLosses:
    """Both directions' cross-entropy of each pair, from all logits at once: (b, B) a direction.

    The plain form that [`tiled_pair_losses`] equals; arguments as there.
    """
    targets, excluded = targets_of(len(texts), pair_keys, texts.device)
    both = ((texts, molecules), (molecules, texts))
    scores = [rows @ gather_with_gradient(columns).T for rows, columns in both]
    return score_losses(scores, targets, excluded, label_smoothing)


def targets_of(
    pairs: int, pair_keys: torch.Tensor | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Which column of the global batch is each own row's partner, (b,), and which are no negatives of it, (b, B).

    The second is None without keys; see [`ContrastiveLoss`].
    """
    rows = torch.arange(pairs, device=device)
    targets = rows + rank() * pairs
    if pair_keys is None:
        return targets, None
    excluded = share_a_key(pair_keys, gather(pair_keys))
    excluded[rows, targets] = False
    return targets, excluded


def score_losses(
    scores: Sequence[torch.Tensor],
    targets: torch.Tensor,
    excluded: torch.Tensor | None,
    label_smoothing: float = 0.0,
) -> PairLosses:
    """Cross-entropy of each pair, averaged over both directions, from the scores themselves.

    Args:
        scores: two of (b, B) logits: the own captions by all molecules, the own molecules by all captions.
        targets: (b,) the column of each row's partner.
        excluded: (b, B) bool, columns that are no negatives of a row; None excludes nothing.
        label_smoothing: share of the target spread evenly over the columns that are left.
    """
    losses, probabilities, hits = [], [], []
    for logits in scores:
        if excluded is not None:
            logits = logits.masked_fill(excluded, float("-inf"))
        log_probabilities = logits.log_softmax(1)
        true = log_probabilities.gather(1, targets[:, None]).squeeze(1)
        loss = -true
        if label_smoothing > 0.0:
            # torch's own smoothing would give excluded columns, whose log-probability is -inf, a share of the target.
            kept = log_probabilities.isfinite()
            spread = log_probabilities.masked_fill(~kept, 0.0).sum(1) / kept.sum(1)
            loss = (1.0 - label_smoothing) * loss - label_smoothing * spread
        losses.append(loss)
        probabilities.append(true.detach().exp())
        hits.append((logits.argmax(1) == targets).float())
    return PairLosses(*(torch.stack(both).mean(0) for both in (losses, probabilities, hits)))
