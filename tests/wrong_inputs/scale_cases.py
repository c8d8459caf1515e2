"""Wrong inputs of `encode`, `suspects`, changes of an index, indexes of vectors, stores and files of queries."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from commands import EXPORT, INDEX, Prepare, written
from recipe_scripts import load_recipe_script
from workshop import Case, Workshop

ENCODE = ("{table}", "--model", "{model}", "--output_dir", "{out}")
SUSPECTS = ("--data_dir", "{data}", "--output_dir", "{out}")
VECTORS = ("--vectors", "{here}/encoded", "--output_dir", "{out}")
BOMB = "C1CC1" * 400
GIANT = "C" * 2001


def encoded(change: Callable[[Path], None]) -> Prepare:
    """Writes vectors of the table into `{here}/encoded`, and damages them."""

    def prepare(workshop: Workshop, here: Path) -> None:
        source = workshop.folder / "encoded"
        if not source.exists():
            load_recipe_script("encode").main(
                [str(workshop.table), "--model", str(workshop.model), "--output_dir", str(source)]
            )
        shutil.copytree(source, here / "encoded")
        change(here / "encoded")

    return prepare


def part(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """Changes the first file of vectors."""

    def damage(folder: Path) -> None:
        path = min(folder.rglob("part-*.parquet"), default=min(folder.rglob("*.parquet")))
        pq.write_table(change(pq.read_table(path)), path)

    return damage


def first(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Changes the bytes of the first file that matches a pattern."""

    def damage(folder: Path) -> None:
        path = min(folder.rglob(name))
        path.write_bytes(change(path.read_bytes()))

    return damage


