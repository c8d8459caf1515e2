"""Loads an object that a user names as `package.module:Name`."""

import hashlib
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from class_hf.utils.messages import one_line
from class_hf.utils.suggestions import did_you_mean

# Modules of the user's own that every process imports before it loads a model.
REMEMBERED = "CLASS_HF_IMPORT"


def is_object_path(name: str) -> bool:
    """Whether a name has the form `package.module:Name`.

    >>> is_object_path("my_package.difficulty:Length"), is_object_path("alignment"), is_object_path("C:/models")
    (True, False, False)
    """
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])


def load_module(name: str, path: str | None = None) -> ModuleType:
    """Imports a module, also from the current folder, which is searched last.

    Args:
        name: the module.
        path: *optional*, what the user gave, for the message. Default: the name of the module.

    Raises:
        ImportError: if the module cannot be imported. The message says why.

    >>> load_module("collections").__name__
    'collections'
    >>> load_module("no_such_module")
    Traceback (most recent call last):
    ImportError: 'no_such_module': there is no module 'no_such_module'. Install it, or run in its folder.
    """
    path = path or name
    if not {"", os.getcwd()} & set(sys.path):
        # The console command has its own folder on the path, not the user's.
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the user's module imports is missing: another cause, and another remedy.
        is_requested = error.name is not None and f"{name}.".startswith(f"{error.name}.")
        advice = "Install it, or run in its folder." if is_requested else f"{name} imports it: install it."
        raise ImportError(f"{path!r}: there is no module {error.name!r}. {advice}") from error
    except Exception as error:
        raise ImportError(
            f"{path!r}: importing {name} raised {type(error).__name__}: {one_line(error)}. Check that module."
        ) from error


def code_digest(names: str | Iterable[str]) -> str:
    """A hash of the modules that define objects of the user's own. It changes if one of these files changes.

    Args:
        names: `package.module:Name`, one or several. Other names, such as `alignment`, are ignored.

    Returns:
        Eight hexadecimal digits; empty if no name has this form.

    Raises:
        ImportError: as for [`load_module`].

    >>> code_digest(["alignment"]), len(code_digest(["alignment", "json:JSONDecoder"]))
    ('', 8)
    """
    names = [names] if isinstance(names, str) else names
    modules = dict.fromkeys(name.partition(":")[0] for name in names if is_object_path(name))
    if not modules:
        return ""
    digest = hashlib.sha256()
    for name in modules:
        file = Path(getattr(load_module(name), "__file__", None) or "")
        digest.update(file.read_bytes() if file.is_file() else b"")  # a built-in module has no file
    return digest.hexdigest()[:8]


def remember_module(name: str) -> None:
    """Imports a module here, and with [`load_remembered_modules`] in all processes that this one starts.

    Args:
        name: the module.

    Raises:
        ImportError: as for [`load_module`].
    """
    load_module(name)
    names = [*remembered_modules(), name]
    os.environ[REMEMBERED] = ",".join(dict.fromkeys(names))


def load_remembered_modules() -> None:
    """Imports the modules that the variable `CLASS_HF_IMPORT` names. Commas separate them.

    Raises:
        ImportError: as for [`load_module`]. The message begins with the name of the variable.
    """
    for name in remembered_modules():
        if name not in sys.modules:
            load_module(name, f"{REMEMBERED}={os.environ[REMEMBERED]}")


def remembered_modules() -> list[str]:
    """The names in the variable `CLASS_HF_IMPORT`."""
    return [name.strip() for name in os.environ.get(REMEMBERED, "").split(",") if name.strip()]


def load_object(path: str) -> Any:
    """Imports a module and returns one of its objects.

    The module must be importable: installed, in a folder of `PYTHONPATH`, or in the current folder. The current folder
    is searched last, so that a file there cannot replace an installed package.

    Args:
        path: `package.module:Name`. `Name` may be dotted, as in `module:Class.method`.

    Returns:
        The object. It is not called.

    Raises:
        ValueError: if the path has another form, or the module has no such object.
        ImportError: if the module cannot be imported. The message says why.

    >>> load_object("collections:OrderedDict").__name__
    'OrderedDict'
    >>> load_object("collections:OrderedDic")
    Traceback (most recent call last):
    ValueError: 'collections:OrderedDic': the module collections has no 'OrderedDic'; did you mean 'OrderedDict'?
    """
    if not is_object_path(path):
        raise ValueError(f"{path!r}: expected package.module:Name, for instance my_package.difficulty:Length.")
    module_name, _, attribute = path.partition(":")
    loaded: Any = load_module(module_name, path)
    for part in attribute.split("."):
        if not hasattr(loaded, part):
            public = [name for name in dir(loaded) if not name.startswith("_")]
            advice = did_you_mean(part, public, otherwise="check the name after the colon.")
            raise ValueError(f"{path!r}: the module {module_name} has no {part!r}; {advice}")
        loaded = getattr(loaded, part)
    return loaded
