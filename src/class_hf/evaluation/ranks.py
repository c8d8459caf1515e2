"""Ranks of true partners among candidates, streamed over blocks of similarities, both directions from one product.

A float32 product screens: what lies further from the true similarity than the product's rounding error is above or
below it for certain. The few that lie nearer are decided in float64. A rank therefore depends neither on the shape
of a block, nor on the order of a sum, nor on the direction from which a similarity was met; a float32 product alone
may give two equal candidates different last bits.
"""

import numpy as np
import torch
import torch.nn.functional as F

# Float64 sums of D products of float32 numbers err by some D * 2^-53, far less than this; different float32
# embeddings practically never come as near.
_TIE = 1e-12
# Where more than this share of a block must be decided in float64, a float64 product is cheaper than single pairs.
_MANY = 1 / 64


def rank_partners(
    queries: torch.Tensor, candidates: torch.Tensor, gold: torch.Tensor, block_size: int = 512
) -> np.ndarray:
    """Rank of each query's true candidate by cosine, from 1; ties get their mean rank.

    Args:
        queries: (Q, D), any float type; brought to length 1 in float32.
        candidates: (P, D).
        gold: (Q,) the row of each query's true candidate.
        block_size: rows and columns of a block; memory is block_size^2 beside the embeddings.

    Returns:
        (Q,) float64.

    Raises:
        ValueError: if `gold` does not fit, or an embedding is not finite.

    Example:

    >>> rank_partners(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 2])).tolist()
    [1.0, 1.0, 1.0]
    """
    _check_gold(gold, len(queries), len(candidates))
    queries, candidates = _unit(queries, "queries"), _unit(candidates, "candidates")
    lead, _ = _leads(queries, candidates, _similarity(queries, candidates[gold]), None, block_size)
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
    """Ranks of Q pairs in both directions, over whole pools and among themselves, from one pass.

    No similarity is computed twice, unless texts share a molecule:

    ```
                    own molecules (Q)   other molecules
    texts (Q)       both directions     text to molecule
    further texts   molecule to text    (never computed)
    ```

    Args:
        texts: (Q, D).
        molecules: (P, D), the pool.
        gold: (Q,) the row of each text's molecule in the pool.
        further_texts: (C - Q, D), candidates of molecule to text beside the pairs' own texts.
        block_size: as of [`rank_partners`].
        text_penalties: (C,) taken from each text's similarities, the further texts' last; nothing if None.
        molecule_penalties: (P,) likewise.

    Returns:
        `full` and `split`, each with the ranks text to molecule and molecule to text, (Q,) float64.

    Raises:
        ValueError: as [`rank_partners`].
    """
    _check_gold(gold, len(texts), len(molecules))
    texts, molecules = _unit(texts, "texts"), _unit(molecules, "molecules")
    further = None if further_texts is None else _unit(further_texts, "texts")
    if text_penalties is not None or molecule_penalties is not None:
        # u v - a - b as one product: a query's own penalty is the same for all its candidates, and changes no rank.
        own_penalties, others_penalties = (
            (None, None) if text_penalties is None else text_penalties.tensor_split([len(texts)])
        )
        texts = _with_penalties(texts, own_penalties, first=True)
        further = None if further is None else _with_penalties(further, others_penalties, first=True)
        molecules = _with_penalties(molecules, molecule_penalties, first=False)
    own = molecules[gold]
    true = _similarity(texts, own)
    to_molecule, to_text = _leads(texts, own, true, true, block_size)
    split = _ranks(to_molecule, len(texts)), _ranks(to_text, len(texts))
    others = torch.ones(len(molecules), dtype=torch.bool, device=gold.device)
    others[gold] = False
    if int(others.sum()) != len(molecules) - len(texts):
        # Texts share a molecule, which is several candidates among the pairs, but one in the pool.
        to_molecule, others = torch.zeros_like(to_molecule), torch.ones_like(others)
    to_molecule = to_molecule + _leads(texts, molecules[others], true, None, block_size)[0]
    num_texts = len(texts)
    if further is not None:
        to_text = to_text + _leads(further, own, None, true, block_size)[1]
        num_texts += len(further)
    return {"full": (_ranks(to_molecule, len(molecules)), _ranks(to_text, num_texts)), "split": split}


