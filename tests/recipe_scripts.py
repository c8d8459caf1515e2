"""The scripts of `recipes/` as modules, so that most tests need no process of their own."""

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

RECIPES = Path(__file__).parents[1] / "recipes"


@functools.cache
def load_recipe_script(name: str) -> ModuleType:
    """`recipes/NAME.py`, imported once in each process."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
