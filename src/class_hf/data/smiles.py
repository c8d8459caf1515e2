"""Checks and repairs of SMILES strings."""

import re

from rdkit import Chem

from class_hf.models.smiles import parse_smiles

ASCII_SPACE = " \t\r\n\f\v"
_REPEATED_BACKSLASH = re.compile(r"\\{2,}")
_EXTENSION = re.compile(r"\|[^|]*\|(?=\s|$)")


def repair_smiles(smiles: str) -> str:
    r"""Strips ASCII white space, and makes repeated backslashes single.

    `\` is a bond direction in SMILES and is never legally repeated, so a run of backslashes is an escaping error
    (about 15 % of MolT5's files). RDKit reads both spellings, a tokenizer does not. Nothing else changes: the SMILES
    is not rewritten, and its stereochemistry stays.

    >>> print(repair_smiles(r" C/C=C\\C"))
    C/C=C\C
    """
    return _REPEATED_BACKSLASH.sub(r"\\", smiles.strip(ASCII_SPACE))


def split_name(text: str) -> tuple[str, str]:
    """Splits a line into a SMILES, with its CXSMILES extension, and a name.

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


def read_smiles(smiles: str) -> tuple[Chem.Mol | None, str | None]:
    """The molecule of a SMILES and None, or None and what is wrong with the SMILES.

    The rules are those of the feature extractors ([`~class_hf.models.smiles.parse_smiles`]):
    no characters outside ASCII, no words after the SMILES, limits on its size.

    Args:
        smiles: the text, after [`repair_smiles`].

    >>> read_smiles("CCO")[0].GetNumAtoms()
    3
    >>> read_smiles("CCO ethanol")
    (None, "the SMILES 'CCO' is followed by 'ethanol'; expected nothing after it, or an extension |...|")
    """
    if not smiles:
        return None, "empty or missing: smiles"
    try:
        return parse_smiles(smiles), None
    except ValueError as error:
        return None, str(error).removesuffix(".")


def canonical_smiles(smiles: str) -> str:
    """The canonical SMILES of a molecule, equal for all its SMILES. A SMILES that is refused is returned unchanged.

    Args:
        smiles: the text. [`read_smiles`] says which SMILES are refused.

    >>> canonical_smiles("OCC"), canonical_smiles("C1CC(")
    ('CCO', 'C1CC(')
    """
    molecule, _ = read_smiles(smiles)
    return smiles if molecule is None else Chem.MolToSmiles(molecule)


def smiles_fault(smiles: str) -> str | None:
    """What is wrong with a SMILES, or None; see [`read_smiles`].

    >>> smiles_fault("CCO"), smiles_fault("C[C@H](O)CC |&1:1|")
    (None, None)
    >>> smiles_fault("C1CC(")
    "RDKit cannot parse the SMILES 'C1CC(': the syntax is invalid"
    """
    return read_smiles(smiles)[1]
