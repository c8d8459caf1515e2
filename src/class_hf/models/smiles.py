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
MAX_NEIGHBOURS = 12  # of one atom; checked for molecules with more than 100 rings
_FEW_RINGS = 100

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
    _check_size(structure)
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles.strip())
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(f"RDKit cannot parse the SMILES {_shortened(smiles.strip())}: {_reason(structure)}.")
    molecule.RemoveAllConformers()
    return molecule


def _shortened(text: str, length: int = 200) -> str:
    """The text in quotes, cut to a length that fits an error message."""
    return repr(text) if len(text) <= length else f"{text[:length]!r}..."


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
    if rings > _FEW_RINGS:
        neighbours = max(atom.GetDegree() for atom in molecule.GetAtoms())
        sizes.append(("neighbours at one atom", neighbours, MAX_NEIGHBOURS))
    for name, size, limit in sizes:
        if size > limit:
            return f"has {size:,} {name}; the limit is {limit:,}"
    return None


def _reason(smiles: str) -> str:
    """Why RDKit cannot parse a SMILES."""
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        if molecule is None:
            return "the syntax is invalid"
        problems = Chem.DetectChemistryProblems(molecule)
    if problems:
        return " ".join(problems[0].Message().split())
    return "it has no atoms" if molecule.GetNumAtoms() == 0 else "the extension is invalid"
