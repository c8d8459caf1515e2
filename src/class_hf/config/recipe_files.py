"""Finds the recipes: the scripts and YAML files that come with the package."""

from pathlib import Path

from class_hf.utils.suggestions import did_you_mean

MAX_CHARACTERS = 1000  # of a name that a user gives

# The console command sets it, so that messages of a recipe name the command that the user typed.
is_console_command = False


def recipes_folder() -> Path:
    """The folder of the recipes: inside an installed package, or next to `src` in a checkout.

    >>> (recipes_folder() / "train.py").is_file()
    True
    """
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"


def program(recipe: str) -> str:
    """The words that run a recipe, for usage lines.

    Args:
        recipe: name of the script, without its ending.

    Returns:
        `class-hf train` when the console command runs, `recipes/train.py` otherwise.
    """
    return f"class-hf {recipe}" if is_console_command else f"recipes/{recipe}.py"


def shipped_files() -> list[str]:
    """Names of the shipped YAML files that `find_file` accepts, without those of accelerate.

    >>> "demo" in shipped_files(), "studies/demo" in shipped_files()
    (True, True)
    """
    folder = recipes_folder()
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if not name.startswith("accelerate/"))


def find_file(name: str | Path, kind: str = "recipe") -> Path:
    """Finds a YAML file by the name that a user gives.

    A local file is preferred to a shipped one. The ending `.yaml` may be left out.

    Args:
        name: for instance `my_run.yaml`, `chebi20/fast_cpu` or `studies/demo.yaml`.
        kind: what the file is, for the error.

    Returns:
        The path of an existing file.

    Raises:
        ValueError: if there is no such file.

    >>> find_file("demo").name
    'demo.yaml'
    >>> find_file("demoo")
    Traceback (most recent call last):
    ValueError: the recipe 'demoo' does not exist; did you mean 'demo'?
    """
    name = str(name)
    if not name.strip() or len(name) > MAX_CHARACTERS or "\0" in name:
        shown = name if len(name) <= 40 else f"{name[:40]}..."
        raise ValueError(f"the {kind} is {shown!r}; expected the path of a YAML file, or the name of a shipped one.")
    for folder in (Path(), recipes_folder()):
        for path in (folder / name, folder / f"{name}.yaml"):
            if path.is_file():
                return path
    listed = "`class-hf --help` lists the shipped files."
    hint = did_you_mean(name.removesuffix(".yaml"), shipped_files(), otherwise=listed)
    raise ValueError(f"the {kind} {name!r} does not exist; {hint}")
