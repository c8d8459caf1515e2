"""Where the recipes are: scripts and YAML files that come with the package."""

from pathlib import Path

from class_hf.utils.suggestions import did_you_mean

# Set by the console command, for the messages of the recipe that it runs.
by_console = False


def recipes_folder() -> Path:
    """The folder of the recipes: inside an installed package, or beside `src` in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


def program(recipe: str) -> str:
    """What a user types to run a recipe, for usage lines: `class-hf train`, or `recipes/train.py`."""
    return f"class-hf {recipe}" if by_console else f"recipes/{recipe}.py"


def shipped_files() -> list[str]:
    """Names of the shipped YAML files that `find_file` takes, without those of accelerate."""
    folder = recipes_folder()
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if not name.startswith("accelerate/"))


def find_file(name: str | Path, kind: str = "recipe") -> Path:
    """The YAML file that a user names: a local file, or else a shipped one; the ending may be left out.

    Args:
        name: for instance `my_run.yaml`, `chebi20/fast_cpu` or `studies/demo.yaml`.
        kind: what it should be, for the error.

    Raises:
        ValueError: if there is no such file.
    """
    for folder in (Path(), recipes_folder()):
        for path in (folder / name, folder / f"{name}.yaml"):
            if path.is_file():
                return path
    listed = "`class-hf --help` lists those that come with the package."
    hint = did_you_mean(Path(name).with_suffix("").as_posix(), shipped_files(), otherwise=listed)
    raise ValueError(f"the {kind} {str(name)!r} does not exist; {hint}")
