"""The console command. `class-hf NAME ARGUMENTS` runs `recipes/NAME.py`, the same code as the script."""

import runpy
import sys
import textwrap
from collections.abc import Sequence

from class_hf._version import __version__
from class_hf.config import recipe_files
from class_hf.config.command import INTERRUPTED
from class_hf.utils.plugins import remember_module
from class_hf.utils.suggestions import did_you_mean

# Commands that are scripts in the folder `recipes`.
RECIPES = {
    "score": "score the difficulty of pairs",
    "suspects": "find the pairs that are most likely wrong",
    "train": "train a model with a curriculum",
    "evaluate": "evaluate trained models on candidate pools",
    "encode": "encode a table of any size, on this machine or a cluster",
    "index": "build an index of molecules",
    "search": "search an index by text or by molecule",
    "app": "start a search page in the browser",
    "serve": "serve an index over HTTP as JSON",
    "push": "push a model or a scored dataset to the Hub",
    "export": "export a text tower for sentence-transformers, or merge an adapter into its model",
    "ablate": "train the arms of a study and compare them",
}
COMMANDS = {**RECIPES, "env": "describe this machine and its libraries for a bug report"}


def help_text() -> str:
    """The text of `class-hf --help`: commands, shipped recipes, and how several processes are launched."""
    commands = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    names = ", ".join(recipe_files.shipped_files())
    files = textwrap.fill(names, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return f"""usage: class-hf COMMAND [ARGUMENTS]

Curriculum learning for text-molecule retrieval.

commands:
{commands}

`class-hf COMMAND --help` lists the arguments of a command. `class-hf --version` prints the version.
`class-hf --import MODULE COMMAND ...` imports a module of yours first, for a model whose class it defines.
The variable CLASS_HF_IMPORT names such modules for workers on other machines.

RECIPE.yaml and STUDY.yaml are your own files, or names of files that come with the package:
{files}
in {recipe_files.recipes_folder()}

Several processes or GPUs:
  accelerate launch --quiet [--config_file FILE] -m class_hf train RECIPE [ARGUMENTS]
with your own FILE, or one from the folder `accelerate` in the same place"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the recipe that the first word names, with the other words as its command line.

    Args:
        argv: the words after `class-hf`; those of this process by default.

    Raises:
        SystemExit: with a message if there is no such command; otherwise with the status of the recipe.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    class-hf ...
    >>> main(["trian"])
    Traceback (most recent call last):
    SystemExit: error: there is no command 'trian'; did you mean 'train'?
    """
    words = list(sys.argv[1:] if argv is None else argv)
    while words[:1] == ["--import"]:
        try:
            remember_module(words[1])
        except IndexError:
            sys.exit("error: --import needs the name of a module.")
        except ImportError as error:
            sys.exit(f"error: {error}")
        del words[:2]
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "help"):
        print(help_text())
    elif name in ("-V", "--version"):
        print(f"class-hf {__version__}")
    elif name not in COMMANDS:
        sys.exit(f"error: there is no command {name!r}; {did_you_mean(name, COMMANDS)}")
    elif name == "env":
        from class_hf.config.bug_report import describe_machine  # not needed by the other commands

        print(describe_machine())
    else:
        recipe_files.is_console_command = True
        sys.argv[1:] = words[1:]
        try:
            # Run as `__main__`, so that pickles, launchers and `ablate` find the same module names as with the script.
            runpy.run_path(str(recipe_files.recipes_folder() / f"{name}.py"), run_name="__main__")
        except KeyboardInterrupt:  # while the recipe imports its modules; later it handles Ctrl-C
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
