"""Parses SMILES, for all feature extractors and for the loader of pairs."""

import re
import unicodedata
from functools import lru_cache

from rdkit import Chem, rdBase

# Limits of one molecule. They keep one molecule from blocking a process: RDKit cannot be interrupted, and 1,600 small
# rings took it over two minutes. Within the limits no feature extractor takes more than a few seconds. The largest
# SMILES of ChEBI-20 has 1,598 characters, its largest molecules have 574 atoms and 69 rings.
MAX_SMILES_CHARACTERS = 50_000
MAX_ATOMS = 2_000  # with hydrogens that are written as atoms
MAX_RINGS = 300  # bonds - atoms + fragments
MAX_NEIGHBOURS = 12  # of one atom, in molecules with more than 100 rings
MAX_LIGANDS = 30  # of one atom, in any molecule
_FEW_RINGS = 100
# RDKit keeps the numbers of an atom in one or two bytes. It reads [U+200] as [U-56] and [70000C] as [4464C]. The
# valence is such a number, too, so the neighbours of an atom are limited.
_NUMBERS = {
    "isotope": (re.compile(r"\[(\d+)"), 999),
    "atomic number": (re.compile(r"\[\d*#(\d+)"), 118),
    "number of hydrogens": (re.compile(r"\[[^\]:]*?(?<!@[OT])H(\d+)"), 20),
    "charge": (re.compile(r"\[[^\]:]*?[+-](\d+)"), 99),
}
_LARGE_NUMBER = re.compile(r"\d{3}|H\d\d|#\d")  # without one of these, all are within the limits

_FOREIGN = re.compile(r"[^ -~\t\r\n]")  # not a printable ASCII character and not white space
_EXTENSION = re.compile(r"\|[^|]*\|")


def parse_smiles(smiles: str) -> Chem.Mol:
    """Parses one SMILES or CXSMILES.

    All feature extractors parse by this function. It refuses what RDKit would silently cut off: non-ASCII characters
    and words after the SMILES. White space at the ends is ignored.

    Args:
        smiles: a SMILES. An extension (CXSMILES, ` |...|`) is applied. The features do not encode its enhanced stereo
            groups and coordinates.

    Returns:
        The sanitised molecule, without conformers.

    Raises:
        ValueError: if `smiles` is empty, has a non-ASCII character or words after it, exceeds a limit, or if RDKit
            cannot parse it. The message names the SMILES and the reason.

    Example:

    >>> parse_smiles("CCO").GetNumAtoms()
    3
    >>> parse_smiles("CCO ethanol")
    Traceback (most recent call last):
    ...
    ValueError: the SMILES 'CCO' is followed by 'ethanol'; expected nothing after it, or an extension |...|.
    """
    return Chem.Mol(shared_molecule(smiles))


def shared_molecule(smiles: str) -> Chem.Mol:
    """Parses one SMILES as [`parse_smiles`] does. Several readers of one molecule share one parse.

    Args:
        smiles: a SMILES or CXSMILES.

    Returns:
        The molecule of the last call, if that had the same SMILES, else a new one. Do not change it: copy it by
        `Chem.Mol` first.

    Raises:
        ValueError: as [`parse_smiles`].

    >>> shared_molecule("CCO") is shared_molecule("CCO")
    True
    """
    if not isinstance(smiles, str) or not smiles.strip():
        raise ValueError(f"the SMILES is {repr(smiles)[:60]}; expected a non-empty string.")
    return _parse(smiles)


