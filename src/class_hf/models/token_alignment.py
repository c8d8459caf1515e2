"""Scores a caption against a molecule at two fine levels: tokens with motifs, and tokens with atoms.

The score of a pair depends on its caption and its molecule only, not on other pairs of the batch and not on padding.
[`pair_scores`] scores single pairs, [`all_scores`] every caption against every molecule.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

# Value of masked cosines. It is less than every cosine, so a maximum never selects it, and finite.
_MASKED = -2.0
# Motifs that receive at least this share of a token's largest mass count as equal, and the first of them gets the
# token. Symmetric molecules have motifs with the same vector, and rounding must not choose between them.
_EQUAL = 0.999


class TextStates(NamedTuple):
    """L2-normalised token vectors of B captions with T tokens in total.

    Attributes:
        motif_tokens: (T, D), for the comparison with motifs.
        atom_tokens: (T, D), for the comparison with atoms.
        token_offsets: (B + 1,), where each caption begins, and T.
    """

    motif_tokens: torch.Tensor
    atom_tokens: torch.Tensor
    token_offsets: torch.Tensor

    @classmethod
    def from_fields(cls, fields: Mapping[str, torch.Tensor]) -> "TextStates":
        """Takes the states from a model's output; ignores its other fields."""
        return cls(*(fields[name] for name in cls._fields))


class MoleculeStates(NamedTuple):
    """L2-normalised motif and atom vectors of B molecules with M motifs and A atoms in total.

    Attributes:
        motifs: (M, D).
        motif_offsets: (B + 1,), where the motifs of each molecule begin, and M.
        atoms: (A, D).
        atom_offsets: (B + 1,), where the atoms of each molecule begin, and A.
    """

    motifs: torch.Tensor
    motif_offsets: torch.Tensor
    atoms: torch.Tensor
    atom_offsets: torch.Tensor

    @classmethod
    def from_fields(cls, fields: Mapping[str, torch.Tensor]) -> "MoleculeStates":
        """Takes the states from a model's output; ignores its other fields."""
        return cls(*(fields[name] for name in cls._fields))


