"""The symmetric contrastive loss with per-pair intensity."""

from collections.abc import Sequence

import torch
from torch import nn

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.focal import LossOutput, focal_mean
from class_hf.losses.tiled import PairLosses, share_a_key, tiled_pair_losses
from class_hf.models.argument_checks import check_integer, check_number
from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, rank, world_size


class ContrastiveLoss(nn.Module):
    """Symmetric InfoNCE over the global batch, in which each pair is weighted by its intensity.

    For a global batch of B pairs with similarities s_ij = u_i v_j:

        l_i  = 1/2 [ CE_j(kappa scale s_ij, i) + CE_j(kappa scale s_ji, i) ]
        loss = sum_i w_i l_i / sum_i w_i,     w_i = (1 - p_i) ** focus

    CE is the cross-entropy, kappa the sharpness, and p_i the detached probability of the true match, averaged over
    both directions. Two pairs with the same molecule or the same caption are not negatives of each other: their
    logits are masked.

    With several processes each process computes its own rows against all columns, which are gathered with the exact
    gradient. The result is the gradient of one process with the complete batch.

    Args:
        label_smoothing (`float`, *optional*, defaults to 0.0): share of the target that is spread evenly over the
            batch, in [0, 1).
        tiled_from (`int`, *optional*, defaults to 2048): size of the global batch from which the logits are computed
            tile by tile ([`tiled_pair_losses`]). The values are the same, and memory grows linearly with the batch.
            None disables tiles.
        tile_size (`int`, *optional*): rows and columns of a tile. Defaults to 1,024 on a CPU and 4,096 elsewhere.

    Returns:
        A call returns a [`LossOutput`].

    Raises:
        ValueError: if an argument is out of its range.

    Requirements:
        1. A model that returns `text_embeds` and `molecule_embeds` of the same width, and `logit_scale`.
        2. Every process holds the same number of pairs.

    Recommendations:
        - Use batches of at least 256 pairs: the other pairs of the batch are the negatives.
        - For batches that do not fit in memory, set `forward_chunk_size` of the trainer (see
          [`cached_gradient_loss`]).

    Relations:
        - Without intensity it is CLIP's loss, and the symmetric form of sentence-transformers'
          `MultipleNegativesRankingLoss`.
        - [`Text2MolLoss`] is the same loss of vectors that are not normalised, summed over both directions.

    Source: CLIP (Radford et al., 2021, section 2.3) for the symmetric form, the focal loss (Lin et al., 2017) for the
    weights. Their use as the intensity of a curriculum is this project's.

    Example:

    >>> loss = ContrastiveLoss()
    >>> u = torch.eye(3)
    >>> out = loss(u, u, torch.tensor(10.0))
    >>> round(out.loss.item(), 4), out.accuracy.item()
    (0.0001, 1.0)
    """

    def __init__(self, label_smoothing: float = 0.0, tiled_from: int | None = 2048, tile_size: int | None = None):
        super().__init__()
        self.label_smoothing = check_number("label_smoothing", label_smoothing, least=0, below=1)
        if tiled_from is not None:
            check_integer("tiled_from", tiled_from, 0)
        if tile_size is not None:
            check_integer("tile_size", tile_size, 1)
        self.tiled_from = tiled_from
        self.tile_size = tile_size

    def forward(
        self,
        text_embeds: torch.Tensor,
        molecule_embeds: torch.Tensor,
        logit_scale: torch.Tensor | float,
        intensity: Intensity | None = None,
        pair_keys: torch.Tensor | None = None,
        pair_weights: torch.Tensor | None = None,
    ) -> LossOutput:
        """Computes the loss of this process's b pairs.

        Args:
            text_embeds: (b, D) caption embeddings.
            molecule_embeds: (b, D) molecule embeddings; row i belongs to caption i.
            logit_scale: (), factor of the similarities, not its logarithm.
            intensity: sharpness and focus. Default: both without effect.
            pair_keys: (b, 2) integers, a key of the caption and a key of the molecule. None masks nothing.
            pair_weights: (b,) weights of the pairs, for instance the probability that each is right. Default: 1.

        Returns:
            [`LossOutput`].

        Raises:
            ValueError: if the embeddings are not two matrices of the same shape.
        """
        if text_embeds.ndim != 2 or text_embeds.shape != molecule_embeds.shape:
            raise ValueError(
                f"text_embeds {tuple(text_embeds.shape)} and molecule_embeds {tuple(molecule_embeds.shape)} "
                "must both be (pairs, width), with one row for each pair."
            )
        intensity = intensity or Intensity()
        total = text_embeds.shape[0] * world_size()
        # In float32 whatever the precision of the towers: the scale multiplies bf16 rounding errors by up to 100.
        with torch.autocast(text_embeds.device.type, enabled=False):
            scale = logit_scale.float() if isinstance(logit_scale, torch.Tensor) else float(logit_scale)
            texts, molecules = intensity.sharpness * scale * text_embeds.float(), molecule_embeds.float()
            if self.tiled_from is not None and total >= self.tiled_from:
                pairs = tiled_pair_losses(texts, molecules, pair_keys, self.label_smoothing, self.tile_size)
            else:
                pairs = dense_pair_losses(texts, molecules, pair_keys, self.label_smoothing)
            loss = focal_mean(pairs.losses, pairs.probabilities, intensity.focus, pair_weights=pair_weights)
        return LossOutput(loss, pairs.losses.detach(), global_sum(pairs.hits.sum()) / total)