def settings(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Changes the settings of the vectors."""

    def damage(folder: Path) -> None:
        path = min(folder.rglob("*.json"))
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def _with_first_vector(table: pa.Table, value: float | None) -> pa.Table:
    """A table whose first vector is one value everywhere, or lacks a number."""
    rows = table["vector"].to_pylist()
    rows[0] = rows[0][1:] if value is None else [value] * len(rows[0])
    vectors = pa.array(rows, pa.list_(pa.float32()))
    return table.set_column(table.column_names.index("vector"), "vector", vectors)


def encodings() -> Iterator[Case]:
    """Wrong inputs of `encode`."""
    for name, words, culprit in (
        ("missing table", ("/no/table.csv", *ENCODE[1:]), "table.csv"),
        ("pattern without files", ("{here}/*.parquet", *ENCODE[1:]), "parquet"),
        ("empty name", ("", *ENCODE[1:]), "table"),
        ("a model as table", ("{model}", *ENCODE[1:]), "model|table"),
        ("an unknown scheme", ("foo://x/y.csv", *ENCODE[1:]), "foo"),
        ("missing model", ("{table}", "--model", "/no/model", "--output_dir", "{out}"), "model"),
        ("side without a column", (*ENCODE, "--side", "text"), "description|text"),
        ("no rows in a shard", (*ENCODE, "--shard_size", "0"), "shard_size"),
        ("no workers", (*ENCODE, "--workers", "0"), "workers"),
        ("unknown dtype", (*ENCODE, "--dtype", "int8"), "dtype"),
        ("unknown scheduler", (*ENCODE, "--scheduler", "spark://x"), "scheduler|spark"),
        ("scheduler without port", (*ENCODE, "--scheduler", "tcp://"), "scheduler|tcp"),
        ("output is a file", ("{table}", "--model", "{model}", "--output_dir", "{table}"), "output_dir|table.csv"),
        ("output is a model", ("{table}", "--model", "{model}", "--output_dir", "{model}"), "model|output"),
        ("split of a file", (*ENCODE, "--split", "train"), "split"),
        ("unknown column", (*ENCODE, "--smiles_column", "drug"), "drug"),
        ("unknown encoding", (*ENCODE, "--encoding", "klingon"), "klingon"),
        ("batch of none", (*ENCODE, "--batch_size", "-1"), "batch_size"),
    ):
        yield Case(f"encode: {name}", "encode", words, culprit)
    for name, content, culprit in (
        ("empty", "", "empty"),
        ("header only", "id,smiles\n", "no rows|no molecule|rows|usable|encoded"),
        ("no SMILES column", "id,name\n1,x\n", "smiles"),
        ("shifted rows", "id,smiles\n1,CCO,\n2,CCN,\n", "line 2"),
        ("a giant", f"id,smiles\n1,CCO\n2,{GIANT}\n", "2,001 atoms"),
        ("many rings", f"id,smiles\n1,CCO\n2,{BOMB}\n", "rings"),
        ("a Cyrillic letter", "id,smiles\n1,CC\u041e\n", "CYRILLIC|041E"),
        ("binary", bytes(range(256)) * 4, "table.csv"),
    ):
        words = ("{here}/wrong_table.csv", *ENCODE[1:], "--on_error", "raise")
        yield Case(f"encode: table {name}", "encode", words, culprit, written("wrong_table.csv", content))
    texts = ("{here}/texts.csv", *ENCODE[1:], "--side", "text", "--on_error", "raise")
    for name, text in (("empty", ""), ("without a word", "?!"), ("too long", "ester " * 10_000)):
        content = f"id,description\n1,An ester.\n2,{text}\n"
        culprit = "texts.csv|description|caption|empty|characters"
        yield Case(f"encode: text {name}", "encode", texts, culprit, written("texts.csv", content))


def _with_pair(smiles: str) -> str:
    """Pairs, one of them with a SMILES."""
    return (
        "id,smiles,description\nx,"
        + smiles
        + ",A giant.\n"
        + "".join(f"{i},{'C' * i}O,Pair {i}.\n" for i in range(60))
    )


def suspects() -> Iterator[Case]:
    """Wrong inputs of `suspects`."""
    for name, words, culprit in (
        ("no source", ("--output_dir", "{out}"), "data_dir"),
        ("two sources", (*SUSPECTS, "--demo"), "demo|data_dir"),
        ("missing folder", ("--data_dir", "/no/pairs", "--output_dir", "{out}"), "pairs"),
        ("output is the data", ("--data_dir", "{data}", "--output_dir", "{data}"), "data"),
        ("no list", (*SUSPECTS, "--max_listed", "0"), "max_listed"),
        ("too many cross-fits", (*SUSPECTS, "--cross_fits", "9"), "cross_fits|50 pairs"),
        ("negative seed", (*SUSPECTS, "--seed", "-1"), "seed"),
        ("a Hub id that is a folder", ("--dataset_name", "{data}", "--output_dir", "{out}"), "dataset_name"),
    ):
        yield Case(f"suspects: {name}", "suspects", words, culprit)
    pairs = ("--data_dir", "{here}/pairs.csv", "--output_dir", "{out}")
    for name, content, culprit in (
        ("one pair", "id,smiles,description\n1,CCO,An alcohol.\n", "pairs|pair"),
        (
            "equal captions",
            "id,smiles,description\n" + "".join(f"{i},{'C' * i}O,Same.\n" for i in range(1, 30)),
            "pair",
        ),
        ("no descriptions", "id,smiles\n1,CCO\n2,CCN\n", "description"),
        ("a giant", _with_pair(GIANT), "2,001 atoms"),
    ):
        yield Case(f"suspects: {name}", "suspects", pairs, culprit, written("pairs.csv", content))


VECTOR_DAMAGES: dict[str, Callable[[Path], None]] = {
    "a cut file": first("*.parquet", lambda data: data[: len(data) // 2]),
    "an empty file": first("*.parquet", lambda data: b""),
    "a flipped bit": first("*.parquet", lambda data: data[:200] + bytes([data[200] ^ 4]) + data[201:]),
    "a missing file": lambda folder: min(folder.rglob("*.parquet")).unlink(),
    "no settings": lambda folder: min(folder.rglob("*.json")).unlink(),
    "settings that are cut": first("*.json", lambda data: data[: len(data) // 2]),
    "settings without keys": first("*.json", lambda data: b"{}"),
    "settings that are a list": first("*.json", lambda data: b"[]"),
    "rows that are missing": part(lambda table: table.slice(1)),
    "NaN": part(lambda table: _with_first_vector(table, float("nan"))),
    "a short vector": part(lambda table: _with_first_vector(table, None)),
    "other settings": settings(lambda content: content.pop("probes")),
    "no vectors": part(lambda table: table.drop_columns(["vector"])),
    "no ids": part(lambda table: table.drop_columns(["id"])),
    "nothing": lambda folder: [path.unlink() for path in folder.rglob("*") if path.is_file()],
}


def changes() -> Iterator[Case]:
    """Wrong changes of an index, wrong stores, damaged vectors, and wrong files of queries."""
    for name, change in VECTOR_DAMAGES.items():
        yield Case(f"index --vectors: {name}", "index", VECTORS, "encoded|vectors", encoded(change))
    for name, words, culprit in (
        ("vectors and a split", (*VECTORS, "--split", "train"), "--vectors|split"),
        ("vectors that are missing", ("--vectors", "/no/vectors", "--output_dir", "{out}"), "vectors"),
        ("vectors that are an index", ("--vectors", "{index}", "--output_dir", "{out}"), "index|vectors"),
        ("append without molecules", ("--append", "--output_dir", "{index}"), "molecules"),
        ("append to nothing", ("--append", "--molecules", "{table}", "--output_dir", "{out}"), "index"),
        ("append again", ("--append", "--molecules", "{table}", "--output_dir", "{index}"), "m0"),
        ("update without molecules", ("--update", "--output_dir", "{index}"), "molecules"),
        ("delete an unknown id", ("--delete", "nobody", "--output_dir", "{index}"), "nobody"),
        ("delete no id", ("--delete", "--output_dir", "{index}"), "delete"),
        ("delete an empty id", ("--delete", "", "--output_dir", "{index}"), "index"),
        ("delete all", ("--delete", *(f"m{i}" for i in range(24)), "--output_dir", "{index}"), "no molecule"),
        ("delete and molecules", ("--delete", "m1", "--molecules", "{table}"), "delete"),
        ("append and delete", ("--append", "--delete", "m1", "--output_dir", "{index}"), "append|delete"),
        ("verify and append", ("--verify", "{index}", "--append"), "append|verify"),
    ):
        yield Case(f"index: {name}", "index", words, culprit)
    for name, content, culprit in (
        ("other columns", "id,smiles,price\nnew,CCO,3\n", "price"),
        ("a repeated id", "id,smiles\nm1,CCO\n", "m1"),
        ("no id", "smiles\nCCO\n", "id|in the index"),
        ("a bad SMILES", "id,smiles\nnew,C1CC\n", "C1CC"),
        ("a giant", f"id,smiles\nnew,{GIANT}\n", "2,001 atoms"),
        ("nothing", "id,smiles\n", "rows|molecule"),
    ):
        words = ("--append", "--molecules", "{here}/more.csv", "--output_dir", "{index}")
        yield Case(f"index --append: {name}", "index", words, culprit, written("more.csv", content))
    stores = (
        *("foo:bar", "mysql://x/y", "file:///tmp/x", "http://localhost/x", "qdrant+http://", "qdrant+http://x"),
        *(
            "qdrant+path:",
            "lance:",
            "postgresql://",
            "postgresql://h",
            "s3://",
            "no_such_module:Name@x",
            "os:getcwd@x",
        ),
        *("json:JSONDecoder@x", " ", "\n", "collections:OrderedDict@y", "{table}", "{table}/x"),
    )
    for store in stores:
        words = ("--model", "{model}", "--molecules", "{table}", "--store", store)
        yield Case(f"index: store {store!r}", "index", words, ".")
    for name, content in (
        ("punctuation", "An acid.\n?!\n"),
        ("a control character", "An acid.\n\x07\n"),
        ("a long line", "ester " * 3000),
        ("a ZIP archive", b"PK\x03\x04" + bytes(100)),
    ):
        words = ("--queries", "{here}/queries.txt", "--output", "{out}.csv", "--index", "{index}")
        yield Case(f"search: queries with {name}", "search", words, "queries", written("queries.txt", content))
    queries = ("--queries", "{here}/queries.txt", "--index", "{index}")
    for name, further, culprit in (
        ("a drawing", ("--output", "{out}.csv", "--draw", "{out}.png"), "draw"),
        ("JSON", ("--output", "{out}.csv", "--json"), "json"),
        ("a description", ("An acid.", "--output", "{out}.csv"), "queries"),
        ("an unknown encoding", ("--output", "{out}.csv", "--encoding", "klingon"), "klingon"),
        ("another encoding", ("--output", "{out}.csv", "--encoding", "utf-16"), "utf-16"),
        ("a folder that is a file", ("--output", "{here}/queries.txt/h.csv"), "queries.txt|folder"),
    ):
        prepare = written("queries.txt", "An acid.\n")
        yield Case(f"search: queries and {name}", "search", (*queries, *further), culprit, prepare)
    for name, words, culprit in (
        ("a table", ("--model", "{table}", *EXPORT[2:]), "table|model"),
        ("an index", ("--model", "{index}", *EXPORT[2:]), "model|index"),
        ("a base without an adapter", (*EXPORT, "--base", "{model}"), "base"),
        (
            "merged without an adapter",
            ("--model", "{model}", "--output_dir", "{out}", "--format", "merged"),
            "adapter",
        ),
        ("a subfolder that is missing", (*EXPORT, "--subfolder", "nothing"), "nothing|subfolder"),
        ("an output that is the model", (*EXPORT[:2], "--output_dir", "{model}", *EXPORT[4:]), "model"),
        ("an output that is a file", (*EXPORT[:2], "--output_dir", "{table}", *EXPORT[4:]), "table|lexical"),
        ("an unknown format", (*EXPORT[:4], "--format", "gguf"), "format"),
    ):
        yield Case(f"export: {name}", "export", words, culprit)
    yield Case(
        "index: molecules that are the index", "index", (*INDEX[:2], "--molecules", "{index}", *INDEX[4:]), "index"
    )
