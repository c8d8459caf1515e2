"""Tests of class_hf.difficulty.neighbours: equal to the plain loops, to the last bit where it says so."""

import multiprocessing
import sys

import numpy as np
import pytest
import torch
from rdkit import DataStructs
from scipy.sparse import csr_array

from class_hf.difficulty.neighbours import fastest_dtype, nearest, sums
from class_hf.difficulty.sparse_rows import Rows, mix, sketch

WIDTH = 64


def bits(count, seed=0):
    """Rows of 0/1, some of them equal, so that there are ties."""
    rows = np.random.default_rng(seed).random((count, WIDTH)) < 0.15
    rows[1::7] = rows[0]
    return rows.astype(np.int8)


def signed(count, seed=0):
    return np.random.default_rng(seed).integers(-9, 10, (count, WIDTH)).astype(np.int8)


def rdkit_tanimoto(queries, base):
    def vector(row):
        fingerprint = DataStructs.ExplicitBitVect(WIDTH)
        fingerprint.SetBitsFromList(np.flatnonzero(row).tolist())
        return fingerprint

    fingerprints = [vector(row) for row in base]
    return np.array([DataStructs.BulkTanimotoSimilarity(vector(row), fingerprints) for row in queries])


def plain_cosine(queries, base):
    queries, base = queries.astype(np.float64), base.astype(np.float64)
    dots = queries @ base.T
    return dots / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(base, axis=1)


def best(similarities, k):
    """The k largest of each row, the first of equal ones first."""
    rows = np.argsort(-similarities.astype(np.float32), axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, rows, axis=1), rows


