"""Density counts the similar training pairs, by any vectors, of all pairs or of a sample."""

import numpy as np
import pytest
from conftest import tiny_bert
from difficulty_pairs import NEW, TRAIN

from class_hf import DifficultyScorer
from class_hf.difficulty.density import Density, DensitySettings, embed_captions
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.models.mol2vec import Mol2vecVectors


def features(rows):
    return PairFeatures(rows["id"], rows["description"], rows["smiles"])


def tanimoto(left, right):
    common = left @ right.T
    return common / (left.sum(1)[:, None] + right.sum(1) - common)


def test_molecules_are_counted():
    """Against a dense matrix of similarities, and a threshold from its quantile."""
    pairs, new = features(TRAIN), features(NEW)
    fitted, raw = Density.fit(pairs, DensitySettings(quantile=0.8))
    bits = fitted.molecule.rows.dense().astype(float)
    similarities = tanimoto(bits, bits)
    others = ~np.eye(len(pairs), dtype=bool)
    assert fitted.molecule.threshold == pytest.approx(np.quantile(similarities[others], 0.8), abs=1e-6)
    similar = similarities >= fitted.molecule.threshold - 1e-9
    np.testing.assert_array_equal(raw[:, 1], (similar & others).sum(1) / (len(pairs) - 1))
    assert 0.1 < raw[:, 1].mean() < 0.5
    assert fitted.score(pairs)[:, 1].tolist() == (similar.sum(1) / len(pairs)).tolist()
    assert fitted.score(new).shape == (len(new), 2)


def test_many_pairs_are_compared_with_a_sample():
    pairs = features(TRAIN)
    fitted, raw = Density.fit(pairs, exact_up_to=15)
    assert len(fitted.text.rows) == len(fitted.molecule.rows) == 15
    assert raw.min() >= 0 and raw.max() <= 1
    _, exact = Density.fit(pairs, exact_up_to=40)
    assert np.corrcoef(raw[:, 1], exact[:, 1])[0, 1] > 0.5


def test_vectors_of_the_user_replace_both_similarities(tmp_path):
    model = tiny_bert(tmp_path / "bert")
    mol2vec = tmp_path / "vectors.npz"
    tokens = ["UNK", "2246728737", "864662311", "847961216"]
    np.savez(mol2vec, tokens=np.array(tokens), vectors=np.eye(4, 5, dtype=np.float32))
    settings = DensitySettings(0.7, str(model), str(mol2vec))
    fitted, raw = Density.fit(features(TRAIN), settings)
    assert fitted.text.similarity == fitted.molecule.similarity == "cosine" and fitted.terms is None
    vectors = embed_captions(TRAIN["description"], str(model))
    assert len(vectors) == 40
    rounded = np.rint(127 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True))  # 8 bits
    cosines = rounded @ rounded.T / np.outer(*[np.linalg.norm(rounded, axis=1)] * 2)
    similar = (cosines >= fitted.text.threshold - 1e-6).sum(1) - 1
    np.testing.assert_array_equal(raw[:, 0], similar / 39)
    scorer = DifficultyScorer("density", density=settings).fit(TRAIN)
    assert scorer.describe()["density"] == {"quantile": 0.7, "text_model": str(model), "mol2vec": str(mol2vec)}
    assert len(scorer(NEW)["difficulty"]) == 13


def test_wrong_settings():
    with pytest.raises(ValueError, match="density needs at least 2 training pairs"):
        DifficultyScorer("density").fit({name: values[:1] for name, values in TRAIN.items()})
    with pytest.raises(ValueError, match="exact_up_to is 1; density needs a sample of at least 2"):
        DifficultyScorer("density", exact_up_to=1).fit(TRAIN)
    for quantile in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="density_quantile is"):
            DensitySettings(quantile)


class Code:
    def __reduce__(self):
        return print, ("executed",)


def test_mol2vec_files(tmp_path, capsys):
    tokens, vectors = ["UNK", "864662311"], np.array([[0.5, 1.0], [1.0, 0.0]], np.float32)
    np.save(tmp_path / "dict.npy", dict(zip(tokens, vectors, strict=True)), allow_pickle=True)
    np.savez(tmp_path / "plain.npz", tokens=np.array(tokens), vectors=vectors)
    for name in ("dict.npy", "plain.npz"):
        table = Mol2vecVectors.read(tmp_path / name)
        assert table.dimension == 2 and table.sum_of("O").tolist() == [0.5, 1.0]
    np.save(tmp_path / "code.npy", {"a": Code()}, allow_pickle=True)
    np.save(tmp_path / "list.npy", np.array([["a"], None], object), allow_pickle=True)
    np.savez(tmp_path / "names.npz", vectors=vectors)
    np.savez(tmp_path / "nan.npz", tokens=np.array(tokens), vectors=vectors * np.nan)
    np.savez(tmp_path / "shape.npz", tokens=np.array(tokens), vectors=vectors[:1])
    np.savez(tmp_path / "twice.npz", tokens=np.array(["7", "7"]), vectors=vectors)
    (tmp_path / "empty.npy").write_bytes(b"")
    for name, message in {
        "code.npy": "which is no NumPy array",
        "list.npy": "expected a dictionary",
        "names.npz": "tokens",
        "nan.npz": "NaN",
        "shape.npz": r"2 tokens and vectors of shape \(1, 2\)",
        "twice.npz": "occurs twice",
        "empty.npy": "",
    }.items():
        with pytest.raises(ValueError, match=f"{name} holds no mol2vec vectors: .*{message}"):
            Mol2vecVectors.read(tmp_path / name)
    assert capsys.readouterr().out == ""
