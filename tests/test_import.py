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


@pytest.mark.parametrize(
    "imports",
    [
        "import class_hf; from transformers import AutoConfig, AutoModel, AutoTokenizer, AutoProcessor",
        "from transformers import AutoConfig, AutoModel, AutoTokenizer, AutoProcessor; import class_hf",
        "import class_hf; from transformers import AutoProcessor, AutoTokenizer, AutoModel, AutoConfig",
        "import transformers, class_hf; from transformers import AutoModel, AutoConfig, AutoTokenizer, AutoProcessor",
    ],
)
def test_auto_classes_know_us_whatever_is_imported_first(imports):
    code = (
        f"{imports}\n"
        "config = AutoConfig.for_model('lexical', num_buckets=10, hidden_size=4)\n"
        "print(type(AutoModel.from_config(config)).__name__)"
    )
    assert python(code) == "LexicalModel"


# What each part may import of this package; a part not named here may import everything but the trainer.
ALLOWED = {
    "curriculum": {"curriculum", "models"},  # models: for the reference model of the alignment difficulty
    "losses": {"curriculum", "losses", "distributed", "models"},
    "models": {"models"},
    "evaluation": {"evaluation", "data", "distributed", "outputs"},
    "data": {"data"},
}


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = path.parent.relative_to(SOURCE.parent).parts
                base = base[: len(base) - node.level + 1]
                names = [".".join([*base, node.module or ""])]
            else:
                names = [node.module or ""]
        parts |= {name.split(".")[1] for name in names if name.startswith("class_hf.")}
    return parts


def test_imports_point_one_way():
    for path in SOURCE.rglob("*.py"):
        part = path.relative_to(SOURCE).parts[0]
        allowed = ALLOWED.get(part)
        found = imported_parts(path)
        if allowed is not None:
            assert found <= allowed, f"{path} imports {sorted(found - allowed)}"
        elif part != "__init__.py":
            assert "trainer" not in found, f"{path} imports the trainer"


def test_models_are_portable():
    """Files that travel to the Hub import only their neighbours, in the form that works there."""
    for path in (SOURCE / "models").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module and "." not in node.module, f"{path}: {ast.dump(node)}"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [name for name in names if name.startswith("class_hf")], path