def dense_pair_losses(
    texts: torch.Tensor,
    molecules: torch.Tensor,
    pair_keys: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> PairLosses:
    """Computes the cross-entropy of each pair in both directions, with all logits in memory: (b, B) per direction.

    [`tiled_pair_losses`] returns the same values with less memory. Arguments and result are the same.
    """
    targets, excluded = targets_of(len(texts), pair_keys, texts.device)
    if world_size() == 1:  # one product serves both directions
        logits = texts @ molecules.T
        return score_losses([logits, logits.T], targets, excluded, label_smoothing)
    directions = ((texts, molecules), (molecules, texts))
    scores = [rows @ gather_with_gradient(columns).T for rows, columns in directions]
    return score_losses(scores, targets, excluded, label_smoothing)


def targets_of(
    pairs: int, pair_keys: torch.Tensor | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns each row's true column in the global batch, and the columns that are not its negatives.

    Args:
        pairs: number of pairs b of this process.
        pair_keys: (b, 2) integers, as for [`ContrastiveLoss`].
        device: where the results are.

    Returns:
        The true columns (b,) int64, and a mask (b, B) of columns that share a key with the row. The mask is None
        without keys.
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
    """Computes the cross-entropy of each pair from its logits, averaged over both directions.

    Args:
        scores: two matrices (b, B) of logits: this process's captions with all molecules, and its molecules with all
            captions.
        targets: (b,) the true column of each row.
        excluded: (b, B) bool, columns that are not negatives of a row. None excludes nothing.
        label_smoothing: share of the target that is spread evenly over the columns that are not excluded.

    Returns:
        [`PairLosses`].
    """
    losses, probabilities, hits = [], [], []
    kept = scores[0].shape[1] if excluded is None else (~excluded).sum(1)
    for logits in scores:
        if excluded is not None:
            logits = logits.masked_fill(excluded, float("-inf"))
        log_probabilities = logits.log_softmax(1)
        true = log_probabilities.gather(1, targets[:, None]).squeeze(1)
        loss = -true
        if label_smoothing > 0.0:
            # torch's label smoothing would give a share to excluded columns, whose log-probability is -inf.
            if excluded is not None:
                log_probabilities = log_probabilities.masked_fill(excluded, 0.0)
            loss = (1.0 - label_smoothing) * loss - label_smoothing * log_probabilities.sum(1) / kept
        losses.append(loss)
        probabilities.append(true.detach().exp())
        hits.append((logits.argmax(1) == targets).float())
    return PairLosses(*(torch.stack(directions).mean(0) for directions in (losses, probabilities, hits)))
