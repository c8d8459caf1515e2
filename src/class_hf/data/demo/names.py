"""Names of compounds for the demo captions: substitutive names, and the two sides of a condensation.

A substitutive name has one parent: a numbered ring of the vocabulary or a chain. The senior principal group is the
suffix, all other groups are prefixes, with the lowest locants (a subset of IUPAC 2013, P-31, P-41 and P-44). A
compound outside the subset has no name.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from rdkit import Chem, rdBase

from class_hf.data.demo.prefixes import (
    DEEPEST,
    MULTIPLIERS,
    assemble,
    chain_bonds,
    chain_groups,
    chain_paths,
    depth,
    in_order,
    is_chain,
    is_charged,
    is_cycloalkane,
    prefix,
    ring_groups,
    takes_suffix,
    unsaturated,
)
from class_hf.data.demo.rings import Ring
from class_hf.data.demo.skeleton import DOUBLE, SINGLE, RingSystem, Skeleton, letters, number_ring, place, skeleton
from class_hf.data.demo.vocabulary import (
    BENZENE_NAMES,
    BENZENE_PARENTS,
    CHAIN_SUFFIXES,
    COMPONENTS,
    RETAINED_NAMES,
    SUFFIXES,
)

_SENIORITY = {name: rank for rank, name in enumerate(SUFFIXES)}
_ACID = re.compile("carboxy|sulfo(?!n)")
_LONGEST = 110  # characters; longer names are unreadable in a caption


@dataclass(frozen=True)
class Name:
    """A compound as its parent and its substituents.

    ``substituents`` are (locant, prefix) pairs in alphabetical order. The locant is empty if only one position is
    possible, and "N" on the nitrogen of the principal group. ``str()`` gives the full name.

    >>> str(Name("benzoic acid", (("2", "chloro"), ("4", "nitro"))))
    '2-chloro-4-nitrobenzoic acid'
    """

    parent: str
    substituents: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        name = assemble(self.substituents, self.parent)
        return RETAINED_NAMES.get(name, name)


class _Candidate(NamedTuple):
    """A parent with its rank: seniority of the parent, then of its numbering. The smallest rank wins."""

    seniority: tuple
    numbering: tuple
    name: Name


def _multiplied(suffix: str, count: int) -> str:
    """A suffix with its multiplier, such as diol. The final a of a multiplier is dropped before a vowel: tetrol."""
    multiplier = MULTIPLIERS[count]
    return (multiplier.removesuffix("a") if suffix[0] in "ao" else multiplier) + suffix


def _elided(stem: str, suffix: str) -> str:
    """A stem without its final e if the suffix begins with a vowel: pyridin-4-ol, pyridine-4-thiol."""
    return stem.removesuffix("e") if suffix[0] in "aeiouy" else stem


def _on_nitrogen(view: Skeleton, start: int, origin: int) -> tuple[str, list[str]] | None:
    """The unsubstituted form of an amino, carbamoyl or sulfamoyl group, and the substituents of its nitrogen."""
    oxo = [kid for kid in view.neighbours(start, origin) if view.bond(start, kid) == DOUBLE]
    kids = view.neighbours(start, origin, *oxo)
    form = {("N", 0): "amino", ("C", 1): "carbamoyl", ("S", 2): "sulfamoyl"}.get((view.symbol(start), len(oxo)))
    if form is None or any(view.symbol(kid) != "O" for kid in oxo):
        return None
    if form == "amino":
        nitrogen = start
    elif len(kids) == 1 and view.symbol(kids[0]) == "N":
        nitrogen, kids = kids[0], view.neighbours(kids[0], start)
    else:
        return None
    atom = view.atoms[nitrogen]
    if atom.IsInRing() or atom.GetFormalCharge() or not kids:
        return None
    names = []
    for kid in kids:
        plain = view.symbol(kid) == "C" and all(
            view.bond(kid, other) == SINGLE or view.symbol(other) == "C" or view.atoms[kid].IsInRing()
            for other in view.neighbours(kid)
        )
        name = prefix(view, kid, nitrogen) if plain and view.bond(kid, nitrogen) == SINGLE else None
        if name is None:
            return None
        names.append(name)
    return form, names


def _principal(
    view: Skeleton, groups: list[tuple[int, str]], atoms: list[int], inside: frozenset[int] | set[int]
) -> tuple[str | None, list[tuple[int, str]], list[str]]:
    """Senior group of a parent, all groups with that group unsubstituted, and the substituents of its nitrogen.

    ``groups`` refer to parent atoms by their index in ``atoms``.
    """
    best = next((name for name in SUFFIXES if any(name == group for _, group in groups)), None)
    rank = _SENIORITY[best] if best else len(SUFFIXES)
    for position, (index, name) in enumerate(groups):
        for start in view.neighbours(atoms[index], *inside):
            nitrogen = _on_nitrogen(view, start, atoms[index])
            if nitrogen and prefix(view, start, atoms[index]) == name and _SENIORITY[nitrogen[0]] < rank:
                plain = [*groups[:position], (index, nitrogen[0]), *groups[position + 1 :]]
                return nitrogen[0], plain, nitrogen[1]
    return best, groups, []


def _ring_parent(view: Skeleton, system: RingSystem) -> _Candidate | None:
    ring = system.ring
    nameable = ring is not None and ring.locants and not is_charged(view, system)
    groups = ring_groups(view, system) if nameable else None
    if ring is None or groups is None:
        return None
    principal: str | None = None
    nitrogen: list[str] = []
    if takes_suffix(system):
        atoms = list(range(view.molecule.GetNumAtoms()))
        principal, groups, nitrogen = _principal(view, groups, atoms, system.atoms)
    rank = _SENIORITY[principal] if principal else len(SUFFIXES)
    named, parent = principal, ring.name
    if ring.name == "benzene":
        plain = ring_groups(view, system) or []
        names = [name for _, name in plain]
        trivial = next((name for name in BENZENE_PARENTS if names.count(name) == 1), None)
        # Acetophenone and benzophenone are ketones, the other parents (toluene) have no principal group.
        level = _SENIORITY["oxo"] if trivial in ("acetyl", "benzoyl") else len(SUFFIXES)
        if trivial and (level < rank or rank == len(SUFFIXES)):
            named, parent, rank = trivial, BENZENE_PARENTS[trivial], level
            principal, groups, nitrogen = None, plain, []
    locants = number_ring(view, system, groups, {atom for atom, name in groups if name == named})
    rest = [(locants[atom], name) for atom, name in groups if name != named]
    where = sorted((locants[atom] for atom, name in groups if name == named), key=place)
    if principal:
        parent = _with_suffix(ring, where, SUFFIXES[principal], alone=not rest)
    elif not named and len(rest) == 1 and (ring.name == "benzene" or is_cycloalkane(ring)):
        rest = [("", rest[0][1])]
    heteroatoms = sum(view.symbol(atom) != "C" for atom in system.core)
    seniority = (rank, -len(where), 0, 0, -heteroatoms, -len(system.core), -len(groups))
    return _Candidate(seniority, (), Name(parent, in_order([*rest, *(("N", name) for name in nitrogen)])))


def _with_suffix(ring: Ring, locants: list[str], suffix: str, alone: bool) -> str:
    """Name of a ring with its principal groups, such as quinolin-8-ol or benzene-1,3-diol."""
    suffix = _multiplied(suffix, len(locants))
    if ring.name == "benzene":
        if len(locants) == 1:
            return BENZENE_NAMES.get(suffix, "benzene" + suffix)
        where = f"{','.join(locants)}-{suffix}"
        return BENZENE_NAMES.get(where, "benzene-" + where)
    stem = _elided(ring.name, suffix)
    if len(locants) == 1 and alone and is_cycloalkane(ring):
        return stem + suffix
    return f"{stem}-{','.join(locants)}-{suffix}"


def _chain_parent(view: Skeleton, path: list[int]) -> _Candidate | None:
    groups = chain_groups(view, path)
    if groups is None:
        return None
    principal, groups, nitrogen = _principal(view, groups, [-1, *path], set(path))
    where = sorted(locant for locant, name in groups if name == principal)
    first, last = 1 in where, len(path) in where and (len(path) > 1 or len(where) > 1)
    included = principal in CHAIN_SUFFIXES and len(where) == first + last
    if (included and last and not first) or (principal == "oxo" and len(path) == 1):
        return None  # the same chain is also tried from its other end; a ketone needs a longer chain
    shift = 1 if included else 0
    length = len(path) + (len(where) if included else 0)
    bonds = [(locant + shift, kind) for locant, kind in chain_bonds(view, path)]
    stem = unsaturated(length, bonds)
    if stem is None:
        return None
    if principal and included:
        suffix = _multiplied(CHAIN_SUFFIXES[principal], len(where))
        parent = _elided(stem + "e", suffix) + suffix
    elif principal:
        suffix = _multiplied(SUFFIXES[principal], len(where))
        needless = length == 1 or (length == 2 and len(where) == 1)
        parent = _elided(stem + "e", suffix) + ("" if needless else f"-{','.join(map(str, where))}-") + suffix
    else:
        parent = stem + "e"
    rest = [(locant + shift, name) for locant, name in groups if name != principal]
    single = length == 1 or (included and len(path) == 1)  # a single position needs no locant
    placed = [("" if single else str(locant), name) for locant, name in rest] + [("N", name) for name in nitrogen]
    rank = _SENIORITY[principal] if principal else len(SUFFIXES)
    return _Candidate(
        (rank, -len(where), 1, not included, -length, -len(bonds), -len(groups)),
        (
            where,
            sorted(bonds),
            sorted(locant for locant, _ in rest),
            [locant for locant, _ in sorted(rest, key=lambda group: (letters(group[1]), group[0]))],
        ),
        Name(RETAINED_NAMES.get(parent, parent), in_order(placed)),
    )


def _chains(view: Skeleton) -> list[list[int]]:
    """Candidate paths of the parent chain, in both directions.

    A path begins and ends at an end of the carbon chain, or at the neighbour of a carbon that the suffix includes
    (-oic acid).
    """
    chain = {index for index, atom in enumerate(view.atoms) if is_chain(atom)}
    ends = {index for index in chain if len(chain.intersection(view.adjacent[index])) < 2}
    bearing = {
        index
        for index in chain
        for other in view.neighbours(index, *chain)
        if (_on_nitrogen(view, other, index) or [prefix(view, other, index)])[0] in CHAIN_SUFFIXES
    }
    if len(ends | bearing) > 12:
        return []
    found = []
    for start in sorted(ends | bearing):
        for path in chain_paths(view, start):
            found += [path[:length] for length in range(1, len(path)) if path[length - 1] in bearing]
            found.append(path)
    return found


def compound_name(view: Skeleton) -> Name | None:
    """Name of a connected organic compound, if the subset of rules covers it.

    Args:
        view: one fragment. Isotopes and stereochemistry are left out of the name.

    Returns:
        Parent and substituents, or ``None`` if the subset has no name.

    >>> str(compound_name(skeleton(Chem.MolFromSmiles("OC(=O)c1ccc(cc1Cl)[N+](=O)[O-]"))))
    '2-chloro-4-nitrobenzoic acid'
    >>> str(compound_name(skeleton(Chem.MolFromSmiles("CCN(CC)CCO"))))
    '2-(diethylamino)ethanol'
    """
    component = COMPONENTS.get(Chem.MolToSmiles(view.molecule))
    if component:
        return Name(component)
    candidates = [_ring_parent(view, system) for system in view.systems]
    candidates += [_chain_parent(view, path) for path in _chains(view)]
    named = [candidate for candidate in candidates if candidate]
    if not named:
        return None
    best = min(named, key=lambda candidate: (*candidate[:2], str(candidate.name)))
    # An acid inside a prefix should have been the parent.
    hidden = best.seniority[0] > 1 and any(_ACID.search(name) for _, name in best.name.substituents)
    text = str(best.name)
    return None if hidden or len(text) > _LONGEST or depth(text) > DEEPEST else best.name


# --- condensations ----------------------------------------------------------------------------------


class Condensation(NamedTuple):
    """A compound as the formal condensation of others with loss of water.

    ``acids`` contribute the carboxy, sulfo or carbonyl group, ``bases`` the hydroxy or amino group. Each holds one
    name per molecule, sorted. ``partial`` says for acids and for bases whether such groups remain free.
    """

    kind: str
    acids: tuple[str, ...]
    bases: tuple[str, ...]
    partial: tuple[bool, bool] = (False, False)


_CARBOXY, _SULFO = "[CX3](=[OX1])[OX2H]", "[SX4](=[OX1])(=[OX1])[OX2H]"
_CARBONYL = "[CX3;$(C([#6])[#6]),$([CX3H1][#6])]=[OX1]"
_HYDROXY, _AMINO = "[OX2H][#6;!$(C=[O,S])]", "[NX3;!H0;+0;!$(N[#6]=[O,S,N]);!$(N~[!#6])]"
_OXO_ACID = "$([SX3](=[OX1])([OX2])[OX2]),$([SX4](=[OX1])(=[OX1])([OX2])[OX2]),$([CX3](=[OX1])([OX2])[OX2])"

# Kind; pattern from the atom of the acid to the atom of the base; order of the bond to the oxygen that the acid
# regains; groups of the acid and of the base.
_CONDENSATIONS = (
    ("hydrazone", "[CX3;$(C[#6])]=!@[NX2;$(N[N,O])]", DOUBLE, _CARBONYL, "[NX3;H2]"),
    (
        "ester",
        "[#6X3;$([#6][#6]),$([CX3H1])](=[OX1])-!@[OX2;$(O[#6;!$([#6]=[O,S,N])])]",
        SINGLE,
        _CARBOXY,
        _HYDROXY,
    ),
    ("inorganic ester", f"[BX3,PX3,PX4,{_OXO_ACID}]-!@[OX2;$(O[#6;!$([#6]=[O,S,N])])]", SINGLE, "", ""),
    ("sulfonic ester", "[SX4;$(S[#6])](=[OX1])(=[OX1])-!@[OX2;$(O[#6])]", SINGLE, _SULFO, _HYDROXY),
    (
        "sulfonamide",
        "[SX4;$(S[#6])](=[OX1])(=[OX1])-!@[NX3;+0;!$(N[!#6;!$(S(=O)=O)])]",
        SINGLE,
        _SULFO,
        _AMINO,
    ),
    (
        "amide",
        "[CX3;$(C[#6]),$([CX3H1])](=[OX1])-!@[NX3;+0;!$(N~[!#6]);!$(N(C=[O,S,N])C=[O,S,N])]",
        SINGLE,
        _CARBOXY,
        _AMINO,
    ),
    ("imine", "[CX3;$(C[#6]),$([CX3H2]);!$(C~[!#6;!#7])]=!@[NX2;$(N-[#6])]", DOUBLE, _CARBONYL, _AMINO),
)


@cache
def _condensation_patterns() -> list[tuple[str, Chem.Mol, Chem.BondType, tuple[Chem.Mol, Chem.Mol]]]:
    return [
        (kind, Chem.MolFromSmarts(bond), order, (Chem.MolFromSmarts(acid), Chem.MolFromSmarts(base)))
        for kind, bond, order, acid, base in _CONDENSATIONS
    ]


def condensation(view: Skeleton) -> Condensation | None:
    """Hydrolyses the esters, amides or imines of a connected compound, if all products have names.

    All bonds of a kind are cleaved together, at most three.

    >>> condensation(skeleton(Chem.MolFromSmiles("CCCCOC(=O)c1ccccc1")))
    Condensation(kind='ester', acids=('benzoic acid',), bases=('butan-1-ol',), partial=(False, False))
    """
    for kind, pattern, order, groups in _condensation_patterns():
        bonds = {(match[0], match[-1]) for match in view.molecule.GetSubstructMatches(pattern)}
        if not 0 < len(bonds) < 4:
            continue
        parts = Chem.RWMol(view.molecule)
        for acid, base in bonds:
            parts.RemoveBond(acid, base)
            parts.AddBond(acid, parts.AddAtom(Chem.Atom("O")), order)
        with rdBase.BlockLogs():
            if Chem.SanitizeMol(parts, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
                continue
        sides = [
            ({acid for acid, _ in bonds} & set(atoms), {base for _, base in bonds} & set(atoms))
            for atoms in Chem.GetMolFrags(parts)
        ]
        fragments = Chem.GetMolFrags(parts, asMols=True)
        names = [compound_name(skeleton(fragment)) for fragment in fragments]
        if None in names or any(acid and base for acid, base in sides):
            continue
        halves: tuple[list[str], list[str]] = ([], [])
        partial = [False, False]
        for fragment, name, ends in zip(fragments, names, sides, strict=True):
            side = 0 if ends[0] else 1
            halves[side].append(str(name))
            partial[side] |= len(fragment.GetSubstructMatches(groups[side])) > len(ends[side])
        return Condensation(kind, tuple(sorted(halves[0])), tuple(sorted(halves[1])), (partial[0], partial[1]))
    return None
