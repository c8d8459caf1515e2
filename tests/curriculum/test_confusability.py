"""Tests of class_hf.curriculum.confusability: exact, and equal to the plain loops."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from scipy.sparse import csr_array

from class_hf.curriculum import confusability
from class_hf.curriculum.complexity import read_pairs
from class_hf.curriculum.confusability import Confusability, ExactDots, cosine, fingerprints, nearest_mean

GROUPS = ["O", "N", "C(=O)O", "Cl", "c1ccccc1", "C#N", "S", "[C@H](N)C(=O)O"]
NAMES = ["alcohol", "amine", "acid", "chloride", "arene", "nitrile", "thiol", "amino acid"]
COUNT = 48


def make_pairs(indices):
    smiles = ["C" * (1 + i // 8) + GROUPS[i % 8] for i in indices]
    texts = [
        f"The molecule is an {NAMES[i % 8]} with {1 + i // 8} carbons. It has a role as a metabolite." for i in indices
    ]
    return read_pairs([str(i) for i in indices], texts, smiles)


def nearest(similarities, k):
    return np.sort(np.array(similarities))[-k:].mean()


def plain_tanimoto(train, queries, k, same):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048, includeChirality=True)
    bits = [[generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in p.smiles] for p in (train, queries)]
    scores = []
    for i, query in enumerate(bits[1]):
        similarities = DataStructs.BulkTanimotoSimilarity(query, bits[0])
        if same:
            del similarities[i]
        scores.append(nearest(similarities, k))
    return np.array(scores)


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
    scores = []
    for i, text in enumerate(queries.descriptions):
        query = vector(terms(text))
        similarities = [sum(w * row.get(term, 0) for term, w in query.items()) for row in base]
        if same:
            del similarities[i]
        scores.append(nearest(similarities, k))
    return np.array(scores)


@pytest.fixture(params=[0.0, 0.05, 2.0], ids=["dense", "mixed", "sparse"])
def frequent(request, monkeypatch):
    monkeypatch.setattr(confusability, "_FREQUENT", request.param)


@pytest.mark.parametrize("k", [1, 5, COUNT - 1])
def test_training_scores_equal_the_plain_loops(frequent, k):
    train = make_pairs(range(COUNT))
    _, raw = Confusability.fit(train, k)
    np.testing.assert_allclose(raw[:, 1], plain_tanimoto(train, train, k, same=True), atol=1e-6)
    # The weights of a caption are rounded to 1/4095 of its length.
    np.testing.assert_allclose(raw[:, 0], plain_tfidf(train, train, k, same=True), atol=2e-3)


def test_scores_of_new_pairs_equal_the_plain_loops(frequent):
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 12))
    fitted, _ = Confusability.fit(train, 4)
    raw = fitted.score(new)
    np.testing.assert_allclose(raw[:, 1], plain_tanimoto(train, new, 4, same=False), atol=1e-6)
    np.testing.assert_allclose(raw[:, 0], plain_tfidf(train, new, 4, same=False), atol=2e-3)


def test_blocks_and_the_choice_of_dense_columns_change_no_bit(monkeypatch):
    train = make_pairs(range(COUNT))
    _, raw = Confusability.fit(train, 5)
    for block, share in ((1, 0.0), (3 * COUNT, 0.3), (7 * COUNT, 2.0)):
        monkeypatch.setattr(confusability, "_MAX_DOTS", block)
        monkeypatch.setattr(confusability, "_FREQUENT", share)
        assert (Confusability.fit(train, 5)[1] == raw).all()


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
    plain, more = fitted.score(read_pairs(["x", "y"], [known, known + " Unheard."], ["C", "C"]))[:, 0]
    assert plain == pytest.approx(1.0, abs=1e-6)
    assert more < 0.99


def test_chirality_and_charge_enter_the_fingerprint():
    texts = ["x"] * 4
    pairs = read_pairs(list("abcd"), texts, ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC[NH3+]", "CCN"])
    bits = fingerprints(pairs.fragments).toarray()
    assert (bits[0] != bits[1]).any()
    assert (bits[2] != bits[3]).any()


def test_dot_products_are_exact_at_the_largest_length():
    # Partial sums reach 4095^2 < 2^24, beyond which float32 would skip odd integers.
    rng = np.random.default_rng(0)
    rows = rng.random((30, 900)) ** 3
    rows = np.floor(4095 * rows / np.linalg.norm(rows, axis=1, keepdims=True))
    matrix = csr_array(rows.astype(np.float32))
    (_, dots), *_ = ExactDots.of(matrix).products(matrix)
    assert (dots == rows @ rows.T).all()


def test_one_query_at_a_time_equals_all_at_once():
    train, new = make_pairs(range(COUNT)), make_pairs(range(COUNT, COUNT + 9))
    fitted, _ = Confusability.fit(train, 3)
    whole = fitted.score(new)
    ones = [fitted.score(make_pairs([i])) for i in range(COUNT, COUNT + 9)]
    assert (np.concatenate(ones) == whole).all()


def test_own_row_is_no_neighbour():
    base = csr_array(np.eye(3, dtype=np.float32))
    dots, squares = ExactDots.of(base), np.ones(3, np.float32)
    assert nearest_mean(dots, base, squares, cosine, 1, is_base=True).tolist() == [0, 0, 0]
    assert nearest_mean(dots, base, squares, cosine, 1).tolist() == [1, 1, 1]
