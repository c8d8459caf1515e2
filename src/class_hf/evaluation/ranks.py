"""Ranks of the true candidates, computed over blocks of similarities, for both directions from one product.

Two candidates are tied if their cosines with the query differ by at most `TIE_TOLERANCE`. A float32 product finds the
candidates whose cosine is clearly higher or lower than that of the true candidate. The few others are compared in
float64. Ranks therefore do not depend on the block size, the order of the candidates, the direction or the number of
threads. The float32 product alone would order equal candidates by rounding errors.
"""

from typing import NamedTuple

import numpy as np
import torch

# The rounding of a model depends on the batch, so the cosines of equal inputs can differ by about 1e-8.
TIE_TOLERANCE = 1e-7
# If more than this share of a block needs float64, a float64 product costs less than single pairs.
_MAX_SHARE = 1 / 64


def rank_partners(
    queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor, block_size: int = 512
) -> np.ndarray:
    """Ranks the true candidate of each query by cosine.

    Candidates whose cosines differ by at most `TIE_TOLERANCE` (1e-7) from the cosine of the true candidate are tied
    with it. Ties get their mean rank.

    Args:
        queries (`torch.Tensor`): (Q, D) embeddings of any length and float type.
        candidates (`torch.Tensor`): (P, D) embeddings.
        gold (`torch.Tensor`): (Q,) the row of the true candidate of each query.
        block_size (`int`, *optional*, defaults to 512): rows and columns of a block of similarities. Memory is the
            square of it, in addition to the embeddings.

    Returns:
        (Q,) float64 ranks. 1 is the best.

    Raises:
        ValueError: if `gold` does not fit, or an embedding is not finite.

    Example:

    >>> candidates = torch.tensor([[1.0, 0.0], [1.0, 1e-9], [0.0, 1.0]])  # the first two are tied
    >>> rank_partners(candidates, candidates, torch.tensor([0, 1, 2])).tolist()
    [1.5, 1.5, 1.0]
    """
    _check_gold(gold, len(queries), len(candidates))
    rows, columns = _side(queries, "queries"), _side(candidates, "candidates")
    true = _similarity(rows, columns.take(gold))
    lead, _ = _leads(rows, columns, true, None, block_size)
    return _ranks(lead, len(candidates))


