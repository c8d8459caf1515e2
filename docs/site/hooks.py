"""The site shows the repository's own files: README.md as its first page, and what the pages link to outside docs/.

mkdocs knows docs/ alone. These hooks add the other files under their own paths and turn each link between files of the
repository, as GitHub follows it, into the one between pages of the site.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
_SHOWN = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/results/**/*")
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?(?=\))")


def site_path(path: str) -> str:
    """Where a file of the repository lies on the site.

    >>> [site_path(path) for path in ("README.md", "docs/method.md", "benchmarks/README.md")]
    ['index.md', 'method.md', 'benchmarks/README.md']
    """
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


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
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as they hold on the site; those to files that it does not show become plain text."""
    page_file = repository_path(page.file.src_uri)
    folder = PurePosixPath(page_file).parent.as_posix()

    def mend(match: re.Match) -> str:
        target = normpath(f"{folder}/{match[1]}")
        return relpath(site_path(target), PurePosixPath(page.file.src_uri).parent.as_posix()) + (match[2] or "")

    return _LINK.sub(mend, markdown)
