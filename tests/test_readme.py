"""Each block of the README and of the guides runs unchanged and prints what the page says."""

import csv
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from run_blocks import run_blocks
from run_forked import Forked

from class_hf import load_demo

ROOT = Path(__file__).parents[1]
# The guides use the model that the README trains.
GUIDES = (
    "docs/own_pairs.md",
    "docs/search.md",
    "docs/databases.md",
    "docs/scale.md",
    "docs/service.md",
    "docs/python.md",
    "docs/wrong_pairs.md",
)
PAGES = ("README.md", *GUIDES)
# Pages whose blocks need a package of an extra.
NEEDED = {"docs/databases.md": ("lancedb", "lance"), "docs/service.md": ("fastapi", "serve")}
REASONS = (
    "installs packages",
    "trains",
    "serves",
    "needs a server",
    "needs files of further pairs",
    "needs several hosts",
    "settings of a cluster",
)
# Scores of a model that is trained on another machine differ by rounding.
TOLERANCE = 0.06
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$"
    r"(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.M | re.S,
)


class Block(NamedTuple):
    page: str
    language: str
    code: str
    reason: str | None
    output: str | None


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        yield Block(page, match["language"], match["code"], match["reason"], match["output"])


BLOCKS = [block for page in PAGES for block in blocks(page)]


def same_line(printed: str, expected: str) -> bool:
    """Whether two lines have the same words, and numbers that differ by at most `TOLERANCE`."""
    pairs = list(zip(printed.split(), expected.split(), strict=False))
    if len(printed.split()) != len(expected.split()):
        return False
    for word, other in pairs:
        try:
            if abs(float(word) - float(other)) > TOLERANCE:
                return False
        except ValueError:
            if word != other:
                return False
    return True


def missing_lines(printed: str, expected: str) -> list[str]:
    """The expected lines that were not printed. The order is free, since scores can tie within the tolerance."""
    lines = [line for line in printed.splitlines() if line.strip()]
    missing = []
    for line in expected.splitlines():
        match = next((candidate for candidate in lines if same_line(candidate, line)), None)
        if match is None:
            missing.append(line)
        else:
            lines.remove(match)
    return missing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder: the recipes, a file with pairs, and DATA, a small folder in ChEBI-20's format."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    demo = load_demo()
    demo["train"].select(range(400)).select_columns(["id", "smiles", "description"]).to_csv(str(folder / "pairs.csv"))
    (folder / "DATA").mkdir()
    for split, count in (("train", 1200), ("validation", 100)):
        with (folder / "DATA" / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
            rows.writerow(("CID", "SMILES", "description"))
            rows.writerows((row["id"], row["smiles"], row["description"]) for row in demo[split].select(range(count)))
    return folder


def run_page(page: str, folder: Path) -> Iterator[tuple[Block, str]]:
    """Each block with what it prints. One process for the page saves the time of many imports."""
    chosen = [block for block in blocks(page) if block.reason is None]
    run = Forked(run_blocks, [(block.language, block.code) for block in chosen], cwd=folder).end(seconds=600)
    assert run.returncode == 0, run.stderr
    yield from zip(chosen, json.loads(run.stdout.splitlines()[-1]), strict=True)


def runnable_pages() -> list[str]:
    """The pages whose packages are installed."""
    return [page for page in PAGES if page not in NEEDED or find_spec(NEEDED[page][0]) is not None]


@pytest.mark.parametrize("page", NEEDED)
def test_the_pages_of_extras_are_run(page: str) -> None:
    """Where the extra is missing, this says so."""
    package, extra = NEEDED[page]
    pytest.importorskip(package, reason=f"the blocks of {page} need the extra `{extra}`")
    assert page in runnable_pages()


@pytest.mark.slow
def test_the_blocks_run_and_print_what_the_pages_say(folder: Path) -> None:
    """One test for all pages: a block may need the files of an earlier one.

    The command that fails, in `docs/own_pairs.md`, runs in bash as the installed command.
    """
    assert any("class-hf" in line and "||" in line for block in BLOCKS for line in block.code.splitlines())
    for page in runnable_pages():
        for block, printed in run_page(page, folder):
            missing = missing_lines(printed, block.output or "")
            assert not missing, f"{page} expects these lines, which were not printed: {missing}\n{printed}"


def test_output_is_compared_by_words_and_numbers() -> None:
    assert not missing_lines("b 0.51\na 0.50\n", "a 0.52\nb 0.50\n")
    assert missing_lines("a 0.50\n", "a 0.70\n") == ["a 0.70"]
    assert missing_lines("a 0.50\n", "a 0.50\na 0.50\n") == ["a 0.50"]


def test_the_readme_has_two_commands_and_a_search_with_its_output() -> None:
    readme = [block for block in BLOCKS if block.page == "README.md"]
    assert [block.code.count("\n") for block in readme[:2]] == [1, 1]
    assert all("venv" in block.code for block in readme[:2])
    assert any(block.output for block in readme)
    assert len((ROOT / "README.md").read_bytes()) <= 6 * 1024


def test_blocks_that_do_not_run_give_a_reason() -> None:
    left_out = [block for block in BLOCKS if block.reason is not None]
    assert {block.page for block in BLOCKS} == set(PAGES)
    assert len(left_out) < len(BLOCKS) / 2
    for block in left_out:
        assert any(reason in block.reason for reason in REASONS)


def test_every_fence_is_a_block() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(?:bash|python)$", (ROOT / page).read_text(encoding="utf-8"), re.M)
        assert len(fences) == sum(block.page == page for block in BLOCKS)
