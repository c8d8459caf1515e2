"""Joins the embeddings of several models into one set of embeddings."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F


def join_embeddings(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Concatenates the embeddings of several models, so that a cosine is the mean of the models' cosines.

    The joint embeddings can be ranked and indexed like those of one model. Other ensembles average ranks, which needs
    the ranks of all candidates.

    Args:
        parts (`Sequence[Mapping]`): by model, the result of
            [`~class_hf.evaluation.retrieval_evaluator.RetrievalEvaluator.embeddings`]. All models embed the same
            pairs and the same pool.

    Returns:
        The same fields: L2-normalised embeddings (N, sum of all D), `gold`, and the mean of `logit_scale` if present.

    Raises:
        ValueError: if there are no parts, or they belong to different pairs or pools.

    Example:

    >>> first = {"text_embeds": torch.eye(2), "gold": torch.tensor([0, 1])}
    >>> second = {"text_embeds": torch.tensor([[2.0, 0.0], [3.0, 0.0]]), "gold": torch.tensor([0, 1])}
    >>> joint = join_embeddings([first, second])["text_embeds"]
    >>> round(float(joint[0] @ joint[1]), 3)  # the mean of the cosines 0 and 1
    0.5
    """
    if not parts:
        raise ValueError("there are no embeddings to join.")
    shapes = [{name: values.shape[:1] for name, values in part.items()} for part in parts]
    if any(shape != shapes[0] for shape in shapes) or any(not part["gold"].equal(parts[0]["gold"]) for part in parts):
        raise ValueError(f"the embeddings belong to different pairs or pools: {shapes}.")
    joint = {
        name: torch.cat([F.normalize(part[name].float(), dim=-1) for part in parts], dim=1) / len(parts) ** 0.5
        for name in parts[0]
        if name not in ("gold", "logit_scale")
    }
    if "logit_scale" in parts[0]:
        joint["logit_scale"] = torch.stack([part["logit_scale"] for part in parts]).mean()
    return {**joint, "gold": parts[0]["gold"]}
