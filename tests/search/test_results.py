"""Hits in files: all columns in each format, no formulas, and queries from a file."""

import csv
import gzip
import json

import pyarrow.parquet as pq
import pytest
from rdkit import Chem

from class_hf.search.query import Hit
from class_hf.search.results import FORMATS, read_queries, write_hits

EVIL = '=HYPERLINK("http://evil","x")'
HITS = [
    Hit(1, 0.75, "007", "C[C@H](O)CC |&1:1|", {"description": 'an "alcohol",\nracemic', "logS": -1.5, "note": EVIL}),
    Hit(2, 0.5, "-x", "OCC", {"description": None, "logS": None, "note": "$$$$", "score": "own"}),
]


def test_csv(tmp_path):
    write_hits(tmp_path / "hits.csv", ["an alcohol"], [HITS])
    with (tmp_path / "hits.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["id"] == "007" and first["logS"] == "-1.5" and first["note"] == "'" + EVIL
    assert first["description"] == 'an "alcohol",\nracemic' and second["score_of_table"] == "own"
    assert second["id"] == "'-x" and second["query"] == "an alcohol" and second["score"] == "0.5"


def test_sdf(tmp_path):
    write_hits(tmp_path / "hits.sdf", ["an alcohol"], [HITS])
    first, second = Chem.SDMolSupplier(str(tmp_path / "hits.sdf"))
    assert first.GetProp("_Name") == "007" and first.GetProp("logS") == "-1.5" and first.GetProp("score") == "0.75"
    assert Chem.MolToSmiles(second) == "CCO" and second.GetProp("note").strip() == "$$$$"
    assert first.GetProp("description") == 'an "alcohol", racemic' and first.GetConformer().Is3D() is False
    assert Chem.MolToSmiles(first) == Chem.CanonSmiles("C[C@H](O)CC")


def test_parquet_and_json_keep_types(tmp_path):
    write_hits(tmp_path / "hits.parquet", ["a", "b"], [HITS, HITS[:1]])
    rows = pq.read_table(tmp_path / "hits.parquet").to_pylist()
    assert [row["query"] for row in rows] == ["a", "a", "b"] and rows[0]["logS"] == -1.5 and rows[1]["logS"] is None
    assert rows[0]["note"] == EVIL
    write_hits(tmp_path / "hits.json", ["a", "b"], [HITS, HITS[:1]])
    assert [row["rank"] for row in json.loads((tmp_path / "hits.json").read_text())] == [1, 2, 1]


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_hits_and_existing_files(tmp_path, suffix):
    path = tmp_path / "new" / f"hits{suffix}"
    write_hits(path, ["a"], [[]])
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_hits(path, ["a"], [HITS])
    write_hits(path, ["a"], [HITS], overwrite=True)
    assert path.stat().st_size > 50 and [file.name for file in path.parent.iterdir()] == [path.name]


def test_queries_of_a_file(tmp_path):
    path = tmp_path / "queries.txt"
    path.write_bytes("\ufeffan ester\r\n\r\n  a thiol \n".encode())
    assert read_queries(path) == ["an ester", "a thiol"]
    for content, message in (
        (b"", "has no queries"),
        (b"a\ncaf\xe9\n", "line 2 is not UTF-8 .*--encoding cp1252"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"a\nb\x00c\n", "line 2 holds a zero byte"),
        (b"a\nb\x07c\n", "line 2 contains the control character"),
        (b"an acid\n---\n", "line 2 '---' has no letter and no digit"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_queries(path)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("An \xe9ster\u2028.\rAn acid\r".encode(), None),
        ("An \xe9ster\u2028.\r\nAn acid".encode("utf-16"), None),
        ("An \xe9ster\u2028.\nAn acid".encode("utf-16-be"), None),
        (gzip.compress("\ufeffAn \xe9ster\u2028.\n\nAn acid\n".encode(), mtime=0), None),
        ("An \xe9ster\u2028.\nAn acid".encode("utf-7"), "utf-7"),
    ],
)
def test_queries_in_any_encoding(tmp_path, content, encoding):
    (tmp_path / "queries.txt").write_bytes(content)
    assert read_queries(tmp_path / "queries.txt", encoding) == ["An \xe9ster\u2028.", "An acid"]
    with pytest.raises(ValueError, match="--encoding 'utf-99' is not known"):
        read_queries(tmp_path / "queries.txt", "utf-99")


def test_a_file_below_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ValueError, match="hits.csv' cannot be written: '.*a' is a file, not a folder"):
        write_hits(tmp_path / "a" / "hits.csv", ["a"], [HITS])
