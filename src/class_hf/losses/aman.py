"""AMAN's loss: a batch-hard triplet loss, and an adversarial loss that aligns the modalities."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from class_hf.curriculum.intensity import Intensity
from class_hf.losses.focal import LossOutput, focal_mean
from class_hf.losses.tiled import share_a_key
from class_hf.models.argument_checks import check_integer, check_number
from class_hf.utils.distributed import gather, gather_with_gradient, global_sum, rank, world_size


class AmanLoss(nn.Module):
    """Batch-hard triplet loss over captions and molecules, with adversarial alignment of the two (AMAN, 2023).

    The global batch of B pairs is one set of 2B vectors. Each vector is an anchor a. Its positive is its partner. Its
    negative is the nearest vector of either modality among the pairs that share no key with the anchor's pair. With
    Euclidean distances d, the loss of an anchor is max(0, d(a, positive) - d(a, negative) + kappa margin). With l_i
    the mean over pair i's two anchors,

        loss = sum_i w_i l_i / sum_i w_i + adversarial_weight (mean_i D(u_i) - mean_i D(v_i))

    D is a critic ([`ModalityCritic`]) that is trained to be large at captions u and small at molecules v. The encoders
    are trained so that the critic cannot separate the modalities. The critic belongs to the loss, not to the model,
    and has its own optimizer. It makes `critic_steps` updates on the detached vectors of the global batch before each
    loss is computed, if the loss is in training mode and gradients are enabled. With gradient accumulation it does so
    for each micro-batch. All processes make the same updates of the same critic, so it needs no DDP wrapper.

    Intensity: `sharpness` is the factor kappa of the margin, so early steps require less distance. `focus` is the
    exponent in w_i = (1 - p_i) ** focus. p_i is the detached probability of the partner in a choice between partner
    and negative, sigmoid((d(a, negative) - d(a, positive)) / margin), averaged over both anchors.

    Args:
        embedding_size (`int`, *optional*, defaults to 300): width D of the embeddings, the model's `projection_dim`.
        margin (`float`, *optional*, defaults to 0.3): margin in Euclidean distance between unit vectors, above 0.
        adversarial_weight (`float`, *optional*, defaults to 0.002): weight of the critic's term. 0 trains no critic.
        gradient_penalty (`float`, *optional*, defaults to 10.0): weight of the critic's gradient penalty.
        critic_steps (`int`, *optional*, defaults to 1): updates of the critic for each loss.
        critic_hidden_size (`int`, *optional*, defaults to 300): width of the critic's hidden layers.
        critic_learning_rate (`float`, *optional*, defaults to 1e-4): learning rate of the critic's Adam.
        seed (`int`, *optional*, defaults to 0): seed of the critic.

    Returns:
        A call returns a [`LossOutput`], whose `per_pair` is l_i. Its `accuracy` is that of ranking captions among
        molecules and molecules among captions, as in [`ContrastiveLoss`].

    Raises:
        ValueError: if an argument is out of its range.

    Requirements:
        1. A model that returns L2-normalised `text_embeds` and `molecule_embeds`, such as [`AmanModel`].
        2. Every process holds the same number of pairs.

    Recommendations:
        - Save the critic with the checkpoint (`checkpoint_state`), as the trainer does.

    Relations:
        - With `adversarial_weight=0` it is a batch-hard triplet loss, like sentence-transformers'
          `BatchHardTripletLoss`, over two modalities.

    Source: AMAN, whose code is not public (sizes and weights are from fragments and re-implementations); Hermans et
    al. (2017, section 2, eq. 5) for batch-hard triplets. The effect of intensity is this project's.

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
        self.margin = check_number("margin", margin, above=0)
        self.adversarial_weight = check_number("adversarial_weight", adversarial_weight, least=0)
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
        pair_weights: torch.Tensor | None = None,
    ) -> LossOutput:
        """Computes the loss of this process's b pairs, after the critic's updates.

        Args:
            text_embeds: (b, D) caption embeddings.
            molecule_embeds: (b, D) molecule embeddings; row i belongs to caption i.
            logit_scale: not used; distances have no factor.
            intensity: sharpness and focus. Default: both without effect.
            pair_keys: (b, 2) integers, a key of the caption and a key of the molecule. None masks nothing.
            pair_weights: (b,) weights of the pairs, for instance the probability that each is right. Default: 1.

        Returns:
            [`LossOutput`].

        Raises:
            ValueError: if the embeddings are not two matrices of width `embedding_size`.
        """
        width = self.critic.layers[0].in_features
        if text_embeds.ndim != 2 or text_embeds.shape != molecule_embeds.shape or text_embeds.shape[1] != width:
            raise ValueError(
                f"text_embeds {tuple(text_embeds.shape)} and molecule_embeds {tuple(molecule_embeds.shape)} must both "
                f"be (pairs, {width}), with the loss's embedding_size as width."
            )
        intensity = intensity or Intensity()
        total = len(text_embeds) * world_size()
        with torch.autocast(text_embeds.device.type, enabled=False):
            texts, molecules = text_embeds.float(), molecule_embeds.float()
            all_texts, all_molecules = gather_with_gradient(texts), gather_with_gradient(molecules)
            negatives = hard_negatives(texts, molecules, all_texts.detach(), all_molecules.detach(), pair_keys)
            anchors, positives = torch.cat([texts, molecules]), torch.cat([molecules, texts])
            near = (anchors - positives).norm(dim=1)
            far = (anchors - torch.cat([all_texts, all_molecules])[negatives.rows]).norm(dim=1)
            hinges = (near - far + intensity.sharpness * self.margin).relu()
            losses = torch.where(negatives.exist, hinges, 0.0).view(2, -1).mean(0)  # (b,)
            partner_probabilities = ((far - near).detach() / self.margin).sigmoid()
            probabilities = torch.where(negatives.exist, partner_probabilities, 1.0).view(2, -1).mean(0)
            loss = focal_mean(losses, probabilities, intensity.focus, pair_weights=pair_weights)
            if self.adversarial_weight > 0.0:
                if self.training and torch.is_grad_enabled():
                    self.critic.update(all_texts.detach(), all_molecules.detach())
                loss = loss + self.adversarial_weight * self.critic.distance(texts, molecules)
        return LossOutput(loss, losses.detach(), global_sum(negatives.hits.sum()) / total)

    def log_values(self) -> dict[str, float]:
        """Returns the critic's estimate of the Wasserstein distance, and its penalty, before its last update."""
        return {name: value.item() for name, value in self.critic.last.items()}

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Returns the state that a resumed run needs: the critic's weights, its optimizer, its number of updates."""
        return self.critic.checkpoint_state()

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the state that `checkpoint_state` returned.

        Raises:
            ValueError: if the state is that of a critic of other sizes.
        """
        self.critic.load_checkpoint_state(state)


class HardNegatives(NamedTuple):
    """The hardest negatives of local texts, then of local molecules.

    Attributes:
        rows: (2b,) int64, indices into the global batch's texts followed by its molecules.
        exist: (2b,) bool; False if every other pair shares a key with the anchor's pair.
        hits: (b,) share of the two directions that rank the partner first. Of equal distances the first counts.
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
    """Finds the nearest vector of either modality to each local vector, among pairs that share no key with its pair.

    Args:
        texts: (b, D) of this process.
        molecules: (b, D) of this process.
        all_texts: (B, D) of all processes, in the order of the ranks.
        all_molecules: (B, D) of all processes, likewise.
        pair_keys: (b, 2) integers of this process. None excludes only the anchor's pair.

    Returns:
        [`HardNegatives`].
    """
    targets = torch.arange(len(texts), device=texts.device) + rank() * len(texts)
    is_same_pair = targets[:, None] == torch.arange(len(all_texts), device=texts.device)  # (b, B)
    excluded = is_same_pair if pair_keys is None else is_same_pair | share_a_key(pair_keys, gather(pair_keys))
    pool = torch.cat([all_texts, all_molecules])
    # Squared distances without the anchor's squared norm, which does not change the order of its candidates.
    distances = pool.square().sum(1) - 2.0 * torch.cat([texts, molecules]) @ pool.T  # (2b, 2B)
    nearest = distances.masked_fill(excluded.repeat(2, 2), torch.inf).min(1)
    across = torch.cat([distances[: len(texts), len(all_texts) :], distances[len(texts) :, : len(all_texts)]])
    first = across.masked_fill((excluded & ~is_same_pair).repeat(2, 1), torch.inf).argmin(1)
    hits = (first == targets.repeat(2)).float().view(2, -1).mean(0)
    return HardNegatives(nearest.indices, nearest.values.isfinite(), hits)


