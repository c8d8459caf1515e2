"""The features of pairs that the difficulty definitions read: words of a caption, substructures of a molecule."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

from class_hf.models.smiles import parse_smiles

WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one array: row i is `values[offsets[i]:offsets[i + 1]]`.

    Attributes:
        values: (T,) the values, row after row.
        offsets: (N + 1,) int64, from 0 to T.

    >>> rows = Ragged.of([[3, 1, 3], [], [2]], np.uint64)
    >>> len(rows), rows.values.tolist(), rows.offsets.tolist(), rows.rows.tolist()
    (3, [3, 1, 3, 2], [0, 3, 3, 4], [0, 0, 0, 2])
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> np.ndarray:
        """(T,) the row of each value."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], dtype: type[np.unsignedinteger]) -> "Ragged":
        """Concatenates lists of integers."""
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        values = np.fromiter((value for row in rows for value in row), dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    def distinct(self) -> tuple["Ragged", np.ndarray]:
        """The distinct values of each row, ascending, and (T',) how often each occurs in its row."""
        return self.count(self.values, self.rows, len(self))

    @classmethod
    def count(cls, values: np.ndarray, rows: np.ndarray, size: int) -> tuple["Ragged", np.ndarray]:
        """The distinct values of each row, ascending, and (T',) how often each occurs in its row.

        Args:
            values: (T,) values in any order.
            rows: (T,) the row of each value.
            size: number of rows.
        """
        order = np.lexsort((values, rows))
        values, rows = values[order], rows[order]
        first = np.ones(len(values), bool)
        first[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
        counts = np.diff(np.append(np.flatnonzero(first), len(values)))
        lengths = np.bincount(rows[first], minlength=size)
        return cls(values[first], np.concatenate([[0], np.cumsum(lengths)])), counts

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """(N,) the mean of `weights` (T,) over each row. No row may be empty."""
        return np.bincount(self.rows, weights, minlength=len(self)) / np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class PairFeatures:
    """Pairs as the difficulty definitions read them. Each property has one entry, or one row, for each pair.

    Words and substructures are computed when they are first used.

    Args:
        ids: N names of the pairs.
        descriptions: N captions.
        smiles: N molecules.
        rows: N row numbers in the user's data set, for error messages. Default: errors name the id only.

    Raises:
        ValueError: if a caption has no word; names the row and its id.

    >>> pairs = PairFeatures(["a", "b"], ["An alcohol.", "An acid."], ["CCO", "CC(=O)O"])
    >>> len(pairs), np.diff(pairs.words.offsets).tolist(), pairs.sizes.tolist()
    (2, [2, 2], [[3, 0, 0], [4, 0, 0]])
    """

    ids: Sequence[str]
    descriptions: Sequence[str]
    smiles: Sequence[str]
    rows: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for position, description in enumerate(self.descriptions):
            if not WORD.search(description):
                raise ValueError(
                    f"{self.place(position)}: the description {description!r} has no word. Correct the row, or remove "
                    "it."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, position: int) -> str:
        """Row and id of a pair, as an error names them."""
        name = f"id {self.ids[position]}"
        return name if self.rows is None else f"row {self.rows[position]} ({name})"

    @cached_property
    def words(self) -> Ragged:
        """64-bit hashes of each caption's lower-case words, in order.

        A word is a run of letters and digits, so `N(6)-acetyl` has three.
        """
        hashes: dict[str, int] = {}
        rows: list[list[int]] = []
        for description in self.descriptions:
            words = WORD.findall(description.lower())
            for word in words:
                if word not in hashes:
                    hashes[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
            rows.append([hashes[word] for word in words])
        return Ragged.of(rows, np.uint64)

    @property
    def fragments(self) -> Ragged:
        """Each molecule's distinct Morgan substructure ids (radius 2, with chirality, not folded).

        Raises:
            ValueError: if a SMILES is refused, or the molecule has no atom; names the row and its id.
        """
        return self._structures[0]

    @property
    def sizes(self) -> np.ndarray:
        """(N, 3) int64: heavy atoms, rings, stereo marks (specified chiral atoms and E/Z bonds).

        Raises:
            ValueError: as for `fragments`.
        """
        return self._structures[1]

    @cached_property
    def _structures(self) -> tuple[Ragged, np.ndarray]:
        fragments: list[list[int]] = []
        sizes = np.zeros((len(self), 3), np.int64)
        for position, smiles in enumerate(self.smiles):
            try:
                mol = parse_smiles(smiles)
            except ValueError as error:
                raise ValueError(
                    f"{self.place(position)}: {error} Correct the row, or load the data set with "
                    'on_error="drop" to drop and list such rows.'
                ) from None
            # The count vector has the unfolded ids; the bit vector does not.
            fragments.append(list(_morgan().GetSparseCountFingerprint(mol).GetNonzeroElements()))
            sizes[position] = mol.GetNumHeavyAtoms(), rdMolDescriptors.CalcNumRings(mol), _stereo_marks(mol)
        return Ragged.of(fragments, np.uint64), sizes


# In a cache and not in an attribute: RDKit objects would change the scorer's pickle from run to run, and with it the
# key under which `datasets` caches.
@lru_cache(maxsize=1)
def _morgan() -> Any:
    """RDKit's generator of Morgan fingerprints."""
    return rdFingerprintGenerator.GetMorganGenerator(radius=2, includeChirality=True)


def _stereo_marks(mol: Any) -> int:
    """Number of specified chiral atoms and specified double bonds."""
    atoms = sum(atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED for atom in mol.GetAtoms())
    return atoms + sum(bond.GetStereo() > Chem.BondStereo.STEREOANY for bond in mol.GetBonds())


@dataclass(frozen=True)
class Frequencies:
    """The number of training rows that contain each term.

    Attributes:
        terms: (V,) distinct term hashes, ascending.
        counts: (V,) number of rows with the term.
        total: N, the number of rows.

    >>> frequencies = Frequencies.of(Ragged.of([[1], [1, 7]], np.uint64))
    >>> frequencies.terms.tolist(), frequencies.counts.tolist(), frequencies.total
    ([1, 7], [2, 1], 2)
    """

    terms: np.ndarray
    counts: np.ndarray
    total: int

    @classmethod
    def of(cls, rows: Ragged) -> "Frequencies":
        """Counts the terms of rows. The terms of each row must be distinct."""
        terms, counts = np.unique(rows.values, return_counts=True)
        return cls(terms, counts, len(rows))

    def find(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T,) place of each value in `terms`, and (T,) whether it occurs there."""
        places = np.minimum(np.searchsorted(self.terms, values), len(self.terms) - 1)
        return places, self.terms[places] == values

    def rarity(self, rows: Ragged, *, seen: bool) -> np.ndarray:
        """How rare the terms of each row are among the other training rows.

        The rarity of a row is the mean of -log((n + 1) / (M + 1)) over its distinct terms, where n of the M other
        training rows contain the term. A term that no other row contains counts the same in a training row as in a
        new row.

        Args:
            rows: B rows of terms.
            seen: whether the rows are the training rows themselves.

        Returns:
            (B,) float64.
        """
        rows, _ = rows.distinct()
        places, known = self.find(rows.values)
        others = np.where(known, self.counts[places], 0) - seen
        return rows.mean(np.log((self.total - seen + 1) / (others + 1)))


def first_by_hash(ids: Sequence[str], count: int) -> np.ndarray:
    """Sorted places of the ids with the smallest hashes: a sample that does not depend on the order of the rows.

    >>> len(first_by_hash(["a", "b", "c"], 2))
    2
    """
    digests = [blake2b(name.encode(), digest_size=16).digest() for name in ids]
    return np.array(sorted(sorted(range(len(ids)), key=digests.__getitem__)[:count]), np.int64)
