"""Clauses of the demo captions for compounds of several parts: salts, adducts, metal complexes, central atoms.

The NCI set has no coordinate bonds: its ligands are drawn with covalent bonds to the metal, and their charges and
hydrogens are unreliable. A ligand is therefore named as the neutral molecule that remains without the metal, and its
charge is not mentioned.
"""

from collections import Counter

from rdkit import Chem, rdBase

from class_hf.data.demo.facts import article, classes, listed, number, plural
from class_hf.data.demo.names import compound_name
from class_hf.data.demo.prefixes import assemble, prefix
from class_hf.data.demo.skeleton import DOUBLE, SINGLE, Skeleton, skeleton
from class_hf.data.demo.vocabulary import LIGANDS, SALTS

_NONMETALS = {"*", "H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "Te", "I", "At"}
_ALKALI = {"lithium", "sodium", "potassium", "rubidium", "caesium"}
# Elements that can be the central atom of a description.
_CENTRES = {"N", "P", "S", "B", "Si", "As", "Se", "Sn", "Sb", "Hg", "Bi", "Pb", "Ge"}


def element(atom: Chem.Atom) -> str:
    """Name of an atom's element."""
    return Chem.GetPeriodicTable().GetElementName(atom.GetAtomicNum()).lower()


def metals(view: Skeleton) -> list[int]:
    """Metal atoms of a molecule."""
    return [index for index, atom in enumerate(view.atoms) if atom.GetSymbol() not in _NONMETALS]


# --- components -------------------------------------------------------------------------------------


def onium_name(view: Skeleton) -> str | None:
    """Name of an ammonium, phosphonium or sulfonium ion, such as benzyltrimethylammonium."""
    charged = [index for index, atom in enumerate(view.atoms) if atom.GetFormalCharge() > 0]
    if len(charged) != 1 or view.atoms[charged[0]].IsInRing() or view.atoms[charged[0]].GetTotalNumHs():
        return None
    stem = {"N": "ammonium", "P": "phosphonium", "S": "sulfonium"}.get(view.symbol(charged[0]))
    kids = view.neighbours(charged[0])
    names = [prefix(view, kid, charged[0]) for kid in kids]
    if stem is None or None in names or any(view.bond(charged[0], kid) != SINGLE for kid in kids):
        return None
    return assemble([("", str(name)) for name in names], stem)


def component_name(molecule: Chem.Mol) -> str:
    """Name of one component of a salt or an adduct, or its class."""
    view = skeleton(molecule)
    if metals(view):
        return article(metal_compound(view)[0])
    name = onium_name(view) or compound_name(view)
    return str(name) if name else article(classes(view)[0])


def main_component(molecule: Chem.Mol) -> Chem.Mol:
    """The largest component of a compound that is not the counterion of a salt."""
    parts = Chem.GetMolFrags(molecule, asMols=True)
    rank = {part: (Chem.MolToSmiles(part) not in SALTS, part.GetNumAtoms(), Chem.MolToSmiles(part)) for part in parts}
    return max(parts, key=lambda part: rank[part])


def mixture(molecule: Chem.Mol) -> tuple[str, str]:
    """Kind of a compound with several fragments, and the clause that names them.

    >>> mixture(Chem.MolFromSmiles("CN.OP(=O)(O)O"))
    ('phosphate salt', 'obtained by combining methanamine with one equivalent of phosphoric acid')
    """
    fragments = Counter(Chem.MolToSmiles(part) for part in Chem.GetMolFrags(molecule, asMols=True))
    named = {smiles: component_name(Chem.MolFromSmiles(smiles)) for smiles in sorted(fragments)}
    acids = [smiles for smiles in named if smiles in SALTS]
    if len(acids) == 1 and len(named) > 1:
        acid, count = acids[0], fragments[acids[0]]
        base = listed([name for smiles, name in named.items() if smiles != acid])
        if Chem.GetFormalCharge(Chem.MolFromSmiles(acid)) < 0:
            return f"{SALTS[acid]} salt", f"composed of {base} and {named[acid]} ions"
        dose = "one equivalent" if count == 1 else f"{number(count)} equivalents"
        return f"{SALTS[acid]} salt", f"obtained by combining {base} with {dose} of {named[acid]}"
    kinds: dict[str, list[int]] = {}
    for smiles, name in named.items():
        kinds.setdefault(name, []).append(fragments[smiles])
    parts = []
    for name, counts in kinds.items():
        if len(counts) > 1:
            parts.append(f"{number(len(counts))} kinds of {name.removeprefix('an ').removeprefix('a ')}")
        else:
            parts.append(name if counts[0] == 1 else f"{number(counts[0])} molecules of {name}")
    return f"{number(sum(fragments.values()))}-component compound", f"made up of {listed(sorted(parts))}"


# --- metals and central atoms -----------------------------------------------------------------------


def _ligands(view: Skeleton) -> list[tuple[str, int]]:
    """(name, count) of the ligands of a complex; empty if they cannot be named consistently."""
    parts = Chem.RWMol(view.molecule)
    for index in metals(view):
        if any(view.bond(index, other) == DOUBLE for other in view.neighbours(index)):
            return []
        for other in parts.GetAtomWithIdx(index).GetNeighbors():
            other.SetFormalCharge(0)
            other.SetNumExplicitHs(0)
            other.SetNoImplicit(False)
            other.SetNumRadicalElectrons(0)
    for index in reversed(metals(view)):
        parts.RemoveAtom(index)
    with rdBase.BlockLogs():
        if Chem.SanitizeMol(parts, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            return []
    counts: Counter[str] = Counter()
    for part in Chem.GetMolFrags(parts, asMols=True):
        ligand = skeleton(part)
        named = LIGANDS.get(Chem.MolToSmiles(part)) or compound_name(ligand)
        name = str(named) if named else classes(ligand)[0].removeprefix("member of ")
        counts[name.removesuffix("ic acid") + "ate" if name.endswith("ic acid") else name] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def metal_compound(view: Skeleton) -> tuple[str, str]:
    """Kind of a compound with a metal, and the clause that describes its ligands.

    >>> metal_compound(skeleton(Chem.MolFromSmiles("[Cl][Cu]([Cl])([n+]1ccccc1)[n+]1ccccc1")))
    ('copper coordination entity', 'in which copper is bound to two chloride and two pyridine ligands')
    """
    centre = metals(view)[0]
    name = element(view.atoms[centre])
    if not view.neighbours(centre):
        return f"{name} {'ion' if view.atoms[centre].GetFormalCharge() else 'atom'}", "that stands alone"
    carbons = [
        other
        for other in view.neighbours(centre)
        if view.symbol(other) == "C" and all(bond.GetBondTypeAsDouble() < 3 for bond in view.atoms[other].GetBonds())
    ]
    if carbons:
        clause = central_atom(view, centre) or f"in which {name} is bound to {plural('carbon atom', len(carbons))}"
        return f"organo{name} compound", clause
    ligands = _ligands(view)
    if name in _ALKALI:
        return f"{name} salt", f"of {listed([part for part, _ in ligands])}" if ligands else "of an anion"
    if ligands:
        inside = listed([f"{number(count)} {part}" for part, count in ligands])
        inside += " ligand" + "s" * (sum(count for _, count in ligands) > 1)
    else:
        donors = Counter(element(view.atoms[other]) for other in view.neighbours(centre))
        inside = listed([plural(f"{donor} atom", count) for donor, count in sorted(donors.items())])
    return f"{name} coordination entity", f"in which {name} is bound to {inside}"


def central_atom(view: Skeleton, centre: int | None = None) -> str | None:
    """Clause for a compound made of a central atom and its substituents, if all of them have names.

    >>> central_atom(skeleton(Chem.MolFromSmiles("CCN(CC)Cc1ccccc1")))
    'in which nitrogen carries a benzyl group and two ethyl groups'
    """
    if centre is None:
        found = [
            index
            for index, atom in enumerate(view.atoms)
            if atom.GetSymbol() in _CENTRES and not atom.IsInRing() and atom.GetDegree() > 1
        ]
        if len(found) != 1:
            return None
        centre = found[0]
    names = Counter(prefix(view, other, centre) for other in view.neighbours(centre))
    if None in names:
        return None
    groups = [plural(f"{name} group", count) for name, count in sorted(names.items(), key=lambda item: str(item[0]))]
    return f"in which {element(view.atoms[centre])} carries {listed(groups)}"
