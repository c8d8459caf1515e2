"""Names of rings, substituents and compounds for the demo captions, by a subset of the IUPAC rules.

Substitutive names of one parent: a numbered ring of :data:`~class_hf.data.demo_vocabulary.RINGS` or a
saturated chain, with its senior principal group as the suffix and everything else as prefixes, lowest
locants first (IUPAC 2013, P-31 and P-44, as far as they go). What the subset cannot name has no name:
every function returns ``None`` rather than an approximation.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from rdkit import Chem

from .demo_vocabulary import (
    ALKANE_STEMS,
    BENZENE_NAMES,
    BENZENE_PARENTS,
    CHAIN_SUFFIXES,
    COMPONENTS,
    COMPOSITE_SUBSTITUENTS,
    RETAINED_NAMES,
    RINGS,
    SUBSTITUENTS,
    SUFFIXES,
    Ring,
)

MULTIPLIERS = ("", "", "di", "tri", "tetra", "penta", "hexa", "hepta", "octa", "nona", "deca")
_DOUBLE = Chem.BondType.DOUBLE


@dataclass(frozen=True)
class Name:
    """A compound as its parent and its substituents.

    ``substituents`` holds (locant, prefix) pairs; the locant is empty where there is no choice.
    ``str()`` is the whole name.

    >>> str(Name("benzoic acid", (("2", "chloro"), ("4", "nitro"))))
    '2-chloro-4-nitrobenzoic acid'
    """

    parent: str
    substituents: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return _assemble(self.substituents, self.parent)


@dataclass(frozen=True)
class RingSystem:
    """Rings that share atoms: their atoms, the same with doubly bonded O and S, and the table's entry."""

    core: frozenset[int]
    atoms: frozenset[int]
    ring: Ring | None


@dataclass(frozen=True)
class Skeleton:
    """A molecule with its ring systems, the view of it that all naming functions take."""

    molecule: Chem.Mol
    systems: tuple[RingSystem, ...]

    def system_of(self, atom: int) -> RingSystem | None:
        """Ring system that an atom is a ring atom of, if any."""
        return next((system for system in self.systems if atom in system.core), None)


# --- rings ------------------------------------------------------------------------------------------


def _ring_key(molecule: Chem.Mol, atoms: Iterable[int]) -> str:
    """Canonical SMILES of some atoms without hydrogens, so that all tautomers of a ring are one."""
    symbols = []
    for atom in molecule.GetAtoms():
        symbol = atom.GetSymbol().lower() if atom.GetIsAromatic() else atom.GetSymbol()
        symbols.append(f"[{symbol}{atom.GetFormalCharge() or ''}]")
    return Chem.MolFragmentToSmiles(molecule, list(atoms), atomSymbols=symbols)


@lru_cache(maxsize=1)
def _rings() -> dict[str, tuple[Ring, Chem.Mol]]:
    """The table of rings by key, each with its molecule as the pattern that numbers it."""
    rings = {}
    for ring in RINGS:
        pattern = Chem.MolFromSmiles(ring.smiles)
        rings[_ring_key(pattern, range(pattern.GetNumAtoms()))] = (ring, pattern)
    return rings


def skeleton(molecule: Chem.Mol) -> Skeleton:
    """Find and look up the ring systems of a molecule.

    A ring takes its doubly bonded O and S into its name where the table has one (anthraquinone);
    otherwise they are substituents (oxo).

    >>> [system.ring.name for system in skeleton(Chem.MolFromSmiles("c1ccccc1C1CCNCC1")).systems]
    ['benzene', 'piperidine']
    """
    cores: list[set[int]] = []
    for ring in molecule.GetRingInfo().AtomRings():
        merged = set(ring)
        for core in [core for core in cores if core & merged]:
            merged |= core
            cores.remove(core)
        cores.append(merged)
    systems = []
    for core in sorted(cores, key=min):
        outside = {
            other.GetIdx()
            for index in core
            for other in molecule.GetAtomWithIdx(index).GetNeighbors()
            if other.GetIdx() not in core
            and other.GetSymbol() in "OS"
            and molecule.GetBondBetweenAtoms(index, other.GetIdx()).GetBondType() == _DOUBLE
        }
        for atoms in (core | outside, core):
            entry = _rings().get(_ring_key(molecule, atoms))
            if entry:
                break
        systems.append(RingSystem(frozenset(core), frozenset(atoms), entry[0] if entry else None))
    return Skeleton(molecule, tuple(systems))


