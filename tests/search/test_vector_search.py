"""Exact search equals a full sort, and codes find what exact search finds."""

import numpy as np
import pytest
from datasets import Dataset

from class_hf import MoleculeFilter, MoleculeIndex
from class_hf.search.query import ELEMENTS
from class_hf.search.stores.bit_sets import element_bits
from class_hf.search.stores.folder import FolderStore
from class_hf.search.vector_search import compute_codes, top_rows, top_rows_by_codes


def unit(count, dimension=32, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("chosen", [None, [3, 4, 50, 51, 52, 90]])
@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("k", [1, 7, 500])
def test_exact_search_is_a_stable_sort(chosen, penalised, k):
    vectors, queries = unit(100), unit(3, seed=1)
    vectors[60:90] = vectors[0]  # ties
    rows = None if chosen is None else np.array(chosen)
    penalties = np.linspace(0, 1, 100, dtype=np.float32).round(1) if penalised else None
    products = queries @ vectors.T - (0 if penalties is None else penalties)
    products = products.round(6)
    among = np.arange(100) if rows is None else rows
    scores, found = top_rows(vectors, queries, k, rows, penalties, block_size=17)
    assert found.shape == scores.shape == (3, min(k, len(among)))
    for query in range(3):
        wanted = among[np.argsort(-products[query, among], kind="stable")][:k]
        np.testing.assert_allclose(scores[query], products[query, wanted], atol=2e-6)
        np.testing.assert_allclose(products[query, found[query]], products[query, wanted], atol=2e-6)
        assert len(set(found[query])) == len(found[query])


def test_equal_vectors_come_in_the_order_of_their_rows():
    vectors = np.ones((50, 4), np.float32)
    assert top_rows(vectors, np.ones((1, 4), np.float32), 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_nothing_to_choose_from():
    scores, rows = top_rows(unit(5), unit(2), 3, np.array([], np.int64))
    assert scores.shape == rows.shape == (2, 0)


def test_codes_find_the_exact_neighbours():
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    vectors, penalties = unit(5000), np.zeros(5000, np.float32)
    queries = vectors[:40] + 0.5 * unit(40, seed=2)
    codes = compute_codes(vectors)
    scores, rows = top_rows(vectors, queries, 10)
    near_scores, near = top_rows_by_codes(vectors, codes, queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, near, strict=True)])
    assert recall > 0.9, recall
    assert (near[:, 0] == np.arange(40)).all()
    np.testing.assert_allclose(near_scores, np.take_along_axis(queries @ vectors.T, near, 1), atol=1e-5)
    some = np.arange(0, 5000, 7)
    _, within = top_rows_by_codes(vectors, codes, queries, 10, some)
    assert set(within.ravel()) <= set(some)
    penalties[:40] = 9.0
    _, others = top_rows_by_codes(vectors, codes, queries, 10, None, penalties)
    assert (others[:, :9] >= 40).all(), "what is penalised comes last"
    # With ten times 500 candidates all rows are scored exactly.
    every_score, _ = top_rows_by_codes(vectors, codes, queries, 500)
    np.testing.assert_allclose(every_score, top_rows(vectors, queries, 500)[0], atol=1e-6)


def test_an_index_with_codes_equals_an_exact_one(molecules, indexed_model, processor, index, tmp_path):
    """With ten times k candidates of 28 molecules, the codes leave none out."""
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    built = MoleculeIndex.build(molecules, indexed_model, processor, tmp_path / "index", exact_up_to=5)
    assert len(built.store.codes("molecule").bits) == len(molecules)
    assert isinstance(built.store.codes("molecule").bits, np.memmap)
    for filters in (None, MoleculeFilter(elements="O"), MoleculeFilter(substructure="C(=O)[OH]")):
        wanted = index.search("an acid", k=4, filters=filters, query_bank=False)
        found = built.search("an acid", k=4, filters=filters)
        assert [hit.id for hit in found] == [hit.id for hit in wanted]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-6)
    ids = ([hit.id for hit in one.search_captions("CCO", k=3)] for one in (index, built))
    assert next(ids) == next(ids)


def test_every_element_has_a_bit_of_its_own():
    bits = element_bits([[symbol] for symbol in ELEMENTS])
    assert len(ELEMENTS) == 118 and len({tuple(row) for row in bits.tolist()}) == 118
    assert element_bits([ELEMENTS])[0].tolist() == np.bitwise_or.reduce(bits).tolist()


def test_a_filter_finds_each_element(tmp_path):
    """One molecule of one atom for each element."""
    table = Dataset.from_dict(
        {
            "id": ELEMENTS,
            "smiles": [f"[{symbol}]" for symbol in ELEMENTS],
            "_weight": [1.0] * 118,
            "_elements": [[symbol] for symbol in ELEMENTS],
            "_pattern": [bytes(256)] * 118,
        }
    )
    config = dict.fromkeys(("model", "revision", "query_bank"))
    config |= {
        "class_hf_version": "",
        "dimension": 32,
        "molecules": 118,
        "captions": 0,
        "exact_up_to": 999,
        "probes": {},
    }
    with FolderStore.create(tmp_path / "index", table, 32, np.empty(0, np.int64)) as writer:
        writer.add_molecules(0, unit(118))
        writer.finish(config)
    store = FolderStore(tmp_path / "index")
    for symbol in ELEMENTS:
        [found] = store.nearest("molecule", unit(1), 118, MoleculeFilter(elements=[symbol]))
        assert [result.id for result in found] == [symbol]
