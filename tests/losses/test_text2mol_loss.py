"""Text2Mol's loss equals plain loops and the authors' loss."""

import pytest
import torch
import torch.distributed as dist
from run_forked import run_processes
from test_contrastive import KEYS, LOSSES

from class_hf import ContrastiveLoss, Text2MolLoss
from class_hf.curriculum.intensity import Intensity


def vectors(rows=12, width=6):
    """Vectors of different norms, as a layer norm with trained weights returns them."""
    generator = torch.Generator().manual_seed(0)
    texts = 2 * torch.randn(rows, width, generator=generator)
    return texts, texts + torch.randn(rows, width, generator=generator)


def loss_of(loss, texts, molecules, *args, **kwargs):
    unit = torch.nn.functional.normalize
    return loss(unit(texts), unit(molecules), *args, **kwargs, text_vectors=texts, molecule_vectors=molecules)


def by_hand(texts, molecules, scale, intensity, keys):
    """Pair by pair, in float64: both directions' cross-entropy, summed, then the weighted mean."""
    u, v = texts.double(), molecules.double()
    total, weight = 0.0, 0.0
    for i in range(len(u)):
        others = [j for j in range(len(u)) if j == i or keys is None or not (keys[i] == keys[j]).any()]
        there = (intensity.sharpness * scale * torch.stack([u[i] @ v[j] for j in others])).log_softmax(0)
        back = (intensity.sharpness * scale * torch.stack([u[j] @ v[i] for j in others])).log_softmax(0)
        true = torch.stack([there, back])[:, others.index(i)]
        w = (1 - true.exp().mean()) ** intensity.focus
        total, weight = total - w * true.sum(), weight + w
    return (total / weight).item()


@pytest.mark.parametrize("keys", (None, KEYS))
@pytest.mark.parametrize("intensity", (Intensity(), Intensity(0.7, 1.5)))
@pytest.mark.parametrize("form", LOSSES)
def test_equals_a_plain_loop(keys, intensity, form):
    texts, molecules = vectors()
    out = loss_of(Text2MolLoss(**LOSSES[form]), texts, molecules, torch.tensor(0.3), intensity, keys)
    assert out.loss.item() == pytest.approx(by_hand(texts, molecules, 0.3, intensity, keys), rel=1e-5)
    assert out.per_pair.shape == (12,) and 0 < out.accuracy < 1


def test_it_is_the_authors_loss():
    texts, molecules = vectors()
    logits, target = 0.3 * texts @ molecules.T, torch.arange(12)
    ours = loss_of(Text2MolLoss(), texts, molecules, torch.tensor(0.3))
    directions = [torch.nn.functional.cross_entropy(scores, target) for scores in (logits, logits.T)]
    torch.testing.assert_close(ours.loss, sum(directions))
    torch.testing.assert_close(ours.per_pair.mean(), sum(directions))


def test_longer_vectors_have_a_lower_loss():
    texts = torch.eye(3)
    short, long = (loss_of(Text2MolLoss(), length * texts, texts, 1.0).loss for length in (1.0, 5.0))
    assert long < short


def test_vectors_must_be_there():
    with pytest.raises(ValueError, match="text_vectors and molecule_vectors .* are missing"):
        Text2MolLoss()(torch.eye(3), torch.eye(3), 1.0)
    assert isinstance(Text2MolLoss(0.1), ContrastiveLoss)


def gradients_and_values(loss, rows=slice(None)):
    """Of the pairs `rows`: gradients of a shared weight and of the scale, then loss and accuracy."""
    texts, molecules = vectors()
    weight = torch.nn.Parameter(torch.eye(6))
    scale = torch.nn.Parameter(torch.tensor(0.3))
    out = loss_of(loss, (texts @ weight)[rows], (molecules @ weight)[rows], scale, Intensity(0.7, 1.5), KEYS[rows])
    out.loss.backward()
    return [weight.grad, scale.grad, out.loss.detach(), out.accuracy]


def _worker(folder):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    results = {}
    for name, arguments in LOSSES.items():
        results[name] = gradients_and_values(Text2MolLoss(0.1, **arguments), slice(6 * rank, 6 * rank + 6))
        for value in results[name]:  # as DDP does with gradients
            dist.all_reduce(value)
            value /= 2
    if rank == 0:
        torch.save(results, folder / "out.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.distributed
def test_two_processes_give_the_single_process_gradient(tmp_path):
    for done in run_processes(_worker, tmp_path):
        assert done.returncode == 0, done.stderr
    several = torch.load(tmp_path / "out.pt")
    single = gradients_and_values(Text2MolLoss(0.1))
    for name in LOSSES:
        for expected, actual in zip(single, several[name], strict=True):
            assert (expected - actual).norm() <= 1e-5 * expected.norm(), name
