"""Filters over columns: parsed as written, the same on each store, and refused by name."""

import pyarrow as pa
import pytest
from datasets import Dataset

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.search.conditions import evaluate_condition, parse_conditions
from class_hf.search.stores.folder import FolderStore

ROWS = {
    "id": ["a", "b", "c", "d"],
    "smiles": ["CCO", "CCN", "CCS", "CCC"],
    "logS": [-3.5, -1.0, None, 2.0],
    "vendor": ["x", "y y", "x", None],
    "stock": [True, False, True, None],
    "count": ["1", "20", "", "3"],
    "code": [2**53 - 1, 2**53, 2**53 + 1, None],
}


@pytest.fixture(scope="module", params=["folder", "qdrant"])
def stocked(request, indexed_model, processor, tmp_path_factory):
    table = Dataset.from_dict(ROWS)
    if request.param == "qdrant":
        pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")
        return MoleculeIndex.build(table, indexed_model, processor, store="qdrant+memory:stocked", overwrite=True)
    return MoleculeIndex.build(table, indexed_model, processor, tmp_path_factory.mktemp("stocked") / "index")


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("logS < -2", "a"),
        ("logS >= -1", "bd"),
        ("logS > -3.5 and logS <= 2.0", "bd"),
        ("logS = 2", "d"),
        ("logS == -1e0", "b"),
        ("logS != 2", "ab"),
        ("vendor = x", "ac"),
        ("vendor = 'y y'", "b"),
        ('vendor != "x"', "b"),
        ("stock = true", "ac"),
        ("stock != TRUE", "b"),
        ("count > 2", "bd"),
        ("`logS`<-2 AND vendor=x", "a"),
        ("id = c", "c"),
        ("logS > 100", ""),
        ("logS < 1e300", "abd"),
        ("code >= 9007199254740991", "abc"),
        ("code > 9007199254740991", "bc"),
    ],
)
def test_comparisons(stocked, where, ids):
    hits = stocked.search("an amine", filters=MoleculeFilter(where=where))
    assert "".join(sorted(hit.id for hit in hits)) == ids
    with_pattern = stocked.search("an amine", filters=MoleculeFilter(where=where, substructure="C"))
    assert with_pattern == hits


@pytest.mark.parametrize(
    ("where", "ids"),
    [("code > 9007199254740992", "c"), ("code != 9007199254740993", "ab"), ("code < 1e16", "abc")],
)
def test_whole_numbers_that_a_store_would_round_are_refused(stocked, where, ids):
    filters = MoleculeFilter(where=where)
    if isinstance(stocked.store, FolderStore):
        assert "".join(sorted(hit.id for hit in stocked.search("an amine", filters=filters))) == ids
        return
    with pytest.raises(ValueError, match=r"compares 'code' with .*; Qdrant rounds whole numbers of 2\^53 or more"):
        stocked.search("an amine", filters=filters)
    stocked.store._features, kept = None, stocked.store._features  # of an earlier version, which kept no types
    try:
        with pytest.raises(ValueError, match="Qdrant rounds whole numbers"):
            stocked.search("an amine", filters=filters)
    finally:
        stocked.store._features = kept


def test_columns_keep_their_type(stocked):
    fields = {hit.id: hit.fields for hit in stocked.search("an amine")}
    assert fields["a"] == {"logS": -3.5, "vendor": "x", "stock": True, "count": 1, "code": 2**53 - 1}
    assert fields["c"]["code"] == 2**53 + 1
    assert [fields[row]["count"] for row in "abcd"] == [1, 20, None, 3]
    assert stocked.columns["count"] == "number" and stocked.columns["vendor"] == "text"


def test_text_that_only_looks_like_numbers_stays_text(indexed_model, processor, tmp_path):
    table = Dataset.from_dict({"smiles": ["C", "CC"], "cas": ["007", "12"], "price": ["1,5", "2"], "note": ["", None]})
    index = MoleculeIndex.build(table, indexed_model, processor, tmp_path / "index")
    assert index.columns == {"smiles": "text", "id": "text", "cas": "text", "price": "text"} | {
        "note": index.columns["note"]
    }


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("logs < 2", r"the column 'logs', which the index does not have; did you mean 'logS'\?"),
        ("logS = x", r"the column 'logS' \(number\) with 'x' \(text\)"),
        ("vendor = 3", r"the column 'vendor' \(text\) with 3.0 \(number\)"),
        ("stock = 1", r"\(boolean\)"),
    ],
)
def test_columns_and_kinds_are_checked(stocked, where, message):
    with pytest.raises(ValueError, match=message):
        stocked.search("an amine", filters=MoleculeFilter(where=where))


@pytest.mark.parametrize(
    "where",
    [
        "",
        " ",
        "logS",
        "logS <",
        "< 3",
        "logS < 2 or a = 1",
        "a = 'x",
        "a < x",
        "a = 1 and",
        "a = 1; drop",
        3,
        "a" * 2000,
    ],
)
def test_malformed_comparisons(where):
    with pytest.raises(ValueError, match=r"^where ") as caught:
        MoleculeFilter(where=where)
    assert "\n" not in str(caught.value)


def test_smallest_score(stocked):
    hits = stocked.search("an amine")
    bound = hits[1].score
    assert stocked.search("an amine", filters=MoleculeFilter(min_score=bound)) == hits[:2]
    assert parse_conditions("a=1") == parse_conditions("a == 1")


@pytest.mark.parametrize(
    ("where", "kind", "rows"),
    [
        ("x = 9007199254740993", pa.int64(), [1]),
        ("x > 9007199254740992", pa.int64(), [1, 2]),
        ("x <= 9007199254740993.5", pa.int64(), [0, 1, 2]),
        ("x < 9223372036854775808", pa.int64(), [0, 1, 2]),
        ("x = 18446744073709551615", pa.uint64(), []),
        ("x != 1e400", pa.uint64(), [0, 1, 2]),
        ("x = 2.5", pa.int64(), []),
        ("x != 2.5", pa.int64(), [0, 1, 2]),
    ],
)
def test_large_whole_numbers_are_compared_exactly(where, kind, rows):
    column = pa.chunked_array([[2**53, 2**53 + 1, 2**53 + 2, None]], kind)
    assert evaluate_condition(column, parse_conditions(where)[0]).nonzero()[0].tolist() == rows
