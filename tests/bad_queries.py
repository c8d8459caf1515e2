"""Malformed queries, for the index and for the page."""

from class_hf.search.query import MAX_K, MAX_SMARTS, MAX_SMILES, MAX_TEXT

# A ring of 46 atoms, one of them N or O. Matching it in a cage of carbon takes years.
BOMB = "*1" + "~*" * 44 + "~[#7,#8]1"

CONTROLS = [chr(code) for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160))]
EMPTY = ["", " ", "\n", "\t \n", "\u00a0"]
NO_STRINGS = [0, 1.5, True, b"CCO", {"a": 1}, {"CCO"}, object(), [], (), [None], [""], ["CCO", 3], [["CCO"]]]
WITHOUT_WORDS = ["?!", "...", "-", "* # |", "\u2014", "\U0001f9ea", "()[]"]
NOT_SMILES = [
    *"C1CC C( C) (( c1cc1 C= =C= [C C] [ ] Q Xx C% C%1 [13 [C@@@H] CC(C)(C)(C)(C)C [Hydrogen] C1CC2 C1CC3 [C+".split(),
    *"hello N#N#N <script> C[ (C) 1CC1 %% O=O=O F(C)C C..( [C+99999999999] {} $$ '' \" C$$ cc \\ C>> A l".split(),
    *("not a molecule", "CCO; DROP TABLE", "🧪"),
]
NOT_SMARTS = ["[", "C(", "[#999999999999]", "[$(C]", "C1CC", "((((", "[C;", "!", "[!]", "{", "hello world", "[#6", "&"]


def malformed():
    """Pairs of an argument's name and a value that it must refuse."""
    yield from (("text", value) for value in EMPTY + NO_STRINGS)
    yield from (("text", value) for value in WITHOUT_WORDS)
    yield from (("smiles", value) for value in EMPTY + NO_STRINGS + NOT_SMILES)
    yield from (("text", f"a steroid{code}ester") for code in CONTROLS[::2])
    yield from (("smiles", f"C{code}C") for code in CONTROLS[::2])
    yield from (("text", value) for value in ("\ud800", "a" * (MAX_TEXT + 1), "ester " * 200_000))
    yield from (("smiles", value) for value in ("C" * (MAX_SMILES + 1), "C(" * 50_000, "C1" * 900, "[" * 1500))
    yield from (("k", value) for value in (0, -1, MAX_K + 1, 10**30, 1.0, "5", True, None, float("nan"), [3]))
    for name in ("min_weight", "max_weight"):
        yield from ((name, value) for value in (-1, float("nan"), float("inf"), "heavy", [1]))
    yield from (("elements", value) for value in ("Xx", ["C", "?"], ["carbon"], [6], ["c"], "C;N"))
    yield from (("substructure", value) for value in EMPTY + NOT_SMARTS + [7, "C" * (MAX_SMARTS + 1), "C\x00"])
    yield from (("time_limit", value) for value in (0, -1, float("nan"), float("inf"), "1"))


CASES = list(malformed())
