"""Prefixes of substituents for the demo captions, such as 2-(dimethylamino)ethoxy and pyridin-3-yl.

A subset of the IUPAC rules (2013, P-29 and P-6). Outside the subset, functions return ``None``, not an approximation.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from rdkit import Chem

from class_hf.data.demo.rings import Ring
from class_hf.data.demo.skeleton import DOUBLE, SINGLE, RingSystem, Skeleton, letters, number_ring, place, skeleton
from class_hf.data.demo.vocabulary import ALKANE_STEMS, COMPOSITE_SUBSTITUENTS, SUBSTITUENTS

MULTIPLIERS = (
    ",,di,tri,tetra,penta,hexa,hepta,octa,nona,deca,undeca,dodeca,trideca,tetradeca,pentadeca,hexadeca,"
    "heptadeca,octadeca,nonadeca,icosa"
).split(",")

DEEPEST = 3  # deeper names are unreadable: each kind of brackets is used once

_SIMPLE = {
    *SUBSTITUENTS.values(),
    *(stem + "yl" for stem in ALKANE_STEMS),
    *("methoxy", "ethoxy", "propoxy", "butoxy", "phenoxy", "isopropoxy", "tert-butoxy", "benzyloxy"),
    *("cyclopropyl", "cyclobutyl", "cyclopentyl", "cyclohexyl", "cycloheptyl", "cyclooctyl"),
}
# Prefixes of doubly bonded groups. They have other names on aromatic rings, sulfur and phosphorus.
_YLIDENES = {name for key, name in (SUBSTITUENTS | COMPOSITE_SUBSTITUENTS).items() if key.startswith("=")}


def bracketed(name: str) -> str:
    """A name in the next outer kind of brackets: ( inside [ inside {."""
    inside = re.sub(r"\[[\d.,]+\]", "", name)  # the brackets of bicyclo[2.2.1] do not count
    left, right = "{}" if "[" in inside else "[]" if "(" in inside else "()"
    return left + name + right


def depth(name: str) -> int:
    """Depth of the brackets of a name, such as 2 for 1-[(4-chlorophenyl)methyl]."""
    level = deepest = 0
    for character in name:
        level += (character in "([{") - (character in ")]}")
        deepest = max(deepest, level)
    return deepest


def enclosed(name: str) -> str:
    """A prefix in brackets, unless it is a simple one."""
    return name if name in _SIMPLE else bracketed(name)


def times(name: str, count: int) -> str:
    """A prefix with its multiplier, such as dichloro or bis(trifluoromethyl)."""
    if count == 1:
        return enclosed(name)
    if name in _SIMPLE:
        return MULTIPLIERS[count] + name
    return {2: "bis", 3: "tris"}.get(count, MULTIPLIERS[count] + "kis") + bracketed(name)


def in_order(groups: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """(locant, prefix) pairs in the alphabetical order of the prefixes."""
    return tuple(sorted(groups, key=lambda group: (letters(group[1]), group[1], place(group[0]))))


def assemble(groups: Iterable[tuple[str, str]], stem: str) -> str:
    """Prefixes with their locants in alphabetical order, then the stem.

    >>> assemble([("4", "nitro"), ("2", "chloro"), ("6", "chloro")], "phenyl")
    '2,6-dichloro-4-nitrophenyl'
    """
    where: dict[str, list[str]] = {}
    for locant, name in in_order(groups):
        where.setdefault(name, []).append(locant)
    text = ""
    for name, locants in where.items():
        part = times(name, len(locants))
        if any(locants):
            part = ",".join(locants) + "-" + part
            text += "-" if text else ""
        elif text and len(locants) == 1 and part == name:
            part = bracketed(name)  # cyclohexyl(phenyl)methyl
        text += part
    return text + ("-" if text and stem[0].isdigit() else "") + stem


def unsaturated(length: int, bonds: list[tuple[int, str]]) -> str | None:
    """Stem of a chain with its multiple bonds, without the final e: hexan, hex-2-en, hexa-2,4-dien.

    ``bonds`` are (position, "en" or "yn"); chains with both kinds have no name here.
    """
    kinds = {kind for _, kind in bonds}
    if length > len(ALKANE_STEMS) or len(kinds) > 1 or len(bonds) >= len(MULTIPLIERS):
        return None
    stem = ALKANE_STEMS[length - 1]
    if not bonds:
        return stem + "an"
    ending = MULTIPLIERS[len(bonds)] + kinds.pop() if len(bonds) > 1 else kinds.pop()
    if length == 2:
        return stem + ending
    return f"{stem}{'a' if len(bonds) > 1 else ''}-{','.join(str(locant) for locant, _ in sorted(bonds))}-{ending}"


def is_chain(atom: Chem.Atom) -> bool:
    """Whether an atom can be in a chain: acyclic, neutral carbon, and no carbonyl except a ketone."""
    if atom.GetSymbol() != "C" or atom.IsInRing() or atom.GetFormalCharge():
        return False
    for bond in atom.GetBonds():
        other = bond.GetOtherAtom(atom)
        if bond.GetBondType() == SINGLE or (other.GetSymbol() == "C" and not other.IsInRing()):
            continue
        carbons = sum(neighbour.GetSymbol() == "C" for neighbour in atom.GetNeighbors())
        if bond.GetBondType() != DOUBLE or other.GetSymbol() != "O" or carbons != 2:
            return False
    return True


def chain_paths(view: Skeleton, start: int, origin: int = -1) -> Iterator[list[int]]:
    """Paths of chain carbons from ``start`` to every end of the chain, away from ``origin``."""
    stack = [[start]]
    while stack:
        path = stack.pop()
        further = [index for index in view.neighbours(path[-1], origin, *path) if is_chain(view.atoms[index])]
        stack.extend([*path, index] for index in further)
        if not further:
            yield path


def chain_bonds(view: Skeleton, path: list[int]) -> list[tuple[int, str]]:
    """(locant, "en" or "yn") of the multiple bonds of a chain."""
    orders = [view.bond(*pair) for pair in zip(path, path[1:], strict=False)]
    return [(locant, "en" if order == DOUBLE else "yn") for locant, order in enumerate(orders, 1) if order != SINGLE]


def chain_groups(view: Skeleton, path: list[int], origin: int = -1) -> list[tuple[int, str]] | None:
    """(position in the chain, prefix) of everything attached to a chain."""
    groups = []
    for locant, index in enumerate(path, start=1):
        for other in view.neighbours(index, origin, *path):
            name = prefix(view, other, index)
            if name is None:
                return None
            groups.append((locant, name))
    return groups if len(groups) < len(MULTIPLIERS) else None


def _chain_prefix(view: Skeleton, start: int, origin: int, acyl: bool = False) -> str | None:
    """Alkyl or alkenyl group that begins at ``start``. With ``acyl``, the carbonyl ``origin`` is its C1."""
    paths = list(chain_paths(view, start, origin))
    longest = max(map(len, paths))
    ranked = []
    for path in (path for path in paths if len(path) == longest):
        groups = chain_groups(view, path, origin)
        if groups is None:
            return None
        bonds = chain_bonds(view, path)
        ranked.append((-len(bonds), sorted(bonds), -len(groups), sorted(groups)))
    _, bonds, _, groups = min(ranked)
    shift = 1 if acyl else 0
    stem = unsaturated(longest + shift, [(locant + shift, kind) for locant, kind in bonds])
    if stem is None:
        return None
    if acyl:
        stem = "acetyl" if longest == 1 else stem + "oyl"
    elif bonds:
        stem += "yl" if longest == 2 else "-1-yl"
    else:
        stem = stem.removesuffix("an") + "yl"
    return assemble([("" if longest == 1 else str(locant + shift), name) for locant, name in groups], stem)


def ring_groups(view: Skeleton, system: RingSystem, skip: int = -1) -> list[tuple[int, str]] | None:
    """(ring atom, prefix) of everything attached to a ring system except the atom ``skip``."""
    groups = []
    for index in sorted(system.core):
        for other in view.neighbours(index, skip, *system.atoms):
            name = prefix(view, other, index)
            atom = view.atoms[index]
            if name is None or (name in _YLIDENES and (atom.GetIsAromatic() or atom.GetSymbol() != "C")):
                return None
            groups.append((index, name))
    return groups if len(groups) < len(MULTIPLIERS) else None


def is_cycloalkane(ring: Ring) -> bool:
    """Whether all positions of a ring are equal, so that its prefix needs no locant: cyclohexyl."""
    return ring.name.startswith("cyclo") and ring.name.endswith("ane")


def is_charged(view: Skeleton, system: RingSystem) -> bool:
    """Whether a ring that is neutral in the table is charged here, as in N,N-dimethylpiperidinium."""
    name = system.ring.name if system.ring is not None else ""
    return not name.endswith("ium") and any(view.atoms[atom].GetFormalCharge() for atom in system.core)


def takes_suffix(system: RingSystem) -> bool:
    """Whether a suffix can follow a ring's name directly: no cation, no -one, no double bond at a locant."""
    name = system.ring.name if system.ring is not None else "cation"
    movable = name.startswith("cyclo") and not name.endswith("ane")
    return system.atoms == system.core and not name.endswith("ium") and not movable


def _ring_prefix(view: Skeleton, start: int, origin: int) -> str | None:
    system = view.system_of(start)
    if system is None or system.ring is None or not system.ring.locants or is_charged(view, system):
        return None
    ring = system.ring
    imide = ring.name.endswith("imide") and view.symbol(start) == "N"
    groups = ring_groups(view, system, skip=origin)
    if groups is None or not (takes_suffix(system) or imide or ring.name.endswith(("ium", "coumarin"))):
        return None
    locants = number_ring(view, system, groups, {start})
    if ring.name == "benzene":
        stem = "phenyl"
    elif imide:
        stem = ring.name.removesuffix("e") + "o"
    elif is_cycloalkane(ring):
        stem = ring.name.removesuffix("ane") + "yl"
    else:
        stem = f"{ring.name.removesuffix('e')}-{locants[start]}-yl"
    return assemble([(locants[atom], name) for atom, name in groups], stem)


def _branch(view: Skeleton, start: int, origin: int) -> list[int] | None:
    """Atoms on the ``start`` side of the bond to ``origin``; empty if that bond is in a ring."""
    seen, stack = {start}, [start]
    while stack:
        index = stack.pop()
        for other in view.neighbours(index):
            if other == origin and index != start:
                return None
            if other != origin and other not in seen:
                seen.add(other)
                stack.append(other)
    return sorted(seen)


def _branch_key(view: Skeleton, branch: list[int], start: int, origin: int) -> str:
    if len(branch) == 1 and not view.atoms[start].GetFormalCharge():
        smiles = view.symbol(start)
    else:
        smiles = Chem.MolFragmentToSmiles(view.molecule, branch, rootedAtAtom=start)
        smiles = re.sub(r"\[([A-Za-z][a-z]?)H?\d*\]", r"\1", smiles)  # brackets of atoms bound to a metal
    return ("=" if view.bond(start, origin) == DOUBLE else "") + smiles


def _elements(view: Skeleton, branch: list[int]) -> str:
    return "".join(sorted(view.symbol(atom) for atom in branch))


@cache
def _table() -> tuple[dict[str, str], set[str]]:
    """Both tables of prefixes by the key of their branch, and the elements that such branches have."""
    names, elements = {}, set()
    for smiles, name in (SUBSTITUENTS | COMPOSITE_SUBSTITUENTS).items():
        molecule = Chem.MolFromSmiles("*" + smiles)
        view, branch = skeleton(molecule), list(range(1, molecule.GetNumAtoms()))
        names[_branch_key(view, branch, 1, 0)] = name
        elements.add(_elements(view, branch))
    return names, elements


def prefix(view: Skeleton, start: int, origin: int) -> str | None:
    """Prefix of the substituent that begins at atom ``start`` and is bound to atom ``origin``.

    >>> from class_hf.data.demo.skeleton import skeleton
    >>> prefix(skeleton(Chem.MolFromSmiles("CN(C)CCOc1ccccc1")), 5, 6)
    '2-(dimethylamino)ethoxy'
    """
    if (start, origin) not in view.prefixes:
        name = _prefix(view, start, origin)
        view.prefixes[start, origin] = name if name and depth(name) <= DEEPEST else None
    return view.prefixes[start, origin]


def _prefix(view: Skeleton, start: int, origin: int) -> str | None:
    branch = _branch(view, start, origin)
    if branch is None or view.bond(start, origin) not in (SINGLE, DOUBLE):
        return None
    names, elements = _table()
    if _elements(view, branch) in elements:
        name = names.get(_branch_key(view, branch, start, origin))
        if name:
            return name
    atom = view.atoms[start]
    if view.bond(start, origin) != SINGLE:
        return None
    if atom.IsInRing():
        return _ring_prefix(view, start, origin)
    if atom.GetFormalCharge():
        return None
    others = view.neighbours(start, origin)
    oxo = [other for other in others if view.symbol(other) == "O" and view.bond(start, other) == DOUBLE]
    if is_chain(atom) and not oxo:
        return _chain_prefix(view, start, origin)
    kids = [other for other in others if other not in oxo]
    if any(view.bond(start, kid) != SINGLE for kid in kids):
        return _double_prefix(view, start, kids) if len(kids) == 1 else None
    match atom.GetSymbol(), len(oxo), len(kids):
        case "C", 1, 1:
            return _carbonyl_prefix(view, kids[0], start)
        case "N", 0, 1 | 2:
            return _amino_prefix([prefix(view, kid, start) for kid in kids])
        case "O", 0, 1:
            return _oxy_prefix(prefix(view, kids[0], start))
        case "S", 0 | 1 | 2, 1:
            return _sulfur_prefix(prefix(view, kids[0], start), ("sulfanyl", "sulfinyl", "sulfonyl")[len(oxo)])
    return None


def _carbonyl_prefix(view: Skeleton, kid: int, carbon: int) -> str | None:
    """Prefix of an acyl group, such as acetyl, methoxycarbonyl or dimethylcarbamoyl."""
    atom = view.atoms[kid]
    if is_chain(atom):
        return _chain_prefix(view, kid, carbon, acyl=True)
    name = prefix(view, kid, carbon)
    if name is None:
        return None
    if atom.GetSymbol() == "N" and not atom.IsInRing():
        return _from_amino(name, "carbamoyl")
    if name.endswith("phenyl"):
        return name.removesuffix("phenyl") + "benzoyl"
    return enclosed(name) + "carbonyl"


def _from_amino(amino: str, stem: str) -> str | None:
    """The carbamoyl form of an amino prefix: dimethylamino gives dimethylcarbamoyl."""
    if amino == "anilino":
        return "phenyl" + stem
    return amino.removesuffix("amino") + stem if amino.endswith("amino") else None


def _sulfur_prefix(name: str | None, stem: str) -> str | None:
    if name is None:
        return None
    if name.endswith("sulfanyl"):
        return name.removesuffix("sulfanyl") + "disulfanyl" if stem == "sulfanyl" else None
    if stem == "sulfonyl" and (name.endswith("amino") or name == "anilino"):
        return _from_amino(name, "sulfamoyl")
    return enclosed(name) + stem


def _oxy_prefix(name: str | None) -> str | None:
    """The oxy form of a prefix: methyl gives methoxy, benzyl gives benzyloxy."""
    if name is None or name.endswith("oxy"):  # a peroxide
        return None
    if name.endswith(("methyl", "ethyl", "propyl", "butyl", "phenyl")):
        return name.removesuffix("yl") + "oxy"
    return enclosed(name) + "oxy"


def _amino_prefix(names: list[str | None]) -> str | None:
    if any(name is None or name.endswith(("amino", "anilino", "hydrazinyl", "oxy")) for name in names):
        return None
    first, *more = sorted(filter(None, names), key=letters)
    if not more:
        return enclosed(first) + "amino"
    if first == more[0]:
        return times(first, 2) + "amino"
    return enclosed(first) + bracketed(more[0]) + "amino"


def _ylidene_amino(name: str) -> str | None:
    """The prefix of N=CH-R from that of R: propyl gives butylideneamino, phenyl benzylideneamino."""
    if name == "phenyl":
        return "benzylideneamino"
    stem = name.removesuffix("yl")
    if stem in ALKANE_STEMS[:-1]:
        return ALKANE_STEMS[ALKANE_STEMS.index(stem) + 1] + "ylideneamino"
    aryl = name.endswith("phenyl") or re.search(r"-\d+\w?-yl$", name)
    return bracketed(enclosed(name) + "methylidene") + "amino" if aryl else None


def _double_prefix(view: Skeleton, start: int, kids: list[int]) -> str | None:
    """Prefix of a group that begins with N=N, C=N or N=C, such as phenyldiazenyl or benzylideneamino."""
    kid = view.atoms[kids[0]]
    far = view.neighbours(kids[0], start)
    if view.bond(start, kids[0]) != DOUBLE or len(far) != 1 or kid.IsInRing() or kid.GetFormalCharge():
        return None
    name = prefix(view, far[0], kids[0]) if view.bond(kids[0], far[0]) == SINGLE else None
    if name is None:
        return None
    match view.symbol(start), kid.GetSymbol(), view.symbol(far[0]):
        case "N", "N", _:
            return enclosed(name) + "diazenyl"
        case "C", "N", "C":
            return bracketed(enclosed(name) + "imino") + "methyl"
        case "N", "C", "C":
            return _ylidene_amino(name)
    return None
