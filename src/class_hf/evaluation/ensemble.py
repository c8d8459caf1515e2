"""Several models as one: their vectors side by side."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F


def join_embeddings(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Embeddings whose cosine is the mean of the models' cosines (ours; the field averages ranks).

    The joint vectors rank, and fill an index, as those of one model do; an average of ranks would need all of them.

    Args:
        parts: what [`RetrievalEvaluator.embeddings`] gave for each model, over the same pairs and pool.

    Returns:
        the same names; embeddings (N, sum of the models' D) of length 1, `gold`, and the mean of any `logit_scale`.

    Raises:
        ValueError: if there are none, or they are of other pairs or pools.

    Example:

    >>> one = {"text_embeds": torch.eye(2), "gold": torch.tensor([0, 1])}
    >>> other = {"text_embeds": torch.tensor([[2.0, 0.0], [3.0, 0.0]]), "gold": torch.tensor([0, 1])}
    >>> joint = join_embeddings([one, other])["text_embeds"]
    >>> round(float(joint[0] @ joint[1]), 3)  # the mean of 0 and 1
    0.5
    """
    if not parts:
        raise ValueError("there are no embeddings to join.")
    shapes = [{name: values.shape[:1] for name, values in part.items()} for part in parts]
    if any(shape != shapes[0] for shape in shapes) or any(not part["gold"].equal(parts[0]["gold"]) for part in parts):
        raise ValueError(f"the embeddings are of different pairs or pools: {shapes}.")
    joint = {
        name: torch.cat([F.normalize(part[name].float(), dim=-1) for part in parts], dim=1) / len(parts) ** 0.5
        for name in parts[0]
        if name not in ("gold", "logit_scale")
    }
    if "logit_scale" in parts[0]:
        joint["logit_scale"] = torch.stack([part["logit_scale"] for part in parts]).mean()
    return {**joint, "gold": parts[0]["gold"]}