@pytest.fixture(params=[torch.int8, torch.float32], ids=["int8", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(params=[(256, 8192), (7, 64), (1, 32)], ids=str)
def tile(request):
    return request.param


@pytest.mark.parametrize("k", [1, 5, 40, 99])
def test_nearest_fingerprints_equal_rdkit(dtype, tile, k):
    base = bits(100)
    similarities, rows = nearest(base, k, "tanimoto", dtype=dtype, tile=tile)
    plain = rdkit_tanimoto(base, base)
    np.fill_diagonal(plain, -1)
    expected, expected_rows = best(plain, k)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    assert (rows == expected_rows).all()


def test_nearest_of_other_rows_equal_rdkit(dtype, tile):
    base, queries = bits(90), bits(20, seed=1)
    similarities, rows = nearest(base, 8, "tanimoto", queries, dtype=dtype, tile=tile)
    expected, expected_rows = best(rdkit_tanimoto(queries, base), 8)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    assert (rows == expected_rows).all()


@pytest.mark.parametrize("make", [signed, lambda count: signed(count).astype(np.float32)], ids=["int8", "float32"])
def test_nearest_by_cosine_equal_the_plain_product(dtype, tile, make):
    base = make(100)
    # All 99, so that negative values are ordered too.
    similarities, rows = nearest(base, 99, "cosine", dtype=dtype, tile=tile)
    plain = plain_cosine(base, base)
    np.fill_diagonal(plain, -2)
    np.testing.assert_allclose(similarities, best(plain, 99)[0], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(plain, rows, axis=1), similarities, atol=1e-6)


@pytest.mark.parametrize("similarity", ["tanimoto", "cosine"])
def test_neither_types_nor_tiles_nor_the_number_of_queries_change_a_bit(similarity):
    base, queries = bits(150), bits(40, seed=1)
    whole, rows = nearest(base, 6, similarity, queries)
    total = sums(base, similarity, queries)
    for dtype, tile in ((torch.int8, (3, 32)), (torch.float32, (64, 96))):
        other, other_rows = nearest(base, 6, similarity, queries, dtype=dtype, tile=tile)
        assert (other == whole).all() and (other_rows == rows).all()
    for dtype in (torch.int8, torch.float32):
        assert (sums(base, similarity, queries, dtype=dtype) == total).all()
    single = [nearest(base, 6, similarity, queries[i : i + 1])[0] for i in range(40)]
    assert (np.concatenate(single) == whole).all()
    assert (np.concatenate([sums(base, similarity, queries[i : i + 1]) for i in range(40)]) == total).all()


def test_sums_equal_the_plain_ones(tile):
    base, queries = bits(100), bits(30, seed=1)
    expected = rdkit_tanimoto(queries, base).sum(axis=1)
    np.testing.assert_allclose(sums(base, "tanimoto", queries, tile=tile), expected, rtol=1e-6)


def test_empty_rows_are_like_no_other():
    base = np.array([[0, 0], [1, 0]], np.int8)
    for similarity in ("tanimoto", "cosine"):
        assert nearest(base, 1, similarity, np.zeros((1, 2), np.int8))[0] == 0
        assert nearest(base, 1, similarity)[0].tolist() == [[0], [0]]


def test_no_queries_have_no_neighbours():
    similarities, rows = nearest(bits(10), 3, "tanimoto", bits(10)[:0])
    assert similarities.shape == rows.shape == (0, 3)


@pytest.mark.parametrize(("k", "queries"), [(0, None), (10, None), (11, bits(2, seed=1))])
def test_wrong_k(k, queries):
    with pytest.raises(ValueError, match=f"k is {k}; expected 1 to {9 if queries is None else 10}"):
        nearest(bits(10), k, "tanimoto", queries)


def test_rows_beyond_exact_integers():
    with pytest.raises(ValueError, match="2\\^24 or more"):
        nearest(np.full((3, 2048), 127, np.int8), 1, "cosine")


def test_the_number_of_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    nearest(bits(600), 3, "tanimoto")
    assert torch.get_num_threads() == before


def test_an_operation_that_a_device_lacks_is_not_used(monkeypatch):
    expected = nearest(bits(100), 5, "tanimoto")

    def refuse(*_):
        raise RuntimeError("not implemented")

    fastest_dtype.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", refuse)
    similarities, rows = nearest(bits(100), 5, "tanimoto")
    assert (similarities == expected[0]).all() and (rows == expected[1]).all()
    fastest_dtype.cache_clear()


def _nearest_in_child(connection):
    connection.send(nearest(bits(600), 3, "tanimoto")[0])


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_fork_of_a_process_that_used_threads():
    torch.ones(512, 512) @ torch.ones(512, 512)
    expected = nearest(bits(600), 3, "tanimoto")[0]
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_nearest_in_child, args=(there,))
    child.start()
    try:
        assert here.poll(30), "the forked process hangs"
        assert (here.recv() == expected).all()
    finally:
        child.kill()
        child.join()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("similarity", ["tanimoto", "cosine"])
def test_a_gpu_finds_the_same(similarity):
    base = bits(500)
    there, here = (nearest(base, 9, similarity, device=device) for device in ("cuda", "cpu"))
    assert (there[0] == here[0]).all() and (there[1] == here[1]).all()


# Sparse rows


def sparse(count=60, width=5000, seed=0):
    rng = np.random.default_rng(seed)
    dense = (rng.random((count, width)) < 0.01) * rng.integers(1, 30, (count, width))
    return csr_array(dense.astype(np.float32))


def sketched(matrix, width):
    return sketch(matrix.indices, matrix.data, matrix.indptr, width)


def test_rows_are_the_matrix():
    matrix = sparse(width=WIDTH)
    rows = Rows.of(matrix)
    assert (rows.dense() == matrix.toarray()).all()
    assert rows.squares.tolist() == (matrix.toarray() ** 2).sum(axis=1).tolist()
    assert (rows.take([5, 3]).dense() == matrix.toarray()[[5, 3]]).all()


def test_blocks_are_all_the_rows():
    rows = Rows.of(sparse(width=WIDTH))
    blocks = [block.dense() for block in rows.blocks(7)]
    assert [len(block) for block in blocks] == [7] * 8 + [4]
    assert (np.concatenate(blocks) == rows.dense()).all()


def test_a_sketch_keeps_cosines():
    matrix = sparse()
    plain = plain_cosine(matrix.toarray(), matrix.toarray())
    dense = sketched(matrix, 2048).dense()
    errors = plain_cosine(dense, dense) - plain
    assert abs(errors.mean()) < 0.002
    assert errors.std() < 1.1 / np.sqrt(2048)
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 127, rtol=0.02)


def test_a_sketch_of_a_row_depends_on_no_other_and_changes_nothing():
    matrix = sparse()
    before = matrix.copy()
    whole = sketched(matrix, 32).dense()
    assert (matrix.indptr == before.indptr).all() and (matrix.data == before.data).all()
    single = [sketched(sparse()[i : i + 1], 32).dense() for i in range(60)]
    assert (np.concatenate(single) == whole).all()


def test_terms_that_cancel_out_leave_an_empty_row():
    columns = np.arange(64)
    signs = mix(columns.astype(np.uint64), np.uint64(0)) >> np.uint64(63)
    pair = np.array([columns[signs == 0][0], columns[signs == 1][0]])
    rows = sketch(pair, np.ones(2), np.array([0, 2]), 1)
    assert rows.dense().tolist() == [[0]]