def proximal_transport(
    cost: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, iterations: int = 50, beta: float = 0.5
) -> torch.Tensor:
    """Solves optimal transport from uniform masses on the rows to uniform masses on the columns.

    Each step adds a penalty on the distance to the last plan. Unlike Sinkhorn's entropy, the penalty vanishes in the
    limit: with more iterations the plan tends to the exact solution.

    Source: IPOT (Xie et al., 2020, algorithm 1, one inner iteration). ORMA uses 50 iterations and beta = 0.5.

    Args:
        cost: (P, n, m) float, the costs of P problems.
        rows: (P, n) bool, the rows that exist; at least one per problem.
        columns: (P, m) bool, the columns that exist; at least one per problem.
        iterations: number of steps. Default 50.
        beta: weight of the penalty; a smaller weight gives longer steps. Default 0.5.

    Returns:
        (P, n, m), the plans, 0 at masked entries. A column sums to 1 / (number of columns that exist), a row to
        nearly 1 / (number of rows that exist).

    Example:

    >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    >>> exist = torch.ones(1, 2, dtype=torch.bool)
    >>> proximal_transport(cost, exist, exist).round(decimals=3)
    tensor([[[0.5000, 0.0000],
             [0.0000, 0.5000]]])
    """
    source, target = rows[:, None, :].to(cost.dtype), columns[:, :, None].to(cost.dtype)
    source, target = source / source.sum(2, keepdim=True), target / target.sum(1, keepdim=True)
    # Rows are the last dimension: there are more tokens than motifs, and sums along contiguous memory are fast.
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
    """Assigns each token to the motif that receives most of its mass, under optimal transport with cost 1 - cosine.

    Args:
        cosines: (C, N, L, M), of C captions of L tokens with N molecules of M motifs.
        token_mask: (C, L) bool.
        motif_mask: (N, M) bool, or (C, N, M) if each caption has its own molecules.

    Returns:
        (C, N, L) int64, the motif of each token; undefined for masked tokens.
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
    """Mean cosine of each motif and the mean of its tokens, over the motifs that have tokens.

    The mean of a motif's tokens is the multi-token vector of Min et al. (2024). The mean over motifs is this
    project's. The assignment has no gradient; the cosines have one for tokens and motifs.

    Args:
        tokens: (C, L, D), L2-normalised.
        token_mask: (C, L) bool.
        motifs: (N, M, D), or (C, N, M, D) if each caption has its own molecules; L2-normalised.
        motif_mask: (N, M) or (C, N, M) bool.
        assignment: (C, N, L), the output of [`assign_tokens`].

    Returns:
        (C, N).
    """
    captions, molecules, _ = assignment.shape
    motif_ids = torch.arange(motif_mask.shape[-1], device=motifs.device)
    assigned = (assignment[:, :, None, :] == motif_ids[:, None]) & token_mask[:, None, None, :]  # (C, N, M, L)
    # The mean of a motif's tokens has the direction of their sum.
    sums = assigned.flatten(1, 2).to(tokens.dtype) @ tokens  # (C, N * M, D)
    cosines = (F.normalize(sums, dim=-1).view(captions, molecules, len(motif_ids), -1) * motifs).sum(-1)
    has_tokens = assigned.any(3) & motif_mask
    return (cosines * has_tokens).sum(2) / has_tokens.sum(2)


def atom_scores(cosines: torch.Tensor, token_mask: torch.Tensor, atom_mask: torch.Tensor) -> torch.Tensor:
    """Mean cosine of each token with its best atom and of each atom with its best token.

    Source: the late interaction of FILIP (Yao et al., 2022, section 3.1), in both directions. ORMA's released code
    mixes atoms according to their partner in the batch; here a score depends on its pair only.

    Args:
        cosines: (C, N, L, A), of C captions of L tokens with N molecules of A atoms.
        token_mask: (C, L) bool.
        atom_mask: (N, A) bool, or (C, N, A) if each caption has its own molecules.

    Returns:
        (C, N).
    """
    token_mask = token_mask[:, None, :]
    cosines = cosines.masked_fill(~(token_mask[..., None] & atom_mask[..., None, :]), _MASKED)
    of_tokens, of_atoms = cosines.amax(3) * token_mask, cosines.amax(2) * atom_mask
    return (of_tokens.sum(2) / token_mask.sum(2) + of_atoms.sum(2) / atom_mask.sum(-1)) / 2


def pair_scores(
    texts: TextStates,
    molecules: MoleculeStates,
    text_rows: torch.Tensor,
    molecule_rows: torch.Tensor,
    block_pairs: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores P pairs at the levels of motifs and of atoms.

    Args:
        texts: the states of captions.
        molecules: the states of molecules.
        text_rows: (P,) int64, the caption of each pair.
        molecule_rows: (P,) int64, the molecule of each pair.
        block_pairs: number of pairs that are scored at once, as for [`all_scores`].

    Returns:
        (P,) float32 at the level of motifs and (P,) float32 at the level of atoms, each in [-1, 1].
    """
    block_pairs = block_pairs or _block_pairs(text_rows.device)
    lengths = texts.token_offsets.diff()[text_rows], molecules.atom_offsets.diff()[molecule_rows]
    # Sort by tokens in steps of 64, and within a step by atoms.
    size = (lengths[0] + 63) // 64 * (1 + lengths[1].max()) + lengths[1]
    order = torch.sort(size, stable=True).indices
    recompute = len(order) > block_pairs
    blocks = [
        _block_scores(texts, molecules, text_rows[part], molecule_rows[part][:, None], recompute)
        for part in order.split(block_pairs)
    ]
    original_order = torch.argsort(order)
    by_motif, by_atom = (torch.cat(level)[original_order, 0] for level in zip(*blocks, strict=True))
    return by_motif, by_atom