class ModalityCritic(nn.Module):
    """An MLP D-H-H-1 with its own Adam that is trained to be large at captions and small at molecules.

    It maximises mean D(u) - mean D(v) - penalty mean_i (|grad D(x_i)| - 1)^2. x_i is a random point between the
    partners u_i and v_i. If the gradient has norm 1, the first difference estimates the Wasserstein distance of the
    two sets.

    Source: Gulrajani et al. (2017, algorithm 1), with their moments (0, 0.9) of Adam. They draw the two ends of a line
    independently. Here the ends are partners, which are closer to the optimal coupling of their proposition 1.

    Args:
        width: D.
        hidden_size: H.
        steps: number of updates per call.
        penalty: weight of the gradient penalty.
        learning_rate: learning rate of Adam.
        seed: seed of the initial weights and of the random points. The points of an update depend on it and on the
            number of updates so far, so all processes and a resumed run use the same points.
    """

    def __init__(self, width: int, hidden_size: int, steps: int, penalty: float, learning_rate: float, seed: int):
        super().__init__()
        for name, value in (("embedding_size", width), ("critic_hidden_size", hidden_size), ("critic_steps", steps)):
            check_integer(name, value, 1)
        check_number("gradient_penalty", penalty, least=0)
        check_number("critic_learning_rate", learning_rate, above=0)
        check_integer("seed", seed, 0)
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
        """Returns mean D(u) - mean D(v), (), with a gradient for the rows and none for the critic."""
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
        """Returns the weights of the captions in the random points of the next update, (rows, 1) float32 in [0, 1)."""
        # Drawn by numpy: the numbers are the same on every device, and torch's generators do not change.
        return torch.from_numpy(np.random.default_rng((self.seed, self.updates)).random((rows, 1), np.float32))

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Returns a flat dict: `weights.*`, `exp_avg.*`, `exp_avg_sq.*` and `updates`."""
        state = {"updates": torch.tensor(self.updates)}
        for name, parameter in self.named_parameters():
            state[f"weights.{name}"] = parameter.detach()
            for moment in ("exp_avg", "exp_avg_sq"):
                state[f"{moment}.{name}"] = self.optimizer.state[parameter].get(moment, torch.zeros_like(parameter))
        return state

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the state that `checkpoint_state` returned. Raises ValueError for other sizes."""
        sizes = {name: tuple(value.shape) for name, value in self.checkpoint_state().items()}
        saved_sizes = {name: tuple(value.shape) for name, value in state.items()}
        if sizes != saved_sizes:
            raise ValueError(
                f"the saved critic has the tensors {saved_sizes}, this one {sizes}: resume with the embedding_size "
                "and critic_hidden_size of the first run."
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
    """Computes mean_i (|grad critic(x_i)| - 1)^2 at x_i = s_i u_i + (1 - s_i) v_i, with a gradient for the critic.

    Source: Gulrajani et al. (2017, eq. 3).

    Args:
        critic: maps (B, D) to (B,).
        texts: (B, D), the u_i, detached.
        molecules: (B, D), the v_i, detached.
        shares: (B, 1), the s_i in [0, 1].

    Returns:
        ().
    """
    between = (shares * texts + (1.0 - shares) * molecules).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slopes.norm(dim=1) - 1.0).square().mean()
