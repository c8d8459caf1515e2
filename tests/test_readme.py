"""Every block of the README and of the walk-through runs as it stands, in one folder, in the order of the pages."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hub_server import HubServer, client_environment

from class_hf import load_demo

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/own_pairs.md")
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    page: str
    language: str
    code: str
    reason: str | None


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(page, found["language"], found["code"], found["reason"])


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader stands: the recipes, and DATA, a small folder in ChEBI-20's format."""
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "DATA").mkdir()
    demo = load_demo()
    for split, count in (("train", 1200), ("validation", 100)):
        with (folder / "DATA" / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
            rows.writerow(("CID", "SMILES", "description"))
            rows.writerows((row["id"], row["smiles"], row["description"]) for row in demo[split].select(range(count)))
    return folder


@pytest.fixture
def environment(folder: Path) -> Iterator[dict[str, str]]:
    """As a reader's shell, with this Python first; the Hub is the stand-in's."""
    server = HubServer()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield client_environment(server, folder / "home", PATH=path, PYTHONPATH=str(ROOT / "src"))
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_run(page: str, folder: Path, environment: dict[str, str]) -> None:
    """One test a page: a block may need what an earlier one wrote."""
    for block in blocks(page):
        if block.reason is not None:
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
        run = subprocess.run([*command, block.code], cwd=folder, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{block.code}\n{run.stdout}\n{run.stderr}"


def test_what_is_not_run_says_why() -> None:
    left_out = [block for block in BLOCKS if block.reason is not None]
    assert {block.page for block in BLOCKS} == set(PAGES)
    assert len(left_out) < len(BLOCKS) / 2
    for block in left_out:
        assert "installs packages" in block.reason or "trains" in block.reason or "serves" in block.reason


def test_every_fence_is_a_block() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(?:bash|python)$", (ROOT / page).read_text(encoding="utf-8"), re.M)
        assert len(fences) == sum(block.page == page for block in BLOCKS)
