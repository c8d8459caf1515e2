"""Exchanges captions between pairs, to make data sets with a known share of wrong pairs."""

from typing import Literal

import numpy as np
from datasets import Dataset
from rdkit.Chem import rdFingerprintGenerator

from class_hf.data.prepare import molecule_key
from class_hf.data.smiles import read_smiles

# Columns that are computed from the captions and would be wrong after an exchange.
_DERIVED = ("text_features", "text_key", "text_pooled", "text_difficulty", "molecule_difficulty", "difficulty")
_LABEL = "exchanged"
_NEAREST = 32  # neighbours that are cached for each row
_BLOCK = 512


def exchange_captions(
    dataset: Dataset, share: float, seed: int = 0, among: Literal["random", "neighbours"] = "random"
) -> Dataset:
    """Exchanges captions among a share of the pairs, and labels the exchanged pairs.

    Use it to measure how well wrong pairs are found, and how training copes with them. The result depends only on the
    arguments. With the same seed, the rows chosen by a larger share contain the rows chosen by a smaller one.

    - `"random"`: the captions of the chosen rows are shuffled, so that no chosen row keeps its caption.
    - `"neighbours"`: the chosen rows are paired by the Tanimoto similarity of their Morgan fingerprints (radius 2,
      2048 bits), and each pair swaps its captions. The pairing is greedy: the most similar two rows first, then the
      most similar two of the remaining rows, and so on. Such wrong pairs are harder to find.

    A row never receives a caption that its molecule has anywhere in the data set, because that pair would be right. A
    row without a possible partner keeps its caption and the label `False`, for instance the last row of an odd number
    with `"neighbours"`.

    Args:
        dataset (`Dataset`): pairs with the columns `smiles` and `description`.
        share (`float`): share of the rows to exchange, in [0, 1]. The number of rows is rounded.
        seed (`int`, *optional*, defaults to 0): seed of the choice of rows and of the shuffle.
        among (`str`, *optional*, defaults to `"random"`): `"random"` or `"neighbours"`. The similarities of N chosen
            rows take O(N^2) time: about 15 s on one CPU core for 11,000 rows.

    Returns:
        The data set in its order, with the exchanged captions in `description` and a boolean column `exchanged`.

    Raises:
        ValueError: if an argument is out of range, a column is missing, the data set has a column that was computed
            from the captions (exchange before preparing and scoring), fewer than two rows are chosen, or RDKit cannot
            parse a SMILES.

    Example:

    >>> from datasets import Dataset
    >>> texts = ["ethanol", "propan-1-ol", "benzene", "toluene"]
    >>> pairs = Dataset.from_dict({"smiles": ["CCO", "CCCO", "c1ccccc1", "Cc1ccccc1"], "description": texts})
    >>> exchange_captions(pairs, 1.0, among="neighbours")["description"][:]
    ['propan-1-ol', 'ethanol', 'toluene', 'benzene']
    >>> sum(exchange_captions(pairs, 0.5)["exchanged"][:])
    2
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share}; expected a number in [0, 1].")
    if among not in ("random", "neighbours"):
        raise ValueError(f"among is {among!r}; expected 'random' or 'neighbours'.")
    missing = [name for name in ("smiles", "description") if name not in dataset.column_names]
    if missing:
        raise ValueError(f"the data set has no column {', '.join(missing)}; its columns are {dataset.column_names}.")
    derived = [name for name in (*_DERIVED, _LABEL) if name in dataset.column_names]
    if derived:
        raise ValueError(
            f"the data set has the column {derived[0]!r}, which an exchange of captions would invalidate. Remove the "
            "column, or exchange the captions before the data set is prepared and scored."
        )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(dataset))[: round(share * len(dataset))]
    if len(chosen) == 1 or (share > 0.0 and not len(chosen)):
        raise ValueError(
            f"share is {share}, which chooses {len(chosen)} of {len(dataset)} rows; expected at least 2 rows."
        )
    captions = dataset["description"][:]
    texts = [captions[row] for row in chosen]
    smiles = [dataset[int(row)]["smiles"] for row in chosen]
    right = _RightPairs(dataset["smiles"][:], captions, chosen)
    if among == "random":
        sources = _derangement(right, rng)
    else:
        sources = _pair_neighbours(_fingerprints(smiles), right)
    exchanged = np.zeros(len(dataset), bool)
    for position, source in enumerate(sources):
        if source != position:
            captions[chosen[position]] = texts[source]
            exchanged[chosen[position]] = True
    order = dataset.column_names
    features = dataset.features["description"]
    result = dataset.remove_columns("description").add_column("description", captions, feature=features)
    return result.select_columns(order).add_column(_LABEL, exchanged.tolist())


class _RightPairs:
    """The pairs of a molecule and a caption that occur in a data set, for the chosen rows of it.

    Args:
        smiles, captions: the columns of the data set.
        chosen: numbers of the chosen rows. All methods count the chosen rows from 0.
    """

    def __init__(self, smiles: list[str], captions: list[str], chosen: np.ndarray):
        molecules = np.array([molecule_key(text) for text in smiles], np.int64)
        owners: dict[str, set[int]] = {}
        for caption, molecule in zip(captions, molecules.tolist(), strict=True):
            owners.setdefault(caption, set()).add(molecule)
        self.molecules = molecules[chosen]
        # Molecules of the captions that have several. Any other caption belongs to the molecule of its row only.
        self.owners = {
            position: np.array(sorted(owners[captions[row]]))
            for position, row in enumerate(chosen)
            if len(owners[captions[row]]) > 1
        }

    def __len__(self) -> int:
        return len(self.molecules)

    def holds(self, row: int, source: int) -> bool:
        """Whether the molecule of a row with the caption of another row is a right pair."""
        return bool((self.owners.get(source, self.molecules[source]) == self.molecules[row]).any())

    def swaps(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(R, S): whether swapping the captions of two rows makes a right pair."""
        matrix = self.molecules[rows, None] == self.molecules[others]
        for place, row in enumerate(rows.tolist()):
            if row in self.owners:
                matrix[place] |= np.isin(self.molecules[others], self.owners[row])
        for place, row in enumerate(others.tolist()):
            if row in self.owners:
                matrix[:, place] |= np.isin(self.molecules[rows], self.owners[row])
        return matrix


