"""Tests of class_hf.difficulty.confusability: equal to the plain loops, or close to them where it says so."""

import math
import re
import sys
from collections import Counter
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from class_hf.difficulty.confusability import Confusability, fingerprints, terms_of, vectors_of
from class_hf.difficulty.pair_features import Frequencies, PairFeatures
from class_hf.difficulty.similarities import MeanToAnchors, Nearest, NearestByTerms, NearestIndexed, load_faiss
from class_hf.difficulty.sparse_rows import Rows

GROUPS = ["O", "N", "C(=O)O", "Cl", "c1ccccc1", "C#N", "S", "[C@H](N)C(=O)O"]
NAMES = ["alcohol", "amine", "acid", "chloride", "arene", "nitrile", "thiol", "amino acid"]
COUNT = 48


def make_pairs(indices):
    smiles = ["C" * (1 + i // 8) + GROUPS[i % 8] for i in indices]
    texts = [
        f"The molecule is an {NAMES[i % 8]} with {1 + i // 8} carbons. It has a role as a metabolite." for i in indices
    ]
    return PairFeatures([str(i) for i in indices], texts, smiles)


def plain_scores(similarities, k, same):
    """Mean of the k largest of each row; row i of the queries is row i of the base if they are the same."""
    rows = [np.delete(row, i) if same else row for i, row in enumerate(np.array(similarities))]
    return np.array([np.sort(row)[-k:].mean() for row in rows])


def plain_tanimoto(train, queries, k, same):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048, includeChirality=True)
    bits = [[generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in p.smiles] for p in (train, queries)]
    return plain_scores([DataStructs.BulkTanimotoSimilarity(query, bits[0]) for query in bits[1]], k, same)


def plain_tfidf(train, queries, k, same):
    def terms(text):
        words = re.findall(r"[a-z0-9]+", text.lower())
        return Counter(words + list(zip(words, words[1:], strict=False)))

    documents = [terms(text) for text in train.descriptions]
    frequencies = Counter(term for document in documents for term in document)

    def vector(document):
        weights = {
            term: count * (math.log((1 + len(documents)) / (1 + frequencies[term])) + 1)
            for term, count in document.items()
        }
        length = math.sqrt(sum(weight**2 for weight in weights.values()))
        return {term: weight / length for term, weight in weights.items()}

    base = [vector(document) for document in documents]
    wanted = [vector(terms(text)) for text in queries.descriptions]
    similarities = [[sum(w * row.get(term, 0) for term, w in query.items()) for row in base] for query in wanted]
    return plain_scores(similarities, k, same)


def text_rows(train, pairs):
    distinct, _ = terms_of(train.words)
    return vectors_of(*terms_of(pairs.words), Frequencies.of(distinct), "tfidf")


@pytest.mark.parametrize("k", [1, 5, COUNT - 1])
def test_training_scores_equal_the_plain_loops(k):
    train = make_pairs(range(COUNT))
    _, raw = Confusability.fit(train, k)
    np.testing.assert_allclose(raw[:, 1], plain_tanimoto(train, train, k, same=True), atol=1e-6)
    # The weights of a caption are rounded to 1/4095 of its length.
    np.testing.assert_allclose(raw[:, 0], plain_tfidf(train, train, k, same=True), atol=2e-3)


def test_scores_of_new_pairs_equal_the_plain_loops():
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 12))
    fitted, _ = Confusability.fit(train, 4)
    raw = fitted.score(new)
    np.testing.assert_allclose(raw[:, 1], plain_tanimoto(train, new, 4, same=False), atol=1e-6)
    np.testing.assert_allclose(raw[:, 0], plain_tfidf(train, new, 4, same=False), atol=2e-3)


@pytest.mark.parametrize("k", [1, 5, COUNT - 1])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 2.0], ids=["dense", "mixed", "half", "sparse"])
def test_blocks_and_the_choice_of_dense_columns_change_no_bit(share, k):
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 12))
    rows, others = text_rows(train, train), text_rows(train, new)
    fitted, scores = NearestByTerms.fit(rows, k)
    np.testing.assert_allclose(scores, plain_tfidf(train, train, k, same=True), atol=2e-3)
    # No column is dense with a share of 2, and with a share of 0 every one.
    width = NearestByTerms.fit(rows, k, frequent_share=share)[0].frequent.shape[1]
    assert width == {0.0: rows.width, 2.0: 0}.get(share, width)
    for max_dots in (1, 3 * COUNT, 7 * COUNT, 2**23):
        other, other_scores = NearestByTerms.fit(rows, k, frequent_share=share, max_dots=max_dots)
        assert (other_scores == scores).all()
        assert (other.score(others) == fitted.score(others)).all()