def _place(locant: str) -> tuple[int, str]:
    """Sort key of a locant: 4 < 4a < 10."""
    number = re.match(r"\d*", locant).group()
    return (int(number or 0), locant[len(number) :])


def _numbering(view: Skeleton, system: RingSystem, groups: list[tuple[int, str]], first: set[int]) -> dict[int, str]:
    """Locant of each ring atom: lowest for the atoms in ``first``, then for all groups, then by name."""
    _, pattern = _rings()[_ring_key(view.molecule, system.atoms)]
    locants = system.ring.locants.split()
    best: tuple | None = None
    for match in view.molecule.GetSubstructMatches(pattern, uniquify=False, maxMatches=5000):
        if not system.atoms.issuperset(match):
            continue
        place = dict(zip(match, locants, strict=True))
        # A nitrogen that carries hydrogen in the table ("1H") carries hydrogen or a group in the molecule.
        hydrogen = sum(
            not (other.GetTotalNumHs() or other.GetDegree() == 3)
            for atom, index in zip(pattern.GetAtoms(), match, strict=True)
            if atom.GetIsAromatic() and atom.GetTotalNumHs() and atom.GetSymbol() == "N"
            for other in (view.molecule.GetAtomWithIdx(index),)
        )
        rank = (
            hydrogen,
            sorted(_place(place[atom]) for atom in first),
            sorted(_place(place[atom]) for atom, _ in groups),
            [_place(place[atom]) for atom, prefix in sorted(groups, key=lambda group: _letters(group[1]))],
        )
        if best is None or rank < best[0]:
            best = (rank, place)
    return best[1]


def _ring_groups(view: Skeleton, system: RingSystem, skip: int = -1) -> list[tuple[int, str]] | None:
    """(ring atom, prefix) of everything attached to a ring system except through ``skip``."""
    groups = []
    for index in sorted(system.core):
        for other in view.molecule.GetAtomWithIdx(index).GetNeighbors():
            if other.GetIdx() in system.atoms or other.GetIdx() == skip:
                continue
            name = prefix(view, other.GetIdx(), index)
            if name is None or (name in _YLIDENE and view.molecule.GetAtomWithIdx(index).GetIsAromatic()):
                return None
            groups.append((index, name))
    return groups


_YLIDENE = {
    name
    for table in (SUBSTITUENTS, COMPOSITE_SUBSTITUENTS)
    for key, name in table.items()
    if key.startswith("=")
}


def _ring_prefix(view: Skeleton, start: int, origin: int) -> str | None:
    system = view.system_of(start)
    ring = system.ring
    if ring is None or not ring.locants or ring.name.endswith(("acid", "anhydride")):
        return None
    groups = _ring_groups(view, system, skip=origin)
    if groups is None:
        return None
    place = _numbering(view, system, groups, {start})
    if ring.name == "benzene":
        stem = "phenyl"
    elif ring.name.endswith("imide") and view.molecule.GetAtomWithIdx(start).GetSymbol() == "N":
        stem = ring.name[:-1] + "o"
    elif _is_cycloalkane(ring):
        stem = ring.name.removesuffix("ane") + "yl"
    else:
        stem = f"{ring.name.removesuffix('e')}-{place[start]}-yl"
    return _assemble([(place[atom], name) for atom, name in groups], stem)


def _is_cycloalkane(ring: Ring) -> bool:
    return ring.name.startswith("cyclo") and ring.name.endswith("ane")


def _ring_parent(view: Skeleton, system: RingSystem) -> tuple[tuple, Name] | None:
    """A ring system as the parent of the whole compound, with its seniority (smaller is senior)."""
    ring = system.ring
    if ring is None or not ring.locants:
        return None
    groups = _ring_groups(view, system)
    if groups is None:
        return None
    neutral = system.atoms == system.core and "+" not in ring.smiles
    names = [name for _, name in groups]
    principal = next((name for name in SUFFIXES if neutral and name in names), None)
    parents = [name for name in BENZENE_PARENTS if ring.name == "benzene" and names.count(name) == 1]
    seniority = _SENIORITY[principal] if principal else len(SUFFIXES)
    if parents and parents[0] in ("acetyl", "benzoyl") and seniority > _SENIORITY["oxo"]:
        principal, seniority = None, _SENIORITY["oxo"]
    named = principal or (parents[0] if parents else None)
    place = _numbering(view, system, groups, {atom for atom, name in groups if name == named})
    rest = [(place[atom], name) for atom, name in groups if name != named]
    if principal:
        at = sorted((place[atom] for atom, name in groups if name == principal), key=_place)
        parent = _with_suffix(ring, at, SUFFIXES[principal], alone=not rest)
    else:
        parent = BENZENE_PARENTS[named] if named else ring.name
        if not named and len(rest) == 1 and (ring.name == "benzene" or _is_cycloalkane(ring)):
            rest = [("", rest[0][1])]
    heteroatoms = sum(view.molecule.GetAtomWithIdx(atom).GetSymbol() != "C" for atom in system.core)
    order = ((seniority, -names.count(principal), 0, -heteroatoms, -len(system.core), -len(groups)), ())
    return order, Name(parent, _sorted(rest))


