"""AMAN's objective: a batch-hard triplet loss, and an adversary that must not tell the modalities apart."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.contrastive import LossOutput
from class_hf.losses.tiled import share_a_key
from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, rank, world_size


class AmanLoss(nn.Module):
    """Batch-hard triplets over captions and molecules, and adversarial alignment of the two (AMAN, 2023).

    The global batch of B pairs is one set of 2B vectors. Each of them is an anchor a whose positive is its partner;
    its negative is the nearest vector, of either modality, among the pairs that share no key with its own. With
    Euclidean distances d, an anchor costs max(0, d(a, positive) - d(a, negative) + kappa margin), and with l_i the
    mean of pair i's two anchors

        loss = sum_i w_i l_i / sum_i w_i + adversarial_weight (mean_i D(u_i) - mean_i D(v_i))

    D is a critic ([`ModalityCritic`]) that learns to be large at captions u and small at molecules v; the encoders
    learn to leave it nothing to see. It belongs to the loss, not to the model: it has its own optimizer, and makes
    `critic_steps` updates on the detached vectors of the global batch before each loss is computed, whenever the loss
    is in training mode and gradients are on. With gradient accumulation that is before every micro-batch. All
    processes make the same updates of the same critic, which therefore needs no wrapper; bit for bit on devices of
    one kind.

    Intensity: `sharpness` is the factor kappa of the margin, so that early steps ask for less distance; `focus` is
    the exponent of w_i = (1 - p_i) ** focus, where p_i is the detached probability of the true match in a choice
    between partner and negative, sigmoid((d(a, negative) - d(a, positive)) / margin), the mean of both anchors.

    Several processes give the single process's gradient, as in [`ContrastiveLoss`].

    Source: AMAN, whose code is not public (sizes and weights are from fragments and re-implementations); batch-hard
    triplets are Hermans et al.'s (2017, section 2, eq. 5). How intensity acts is ours.

    Args:
        embedding_size: width D of the embeddings; equals the model's `projection_dim`.
        margin: in Euclidean distance between unit vectors, more than 0.
        adversarial_weight: of the critic's term; 0 trains no critic.
        gradient_penalty, critic_steps, critic_hidden_size, critic_learning_rate, seed: of the [`ModalityCritic`].

    Shapes of the inputs:
        text_embeds (b, D), molecule_embeds (b, D): of this process; row i of both is pair i.
        logit_scale: unused; distances need no factor.
        intensity: an [`Intensity`]; the default does nothing.
        pair_keys (b, 2) integers: a key of the caption and a key of the molecule; None masks nothing.

    Result of a call:
        a [`LossOutput`], whose `per_pair` is l_i; `accuracy` is of captions among molecules and of molecules among
        captions, as in [`ContrastiveLoss`].

    Raises:
        ValueError: if an argument is out of its range, or the embeddings have another width.

    Example:

    >>> loss = AmanLoss(embedding_size=3)
    >>> u = torch.eye(3)
    >>> loss(u, u).per_pair.tolist(), round(loss(u, -u).per_pair[0].item(), 3)  # 2 - sqrt(2) + 0.3
    ([0.0, 0.0, 0.0], 0.886)
    """

    def __init__(
        self,
        embedding_size: int = 300,
        margin: float = 0.3,
        adversarial_weight: float = 2e-3,
        gradient_penalty: float = 10.0,
        critic_steps: int = 1,
        critic_hidden_size: int = 300,
        critic_learning_rate: float = 1e-4,
        seed: int = 0,
    ):
        super().__init__()
        if not margin > 0.0:
            raise ValueError(f"margin is {margin}; expected a distance above 0.")
        if not adversarial_weight >= 0.0:
            raise ValueError(f"adversarial_weight is {adversarial_weight}; expected 0 or more.")
        self.margin = margin
        self.adversarial_weight = adversarial_weight
        self.critic = ModalityCritic(
            embedding_size, critic_hidden_size, critic_steps, gradient_penalty, critic_learning_rate, seed
        )

    def forward(
        self,
        text_embeds: torch.Tensor,
        molecule_embeds: torch.Tensor,
        logit_scale: torch.Tensor | float | None = None,
        intensity: Intensity | None = None,
        pair_keys: torch.Tensor | None = None,
    ) -> LossOutput:
        width = self.critic.layers[0].in_features
        if text_embeds.ndim != 2 or text_embeds.shape != molecule_embeds.shape or text_embeds.shape[1] != width:
            raise ValueError(
                f"text_embeds {tuple(text_embeds.shape)} and molecule_embeds {tuple(molecule_embeds.shape)} must both "
                f"be (pairs, {width}): one row a pair, of the loss's embedding_size."
            )
        intensity = intensity or Intensity()
        total = len(text_embeds) * world_size()
        with torch.autocast(text_embeds.device.type, enabled=False):
            texts, molecules = text_embeds.float(), molecule_embeds.float()
            all_texts, all_molecules = gather_with_gradient(texts), gather_with_gradient(molecules)
            found = hard_negatives(texts, molecules, all_texts.detach(), all_molecules.detach(), pair_keys)
            anchors, positives = torch.cat([texts, molecules]), torch.cat([molecules, texts])
            near = (anchors - positives).norm(dim=1)
            far = (anchors - torch.cat([all_texts, all_molecules])[found.rows]).norm(dim=1)
            hinges = (near - far + intensity.sharpness * self.margin).relu()
            losses = torch.where(found.exist, hinges, 0.0).view(2, -1).mean(0)  # (b,)
            certain = ((far - near).detach() / self.margin).sigmoid()
            probabilities = torch.where(found.exist, certain, 1.0).view(2, -1).mean(0)
            weights = (1.0 - probabilities).clamp(min=1e-6) ** intensity.focus
            # Times the number of processes, because DDP averages gradients.
            loss = (weights * losses).sum() / global_sum(weights.sum()) * world_size()
            if self.adversarial_weight > 0.0:
                if self.training and torch.is_grad_enabled():
                    self.critic.update(all_texts.detach(), all_molecules.detach())
                loss = loss + self.adversarial_weight * self.critic.distance(texts, molecules)
        return LossOutput(loss, losses.detach(), global_sum(found.hits.sum()) / total)

    def log_values(self) -> dict[str, float]:
        """The critic's estimate of the modalities' Wasserstein distance and its penalty, before its last update."""
        return {name: value.item() for name, value in self.critic.last.items()}

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """What a run needs to go on: the critic's weights, the moments of its optimizer, the number of its updates."""
        return self.critic.checkpoint_state()

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        """Takes over what [`checkpoint_state`] gave.

        Raises:
            ValueError: if it is a critic's of other sizes.
        """
        self.critic.load_checkpoint_state(state)


