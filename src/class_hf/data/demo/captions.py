"""Makes the captions of the demo set by rules, from the structure alone, in the style of ChEBI.

A caption opens with "The molecule is a <class> that is <parent> substituted by ...". A few facts about groups,
rings, chains and stereochemistry follow. A hash of the canonical structure and a seed chooses the facts, their
precision and the wording. Captions therefore vary, are incomplete and can be confused with each other, as written
captions can, but each depends on its molecule and the seed only. Roles, uses and sources are never stated, because
they cannot be read from a structure.
"""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from rdkit import Chem

from class_hf.data.demo.facts import (
    article,
    benzene_pattern,
    classes,
    composition,
    group_nouns,
    isotopes,
    linker,
    listed,
    longest_chain,
    number,
    plural,
    ring_nouns,
    stereo,
)
from class_hf.data.demo.names import Condensation, Name, compound_name, condensation
from class_hf.data.demo.parts import central_atom, main_component, metal_compound, metals, mixture, onium_name
from class_hf.data.demo.skeleton import Skeleton, place, skeleton
from class_hf.data.demo.vocabulary import BENZENE_NAMES, BENZENE_PARENTS
from class_hf.data.smiles import read_smiles

_T = TypeVar("_T")
_SIDES = {"2": "ortho", "3": "meta", "4": "para"}
_ALKYL_ESTERS = {
    "methanol": "methyl",
    "ethanol": "ethyl",
    "propan-1-ol": "propyl",
    "propan-2-ol": "isopropyl",
    "butan-1-ol": "butyl",
    "phenol": "phenyl",
}
_CARBONYL_DERIVATIVES = {
    "hydroxylamine": "oxime",
    "semicarbazide": "semicarbazone",
    "thiosemicarbazide": "thiosemicarbazone",
    "phenylhydrazine": "phenylhydrazone",
    "2,4-dinitrophenylhydrazine": "2,4-dinitrophenylhydrazone",
    "hydrazine": "hydrazone",
}


class _Dice:
    """Random choices seeded by a text, equal in every version of Python."""

    def __init__(self, text: str) -> None:
        self._uniform = random.Random(text).random  # Python guarantees equal numbers across versions for random() only

    def chance(self, probability: float) -> bool:
        return self._uniform() < probability

    def pick(self, options: Sequence[_T]) -> _T:
        return options[int(self._uniform() * len(options))]

    def shuffled(self, items: Iterable[_T]) -> list[_T]:
        return [item for _, _, item in sorted((self._uniform(), index, item) for index, item in enumerate(items))]

    def sample(self, items: Sequence[_T], most: int) -> list[_T]:
        """A random choice of at most `most` items, in their original order."""
        kept = set(self.shuffled(range(len(items)))[:most])
        return [item for index, item in enumerate(items) if index in kept]


# --- the first sentence -----------------------------------------------------------------------------


def _substituted(name: Name, dice: _Dice) -> str:
    """Clause that describes a compound by its parent and substituents."""
    parent = name.parent
    if not name.substituents:
        return f"that is {parent}"
    precise = dice.chance(0.7)
    places: dict[str, list[str]] = {}
    for locant, prefix in name.substituents:
        places.setdefault(prefix, []).append(locant)
    located = {prefix: sorted(filter(None, locants), key=place) for prefix, locants in places.items()}
    relative = parent in {*BENZENE_NAMES.values(), *BENZENE_PARENTS.values()} and len(name.substituents) == 1
    groups: list[str] = []
    single: dict[str, list[str]] = {}
    for prefix, locants in places.items():
        stated = located[prefix] if precise or set(locants) == {"N"} else []
        if not stated:
            groups.append(plural(f"{prefix} group", len(locants)))
        elif set(stated) == {"N"}:
            groups.append(plural(f"{prefix} group", len(stated)) + " on the nitrogen atom")
        elif relative and stated[0] in _SIDES and dice.chance(0.4):
            groups.append(f"{article(prefix)} group at the {_SIDES[stated[0]]} position")
        elif len(stated) == 1:
            single.setdefault(stated[0], []).append(article(prefix))
        else:
            groups.append(f"{prefix} groups at positions {listed(stated)}")
    groups += [f"{listed(prefixes)} group at position {locant}" for locant, prefixes in single.items()]
    numbers = [locant for locants in located.values() for locant in locants]
    if precise and len(places) == 1 and numbers and "N" not in numbers and dice.chance(0.4):
        (prefix,) = places
        if len(numbers) == 1:
            return (
                f"that is {parent} in which the hydrogen at position {numbers[0]} is replaced by "
                f"{article(prefix)} group"
            )
        return (
            f"that is {parent} in which the hydrogens at positions {listed(sorted(set(numbers), key=place))} "
            f"have been replaced by {prefix} groups"
        )
    verb = dice.pick(["substituted by", "which is substituted by", "bearing", "carrying", "substituted by"])
    return f"that is {parent} {verb} {listed(groups)}"