def _with_suffix(ring: Ring, locants: list[str], suffix: str, alone: bool) -> str:
    """Name of a ring with its principal groups: quinolin-8-ol, benzene-1,3-diol, phenol."""
    suffix = _multiplied(suffix, len(locants))
    if ring.name == "benzene":
        if len(locants) == 1:
            return BENZENE_NAMES.get(suffix, "benzene" + suffix)
        where = f"{','.join(locants)}-{suffix}"
        return BENZENE_NAMES.get(where, "benzene-" + where)
    stem = ring.name.removesuffix("e") if suffix[0] in "aeiou" else ring.name
    if len(locants) == 1 and alone and _is_cycloalkane(ring):
        return stem + suffix
    return f"{stem}-{','.join(locants)}-{suffix}"


def _multiplied(suffix: str, count: int) -> str:
    """A suffix with its multiplier, whose final a falls before a vowel (tetrol)."""
    multiplier = MULTIPLIERS[count]
    return (multiplier.removesuffix("a") if suffix[0] in "ao" else multiplier) + suffix


# --- chains -----------------------------------------------------------------------------------------


def _is_chain(atom: Chem.Atom) -> bool:
    """Whether an atom can be in a chain: acyclic carbon, saturated or the carbonyl carbon of a ketone."""
    if atom.GetSymbol() != "C" or atom.IsInRing() or atom.GetFormalCharge():
        return False
    for bond in atom.GetBonds():
        if bond.GetBondType() != Chem.BondType.SINGLE:
            ketone = bond.GetOtherAtom(atom).GetSymbol() == "O" and atom.GetDegree() == 3
            if not ketone or sum(other.GetSymbol() == "C" for other in atom.GetNeighbors()) != 2:
                return False
    return True


def _paths(molecule: Chem.Mol, start: int, origin: int) -> Iterator[list[int]]:
    """Paths of chain carbons from ``start`` to every end of the chain, away from ``origin``."""
    stack = [[start]]
    while stack:
        path = stack.pop()
        further = [
            other.GetIdx()
            for other in molecule.GetAtomWithIdx(path[-1]).GetNeighbors()
            if other.GetIdx() != origin and other.GetIdx() not in path and _is_chain(other)
        ]
        stack.extend([*path, index] for index in further)
        if not further:
            yield path


def _chain_groups(view: Skeleton, path: list[int], origin: int = -1) -> list[tuple[int, str]] | None:
    """(position in the path from 1, prefix) of everything attached to a chain."""
    groups = []
    for position, index in enumerate(path, start=1):
        for other in view.molecule.GetAtomWithIdx(index).GetNeighbors():
            if other.GetIdx() in path or other.GetIdx() == origin:
                continue
            name = prefix(view, other.GetIdx(), index)
            if name is None:
                return None
            groups.append((position, name))
    return groups


def _longest(view: Skeleton, start: int, origin: int) -> tuple[int, list[tuple[int, str]]] | None:
    """Length and groups of the main chain of a substituent that begins at ``start``."""
    ranked = []
    paths = list(_paths(view.molecule, start, origin))
    longest = max(map(len, paths))
    for path in paths:
        if len(path) == longest:
            groups = _chain_groups(view, path, origin)
            if groups is None:
                return None
            ranked.append((-len(groups), sorted(groups)))
    return longest, min(ranked)[1]


def _alkane(length: int) -> str | None:
    return ALKANE_STEMS[length - 1] + "ane" if length <= len(ALKANE_STEMS) else None


def _alkyl(view: Skeleton, start: int, origin: int) -> str | None:
    found = _longest(view, start, origin)
    if found is None or _alkane(found[0]) is None:
        return None
    length, groups = found
    stem = ALKANE_STEMS[length - 1] + "yl"
    return _assemble([("" if length == 1 else str(at), name) for at, name in groups], stem)