def test_a_pair_that_occurs_again_has_a_neighbour_at_one():
    pairs = make_pairs([*range(COUNT), 3])
    _, raw = Confusability.fit(pairs, 1)
    assert raw[3].tolist() == raw[-1].tolist() == pytest.approx([1.0, 1.0], abs=1e-6)


def test_pairs_whose_neighbours_look_alike_are_harder():
    train = make_pairs([16, 24, 32, 40, 20])  # four alcohols and a lone arene
    _, raw = Confusability.fit(train, 2)
    assert (raw[:, 0].argmin(), raw[:, 1].argmin()) == (4, 4)


def test_a_word_that_no_caption_holds_lowers_the_similarity():
    fitted, _ = Confusability.fit(make_pairs(range(COUNT)), 1)
    known = make_pairs([0]).descriptions[0]
    plain, more = fitted.score(PairFeatures(["x", "y"], [known, known + " Unheard."], ["C", "C"]))[:, 0]
    assert plain == pytest.approx(1.0, abs=1e-6)
    assert more < 0.99


def test_chirality_and_charge_enter_the_fingerprint():
    texts = ["x"] * 4
    pairs = PairFeatures(list("abcd"), texts, ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC[NH3+]", "CCN"])
    bits = fingerprints(pairs.fragments).dense()
    assert (bits[0] != bits[1]).any()
    assert (bits[2] != bits[3]).any()


def test_dot_products_are_exact_at_the_largest_length():
    # Partial sums reach 4095^2 < 2^24, beyond which float32 would skip odd integers.
    rng = np.random.default_rng(0)
    rows = rng.random((30, 900)) ** 3
    rows = np.floor(4095 * rows / np.linalg.norm(rows, axis=1, keepdims=True))
    matrix = csr_array(rows.astype(np.float32))
    fitted, _ = NearestByTerms.fit(Rows.of(matrix), 1)
    assert (fitted.dots(matrix) == rows @ rows.T).all()


WAYS = {
    "terms": (3,),
    "hashed": (3, "hashed"),
    "index": (3, "tfidf", 0),
    "hashed index": (3, "hashed", 0),
    "all": ("all",),
    "hashed all": ("all", "hashed"),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request):
    if 0 in request.param:
        pytest.importorskip("faiss", reason="needs the extra `faiss`")
    return request.param


def test_one_query_at_a_time_equals_all_at_once(way):
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 9))
    fitted, _ = Confusability.fit(train, *way)
    whole = fitted.score(new)
    ones = [fitted.score(make_pairs([i])) for i in range(COUNT, COUNT + 9)]
    assert (np.concatenate(ones) == whole).all()


def test_own_row_is_no_neighbour():
    fitted, own = NearestByTerms.fit(Rows.of(csr_array(np.eye(3, dtype=np.float32))), 1)
    assert own.tolist() == [0, 0, 0]
    assert fitted.score(Rows.of(csr_array(np.eye(3, dtype=np.float32)))).tolist() == [1, 1, 1]


# Hashed captions


@pytest.mark.parametrize("k", [1, 5])
def test_hashed_captions_score_nearly_as_their_terms_do(k):
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 12))
    fitted, raw = Confusability.fit(train, k, "hashed")
    # A standard deviation of the difference is 1 / sqrt(1024) = .031.
    np.testing.assert_allclose(raw[:, 0], plain_tfidf(train, train, k, same=True), atol=0.1)
    np.testing.assert_allclose(fitted.score(new)[:, 0], plain_tfidf(train, new, k, same=False), atol=0.1)
    assert (raw[:, 1] == Confusability.fit(train, k)[1][:, 1]).all()


def test_a_caption_that_occurs_again_is_at_one_when_hashed():
    _, raw = Confusability.fit(make_pairs([*range(COUNT), 3]), 1, "hashed")
    assert raw[3, 0] == pytest.approx(1.0, abs=1e-6)


# All pairs


