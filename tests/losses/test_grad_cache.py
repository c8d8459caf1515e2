"""Cached gradients, chunk by chunk, equal those of the complete batch."""

import pytest
import torch
from conftest import rows_of_pairs, tiny_model

from class_hf import (
    ContrastiveLoss,
    LexicalTokenizer,
    MoleculeGraphFeatureExtractor,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
)
from class_hf.curriculum.intensity import Intensity
from class_hf.losses.grad_cache import cached_gradient_loss

ROWS = rows_of_pairs(12)
KEYS = torch.tensor([[i % 5, 100 + i // 3] for i in range(12)])


def graph_model(dropout):
    torch.manual_seed(0)
    return TextMoleculeDualEncoderModel.from_towers(
        text="lexical",
        molecule="graph",
        text_kwargs={"num_buckets": 512, "hidden_size": 16, "dropout": dropout, "token_dropout": dropout},
        molecule_kwargs={"hidden_size": 16, "num_layers": 2, "dropout": dropout},
        projection_dim=8,
    )


def chunks_of(processor, size):
    return [
        processor(text=ROWS["description"][start : start + size], smiles=ROWS["smiles"][start : start + size])
        for start in range(0, 12, size)
    ]


def fields(model, chunk, autocast):
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return dict(model(**chunk))


def gradients(model):
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def plain(model, chunks, loss, autocast):
    """All chunks at once, with their activations in memory."""
    model.zero_grad()
    torch.manual_seed(1)
    chunk_fields = [fields(model, chunk, autocast) for chunk in chunks]
    joined = {name: torch.cat([part[name] for part in chunk_fields]) for name in ("text_embeds", "molecule_embeds")}
    result = loss({**joined, "logit_scale": chunk_fields[0]["logit_scale"]})
    result.loss.backward()
    return result.loss.item(), gradients(model)


def cached(model, chunks, loss, autocast):
    model.zero_grad()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):  # around both passes, as in the Trainer
        result, last = cached_gradient_loss(
            lambda chunk: dict(model(**chunk)), chunks, loss, backward=torch.Tensor.backward
        )
    last.backward()
    assert last.item() == pytest.approx(result.loss.item(), rel=1e-6)
    return last.item(), gradients(model)


@pytest.mark.parametrize("autocast", (False, True))
@pytest.mark.parametrize("dropout", (0.0, 0.3))
@pytest.mark.parametrize("size", (1, 5, 12))
def test_cached_equals_plain(size, dropout, autocast):
    processor = TextMoleculeProcessor(LexicalTokenizer(num_buckets=512), MoleculeGraphFeatureExtractor())
    model, chunks = graph_model(dropout).train(), chunks_of(processor, size)

    def loss(all_fields):
        return ContrastiveLoss(0.1)(**all_fields, intensity=Intensity(0.8, 1.5), pair_keys=KEYS)

    expected_loss, expected_gradients = plain(model, chunks, loss, autocast)
    value, gradient = cached(model, chunks, loss, autocast)
    assert value == pytest.approx(expected_loss, rel=1e-6)
    assert expected_gradients.keys() == gradient.keys() and "logit_scale.log_scale" in gradient
    tolerance = 2e-2 if autocast else 1e-5
    for name, expected in expected_gradients.items():
        assert (gradient[name] - expected).norm() <= tolerance * expected.norm() + 1e-8, name


def test_random_numbers_continue_as_after_one_pass(processor):
    """The second pass replays the random numbers of the first and leaves the generator unchanged."""
    model, chunks = tiny_model(dropout=0.3).train(), chunks_of(processor, 4)
    after = []
    for replay in (False, True):
        torch.manual_seed(1)
        if replay:
            cached_gradient_loss(
                lambda chunk: dict(model(**chunk)),
                chunks,
                lambda all_fields: ContrastiveLoss()(**all_fields),
                backward=torch.Tensor.backward,
            )
        else:
            for chunk in chunks:
                model(**chunk)
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_further_fields_reach_the_loss_with_their_gradient():
    weight = torch.tensor([2.0], requires_grad=True)

    class Result:
        def __init__(self, all_fields):
            assert all_fields["note"] == "kept"
            self.loss = (all_fields["x"].sum(0) * all_fields["y"].mean(0)).sum()

    def forward(chunk):
        return {"x": chunk * weight, "y": (chunk + 1) * weight, "note": "kept"}

    chunks = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])]
    _, last = cached_gradient_loss(forward, chunks, Result, backward=torch.Tensor.backward)
    last.backward()
    assert last.item() == pytest.approx(6 * 2 * 3 * 2) and weight.grad.item() == pytest.approx(6 * 3 * 2 * 2)


def test_fields_that_do_not_join_are_named():
    chunks = [torch.zeros(2, 3), torch.zeros(2, 4)]
    with pytest.raises(ValueError, match=r"atoms has the shapes \[\(2, 3\), \(2, 4\)\]"):
        cached_gradient_loss(lambda chunk: {"atoms": chunk}, chunks, lambda _: None, backward=torch.Tensor.backward)
