"""Parses the arguments of a run: a recipe file, and a command line that overrides it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from class_hf.config.command import CommandParser
from class_hf.config.recipe_files import find_file
from class_hf.config.yaml_files import read_mapping
from class_hf.utils.suggestions import did_you_mean


class RecipeParser(CommandParser, HfArgumentParser):
    """A parser of dataclasses whose errors take one line."""


def parse_recipe(argv: Sequence[str], argument_classes: Sequence[type], prog: str) -> tuple[Any, ...]:
    """Parses a recipe file and a command line. The command line overrides the recipe.

    Args:
        argv: the path of the recipe, or the name of a shipped one, then any `--argument value`.
        argument_classes: dataclasses whose fields are the arguments.
        prog: name of the command, for messages.

    Returns:
        The path of the recipe, then one object for each class.

    Raises:
        ValueError: if the recipe is missing or not a mapping, or an argument is unknown.
        SystemExit: with argparse's message, if a value has the wrong type or is not one of the choices.
    """
    parser = RecipeParser(list(argument_classes), prog=prog)
    parser.add_argument("recipe", help="YAML file, or the name of a shipped one. It is always the first argument.")
    if not argv or argv[0] in ("-h", "--help", "--help_all"):
        parser.parse_args(["--help"])
    if argv[0].startswith("-"):
        raise ValueError(f"the first argument is {argv[0]!r}; expected the recipe: {prog} RECIPE.yaml [--name value].")
    recipe = find_file(argv[0])
    takes_list = {action.dest: action.nargs in ("+", "*") for action in parser._actions}
    known = set(takes_list) - {"help", "recipe"}
    values = _read_recipe(recipe, known)
    for key, value in values.items():
        if isinstance(value, list) and not takes_list[key]:
            raise ValueError(f"{key} is the list {value}, but takes one value. (in {recipe})")
    arguments = [str(recipe), *_as_arguments(values), *argv[1:]]
    for action in parser._actions:
        if action.choices and isinstance(values.get(action.dest), bool):
            raise ValueError(
                f"{action.dest} is {values[action.dest]}: YAML reads an unquoted yes, no, on or off as a truth value. "
                f"Quote it. (in {recipe})"
            )
    *parsed, rest = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    if rest and not rest[0].startswith("-"):
        raise ValueError(f"{rest[0]!r} belongs to no argument: the argument before it takes one value.")
    if rest:
        raise ValueError(f"{_unknown(rest[0].lstrip('-').split('=')[0], known)} (on the command line)")
    return recipe, *parsed[: len(argument_classes)]


def _read_recipe(path: Path, known: set[str]) -> dict[str, Any]:
    """The mapping in a recipe file, whose keys are all known arguments."""
    values = read_mapping(path, "the recipe")
    for key in values:
        if key not in known:
            raise ValueError(f"{_unknown(str(key), known)} (in {path})")
    return values


def _unknown(key: str, known: set[str]) -> str:
    """The message about an unknown argument."""
    return f"unknown argument {key!r}; {did_you_mean(key, known, otherwise='--help lists all arguments.')}"


def _as_arguments(values: Mapping[str, Any]) -> list[str]:
    """The values of a recipe as words of a command line.

    They go through argparse so that each value is converted and checked: YAML reads `1e-4` as text.
    """
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


def check_fields(argument: str, fields: Iterable[str], known: Iterable[str]) -> None:
    """Checks the names of the fields that a JSON argument sets.

    Configuration classes keep unknown fields without an error, so a misspelt field would have no effect.

    Args:
        argument: name of the argument, for the error.
        fields: names of the fields that it sets.
        known: names of the fields that exist.

    Raises:
        ValueError: with the first unknown field.

    >>> check_fields("text_config", ["hiden_size"], ["hidden_size", "dropout"])
    Traceback (most recent call last):
    ValueError: text_config has the unknown field 'hiden_size'; did you mean 'hidden_size'?
    """
    known = set(known)
    for field in fields:
        if field not in known:
            raise ValueError(f"{argument} has the unknown field {field!r}; {did_you_mean(field, sorted(known))}")