def _side(names: tuple[str, ...], group: str, bonds: int, partial: bool) -> str:
    """Phrase for one side of a condensation, such as "the carboxy group of X" or "two molecules of Y"."""
    if len(set(names)) > 1:
        return listed(list(dict.fromkeys(names)))
    if len(names) > 1:
        return f"{number(len(names))} molecules of {names[0]}"
    if not group:
        return names[0]
    if partial:
        return f"{number(bonds)} of the {group}s of {names[0]}"
    return f"the {group}{'s' * (bonds > 1)} of {names[0]}"


def _condensed(parts: Condensation, dice: _Dice) -> str:
    """Clause that names the compounds from which a condensation product is formed."""
    acid, base = parts.acids[0], parts.bases[0]
    single = len(parts.acids) == len(parts.bases) == 1
    if parts.kind == "hydrazone" and single and base in _CARBONYL_DERIVATIVES and dice.chance(0.6):
        kind = _CARBONYL_DERIVATIVES[base]
        return f"that is {article(kind) if parts.partial[0] else 'the ' + kind} of {acid}"
    if parts.kind == "hydrazone" and parts.bases == ("hydrazine",) and len(set(parts.acids)) == 1:
        return f"that is the azine of {acid}"
    if parts.kind == "ester" and single and base in _ALKYL_ESTERS and dice.chance(0.5):
        alkyl = _ALKYL_ESTERS[base]
        return f"that is {article('mono' + alkyl) if parts.partial[0] else 'the ' + alkyl} ester of {acid}"
    groups = {
        "hydrazone": ("carbonyl group", "amino group"),
        "imine": ("carbonyl group", "amino group"),
        "ester": ("carboxy group", "hydroxy group"),
        "inorganic ester": ("", "hydroxy group"),
        "sulfonic ester": ("sulfo group", "hydroxy group"),
        "sulfonamide": ("sulfo group", "amino group"),
        "amide": ("carboxy group", "amino group"),
    }[parts.kind]
    if parts.kind == "hydrazone" and base in _CARBONYL_DERIVATIVES:
        groups = ("carbonyl group", "")
    left = _side(parts.acids, groups[0], len(parts.bases), parts.partial[0])
    right = _side(parts.bases, groups[1], len(parts.acids), parts.partial[1])
    verb = dice.pick(["obtained by the", "resulting from the", "obtained by"])
    return f"{verb} formal condensation of {left} with {right}"


def _identity(view: Skeleton, dice: _Dice) -> str | None:
    """Clause that identifies an organic compound, if it or its condensation partners have names."""
    onium = onium_name(view)
    if onium:
        return central_atom(view, _cation(view)) if dice.chance(0.6) else f"that is {onium}"
    parts = condensation(view)
    if parts and (parts.kind not in ("amide", "sulfonamide") or dice.chance(0.5)):
        return _condensed(parts, dice)
    name = compound_name(view)
    if name and (name.substituents or dice.chance(0.7)):
        return _substituted(name, dice)
    return _condensed(parts, dice) if parts else central_atom(view)