def _acyl(view: Skeleton, start: int, origin: int) -> str | None:
    """Acyl group whose carbonyl carbon is ``origin``: acetyl, 3-phenylpropanoyl."""
    found = _longest(view, start, origin)
    if found is None or _alkane(found[0] + 1) is None:
        return None
    length, groups = found
    stem = "acetyl" if length == 1 else ALKANE_STEMS[length] + "anoyl"
    return _assemble([("" if length == 1 else str(at + 1), name) for at, name in groups], stem)


def _chain_parent(view: Skeleton, path: list[int]) -> tuple[tuple, Name] | None:
    """A chain as the parent of the whole compound, with its seniority (smaller is senior)."""
    groups = _chain_groups(view, path)
    if groups is None:
        return None
    names = [name for _, name in groups]
    principal = next((name for name in SUFFIXES if name in names), None)
    if principal == "oxo" and len(path) == 1:
        return None
    ends = [at for at, name in groups if name == principal and principal in CHAIN_SUFFIXES]
    left, right = 1 in ends, len(path) in ends and (len(path) > 1 or len(ends) > 1)
    if right and not left:
        return None  # the same chain is seen from its other end, too
    included = len(ends) == left + right and bool(ends)  # the groups' carbons belong to the chain
    length = len(path) + (left + right if included else 0)
    base = _alkane(length)
    if base is None:
        return None
    shift = 1 if included else 0
    rest = [(at + shift, name) for at, name in groups if name != principal]
    at = sorted(position for position, name in groups if name == principal)
    if included:
        suffix = _multiplied(CHAIN_SUFFIXES[principal], left + right)
        parent = (base.removesuffix("e") if suffix[0] in "aeiou" else base) + suffix
        parent = RETAINED_NAMES.get(parent, parent)
    elif principal:
        suffix = _multiplied(SUFFIXES[principal], len(at))
        stem = base.removesuffix("e") if suffix[0] in "aeiou" else base
        single = length == 1 or (length == 2 and len(at) == 1)
        parent = stem + suffix if single else f"{stem}-{','.join(map(str, at))}-{suffix}"
        parent = RETAINED_NAMES.get(parent, parent)
    else:
        parent = base
    only = length == 1 or (length == 2 and included) or parent == "malonic acid"
    placed = [("" if only else str(position), name) for position, name in rest]
    seniority = _SENIORITY[principal] if principal else len(SUFFIXES)
    order = (
        (seniority, -names.count(principal), 1, -length, -len(groups), 0),
        (at, sorted(position for position, _ in rest), sorted(rest, key=lambda group: _letters(group[1]))),
    )
    return order, Name(parent, _sorted(placed))


_SENIORITY = {name: rank for rank, name in enumerate(SUFFIXES)}


# --- substituents -----------------------------------------------------------------------------------


def _branch(molecule: Chem.Mol, start: int, origin: int) -> list[int] | None:
    """Atoms on the side of ``start`` of its bond to ``origin``; none if the bond is in a ring."""
    seen, stack = {start}, [start]
    while stack:
        index = stack.pop()
        for other in molecule.GetAtomWithIdx(index).GetNeighbors():
            neighbour = other.GetIdx()
            if neighbour == origin and index != start:
                return None
            if neighbour != origin and neighbour not in seen:
                seen.add(neighbour)
                stack.append(neighbour)
    return sorted(seen)


def _branch_key(molecule: Chem.Mol, branch: list[int], start: int, origin: int) -> str:
    bond = molecule.GetBondBetweenAtoms(start, origin)
    smiles = Chem.MolFragmentToSmiles(molecule, branch, rootedAtAtom=start)
    # Atoms bound to a metal are written in brackets.
    smiles = re.sub(r"\[([A-Za-z][a-z]?)H?\d*\]", r"\1", smiles)
    return ("=" if bond.GetBondType() == _DOUBLE else "") + smiles


@lru_cache(maxsize=1)
def _substituents() -> dict[str, str]:
    """Both tables of prefixes by the key of their branch."""
    prefixes = {}
    for smiles, name in (SUBSTITUENTS | COMPOSITE_SUBSTITUENTS).items():
        molecule = Chem.MolFromSmiles("*" + smiles)
        prefixes[_branch_key(molecule, list(range(1, molecule.GetNumAtoms())), 1, 0)] = name
    return prefixes