def all_scores(
    texts: TextStates, molecules: MoleculeStates, block_pairs: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores every caption against every molecule, with the same values as [`pair_scores`] and fewer operations.

    Memory is proportional to `block_pairs`, also in training: the backward pass recomputes a block's activations, but
    not its transport plan.

    Args:
        texts: the states of C captions.
        molecules: the states of N molecules.
        block_pairs: number of pairs that are scored at once. Default: 256 on a CPU, which nearly fit its caches, and
            1,024 elsewhere. Items of similar size share a block, so padding costs little.

    Returns:
        (C, N) float32 at the level of motifs and (C, N) float32 at the level of atoms, each in [-1, 1].
    """
    block_pairs = block_pairs or _block_pairs(texts.token_offsets.device)
    side = math.isqrt(block_pairs)
    orders = [
        torch.sort(offsets.diff(), stable=True).indices for offsets in (texts.token_offsets, molecules.atom_offsets)
    ]
    recompute = len(orders[0]) * len(orders[1]) > block_pairs
    rows = [
        [_block_scores(texts, molecules, captions, partners, recompute) for partners in orders[1].split(side)]
        for captions in orders[0].split(side)
    ]
    text_order, molecule_order = (torch.argsort(order) for order in orders)
    by_motif, by_atom = (
        torch.cat([torch.cat([block[level] for block in row], 1) for row in rows])[text_order[:, None], molecule_order]
        for level in range(2)
    )
    return by_motif, by_atom


def _block_pairs(device: torch.device) -> int:
    """The default of `block_pairs`."""
    return 256 if device.type == "cpu" else 1024


def _block_scores(
    texts: TextStates,
    molecules: MoleculeStates,
    text_rows: torch.Tensor,
    molecule_rows: torch.Tensor,
    recompute_activations: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both (C, N) scores of C captions with N molecules, or with N molecules each if `molecule_rows` is (C, N)."""
    tokens = _Padding.of(texts.token_offsets, text_rows)
    motifs = _Padding.of(molecules.motif_offsets, molecule_rows)
    atoms = _Padding.of(molecules.atom_offsets, molecule_rows)

    def by_motif(token_states: torch.Tensor, motif_states: torch.Tensor) -> torch.Tensor:
        return motif_scores(tokens.fill(token_states), tokens.mask, motifs.fill(motif_states), motifs.mask, assignment)

    def by_atom(token_states: torch.Tensor, atom_states: torch.Tensor) -> torch.Tensor:
        return atom_scores(_cosines(tokens.fill(token_states), atoms.fill(atom_states)), tokens.mask, atoms.mask)

    # In float32 whatever the precision of the towers, as for sentence and molecule vectors.
    with torch.autocast(texts.motif_tokens.device.type, enabled=False):
        with torch.no_grad():
            cosines = _cosines(tokens.fill(texts.motif_tokens), motifs.fill(molecules.motifs))
        assignment = assign_tokens(cosines, tokens.mask, motifs.mask)
        return (
            _run(by_motif, texts.motif_tokens, molecules.motifs, recompute_activations),
            _run(by_atom, texts.atom_tokens, molecules.atoms, recompute_activations),
        )


def _cosines(tokens: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Cosines (C, N, L, X) of tokens (C, L, D) with parts (N, X, D), or (C, N, X, D) if each caption has its own."""
    if parts.dim() == 4:
        return tokens[:, None] @ parts.mT
    return (tokens.flatten(0, 1) @ parts.flatten(0, 1).T).view(*tokens.shape[:2], *parts.shape[:2]).transpose(1, 2)


def _run(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    left: torch.Tensor,
    right: torch.Tensor,
    recompute_activations: bool,
) -> torch.Tensor:
    """Calls `score`; its activations are recomputed in the backward pass if asked for."""
    if recompute_activations and torch.is_grad_enabled():
        return checkpoint(score, left, right, use_reentrant=False, preserve_rng_state=False)
    return score(left, right)


class _Padding(NamedTuple):
    """The positions of some items' states among all states, padded."""

    positions: torch.Tensor  # (..., L) int64
    mask: torch.Tensor  # (..., L) bool

    @classmethod
    def of(cls, offsets: torch.Tensor, rows: torch.Tensor) -> "_Padding":
        """Positions and mask of the items `rows`."""
        lengths, starts = offsets.diff()[rows][..., None], offsets[rows][..., None]
        steps = torch.arange(int(lengths.max()), device=offsets.device)
        mask = steps < lengths
        # Padding repeats an item's first state, which is finite. The mask hides it.
        return cls(torch.where(mask, starts + steps, starts), mask)

    def fill(self, states: torch.Tensor) -> torch.Tensor:
        """Pads the states: (R, D) -> (..., L, D) float32."""
        return states.index_select(0, self.positions.flatten()).view(*self.positions.shape, -1).float()
