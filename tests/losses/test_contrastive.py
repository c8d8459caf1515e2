"""The contrastive loss equals plain loops, also with several processes."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from run_forked import run_processes

from class_hf import ContrastiveLoss
from class_hf.curriculum.intensity import Intensity


def embeddings(rows=12, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    texts = F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=-1).float()
    molecules = F.normalize(texts + 0.5 * torch.randn(rows, width, generator=generator), dim=-1)
    return texts.requires_grad_(), molecules.requires_grad_()


def by_hand(texts, molecules, scale, intensity, keys):
    """The loss of the docstring, pair by pair, in float64."""
    u, v = texts.detach().double().numpy(), molecules.detach().double().numpy()
    n = len(u)
    losses, probabilities, hits = np.zeros(n), np.zeros(n), np.zeros(n)
    for rows, columns in ((u, v), (v, u)):
        for i in range(n):
            others = [j for j in range(n) if j == i or keys is None or not (keys[i] == keys[j]).any()]
            logits = np.array([intensity.sharpness * scale * rows[i] @ columns[j] for j in others])
            p = np.exp(logits - logits.max())
            p = (p / p.sum())[others.index(i)]
            losses[i] += -np.log(p) / 2
            probabilities[i] += p / 2
            hits[i] += (others[int(logits.argmax())] == i) / 2
    weights = (1 - probabilities) ** intensity.focus
    return (weights * losses).sum() / weights.sum(), losses, hits.mean()


KEYS = torch.tensor([[i % 5, 100 + i // 3] for i in range(12)])


@pytest.mark.parametrize("keys", (None, KEYS))
@pytest.mark.parametrize(
    "intensity", (Intensity(), Intensity(sharpness=0.5), Intensity(focus=1.5), Intensity(0.7, 0.5))
)
def test_equals_the_calculation_by_hand(keys, intensity):
    texts, molecules = embeddings()
    out = ContrastiveLoss()(texts, molecules, torch.tensor(8.0), intensity, keys)
    loss, per_pair, accuracy = by_hand(texts, molecules, 8.0, intensity, None if keys is None else keys.numpy())
    assert out.loss.item() == pytest.approx(loss, abs=1e-5)
    np.testing.assert_allclose(out.per_pair.numpy(), per_pair, atol=1e-5)
    assert out.accuracy.item() == pytest.approx(accuracy)


def test_duplicates_are_never_negatives():
    keys = torch.tensor([[1, 10], [2, 10], [3, 30], [3, 40]])  # 0 and 1 share a molecule, 2 and 3 a caption
    texts, molecules = embeddings(4)
    before = ContrastiveLoss()(texts, molecules, 10.0, pair_keys=keys).per_pair
    moved = molecules.detach().clone()
    moved[1] = texts[0].detach()  # as confusing for text 0 as can be, were it a negative
    after = ContrastiveLoss()(texts, moved, 10.0, pair_keys=keys).per_pair
    unmasked = ContrastiveLoss()(texts, moved, 10.0).per_pair
    assert after[0] == before[0] < unmasked[0]


def test_label_smoothing_is_torchs_where_nothing_is_masked():
    texts, molecules = embeddings()
    out = ContrastiveLoss(label_smoothing=0.2)(texts, molecules, 5.0)
    logits = 5.0 * texts @ molecules.T
    target = torch.arange(12)
    directions = [F.cross_entropy(scores, target, label_smoothing=0.2) for scores in (logits, logits.T)]
    assert out.loss.item() == pytest.approx((sum(directions) / 2).item(), abs=1e-6)


def test_label_smoothing_is_finite_with_masked_pairs():
    texts, molecules = embeddings()
    out = ContrastiveLoss(label_smoothing=0.2)(texts, molecules, 5.0, pair_keys=KEYS)
    out.loss.backward()
    assert torch.isfinite(out.loss) and torch.isfinite(texts.grad).all()


def test_certain_batch_with_focus_stays_finite():
    eye = torch.eye(4, requires_grad=True)
    out = ContrastiveLoss()(eye, eye.detach(), 100.0, Intensity(focus=2.0))
    out.loss.backward()
    assert torch.isfinite(out.loss) and torch.isfinite(eye.grad).all()


def test_bf16_embeddings_are_compared_in_float32():
    texts, molecules = embeddings()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ContrastiveLoss()(texts.bfloat16(), molecules.bfloat16(), torch.tensor(20.0))
    assert out.loss.dtype == torch.float32
    assert (
        out.loss.item() == ContrastiveLoss()(texts.bfloat16().float(), molecules.bfloat16().float(), 20.0).loss.item()
    )


@pytest.mark.parametrize("intensity", (Intensity(sharpness=0.5), Intensity(focus=2.0)))
def test_action_changes_the_direction_of_the_adamw_update(intensity):
    """Adam is invariant to the scale of the loss, so an action must change the direction of the update."""

    def update(intensity, factor=1.0):
        texts, molecules = embeddings(16, 8)
        weight = torch.nn.Parameter(torch.eye(8))
        optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
        out = ContrastiveLoss()(texts.detach() @ weight, molecules.detach() @ weight, 8.0, intensity)
        (factor * out.loss).backward()
        optimizer.step()
        gradient = weight.grad.flatten()
        return (weight.detach() - torch.eye(8)).flatten(), gradient / gradient.norm()

    plain, plain_gradient = update(None)
    scaled, _ = update(None, factor=0.5)
    changed, gradient = update(intensity)
    torch.testing.assert_close(plain, scaled, atol=1e-5, rtol=0)
    assert F.cosine_similarity(plain, changed, dim=0) < 0.999
    assert torch.dot(plain_gradient, gradient) < 0.999


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"text_embeds \(3, 4\) and molecule_embeds \(2, 4\)"):
        ContrastiveLoss()(torch.zeros(3, 4), torch.zeros(2, 4), 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing": 1.0}, "`label_smoothing` is 1.0; expected a finite number of at least 0 and below 1"),
        ({"label_smoothing": float("nan")}, "`label_smoothing` is nan"),
        ({"label_smoothing": "little"}, "`label_smoothing` is 'little'"),
        ({"tiled_from": 0.5}, "`tiled_from` is 0.5; expected an integer of at least 0"),
        ({"tiled_from": True}, "`tiled_from` is True"),
        ({"tile_size": "large"}, "`tile_size` is 'large'; expected an integer of at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveLoss(**arguments)


LOSSES = {"dense": {"tiled_from": None}, "tiled": {"tiled_from": 0, "tile_size": 5}}  # a tile across two processes


def gradients_and_values(loss, rows=slice(None)):
    """Of the pairs `rows`: gradients of a shared weight and of the scale, then loss and accuracy."""
    texts, molecules = embeddings(12)
    weight = torch.nn.Parameter(torch.eye(6))
    scale = torch.nn.Parameter(torch.tensor(8.0))
    out = loss((texts @ weight)[rows], (molecules @ weight)[rows], scale, Intensity(0.7, 1.5), KEYS[rows])
    out.loss.backward()
    return [weight.grad, scale.grad, out.loss.detach(), out.accuracy]


def _worker(folder):
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    rows = slice(rank * 12 // processes, (rank + 1) * 12 // processes)
    results = {}
    for name, arguments in LOSSES.items():
        results[name] = gradients_and_values(ContrastiveLoss(0.1, **arguments), rows)
        for value in results[name]:  # as DDP does with gradients
            dist.all_reduce(value)
            value /= processes
    if rank == 0:
        torch.save(results, folder / "out.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.distributed
@pytest.mark.parametrize("processes", (2, 4))
def test_several_processes_give_the_single_process_gradient(processes, tmp_path):
    for done in run_processes(_worker, tmp_path, processes=processes):
        assert done.returncode == 0, done.stderr
    several = torch.load(tmp_path / "out.pt")
    single = gradients_and_values(ContrastiveLoss(0.1))
    for name in LOSSES:
        for expected, actual in zip(single, several[name], strict=True):
            assert (expected - actual).norm() <= 1e-5 * expected.norm(), name
