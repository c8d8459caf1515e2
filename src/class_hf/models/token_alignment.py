"""How well a caption and a molecule fit below the level of whole vectors: tokens to motifs, and tokens to atoms.

Every function takes pairs of one caption and one molecule. A pair's score depends on its two members only: not on the
other pairs, not on the padding, and not on who is paired with whom in a batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

# Below every cosine, and finite, so that what is masked takes no part in a maximum and has no gradient.
_NEVER = -2.0
# Motifs that get within 0.1 % of a token's largest share are taken for equals, and the first one has the token:
# symmetric molecules have motifs with the same vector, between which rounding must not choose.
_EQUAL = 0.999


class TextStates(NamedTuple):
    """Token vectors of length 1 of B captions with T tokens in all."""

    motif_tokens: torch.Tensor  # (T, D), to be compared with motifs
    atom_tokens: torch.Tensor  # (T, D), to be compared with atoms
    token_offsets: torch.Tensor  # (B + 1,), where each caption begins, and T


class MoleculeStates(NamedTuple):
    """Motif and atom vectors of length 1 of B molecules with M motifs and A atoms in all."""

    motifs: torch.Tensor  # (M, D)
    motif_offsets: torch.Tensor  # (B + 1,)
    atoms: torch.Tensor  # (A, D)
    atom_offsets: torch.Tensor  # (B + 1,)


def proximal_transport(
    cost: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, iterations: int = 50, beta: float = 0.5
) -> torch.Tensor:
    """The plan that moves equal masses on the rows to equal masses on the columns at a small cost.

    IPOT (Xie et al., 2020, algorithm 1, one inner iteration): each step solves the transport with a penalty on the
    distance to the last plan, so that the penalty, unlike Sinkhorn's entropy, vanishes in the limit: with more
    iterations the plan tends to the exact solution. ORMA takes 50 with beta = 0.5.

    Args:
        cost: (P, n, m) float, of P problems.
        rows: (P, n) bool, which rows exist; at least one a problem.
        columns: (P, m) bool.
        iterations: number of steps.
        beta: weight of the penalty; a smaller one takes longer steps.

    Returns:
        (P, n, m): the columns' sums are 1 / (columns that exist), the rows' nearly 1 / (rows that exist); 0 at what
        does not exist.

    Example:

    >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    >>> exist = torch.ones(1, 2, dtype=torch.bool)
    >>> proximal_transport(cost, exist, exist).round(decimals=3)
    tensor([[[0.5000, 0.0000],
             [0.0000, 0.5000]]])
    """
    source, target = ((one.to(cost.dtype) / one.sum(1, keepdim=True))[:, :, None] for one in (rows, columns))
    plan = (rows[:, :, None] & columns[:, None, :]).to(cost.dtype)
    kernel = (cost / -beta).exp() * plan
    tiny = torch.finfo(cost.dtype).tiny
    right = target
    for _ in range(iterations):
        plan = plan * kernel
        left = source / (plan @ right).clamp(min=tiny)
        right = target / (plan.mT @ left).clamp(min=tiny)
        plan = plan.mul_(left).mul_(right.mT)
    return plan


@torch.no_grad()
def assign_tokens(
    tokens: torch.Tensor, token_mask: torch.Tensor, motifs: torch.Tensor, motif_mask: torch.Tensor
) -> torch.Tensor:
    """The motif that receives the most of each token's mass, under optimal transport with the cost 1 - cosine.

    Args:
        tokens: (P, L, D) of length 1; token_mask (P, L) bool.
        motifs: (P, M, D) of length 1; motif_mask (P, M) bool.

    Returns:
        (P, L) int64; of no meaning where there is no token.
    """
    plan = proximal_transport(1.0 - tokens @ motifs.mT, token_mask, motif_mask)
    most = plan.amax(2, keepdim=True)
    return (plan >= _EQUAL * most).int().argmax(2)  # the first of equals


def motif_scores(
    tokens: torch.Tensor,
    token_mask: torch.Tensor,
    motifs: torch.Tensor,
    motif_mask: torch.Tensor,
    assignment: torch.Tensor,
) -> torch.Tensor:
    """Multi-token vectors against their motifs: the mean cosine over the motifs that were given tokens, (P,).

    A multi-token vector is the mean of a motif's tokens (Min et al., 2024); the mean over motifs is ours. A choice
    knows no gradient: it reaches tokens and motifs through the cosines.

    Args:
        tokens, token_mask, motifs, motif_mask: as of [`assign_tokens`].
        assignment: what it gave, (P, L).
    """
    places = torch.arange(motifs.shape[1], device=motifs.device)
    chosen = (assignment[:, :, None] == places) & token_mask[:, :, None]  # (P, L, M)
    # The mean of a motif's tokens has the direction of their sum.
    cosines = (F.normalize(chosen.to(tokens.dtype).mT @ tokens, dim=-1) * motifs).sum(-1)  # (P, M)
    given = chosen.any(1) & motif_mask
    return (cosines * given).sum(1) / given.sum(1)


def atom_scores(
    tokens: torch.Tensor, token_mask: torch.Tensor, atoms: torch.Tensor, atom_mask: torch.Tensor
) -> torch.Tensor:
    """Each token's best atom and each atom's best token: the mean cosine of both directions, (P,).

    The late interaction of FILIP (Yao et al., 2022, section 3.1), in both directions; ours for this level, where the
    released code of ORMA mixes atoms by the partner in the batch.

    Args:
        tokens: (P, L, D) of length 1; token_mask (P, L) bool.
        atoms: (P, N, D) of length 1; atom_mask (P, N) bool.
    """
    cosines = (tokens @ atoms.mT).masked_fill(~(token_mask[:, :, None] & atom_mask[:, None, :]), _NEVER)
    of_tokens, of_atoms = cosines.max(2).values * token_mask, cosines.max(1).values * atom_mask
    return (of_tokens.sum(1) / token_mask.sum(1) + of_atoms.sum(1) / atom_mask.sum(1)) / 2


def pair_scores(
    texts: TextStates,
    molecules: MoleculeStates,
    text_rows: torch.Tensor,
    molecule_rows: torch.Tensor,
    block_pairs: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of P pairs at the level of motifs and at that of atoms, in float32.

    Memory follows `block_pairs`, with gradients too: a block's activations are computed again in the backward pass,
    the transport is not.

    Args:
        texts, molecules: the states.
        text_rows: (P,) int64, the caption of each pair; molecule_rows (P,) the molecule.
        block_pairs: pairs computed at once; None is 64 on a CPU, whose caches they fit, and 1,024 elsewhere.
            Neighbours in size share a block, so that little is padded.

    Returns:
        (P,) and (P,), each in [-1, 1].
    """
    if block_pairs is None:
        block_pairs = 64 if text_rows.device.type == "cpu" else 1024
    lengths = texts.token_offsets.diff()[text_rows], molecules.atom_offsets.diff()[molecule_rows]
    # By steps of 64 tokens, and within a step by atoms.
    size = (lengths[0] + 63) // 64 * (1 + lengths[1].max()) + lengths[1]
    order = torch.sort(size, stable=True).indices
    blocks = [_block_scores(texts, molecules, text_rows[part], molecule_rows[part], len(order) > block_pairs)
              for part in order.split(block_pairs)]  # fmt: skip
    back = torch.argsort(order)
    by_motif, by_atom = (torch.cat(level)[back] for level in zip(*blocks, strict=True))
    return by_motif, by_atom


