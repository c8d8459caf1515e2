"""Checks and repairs of SMILES strings."""

import re
import unicodedata

from rdkit import Chem, rdBase

MAX_SMILES = 20_000  # characters; the longest SMILES of PubChem are shorter
ASCII_SPACE = " \t\r\n\f\v"
_REPEATED_BACKSLASH = re.compile(r"\\{2,}")
_EXTENSION = re.compile(r"\|[^|]*\|(?=\s|$)")
_SHOWN = 80


def repair_smiles(smiles: str) -> str:
    r"""Strip ASCII white space, and make repeated backslashes single.

    `\` is a bond direction in SMILES and is never legally repeated, so a run of backslashes is an escaping error
    (about 15 % of MolT5's files). RDKit reads both spellings, a tokenizer does not. Nothing else changes: the SMILES
    is not rewritten, and its stereochemistry stays.

    >>> print(repair_smiles(r" C/C=C\\C"))
    C/C=C\C
    """
    return _REPEATED_BACKSLASH.sub(r"\\", smiles.strip(ASCII_SPACE))


def split_name(text: str) -> tuple[str, str]:
    """Split a line into a SMILES, with its CXSMILES extension, and a name.

    A part `|...|` directly after the SMILES is a CXSMILES extension. It stays with the SMILES in all file formats.

    >>> split_name("C[C@H](O)CC |&1:1| rac-2-butanol")
    ('C[C@H](O)CC |&1:1|', 'rac-2-butanol')
    >>> split_name("CCO ethyl alcohol")
    ('CCO', 'ethyl alcohol')
    """
    smiles, *rest = text.strip(ASCII_SPACE).split(maxsplit=1)
    name = rest[0] if rest else ""
    extension = _EXTENSION.match(name)
    if extension:
        return f"{smiles} {extension.group()}", name[extension.end() :].strip()
    return smiles, name.strip()


def smiles_fault(smiles: str, molecule: Chem.Mol | None = None, parsed: bool = False) -> str | None:
    """What is wrong with a SMILES, or None.

    RDKit drops characters outside ASCII at the ends of a SMILES, and takes words after white space for a name. Both
    would give another molecule than the text says, so both are refused.

    Args:
        smiles: the text, after [`repair_smiles`].
        molecule, parsed: what RDKit made of it, if it was parsed before.

    Returns:
        The start of a sentence without a full stop, such as `"RDKit cannot parse the SMILES 'C1CC('"`.

    >>> smiles_fault("CCO"), smiles_fault("C[C@H](O)CC |&1:1|")
    (None, None)
    >>> smiles_fault("CC" + chr(0x041E))
    "the SMILES 'CC\\\\u041e' holds the character U+041E (CYRILLIC CAPITAL LETTER O); expected ASCII"
    >>> smiles_fault("CCO ethanol")
    "the SMILES 'CCO ethanol' holds white space"
    """
    if not smiles:
        return "empty or missing: smiles"
    if len(smiles) > MAX_SMILES:
        return f"the SMILES {smiles[:20]!r}... has {len(smiles):,} characters; expected at most {MAX_SMILES:,}"
    shown = repr(smiles) if len(smiles) <= _SHOWN else f"{smiles[:_SHOWN]!r}..."
    for character in smiles if not smiles.isascii() or not smiles.isprintable() else "":
        if not " " <= character <= "~":
            name = unicodedata.name(character, "a control character")
            code = f"U+{ord(character):04X} ({name})"
            return f"the SMILES {ascii(smiles[:_SHOWN])} holds the character {code}; expected ASCII"
    if " " in smiles and split_name(smiles)[1]:
        return f"the SMILES {shown} holds white space"
    if not parsed:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        kind = "CXSMILES" if " " in smiles else "SMILES"
        return f"RDKit cannot parse the {kind} {shown}"
    if not molecule.GetNumAtoms():
        return f"the SMILES {shown} has no atoms"
    return None