class HardNegatives(NamedTuple):
    """The hardest negatives of local texts, then of local molecules.

    Attributes:
        rows: (2b,) int64 row among all texts, then all molecules, of the global batch.
        exist: (2b,) bool; False where every other pair shares a key with the anchor's.
        hits: (b,) share of the two directions that rank the partner first; of equal distances the first one wins.
    """

    rows: torch.Tensor
    exist: torch.Tensor
    hits: torch.Tensor


@torch.no_grad()
def hard_negatives(
    texts: torch.Tensor,
    molecules: torch.Tensor,
    all_texts: torch.Tensor,
    all_molecules: torch.Tensor,
    pair_keys: torch.Tensor | None = None,
) -> HardNegatives:
    """The nearest vector of either modality to each local vector, among pairs that share no key with its own.

    Args:
        texts, molecules: (b, D) of this process.
        all_texts, all_molecules: (B, D) of all processes, in the order of the ranks.
        pair_keys: (b, 2) integers of this process; None: only the own pair is left out.
    """
    targets = torch.arange(len(texts), device=texts.device) + rank() * len(texts)
    own = targets[:, None] == torch.arange(len(all_texts), device=texts.device)  # (b, B)
    excluded = own if pair_keys is None else own | share_a_key(pair_keys, gather(pair_keys))
    pool = torch.cat([all_texts, all_molecules])
    # Squared distances but for the anchor's own length, which moves none of its candidates past another.
    distances = pool.square().sum(1) - 2.0 * torch.cat([texts, molecules]) @ pool.T  # (2b, 2B)
    nearest = distances.masked_fill(excluded.repeat(2, 2), torch.inf).min(1)
    across = torch.cat([distances[: len(texts), len(all_texts) :], distances[len(texts) :, : len(all_texts)]])
    first = across.masked_fill((excluded & ~own).repeat(2, 1), torch.inf).argmin(1)
    hits = (first == targets.repeat(2)).float().view(2, -1).mean(0)
    return HardNegatives(nearest.indices, nearest.values.isfinite(), hits)


