"""What a molecule is made of, as counts of named substructures."""

import re
from collections import Counter
from collections.abc import Callable
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
    systems: list[set[int]] = []
    for ring in map(set, molecule.GetRingInfo().AtomRings()):
        joined = [system for system in systems if system & ring]
        systems = [system for system in systems if not system & ring] + [ring.union(*joined)]
    return Counter(
        "rings " + Chem.MolFragmentToSmiles(molecule, sorted(system), isomericSmiles=False) for system in systems
    )


def pieces(molecule: Chem.Mol) -> Counter[str]:
    """What is left when the bonds are cut that retrosynthesis would cut (BRICS; Degen et al., 2008)."""
    if molecule.GetNumHeavyAtoms() > _LARGEST_FOR_PIECES:
        return Counter()
    fragments = Chem.GetMolFrags(Chem.FragmentOnBRICSBonds(molecule), asMols=True, sanitizeFrags=False)
    return Counter("piece " + Chem.MolToSmiles(fragment) for fragment in fragments)


# By the names that `substructures=` of the feature extractor takes, beside `environments`, which has a radius.
FURTHER: dict[str, Callable[[Chem.Mol], Counter[str]]] = {
    "torsions": torsions,
    "composition": composition,
    "ring_systems": ring_systems,
    "pieces": pieces,
}
