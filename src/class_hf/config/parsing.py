"""Recipes: one YAML file a run, and a command line that wins over it."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser

from class_hf.config.recipe_files import find_file
from class_hf.utils.suggestions import did_you_mean

# What a user can cause and mend: a script ends with the message, without a traceback.
USER_ERRORS = (ValueError, OSError, ImportError, StrictDataclassError)


def parse_recipe(argv: Sequence[str], argument_classes: Sequence[type], prog: str) -> tuple[Any, ...]:
    """Arguments from a recipe file and a command line; the command line wins.

    Args:
        argv: the recipe's path, or the name of one that is shipped, then any `--argument value`.
        argument_classes: dataclasses whose fields are the arguments.
        prog: name of the script, for messages.

    Returns:
        the path of the recipe, then one object a class.

    Raises:
        ValueError: if the recipe is missing or no mapping, or a key is not known.
        SystemExit: with argparse's message, if a value has the wrong type or is no choice.
    """
    parser = HfArgumentParser(list(argument_classes), prog=prog, allow_abbrev=False)  # type: ignore[arg-type]
    parser.add_argument("recipe", help="YAML file, or the name of a shipped one; always the first argument.")
    if not argv or argv[0] in ("-h", "--help"):
        parser.parse_args(argv or ["--help"])
    if argv[0].startswith("-"):
        raise ValueError(f"the first argument is {argv[0]!r}; expected the recipe: {prog} RECIPE.yaml [--name value].")
    recipe = find_file(argv[0])
    several = {action.dest: action.nargs in ("+", "*") for action in parser._actions}
    known = set(several) - {"help", "recipe"}
    values = _read_recipe(recipe, known)
    for key, value in values.items():
        if isinstance(value, list) and not several[key]:
            raise ValueError(f"{key} is the list {value}, but takes one value. (in {recipe})")
    arguments = [str(recipe), *_as_arguments(values), *argv[1:]]
    for action in parser._actions:
        if action.choices and isinstance(values.get(action.dest), bool):
            raise ValueError(
                f"{action.dest} is {values[action.dest]}: YAML reads a bare yes or no so; put quotes around it."
            )
    *parsed, rest = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    if rest and not rest[0].startswith("-"):
        raise ValueError(f"{rest[0]!r} belongs to no argument: the one before it takes one value.")
    if rest:
        raise ValueError(f"{_unknown(rest[0].lstrip('-').split('=')[0], known)} (on the command line)")
    return recipe, *parsed[: len(argument_classes)]


def _read_recipe(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"the recipe {str(path)!r} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"the recipe {str(path)!r} must be a mapping of arguments to values.")
    for key in values:
        if key not in known:
            raise ValueError(f"{_unknown(str(key), known)} (in {path})")
    return values


def _unknown(key: str, known: set[str]) -> str:
    return f"unknown argument {key!r}; {did_you_mean(key, known, otherwise='--help lists them all.')}"


def _as_arguments(values: dict[str, Any]) -> list[str]:
    # Through argparse, so that every value is converted and checked: YAML reads `1e-4` as text.
    arguments: list[str] = []
    for key, value in values.items():
        if value is None or value == []:
            continue  # the default
        if isinstance(value, dict):
            arguments.append(f"--{key}={json.dumps(value)}")
        elif isinstance(value, list):
            arguments += [f"--{key}", *map(str, value)]
        else:
            arguments.append(f"--{key}={value}")
    return arguments


def check_fields(name: str, given: dict[str, Any], known: Iterable[str]) -> None:
    """Names the first field of the argument `name` that is not known: configurations keep it without a word.

    Raises:
        ValueError: if there is one.
    """
    known = set(known)
    for field_name in given:
        if field_name not in known:
            raise ValueError(f"{name} has the unknown field {field_name!r}; {did_you_mean(field_name, sorted(known))}")


def run_script(main: Callable[[list[str]], None]) -> None:
    """Runs a script's `main` on the command line; a user's error ends it with one clear line, not a traceback."""
    try:
        main(sys.argv[1:])
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
