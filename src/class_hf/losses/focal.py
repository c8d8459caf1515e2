"""What all losses share: their result, and the mean that weights each pair by its focus."""

from typing import NamedTuple

import torch

from class_hf.utils.distributed import global_sum, world_size


class LossOutput(NamedTuple):
    """The result of a loss.

    Attributes:
        loss: (), the value to differentiate.
        per_pair: (b,) unweighted loss of each pair of this process, averaged over both directions; detached.
        accuracy: () share of the global batch that ranks its partner first, averaged over both directions.
    """

    loss: torch.Tensor
    per_pair: torch.Tensor
    accuracy: torch.Tensor


def focal_mean(
    losses: torch.Tensor,
    probabilities: torch.Tensor,
    focus: float,
    factor: torch.Tensor | float = 1.0,
    pair_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Averages losses over the global batch with the weights w_i = a_i (1 - p_i) ** focus.

    The weights are normalised by their sum over all processes. The value is multiplied by the number of processes,
    because DDP averages gradients. The gradient is therefore that of one process with the complete batch.

    Source: the focal loss (Lin et al., 2017). The normalisation is this project's.

    Args:
        losses: (b,) of this process's pairs.
        probabilities: (b,) probability of the true match, detached.
        focus: the exponent; 0 gives the plain mean.
        factor: multiplies the value. Default 1.
        pair_weights: (b,) the weights a_i, 0 or more, for instance the probability that a pair is right. Default: 1.

    Returns:
        ().

    Example:

    >>> focal_mean(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.0]), focus=1.0)  # weights 0.5 and 1
    tensor(2.3333)
    >>> focal_mean(torch.tensor([1.0, 3.0]), torch.zeros(2), focus=0.0, pair_weights=torch.tensor([0.5, 1.0]))
    tensor(2.3333)
    """
    # A lower bound, so that a batch of certain pairs does not divide by zero.
    weights = (1.0 - probabilities).clamp(min=1e-6) ** focus
    if pair_weights is not None:
        weights = weights * pair_weights.clamp(min=1e-6)
    return factor * (weights * losses).sum() / global_sum(weights.sum()) * world_size()
