"""Joint embeddings have the mean of the models' cosines."""

import pytest
import torch

from class_hf.evaluation.ensemble import join_embeddings


def part(dimension, seed, rows=6):
    generator = torch.Generator().manual_seed(seed)
    texts, molecules = (torch.randn(rows, dimension, generator=generator) for _ in range(2))
    return {"text_embeds": texts, "molecule_embeds": molecules, "gold": torch.arange(rows)}


def cosines(embeddings):
    texts, molecules = (
        torch.nn.functional.normalize(embeddings[f"{side}_embeds"], dim=-1) for side in ("text", "molecule")
    )
    return texts @ molecules.T


def test_cosines_are_averaged():
    parts = [part(4, 0), part(9, 1), part(4, 2)]
    joint = join_embeddings(parts)
    assert joint["text_embeds"].shape == (6, 17)
    torch.testing.assert_close(cosines(joint), torch.stack([cosines(embeddings) for embeddings in parts]).mean(0))
    torch.testing.assert_close(cosines(join_embeddings(parts[:1])), cosines(parts[0]))


def test_embeddings_of_different_pairs_are_refused():
    with pytest.raises(ValueError, match="belong to different pairs or pools"):
        join_embeddings([part(4, 0), part(4, 1, rows=5)])
    other = part(4, 1)
    other["gold"] = other["gold"].flip(0)
    with pytest.raises(ValueError, match="belong to different pairs or pools"):
        join_embeddings([part(4, 0), other])
    with pytest.raises(ValueError, match="no embeddings"):
        join_embeddings([])
