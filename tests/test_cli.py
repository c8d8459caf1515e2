"""The console command runs the recipes from any folder, and finds the shipped files."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_forked import run_command

from class_hf import cli
from class_hf.config import recipe_files as shipped

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", cli.RECIPES)
def test_every_command_is_a_recipe_with_main_and_docstring(name):
    tree = ast.parse((shipped.recipes_folder() / f"{name}.py").read_text())
    assert ast.get_docstring(tree)
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_recipe_is_a_command():
    scripts = {path.stem for path in shipped.recipes_folder().glob("*.py")} - {"__init__"}
    assert scripts == set(cli.RECIPES)


def test_help_names_commands_and_recipes(capsys):
    cli.main(["--help"])
    text = capsys.readouterr().out
    cli.main([])
    assert capsys.readouterr().out == text
    for name in (*cli.COMMANDS, "chebi20/fast_cpu", "studies/demo", str(shipped.recipes_folder())):
        assert name in text


def test_help_errors_and_search_load_nothing_heavy():
    code = (
        "import sys; from class_hf.cli import main; main(['--help']); main(['--version'])\n"
        "try: main(['trian'])\n"
        "except SystemExit as end: print(end)\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy', 'rdkit') if name in sys.modules])\n"
        "import class_hf.search.index, class_hf.search.results, class_hf.plots.hits\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, version, error, loaded, by_search = done.stdout.splitlines()
    assert by_search == "[]"
    assert version.startswith("class-hf 0.")
    assert error == "error: there is no command 'trian'; did you mean 'train'?"
    assert loaded == "[]"


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "class_hf", "-V"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("class-hf 0.")


def test_env_describes_the_machine(capsys):
    cli.main(["env"])
    text = capsys.readouterr().out
    for words in ("- class_hf: ", "- Python: ", " cores, ", "- accelerator: ", "torch ", "- environment: "):
        assert words in text
    assert str(Path.home()) not in text


def test_a_module_of_the_user_is_imported_first(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_cli_model.py").write_text("print('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("CLASS_HF_IMPORT", "json")
    cli.main(["--import", "my_cli_model", "--version"])
    assert capsys.readouterr().out.startswith("imported\nclass-hf ")
    assert os.environ["CLASS_HF_IMPORT"] == "json,my_cli_model"  # for the processes that this one starts
    for words, message in (
        (["--import"], "needs the name"),
        (["--import", "no_such", "train"], "no module 'no_such'"),
    ):
        with pytest.raises(SystemExit, match=message):
            cli.main(words)


def test_an_unknown_command_lists_those_there_are():
    with pytest.raises(SystemExit, match="no command 'xyzzy'; expected one of score, suspects, train"):
        cli.main(["xyzzy"])


def test_a_local_file_wins_over_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = shipped.recipes_folder() / "chebi20" / "fast_cpu.yaml"
    assert shipped.find_file("chebi20/fast_cpu") == shipped.find_file("chebi20/fast_cpu.yaml") == inside
    local = tmp_path / "chebi20" / "fast_cpu.yaml"
    local.parent.mkdir()  # a folder of the name is no file
    assert shipped.find_file("chebi20/fast_cpu") == inside
    local.write_text("demo: true\n")
    for name in ("chebi20/fast_cpu", "chebi20/fast_cpu.yaml", local):
        assert shipped.find_file(name).resolve() == local
    with pytest.raises(ValueError, match=r"the recipe 'chebi20/fast_cp.yaml' .* did you mean 'chebi20/fast_cpu'"):
        shipped.find_file("chebi20/fast_cp.yaml")
    with pytest.raises(ValueError, match="the study '/nowhere/x.yaml' does not exist; `class-hf --help`"):
        shipped.find_file("/nowhere/x.yaml", "study")


def test_the_distribution_holds_every_package():
    tomllib = pytest.importorskip("tomllib")  # not in Python 3.10
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    source = ROOT / "src"
    there = {".".join(path.parent.relative_to(source).parts) for path in source.rglob("__init__.py")}
    assert set(tables["packages"]) == there | {"class_hf.recipes"}
    patterns = tables["package-data"]["class_hf.recipes"]
    taken = {path for pattern in patterns for path in (ROOT / "recipes").glob(pattern)}
    assert taken == set((ROOT / "recipes").rglob("*.yaml"))


def test_messages_name_the_command_that_was_typed(tmp_path):
    done = run_command("train", "--demo", "true", cwd=tmp_path)
    assert done.returncode == 1
    expected = "expected the recipe: class-hf train RECIPE.yaml [--name value]."
    assert done.stderr.strip() == f"error: the first argument is '--demo'; {expected}"


def test_a_shipped_recipe_runs_from_another_folder(tmp_path):
    done = run_command("train", "demo", "--max_steps", "2", "--dry_run", "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "plots" / "dry_run_plan.png").is_file()


def test_help_of_each_command_loads_nothing_heavy():
    code = (
        "import contextlib, io, sys\n"
        "from class_hf.cli import RECIPES, main\n"
        "for name in RECIPES:\n"
        "    sys.argv = ['class-hf', name, '--help']\n"
        "    printed = io.StringIO()\n"
        "    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):\n"
        "        main([name, '--help'])\n"
        "    assert printed.getvalue().startswith('usage: class-hf ' + name), name\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy', 'rdkit') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_of_train_lists_every_argument_of_this_package():
    from class_hf import CurriculumTrainingArguments
    from class_hf.config.arguments import DIFFICULTY_NAMES, DataArguments, ModelArguments, RunArguments
    from class_hf.config.training_help import _FIXED, training_help
    from class_hf.difficulty.definitions import DEFINITIONS

    assert sorted(DIFFICULTY_NAMES) == sorted(DEFINITIONS)
    text = training_help("class-hf train")
    own = {name for name in CurriculumTrainingArguments.__annotations__ if name not in _FIXED}
    classes = (DataArguments, ModelArguments, RunArguments)
    own |= {name for arguments in classes for name in arguments.__annotations__}
    for name in (*own, "learning_rate", "output_dir"):
        assert f"  --{name} " in text, name
    assert text.index("curriculum:") < text.index("data:") < text.index("model:") < text.index("training:")
