"""The encoder gives the vectors of the evaluation, in the order of its inputs, and names invalid rows."""

import numpy as np
import pytest
import torch
import yaml
from conftest import tiny_bert, tiny_model
from tiny_orma import tiny_orma
from transformers import AutoTokenizer, pipeline

from class_hf import (
    Encoder,
    MoleculeFingerprintFeatureExtractor,
    RetrievalEvaluator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
)
from class_hf.hub.model_card import model_card


@pytest.fixture(scope="module")
def encoder(processor):
    return Encoder(tiny_model(), processor)


@pytest.fixture(scope="module")
def bert_encoder(tmp_path_factory):
    """A text tower that pads, so that vectors could depend on the batch."""
    bert = tiny_bert(tmp_path_factory.mktemp("bert"))
    torch.manual_seed(0)
    sizes = {"num_buckets": 64, "embedding_size": 8, "hidden_size": 8, "intermediate_size": 8}
    model = TextMoleculeDualEncoderModel.from_towers(
        text=str(bert), molecule="fingerprint", molecule_kwargs=sizes, projection_dim=12
    )
    extractor = MoleculeFingerprintFeatureExtractor(num_buckets=64)
    return Encoder(model, TextMoleculeProcessor(AutoTokenizer.from_pretrained(bert), extractor, max_text_length=60))


def test_vectors_are_those_of_the_evaluation(encoder, prepared, processor, pairs):
    evaluation = RetrievalEvaluator(prepared, processor=processor).embeddings(encoder.model)
    for name, vectors in (
        ("text_embeds", encoder.encode_text(pairs["description"][:])),
        ("molecule_embeds", encoder.encode_molecules(pairs["smiles"][:])),
    ):
        assert vectors.dtype == np.float32 and vectors.shape == (24, encoder.dimension)
        np.testing.assert_allclose(vectors, evaluation[name].numpy(), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_order_and_batch_size_have_no_effect(bert_encoder, pairs):
    texts = [text * (1 + number % 3) for number, text in enumerate(pairs["description"][:])]
    expected = bert_encoder.encode_text(texts)
    order = np.random.default_rng(0).permutation(24)
    for batch_size in (1, 5, 24):
        vectors = bert_encoder.encode_text([texts[row] for row in order], batch_size=batch_size)
        np.testing.assert_allclose(vectors, expected[order], atol=1e-6)
    twice = bert_encoder.encode_text([texts[0], texts[5], texts[0]], batch_size=1)
    assert (twice[0] == twice[2]).all()


def test_one_input_has_one_vector_and_no_input_has_none(encoder):
    single = encoder.encode_molecules("CCO")
    assert single.shape == (encoder.dimension,)
    np.testing.assert_array_equal(single, encoder.encode_molecules(["CCO"])[0])
    assert encoder.encode_text([]).shape == (0, encoder.dimension)


def test_invalid_rows_are_named_or_nan(encoder):
    smiles = ["CCO", "C1CC", None, "CCN", ""]
    with pytest.raises(ValueError, match=r"row 1: .*C1CC.*on_error='nan'"):
        encoder.encode_molecules(smiles)
    with pytest.raises(ValueError, match="row 0: None is a NoneType; expected a SMILES"):
        encoder.encode_molecules([None])
    vectors = encoder.encode_molecules(smiles, on_error="nan")
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False, True]
    np.testing.assert_array_equal(vectors[[0, 3]], encoder.encode_molecules(["CCO", "CCN"]))
    with pytest.raises(ValueError, match="row 1: "):
        encoder.encode_text(["an acid", " "])
    assert np.isnan(encoder.encode_text(["an acid", ""], on_error="nan")[1]).all()


def test_precisions_and_types(encoder):
    vectors = encoder.encode_molecules(["CCO", "CCN"])
    tensor = encoder.encode_molecules(["CCO", "CCN"], convert_to="torch")
    assert isinstance(tensor, torch.Tensor) and (tensor.numpy() == vectors).all()
    half = encoder.encode_molecules(["CCO", "CCN"], precision="float16")
    assert half.dtype == np.float16 and np.abs(half - vectors).max() < 1e-3
    bits = encoder.encode_molecules(["CCO", "CCN"], precision="ubinary")
    np.testing.assert_array_equal(bits, np.packbits(vectors > 0, axis=1))
    quantization = pytest.importorskip("sentence_transformers.util.quantization", reason="needs the extra `test`")
    for precision in ("binary", "ubinary"):
        ours = encoder.encode_molecules(["CCO", "CCN"], precision=precision)
        theirs = quantization.quantize_embeddings(vectors, precision=precision)
        assert ours.dtype == theirs.dtype and (ours == theirs).all()


def test_similarity_keeps_the_type(encoder):
    a, b = encoder.encode_text(["an acid", "an amine"]), encoder.encode_molecules(["CCO", "CCN", "CCS"])
    cosines = encoder.similarity(a, b)
    np.testing.assert_allclose(cosines, a @ b.T, atol=1e-6)
    assert isinstance(encoder.similarity(torch.from_numpy(a), b), torch.Tensor)
    assert encoder.similarity(a[0], b).shape == (1, 3) and encoder.similarity(3 * a, b).max() <= 1 + 1e-6
    with pytest.raises(ValueError, match="8 and 3 components"):
        encoder.similarity(a, np.ones((2, 3)))


