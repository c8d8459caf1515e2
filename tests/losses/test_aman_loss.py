"""AMAN's loss equals plain loops, its critic plain formulas, and several processes equal a single process."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from run_forked import run_processes

from class_hf import AmanLoss
from class_hf.curriculum.intensity import Intensity
from class_hf.losses.aman import ModalityCritic, gradient_penalty
from class_hf.models.modeling_aman import SharedHead

WIDTH = 6
KEYS = torch.tensor([[i % 5, 100 + i // 3] for i in range(12)])


def embeddings(rows=12, seed=0, spread=0.5):
    generator = torch.Generator().manual_seed(seed)
    texts = F.normalize(torch.randn(rows, WIDTH, generator=generator), dim=-1)
    molecules = F.normalize(texts + spread * torch.randn(rows, WIDTH, generator=generator), dim=-1)
    return texts.requires_grad_(), molecules.requires_grad_()


def small(**kwargs):
    return AmanLoss(**{"embedding_size": WIDTH, "critic_hidden_size": 5, "critic_learning_rate": 0.01, **kwargs})


def triplets_by_hand(texts, molecules, intensity, keys, margin=0.3):
    """The triplet loss of the docstring, vector by vector, in float64."""
    sides = [side.detach().double().numpy() for side in (texts, molecules)]
    n = len(sides[0])

    def clash(i, j):
        return i == j or (keys is not None and bool((keys[i] == keys[j]).any()))

    losses, probabilities, hits = np.zeros(n), np.zeros(n), np.zeros(n)
    for side in (0, 1):
        for i in range(n):
            anchor = sides[side][i]
            near = np.linalg.norm(anchor - sides[1 - side][i])
            others = [np.linalg.norm(anchor - vectors[j]) for vectors in sides for j in range(n) if not clash(i, j)]
            losses[i] += max(0.0, near - min(others) + intensity.sharpness * margin) / 2
            probabilities[i] += 1 / (1 + np.exp((near - min(others)) / margin)) / 2
            across = [np.linalg.norm(anchor - sides[1 - side][j]) for j in range(n) if not clash(i, j)]
            hits[i] += (near < min(across)) / 2
    weights = (1 - probabilities) ** intensity.focus
    return (weights * losses).sum() / weights.sum(), losses, hits.mean()


@pytest.mark.parametrize("keys", (None, KEYS))
@pytest.mark.parametrize("intensity", (Intensity(), Intensity(0.5), Intensity(focus=1.5), Intensity(0.7, 0.5)))
def test_triplets_equal_the_loops(keys, intensity):
    texts, molecules = embeddings()
    out = small(adversarial_weight=0)(texts, molecules, None, intensity, keys)
    loss, per_pair, accuracy = triplets_by_hand(texts, molecules, intensity, None if keys is None else keys.numpy())
    assert out.loss.item() == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(out.per_pair.numpy(), per_pair, atol=1e-6)
    assert out.accuracy.item() == pytest.approx(accuracy)


def test_pairs_that_share_a_key_are_never_negatives():
    keys = torch.tensor([[1, 10], [2, 10], [3, 30], [3, 40]])  # 0 and 1 share a molecule, 2 and 3 a caption
    texts, molecules = (side.detach() for side in embeddings(4))
    loss = small(adversarial_weight=0)
    before = loss(texts, molecules, pair_keys=keys).per_pair
    for side in (texts, molecules):  # the nearest possible negative of either modality, if the keys allowed it
        moved = side.clone()
        moved[1] = texts[0]
        sides = (moved, molecules) if side is texts else (texts, moved)
        assert loss(*sides, pair_keys=keys).per_pair[0] == before[0] < loss(*sides).per_pair[0]


def test_a_batch_without_any_negative_costs_nothing():
    texts, molecules = embeddings(3)
    out = small(adversarial_weight=0)(texts, molecules, pair_keys=torch.zeros(3, 2, dtype=torch.long))
    out.loss.backward()
    assert out.loss == 0 and out.accuracy == 1 and not texts.grad.any() and not molecules.grad.any()


def test_equal_vectors_have_finite_gradients():
    row = F.normalize(torch.ones(4, WIDTH), dim=-1).requires_grad_()
    out = small()(row, row * 1.0, intensity=Intensity(focus=2.0))
    out.loss.backward()
    assert out.loss.item() == pytest.approx(0.3, abs=1e-6) and row.grad.isfinite().all()


@pytest.mark.parametrize("intensity", (Intensity(sharpness=0.5), Intensity(focus=2.0)))
def test_action_changes_the_direction_of_the_gradient(intensity):
    directions = []
    for action in (None, intensity):
        weight = torch.nn.Parameter(torch.eye(WIDTH))
        texts, molecules = (side.detach() @ weight for side in embeddings(16))
        small(adversarial_weight=0)(texts, molecules, intensity=action).loss.backward()
        directions.append(weight.grad.flatten() / weight.grad.norm())
    assert torch.dot(*directions) < 0.999


def test_gradient_of_the_penalty_equals_finite_differences():
    critic = ModalityCritic(WIDTH, 5, 1, 10.0, 0.01, seed=3).double()
    texts, molecules = (side.detach().double() for side in embeddings())
    shares = critic.shares(12).double()

    def penalty():
        return gradient_penalty(critic, texts, molecules, shares)

    # The value itself: the slope along each axis, by differences.
    between = shares * texts + (1 - shares) * molecules
    axes = 1e-6 * torch.eye(WIDTH, dtype=torch.float64)
    slopes = torch.stack([(critic(between + axis) - critic(between - axis)) / 2e-6 for axis in axes], 1)
    assert penalty().item() == pytest.approx((slopes.norm(dim=1) - 1).square().mean().item(), rel=1e-6)
    weights = [layer.weight for layer in critic.layers if hasattr(layer, "weight")]
    gradients = torch.autograd.grad(penalty(), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        for place in np.ndindex(*weight.shape):
            values = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    weight[place] += step
                values.append(penalty().item())
                with torch.no_grad():
                    weight[place] -= step
            assert gradient[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)


def test_critic_updates_equal_a_plain_loop():
    loss = small(critic_steps=2, critic_hidden_size=16, seed=4)
    critic = loss.critic
    weights = [value.detach().clone().requires_grad_() for value in critic.parameters()]
    moments = [torch.zeros_like(value) for value in weights]

    def score(rows):
        hidden = (rows @ weights[0].T + weights[1]).relu()
        return ((hidden @ weights[2].T + weights[3]).relu() @ weights[4].T + weights[5]).squeeze(1)

    for step in range(1, 7):
        texts, molecules = embeddings(seed=(step - 1) // 2)
        u, v = texts.detach(), molecules.detach()
        shares = torch.from_numpy(np.random.default_rng((4, step - 1)).random((12, 1), np.float32))
        between = (shares * u + (1 - shares) * v).requires_grad_()
        slopes = torch.autograd.grad(score(between).sum(), between, create_graph=True)[0]
        objective = score(v).mean() - score(u).mean() + 10 * (slopes.square().sum(1).sqrt() - 1).square().mean()
        gradients = torch.autograd.grad(objective, weights)
        with torch.no_grad():
            for weight, moment, gradient in zip(weights, moments, gradients, strict=True):
                moment.mul_(0.9).add_(0.1 * gradient.square())
                weight -= 0.01 * gradient / ((moment / (1 - 0.9**step)).sqrt() + 1e-8)
        if step % 2 == 0:
            loss(texts, molecules)
    assert critic.updates == 6
    for left, right in zip(critic.parameters(), weights, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


def test_the_critic_learns_and_the_encoders_learn_against_it():
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(64, WIDTH, generator=generator) + 2 * torch.eye(WIDTH)[0], dim=-1)
    molecules = F.normalize(torch.randn(64, WIDTH, generator=generator) - 2 * torch.eye(WIDTH)[0], dim=-1)
    loss = small(critic_steps=300, adversarial_weight=1.0, margin=1e-6)
    before = loss.critic.distance(texts, molecules).item()
    texts.requires_grad_(), molecules.requires_grad_()
    loss(texts, molecules).loss.backward()
    apart = loss.critic.distance(texts, molecules).item()
    assert apart > before + 0.5 and loss.log_values()["critic_distance"] == pytest.approx(apart, rel=0.2)
    assert loss.log_values()["critic_penalty"] < 0.1
    assert all(parameter.grad is None for parameter in loss.parameters())
    critic = loss.critic.checkpoint_state()
    nearer = [(side - 0.2 * 64 * side.grad).detach() for side in (texts, molecules)]
    assert (nearer[0].mean(0) - nearer[1].mean(0)).norm() < (texts.mean(0) - molecules.mean(0)).norm()
    assert loss.critic.distance(*nearer).item() < apart
    assert all(torch.equal(value, critic[name]) for name, value in loss.critic.checkpoint_state().items())


def test_evaluation_does_not_train_the_critic():
    loss, (texts, molecules) = small(), embeddings()
    loss.eval()(texts, molecules)
    with torch.no_grad():
        loss.train()(texts, molecules)
    assert loss.critic.updates == 0 and loss.log_values() == {}
    small(adversarial_weight=0)(texts, molecules)
    loss(texts, molecules)
    assert loss.critic.updates == 1 and set(loss.log_values()) == {"critic_distance", "critic_penalty"}


def test_the_critic_draws_no_global_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    loss = small(seed=9)
    loss(*embeddings())
    assert torch.rand(1) == expected
    same_seed, other_seed = small(seed=9), small(seed=8)
    same_seed(*embeddings())
    weights = [
        torch.cat([value.flatten() for value in module.parameters()]) for module in (loss, same_seed, other_seed)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("updates", (0, 3))
def test_a_restored_critic_continues_as_if_never_interrupted(updates):
    left, right = small(), small(seed=0)
    for seed in range(updates):
        left(*embeddings(seed=seed))
    right(*embeddings(seed=7))  # forgotten
    right.load_checkpoint_state({name: value.clone() for name, value in left.checkpoint_state().items()})
    for seed in (5, 6):
        outputs = [loss(*embeddings(seed=seed)).loss for loss in (left, right)]
        assert torch.equal(*outputs)
    for name, value in left.checkpoint_state().items():
        assert torch.equal(value, right.checkpoint_state()[name]), name
    with pytest.raises(ValueError, match="resume with the embedding_size"):
        small(critic_hidden_size=7).load_checkpoint_state(left.checkpoint_state())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margin": 0.0}, "`margin` is 0.0; expected a finite number above 0"),
        ({"margin": float("nan")}, "`margin` is nan"),
        ({"margin": float("inf")}, "`margin` is inf"),
        ({"margin": "wide"}, "`margin` is 'wide'"),
        ({"critic_steps": 1.5}, "`critic_steps` is 1.5; expected an integer"),
        ({"seed": -1}, "`seed` is -1"),
        ({"adversarial_weight": -1.0}, "`adversarial_weight` is -1.0"),
        ({"gradient_penalty": -1.0}, "`gradient_penalty` is -1.0"),
        ({"critic_steps": 0}, "`critic_steps` is 0"),
        ({"embedding_size": 0}, "`embedding_size` is 0"),
        ({"critic_learning_rate": 0.0}, "`critic_learning_rate` is 0.0"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


def test_shapes_are_checked():
    with pytest.raises(
        ValueError, match=r"text_embeds \(2, 4\) and molecule_embeds \(2, 4\) must both be \(pairs, 6\)"
    ):
        small()(torch.zeros(2, 4), torch.zeros(2, 4))


def trained(rows=slice(None), average=lambda values: None):
    """Gradients, losses and weights after three steps of the shared head and the loss on the pairs `rows`."""
    torch.manual_seed(0)
    head, loss = SharedHead(WIDTH), small(critic_steps=2, adversarial_weight=0.5)
    values = []
    for seed in range(3):
        texts, molecules = (side.detach()[rows] for side in embeddings(seed=seed))
        head.zero_grad()
        z = head(torch.cat([texts, molecules])).chunk(2)
        out = loss(*z, intensity=Intensity(0.7, 1.5), pair_keys=KEYS[rows])
        out.loss.backward()
        gradients = [parameter.grad for parameter in head.parameters()]
        values += [*gradients, out.loss.detach(), out.accuracy]
        average(values[-len(gradients) - 2 :])
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.1 * parameter.grad
    return [value.clone() for value in (*values, *head.state_dict().values(), *loss.checkpoint_state().values())]


def _worker(folder):
    dist.init_process_group("gloo")
    rank = dist.get_rank()

    def average(values):  # as DDP does with gradients
        for value in values:
            dist.all_reduce(value)
            value /= dist.get_world_size()

    torch.save(trained(slice(rank * 6, rank * 6 + 6), average), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.distributed
def test_two_processes_train_head_and_critic_as_one(tmp_path):
    for done in run_processes(_worker, tmp_path):
        assert done.returncode == 0, done.stderr
    single, first, second = trained(), torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")
    for expected, rank_0, rank_1 in zip(single, first, second, strict=True):
        torch.testing.assert_close(expected, rank_0, atol=1e-5, rtol=1e-4)
        assert torch.equal(rank_0, rank_1)