@pytest.mark.parametrize("text_similarity", ["tfidf", "hashed"])
def test_the_mean_over_all_equals_brute_force(text_similarity):
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 12))
    fitted, raw = Confusability.fit(train, "all", text_similarity)
    brute, expected = Confusability.fit(train, COUNT - 1, text_similarity)
    np.testing.assert_allclose(raw, expected, atol=1e-6)
    brute = replace(
        brute, text=replace(brute.text, neighbours=COUNT), molecule=replace(brute.molecule, neighbours=COUNT)
    )
    np.testing.assert_allclose(fitted.score(new), brute.score(new), atol=1e-6)


def test_an_anchor_is_not_compared_with_itself_and_rows_come_in_any_order():
    train = make_pairs(range(COUNT))
    rows = fingerprints(train.fragments)
    fitted, scores = MeanToAnchors.fit(rows, train.ids, anchors=9)
    anchors = sorted(range(COUNT), key=lambda i: blake2b(train.ids[i].encode(), digest_size=16).digest())[:9]
    common = rows.dense().astype(int) @ rows.dense().T.astype(int)
    lengths = np.diag(common)
    tanimoto = common / (lengths[:, None] + lengths - common)
    cosine = common / np.sqrt(lengths[:, None] * lengths)

    def estimate(i, others, anchors):
        return tanimoto[i, anchors].mean() * cosine[i, others].mean() / cosine[i, anchors].mean()

    everyone = list(range(COUNT))
    expected = [estimate(i, [j for j in everyone if j != i], [j for j in anchors if j != i]) for i in everyone]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    as_new = [estimate(i, everyone, anchors) for i in everyone]
    np.testing.assert_allclose(fitted.score(rows), as_new, atol=1e-6)
    order = np.random.default_rng(0).permutation(COUNT)
    _, shuffled = MeanToAnchors.fit(rows.take(order), [train.ids[i] for i in order], anchors=9)
    np.testing.assert_allclose(shuffled, scores[order], atol=1e-12)


def test_a_molecule_without_a_bit_in_common_with_the_anchors_scores_nothing():
    rows = Rows.of(csr_array(np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], np.float32)))
    fitted, _ = MeanToAnchors.fit(rows, list("abc"))
    assert fitted.score(Rows.of(csr_array(np.array([[0, 0, 1, 1], [0, 0, 0, 0]], np.float32)))).tolist() == [0, 0]


# The index


@pytest.mark.parametrize("text_similarity", ["tfidf", "hashed"])
def test_an_index_whose_lists_are_all_read_is_exact(text_similarity):
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    # 48 pairs are one list of fewer than 64 candidates.
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 12))
    indexed, raw = Confusability.fit(train, 5, text_similarity, exact_up_to=COUNT - 1)
    exact, expected = Confusability.fit(train, 5, text_similarity, exact_up_to=COUNT)
    assert isinstance(indexed.text, NearestIndexed) and not isinstance(exact.text, NearestIndexed)
    np.testing.assert_allclose(raw, expected, atol=1e-6)
    np.testing.assert_allclose(indexed.score(new), exact.score(new), atol=1e-6)


def clustered_rows(clusters=40, size=20):
    rng = np.random.default_rng(0)
    centres = rng.random((clusters, 2048)) < 0.03
    noise = rng.random((clusters * size, 2048)) < rng.uniform(0.001, 0.02, (clusters * size, 1))
    return Rows.of(csr_array((np.repeat(centres, size, axis=0) ^ noise).astype(np.float32)))


@pytest.mark.parametrize("similarity", ["tanimoto", "cosine"])
def test_an_index_of_several_lists_finds_most_neighbours(similarity):
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    rows = clustered_rows()
    _, scores = NearestIndexed.fit(rows, similarity, 4, probes=3, candidates=20)
    _, exact = Nearest.fit(rows, similarity, 4)
    assert (scores <= exact + 1e-6).all()
    assert (np.abs(scores - exact) < 1e-6).mean() > 0.8
    assert spearmanr(scores, exact).statistic > 0.98


def test_neighbours_that_an_index_does_not_find_count_as_nothing():
    pytest.importorskip("faiss", reason="needs the extra `faiss`")
    rows = clustered_rows()
    _, scores = NearestIndexed.fit(rows, "tanimoto", 60, probes=1)
    _, exact = Nearest.fit(rows, "tanimoto", 60)
    assert (scores > 0).all() and (scores < exact).all()


def test_without_faiss_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install faiss-cpu`, raise exact_up_to, or set neighbours=\"all\""):
        load_faiss()