def prefix(view: Skeleton, start: int, origin: int) -> str | None:
    """Prefix of the substituent that begins at atom ``start`` and hangs on atom ``origin``.

    >>> view = skeleton(Chem.MolFromSmiles("CN(C)CCOc1ccccc1"))
    >>> prefix(view, 5, 6)
    '2-(dimethylamino)ethoxy'
    """
    molecule = view.molecule
    branch = _branch(molecule, start, origin)
    if branch is None or len(branch) > 40:
        return None
    key = _branch_key(molecule, branch, start, origin)
    if key in _substituents():
        return _substituents()[key]
    atom = molecule.GetAtomWithIdx(start)
    if key.startswith("=") or atom.GetFormalCharge() and not atom.IsInRing():
        return None
    if atom.IsInRing():
        return _ring_prefix(view, start, origin)
    kids = [other.GetIdx() for other in atom.GetNeighbors() if other.GetIdx() != origin]
    oxo = [kid for kid in kids if _is_oxo(molecule, kid, start)]
    kids = [kid for kid in kids if kid not in oxo]
    if any(molecule.GetBondBetweenAtoms(start, kid).GetBondType() != Chem.BondType.SINGLE for kid in kids):
        return _unsaturated_prefix(view, start, kids)
    match atom.GetSymbol(), len(oxo), len(kids):
        case "C", 0, _:
            return _alkyl(view, start, origin)
        case "C", 1, 1:
            return _carbonyl_prefix(view, kids[0], start)
        case "N", 0, _:
            return _amino_prefix([prefix(view, kid, start) for kid in kids])
        case "O", 0, 1:
            return _oxy(prefix(view, kids[0], start))
        case "S", count, 1 if count < 3:
            return _sulfur_prefix(prefix(view, kids[0], start), ("sulfanyl", "sulfinyl", "sulfonyl")[count])
    return None


def _is_oxo(molecule: Chem.Mol, atom: int, origin: int) -> bool:
    bond = molecule.GetBondBetweenAtoms(atom, origin)
    return molecule.GetAtomWithIdx(atom).GetSymbol() == "O" and bond.GetBondType() == _DOUBLE


def _carbonyl_prefix(view: Skeleton, kid: int, carbon: int) -> str | None:
    atom = view.molecule.GetAtomWithIdx(kid)
    if _is_chain(atom):
        return _acyl(view, kid, carbon)
    name = prefix(view, kid, carbon)
    if name is None:
        return None
    if atom.GetSymbol() == "N" and not atom.IsInRing():
        return _amide_prefix(name, "carbamoyl")
    if name.endswith("phenyl"):
        return name.removesuffix("phenyl") + "benzoyl"
    return _enclosed(name) + "carbonyl"


def _amide_prefix(amine: str, stem: str) -> str | None:
    """dimethylamino -> dimethylcarbamoyl."""
    if amine == "anilino":
        return "phenyl" + stem
    return amine.removesuffix("amino") + stem if amine.endswith("amino") else None


def _sulfur_prefix(name: str | None, stem: str) -> str | None:
    if name is None:
        return None
    if stem == "sulfanyl" and name.endswith("sulfanyl"):
        return name.removesuffix("sulfanyl") + "disulfanyl"
    if stem == "sulfonyl" and (name.endswith("amino") or name == "anilino"):
        return _amide_prefix(name, "sulfamoyl")
    return _enclosed(name) + stem


def _oxy(name: str | None) -> str | None:
    """methyl -> methoxy, 4-chlorophenyl -> 4-chlorophenoxy, benzyl -> benzyloxy."""
    if name is None:
        return None
    if name.endswith(("methyl", "ethyl", "propyl", "butyl", "phenyl")) and not name.startswith("("):
        return name.removesuffix("yl") + "oxy"
    return _enclosed(name) + "oxy"


def _amino_prefix(names: list[str | None]) -> str | None:
    if None in names or not names:
        return None
    first, *more = sorted(map(str, names), key=_letters)
    if not more:
        return _enclosed(first) + "amino"
    if first == more[0]:
        return _times(first, 2) + "amino"
    second = more[0] if more[0].startswith("(") else f"({more[0]})"
    return f"{_enclosed(first)}{_bracketed(more[0]) if '(' in more[0] else second}amino"


