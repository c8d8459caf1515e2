"""What a search asks for and what it returns: checked queries, filters and hits."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from class_hf.models.argument_checks import has_word
from class_hf.search.conditions import Condition, parse_conditions

# Limits of a query. Longer input is a mistake, or an attempt to keep the machine busy.
MAX_TEXT = 10_000
MAX_SMILES = 2_000
MAX_SMARTS = 1_000
MAX_K = 10_000

# The element symbols in the order of their atomic numbers, from 1.
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
        rank (`int`): position in the results, from 1.
        score (`float`): cosine similarity of query and candidate in [-1, 1]. If the query bank is used, the
            candidate's penalty is subtracted.
        id (`str`): id of the molecule.
        smiles (`str`): SMILES of the molecule.
        fields (`dict`): the other columns of the indexed table, by name.
    """

    rank: int
    score: float
    id: str
    smiles: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MoleculeFilter:
    """Conditions that a molecule must meet to be a hit. All of them must hold.

    Args:
        min_weight (`float`, *optional*): smallest average molecular weight in Da, inclusive.
        max_weight (`float`, *optional*): largest average molecular weight in Da, inclusive.
        elements (`str` or list of `str`, *optional*): element symbols. The molecule must contain all of them.
        substructure (`str`, *optional*): SMARTS pattern that must match.
        time_limit (`float`, defaults to 10.0): seconds for matching the substructure. Matching runs in a process of
            its own, which is ended at the limit, because some patterns take years to match.
        use_stereo (`bool`, defaults to `True`): whether the chirality and double-bond marks of the pattern must match.
            With `False` they are ignored.
        where (`str`, *optional*): comparisons on the columns of the indexed table, joined by `and`, for instance
            `'logS < -2 and vendor = "x"'`. See [`~class_hf.search.conditions.parse_conditions`].
        min_score (`float`, *optional*): smallest score of a hit.

    Raises:
        ValueError: If a number is out of range, a symbol is not an element, the bounds exclude each other, or a string
            is malformed. RDKit parses the pattern later, when the filter is used.

    Example:

    >>> MoleculeFilter(max_weight=500, elements=["N", "S"]).elements
    ('N', 'S')
    """

    min_weight: float | None = None
    max_weight: float | None = None
    elements: Sequence[str] | None = None
    substructure: str | None = None
    time_limit: float = 10.0
    use_stereo: bool = True
    where: str | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_weight", "max_weight"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not 0 <= value < float("inf")):
                raise ValueError(f"{name} is {_shorten(value)}; expected a weight in Da, 0 or more.")
        if self.min_weight is not None and self.max_weight is not None and self.min_weight > self.max_weight:
            raise ValueError(f"min_weight is {self.min_weight:g}, above max_weight {self.max_weight:g}.")
        if self.elements is not None:
            object.__setattr__(self, "elements", _check_elements(self.elements))
        if self.substructure is not None:
            check_notation(self.substructure, "substructure", MAX_SMARTS, "a SMARTS such as 'C(=O)O'")
        if not _is_number(self.time_limit) or not 0 < self.time_limit < float("inf"):
            raise ValueError(f"time_limit is {_shorten(self.time_limit)}; expected seconds, more than 0.")
        if not isinstance(self.use_stereo, bool):
            raise ValueError(f"use_stereo is {_shorten(self.use_stereo)}; expected True or False.")
        if self.where is not None:
            self.conditions  # noqa: B018 (parses them)
        if self.min_score is not None and (not _is_number(self.min_score) or not abs(self.min_score) < float("inf")):
            raise ValueError(f"min_score is {_shorten(self.min_score)}; expected a number, for instance 0.3.")

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The parsed comparisons of `where`."""
        return () if self.where is None else parse_conditions(self.where)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that `where` compares."""
        return tuple(dict.fromkeys(condition.column for condition in self.conditions))

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        conditions = (self.min_weight, self.max_weight, self.elements, self.substructure, self.where, self.min_score)
        return any(condition is not None for condition in conditions)