def _leads(
    rows: torch.Tensor,
    columns: torch.Tensor,
    true_of_rows: torch.Tensor | None,
    true_of_columns: torch.Tensor | None,
    block_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each row, how many columns are more similar to it than its true one, less how many are less so.

    Args:
        rows: (R, D) of length 1.
        columns: (K, D) of length 1.
        true_of_rows: (R,) float64, or None: the rows are not asked for.
        true_of_columns: (K,) float64, or None: likewise.

    Returns:
        (R,) and (K,) float64, the second with the roles exchanged; zeros where not asked for.
    """
    row_leads = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    column_leads = torch.zeros(len(columns), dtype=torch.float64, device=rows.device)
    if not len(rows) or not len(columns):
        return row_leads, column_leads
    first, second = rows[:block_size], columns[:block_size]
    if ((first @ second.T) - first.double() @ second.double().T).abs().max() > _margin(first, second):
        # Autocast, or a global setting, makes products of float32 numbers less precise than float32.
        rows, columns = rows.double(), columns.double()
    margin = _margin(rows, columns)
    for top in range(0, len(rows), block_size):
        row_part = slice(top, top + block_size)
        for left in range(0, len(columns), block_size):
            column_part = slice(left, left + block_size)
            block = rows[row_part] @ columns[column_part].T
            if true_of_rows is not None:
                row_leads[row_part] += _lead(
                    block, rows[row_part], columns[column_part], true_of_rows[row_part], margin
                )
            if true_of_columns is not None:
                column_leads[column_part] += _lead(
                    block.T, columns[column_part], rows[row_part], true_of_columns[column_part], margin
                )
    return row_leads, column_leads


def _lead(
    block: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, true: torch.Tensor, margin: float
) -> torch.Tensor:
    """The sums over the columns of sign(similarity - true): block (R, K), true (R,) float64 -> (R,)."""
    gaps = block - true.to(block.dtype)[:, None]
    lead = gaps.sign().sum(1)
    lines = (gaps.abs().amin(1) <= margin).nonzero().flatten()
    close = gaps[lines]
    line, column = (close.abs() <= margin).nonzero(as_tuple=True)
    if len(line) > _MANY * block.numel():
        return _sign(rows.double() @ columns.double().T - true[:, None]).sum(1)
    row = lines[line]
    exact = _sign(_similarity(rows[row], columns[column]) - true[row])
    return lead.double().index_add(0, row, exact - close[line, column].sign())


def _margin(rows: torch.Tensor, columns: torch.Tensor) -> float:
    """How much a product of these vectors and the rounded true similarity can err together."""
    # A sum of D products in any order errs by D half units at most (Higham, 2002, section 3.1).
    lengths = rows.norm(dim=1).max() * columns.norm(dim=1).max()
    return float(lengths) * (rows.shape[1] + 4) * torch.finfo(rows.dtype).eps / 2


def _with_penalties(vectors: torch.Tensor, penalties: torch.Tensor | None, first: bool) -> torch.Tensor:
    """(N, D + 2): the product of two such vectors is the cosine less both penalties."""
    ones = torch.ones_like(vectors[:, :1])
    taken = torch.zeros_like(ones) if penalties is None else -penalties.to(vectors.dtype)[:, None]
    return torch.cat([vectors, ones, taken] if first else [vectors, taken, ones], dim=1)


def _sign(gaps: torch.Tensor) -> torch.Tensor:
    return torch.where(gaps.abs() <= _TIE, 0.0, gaps.sign())


def _similarity(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Row by row in float64: (M, D) and (M, D) -> (M,)."""
    return (left.double() * right.double()).sum(1)


def _ranks(lead: torch.Tensor, candidates: int) -> np.ndarray:
    # a candidates above, b below, e equal, the true one among them: a + (e + 1) / 2 = (a + b + e + 1 + (a - b)) / 2.
    return ((candidates + 1 + lead) / 2).cpu().numpy()


def _unit(embeddings: torch.Tensor, name: str) -> torch.Tensor:
    if not torch.isfinite(embeddings).all():
        raise ValueError(f"the embeddings of the {name} are not all finite: the model has diverged.")
    return F.normalize(embeddings.float(), dim=-1)


def _check_gold(gold: torch.Tensor, queries: int, candidates: int) -> None:
    if gold.shape != (queries,) or (queries and not 0 <= int(gold.min()) <= int(gold.max()) < candidates):
        raise ValueError(f"gold must name one of the {candidates} candidates for each of {queries} queries.")
