"""The features of pairs that the difficulty definitions read: words of a caption, substructures of a molecule."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, end to end: row i is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        values: (T,) the rows' values.
        offsets: (N + 1,) int64, starting at 0 and ending at T.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> np.ndarray:
        """(T,) the row that each value belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], dtype: type[np.unsignedinteger]) -> "Ragged":
        """Lay lists of integers end to end."""
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        values = np.fromiter((value for row in rows for value in row), dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    def distinct(self) -> tuple["Ragged", np.ndarray]:
        """Each row's distinct values, ascending, and (T',) how often each occurs in its row."""
        return self.count(self.values, self.rows, len(self))

    @classmethod
    def count(cls, values: np.ndarray, rows: np.ndarray, size: int) -> tuple["Ragged", np.ndarray]:
        """The distinct values of each of ``size`` rows; (T,) values and the row of each come in any order."""
        order = np.lexsort((values, rows))
        values, rows = values[order], rows[order]
        first = np.ones(len(values), bool)
        first[1:] = (values[1:] != values[:-1]) | (rows[1:] != rows[:-1])
        counts = np.diff(np.append(np.flatnonzero(first), len(values)))
        lengths = np.bincount(rows[first], minlength=size)
        return cls(values[first], np.concatenate([[0], np.cumsum(lengths)])), counts

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """(N,) the mean over each row of ``weights`` (T,); rows must not be empty."""
        return np.bincount(self.rows, weights, minlength=len(self)) / np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class PairFeatures:
    """Pairs as the definitions of difficulty read them. Each property has one entry, or one row, a pair.

    Words and substructures are read when they are first asked for; alignment needs neither.

    Args:
        ids, descriptions, smiles: the pairs' columns, N strings each.
        rows: the rows' numbers in the user's data set, for the messages of errors.

    Raises:
        ValueError: if a caption holds no word; names the row and its id.
    """

    ids: Sequence[str]
    descriptions: Sequence[str]
    smiles: Sequence[str]
    rows: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for i, description in enumerate(self.descriptions):
            if not WORD.search(description):
                raise ValueError(
                    f"{self._where(i)}: the description {description!r} holds no word. Mend the row, or drop it."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def _where(self, i: int) -> str:
        name = f"id {self.ids[i]}"
        return name if self.rows is None else f"row {self.rows[i]} ({name})"

    @cached_property
    def words(self) -> Ragged:
        """64-bit hashes of each caption's lower-cased words, in order.

        Any run of letters and digits is a word, so ``N(6)-acetyl`` has three.
        """
        hashes: dict[str, int] = {}
        rows: list[list[int]] = []
        for description in self.descriptions:
            found = WORD.findall(description.lower())
            for word in found:
                if word not in hashes:
                    hashes[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
            rows.append([hashes[word] for word in found])
        return Ragged.of(rows, np.uint64)

    @property
    def fragments(self) -> Ragged:
        """Each molecule's distinct Morgan substructure ids (radius 2, chirality, not folded).

        Raises:
            ValueError: if RDKit cannot parse a SMILES or finds no atom in it; names the row and its id.
        """
        return self._structures[0]

    @property
    def sizes(self) -> np.ndarray:
        """(N, 3) int64: heavy atoms, rings, stereo marks (chiral atoms and E/Z bonds as given). Errors as above."""
        return self._structures[1]

    @cached_property
    def _structures(self) -> tuple[Ragged, np.ndarray]:
        fragments: list[list[int]] = []
        sizes = np.zeros((len(self), 3), np.int64)
        with rdBase.BlockLogs():
            for i, smiles in enumerate(self.smiles):
                mol = Chem.MolFromSmiles(smiles)
                if mol is None or mol.GetNumAtoms() == 0:
                    raise ValueError(
                        f"{self._where(i)}: RDKit cannot parse the SMILES {smiles!r}. Mend the row, or load "
                        'the data set with on_error="drop" to skip and list such rows.'
                    )
                # The count vector is asked for, not the bit vector, because only its ids are the unfolded ones.
                fragments.append(list(_morgan().GetSparseCountFingerprint(mol).GetNonzeroElements()))
                sizes[i] = mol.GetNumHeavyAtoms(), rdMolDescriptors.CalcNumRings(mol), _stereo_marks(mol)
        return Ragged.of(fragments, np.uint64), sizes


# Behind a cache, and not an attribute of the scorer: RDKit objects would make its pickle, and with it the
# key under which `datasets` caches, differ from run to run.
@lru_cache(maxsize=1)
def _morgan() -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=2, includeChirality=True)


def _stereo_marks(mol: Any) -> int:
    atoms = sum(atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED for atom in mol.GetAtoms())
    return atoms + sum(bond.GetStereo() > Chem.BondStereo.STEREOANY for bond in mol.GetBonds())


@dataclass(frozen=True)
class Frequencies:
    """In how many training rows each term occurs.

    Attributes:
        terms: (V,) distinct term hashes, ascending.
        counts: (V,) rows that hold the term.
        total: N, the number of rows.
    """

    terms: np.ndarray
    counts: np.ndarray
    total: int

    @classmethod
    def of(cls, rows: Ragged) -> "Frequencies":
        """Count rows of *distinct* terms."""
        terms, counts = np.unique(rows.values, return_counts=True)
        return cls(terms, counts, len(rows))

    def find(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T,) place of each value in ``terms``, and whether it is there at all."""
        places = np.minimum(np.searchsorted(self.terms, values), len(self.terms) - 1)
        return places, self.terms[places] == values

    def rarity(self, rows: Ragged, *, seen: bool) -> np.ndarray:
        """(N,) mean over a row's distinct terms of -log of the smoothed share of *other* rows with the term.

        -log((n + 1) / (M + 1)), with n of the M other training rows holding the term: a term that no other
        row has weighs the same in a training row (``seen``) as in a new one.
        """
        rows, _ = rows.distinct()
        places, known = self.find(rows.values)
        others = np.where(known, self.counts[places], 0) - seen
        return rows.mean(np.log((self.total - seen + 1) / (others + 1)))