class ModalityCritic(nn.Module):
    """An MLP D-H-H-1 that learns to be large at captions and small at molecules, with its own Adam.

    It maximises mean D(u) - mean D(v) - penalty mean_i (|grad D(x_i)| - 1)^2, x_i a random point between the partners
    u_i and v_i; where the gradient has norm 1 the first difference estimates the Wasserstein distance of the two sets.

    Source: Gulrajani et al. (2017, algorithm 1), with its moments (0, 0.9) of Adam. There the two ends of a line are
    drawn independently; partners, as here, are nearer to the optimal coupling that its proposition 1 speaks of (ours).

    Args:
        width: D.
        hidden_size: H.
        steps: updates a call.
        penalty: weight of the gradient penalty.
        learning_rate: of Adam.
        seed: of the first weights and of the random points; the points of an update follow from it and the number of
            updates made, so that all processes and a resumed run see the same ones.
    """

    def __init__(self, width: int, hidden_size: int, steps: int, penalty: float, learning_rate: float, seed: int):
        super().__init__()
        for name, value in (("embedding_size", width), ("critic_hidden_size", hidden_size), ("critic_steps", steps)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        if not penalty >= 0.0:
            raise ValueError(f"gradient_penalty is {penalty}; expected 0 or more.")
        if not learning_rate > 0.0:
            raise ValueError(f"critic_learning_rate is {learning_rate}; expected a rate above 0.")
        self.steps, self.penalty, self.seed = steps, penalty, seed
        generator = torch.Generator().manual_seed(seed)
        linears = [nn.utils.skip_init(nn.Linear, *sizes) for sizes in ((width, hidden_size), (hidden_size,) * 2)]
        linears.append(nn.utils.skip_init(nn.Linear, hidden_size, 1))
        for linear in linears:
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
        self.layers = nn.Sequential(linears[0], nn.ReLU(), linears[1], nn.ReLU(), linears[2])
        self.optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate, betas=(0.0, 0.9))
        self.updates = 0
        self.last: dict[str, torch.Tensor] = {}

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (N,)."""
        return self.layers(rows).squeeze(1)

    def distance(self, texts: torch.Tensor, molecules: torch.Tensor) -> torch.Tensor:
        """() mean D(u) - mean D(v), with a gradient towards the rows and none towards the critic."""
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        return functional_call(self, fixed, (texts,)).mean() - functional_call(self, fixed, (molecules,)).mean()

    def update(self, texts: torch.Tensor, molecules: torch.Tensor) -> None:
        """Makes `steps` updates on detached rows (B, D) of both modalities."""
        parameters = list(self.parameters())
        for _ in range(self.steps):
            with torch.enable_grad():
                distance = self(texts).mean() - self(molecules).mean()
                penalty = gradient_penalty(self, texts, molecules, self.shares(len(texts)).to(texts.device))
                gradients = torch.autograd.grad(self.penalty * penalty - distance, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.updates += 1
        self.last = {"critic_distance": distance.detach(), "critic_penalty": penalty.detach()}

    def shares(self, rows: int) -> torch.Tensor:
        """(rows, 1) float32 in [0, 1): how much of the caption is in each random point of the next update."""
        # Drawn on the CPU by numpy, whose numbers are the same on every device and leave torch's generators alone.
        return torch.from_numpy(np.random.default_rng((self.seed, self.updates)).random((rows, 1), np.float32))

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Flat: `weights.*`, `exp_avg.*`, `exp_avg_sq.*` and `updates`."""
        state = {"updates": torch.tensor(self.updates)}
        for name, parameter in self.named_parameters():
            state[f"weights.{name}"] = parameter.detach()
            for moment in ("exp_avg", "exp_avg_sq"):
                state[f"{moment}.{name}"] = self.optimizer.state[parameter].get(moment, torch.zeros_like(parameter))
        return state

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        """Takes over what [`checkpoint_state`] gave."""
        sizes = {name: tuple(value.shape) for name, value in self.checkpoint_state().items()}
        given = {name: tuple(value.shape) for name, value in state.items()}
        if sizes != given:
            raise ValueError(
                f"the saved critic has the tensors {given}, this one {sizes}: resume with the embedding_size and "
                "critic_hidden_size that the run began with."
            )
        self.updates = int(state["updates"])
        for name, parameter in self.named_parameters():
            parameter.data.copy_(state[f"weights.{name}"])
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.updates)),
                **{
                    moment: state[f"{moment}.{name}"].to(parameter.device, copy=True)
                    for moment in ("exp_avg", "exp_avg_sq")
                },
            }


def gradient_penalty(
    critic: nn.Module, texts: torch.Tensor, molecules: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """() mean_i (|grad critic(x_i)| - 1)^2 at x_i = s_i u_i + (1 - s_i) v_i, with a gradient towards the critic.

    Args:
        critic: (B, D) to (B,).
        texts, molecules: (B, D), detached.
        shares: (B, 1), s_i in [0, 1].

    Source: Gulrajani et al. (2017, eq. 3).
    """
    between = (shares * texts + (1.0 - shares) * molecules).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slopes.norm(dim=1) - 1.0).square().mean()
