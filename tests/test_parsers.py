"""Molecules from outside are parsed by `parse_smiles` only, which has limits and refuses what RDKit would cut off."""

import ast
from pathlib import Path

import class_hf

SOURCE = Path(class_hf.__file__).parent
RECIPES = Path(__file__).parents[1] / "recipes"
# Files that may call a parser of RDKit, each for a reason.
ALLOWED = {
    "models/smiles.py",  # parse_smiles itself
    "data/sdf.py",  # mol blocks: the limits are checked first, and the SMILES that RDKit writes is parsed again
    "search/substructure_worker.py",  # in a process with a time limit, without this package
    "models/substructures.py",  # a pattern that is a constant of the code
    # The demo set: molecules of RDKit's own file, and patterns that are constants of the code.
    "data/demo/captions.py",
    "data/demo/dataset.py",
    "data/demo/facts.py",
    "data/demo/groups.py",
    "data/demo/names.py",
    "data/demo/parts.py",
    "data/demo/prefixes.py",
    "data/demo/skeleton.py",
}


def parser_calls(code: str) -> list[str]:
    """The names of RDKit's parsers that a file uses: `MolFrom...`, suppliers and reaction readers."""
    names = [node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    names += [
        alias.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    return [name for name in names if name.startswith(("MolFrom", "MolsFrom", "ReactionFrom")) or "Supplier" in name]


def test_a_parser_call_is_recognised():
    assert parser_calls("from rdkit import Chem\nm = map(Chem.MolFromSmiles, x)") == ["MolFromSmiles"]
    assert parser_calls("from rdkit.Chem import MolFromMolBlock") == ["MolFromMolBlock"]


def test_only_these_files_call_a_parser_of_rdkit():
    files = [(path.relative_to(SOURCE).as_posix(), path) for path in SOURCE.rglob("*.py")]
    files += [(f"recipes/{path.name}", path) for path in RECIPES.glob("*.py")]
    calling = {name for name, path in files if parser_calls(path.read_text(encoding="utf-8"))}
    assert calling == ALLOWED
