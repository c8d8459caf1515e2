"""Importing is light, names resolve, and dependencies point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import class_hf

SOURCE = Path(class_hf.__file__).parent


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    heavy = ("torch", "transformers", "rdkit", "datasets", "numpy", "matplotlib")
    assert python(f"import sys, class_hf; print([n for n in {heavy!r} if n in sys.modules])") == "[]"


def test_every_public_name_resolves():
    assert {name for name in class_hf.__all__ if not hasattr(class_hf, name)} == set()


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = class_hf.nothing


LEXICAL = "print(type(AutoModel.from_config(AutoConfig.for_model('lexical', hidden_size=4))).__name__)"
TASK = (
    "from transformers.pipelines import check_task; "
    "print(check_task('molecule-feature-extraction')[1]['impl'].__name__)"
)
ORDERS = {
    "import class_hf; from transformers import AutoConfig, AutoModel, AutoTokenizer, AutoProcessor": LEXICAL,
    "from transformers import AutoConfig, AutoModel, AutoTokenizer, AutoProcessor; import class_hf": LEXICAL,
    "import class_hf; from transformers import AutoProcessor, AutoTokenizer, AutoModel, AutoConfig": LEXICAL,
    "import transformers, class_hf; from transformers import AutoModel, AutoConfig, AutoTokenizer": LEXICAL,
    "import class_hf; from transformers import pipeline": TASK,
    "import class_hf.pipelines; from transformers import pipeline": TASK,
}


def test_transformers_knows_us_whatever_is_imported_first():
    """Each order of imports in a process that has imported neither of the two, with warnings as errors."""
    code = f"""
import os, sys
import accelerate, datasets, rdkit.Chem, scipy.stats, tokenizers, torch._dynamo  # once for all orders
assert "transformers" not in sys.modules and "class_hf" not in sys.modules
for order, question in {ORDERS!r}.items():
    pid = os.fork()
    if not pid:
        exec(order + "; " + question)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, order
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "already registered" not in done.stderr, done.stderr
    assert done.stdout.split() == ["LexicalModel"] * 4 + ["MoleculeFeatureExtractionPipeline"] * 2


# Which rooms each room may import. A room is a folder or a file of the package. Every room stands here, so that a new
# one fails until somebody decides on which floor it stands.
ALLOWED: dict[str, set[str]] = {
    "_version": set(),
    "models": set(),
    "utils": {"_version"},
    # Of models, data uses `parse_smiles`: the loader and the feature extractors accept the same SMILES.
    "data": {"models", "utils", "_version"},
    "difficulty": {"models", "utils"},
    "curriculum": {"difficulty", "utils"},
    "config": {"difficulty", "utils", "_version"},
    "evaluation": {"data", "models", "utils"},
    "losses": {"curriculum", "models", "utils"},
    "hub": {"curriculum", "data", "evaluation", "models", "utils", "_version"},
    "backbones": {"config", "hub", "losses", "models", "utils"},
    "training": {"curriculum", "data", "difficulty", "evaluation", "hub", "losses", "utils"},
    "search": {"data", "evaluation", "hub", "models", "utils", "_version"},
    "shards": {"data", "difficulty", "models", "search", "utils", "_version"},
    "plots": {"curriculum", "data", "difficulty", "evaluation", "search", "utils"},
    "service": {"search", "utils", "_version"},
    "page": {"config", "data", "evaluation", "hub", "models", "search", "utils", "_version"},
    "pipelines": {"data", "evaluation", "models", "search", "utils"},
    "studies": {"config", "plots", "training", "utils"},
    "_register": {"models", "pipelines"},
    "cli": {"config", "utils", "_version"},
    # The old places of two modules; they go in 0.3.
    "adapters": {"backbones", "utils"},
    "explain": {"evaluation", "utils"},
    "__main__": {"cli"},
    "__init__": {"_register", "_version"},
}


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports; `__init__` stands for the package itself."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.level:
                parents = path.parent.relative_to(SOURCE.parent).parts
                names = [".".join([*parents[: len(parents) - node.level + 1], node.module or ""])]
            elif node.module == "class_hf":
                names = [f"class_hf.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "class_hf":
                rooms.add(parts[1] if len(parts) > 1 else "__init__")
    return rooms


FILES = sorted(path for path in SOURCE.rglob("*.py") if "recipes" not in path.relative_to(SOURCE).parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_one_way(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    forbidden = imported_rooms(path) - ALLOWED[room] - {room}
    assert not forbidden, f"{path} imports {sorted(forbidden)}; {room} may import {sorted(ALLOWED[room])}"


def test_rooms_form_no_circle():
    floors: list[set[str]] = []
    left = dict(ALLOWED)
    while left:
        floor = {room for room, allowed in left.items() if not allowed & set(left) - {room}}
        assert floor, f"these rooms import each other in a circle: {sorted(left)}"
        floors.append(floor)
        left = {room: allowed for room, allowed in left.items() if room not in floor}
    assert floors[0] == {"_version", "models"}


def test_at_most_eight_files_lie_flat():
    flat = {path.name for path in SOURCE.glob("*.py")} - {"adapters.py", "explain.py"}  # forwarders, until 0.3
    assert len(flat) <= 8, sorted(flat)


def test_files_have_at_most_400_lines():
    """One idea a file. A longer file stands here with its reason."""
    allowed: dict[str, str] = {}
    paths = [*SOURCE.rglob("*.py"), *(SOURCE.parents[1] / "recipes").glob("*.py")]
    lengths = {path.as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    long = {path: length for path, length in lengths.items() if length > 400 and not path.endswith(tuple(allowed))}
    assert not long, f"split these files, or list them with the reason: {long}"


def test_models_are_portable():
    """Files that travel to the Hub import only their neighbours, in the form that works there."""
    for path in (SOURCE / "models").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module and "." not in node.module, f"{path}: {ast.dump(node)}"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [name for name in names if name.startswith("class_hf")], path
