"""Names that say nothing of the structure: drugs, natural products, dyes. They are looked up."""

from collections.abc import Iterable

_SHORTEST = 4  # characters; shorter ones are abbreviations of much else
_MAIN_NAMES = 4  # a compound's systematic name, its title, and two more; further ones are brands and catalogue codes
# What the table has as a compound and a caption means as prose, or as a class whose simplest member the table gives.
_NO_COMPOUNDS = frozenset(
    """
    accelerate acetal alcohol allergen amide blockade cascade chrome cycle diacid diamine dimethyl diphenol disulfide
    ether glycol heat hexonic india lime limit matrix monoazo neuronal nitramine nitride nitrosamine octamethyl oxide
    oxytocic peroxide polo polyamide progress release screen selective selenide sensitizer strychnos sulfide sulfoxide
    tris trisulfide
    """.split()
) | {"free acid", "hexonic acid"}


def look_up(names: Iterable[str]) -> dict[str, str]:
    """SMILES of the names that the table of the package `chemicals` has; the others are left out (ours).

    The table holds 72,000 compounds of PubChem with their synonyms. Only the first four names of each count, its title
    among them, whatever their case. Stereochemistry is there where PubChem has it for that record; often it is not.
    The table is read when it is first asked (some four seconds, 200 MiB).

    Raises:
        ImportError: if `chemicals` is not installed.

    Example:

    ```python
    >>> look_up(["Melatonin", "alcohol", "nothing of the kind"])
    {'Melatonin': 'CC(=O)NCCC1=CNC2=C1C=C(C=C2)OC'}
    ```
    """
    asked = {name: name.lower() for name in names if len(name) >= _SHORTEST}
    asked = {name: key for name, key in asked.items() if key not in _NO_COMPOUNDS}
    if not asked:
        return {}
    # In a `try`: transformers refuses exported code that imports what is not installed, even for models without names.
    try:
        from chemicals.identifiers import get_pubchem_db
    except ImportError as error:
        raise ImportError(
            "the model reads chemical names, trivial ones too, for which it needs their table: pip install chemicals "
            "(class_hf's extra `names`)."
        ) from error

    table = get_pubchem_db()
    found = {name: (key, table.search_name(key)) for name, key in asked.items()}
    return {name: one.smiles for name, (key, one) in found.items() if one and key in one.synonyms[:_MAIN_NAMES]}
