"""Counts the substructures of a molecule, and locates them for explanations."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors, rdqueries

# Heavy atoms up to which a molecule is cut into pieces. The time of BRICS grows faster than the molecule, and the
# pieces of a large molecule add little to its other substructures.
_LARGEST_FOR_PIECES = 120
_ELEMENT = re.compile(r"([A-Z][a-z]?|\*)(\d*)")
_CHARGE = re.compile(r"[+-]\d*$")
_NO_STEREO = (Chem.BondStereo.STEREONONE, Chem.BondStereo.STEREOANY)
# A query returns the few atoms that match. A loop in Python visits all atoms and takes ten times longer.
_WITH_ISOTOPE = rdqueries.IsotopeGreaterQueryAtom(0)
_STEREO_CENTRE = rdqueries.HasChiralTagQueryAtom()
_DOUBLE_BOND = Chem.MolFromSmarts("*=*")
_MOST_BONDS = 100_000

# Name of a substructure, and the atoms that it covers.
Occurrence = tuple[str, set[int]]


@lru_cache(maxsize=8)
def _morgan(radius: int) -> Any:
    """RDKit's Morgan generator."""
    return rdFingerprintGenerator.GetMorganGenerator(radius=radius, includeChirality=True)


@lru_cache(maxsize=1)
def _torsion() -> Any:
    """RDKit's generator of topological torsions."""
    return rdFingerprintGenerator.GetTopologicalTorsionGenerator()


def environments(molecule: Chem.Mol, radius: int) -> dict[str, int]:
    """Counts circular environments of the atoms (Rogers & Hahn, 2010), with R/S and E/Z, and isotopes."""
    # Plain dictionaries here and below: making a Counter takes a third of the time of the fingerprint.
    environments = _morgan(radius).GetSparseCountFingerprint(molecule).GetNonzeroElements()
    counts = {str(name): count for name, count in environments.items()}
    # RDKit's invariants round an isotope's mass difference down, so 13C would equal carbon.
    marked = molecule.GetAtomsMatchingQuery(_WITH_ISOTOPE)
    if len(marked):  # a loop over no atoms ends by a C++ exception, which takes as long as half the fingerprint
        for atom in marked:
            name = f"{atom.GetIsotope()}{atom.GetSymbol()}"
            counts[name] = counts.get(name, 0) + 1
    return counts


def torsions(molecule: Chem.Mol) -> dict[str, int]:
    """Counts chains of four bonded atoms (Nilakantan et al., 1987)."""
    counts = _torsion().GetSparseCountFingerprint(molecule).GetNonzeroElements()
    return {f"torsion {name}": count for name, count in counts.items()}


def composition(molecule: Chem.Mol) -> dict[str, int]:
    """Counts the molecule's elements, charges, fragments, rings, double bonds and stereo marks."""
    # The formula is many times faster than a walk over the atoms.
    elements = _ELEMENT.findall(_CHARGE.sub("", rdMolDescriptors.CalcMolFormula(molecule)))
    counts = {f"atom {symbol}": int(number or 1) for symbol, number in elements}
    counts["stereo centre"] = len(molecule.GetAtomsMatchingQuery(_STEREO_CENTRE))
    double_bonds = molecule.GetSubstructMatches(_DOUBLE_BOND, maxMatches=_MOST_BONDS)
    counts["double bond"] = len(double_bonds)
    # An extension (CXSMILES) can also mark single bonds: atropisomers.
    bonds = (
        molecule.GetBonds()
        if molecule.HasProp("_CXSMILES_Data")
        else [molecule.GetBondBetweenAtoms(*ends) for ends in double_bonds]
    )
    counts["stereo bond"] = sum(bond.GetStereo() not in _NO_STEREO for bond in bonds)
    charge = Chem.GetFormalCharge(molecule)
    counts["positive charge"], counts["negative charge"] = max(charge, 0), max(-charge, 0)
    counts["fragment"] = len(Chem.GetMolFrags(molecule))
    counts["ring"] = rdMolDescriptors.CalcNumRings(molecule)
    counts["aromatic ring"] = rdMolDescriptors.CalcNumAromaticRings(molecule)
    return {name: count for name, count in counts.items() if count}


