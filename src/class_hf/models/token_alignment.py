"""How well a caption and a molecule fit below the level of whole vectors: tokens to motifs, and tokens to atoms.

A pair's score depends on its caption and its molecule only: not on the other pairs, not on the padding, and not on who
is paired with whom in a batch. [`pair_scores`] takes single pairs, [`all_scores`] every caption with every molecule.
"""

import math
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
    source, target = rows[:, None, :].to(cost.dtype), columns[:, :, None].to(cost.dtype)
    source, target = source / source.sum(2, keepdim=True), target / target.sum(1, keepdim=True)
    # Rows last: there are more tokens than motifs, and sums over long contiguous rows are the fast ones.
    plan = (rows[:, None, :] & columns[:, :, None]).to(cost.dtype)
    kernel = (cost.mT / -beta).exp() * plan
    tiny = torch.finfo(cost.dtype).tiny
    right = target
    for _ in range(iterations):
        plan = plan * kernel
        plan *= source / (plan * right).sum(1, keepdim=True).clamp(min=tiny)
        right = target / plan.sum(2, keepdim=True).clamp(min=tiny)
        plan *= right
    return plan.mT


@torch.no_grad()
def assign_tokens(cosines: torch.Tensor, token_mask: torch.Tensor, motif_mask: torch.Tensor) -> torch.Tensor:
    """The motif that receives the most of each token's mass, under optimal transport with the cost 1 - cosine.

    Args:
        cosines: (C, N, L, M), of C captions of L tokens with N molecules of M motifs each.
        token_mask: (C, L) bool.
        motif_mask: (N, M) bool, or (C, N, M) where each caption has molecules of its own.

    Returns:
        (C, N, L) int64; of no meaning where there is no token.
    """
    rows = token_mask[:, None, :].expand(cosines.shape[:3]).flatten(0, 1)
    columns = motif_mask.expand(*cosines.shape[:2], -1).flatten(0, 1)
    plan = proximal_transport(1.0 - cosines.flatten(0, 1), rows, columns)
    most = plan.amax(2, keepdim=True)
    return (plan >= _EQUAL * most).int().argmax(2).view(cosines.shape[:3])  # the first of equals


def motif_scores(
    tokens: torch.Tensor,
    token_mask: torch.Tensor,
    motifs: torch.Tensor,
    motif_mask: torch.Tensor,
    assignment: torch.Tensor,
) -> torch.Tensor:
    """Multi-token vectors against their motifs: the mean cosine over the motifs that were given tokens, (C, N).

    A multi-token vector is the mean of a motif's tokens (Min et al., 2024); the mean over motifs is ours. A choice
    knows no gradient: it reaches tokens and motifs through the cosines.

    Args:
        tokens: (C, L, D) of length 1; token_mask (C, L) bool.
        motifs: (N, M, D) of length 1, or (C, N, M, D) where each caption has molecules of its own; motif_mask
            likewise without D, bool.
        assignment: what [`assign_tokens`] gave, (C, N, L).
    """
    captions, molecules, _ = assignment.shape
    places = torch.arange(motif_mask.shape[-1], device=motifs.device)
    chosen = (assignment[:, :, None, :] == places[:, None]) & token_mask[:, None, None, :]  # (C, N, M, L)
    # The mean of a motif's tokens has the direction of their sum.
    sums = chosen.flatten(1, 2).to(tokens.dtype) @ tokens  # (C, N * M, D)
    cosines = (F.normalize(sums, dim=-1).view(captions, molecules, len(places), -1) * motifs).sum(-1)
    given = chosen.any(3) & motif_mask
    return (cosines * given).sum(2) / given.sum(2)


def atom_scores(cosines: torch.Tensor, token_mask: torch.Tensor, atom_mask: torch.Tensor) -> torch.Tensor:
    """Each token's best atom and each atom's best token: the mean cosine of both directions, (C, N).

    The late interaction of FILIP (Yao et al., 2022, section 3.1), in both directions; ours for this level, where the
    released code of ORMA mixes atoms by the partner in the batch.

    Args:
        cosines: (C, N, L, A), of C captions of L tokens with N molecules of A atoms each.
        token_mask: (C, L) bool.
        atom_mask: (N, A) bool, or (C, N, A) where each caption has molecules of its own.
    """
    token_mask = token_mask[:, None, :]
    cosines = cosines.masked_fill(~(token_mask[..., None] & atom_mask[..., None, :]), _NEVER)
    of_tokens, of_atoms = cosines.amax(3) * token_mask, cosines.amax(2) * atom_mask
    return (of_tokens.sum(2) / token_mask.sum(2) + of_atoms.sum(2) / atom_mask.sum(-1)) / 2


