"""Missing and damaged indexes, wrong queries and filters."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from commands import SEARCH, Prepare, content_of, cut, removed, written
from workshop import Case, Workshop


def indexed(change: Callable[[Path], None]) -> Prepare:
    """Copies the index into `{here}/index` and damages the copy."""

    def prepare(workshop: Workshop, here: Path) -> None:
        shutil.copytree(workshop.index, here / "index")
        change(here / "index")

    return prepare


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        np.save(folder / name, change(np.load(folder / name)))

    return damage


def index_config(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


INDEXES: dict[str, Callable[[Path], None]] = {
    "no index.json": removed("index.json"),
    "empty index.json": content_of("index.json", ""),
    "index.json is a list": content_of("index.json", "[]"),
    "index.json is cut": cut("index.json", 30),
    "no keys": content_of("index.json", "{}"),
    "count is wrong": index_config(molecules=7),
    "count is text": index_config(molecules="many"),
    "no vectors": removed("molecules.npy"),
    "empty vectors": content_of("molecules.npy", ""),
    "cut vectors": cut("molecules.npy", 300),
    "text for vectors": content_of("molecules.npy", "hello" * 50),
    "rows are missing": array("molecules.npy", lambda rows: rows[:-1]),
    "other width": array("molecules.npy", lambda rows: rows[:, :-1]),
    "float64": array("molecules.npy", lambda rows: rows.astype(np.float64)),
    "integers": array("molecules.npy", lambda rows: rows.astype(np.int32)),
    "NaN": array("molecules.npy", lambda rows: np.full_like(rows, np.nan)),
    "one axis": array("molecules.npy", lambda rows: rows.ravel()),
    "pickled": lambda folder: np.save(folder / "molecules.npy", np.array([{}], dtype=object), allow_pickle=True),
    "no table": lambda folder: shutil.rmtree(folder / "table") if (folder / "table").is_dir() else _no_table(folder),
}


def _no_table(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def indexes() -> Iterator[Case]:
    """Indexes that are missing or damaged."""
    for name, change in INDEXES.items():
        words = ("An alcohol.", "--index", "{here}/index", "--model", "{model}")
        yield Case(f"search: index with {name}", "search", words, "index", indexed(change))
        yield Case(f"index --verify: {name}", "index", ("--verify", "{here}/index"), "index", indexed(change))
    for name, path in (
        ("missing", "/no/such/index"),
        ("empty folder", "{here}"),
        ("file", "{table}"),
        ("model", "{model}"),
        ("empty name", ""),
        ("unknown store", "foo+bar:baz"),
        ("no such class", "no_such:X@y"),
    ):
        yield Case(
            f"search: index is {name}", "search", ("An alcohol.", "--index", path), "index|foo|no_such|holds|exist"
        )
        yield Case(f"app: index is {name}", "app", ("--index", path, "--port", "0"), "index|foo|no_such|holds|exist")
        if path:
            yield Case(f"verify: index is {name}", "index", ("--verify", path), "index|foo|no_such|holds|exist")


BAD_SMILES = (
    "C1CC(",
    "",
    " ",
    "hello",
    "CC\u041e",
    "CCO foo",
    "C" * 200_000,
    "[Xx]",
    "C(",
    "\x00",
    "\U0001f9ea",
)
FILTERS = {
    "substructure": ("C1CC(", "", "[#", "hello", "C" * 100_000, "[$(", "\x00"),
    "elements": ("Xx", "", "1", "carbon", ",", "N;Cl"),
    "where": (
        "logS",
        "logS <",
        "nothing < 1",
        "1 < 2",
        "__import__('os')",
        "id = ",
        "id ~ 'x'",
        "",
        "id < 1 and",
        "(" * 5000,
        "id = 'x' or 1",
    ),
}


def queries() -> Iterator[Case]:
    """Queries and filters of `search`."""
    for smiles in BAD_SMILES:
        name = f"search: SMILES {smiles[:12]!r}"
        yield Case(name, "search", ("--smiles", smiles, "--index", "{index}"), "smiles|molecule|query")
    for text in ("", " ", "\n", "x" * 200_000):
        yield Case(
            f"search: text {text[:5]!r}", "search", (text, "--index", "{index}"), "query|text|description|caption"
        )
    for argument, values in FILTERS.items():
        for value in values:
            words = (*SEARCH, f"--{argument}={value}")
            yield Case(
                f"search: {argument} {value[:16]!r}", "search", words, f"{argument}|element|smarts|column|where"
            )
    for name, words, culprit in (
        ("no query", ("--index", "{index}"), "description|query"),
        ("two queries", (*SEARCH, "--smiles", "CCO"), "either|smiles"),
        ("captions without a molecule", (*SEARCH, "--captions"), "captions"),
        (
            "filters of captions",
            ("--smiles", "CCO", "--captions", "--min_weight", "3", "--index", "{index}"),
            "filters|captions",
        ),
        ("drawing that is no PNG", (*SEARCH, "--draw", "{out}/hits.txt"), "draw|png"),
        ("output of no format", (*SEARCH, "--output", "{out}/hits.docx"), "output|docx"),
        ("output is a folder", (*SEARCH, "--output", "{here}"), "file name that ends|folder"),
        ("queries without output", ("--queries", "{table}", "--index", "{index}"), "output"),
        (
            "queries missing",
            ("--queries", "/no/file.txt", "--output", "{out}/h.csv", "--index", "{index}"),
            "file.txt",
        ),
        ("weights exchanged", (*SEARCH, "--min_weight", "200", "--max_weight", "100"), "weight"),
    ):
        yield Case(f"search: {name}", "search", words, culprit)
    for name, content in (
        ("empty", ""),
        ("blank", "\n\n"),
        ("binary", bytes(range(256))),
        ("Latin-1", b"caf\xe9\n"),
        ("UTF-16 that is cut short", "An acid.\n".encode("utf-16")[:-1]),
    ):
        words = ("--queries", "{here}/queries.txt", "--output", "{out}/hits.csv", "--index", "{index}")
        yield Case(f"search: queries {name}", "search", words, "queries", written("queries.txt", content))
