"""Compounds of several parts in the demo captions: salts and adducts, metal complexes, central atoms.

The molecules of the NCI set are drawn without coordinate bonds: ligands are bound covalently to the
metal, with charges and hydrogens that mean little. Their ligands are therefore named as the neutral
molecules that they become when the metal is taken away, and their charge is not spoken of.
"""

from collections import Counter

from rdkit import Chem, rdBase

from .demo_facts import article, classes, listed, number, plural
from .demo_names import compound_name
from .demo_prefixes import assemble, prefix
from .demo_skeleton import SINGLE, skeleton
from .demo_vocabulary import LIGANDS, SALTS

_NONMETALS = {"*", "H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "Te", "I", "At"}
_ALKALI = {"Li", "Na", "K", "Rb", "Cs"}
# Elements that may be the centre of a compound, with the class of compound where it is no organo-element.
_CENTRES = {"N", "P", "S", "B", "Si", "As", "Se", "Sn", "Sb", "Hg", "Bi", "Pb", "Ge"}


def element(atom: Chem.Atom) -> str:
    """Name of an atom's element."""
    return Chem.GetPeriodicTable().GetElementName(atom.GetAtomicNum()).lower()


def metals(molecule: Chem.Mol) -> list[Chem.Atom]:
    """Metal atoms of a molecule."""
    return [atom for atom in molecule.GetAtoms() if atom.GetSymbol() not in _NONMETALS]


# --- components -------------------------------------------------------------------------------------


def onium_name(molecule: Chem.Mol) -> str | None:
    """Name of an ammonium, phosphonium or sulfonium ion: benzyltrimethylammonium."""
    view = skeleton(molecule)
    charged = [atom for atom in molecule.GetAtoms() if atom.GetFormalCharge() > 0]
    if len(charged) != 1 or charged[0].IsInRing() or charged[0].GetTotalNumHs():
        return None
    stem = {"N": "ammonium", "P": "phosphonium", "S": "sulfonium"}.get(charged[0].GetSymbol())
    centre = charged[0].GetIdx()
    names = [prefix(view, other, centre) for other in view.neighbours(centre)]
    if stem is None or None in names or any(view.bond(centre, other) != SINGLE for other in view.neighbours(centre)):
        return None
    return assemble([("", str(name)) for name in names], stem)


def component_name(molecule: Chem.Mol) -> str:
    """Name of one component of a salt or an adduct, or its class."""
    name = onium_name(molecule) or compound_name(molecule)
    return str(name) if name else article(classes(skeleton(molecule))[0])


def mixture(molecule: Chem.Mol) -> tuple[str, str]:
    """Kind of a compound with several fragments, and the clause that names them.

    >>> mixture(Chem.MolFromSmiles("CN.OP(=O)(O)O"))
    ('phosphate salt', 'obtained by combining methanamine with one equivalent of phosphoric acid')
    """
    fragments = Counter(Chem.MolToSmiles(part) for part in Chem.GetMolFrags(molecule, asMols=True))
    named = {smiles: component_name(Chem.MolFromSmiles(smiles)) for smiles in sorted(fragments)}
    acids = [smiles for smiles in named if smiles in SALTS]
    bases = [smiles for smiles in named if smiles not in SALTS]
    if len(acids) == 1 and bases:
        count = fragments[acids[0]]
        charged = Chem.GetFormalCharge(Chem.MolFromSmiles(acids[0])) < 0
        base = listed([named[smiles] for smiles in bases])
        if charged:
            return f"{SALTS[acids[0]]} salt", f"composed of {base} and {named[acids[0]]} ions"
        equivalents = "one equivalent" if count == 1 else f"{number(count)} equivalents"
        return f"{SALTS[acids[0]]} salt", f"obtained by combining {base} with {equivalents} of {named[acids[0]]}"
    parts = [
        named[smiles] if count == 1 else f"{number(count)} molecules of {named[smiles]}"
        for smiles, count in fragments.items()
    ]
    total = sum(fragments.values())
    return f"{number(total)}-component compound", f"made up of {listed(sorted(parts))}"


# --- metals and central atoms -----------------------------------------------------------------------


def _ligands(molecule: Chem.Mol) -> list[tuple[str, int]] | None:
    """(name, count) of what is left when the metals of a complex are taken away."""
    parts = Chem.RWMol(molecule)
    taken = sorted((atom.GetIdx() for atom in metals(molecule)), reverse=True)
    for index in taken:
        for other in parts.GetAtomWithIdx(index).GetNeighbors():
            other.SetFormalCharge(0)
            other.SetNumExplicitHs(0)
            other.SetNoImplicit(False)
            other.SetNumRadicalElectrons(0)
    for index in taken:
        parts.RemoveAtom(index)
    with rdBase.BlockLogs():
        if Chem.SanitizeMol(parts, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            return None
    counts: Counter[str] = Counter()
    for part in Chem.GetMolFrags(parts, asMols=True):
        smiles = Chem.MolToSmiles(part)
        name = LIGANDS.get(smiles) or compound_name(part)
        counts[str(name) if name else _ligand_class(part)] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _ligand_class(part: Chem.Mol) -> str:
    found = classes(skeleton(part))
    return found[0].removeprefix("member of ") if found else "inorganic"


def metal_compound(molecule: Chem.Mol) -> tuple[str, str]:
    """Kind of a compound with a metal, and the clause that describes its ligands.

    >>> metal_compound(Chem.MolFromSmiles("[Cl][Cu]([Cl])([n+]1ccccc1)[n+]1ccccc1"))
    ('copper coordination entity', 'in which copper is bound to two chloride and two pyridine ligands')
    """
    centre = metals(molecule)[0]
    name = element(centre)
    bound = [
        other
        for atom in metals(molecule)
        for other in atom.GetNeighbors()
        if other.GetSymbol() == "C" and not any(bond.GetBondTypeAsDouble() == 3 for bond in other.GetBonds())
    ]
    ligands = _ligands(molecule)
    if bound:
        clause = central_atom(molecule, centre.GetIdx())
        if clause is None:
            kinds = listed([plural("carbon atom", len(bound))])
            clause = f"in which {name} is bound to {kinds}"
        return f"organo{_STEMS.get(name, name)} compound", clause
    if centre.GetSymbol() in _ALKALI:
        inside = listed([part for part, _ in ligands]) if ligands else "an anion"
        return f"{name} salt", f"of {inside}"
    if not ligands:
        donors = Counter(element(other) for other in centre.GetNeighbors())
        return f"{name} coordination entity", (
            f"in which {name} is bound to {listed([plural(f'{kind} atom', n) for kind, n in donors.items()])}"
        )
    total = sum(count for _, count in ligands)
    inside = listed([f"{number(count)} {part}" for part, count in ligands])
    return f"{name} coordination entity", f"in which {name} is bound to {inside} ligand{'s' * (total > 1)}"


_STEMS = {"lead": "lead", "tin": "tin", "mercury": "mercury", "antimony": "antimony", "iron": "iron"}


def central_atom(molecule: Chem.Mol, centre: int | None = None) -> str | None:
    """Clause for a compound that is a central atom and its substituents, if they all have names.

    >>> central_atom(Chem.MolFromSmiles("CCN(CC)Cc1ccccc1"))
    'in which nitrogen carries a benzyl group and two ethyl groups'
    """
    view = skeleton(molecule)
    if centre is None:
        found = [
            atom.GetIdx()
            for atom in molecule.GetAtoms()
            if atom.GetSymbol() in _CENTRES and not atom.IsInRing() and atom.GetDegree() > 1
        ]
        if len(found) != 1:
            return None
        centre = found[0]
    names = Counter(prefix(view, other, centre) for other in view.neighbours(centre))
    if None in names:
        return None
    groups = [plural(f"{name} group", count) for name, count in sorted(names.items())]
    return f"in which {element(molecule.GetAtomWithIdx(centre))} carries {listed(groups)}"
