"""What a molecule is made of, as counts of named substructures."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

# Looking for the bonds of BRICS takes a time that grows faster than the molecule; such pieces of a large one say
# little that its other substructures do not.
_LARGEST_FOR_PIECES = 120
_ELEMENT = re.compile(r"([A-Z][a-z]?|\*)(\d*)")
_CHARGE = re.compile(r"[+-]\d*$")
_ANY = Chem.BondStereo.STEREOANY

# A substructure's name, and the atoms that it covers.
Occurrence = tuple[str, set[int]]


@lru_cache(maxsize=8)
def _morgan(radius: int) -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=radius, includeChirality=True)


@lru_cache(maxsize=1)
def _torsion() -> Any:
    return rdFingerprintGenerator.GetTopologicalTorsionGenerator()


def environments(molecule: Chem.Mol, radius: int) -> Counter[str]:
    """Circular environments of the atoms (Rogers & Hahn, 2010), with R/S and E/Z, and each isotope."""
    counts = Counter(
        {
            str(name): count
            for name, count in _morgan(radius).GetSparseCountFingerprint(molecule).GetNonzeroElements().items()
        }
    )
    # RDKit's invariants round an isotope's mass difference down, so that 13C would pass for carbon.
    counts.update(f"{atom.GetIsotope()}{atom.GetSymbol()}" for atom in molecule.GetAtoms() if atom.GetIsotope())
    return counts


def torsions(molecule: Chem.Mol) -> Counter[str]:
    """Chains of four bonded atoms (Nilakantan et al., 1987)."""
    found = _torsion().GetSparseCountFingerprint(molecule).GetNonzeroElements()
    return Counter({f"torsion {name}": count for name, count in found.items()})


def composition(molecule: Chem.Mol) -> Counter[str]:
    """The whole molecule's elements, charges, fragments, rings, double bonds and stereo marks."""
    # The formula is many times faster than a walk over the atoms.
    elements = _ELEMENT.findall(_CHARGE.sub("", rdMolDescriptors.CalcMolFormula(molecule)))
    counts = Counter({f"atom {symbol}": int(number or 1) for symbol, number in elements})
    tags = [atom.GetChiralTag() for atom in molecule.GetAtoms()]
    counts["stereo centre"] = len(tags) - tags.count(Chem.ChiralType.CHI_UNSPECIFIED)
    bonds = list(molecule.GetBonds())
    counts["double bond"] = [bond.GetBondType() for bond in bonds].count(Chem.BondType.DOUBLE)
    stereo = [bond.GetStereo() for bond in bonds]
    counts["stereo bond"] = len(stereo) - stereo.count(Chem.BondStereo.STEREONONE) - stereo.count(_ANY)
    charge = Chem.GetFormalCharge(molecule)
    counts["positive charge"], counts["negative charge"] = max(charge, 0), max(-charge, 0)
    counts["fragment"] = len(Chem.GetMolFrags(molecule))
    counts["ring"] = rdMolDescriptors.CalcNumRings(molecule)
    counts["aromatic ring"] = rdMolDescriptors.CalcNumAromaticRings(molecule)
    return +counts


def ring_systems(molecule: Chem.Mol) -> Counter[str]:
    """Rings that share atoms, as one substructure each, without what they carry."""
    return Counter(name for name, _ in _ring_systems(molecule))


def pieces(molecule: Chem.Mol) -> Counter[str]:
    """What is left when the bonds are cut that retrosynthesis would cut (BRICS; Degen et al., 2008)."""
    return Counter(name for name, _ in _pieces(molecule))


def _ring_systems(molecule: Chem.Mol) -> Iterator[Occurrence]:
    systems: list[set[int]] = []
    for ring in map(set, molecule.GetRingInfo().AtomRings()):
        joined = [system for system in systems if system & ring]
        systems = [system for system in systems if not system & ring] + [ring.union(*joined)]
    for system in systems:
        yield "rings " + Chem.MolFragmentToSmiles(molecule, sorted(system), isomericSmiles=False), system


