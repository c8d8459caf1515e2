"""Broken files of pairs and of molecules."""

import gzip
from collections.abc import Iterator

from commands import EVALUATE, INDEX, SCORE, Prepare, written
from workshop import Case

HEADER = "CID\tSMILES\tdescription\n"
GOOD = "1\tCCO\tAn alcohol.\n2\tCCN\tAn amine.\n3\tCCS\tA thiol.\n4\tCC(=O)O\tAn acid.\n"
PAIRS: dict[str, bytes | str] = {
    "empty": "",
    "header only": HEADER,
    "no header": GOOD,
    "bad SMILES": HEADER + GOOD + "5\tC1CC(\tA ring.\n",
    "empty SMILES": HEADER + GOOD + "5\t\tNothing.\n",
    "empty caption": HEADER + GOOD + "5\tCCCl\t\n",
    "repeated id": HEADER + GOOD + "4\tCCCl\tAnother.\n",
    "empty id": HEADER + GOOD + "\tCCCl\tNo id.\n",
    "short row": HEADER + GOOD + "5\tCCCl\n",
    "long row": HEADER + GOOD + "5\tCCCl\tA\tB\n",
    "other columns": "a\tb\tc\n" + GOOD,
    "repeated column": "CID\tSMILES\tSMILES\n" + GOOD,
    "UTF-16 without mark": (HEADER + GOOD).encode("utf-16-le"),
    "binary": bytes(range(256)) * 10,
    "null bytes": HEADER + GOOD + "5\tCC\x00Cl\tA.\n",
    "Latin-1": (HEADER + GOOD).encode() + b"5\tCCCl\tAn \xe9ster.\n",
    "unclosed quote": HEADER.replace("\t", ",") + '1,CCO,"An alcohol.\n2,CCN,An amine.\n',
    "JSON": '{"a": [1, 2]}',
    "XML": "<html><body>404 Not Found</body></html>\n",
    "one long line": "x" * 2_000_000,
    "Cyrillic SMILES": HEADER + GOOD + "5\tCC\u041e\tAn alcohol.\n",
}


def single_file(name: str, content: bytes | str) -> Prepare:
    """Writes a table of pairs."""
    return written("pairs.csv" if name == "unclosed quote" else "pairs.tsv", content)


def tables() -> Iterator[Case]:
    """Files of pairs and of molecules that are broken, for the commands that read them."""
    for name, content in PAIRS.items():
        file = "{here}/pairs.csv" if name == "unclosed quote" else "{here}/pairs.tsv"
        prepare = single_file(name, content)
        culprit = "pairs|row|line|column"
        words = ("--data_dir", file, "--output_dir", "{out}", "--definition", "complexity")
        yield Case(f"score: pairs with {name}", "score", words, culprit, prepare)
        words = ("--model", "{model}", "--data_dir", file, "--output", "{out}/metrics.json")
        yield Case(f"evaluate: pairs with {name}", "evaluate", words, culprit, prepare)
    for name, path, culprit in (
        ("missing", "/no/such/folder", "/no/such/folder"),
        ("empty name", "", "data|source|folder"),
        ("empty folder", "{here}", "here|folder|pairs|data|train"),
    ):
        words = ("--data_dir", path, "--output_dir", "{out}")
        yield Case(f"score: data folder {name}", "score", words, culprit)
        words = ("--model", "{model}", "--data_dir", path, "--output", "{out}/metrics.json")
        if path:
            yield Case(f"evaluate: data folder {name}", "evaluate", words, culprit)
        words = ("--model", "{model}", "--molecules", path, "--output_dir", "{out}")
        yield Case(f"index: molecules {name}", "index", words, f"{culprit}|molecules|required")


