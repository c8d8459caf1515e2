"""Ring systems of a molecule and their numbering, for names in the demo captions."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property

from rdkit import Chem

from class_hf.data.demo.groups import Group, functional_groups
from class_hf.data.demo.rings import RINGS, Ring

SINGLE, DOUBLE = Chem.BondType.SINGLE, Chem.BondType.DOUBLE


@dataclass(frozen=True)
class RingSystem:
    """Rings that share atoms: ring atoms, the same with the =O and =S that the name includes, and the named ring."""

    core: frozenset[int]
    atoms: frozenset[int]
    ring: Ring | None


@dataclass(frozen=True)
class Skeleton:
    """A molecule with its ring systems, the input of all naming functions.

    ``atoms`` and ``adjacent`` cache the atoms and their neighbours, because repeated access through RDKit is slow.
    ``prefixes`` caches the names of substituents by (first atom, atom they are bound to), because the candidate
    parents of a name share them.
    """

    molecule: Chem.Mol
    systems: tuple[RingSystem, ...]
    atoms: tuple[Chem.Atom, ...]
    adjacent: tuple[tuple[int, ...], ...]
    prefixes: dict[tuple[int, int], str | None] = field(default_factory=dict)

    @cached_property
    def groups(self) -> list[tuple[Group, int]]:
        """Functional groups of the molecule with their numbers."""
        return functional_groups(self.molecule)

    def system_of(self, atom: int) -> RingSystem | None:
        """Ring system that contains an atom, if any."""
        return next((system for system in self.systems if atom in system.core), None)

    def symbol(self, atom: int) -> str:
        """Element of an atom."""
        return self.atoms[atom].GetSymbol()

    def bond(self, atom: int, other: int) -> Chem.BondType:
        """Order of a bond."""
        return self.molecule.GetBondBetweenAtoms(atom, other).GetBondType()

    def neighbours(self, atom: int, *without: int) -> list[int]:
        """Atoms bound to an atom, without the excluded ones."""
        return [other for other in self.adjacent[atom] if other not in without]


def _symbols(atoms: Iterable[Chem.Atom]) -> list[str]:
    """Atoms as written in ring keys: element, aromaticity and the charge of aromatic atoms, no hydrogens."""
    symbols = []
    for atom in atoms:
        aromatic = atom.GetIsAromatic()
        symbols.append(f"[{atom.GetSymbol().lower()}{atom.GetFormalCharge()}]" if aromatic else atom.GetSymbol())
    return symbols


def _key(molecule: Chem.Mol, atoms: Iterable[int], symbols: list[str]) -> str:
    """Canonical SMILES of the atoms without hydrogens, equal for all tautomers of a ring."""
    return Chem.MolFragmentToSmiles(molecule, list(atoms), atomSymbols=symbols)


@cache
def _rings() -> dict[str, Ring]:
    rings = {}
    for ring in RINGS:
        molecule = Chem.MolFromSmiles(ring.smiles)
        rings[_key(molecule, range(molecule.GetNumAtoms()), _symbols(molecule.GetAtoms()))] = ring
    return rings


@cache
def _pattern(ring: Ring) -> tuple[Chem.Mol, list[str], list[int]]:
    """Pattern of a ring, the locant of each of its atoms, and its atoms with indicated hydrogen ("1H")."""
    pattern = Chem.MolFromSmiles(ring.smiles)
    nitrogens = [
        atom.GetIdx()
        for atom in pattern.GetAtoms()
        if atom.GetSymbol() == "N" and atom.GetIsAromatic() and atom.GetTotalNumHs()
    ]
    return pattern, ring.locants.split(), nitrogens


def skeleton(molecule: Chem.Mol) -> Skeleton:
    """Finds and looks up the ring systems of a molecule.

    The name of a ring includes its exocyclic =O and =S if the table has such a ring (anthraquinone). Otherwise
    they are substituents (oxo). Rings that share at least one atom are one system.

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
    atoms = tuple(molecule.GetAtoms())
    symbols = _symbols(atoms) if cores else []
    systems = []
    for core in sorted(cores, key=min):
        outside = {
            bond.GetOtherAtomIdx(index)
            for index in core
            for bond in atoms[index].GetBonds()
            if bond.GetBondType() == DOUBLE
            and bond.GetOtherAtomIdx(index) not in core
            and atoms[bond.GetOtherAtomIdx(index)].GetSymbol() in ("O", "S")
        }
        named = [core | outside, core] if outside else [core]
        found = [(inside, _rings().get(_key(molecule, inside, symbols))) for inside in named]
        inside, ring = next((pair for pair in found if pair[1]), found[-1])
        systems.append(RingSystem(frozenset(core), frozenset(inside), ring))
    adjacent = tuple(tuple(other.GetIdx() for other in atom.GetNeighbors()) for atom in atoms)
    return Skeleton(molecule, tuple(systems), atoms, adjacent)


@cache
def place(locant: str) -> tuple[int, str]:
    """Sort key of a locant: N < 4 < 4a < 10.

    >>> sorted(["10", "4a", "N", "4"], key=place)
    ['N', '4', '4a', '10']
    """
    number = re.sub(r"\D.*", "", locant)
    return (int(number or 0), locant[len(number) :])


def letters(prefix: str) -> str:
    """Sort key of a prefix: its letters, without sec- and tert-."""
    return re.sub(r"[^a-z]", "", prefix.removeprefix("sec-").removeprefix("tert-"))


def number_ring(view: Skeleton, system: RingSystem, groups: list[tuple[int, str]], first: set[int]) -> dict[int, str]:
    """Locant of each atom of a ring system that the table numbers.

    Args:
        view: the molecule.
        system: one of its ring systems, with ``ring.locants``.
        groups: (ring atom, prefix) of each substituent.
        first: ring atoms that take the lowest locants before other groups: the atoms of the principal
            groups, or the atom of the free valence.

    Returns:
        Locant by atom. Indicated hydrogen is in its place; then the locants are lowest for ``first``, then for
        all groups, then for the first group in the alphabet (IUPAC 2013, P-31.1.4).
    """
    if system.ring is None or not system.ring.locants:
        raise ValueError("the ring system has no numbering in the table; look at system.ring.locants first")
    pattern, locants, nitrogens = _pattern(system.ring)
    alphabet = sorted(groups, key=lambda group: letters(group[1]))
    best: tuple[tuple, dict[int, str]] | None = None
    for match in view.molecule.GetSubstructMatches(pattern, uniquify=False, maxMatches=2000):
        if not system.atoms.issuperset(match):
            continue
        locant_of = dict(zip(match, locants, strict=True))
        carriers = [view.atoms[match[index]] for index in nitrogens]
        rank = (
            sum(atom.GetTotalNumHs() == 0 and atom.GetDegree() < 3 for atom in carriers),
            sorted(place(locant_of[atom]) for atom in first),
            sorted(place(locant_of[atom]) for atom, _ in groups),
            [place(locant_of[atom]) for atom, _ in alphabet],
        )
        if best is None or rank < best[0]:
            best = (rank, locant_of)
    if best is None:
        raise RuntimeError(f"the pattern of {system.ring.name} does not match the ring it was found for")
    return best[1]
