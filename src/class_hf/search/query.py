"""What a search asks for and what it gives: filters and hits."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# More than any caption or molecule of use; what is longer is a mistake, or made to keep the machine busy.
MAX_TEXT = 10_000
MAX_SMILES = 2_000
MAX_SMARTS = 1_000
MAX_K = 10_000

# The symbols in the order of their atomic numbers, from 1.
ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts "
    "Og"
).split()


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        rank: from 1.
        score: cosine of query and candidate in [-1, 1]; less the candidate's penalty under a query bank.
        id: of the molecule.
        smiles: of the molecule.
        fields: the table's further columns.
    """

    rank: int
    score: float
    id: str
    smiles: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MoleculeFilter:
    """Which molecules a search may give; all conditions must hold.

    Args:
        min_weight, max_weight: bounds of the average molecular weight in Da, both included.
        elements: symbols of elements that the molecule must contain, each of them.
        substructure: SMARTS that must match.
        time_limit: seconds that a query may spend on matching the substructure. A pattern can be written so that its
            matching takes years; it runs in a process of its own, which is ended then.

    Raises:
        ValueError: if a bound is no number or they exclude each other, a symbol is no element, the SMARTS is empty or
            too long. Whether the SMARTS can be parsed shows when it is used.

    Example:

    >>> MoleculeFilter(max_weight=500, elements=["N", "S"]).elements
    ('N', 'S')
    """

    min_weight: float | None = None
    max_weight: float | None = None
    elements: Sequence[str] | None = None
    substructure: str | None = None
    time_limit: float = 10.0

    def __post_init__(self) -> None:
        for name in ("min_weight", "max_weight"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or not 0 <= value < float("inf")):
                raise ValueError(f"{name} is {value!r}; expected a weight in Da, 0 or more.")
        if self.min_weight is not None and self.max_weight is not None and self.min_weight > self.max_weight:
            raise ValueError(f"min_weight is {self.min_weight:g}, above max_weight {self.max_weight:g}.")
        if self.elements is not None:
            symbols = re.split(r"[\s,]+", self.elements.strip()) if isinstance(self.elements, str) else self.elements
            for symbol in symbols:
                if symbol not in ELEMENTS:
                    raise ValueError(f"{symbol!r} is no element's symbol; expected symbols such as C, N, Cl.")
            object.__setattr__(self, "elements", tuple(dict.fromkeys(symbols)) or None)
        if self.substructure is not None:
            check_string(self.substructure, "substructure", MAX_SMARTS, "a SMARTS such as 'C(=O)O'")
        if not isinstance(self.time_limit, int | float) or not 0 < self.time_limit < float("inf"):
            raise ValueError(f"time_limit is {self.time_limit!r}; expected seconds, more than 0.")

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        return any(value is not None for value in (self.min_weight, self.max_weight, self.elements, self.substructure))


def check_string(value: Any, name: str, longest: int, expected: str) -> str:
    """The string, if it can be a query at all.

    Raises:
        ValueError: if it is no string, empty, too long, or holds control characters.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_shown(value)}; expected {expected}.")
    if not value.strip():
        raise ValueError(f"{name} is empty; expected {expected}.")
    if len(value) > longest:
        raise ValueError(f"{name} has {len(value):,} characters; at most {longest:,} are taken.")
    for place, character in enumerate(value):
        # Cc: control characters; Cs: halves of UTF-16 pairs, which no encoding takes.
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            raise ValueError(f"{name} holds the control character {character!r} at place {place}; remove it.")
    return value.strip()


def check_k(k: Any) -> int:
    """The number of hits asked for.

    Raises:
        ValueError: if it is no integer from 1 to `MAX_K`.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
        raise ValueError(f"k is {_shown(k)}; expected a whole number from 1 to {MAX_K:,}.")
    return k


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