def _block_scores(
    texts: TextStates, molecules: MoleculeStates, text_rows: torch.Tensor, molecule_rows: torch.Tensor, again: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of the pairs of one block; with `again` the activations are not kept for the backward pass."""
    tokens = _Padding.of(texts.token_offsets, text_rows)
    motifs = _Padding.of(molecules.motif_offsets, molecule_rows)
    atoms = _Padding.of(molecules.atom_offsets, molecule_rows)

    def by_motif(token_states: torch.Tensor, motif_states: torch.Tensor) -> torch.Tensor:
        return motif_scores(tokens.fill(token_states), tokens.mask, motifs.fill(motif_states), motifs.mask, assignment)

    def by_atom(token_states: torch.Tensor, atom_states: torch.Tensor) -> torch.Tensor:
        return atom_scores(tokens.fill(token_states), tokens.mask, atoms.fill(atom_states), atoms.mask)

    # In float32 whatever the towers ran in, as the whole vectors are compared.
    with torch.autocast(texts.motif_tokens.device.type, enabled=False):
        assignment = assign_tokens(
            tokens.fill(texts.motif_tokens), tokens.mask, motifs.fill(molecules.motifs), motifs.mask
        )
        return (
            _run(by_motif, texts.motif_tokens, molecules.motifs, again),
            _run(by_atom, texts.atom_tokens, molecules.atoms, again),
        )


def _run(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], left: torch.Tensor, right: torch.Tensor, again: bool
) -> torch.Tensor:
    if again and torch.is_grad_enabled():
        return checkpoint(score, left, right, use_reentrant=False, preserve_rng_state=False)
    return score(left, right)


class _Padding(NamedTuple):
    """Where the states of some items stand among all states."""

    places: torch.Tensor  # (P, L) int64
    mask: torch.Tensor  # (P, L) bool

    @classmethod
    def of(cls, offsets: torch.Tensor, rows: torch.Tensor) -> "_Padding":
        lengths, starts = offsets.diff()[rows], offsets[rows]
        steps = torch.arange(int(lengths.max()), device=offsets.device)
        mask = steps < lengths[:, None]
        # Padding repeats an item's first state: finite, and masked wherever it could count.
        return cls(torch.where(mask, starts[:, None] + steps, starts[:, None]), mask)

    def fill(self, states: torch.Tensor) -> torch.Tensor:
        """States (R, D) to (P, L, D) float32."""
        return states.index_select(0, self.places.flatten()).view(*self.places.shape, -1).float()