def _cation(view: Skeleton) -> int:
    return next(atom.GetIdx() for atom in view.atoms if atom.GetFormalCharge() > 0)


def _outline(view: Skeleton, dice: _Dice) -> tuple[str, str]:
    """Clause for a compound without a name, and which facts it uses: rings, groups or size."""
    rings = [plural(noun, count) for noun, count in ring_nouns(view)]
    groups = [plural(noun, count) for noun, count in group_nouns(view)]
    verb = dice.pick(["containing", "that contains", "with"])
    if rings and (not groups or dice.chance(0.6)):
        return f"{verb} {listed(dice.sample(rings, 3))}", "rings"
    if groups:
        return f"{verb} {listed(dice.sample(groups, 3))}", "groups"
    carbons, _ = composition(view)
    return f"with {number(carbons)} carbon atom{'s' * (carbons > 1)}", "carbons"


class _Opening(NamedTuple):
    """The first sentence, the classes it leaves out, whether it names the compound, and the facts it lists."""

    sentence: str
    classes: list[str]
    named: bool
    listed: str = ""


def _opening(view: Skeleton, dice: _Dice) -> _Opening:
    several = len(Chem.GetMolFrags(view.molecule)) > 1
    if several or metals(view):
        kind, clause = mixture(view.molecule) if several else metal_compound(view)
        rest = [] if metals(view) else classes(skeleton(main_component(view.molecule)))
        return _Opening(f"The molecule is {article(kind)} {clause}.", rest, True)
    labels = classes(view)
    head = dice.pick(labels[:3])
    rest = [name for name in labels if name != head]
    lead = article(head)
    if head.startswith("member of ") and dice.chance(0.4):
        lead = "a member of the class of " + head.removeprefix("member of ")
    identity = _identity(view, dice) if dice.chance(0.8) else None
    if identity and identity.startswith("that is the ") and head in identity:  # not "an ester that is the ester of X"
        return _Opening(f"The molecule is {identity.removeprefix('that is ')}.", rest, True)
    if identity:
        return _Opening(f"The molecule is {lead} {identity}.", rest, True)
    clause, what = _outline(view, dice)
    return _Opening(f"The molecule is {lead} {clause}.", rest, False, what)


# --- the other sentences ----------------------------------------------------------------------------


def _origin(view: Skeleton) -> str | None:
    """Name of a compound from which a compound without a name derives, or None."""
    parts = condensation(view)
    if parts:
        return parts.acids[0]
    name = compound_name(view)
    plain = name is None or not name.substituents or name.parent == "benzene" or name.parent.endswith("ane")
    return None if name is None or plain else name.parent


def _details(view: Skeleton, opening: _Opening, dice: _Dice) -> list[str]:
    """Candidate sentences after the first; more of them if the first does not name the compound."""
    often, seldom = (0.5, 0.25) if opening.named else (0.85, 0.5)
    organic = not metals(view)
    sentences = []
    if opening.classes and dice.chance(0.85):
        chosen = dice.sample(opening.classes, dice.pick([2, 3, 4]))
        sentences.append(f"{dice.pick(['It is', 'It is also'])} {listed([article(name) for name in chosen])}.")
    if not opening.named and dice.chance(0.4):
        origin = _origin(view)
        if origin:
            sentences.append(f"It {dice.pick(['is a derivative of', 'derives from'])} {origin}.")
    groups = [plural(noun, count) for noun, count in group_nouns(view)]
    if groups and organic and opening.listed != "groups" and dice.chance(often):
        verb = dice.pick(["It contains", "It carries", "The compound contains", "Its functional groups include"])
        sentences.append(f"{verb} {listed(dice.sample(groups, 4))}.")
    rings = [plural(noun, count) for noun, count in ring_nouns(view)]
    if rings and organic and opening.listed != "rings" and dice.chance(often):
        verb = dice.pick(["It contains", "It has", "The structure includes", "The compound has"])
        sentences.append(f"{verb} {listed(dice.sample(rings, 3))}.")
    elif not rings and organic and dice.chance(seldom):
        sentences.append(f"It {dice.pick(['has no rings', 'is acyclic', 'contains no ring'])}.")
    return sentences + _arrangement(view, dice, often, seldom) + _atoms(view, dice, opening)