def _unsaturated_prefix(view: Skeleton, start: int, kids: list[int]) -> str | None:
    """Groups that begin with a double bond: R-diazenyl, 2-R-ethenyl, (R-imino)methyl, (R-methylidene)amino."""
    if len(kids) != 1:
        return None
    kid = view.molecule.GetAtomWithIdx(kids[0])
    bond = view.molecule.GetBondBetweenAtoms(start, kids[0])
    far = [other.GetIdx() for other in kid.GetNeighbors() if other.GetIdx() != start]
    if bond.GetBondType() != _DOUBLE or len(far) != 1 or kid.IsInRing() or kid.GetFormalCharge():
        return None
    if view.molecule.GetBondBetweenAtoms(kids[0], far[0]).GetBondType() != Chem.BondType.SINGLE:
        return None
    name = prefix(view, far[0], kids[0])
    if name is None:
        return None
    match view.molecule.GetAtomWithIdx(start).GetSymbol(), kid.GetSymbol():
        case "N", "N":
            return _enclosed(name) + "diazenyl"
        case "C", "C":
            return f"2-{_enclosed(name)}ethenyl"
        case "C", "N" if not name.endswith(("amino", "anilino")):
            return f"{_bracketed(_enclosed(name) + 'imino')}methyl"
        case "N", "C":
            return f"{_bracketed(_enclosed(name) + 'methylidene')}amino"
    return None


# --- writing names ----------------------------------------------------------------------------------

_SIMPLE = {
    *SUBSTITUENTS.values(),
    *(stem + "yl" for stem in ALKANE_STEMS),
    *("methoxy", "ethoxy", "propoxy", "butoxy", "phenoxy", "isopropoxy", "tert-butoxy", "benzyloxy"),
    *("cyclopropyl", "cyclobutyl", "cyclopentyl", "cyclohexyl", "cycloheptyl", "cyclooctyl"),
}


def _letters(name: str) -> str:
    """Sort key of a prefix: its letters, without sec- and tert-."""
    return re.sub(r"[^a-z]", "", name.removeprefix("sec-").removeprefix("tert-"))


def _bracketed(name: str) -> str:
    """A name in the brackets that come next after those inside: ( [ {."""
    left, right = "{}" if "[" in name else "[]" if "(" in name else "()"
    return left + name + right


def _enclosed(name: str) -> str:
    return name if name in _SIMPLE else _bracketed(name)


def _times(name: str, count: int) -> str:
    """A prefix with its multiplier: dichloro, bis(trifluoromethyl)."""
    if count == 1:
        return _enclosed(name)
    if name in _SIMPLE:
        return MULTIPLIERS[count] + name
    return ("", "", "bis", "tris", "tetrakis", "pentakis", "hexakis")[min(count, 6)] + _bracketed(name)


def _sorted(groups: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(groups, key=lambda group: (_letters(group[1]), group[1], _place(group[0]))))


def _assemble(groups: Iterable[tuple[str, str]], stem: str) -> str:
    """Prefixes in alphabetical order with their locants, then the stem."""
    text = ""
    places: dict[str, list[str]] = {}
    for locant, name in _sorted(groups):
        places.setdefault(name, []).append(locant)
    for name, locants in places.items():
        where = ",".join(filter(None, locants))
        part = _times(name, len(locants))
        if where:
            text += ("-" if text else "") + f"{where}-{part}"
        else:
            text += part
    return text + ("-" if text and stem[0].isdigit() else "") + stem


# --- compounds --------------------------------------------------------------------------------------


def compound_name(molecule: Chem.Mol) -> Name | None:
    """Name of a connected, neutral or cationic organic compound, if the subset of rules has one.

    Args:
        molecule: one fragment without metals, isotopes or stereo marks (they would be left out).

    Returns:
        Parent and substituents, or ``None``.

    >>> str(compound_name(Chem.MolFromSmiles("OC(=O)c1ccc(cc1Cl)[N+](=O)[O-]")))
    '2-chloro-4-nitrobenzoic acid'
    >>> str(compound_name(Chem.MolFromSmiles("CCCCCCO")))
    'hexan-1-ol'
    """
    smiles = Chem.MolToSmiles(molecule)
    if smiles in COMPONENTS:
        return Name(COMPONENTS[smiles])
    view = skeleton(molecule)
    found = [_ring_parent(view, system) for system in view.systems]
    chains = {atom.GetIdx() for atom in molecule.GetAtoms() if _is_chain(atom)}
    ends = [
        index
        for index in sorted(chains)
        if sum(other.GetIdx() in chains for other in molecule.GetAtomWithIdx(index).GetNeighbors()) < 2
    ]
    found += [_chain_parent(view, path) for index in ends for path in _paths(molecule, index, -1)]
    named = [entry for entry in found if entry]
    return min(named, key=lambda entry: (entry[0], str(entry[1])))[1] if named else None