def test_ranking(encoder, pairs):
    smiles = pairs["smiles"][:]
    hits = encoder.rank("The molecule is a thiol.", smiles, k=5)
    cosines = encoder.similarity(encoder.encode_text("The molecule is a thiol."), encoder.encode_molecules(smiles))[0]
    assert [hit.row for hit in hits] == np.argsort(-cosines)[:5].tolist()
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5] and hits[0].smiles == smiles[hits[0].row]
    assert hits[0].score == pytest.approx(cosines.max(), abs=1e-6)
    both = encoder.rank(["The molecule is a thiol.", "an acid"], encoder.encode_molecules(smiles), k=5)
    assert [hit.row for hit in both[0]] == [hit.row for hit in hits] and both[1][0].smiles is None
    twins = encoder.rank("a thiol", ["CCS", "CCO", "CCS", "C1CC"], on_error="nan")
    assert sorted(hit.row for hit in twins) == [0, 1, 2]  # the invalid molecule is left out
    assert [hit.row for hit in twins if hit.smiles == "CCS"] == [0, 2]  # equal scores keep the order of the list


def test_from_a_folder(encoder, processor, tmp_path):
    encoder.model.save_pretrained(tmp_path / "model"), processor.save_pretrained(tmp_path / "model")
    loaded = Encoder.from_pretrained(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(loaded.encode_text(["an acid"]), encoder.encode_text(["an acid"]), atol=1e-6)
    assert repr(loaded) == "Encoder(TextMoleculeDualEncoderModel, dimension=8, device='cpu')"
    half = Encoder.from_pretrained(str(tmp_path / "model"), device="cpu", dtype="bfloat16")
    assert np.abs(half.encode_text(["an acid"]) - encoder.encode_text(["an acid"])).max() < 0.05
    for arguments, message in (({"dtype": "int8"}, "dtype is 'int8'"), ({"dtype": "nothing"}, "dtype is 'nothing'")):
        with pytest.raises(ValueError, match=message):
            Encoder.from_pretrained(str(tmp_path / "model"), **arguments)
    with pytest.raises(ValueError, match="the model 'nothing/here' is neither"):
        Encoder.from_pretrained("nothing/here")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "precision is 'int4'; expected one of float32"),
        ({"convert_to": "list"}, "convert_to is 'list'"),
        ({"on_error": "drop"}, "on_error is 'drop'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"precision": "binary", "on_error": "nan"}, "has no NaN"),
    ],
)
def test_wrong_arguments_are_named(encoder, arguments, message):
    with pytest.raises(ValueError, match=message):
        encoder.encode_text(["an acid"], **arguments)


@pytest.mark.parametrize(
    "inputs", [{"text": "an acid"}, {"an acid"}, b"an acid", None, 7, np.array([["an acid"]]), np.array("an acid")]
)
def test_inputs_without_rows_are_refused(encoder, inputs):
    """`list` of a mapping or of a data frame gives the names of its columns, which would be encoded."""
    with pytest.raises(ValueError, match="the texts are a .*; expected a string or a list of strings"):
        encoder.encode_text(inputs)
    with pytest.raises(ValueError, match="the molecules are a "):
        encoder.rank("an acid", inputs)


def test_bits_and_other_vectors_are_not_ranked(encoder):
    bits = encoder.encode_molecules(["CCO", "CCS"], precision="ubinary")
    for vectors in (bits, torch.from_numpy(bits)):
        with pytest.raises(ValueError, match="the vectors hold bits"):
            encoder.similarity(vectors, bits)
        with pytest.raises(ValueError, match="the type torch.uint8 and 1 components; expected float32 .* and 8"):
            encoder.rank("an acid", vectors)
    for options, message in (({"precision": "binary"}, "rank has no argument 'precision'"), ({"k": 1.5}, "k is 1.5")):
        with pytest.raises(ValueError, match=message):
            encoder.rank("an acid", ["CCO"], **options)


def test_the_mode_of_the_model_is_kept(processor):
    model = tiny_model(dropout=0.5).train()
    encoder = Encoder(model, processor)
    assert (encoder.encode_text(["an acid"]) == encoder.encode_text(["an acid"])).all() and model.training
    with pytest.raises(ValueError, match="k is 0"):
        encoder.rank("an acid", ["CCO"], k=0)


def test_the_tag_of_the_card_works_as_a_pipeline(encoder, bert_encoder, tmp_path):
    """`pipeline("feature-extraction")` of transformers gives the vectors of captions."""
    for name, kind in (("lexical", encoder), ("bert", bert_encoder)):
        kind.model.save_pretrained(tmp_path / name), kind.processor.save_pretrained(tmp_path / name)
        assert yaml.safe_load(model_card(kind.model).split("---")[1])["pipeline_tag"] == "feature-extraction"
        extract = pipeline("feature-extraction", model=str(tmp_path / name), device="cpu")
        texts = ["The molecule is a thiol.", "It has a role as a metabolite."]
        vectors = np.concatenate([np.array(vector) for vector in extract(texts)])
        np.testing.assert_allclose(vectors, kind.encode_text(texts), atol=1e-6)
    # The captions of ORMA come without padding, which this pipeline does not know.
    assert "pipeline_tag" not in yaml.safe_load(model_card(tiny_orma()).split("---")[1])
