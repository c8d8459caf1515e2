"""The notebooks of docs/tutorials: their pages on the site, and the command that executes them.

    python docs/site/notebooks.py [docs/tutorials/NAME.ipynb ...]

The command executes the notebooks in Jupyter kernels and stores their outputs. Run it after a change of a notebook,
and look at the result. It needs the extra `docs`.
"""

import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
# Markdown of the site's style. Outputs are fenced without a language.
_TEMPLATE = """
{%- extends 'markdown/index.md.j2' -%}
{%- block stream %}
{{ fenced(output.text) }}
{% endblock stream -%}
{%- block data_text scoped %}
{{ fenced(output.data['text/plain']) }}
{% endblock data_text -%}
{%- block data_png scoped %}
![{{ alt(cell) }}]({{ output.metadata.filenames['image/png'] }})
{% endblock data_png -%}
"""
# A line of a progress bar, which commands show on the terminal of a kernel.
_BAR = re.compile(r"^.*(\d+%\|| \[\d\d:\d\d<| examples/s\]|it/s\]).*$\n?", re.M)
_SHOWN = ["image/png", "text/plain"]  # tables in HTML would bring styles of their own


def _fenced(text: str) -> str:
    return f"```{{.text .output}}\n{text.rstrip()}\n```"


def _alt(cell: nbformat.NotebookNode) -> str:
    """The alternative text of a cell's picture: its last line of code."""
    return "Picture of: " + cell.source.strip().splitlines()[-1].translate(str.maketrans("[]", "()"))


def page_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook.

    Args:
        path: the notebook.

    Returns:
        The page as Markdown, and its pictures by name.
    """
    exporter = MarkdownExporter(raw_template=_TEMPLATE)
    exporter.environment.globals.update(fenced=_fenced, alt=_alt)
    resources = {"output_files_dir": ".", "unique_key": path.stem}
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data = {kind: content for kind, content in output.data.items() if kind in _SHOWN}
    text, found = exporter.from_notebook_node(notebook, resources)
    return text, {Path(name).name: content for name, content in found.get("outputs", {}).items()}


def reader_folder(root: Path) -> Path:
    """Makes the folders that a notebook refers to, with links to their files, so that it writes nothing in a clone.

    Returns:
        The folder in which the notebooks run.
    """
    folder = root / "docs" / "tutorials"
    folder.mkdir(parents=True)
    for name in ("benchmarks", "recipes"):
        (root / name).symlink_to(ROOT / name)
    return folder


def cleaned(text: str) -> str:
    """A printed text without progress bars and control characters.

    >>> cleaned("Indexing:  50%|#  | 1/2 [00:01<00:01]\\r      \\rdone\\n")
    'done\\n'
    """
    lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text.replace("\r\n", "\n")).replace("\r", "\n")
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"^[ \t]+$", "", _BAR.sub("", lines), flags=re.M)).lstrip("\n")


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leaves out what a notebook printed on standard error, and joins and cleans the rest."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    CoalesceStreamsPreprocessor().preprocess(notebook, {})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = cleaned(output.text)
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]


def execute(path: Path) -> None:
    """Executes a notebook in a kernel, and stores it with its outputs."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as root:
        folder = reader_folder(Path(root))
        client = NotebookClient(
            notebook, timeout=1200, startup_timeout=300, kernel_name="python3", record_timing=False
        )
        client.execute(cwd=str(folder))
    tidy(notebook)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def main(names: list[str]) -> None:
    scripts = sysconfig.get_path("scripts")
    os.environ.update(TERM="dumb", PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    os.environ.pop("OMP_NUM_THREADS", None)  # the commands would say that they use one thread
    for path in map(Path, names or sorted(TUTORIALS.glob("*.ipynb"))):
        print("executing", path)
        execute(path)


if __name__ == "__main__":
    main(sys.argv[1:])
