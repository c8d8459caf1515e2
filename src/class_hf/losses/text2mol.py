"""Text2Mol's loss: the cross-entropy of raw dot products in both directions."""

import torch

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.losses.focal import LossOutput


class Text2MolLoss(ContrastiveLoss):
    """CE(scale U V^T) + CE(scale V U^T), in which each pair is weighted by its intensity.

    U and V are vectors that are not normalised, so a model can increase the probability of a match by longer vectors.

    Args: see [`ContrastiveLoss`].

    Returns:
        A call returns a [`LossOutput`], whose `per_pair` is the sum of both directions.

    Requirements:
        1. A model that returns `text_vectors` and `molecule_vectors` of the same width, and `logit_scale`, such as
           [`Text2MolModel`].
        2. Every process holds the same number of pairs.

    Recommendations:
        - Use batches of at least 256 pairs: the other pairs of the batch are the negatives.

    Relations:
        - Twice [`ContrastiveLoss`] of `text_vectors` and `molecule_vectors`. Intensity, shared keys, several processes
          and tiles are the same.

    Source: Edwards et al., 2021, and the authors' code.

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
        pair_weights: torch.Tensor | None = None,
        text_vectors: torch.Tensor | None = None,
        molecule_vectors: torch.Tensor | None = None,
    ) -> LossOutput:
        """Computes the loss of this process's b pairs.

        Args:
            text_embeds, molecule_embeds: not used; every backbone returns them.
            logit_scale: (), factor of the dot products, not its logarithm.
            intensity, pair_keys, pair_weights: as for [`ContrastiveLoss`].
            text_vectors: (b, D) caption vectors.
            molecule_vectors: (b, D) molecule vectors; row i belongs to caption i.

        Returns:
            [`LossOutput`].

        Raises:
            ValueError: if the vectors are missing, or are not two matrices of the same shape.
        """
        if text_vectors is None or molecule_vectors is None:
            raise ValueError(
                "text_vectors and molecule_vectors (b, D) are missing; expected vectors that are not normalised. Use "
                "a backbone that returns them, such as Text2MolModel, or ContrastiveLoss."
            )
        out = super().forward(text_vectors, molecule_vectors, logit_scale, intensity, pair_keys, pair_weights)
        return out._replace(loss=2 * out.loss, per_pair=2 * out.per_pair)