@lru_cache(maxsize=1)
def _parse(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES that is not empty."""
    if len(smiles) > MAX_SMILES_CHARACTERS:
        raise ValueError(
            f"the SMILES {_shortened(smiles)} has {len(smiles):,} characters; the limit is {MAX_SMILES_CHARACTERS:,}."
        )
    foreign = _FOREIGN.search(smiles)
    if foreign is not None:
        character = foreign.group()
        name = unicodedata.name(character, "a control character")
        raise ValueError(
            f"the SMILES {_shortened(smiles)} has the character U+{ord(character):04X} ({name}) at position "
            f"{foreign.start() + 1}; expected printable ASCII characters only."
        )
    structure, *extension = smiles.split(None, 1)
    if extension and not _EXTENSION.fullmatch(extension[0].strip()):
        raise ValueError(
            f"the SMILES {_shortened(structure)} is followed by {_shortened(extension[0].strip())}; expected nothing "
            "after it, or an extension |...|."
        )
    _check_numbers(structure)
    _check_size(structure)
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles.strip())
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(f"RDKit cannot parse the SMILES {_shortened(smiles.strip())}: {_reason(structure)}.")
    # Two neighbours of an atom need neither a branch nor a digit.
    if structure.count("(") + sum(map(structure.count, "0123456789")) > MAX_LIGANDS - 2:
        if (neighbours := _most_neighbours(molecule)) > MAX_LIGANDS:
            raise ValueError(
                f"the SMILES {_shortened(smiles.strip(), 60)} has {neighbours} neighbours at one atom; the limit is "
                f"{MAX_LIGANDS}."
            )
    molecule.RemoveAllConformers()
    return molecule


def _shortened(text: str, length: int = 200) -> str:
    """The text in quotes, cut to a length that fits an error message."""
    return repr(text) if len(text) <= length else f"{text[:length]!r}..."


def _check_numbers(smiles: str) -> None:
    """Raises ValueError if a number of an atom is one that RDKit would replace by another."""
    if "[" not in smiles or not _LARGE_NUMBER.search(smiles):
        return
    for name, (pattern, limit) in _NUMBERS.items():
        for number in pattern.findall(smiles):
            if int(number[:9]) > limit:
                raise ValueError(
                    f"the SMILES {_shortened(smiles, 60)} has an atom with {name} {number[:9]}; the limit is {limit}."
                )


def _check_size(smiles: str) -> None:
    """Raises ValueError if the molecule exceeds a limit."""
    # Each atom takes a character and each ring two digits, so most molecules need no parsing here.
    if len(smiles) <= MAX_ATOMS and sum(map(smiles.count, "0123456789")) <= 2 * _FEW_RINGS:
        return
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)  # fast: no ring search
    fault = None if molecule is None else size_fault(molecule)
    if fault is not None:
        raise ValueError(f"the SMILES {_shortened(smiles, 60)} {fault}.")


def size_fault(molecule: Chem.Mol) -> str | None:
    """Which limit a molecule exceeds, or None.

    Args:
        molecule: parsed with `sanitize=False`, which is fast because it searches no rings.

    >>> size_fault(Chem.MolFromSmiles("C" * 3000, sanitize=False))
    'has 3,000 atoms; the limit is 2,000'
    """
    atoms = molecule.GetNumAtoms()
    rings = molecule.GetNumBonds() - atoms + len(Chem.GetMolFrags(molecule))
    sizes = [("atoms", atoms, MAX_ATOMS), ("rings", rings, MAX_RINGS)]
    if molecule.GetNumBonds() > MAX_LIGANDS:
        most = MAX_NEIGHBOURS if rings > _FEW_RINGS else MAX_LIGANDS
        sizes.append(("neighbours at one atom", _most_neighbours(molecule), most))
    for name, size, limit in sizes:
        if size > limit:
            return f"has {size:,} {name}; the limit is {limit:,}"
    return None


def _most_neighbours(molecule: Chem.Mol) -> int:
    return max(atom.GetDegree() for atom in molecule.GetAtoms())


def _reason(smiles: str) -> str:
    """Why RDKit cannot parse a SMILES."""
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if molecule is None:
            return "the syntax is invalid"
        try:
            problems = Chem.DetectChemistryProblems(molecule)
        except RuntimeError as error:  # a failed check in RDKit's code, with its file and stack
            return " ".join(str(error).split("Violation occurred")[0].split())
    if problems:
        return " ".join(problems[0].Message().split())
    return "it has no atoms" if molecule.GetNumAtoms() == 0 else "the extension is invalid"
