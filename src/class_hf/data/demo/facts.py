"""Facts about a structure in words, for the demo captions: classes, rings, linkers, chains, stereochemistry.

Each function takes a molecule or its skeleton and returns noun phrases or short facts in a fixed order.
:mod:`class_hf.data.demo.captions` chooses among them and writes the sentences. Class names follow ChEBI where it has
one.
"""

from collections import Counter
from functools import cache

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from class_hf.data.demo.prefixes import is_charged
from class_hf.data.demo.rings import RING_CLASSES
from class_hf.data.demo.skeleton import DOUBLE, RingSystem, Skeleton

_NUMBERS = (
    "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
_COUNTS = ("", "mono", "di", "tri", "tetra", "penta", "hexa")
_CYCLES = ("", "mono", "bi", "tri", "tetra", "penta", "hexa", "hepta")
_GONANE = "[#6]1~[#6]~[#6]~[#6]2~[#6](~[#6]~1)~[#6]~[#6]~[#6]1~[#6]~2~[#6]~[#6]~[#6]2~[#6]~[#6]~[#6]~[#6]~1~2"

# A specific class to the general classes that it implies. Implied classes are not mentioned.
_IMPLIED = {
    "quinone": {"enone", "cyclic ketone", "olefinic compound"},
    "member of chalcones": {"aromatic ketone", "ketone", "enone", "member of styrenes"},
    "member of benzophenones": {"aromatic ketone", "ketone"},
    "member of acetophenones": {"aromatic ketone", "ketone"},
    "aromatic ketone": {"ketone"},
    "beta-diketone": {"ketone"},
    "enone": {"olefinic compound"},
    "member of stilbenes": {"member of styrenes"},
    "member of styrenes": {"olefinic compound"},
    "member of cinnamic acids": {"member of styrenes", "olefinic compound"},
    "naphthol": {"member of phenols"},
    "member of catechols": {"member of phenols"},
    "member of resorcinols": {"member of phenols"},
    "member of hydroquinones": {"member of phenols"},
    "member of benzaldehydes": {"aldehyde"},
    "member of nitrobenzenes": {"C-nitro compound"},
    "member of azobenzenes": {"azo compound"},
    "member of biguanides": {"member of guanidines"},
    "substituted aniline": {"primary arylamine"},
    "methyl ester": {"carboxylic ester"},
    "ethyl ester": {"carboxylic ester"},
    "acetate ester": {"carboxylic ester"},
    "benzoate ester": {"carboxylic ester"},
    "terminal acetylenic compound": {"acetylenic compound"},
    "member of acetamides": {"secondary carboxamide", "tertiary carboxamide", "primary carboxamide"},
}

_LINKERS = {
    "": "directly by a single bond",
    "C": "through a single carbon atom",
    "N": "through a nitrogen atom",
    "O": "through an oxygen atom",
    "S": "through a sulfur atom",
    "C=C": "by a carbon-carbon double bond",
    "C#C": "by a carbon-carbon triple bond",
    "C=O": "through a carbonyl group",
    "N=N": "by an azo group",
    "CC": "by a two-carbon bridge",
    "C=N": "by a carbon-nitrogen double bond",
    "CN": "by an aminomethylene bridge",
    "CO": "by an oxymethylene bridge",
    "CS": "by a thiomethylene bridge",
    "NN": "by a nitrogen-nitrogen bond",
    "NC=O": "by an amide linkage",
    "O=CO": "by an ester linkage",
    "SS": "by a disulfide linkage",
    "O=S": "through a sulfinyl group",
    "O=S=O": "through a sulfonyl group",
    "NS(=O)=O": "by a sulfonamide linkage",
    "O=S(=O)O": "by a sulfonate ester linkage",
    "C=CC=O": "by an enone bridge",
    "C=NN": "by a hydrazone linkage",
    "C=NN=C": "by an azine linkage",
    "NC(N)=O": "by a urea linkage",
    "NC(N)=S": "by a thiourea linkage",
    "O=CC=O": "by a 1,2-diketone bridge",
}


def number(count: int) -> str:
    """A count as a word up to twenty, as digits above."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def article(noun: str) -> str:
    """A noun with its indefinite article.

    >>> article("ester"), article("urea group"), article("8-quinolyl group"), article("N-oxide")
    ('an ester', 'a urea group', 'an 8-quinolyl group', 'an N-oxide')
    """
    bare = noun.lstrip("([{")
    vowel = bare.startswith(("8", "11", "18", "N-", "N,", "S-", "O-", "S)", "R)", "E)"))
    sounded = bare[:1].lower() in "aeiou" and not bare.lower().startswith(("uni", "ure", "eu", "one"))
    return f"{'an' if vowel or sounded else 'a'} {noun}"


def plural(noun: str, count: int) -> str:
    """A count and a noun, such as "a nitro group" or "two rings with one oxygen atom"."""
    if count == 1:
        return article(noun)
    head, with_, tail = noun.partition(" with ")
    return f"{number(count)} {head}s{with_}{tail}"


def listed(items: list[str]) -> str:
    """Items joined as "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


# --- rings ------------------------------------------------------------------------------------------


@cache
def _gonane() -> Chem.Mol:
    return Chem.MolFromSmarts(_GONANE)


def _rings_in(view: Skeleton, system: RingSystem) -> list[tuple[int, ...]]:
    return [ring for ring in view.molecule.GetRingInfo().AtomRings() if system.core.issuperset(ring)]


def _heteroatoms(view: Skeleton, system: RingSystem) -> str:
    """The heteroatoms of a ring system, such as "one nitrogen atom and two oxygen atoms"."""
    counts = Counter(view.atoms[atom].GetAtomicNum() for atom in system.core)
    counts.pop(6, None)
    table = Chem.GetPeriodicTable()
    names = [(table.GetElementName(z).lower(), n) for z, n in sorted(counts.items())]
    return listed([f"{number(n)} {name} atom{'s' * (n > 1)}" for name, n in names]) if names else ""


def is_steroid(view: Skeleton, system: RingSystem) -> bool:
    """Whether a ring system is the tetracyclic carbon skeleton of the steroids."""
    if len(system.core) != 17 or len(_rings_in(view, system)) != 4:
        return False
    return any(system.core.issuperset(match) for match in view.molecule.GetSubstructMatches(_gonane()))


def ring_noun(view: Skeleton, system: RingSystem) -> str:
    """A ring system as a noun, such as "pyridine ring" or "five-membered carbocycle"."""
    rings = _rings_in(view, system)
    kind = "ring" if len(rings) == 1 else "ring system"
    if is_steroid(view, system):
        return "steroid skeleton"
    if system.ring is not None:
        return f"{_oxo_name(view, system)} {kind}"
    heteroatoms = _heteroatoms(view, system)
    content = f" with {heteroatoms}" if heteroatoms else ""
    if len(rings) == 1:
        size = f"{number(len(system.core))}-membered"
        return f"{size} ring{content}" if heteroatoms else f"{size} carbocycle"
    cycles = f"{_CYCLES[len(rings)]}cyclic" if len(rings) < len(_CYCLES) else "polycyclic"
    return f"{_fusion(rings)}{'' if heteroatoms else 'carbo'}{cycles} ring system{content}"


def _fusion(rings: list[tuple[int, ...]]) -> str:
    """How the rings of a system share atoms: spiro (one), fused (two neighbours) or bridged (more)."""
    shared = {len(set(ring) & set(other)) for ring in rings for other in rings if ring is not other} - {0}
    if max(shared) > 2:
        return "bridged "
    return {frozenset({1}): "spiro-linked ", frozenset({2}): "fused "}.get(frozenset(shared), "")


def _oxo_name(view: Skeleton, system: RingSystem) -> str:
    """Name of a ring including its exocyclic =O and =S, such as pyrimidinedione."""
    name = system.ring.name if system.ring is not None else ""
    if is_charged(view, system):
        return name.removesuffix("e") + "ium"
    if system.atoms != system.core or name.endswith("ium"):
        return name
    carbons = [atom for atom in system.core if view.symbol(atom) == "C"]
    exocyclic = Counter(
        view.symbol(other)
        for atom in carbons
        for other in view.neighbours(atom, *system.core)
        if view.bond(atom, other) == DOUBLE
    )
    counts = ("", "", "di", "tri", "tetra")
    oxygen, sulfur = min(exocyclic["O"], 4), min(exocyclic["S"], 4)
    if oxygen:
        stem = name.removesuffix("e") if oxygen == 1 else name
        thioxo = f"thioxo{'-' * name[0].isdigit()}" if sulfur else ""
        return f"{thioxo}{stem}{counts[oxygen]}one"
    return f"{name}{counts[sulfur]}thione" if sulfur else name


def ring_nouns(view: Skeleton) -> list[tuple[str, int]]:
    """Ring systems as (noun, count), the rarest kinds of rings first."""
    counts = Counter(ring_noun(view, system) for system in view.systems)
    return sorted(counts.items(), key=lambda item: (item[0] == "benzene ring", item[0]))


def ring_classes(view: Skeleton) -> list[str]:
    """Classes of a molecule by its rings, such as "member of quinolines", "steroid" or "spiro compound"."""
    labels = []
    for system in sorted(view.systems, key=lambda system: (-len(system.core), min(system.core))):
        if is_steroid(view, system):
            labels.append("steroid")
        elif system.ring is not None and not is_charged(view, system):
            labels.append(RING_CLASSES.get(system.ring.name, f"member of {system.ring.name}s"))
        elif system.ring is None:
            labels.append(_cyclic_class(view, system))
        rings = _rings_in(view, system)
        if len(system.core) >= 12 and max(map(len, rings)) >= 12:
            labels.append("macrocycle")
    if rdMolDescriptors.CalcNumSpiroAtoms(view.molecule):
        labels.append("spiro compound")
    if rdMolDescriptors.CalcNumBridgeheadAtoms(view.molecule):
        labels.append("bridged compound")
    return [name for name in dict.fromkeys(labels) if name]


def _cyclic_class(view: Skeleton, system: RingSystem) -> str:
    count = len(_rings_in(view, system))
    cycles = f"{_CYCLES[count]}cyclic" if count < len(_CYCLES) else "polycyclic"
    if all(view.symbol(atom) == "C" for atom in system.core):
        return f"carbo{cycles} compound"
    return f"organic hetero{cycles} compound"


def linker(view: Skeleton) -> str | None:
    """Connection of a molecule's two ring systems, such as "by an azo group"."""
    if len(view.systems) != 2:
        return None
    first, second = view.systems
    paths = (Chem.GetShortestPath(view.molecule, start, end) for start in first.core for end in second.core)
    shortest = min(filter(None, paths), key=len, default=None)
    if shortest is None:
        return None
    inner = [atom for atom in shortest if atom not in first.core | second.core]
    oxo = [
        other
        for atom in inner
        for other in view.neighbours(atom)
        if view.bond(atom, other) == DOUBLE and len(view.neighbours(other)) == 1
    ]
    key = Chem.MolFragmentToSmiles(view.molecule, inner + oxo) if inner else ""
    return _LINKERS.get(key, f"through a chain of {number(len(inner))} atoms" if len(inner) > 2 else None)


def benzene_pattern(view: Skeleton) -> str | None:
    """Substitution pattern of a molecule's single benzene ring, such as "para-disubstituted"."""
    benzenes = [system for system in view.systems if system.ring and system.ring.name == "benzene"]
    if len(benzenes) != 1:
        return None
    core = benzenes[0].core
    order = next(ring for ring in view.molecule.GetRingInfo().AtomRings() if core.issuperset(ring))
    taken = [bool(view.neighbours(atom, *core)) for atom in order]
    turns = [taken[shift:] + taken[:shift] for shift in range(6)]
    turns += [turn[::-1] for turn in turns]
    lowest = min([position for position, flag in enumerate(turn, 1) if flag] for turn in turns)
    if len(lowest) == 2:
        return {2: "ortho", 3: "meta", 4: "para"}[lowest[1]] + "-disubstituted"
    if 2 < len(lowest) < 6:
        return f"{','.join(map(str, lowest))}-{_COUNTS[len(lowest)]}substituted"
    return "fully substituted" if len(lowest) == 6 else None


# --- classes and groups -----------------------------------------------------------------------------


def classes(view: Skeleton) -> list[str]:
    """Classes of a molecule, functional classes first, without the classes that others imply."""
    labels = []
    for group, count in view.groups:
        if group.compound_class:
            labels.append(group.compound_class.format(n=_COUNTS[min(count, 4)] if count < 5 else "poly"))
    labels += _framework_classes(view, bool(labels))
    labels += ring_classes(view)
    implied = set().union(*(_IMPLIED.get(name, set()) for name in labels))
    labels = [name for name in dict.fromkeys(labels) if name not in implied]
    labels = [name for name in labels if name != "member of benzenes"] or labels
    organic = any(atom.GetSymbol() == "C" for atom in view.atoms)
    return labels or ["organic molecular entity" if organic else "inorganic molecular entity"]


def _framework_classes(view: Skeleton, functional: bool) -> list[str]:
    """Classes for the elements and the carbon framework: fatty acids, hydrocarbons, organosilicons."""
    elements = Counter(atom.GetSymbol() for atom in view.atoms)
    bound = {
        view.symbol(other)
        for index, atom in enumerate(view.atoms)
        if atom.GetSymbol() == "C"
        for other in view.adjacent[index]
    }
    labels = [name for symbol, name in _ORGANO.items() if symbol in bound]
    if set(elements) == {"C"}:
        if any(atom.GetIsAromatic() for atom in view.atoms):
            labels.append("arene")
        elif functional:
            labels.append("hydrocarbon")
        else:
            labels.append("cycloalkane" if view.systems else "alkane")
    acids = [count for group, count in view.groups if group.noun == "carboxy group"]
    if acids == [1] and not view.systems and elements["O"] == 2 and set(elements) == {"C", "O"}:
        labels += _fatty_acid_classes(view, elements["C"])
    return labels


def _fatty_acid_classes(view: Skeleton, length: int) -> list[str]:
    if length < 4:
        return []
    carbons = [
        [other for other in view.adjacent[index] if view.symbol(other) == "C"] for index in range(len(view.atoms))
    ]
    branched = any(len(bound) > 2 for index, bound in enumerate(carbons) if view.symbol(index) == "C")
    shape = "branched" if branched else "straight"
    multiple = any("compound" in group.compound_class for group, _ in view.groups)
    size = "short" if length < 6 else "medium" if length < 13 else "long" if length < 23 else "very long"
    return [f"{shape}-chain {'un' * multiple}saturated fatty acid", f"{size}-chain fatty acid"]


_ORGANO = {
    "B": "organoboron compound",
    "Si": "organosilicon compound",
    "P": "organophosphorus compound",
    "As": "organoarsenic compound",
    "Se": "organoselenium compound",
    "Sn": "organotin compound",
    "Sb": "organoantimony compound",
    "Hg": "organomercury compound",
    "Bi": "organobismuth compound",
    "Fe": "organoiron compound",
}


def group_nouns(view: Skeleton) -> list[tuple[str, int]]:
    """Functional groups as (noun, count), in the order of the table."""
    counts: Counter[str] = Counter()
    for group, count in view.groups:
        if group.noun:
            counts[group.noun] += count
    return list(counts.items())


# --- chains, atoms, charge, stereo ------------------------------------------------------------------


def longest_chain(view: Skeleton) -> int:
    """Length of the longest unbranched chain of CH2 groups, with a CH3 at its end if there is one."""
    links = {
        atom.GetIdx()
        for atom in view.atoms
        if atom.GetSymbol() == "C"
        and atom.GetHybridization() == Chem.HybridizationType.SP3
        and not atom.IsInRing()
        and atom.GetTotalNumHs() >= 2
    }
    longest = 0
    while links:
        stack, size = [links.pop()], 0
        while stack:
            size += 1
            further = set(view.neighbours(stack.pop())) & links
            links -= further
            stack.extend(further)
        longest = max(longest, size)
    return longest


def composition(view: Skeleton) -> tuple[int, list[tuple[str, int]]]:
    """Number of carbon atoms, and (element, count) of the heteroatoms by atomic number."""
    counts = Counter(atom.GetAtomicNum() for atom in view.atoms)
    table = Chem.GetPeriodicTable()
    others = [(table.GetElementName(z).lower(), n) for z, n in sorted(counts.items()) if z not in (1, 6)]
    return counts[6], others


def stereo(molecule: Chem.Mol) -> list[str]:
    """Stereochemical facts in words, including the number of undefined stereocentres."""
    labels = []
    centres = Counter(label for _, label in Chem.FindMolChiralCenters(molecule, includeUnassigned=True))
    for label in "RS":
        if centres[label]:
            labels.append(plural(f"({label})-configured stereocentre", centres[label]))
    if centres["?"]:
        labels.append(plural("stereocentre", centres["?"]) + " of unspecified configuration")
    double = Counter(str(bond.GetStereo()) for bond in molecule.GetBonds())
    for label in "EZ":
        if double[f"STEREO{label}"]:
            labels.append(plural(f"({label})-configured double bond", double[f"STEREO{label}"]))
    return labels


def isotopes(view: Skeleton) -> list[str]:
    """Isotopic labels in words, such as "two deuterium atoms" or "a carbon-13 atom"."""
    table = Chem.GetPeriodicTable()
    labelled = [atom for atom in view.atoms if atom.GetIsotope()]
    counts = Counter((atom.GetAtomicNum(), atom.GetIsotope()) for atom in labelled)
    named = {(1, 2): "deuterium", (1, 3): "tritium"}
    return [
        plural(named.get(key, f"{table.GetElementName(key[0]).lower()}-{key[1]}") + " atom", count)
        for key, count in sorted(counts.items())
    ]
