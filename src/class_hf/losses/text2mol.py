"""Text2Mol's loss: both directions' cross-entropy of raw dot products."""

import torch

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.contrastive import ContrastiveLoss, LossOutput


class Text2MolLoss(ContrastiveLoss):
    """CE(scale U V^T) + CE(scale V U^T), in which each pair weighs by its intensity.

    [`ContrastiveLoss`] of vectors that keep their length, and the sum of both directions, not their mean: a model can
    make a match surer by longer vectors. Intensity, shared keys, several processes and tiles are as there; so are the
    arguments.

    Source: Edwards et al., 2021, and the authors' code.

    Shapes of the inputs:
        text_vectors (b, D), molecule_vectors (b, D): of this process; row i of both is pair i.
        logit_scale (): factor of the dot products (not its log).
        intensity, pair_keys (b, 2): as of [`ContrastiveLoss`].
        text_embeds, molecule_embeds: not used; what every backbone gives.

    Result of a call:
        [`LossOutput`]; `per_pair` is the sum of both directions too.

    Raises:
        ValueError: if the vectors are missing, or their shapes do not fit.

    Example:

    >>> u = 3 * torch.eye(3)
    >>> out = Text2MolLoss()(u, u, torch.tensor(1.0), text_vectors=u, molecule_vectors=u)
    >>> round(out.loss.item(), 4)  # 2 log(1 + 2 exp(-9))
    0.0005
    """

    def forward(
        self,
        text_embeds: torch.Tensor,
        molecule_embeds: torch.Tensor,
        logit_scale: torch.Tensor | float,
        intensity: Intensity | None = None,
        pair_keys: torch.Tensor | None = None,
        text_vectors: torch.Tensor | None = None,
        molecule_vectors: torch.Tensor | None = None,
    ) -> LossOutput:
        if text_vectors is None or molecule_vectors is None:
            raise ValueError(
                "text_vectors and molecule_vectors (b, D) are missing: the loss takes vectors that are not brought to "
                "length 1. Use a backbone that returns them, such as Text2MolModel, or ContrastiveLoss."
            )
        out = super().forward(text_vectors, molecule_vectors, logit_scale, intensity, pair_keys)
        return out._replace(loss=2 * out.loss, per_pair=2 * out.per_pair)