def rank_in_pools(
    texts: torch.Tensor,
    molecules: torch.Tensor,
    gold: torch.Tensor,
    further_texts: torch.Tensor | None = None,
    block_size: int = 512,
    *,
    text_penalties: torch.Tensor | None = None,
    molecule_penalties: torch.Tensor | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Ranks Q pairs in both directions, in the full pools and among themselves, in one pass.

    Each similarity is computed once, unless several texts share a molecule:

    ```
                    molecules of the pairs (Q)   other molecules
    texts (Q)       both directions              text to molecule
    further texts   molecule to text             (not needed)
    ```

    Args:
        texts (`torch.Tensor`): (Q, D) embeddings of the captions of the pairs.
        molecules (`torch.Tensor`): (P, D) embeddings of the pool.
        gold (`torch.Tensor`): (Q,) the row of each caption's molecule in the pool.
        further_texts (`torch.Tensor`, *optional*): (C - Q, D) captions that are candidates of molecule to text in
            addition to the captions of the pairs.
        block_size (`int`, *optional*, defaults to 512): as for [`rank_partners`].
        text_penalties (`torch.Tensor`, *optional*): (C,) subtracted from the similarities with each text, the further
            texts last.
        molecule_penalties (`torch.Tensor`, *optional*): (P,) the same for molecules.

    Returns:
        `full` and `split`, each with the ranks text to molecule (Q,) and molecule to text (Q,), float64.

    Raises:
        ValueError: as for [`rank_partners`].

    Example:

    >>> rank_in_pools(torch.eye(2), torch.eye(2), torch.tensor([0, 1]))["full"][0].tolist()
    [1.0, 1.0]
    """
    _check_gold(gold, len(texts), len(molecules))
    # A penalty of a query is the same for all its candidates, so it changes no rank. Both penalties of a pair can be
    # subtracted in both directions.
    first, second = (None, None) if text_penalties is None else text_penalties.tensor_split([len(texts)])
    text_side, molecule_side = _side(texts, "texts", first), _side(molecules, "molecules", molecule_penalties)
    pair_side = molecule_side.take(gold)
    true = _similarity(text_side, pair_side)
    to_molecule, to_text = _leads(text_side, pair_side, true, true, block_size)
    split = _ranks(to_molecule, len(texts)), _ranks(to_text, len(texts))
    is_other = torch.ones(len(molecules), dtype=torch.bool, device=gold.device)
    is_other[gold] = False
    if int(is_other.sum()) != len(molecules) - len(texts):
        # Several texts share a molecule, which is several candidates among the pairs but one candidate in the pool.
        to_molecule, is_other = torch.zeros_like(to_molecule), torch.ones_like(is_other)
    to_molecule = to_molecule + _leads(text_side, molecule_side.take(is_other), true, None, block_size)[0]
    num_texts = len(texts)
    if further_texts is not None:
        to_text = to_text + _leads(_side(further_texts, "texts", second), pair_side, None, true, block_size)[1]
        num_texts += len(further_texts)
    return {"full": (_ranks(to_molecule, len(molecules)), _ranks(to_text, num_texts)), "split": split}


class _Side(NamedTuple):
    """N embeddings: in float32 for the product, and as they were given for exact similarities."""

    units: torch.Tensor  # (N, D) float32, L2-normalised
    vectors: torch.Tensor  # (N, D) as given
    lengths: torch.Tensor  # (N,) float64
    penalties: torch.Tensor  # (N,) float64

    def take(self, rows: torch.Tensor | slice) -> "_Side":
        """The embeddings of some rows."""
        return _Side(*(values[rows] for values in self))


def _side(vectors: torch.Tensor, name: str, penalties: torch.Tensor | None = None) -> _Side:
    """Checks and normalises embeddings."""
    if not torch.isfinite(vectors).all():
        raise ValueError(f"the embeddings of the {name} are not all finite: the model has diverged.")
    lengths = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64).clamp(min=1e-12)
    units = vectors.float() / lengths.float()[:, None]
    zeros = torch.zeros_like(lengths) if penalties is None else penalties.double().to(vectors.device)
    return _Side(units, vectors, lengths, zeros)


def _leads(
    rows: _Side,
    columns: _Side,
    true_of_rows: torch.Tensor | None,
    true_of_columns: torch.Tensor | None,
    block_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each row, the number of columns more similar than its true one, minus the number of less similar columns.

    Args:
        rows: R embeddings.
        columns: K embeddings.
        true_of_rows: (R,) float64 similarity to the true column. None: the leads of the rows are not needed.
        true_of_columns: (K,) float64 similarity to the true row. None: the leads of the columns are not needed.

    Returns:
        (R,) and (K,) float64, the second with the roles exchanged. Zeros where they are not needed.
    """
    num_rows, num_columns = len(rows.units), len(columns.units)
    row_leads = torch.zeros(num_rows, dtype=torch.float64, device=rows.units.device)
    column_leads = torch.zeros(num_columns, dtype=torch.float64, device=rows.units.device)
    if not num_rows or not num_columns:
        return row_leads, column_leads
    margin = _margin(rows, columns)
    first = slice(0, block_size)
    product = _screen(rows.take(first), columns.take(first), torch.float32)
    # Autocast or a global setting can reduce the precision of float32 products.
    precise = (product - _exact(rows.take(first), columns.take(first))).abs().max() <= margin
    dtype = torch.float32 if precise else torch.float64
    for top in range(0, num_rows, block_size):
        row_part = slice(top, top + block_size)
        some_rows = rows.take(row_part)
        for left in range(0, num_columns, block_size):
            column_part = slice(left, left + block_size)
            some_columns = columns.take(column_part)
            block = _screen(some_rows, some_columns, dtype)
            if true_of_rows is not None:
                row_leads[row_part] += _lead(block, some_rows, some_columns, true_of_rows[row_part], margin)
            if true_of_columns is not None:
                column_leads[column_part] += _lead(
                    block.T, some_columns, some_rows, true_of_columns[column_part], margin
                )
    return row_leads, column_leads


def _lead(block: torch.Tensor, rows: _Side, columns: _Side, true: torch.Tensor, margin: float) -> torch.Tensor:
    """Sums the signs of similarity - true over the columns: block (R, K), true (R,) float64 -> (R,) float64."""
    gaps = block - true.to(block.dtype)[:, None]
    lead = gaps.sign().sum(1)
    lines = (gaps.abs().amin(1) <= margin).nonzero().flatten()
    close = gaps[lines]
    line, column = (close.abs() <= margin).nonzero(as_tuple=True)
    if len(line) > _MAX_SHARE * block.numel():
        return _sign(_exact(rows, columns) - true[:, None]).sum(1)
    row = lines[line]
    exact = _sign(_similarity(rows.take(row), columns.take(column)) - true[row])
    return lead.double().index_add(0, row, exact - close[line, column].sign())


def _screen(rows: _Side, columns: _Side, dtype: torch.dtype) -> torch.Tensor:
    """(R, K) similarities by one product of the given precision."""
    block = rows.units.to(dtype) @ columns.units.to(dtype).T
    if rows.penalties.any() or columns.penalties.any():
        block = block - rows.penalties.to(dtype)[:, None] - columns.penalties.to(dtype)
    return block


def _exact(rows: _Side, columns: _Side) -> torch.Tensor:
    """(R, K) similarities in float64."""
    left, right = (side.vectors.double() / side.lengths[:, None] for side in (rows, columns))
    return left @ right.T - rows.penalties[:, None] - columns.penalties


def _similarity(left: _Side, right: _Side) -> torch.Tensor:
    """(M,) similarities of row i with row i, in float64."""
    products = (left.vectors.double() * right.vectors.double()).sum(1) / (left.lengths * right.lengths)
    return products - left.penalties - right.penalties


def _margin(rows: _Side, columns: _Side) -> float:
    """The largest gap at which float32 does not decide: the rounding errors and the tolerance."""
    # A sum of D products in any order has an error of at most D half units (Higham, 2002, section 3.1). The further
    # units are those of normalisation, penalties and the rounded true similarity.
    largest = 1 + float(rows.penalties.abs().max() + columns.penalties.abs().max())
    return largest * (rows.units.shape[1] + 12) * torch.finfo(torch.float32).eps / 2 + TIE_TOLERANCE


def _sign(gaps: torch.Tensor) -> torch.Tensor:
    """The sign of each gap, 0 for a tie."""
    return torch.where(gaps.abs() <= TIE_TOLERANCE, 0.0, gaps.sign())


def _ranks(lead: torch.Tensor, candidates: int) -> np.ndarray:
    """The mean ranks of the leads."""
    # With a candidates above, b below and e tied (the true one is one of them), a - b is the lead, and the mean rank
    # is a + (e + 1) / 2 = (a + b + e + 1 + (a - b)) / 2.
    return ((candidates + 1 + lead) / 2).cpu().numpy()


def _check_gold(gold: torch.Tensor, queries: int, candidates: int) -> None:
    """Refuses rows that are not those of candidates."""
    if gold.shape != (queries,) or (queries and not 0 <= int(gold.min()) <= int(gold.max()) < candidates):
        raise ValueError(f"gold must name one of the {candidates} candidates for each of {queries} queries.")
