"""Symmetric contrastive loss with per-pair intensity."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from class_hf.curriculum.intensity import Intensity
from class_hf.distributed import gather, gather_with_gradient, global_sum, rank, world_size


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

    Args:
        label_smoothing: share of the target spread evenly over the batch, in [0, 1).

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

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {label_smoothing}; expected a share in [0, 1).")
        self.label_smoothing = label_smoothing

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
        local = text_embeds.shape[0]
        # In float32 whatever the towers ran in: the scale multiplies the rounding of bf16 by up to 100.
        with torch.autocast(text_embeds.device.type, enabled=False):
            texts, molecules = text_embeds.float(), molecule_embeds.float()
            scale = intensity.sharpness * (
                logit_scale.float() if isinstance(logit_scale, torch.Tensor) else float(logit_scale)
            )
            targets = torch.arange(local, device=texts.device) + rank() * local
            excluded = self._excluded(pair_keys, targets)
            directions = []
            for rows, columns in ((texts, molecules), (molecules, texts)):
                logits = scale * rows @ gather_with_gradient(columns).T  # (b, B)
                if excluded is not None:
                    logits = logits.masked_fill(excluded, float("-inf"))
                directions.append(logits)
            losses = torch.stack([self._cross_entropy(logits, targets) for logits in directions]).mean(0)  # (b,)
            with torch.no_grad():
                hits = torch.stack([logits.argmax(1) == targets for logits in directions]).float().mean(0)
                accuracy = global_sum(hits.sum()) / (local * world_size())
                weights = self._weights(directions, targets, intensity.focus)
                total_weight = global_sum(weights.sum())
            loss = (weights * losses).sum() / total_weight * world_size()
        return LossOutput(loss, losses.detach(), accuracy)

    @staticmethod
    def _excluded(pair_keys: torch.Tensor | None, targets: torch.Tensor) -> torch.Tensor | None:
        """(b, B) bool: pairs that share a caption or a molecule, the pair itself not among them."""
        if pair_keys is None:
            return None
        columns = gather(pair_keys)
        same = (pair_keys[:, None, :] == columns[None, :, :]).any(-1)
        same[torch.arange(len(targets), device=targets.device), targets] = False
        return same

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.label_smoothing == 0.0:
            return F.cross_entropy(logits, targets, reduction="none")
        # torch's own smoothing would give excluded columns, whose log-probability is -inf, a share of the target.
        log_probabilities = logits.log_softmax(1)
        true = log_probabilities.gather(1, targets[:, None]).squeeze(1)
        kept = log_probabilities.isfinite()
        spread = log_probabilities.masked_fill(~kept, 0.0).sum(1) / kept.sum(1)
        return -(1.0 - self.label_smoothing) * true - self.label_smoothing * spread

    @staticmethod
    def _weights(directions: list[torch.Tensor], targets: torch.Tensor, focus: float) -> torch.Tensor:
        """(b,) weights; all ones without focus, or where every pair of the batch is already certain."""
        if focus == 0.0:
            return torch.ones(len(targets), device=targets.device)
        index = targets[:, None]
        p = torch.stack([logits.softmax(1).gather(1, index).squeeze(1) for logits in directions]).mean(0)
        # A floor, so that a batch without a single doubtful pair does not divide by zero.
        return (1.0 - p).clamp(min=1e-6) ** focus
