"""The reference holds the whole public interface. `mkdocs build --strict` in .ci/run finds what is broken in it."""

import re
from pathlib import Path

import class_hf

DOCS = Path(__file__).parents[1] / "docs"


def test_every_public_name_is_in_the_reference_once() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
    entries = re.findall(r"^::: ([\w.]+)$", pages, re.M)
    assert len(entries) == len(set(entries))
    public = {f"class_hf.{module}.{name}" for name, module in class_hf._MODULE_OF.items()}
    assert public <= set(entries)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    for page in DOCS.rglob("*.md"):
        assert f" {page.relative_to(DOCS).as_posix()}\n" in navigation
