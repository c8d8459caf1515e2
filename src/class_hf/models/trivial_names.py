"""Looks up names that say nothing about the structure: drugs, natural products, dyes."""

from collections.abc import Iterable

_SHORTEST = 4  # characters; shorter names are mostly abbreviations of something else
_MAIN_NAMES = 4  # a compound's systematic name, its title and two more; the others are brands and catalogue codes
# Entries of the table that captions use as prose, or as a class of which the table has the simplest member.
_NO_COMPOUNDS = frozenset(
    """
    accelerate acetal alcohol allergen amide blockade cascade chrome cycle diacid diamine dimethyl diphenol disulfide
    ether glycol heat hexonic india lime limit matrix monoazo neuronal nitramine nitride nitrosamine octamethyl oxide
    oxytocic peroxide polo polyamide progress release screen selective selenide sensitizer strychnos sulfide sulfoxide
    tris trisulfide
    """.split()
) | {"free acid", "hexonic acid"}


def look_up(names: Iterable[str]) -> dict[str, str]:
    """Looks names up in the table of the package `chemicals`.

    The table holds 72,000 compounds of PubChem with their synonyms. Only a compound's first four names count, the
    title among them. Case is ignored. The SMILES has stereochemistry if PubChem's record has it, which is often not
    the case. The first call loads the table, which takes about four seconds and 200 MiB.

    Args:
        names: the names.

    Returns:
        SMILES by name. Names that the table does not have are left out.

    Raises:
        ImportError: if `chemicals` is not installed.

    Example:

    ```python
    >>> look_up(["Melatonin", "alcohol", "no such compound"])
    {'Melatonin': 'CC(=O)NCCC1=CNC2=C1C=C(C=C2)OC'}

    ```
    """
    keys = {name: name.lower() for name in names if len(name) >= _SHORTEST}
    keys = {name: key for name, key in keys.items() if key not in _NO_COMPOUNDS}
    if not keys:
        return {}
    # In a `try`, because transformers refuses exported code with an import that is not installed, even for a model
    # that reads no names.
    try:
        from chemicals.identifiers import get_pubchem_db
    except ImportError as error:
        raise ImportError(
            "the model reads chemical names, and trivial names need the package chemicals: pip install chemicals "
            "(class_hf's extra `names`)."
        ) from error

    table = get_pubchem_db()
    compounds = {name: (key, table.search_name(key)) for name, key in keys.items()}
    return {
        name: compound.smiles
        for name, (key, compound) in compounds.items()
        if compound and key in compound.synonyms[:_MAIN_NAMES]
    }