def _derangement(right: _RightPairs, rng: np.random.Generator) -> np.ndarray:
    """A random permutation without right pairs; a row that cannot take any other caption keeps its own."""
    sources = rng.permutation(len(right))
    for row in range(len(right)):
        if not right.holds(row, sources[row]):
            continue
        for other in rng.permutation(len(right)):
            if not right.holds(row, sources[other]) and not right.holds(other, sources[row]):
                sources[row], sources[other] = sources[other], sources[row]
                break
    # Rows without a solution, for instance if all molecules are equal. Giving a row its own caption back can pair its
    # holder with a right caption, so repeat.
    changed = True
    while changed:
        changed = False
        for row in range(len(right)):
            if sources[row] != row and right.holds(row, sources[row]):
                holder = int(np.flatnonzero(sources == row)[0])
                sources[holder], sources[row] = sources[row], row
                changed = True
    return sources


def _fingerprints(smiles: list[str]) -> np.ndarray:
    """Morgan fingerprints of radius 2 with 2048 bits, as 0.0 and 1.0 in float32."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    bits = np.zeros((len(smiles), 2048), np.float32)
    for row, text in enumerate(smiles):
        molecule, fault = read_smiles(text)
        if molecule is None:
            raise ValueError(f"{fault}. Load the pairs with load_chebi20 first.")
        bits[row] = generator.GetFingerprintAsNumPy(molecule)
    return bits


def _pair_neighbours(bits: np.ndarray, right: _RightPairs) -> np.ndarray:
    """Greedy pairing by Tanimoto similarity, as the partner of each row; an unpaired row is its own partner.

    Two rows that are each other's best remaining partner are paired by the greedy procedure in any case. Pairing all
    such rows, and repeating, therefore gives the greedy result without sorting all N^2 similarities.
    """
    partners = np.arange(len(bits))
    free = np.ones(len(bits), bool)
    counts = bits.sum(axis=1)
    nearest = np.full((len(bits), _NEAREST), -1)
    position = np.full(len(bits), _NEAREST)
    while free.any():
        # Skip cached neighbours that were paired. Rows without a cached neighbour are searched again.
        for row in np.flatnonzero(free):
            while position[row] < _NEAREST and nearest[row, position[row]] >= 0:
                if free[nearest[row, position[row]]]:
                    break
                position[row] += 1
        exhausted = np.flatnonzero(free & (position == _NEAREST))
        candidates = np.flatnonzero(free)
        for start in range(0, len(exhausted), _BLOCK):
            rows = exhausted[start : start + _BLOCK]
            nearest[rows] = _nearest(bits, counts, right, rows, candidates)
            position[rows] = 0
        best = np.where(free, nearest[np.arange(len(bits)), np.minimum(position, _NEAREST - 1)], -1)
        rows = np.flatnonzero(best >= 0)
        rows = rows[best[best[rows]] == rows]
        if not len(rows):
            break
        partners[rows] = best[rows]
        free[rows] = False
    return partners


def _nearest(
    bits: np.ndarray, counts: np.ndarray, right: _RightPairs, rows: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """The most similar candidates of each row, best first, padded with -1; ties in the order of the rows."""
    common = (bits[rows] @ bits[candidates].T).astype(np.float64)
    union = counts[rows, None] + counts[candidates] - common
    similarity = common / np.maximum(union, 1.0)
    # Two different similarities differ by at least 1 / 2048^2, so this breaks ties only.
    order_key = similarity - 1e-7 * candidates / len(bits)
    order_key[right.swaps(rows, candidates)] = -np.inf  # also each row with itself
    count = min(_NEAREST, len(candidates))
    best = np.argpartition(-order_key, count - 1, axis=1)[:, :count]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(order_key, best, 1), axis=1), 1)
    allowed = np.take_along_axis(order_key, best, 1) > -np.inf
    result = np.full((len(rows), _NEAREST), -1)
    result[:, :count] = np.where(allowed, candidates[best], -1)
    return result