def pair_scores(
    texts: TextStates,
    molecules: MoleculeStates,
    text_rows: torch.Tensor,
    molecule_rows: torch.Tensor,
    block_pairs: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of P pairs at the level of motifs and at that of atoms, in float32.

    Args:
        texts, molecules: the states.
        text_rows: (P,) int64, the caption of each pair; molecule_rows (P,) the molecule.
        block_pairs: pairs computed at once, as of [`all_scores`].

    Returns:
        (P,) and (P,), each in [-1, 1].
    """
    block_pairs = block_pairs or _block_pairs(text_rows.device)
    lengths = texts.token_offsets.diff()[text_rows], molecules.atom_offsets.diff()[molecule_rows]
    # By steps of 64 tokens, and within a step by atoms.
    size = (lengths[0] + 63) // 64 * (1 + lengths[1].max()) + lengths[1]
    order = torch.sort(size, stable=True).indices
    again = len(order) > block_pairs
    blocks = [
        _block_scores(texts, molecules, text_rows[part], molecule_rows[part][:, None], again)
        for part in order.split(block_pairs)
    ]
    back = torch.argsort(order)
    by_motif, by_atom = (torch.cat(level)[back, 0] for level in zip(*blocks, strict=True))
    return by_motif, by_atom


def all_scores(
    texts: TextStates, molecules: MoleculeStates, block_pairs: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of every caption against every molecule: what [`pair_scores`] gives, by one product of matrices a block.

    Memory follows `block_pairs`, with gradients too: a block's activations are computed again in the backward pass,
    the transport is not.

    Args:
        texts, molecules: the states of C captions and N molecules.
        block_pairs: pairs computed at once; None is 256 on a CPU, whose caches they nearly fit, and 1,024 elsewhere.
            Neighbours in size share a block, so that little is padded.

    Returns:
        (C, N) at the level of motifs and (C, N) at that of atoms, each in [-1, 1].
    """
    block_pairs = block_pairs or _block_pairs(texts.token_offsets.device)
    side = math.isqrt(block_pairs)
    orders = [
        torch.sort(offsets.diff(), stable=True).indices for offsets in (texts.token_offsets, molecules.atom_offsets)
    ]
    again = len(orders[0]) * len(orders[1]) > block_pairs
    rows = [
        [_block_scores(texts, molecules, captions, partners, again) for partners in orders[1].split(side)]
        for captions in orders[0].split(side)
    ]
    backs = [torch.argsort(order) for order in orders]
    by_motif, by_atom = (
        torch.cat([torch.cat([block[level] for block in row], 1) for row in rows])[backs[0][:, None], backs[1]]
        for level in range(2)
    )
    return by_motif, by_atom


def _block_pairs(device: torch.device) -> int:
    return 256 if device.type == "cpu" else 1024


def _block_scores(
    texts: TextStates, molecules: MoleculeStates, text_rows: torch.Tensor, molecule_rows: torch.Tensor, again: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, N) scores of C captions: with N molecules, or each with its own, where `molecule_rows` is (C, N).

    With `again` the activations are not kept for the backward pass.
    """
    tokens = _Padding.of(texts.token_offsets, text_rows)
    motifs = _Padding.of(molecules.motif_offsets, molecule_rows)
    atoms = _Padding.of(molecules.atom_offsets, molecule_rows)

    def by_motif(token_states: torch.Tensor, motif_states: torch.Tensor) -> torch.Tensor:
        return motif_scores(tokens.fill(token_states), tokens.mask, motifs.fill(motif_states), motifs.mask, assignment)

    def by_atom(token_states: torch.Tensor, atom_states: torch.Tensor) -> torch.Tensor:
        return atom_scores(_cosines(tokens.fill(token_states), atoms.fill(atom_states)), tokens.mask, atoms.mask)

    # In float32 whatever the towers ran in, as the whole vectors are compared.
    with torch.autocast(texts.motif_tokens.device.type, enabled=False):
        with torch.no_grad():
            cosines = _cosines(tokens.fill(texts.motif_tokens), motifs.fill(molecules.motifs))
        assignment = assign_tokens(cosines, tokens.mask, motifs.mask)
        return (
            _run(by_motif, texts.motif_tokens, molecules.motifs, again),
            _run(by_atom, texts.atom_tokens, molecules.atoms, again),
        )


def _cosines(tokens: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Of tokens (C, L, D) with parts of N molecules (N, X, D), or of each caption's own (C, N, X, D): (C, N, L, X)."""
    if parts.dim() == 4:
        return tokens[:, None] @ parts.mT
    return (tokens.flatten(0, 1) @ parts.flatten(0, 1).T).view(*tokens.shape[:2], *parts.shape[:2]).transpose(1, 2)


def _run(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], left: torch.Tensor, right: torch.Tensor, again: bool
) -> torch.Tensor:
    if again and torch.is_grad_enabled():
        return checkpoint(score, left, right, use_reentrant=False, preserve_rng_state=False)
    return score(left, right)


class _Padding(NamedTuple):
    """Where the states of some items stand among all states."""

    places: torch.Tensor  # (..., L) int64
    mask: torch.Tensor  # (..., L) bool

    @classmethod
    def of(cls, offsets: torch.Tensor, rows: torch.Tensor) -> "_Padding":
        lengths, starts = offsets.diff()[rows][..., None], offsets[rows][..., None]
        steps = torch.arange(int(lengths.max()), device=offsets.device)
        mask = steps < lengths
        # Padding repeats an item's first state: finite, and masked wherever it could count.
        return cls(torch.where(mask, starts + steps, starts), mask)

    def fill(self, states: torch.Tensor) -> torch.Tensor:
        """States (R, D) to (..., L, D) float32."""
        return states.index_select(0, self.places.flatten()).view(*self.places.shape, -1).float()
