"""The tiled contrastive loss equals the dense one, in less memory."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from class_hf import ContrastiveLoss
from class_hf.curriculum.intensity import Intensity
from class_hf.losses.contrastive import dense_pair_losses
from class_hf.losses.tiled import tiled_pair_losses

PAIRS = 23
KEYS = torch.tensor([[i % 9, 100 + i // 3] for i in range(PAIRS)])
INTENSITIES = (Intensity(), Intensity(sharpness=0.5), Intensity(focus=1.5), Intensity(0.7, 0.5))


def embeddings(rows=PAIRS, width=6, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    texts = F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=-1)
    noise = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    molecules = F.normalize(texts + 0.3 * noise, dim=-1)
    return texts.to(dtype), molecules.to(dtype)


def results(loss, texts, molecules, scale, intensity, keys):
    """Loss, losses of the pairs, accuracy, and the gradients of texts, molecules and scale."""
    inputs = [tensor.clone().requires_grad_() for tensor in (texts, molecules, torch.tensor(scale))]
    out = loss(*inputs, intensity, keys)
    out.loss.backward()
    return (*out, *(tensor.grad for tensor in inputs))


@pytest.mark.parametrize("keys", (None, KEYS, torch.zeros_like(KEYS)), ids=("no_keys", "keys", "all_the_same"))
@pytest.mark.parametrize("smoothing", (0.0, 0.2))
@pytest.mark.parametrize("intensity", INTENSITIES)
def test_equals_the_dense_loss(intensity, smoothing, keys):
    for scale, tile in itertools.product((8.0, 100.0), (3, 8, 64)):
        case = (*embeddings(), scale, intensity, keys)
        dense = results(ContrastiveLoss(smoothing, tiled_from=None), *case)
        tiled = results(ContrastiveLoss(smoothing, tiled_from=0, tile_size=tile), *case)
        for expected, actual in zip(dense, tiled, strict=True):
            assert (expected - actual).norm() <= 5e-6 + 2e-5 * expected.norm(), (scale, tile)


@pytest.mark.parametrize("smoothing", (0.0, 0.2))
def test_gradient_is_that_of_finite_differences(smoothing):
    inputs = [8.0 * tensor.requires_grad_() for tensor in embeddings(7, 3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *two: tiled_pair_losses(*two, KEYS[:7], smoothing, 3).losses, inputs)


@pytest.mark.parametrize("tile", (1, 2, 3, 8))
def test_of_equal_logits_the_first_one_is_the_hit(tile):
    texts = torch.eye(4)[[0, 1, 1, 2, 2, 1, 0, 3]]  # products of these are exact, so that ties are ties
    molecules = torch.eye(4)[[0, 1, 1, 2, 2, 1, 3, 3]]
    hits = tiled_pair_losses(texts, molecules, tile_size=tile).hits
    assert hits.tolist() == dense_pair_losses(texts, molecules).hits.tolist() == [1, 1, 0, 1, 0, 0, 0, 0.5]


def test_nearly_certain_pairs_keep_their_small_gradients():
    """The sum of exponentials, 1.00001 here, must be lost neither on top of the maximum nor in the products."""
    texts = F.normalize(torch.eye(8) + 0.02 * embeddings(8, 8)[0], dim=-1)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (14.0 * texts, texts)]
        losses = (dense_pair_losses if dtype == torch.float64 else tiled_pair_losses)(*inputs).losses
        losses.mean().backward()
        gradients.append([tensor.grad for tensor in inputs])
    assert losses.max() < 1e-4
    for exact, tiled in zip(*gradients, strict=True):
        assert (exact - tiled).norm() < 0.02 * exact.norm()


def test_a_constant_tower_needs_no_gradient():
    texts, molecules = embeddings()
    for frozen in (0, 1):
        inputs = [texts.clone(), molecules.clone()]
        inputs[1 - frozen].requires_grad_()
        ContrastiveLoss(tiled_from=0, tile_size=8)(*inputs, 8.0).loss.backward()
        assert inputs[frozen].grad is None and inputs[1 - frozen].grad.abs().sum() > 0


def test_float32_under_autocast_in_both_passes():
    texts, molecules = embeddings()
    plain = results(ContrastiveLoss(tiled_from=0, tile_size=8), texts, molecules, 20.0, None, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = results(ContrastiveLoss(tiled_from=0, tile_size=8), texts, molecules, 20.0, None, None)
    for expected, actual in zip(plain, mixed, strict=True):
        assert torch.equal(expected, actual)


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def largest(loss, pairs=64):
    keys = torch.arange(2 * pairs).reshape(pairs, 2)
    with LargestTensor() as seen:
        results(loss, *embeddings(pairs), 8.0, Intensity(0.7, 1.5), keys)
    return seen.elements


def test_tiles_are_used_from_a_size_on():
    assert largest(ContrastiveLoss(0.1, tiled_from=65, tile_size=8)) == 64 * 64
    assert largest(ContrastiveLoss(0.1, tiled_from=None, tile_size=8)) == 64 * 64
    assert largest(ContrastiveLoss(0.1, tiled_from=64, tile_size=8)) <= 64 * 6  # the embeddings themselves
    assert largest(ContrastiveLoss(0.1)) == 64 * 64
    assert largest(ContrastiveLoss(0.1), pairs=2048) <= 1024 * 1024


def test_tile_size_is_checked():
    with pytest.raises(ValueError, match="`tile_size` is 0"):
        ContrastiveLoss(tile_size=0)