def _pieces(molecule: Chem.Mol) -> Iterator[Occurrence]:
    if molecule.GetNumHeavyAtoms() > _LARGEST_FOR_PIECES:
        return
    places: list[tuple[int, ...]] = []
    fragments = Chem.GetMolFrags(
        Chem.FragmentOnBRICSBonds(molecule), asMols=True, sanitizeFrags=False, fragsMolAtomMapping=places
    )
    for fragment, atoms in zip(fragments, places, strict=True):
        # Where a bond was cut, wildcards follow the molecule's own atoms.
        yield "piece " + Chem.MolToSmiles(fragment), {atom for atom in atoms if atom < molecule.GetNumAtoms()}


def occurrences(molecule: Chem.Mol, radius: int, further: Sequence[str] = ()) -> Iterator[Occurrence]:
    """Each substructure that the functions above count, one by one, with the atoms that it covers.

    What belongs to the molecule as a whole, its net charge and the number of its fragments, covers none.

    Args:
        molecule: one without conformers.
        radius: of the environments.
        further: names in `FURTHER`.

    >>> [name for name, atoms in occurrences(Chem.MolFromSmiles("CO"), 0, ["composition"]) if atoms == {1}]
    ['864662311', 'atom O', 'atom H']
    """
    output = rdFingerprintGenerator.AdditionalOutput()
    output.CollectBitInfoMap()
    _morgan(radius).GetSparseCountFingerprint(molecule, additionalOutput=output)
    for environment, centres in output.GetBitInfoMap().items():
        for centre, reach in centres:
            yield str(environment), _around(molecule, centre, reach)
    for atom in molecule.GetAtoms():
        if atom.GetIsotope():
            yield f"{atom.GetIsotope()}{atom.GetSymbol()}", {atom.GetIdx()}
    for name in further:
        yield from _OCCURRENCES[name](molecule)


def _around(molecule: Chem.Mol, centre: int, reach: int) -> set[int]:
    """The atoms at most `reach` bonds away from an atom."""
    atoms = {centre}
    for bond in Chem.FindAtomEnvironmentOfRadiusN(molecule, reach, centre, enforceSize=False) if reach else ():
        atoms |= {molecule.GetBondWithIdx(bond).GetBeginAtomIdx(), molecule.GetBondWithIdx(bond).GetEndAtomIdx()}
    return atoms


def _torsions(molecule: Chem.Mol) -> Iterator[Occurrence]:
    output = rdFingerprintGenerator.AdditionalOutput()
    output.CollectBitPaths()
    _torsion().GetSparseCountFingerprint(molecule, additionalOutput=output)
    for name, paths in output.GetBitPaths().items():
        for path in paths:
            yield f"torsion {name}", set(path)


def _composition(molecule: Chem.Mol) -> Iterator[Occurrence]:
    for atom in molecule.GetAtoms():
        here = {atom.GetIdx()}
        yield f"atom {atom.GetSymbol()}", here
        for _ in range(atom.GetTotalNumHs()):
            yield "atom H", here
        if atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED:
            yield "stereo centre", here
    for bond in molecule.GetBonds():
        ends = {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()}
        if bond.GetBondType() == Chem.BondType.DOUBLE:
            yield "double bond", ends
        if bond.GetStereo() not in (Chem.BondStereo.STEREONONE, _ANY):
            yield "stereo bond", ends
    rings = molecule.GetRingInfo()
    for atoms, bonds in zip(rings.AtomRings(), rings.BondRings(), strict=True):
        yield "ring", set(atoms)
        if all(molecule.GetBondWithIdx(bond).GetIsAromatic() for bond in bonds):
            yield "aromatic ring", set(atoms)
    whole = composition(molecule)
    for name in ("positive charge", "negative charge", "fragment"):
        for _ in range(whole[name]):
            yield name, set()


_OCCURRENCES: dict[str, Callable[[Chem.Mol], Iterator[Occurrence]]] = {
    "torsions": _torsions,
    "composition": _composition,
    "ring_systems": _ring_systems,
    "pieces": _pieces,
}

# By the names that `substructures=` of the feature extractor takes, beside `environments`, which has a radius.
FURTHER: dict[str, Callable[[Chem.Mol], Counter[str]]] = {
    "torsions": torsions,
    "composition": composition,
    "ring_systems": ring_systems,
    "pieces": pieces,
}