def training_files() -> Iterator[Case]:
    """Broken files of further training pairs, of better captions, and of captions without a molecule."""
    for name in ("empty", "header only", "no header", "bad SMILES", "other columns", "binary", "short row", "Latin-1"):
        words = (*SCORE, "--extra_train", "{here}/more.tsv")
        culprit = "more|row|line|column"
        yield Case(f"score: further pairs {name}", "score", words, culprit, written("more.tsv", PAIRS[name]))
        words = (*SCORE, "--replace_captions", "{here}/more.tsv")
        yield Case(f"score: captions {name}", "score", words, culprit, written("more.tsv", PAIRS[name]))
    for argument in ("extra_train", "replace_captions"):
        for value in ("no_such_file.tsv", ""):
            yield Case(
                f"score: {argument} {value!r}", "score", (*SCORE, f"--{argument}", value), f"{argument}|no file"
            )
        yield Case(f"evaluate: {argument}", "evaluate", (*EVALUATE, f"--{argument}", "none.tsv"), argument)
        yield Case(f"index: {argument}", "index", (*INDEX, f"--{argument}", "none.tsv"), argument)
    bank = ("--query_bank", "--bank_captions")
    yield Case("evaluate: no bank", "evaluate", (*EVALUATE, "--bank_captions", "none.txt"), "query_bank")
    yield Case("evaluate: no captions", "evaluate", (*EVALUATE, *bank, "none.txt"), "none.txt")
    for name in ("empty", "header only", "binary", "one long line"):
        words = (*EVALUATE, *bank, "{here}/captions.txt")
        yield Case(
            f"evaluate: captions {name}", "evaluate", words, "captions.txt", written("captions.txt", PAIRS[name])
        )


MOLECULES: dict[str, tuple[str, bytes | str]] = {
    "empty CSV": ("m.csv", ""),
    "header only": ("m.csv", "id,smiles\n"),
    "bad SMILES": ("m.csv", "id,smiles\n1,C1CC(\n"),
    "no SMILES column": ("m.csv", "id,name\n1,ethanol\n"),
    "trailing comma": ("m.csv", "id,smiles\n1,CCO,\n2,CC,\n"),
    "unclosed quote": ("m.csv", 'id,smiles\n1,"CCO\n2,CC\n'),
    "repeated column": ("m.csv", "id,smiles,smiles\n1,C,CC\n"),
    "empty .smi": ("m.smi", ""),
    "blank .smi": ("m.smi", "\n\n"),
    "bad .smi": ("m.smi", "C1CC( a\n"),
    "empty SDF": ("m.sdf", ""),
    "text as SDF": ("m.sdf", "hello\n"),
    "cut SDF": ("m.sdf", "a\n  x\n\n  2  1  0\n"),
    "SDF gz that is none": ("m.sdf.gz", "hello"),
    "cut gz": ("m.csv.gz", gzip.compress(b"id,smiles\n1,CCO\n" * 100)[:40]),
    "Parquet that is none": ("m.parquet", "x"),
    "binary": ("m.csv", bytes(range(256))),
    "JSONL that is none": ("m.jsonl", "{\n"),
    "late fault": ("m.csv", "id,smiles\n" + "1,CCO\n" * 1200 + "2,C1CC(\n"),
    "words after": ("m.csv", "id,smiles\n1,CCO foo\n"),
    "Cyrillic": ("m.csv", "id,smiles\n1,CC\u041e\n"),
    "huge SMILES": ("m.csv", "id,smiles\n1," + "C" * 200_000 + "\n"),
}


def molecule_tables() -> Iterator[Case]:
    """Files of molecules for `index`."""
    for name, (file, content) in MOLECULES.items():
        words = ("--model", "{model}", "--molecules", f"{{here}}/{file}", "--output_dir", "{out}")
        stem = file.replace(".", r"\.")
        yield Case(f"index: {name}", "index", words, f"{stem}|row|line|record|smiles", written(file, content))
    for column in ("smiles_column", "id_column", "description_column"):
        yield Case(f"index: {column}", "index", (*INDEX, f"--{column}", "nothing"), "nothing")
    yield Case("index: split", "index", (*INDEX, "--split", "nothing"), "split|nothing")
    yield Case("index: two sources", "index", (*INDEX, "--demo"), "demo")
    yield Case("index: bank without pairs", "index", (*INDEX, "--query_bank"), "query_bank")
    yield Case("index: store", "index", (*INDEX, "--store", "foo"), "both name")
    yield Case("index: store class", "index", (*INDEX[:4], "--store", "no_such_module:X@y"), "no_such_module|store")
