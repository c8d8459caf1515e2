"""The notebooks of docs/tutorials: stored with their outputs, without noise, and each cell runs and prints the same.

Cells run in this process. A kernel for each notebook would import torch again.
"""

import contextlib
import io
import json
import re
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from run_blocks import run_command
from test_readme import missing_lines

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
MAX_BYTES = 1_500_000
# Paths of the machine, progress bars, escape sequences and warnings.
NOISE = re.compile(r"/(tmp|home|root|work|usr|opt)/|site-packages|it/s\b|s/it\b|\x1b|\r|Warning|Traceback")


class Cell(NamedTuple):
    """A code cell with what it printed when it was stored."""

    code: str
    printed: str
    pictures: int
    tags: list[str]


class Picture:
    """`IPython.display.Image` of a file."""

    def __init__(self, path: str):
        self.content = Path(path).read_bytes()

    def _repr_png_(self) -> bytes:
        return self.content


def cells_of(path: Path) -> list[Cell]:
    cells = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            data = [output.get("data", {}) for output in cell["outputs"]]
            texts = [output.get("text", []) for output in cell["outputs"]]
            texts += [kinds["text/plain"] for kinds in data if "image/png" not in kinds and kinds]
            printed = "\n".join("".join(text) for text in texts)
            pictures = sum("image/png" in kinds for kinds in data)
            cells.append(Cell("".join(cell["source"]), printed, pictures, cell["metadata"].get("tags", [])))
    return cells


def run_cell(code: str, namespace: dict[str, Any]) -> Any:
    """Runs the parts of IPython's syntax that the notebooks use. Returns the value of a last expression."""
    if code.startswith("%%writefile "):
        head, _, content = code.partition("\n")
        Path(head.split()[1]).write_text(content + "\n", encoding="utf-8")
        return None
    if code.startswith("!"):
        for line in code.splitlines():
            run_command(line.removeprefix("!"), in_shell=False)
        return None
    lines = code.splitlines()
    start = max((number for number, line in enumerate(lines) if line and line[0] not in " )]}"), default=0)
    try:
        last = compile("\n".join(lines[start:]), "<cell>", "eval")
    except SyntaxError:
        exec(compile(code, "<cell>", "exec"), namespace)
        return None
    exec(compile("\n".join(lines[:start]), "<cell>", "exec"), namespace)
    return eval(last, namespace)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_without_noise(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < MAX_BYTES
    assert "".join(notebook["cells"][0]["source"]).startswith("# ")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "execute it from the start"
    for cell in code:
        assert all(output["output_type"] != "error" for output in cell["outputs"])
    for cell in cells_of(path):
        assert not NOISE.search(cell.printed), (NOISE.search(cell.printed), cell.code)
    assert sum(cell.pictures for cell in cells_of(path)) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run_and_print_what_is_stored(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells with the tag `varies` print times; their text is not compared."""
    folder = tmp_path / "docs" / "tutorials"
    folder.mkdir(parents=True)
    for name in ("benchmarks", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", ["class-hf"])
    monkeypatch.setattr("class_hf.config.recipe_files.is_console_command", True)
    display = types.ModuleType("IPython.display")
    display.Image = Picture  # the notebooks use nothing else of IPython, which need not be installed
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells_of(path):
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            value = run_cell(cell.code, namespace)
        printed = stream.getvalue()
        is_picture = hasattr(value, "_repr_png_")
        assert is_picture == (cell.pictures > 0), cell.code
        if value is not None and not is_picture:
            printed += repr(value)
        expected = "\n".join(line for line in cell.printed.splitlines() if line.strip())
        missing = [] if "varies" in cell.tags else missing_lines(printed, expected)
        assert not missing, f"{cell.code}\nprinted:\n{printed}\nnot printed: {missing}"