def ring_systems(molecule: Chem.Mol) -> dict[str, int]:
    """Counts ring systems, without substituents. Rings that share an atom belong to one system."""
    return Counter(name for name, _ in _ring_systems(molecule))


def pieces(molecule: Chem.Mol) -> dict[str, int]:
    """Counts the pieces that remain when the bonds are cut that retrosynthesis cuts (BRICS; Degen et al., 2008)."""
    return Counter(name for name, _ in _pieces(molecule))


def _ring_systems(molecule: Chem.Mol) -> Iterator[Occurrence]:
    """The occurrences of `ring_systems`."""
    systems: list[set[int]] = []
    for ring in map(set, molecule.GetRingInfo().AtomRings()):
        joined = [system for system in systems if system & ring]
        systems = [system for system in systems if not system & ring] + [ring.union(*joined)]
    for system in systems:
        yield "rings " + Chem.MolFragmentToSmiles(molecule, sorted(system), isomericSmiles=False), system


def _pieces(molecule: Chem.Mol) -> Iterator[Occurrence]:
    """The occurrences of `pieces`."""
    if molecule.GetNumHeavyAtoms() > _LARGEST_FOR_PIECES:
        return
    fragment_atoms: list[tuple[int, ...]] = []
    fragments = Chem.GetMolFrags(
        Chem.FragmentOnBRICSBonds(molecule), asMols=True, sanitizeFrags=False, fragsMolAtomMapping=fragment_atoms
    )
    for fragment, atoms in zip(fragments, fragment_atoms, strict=True):
        # Each cut adds wildcards, with indices after the molecule's atoms.
        yield "piece " + Chem.MolToSmiles(fragment), {atom for atom in atoms if atom < molecule.GetNumAtoms()}


def occurrences(molecule: Chem.Mol, radius: int, further: Sequence[str] = ()) -> Iterator[Occurrence]:
    """Locates each substructure that the functions above count.

    Args:
        molecule: a molecule without conformers.
        radius: largest radius of the environments, in bonds.
        further: names in `COUNTERS`.

    Yields:
        The name of a substructure and the atoms that it covers, once for each occurrence. Properties of the complete
        molecule, its net charge and its number of fragments, cover no atoms.

    Example:

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
    """The occurrences of `torsions`."""
    output = rdFingerprintGenerator.AdditionalOutput()
    output.CollectBitPaths()
    _torsion().GetSparseCountFingerprint(molecule, additionalOutput=output)
    for name, paths in output.GetBitPaths().items():
        for path in paths:
            yield f"torsion {name}", set(path)


def _composition(molecule: Chem.Mol) -> Iterator[Occurrence]:
    """The occurrences of `composition`."""
    for atom in molecule.GetAtoms():
        index = {atom.GetIdx()}
        yield f"atom {atom.GetSymbol()}", index
        for _ in range(atom.GetTotalNumHs()):
            yield "atom H", index
        if atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED:
            yield "stereo centre", index
    for bond in molecule.GetBonds():
        ends = {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()}
        if bond.GetBondType() == Chem.BondType.DOUBLE:
            yield "double bond", ends
        if bond.GetStereo() not in _NO_STEREO:
            yield "stereo bond", ends
    rings = molecule.GetRingInfo()
    for atoms, bonds in zip(rings.AtomRings(), rings.BondRings(), strict=True):
        yield "ring", set(atoms)
        if all(molecule.GetBondWithIdx(bond).GetIsAromatic() for bond in bonds):
            yield "aromatic ring", set(atoms)
    counts = composition(molecule)
    for name in ("positive charge", "negative charge", "fragment"):
        for _ in range(counts.get(name, 0)):
            yield name, set()


_OCCURRENCES: dict[str, Callable[[Chem.Mol], Iterator[Occurrence]]] = {
    "torsions": _torsions,
    "composition": _composition,
    "ring_systems": _ring_systems,
    "pieces": _pieces,
}

# The counters by the names that the argument `substructures` of the feature extractor accepts. `environments` is not
# among them, since it has a radius.
COUNTERS: dict[str, Callable[[Chem.Mol], dict[str, int]]] = {
    "torsions": torsions,
    "composition": composition,
    "ring_systems": ring_systems,
    "pieces": pieces,
}
