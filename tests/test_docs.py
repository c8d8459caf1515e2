"""The reference holds the public interface, the walk-throughs run, and no page of the site is too long.

`mkdocs build --strict` in .ci/run finds broken links and references.
"""

import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from run_blocks import run_blocks
from run_forked import Forked

import class_hf
from class_hf import load_demo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pixels at a window width of 1,280. A longer page is split.
MAX_HEIGHT = 8_500


def test_every_public_name_is_in_the_reference_once() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
    entries = re.findall(r"^::: ([\w.]+)$", pages, re.M)
    assert len(entries) == len(set(entries))
    public = {f"class_hf.{module}.{name}" for name, module in class_hf._MODULE_OF.items()}
    assert public <= set(entries)


def pages() -> list[Path]:
    return [
        *DOCS.rglob("*.md"),
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "MIGRATION", "SECURITY")),
    ]


@pytest.mark.filterwarnings("ignore:class_hf:FutureWarning")  # the old names in MIGRATION
def test_everything_that_the_pages_name_can_be_imported() -> None:
    """Names of the reference, names with dots, and imports in code blocks."""
    missing = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        names = set(re.findall(r"^::: ([\w.]+)$", text, re.M))
        names |= set(re.findall(r"[\[`](class_hf(?:\.\w+)+)[\]`]", text))
        for module, imported in re.findall(r"^from (class_hf[\w.]*) import (\([^)]*\)|.*)$", text, re.M):
            imported = re.sub(r"#.*", "", imported).strip("() \n")
            names |= {f"{module}.{name.split()[0]}" for name in imported.split(",") if name.strip()}
        for name in names:
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    for page in [*DOCS.rglob("*.md"), *DOCS.glob("tutorials/*.ipynb")]:
        assert f" {page.relative_to(DOCS).with_suffix('.md').as_posix()}\n" in navigation


def test_community_files_fit_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == class_hf.__version__.partition(".dev")[0]
    assert f"\n## {citation['version']}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / ".github").rglob("*.yml")):
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
    supported = re.search(r"requires-python = \">=3\.(\d+)\"", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    versions = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["checks"]["strategy"]["matrix"]
    assert supported and versions["python"][0] == f"3.{supported[1]}"


def walk_throughs() -> list[tuple[str, str]]:
    """(language, code) of each block in the section `Extend` of CONTRIBUTING.md."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## Extend\n")[1].split("\n## ")[0]
    return re.findall(r"^```(bash|python)\n(.*?)^```$", section, re.M | re.S)


@pytest.mark.slow
def test_the_walk_throughs_run(tmp_path: Path) -> None:
    """A block that begins with `# NAME.py` is a file; the others run in their order."""
    commands = []
    for language, code in walk_throughs():
        name = re.match(r"# (\w+\.py)\n", code)
        if name:
            (tmp_path / name[1]).write_text(code, encoding="utf-8")
        else:
            commands.append((language, code))
    assert len(list(tmp_path.glob("*.py"))) == 3 and len(commands) == 4
    pairs = load_demo()["train"].select(range(300)).select_columns(["id", "smiles", "description"])
    pairs.to_csv(str(tmp_path / "pairs.csv"))
    shutil.copytree(ROOT / "tests" / "fixtures" / "saved_by_0_1_0" / "lexical_fingerprint", tmp_path / "outputs/first")
    run = Forked(run_blocks, commands, cwd=tmp_path).end()
    assert run.returncode == 0, run.stderr
    printed = json.loads(run.stdout.splitlines()[-1])
    assert "torch.Size([1, 2])" in printed[2]
    assert len(re.findall(r"^ +[12]  ", printed[3], re.M)) == 2


@pytest.mark.slow
def test_no_page_is_too_long_or_too_wide(tmp_path: Path, browser) -> None:
    """In a real browser, at 1,280 pixels and on a phone. Reports of studies are not pages to read.

    The table of all measurements may be long: a reader looks up one of its rows.
    """
    pytest.importorskip("mkdocs", reason="needs the extra `docs`")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = [page for page in tmp_path.rglob("index.html") if "benchmarks/results" not in page.as_posix()]
    too_large = []
    tab = browser.new_page()
    for page in pages:
        tab.goto(page.as_uri())
        for width in (1280, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            sizes = tab.evaluate("[document.body.scrollHeight, document.documentElement.scrollWidth]")
            is_too_long = width == 1280 and sizes[0] > MAX_HEIGHT and page.parent.name != "measurements"
            if is_too_long or sizes[1] > width:
                too_large.append(f"{page.parent.relative_to(tmp_path)} at {width}: {sizes}")
    tab.close()
    assert not too_large