def _arrangement(view: Skeleton, dice: _Dice, often: float, seldom: float) -> list[str]:
    """Sentences on the connection of rings, chains and groups."""
    sentences = []
    pattern = benzene_pattern(view)
    if pattern and dice.chance(often):
        sentences.append(f"{dice.pick(['Its', 'The'])} benzene ring is {pattern}.")
    joined = linker(view)
    if joined and dice.chance(often):
        sentences.append(f"{dice.pick(['The two', 'Its two'])} ring systems are joined {joined}.")
    chain = longest_chain(view)
    if chain > 3 and dice.chance(often):
        verb = dice.pick(["has", "contains", "includes"])
        sentences.append(f"It {verb} an unbranched chain of {number(chain)} saturated carbon atoms.")
    marks = [] if metals(view) else stereo(view.molecule)
    if marks and dice.chance(0.9 if "configured" in marks[0] else seldom):
        sentences.append(f"It {dice.pick(['has', 'contains'])} {listed(marks)}.")
    return sentences


def _atoms(view: Skeleton, dice: _Dice, opening: _Opening) -> list[str]:
    """Sentences on charge, isotopes and composition."""
    sentences = []
    charge = Chem.GetFormalCharge(view.molecule)
    ion = not metals(view) and len(Chem.GetMolFrags(view.molecule)) == 1
    if charge and ion and dice.chance(0.8):
        sign = "positive" if charge > 0 else "negative"
        size = "a single" if abs(charge) == 1 else number(abs(charge))
        sentences.append(f"It carries {size} {sign} charge{'s' * (abs(charge) > 1)}.")
    labels = isotopes(view)
    if labels:
        sentences.append(f"It is isotopically labelled with {listed(labels)}.")
    carbons, others = composition(view)
    counts = [f"{number(count)} {name} atom{'s' * (count > 1)}" for name, count in others]
    if carbons and opening.listed != "carbons" and dice.chance(0.3 if opening.named else 0.6):
        tail = dice.pick(["", " in all"])
        sentences.append(
            f"It {dice.pick(['has', 'contains'])} {number(carbons)} carbon atom{'s' * (carbons > 1)}{tail}."
        )
    if carbons and others and dice.chance(0.2 if opening.named else 0.4):
        only = sum(count for _, count in others) == 1
        sentences.append(f"Its {'only heteroatom is' if only else 'heteroatoms are'} {listed(counts)}.")
    elif carbons and not others and dice.chance(0.6):
        sentences.append("It consists of carbon and hydrogen only.")
    return sentences


def demo_caption(smiles: str, seed: int = 0) -> str:
    """Describes a molecule by rules, in the style of a ChEBI definition.

    Args:
        smiles: SMILES of the molecule; every SMILES of the same molecule has the same caption.
        seed: changes the wording and the choice of facts.

    Returns:
        One to seven English sentences. The first begins with "The molecule is".

    Raises:
        ValueError: if RDKit cannot parse the SMILES.

    >>> demo_caption("OC(=O)c1ccc(Cl)cc1") == demo_caption("Clc1ccc(C(O)=O)cc1")
    True
    """
    molecule, fault = read_smiles(smiles)
    if molecule is None:
        raise ValueError(f"{fault}; a caption needs a valid, non-empty one.")
    canonical = Chem.MolToSmiles(molecule)
    dice = _Dice(f"{seed} {canonical}")
    view = skeleton(molecule if canonical == smiles else Chem.MolFromSmiles(canonical))
    opening = _opening(view, dice)
    details = dice.shuffled(_details(view, opening, dice))
    return " ".join([opening.sentence, *details[: 4 if opening.named else 6]])
