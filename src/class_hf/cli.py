"""The console command: `class-hf NAME ARGUMENTS` runs recipes/NAME.py, the same code as the script."""

import runpy
import sys
import textwrap
from collections.abc import Sequence

from class_hf._version import __version__
from class_hf.config import recipe_files
from class_hf.utils.suggestions import did_you_mean

RECIPES = {
    "score": "score the difficulty of pairs, and look at the easiest and the hardest",
    "train": "train a model by a curriculum",
    "evaluate": "rank whole candidate pools with trained models",
    "index": "make an index of molecules",
    "search": "search an index of molecules by text or by molecule",
    "app": "a page to search molecules and captions, in the browser",
    "push": "push a model or a scored data set to the Hub",
    "export": "the text tower for sentence-transformers, or an adapter merged into a whole model",
    "ablate": "train the arms of a study, and compare them",
}


def help_text() -> str:
    """The commands, the shipped recipes, and how to launch several processes."""
    commands = "\n".join(f"  {name:<10} {text}" for name, text in RECIPES.items())
    names = ", ".join(recipe_files.shipped_files())
    files = textwrap.fill(names, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return f"""usage: class-hf COMMAND [ARGUMENTS]

Curriculum learning for text-molecule retrieval. Each command is a script of the recipes folder.

commands:
{commands}

`class-hf COMMAND --help` lists a command's arguments; --version says the version.

RECIPE.yaml and STUDY.yaml are files of yours, or names of files that come with the package:
{files}
in {recipe_files.recipes_folder()}

several processes or GPUs:
  accelerate launch [--config_file FILE] -m class_hf train RECIPE [ARGUMENTS]
with a FILE of your own, or one of the folder accelerate/ there"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the recipe that the first word names, with the others as its command line.

    Args:
        argv: the words after `class-hf`; those of this process by default.

    Raises:
        SystemExit: with a message if there is no such command; as the recipe ends, otherwise.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "help"):
        print(help_text())
    elif name in ("-V", "--version"):
        print(f"class-hf {__version__}")
    elif name not in RECIPES:
        sys.exit(f"error: there is no command {name!r}; {did_you_mean(name, RECIPES)}")
    else:
        recipe_files.is_console_command = True
        sys.argv[1:] = words[1:]
        # As a script, so that pickles, launchers and `ablate` meet what they meet without this command.
        runpy.run_path(str(recipe_files.recipes_folder() / f"{name}.py"), run_name="__main__")
