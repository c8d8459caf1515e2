"""Adds the repository's pages outside docs/ to the site, README.md as its first page, and adapts links to them.

mkdocs reads docs/ only. Links are paths in the repository on GitHub, and paths between pages on the site. Notebooks
become pages, and can be downloaded.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.structure.files import File
from notebooks import TUTORIALS, page_of

ROOT = Path(__file__).resolve().parents[2]
_SHOWN = (
    "README.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "MIGRATION.md",
    "SECURITY.md",
    "benchmarks/*.md",
    "benchmarks/results/**/*",
    "model_cards/**/*",
)
# The target of a Markdown link or image, and of `src` and `srcset` of an HTML picture.
_LINK = re.compile(r"(?:(?<=\]\()|(?<=src=\")|(?<=srcset=\"))(?!https?:|#|mailto:)([^)\s#\"]+)(#[^)\s\"]*)?(?=[)\"])")


def site_path(path: str) -> str:
    """The path of a repository file on the site.

    >>> [site_path(path) for path in ("README.md", "docs/method.md", "benchmarks/README.md")]
    ['index.md', 'method.md', 'benchmarks/README.md']
    >>> site_path("docs/tutorials/first_search.ipynb")
    'tutorials/first_search.md'
    """
    page = path.removeprefix("docs/")
    return "index.md" if path == "README.md" else f"{page.removesuffix('.ipynb')}.md" if is_notebook(path) else page


def is_notebook(path: str) -> bool:
    """Whether a file of the repository is a notebook."""
    return path.endswith(".ipynb")


def repository_path(path: str) -> str:
    """The inverse of `site_path`."""
    return "README.md" if path == "index.md" else path if (ROOT / path).is_file() else f"docs/{path}"


def on_files(files, config):
    """Adds the files outside docs/ that pages link to."""
    for pattern in _SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            if path.suffix in (".md", ".png", ".json"):
                uri = site_path(path.relative_to(ROOT).as_posix())
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        page, pictures = page_of(path)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links between repository files into links between pages of the site."""
    page_file = repository_path(page.file.src_uri)
    folder = PurePosixPath(page_file).parent.as_posix()

    def site_link(match: re.Match) -> str:
        target = normpath(f"{folder}/{match[1]}")
        return relpath(site_path(target), PurePosixPath(page.file.src_uri).parent.as_posix()) + (match[2] or "")

    adapted = _LINK.sub(site_link, markdown)
    name = PurePosixPath(page_file).stem
    if (TUTORIALS / f"{name}.ipynb").is_file() and folder == "docs/tutorials":
        adapted += f'\n\n<a href="../{name}.ipynb" download>Download this notebook</a>\n'
    return adapted