def check_string(value: Any, name: str, max_length: int, expected: str) -> str:
    """Checks that a value can be a query.

    Args:
        value: the value to check.
        name (`str`): name of the argument, for the error.
        max_length (`int`): largest number of characters.
        expected (`str`): description of a valid value, for the error.

    Returns:
        `str`: the string without white space at its ends.

    Raises:
        ValueError: If the value is not a string, is empty or too long, or contains control characters.

    >>> check_string(" an ester\\n", "text", 100, "a description")
    'an ester'
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_shorten(value)}; expected {expected}.")
    if not value.strip():
        raise ValueError(f"{name} is empty; expected {expected}.")
    if len(value) > max_length:
        raise ValueError(f"{name} has {len(value):,} characters; the limit is {max_length:,}.")
    for position, character in enumerate(value):
        # Cc: control characters. Cs: halves of UTF-16 pairs, which no encoding accepts.
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            raise ValueError(f"{name} contains the control character {character!r} at position {position}; remove it.")
    return value.strip()


def check_description(value: Any, name: str) -> str:
    """Checks that a value can be a description of a molecule, and returns it without white space at its ends.

    Args:
        value: the value to check.
        name (`str`): name of the argument, for the error.

    Raises:
        ValueError: As for [`check_string`], or if there is no letter and no digit.

    >>> check_description("?!", "text")
    Traceback (most recent call last):
    ValueError: text '?!' has no letter and no digit; expected a description of a molecule.
    """
    text = check_string(value, name, MAX_TEXT, "a description of a molecule")
    if not has_word(text):
        raise ValueError(f"{name} {_shorten(text)} has no letter and no digit; expected a description of a molecule.")
    return text


_NOTATION = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$:.%/\\*]{3,}")


def looks_like_smiles(text: str) -> bool:
    """Whether a description is a SMILES with a branch, bond, bracket or ring. A word such as `CCO` is none of these.

    >>> [looks_like_smiles(text) for text in ("c1ccccc1O", "CCO", "a thiol", "C60")]
    [True, False, False, False]
    """
    if not _NOTATION.fullmatch(text) or not any(mark in text for mark in "=#()[]123456789"):
        return False
    from class_hf.models.smiles import parse_smiles  # imports RDKit, which few descriptions need

    try:
        parse_smiles(text)
    except ValueError:
        return False
    return True


def check_notation(value: Any, name: str, max_length: int, expected: str) -> str:
    """Checks that a value can be a SMILES or SMARTS, and returns it without white space at its ends.

    RDKit drops non-ASCII characters at the ends of a SMILES and ignores words after it, so both are refused here. One
    extension between vertical bars may follow, as in `C[C@H](O)CC |&1:1|` (CXSMILES). RDKit reads it.

    Args:
        value: the value to check.
        name (`str`): name of the argument, for the error.
        max_length (`int`): largest number of characters.
        expected (`str`): description of a valid value, for the error.

    Raises:
        ValueError: As for [`check_string`], or if there are non-ASCII characters or further words.

    >>> check_notation("CCO ethanol", "smiles", 100, "a SMILES")
    Traceback (most recent call last):
    ValueError: smiles 'CCO ethanol' has text after the white space; only a |...| extension may follow.
    """
    text = check_string(value, name, max_length, expected)
    for position, character in enumerate(text):
        if not character.isascii():
            character_name = unicodedata.name(character, "unnamed")
            raise ValueError(
                f"{name} {_shorten(text)} contains the non-ASCII character {character!r} ({character_name}) at "
                f"position {position}; expected ASCII characters only."
            )
    words = text.split(maxsplit=1)
    if len(words) > 1 and not re.fullmatch(r"\|[^|]*\|", words[1]):
        raise ValueError(f"{name} {_shorten(text)} has text after the white space; only a |...| extension may follow.")
    return text


def check_k(k: Any) -> int:
    """Checks the number of hits.

    Raises:
        ValueError: If it is not an integer from 1 to `MAX_K`.

    >>> check_k(0)
    Traceback (most recent call last):
    ValueError: k is 0; expected a whole number from 1 to 10,000.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
        raise ValueError(f"k is {_shorten(k)}; expected a whole number from 1 to {MAX_K:,}.")
    return k


def _check_elements(elements: Any) -> tuple[str, ...] | None:
    """The different symbols, in their order. None if there are none."""
    if not isinstance(elements, str | list | tuple | set | frozenset):
        raise ValueError(f"elements is {_shorten(elements)}; expected element symbols such as 'N, Cl'.")
    symbols = re.split(r"[\s,]+", elements.strip()) if isinstance(elements, str) else elements
    for symbol in symbols:
        if symbol not in ELEMENTS:
            raise ValueError(f"{_shorten(symbol)} is not an element symbol; expected symbols such as C, N, Cl.")
    return tuple(dict.fromkeys(symbols)) or None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shorten(value: Any) -> str:
    """The value's repr, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
