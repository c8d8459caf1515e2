"""The dual encoder: outputs, saving, towers, the blobs of captions."""

import json

import numpy as np
import pytest
import torch
from conftest import tiny_model
from transformers import AutoModel, AutoProcessor, BertConfig, BertModel, BertTokenizerFast

from class_hf import (
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderConfig,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    TextSmilesProcessor,
)
from class_hf.models.caption_blobs import CaptionTokens

TEXTS = ["The molecule is an acid. It has a role.", "The molecule is an alcohol."]
SMILES = ["CC(=O)O", "CCO"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "molecule",
    "is",
    "an",
    "acid",
    "alcohol",
    "it",
    "has",
    ".",
]
SYMBOLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "c", "##c", "##o", "##(", "(", ")", "=", "o"]


def bert_tokenizer(words):
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})


def bert_config(words):
    return BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )


def make(kind):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "dropout": 0.1}
    fingerprint = {"num_buckets": 64, "embedding_size": 8, "intermediate_size": 8, **sizes}
    if kind == "lexical+fingerprint":
        model = tiny_model()
        processor = TextMoleculeProcessor(
            LexicalTokenizer(num_buckets=512), MoleculeFingerprintFeatureExtractor(num_buckets=256, radius=1)
        )
    elif kind == "bert+graph":
        model = TextMoleculeDualEncoderModel.from_towers(
            text=bert_config(WORDS), molecule="graph", molecule_kwargs={**sizes, "num_layers": 2}, projection_dim=8
        )
        processor = TextMoleculeProcessor(bert_tokenizer(WORDS), MoleculeGraphFeatureExtractor())
    elif kind == "bert+fingerprint":
        model = TextMoleculeDualEncoderModel.from_towers(
            text=bert_config(WORDS), molecule="fingerprint", molecule_kwargs=fingerprint, projection_dim=8
        )
        extractor = MoleculeFingerprintFeatureExtractor(num_buckets=64)
        processor = TextMoleculeProcessor(bert_tokenizer(WORDS), extractor)
    else:
        model = TextMoleculeDualEncoderModel.from_towers(
            text=bert_config(WORDS), molecule=bert_config(SYMBOLS), projection_dim=8
        )
        processor = TextSmilesProcessor(bert_tokenizer(WORDS), bert_tokenizer(SYMBOLS))
    return model, processor


KINDS = ("lexical+fingerprint", "bert+fingerprint", "bert+graph", "bert+bert")


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract(kind):
    model, processor = make(kind)
    output = model.eval()(**processor(text=TEXTS, smiles=SMILES))
    assert output.text_embeds.shape == output.molecule_embeds.shape == (2, 8)
    torch.testing.assert_close(output.text_embeds.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(output.molecule_embeds.norm(dim=-1), torch.ones(2))
    assert output.logit_scale.shape == () and output.logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_equals_loaded_bit_for_bit(kind, tmp_path):
    model, processor = make(kind)
    with torch.no_grad():
        model.logit_scale.log_scale.add_(0.3)
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["model.safetensors"]
    assert not list(tmp_path.glob("*.bin"))
    loaders = [(TextMoleculeDualEncoderModel, type(processor)), (AutoModel, AutoProcessor)]
    expected = model.eval()(**processor(text=TEXTS, smiles=SMILES))
    for load_model, load_processor in loaders:
        loaded, loaded_processor = load_model.from_pretrained(tmp_path), load_processor.from_pretrained(tmp_path)
        assert type(loaded_processor) is type(processor) and loaded_processor.content_key() == processor.content_key()
        output = loaded(**loaded_processor(text=TEXTS, smiles=SMILES))
        for name in ("text_embeds", "molecule_embeds", "logit_scale"):
            assert torch.equal(output[name], expected[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    model, processor = make(kind)
    output = model.train()(**processor(text=TEXTS, smiles=SMILES))
    (output.logit_scale * (output.text_embeds @ output.molecule_embeds.T)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_blobs_equal_the_direct_way(kind):
    model, processor = make(kind)
    model.eval()
    columns = (processor.encode_text(TEXTS), processor.encode_molecules(SMILES))
    rows = [{"text_features": text, "molecule_features": molecule} for text, molecule in zip(*columns, strict=True)]
    prepared, direct = model(**TextMoleculeCollator(processor)(rows)), model(**processor(text=TEXTS, smiles=SMILES))
    assert torch.equal(prepared.text_embeds, direct.text_embeds)
    assert torch.equal(prepared.molecule_embeds, direct.molecule_embeds)


def test_one_side_alone():
    model, processor = make("lexical+fingerprint")
    assert model(**processor(text=TEXTS)).molecule_embeds is None
    assert model(**processor(smiles=SMILES)).text_embeds is None
    with pytest.raises(ValueError, match="no inputs"):
        model()
    with pytest.raises(ValueError, match="neither `text` nor `smiles` was passed"):
        processor()


def test_towers_keep_their_weights(tmp_path):
    torch.manual_seed(3)
    BertModel(bert_config(WORDS)).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)
    for text in (str(tmp_path), loaded):
        model = TextMoleculeDualEncoderModel.from_towers(text=text, molecule="fingerprint")
        for name, value in loaded.state_dict().items():
            assert torch.equal(model.text_model.state_dict()[name], value), name


def test_towers_of_this_package_load_from_folders(tmp_path):
    model, _ = make("lexical+fingerprint")
    model.text_model.save_pretrained(tmp_path)
    direct = TextMoleculeDualEncoderModel.from_towers(text=str(tmp_path), molecule="fingerprint")
    assert torch.equal(direct.text_model.encoder.embedding.weight, model.text_model.encoder.embedding.weight)


def test_frozen_towers_neither_learn_nor_drop_out():
    model = tiny_model(dropout=0.5, freeze_text=True, freeze_molecule=True)
    _, processor = make("lexical+fingerprint")
    model.train()
    assert not model.text_model.training and not model.molecule_model.training
    output = model(**processor(text=TEXTS, smiles=SMILES))
    (output.text_embeds.sum() + output.molecule_embeds.sum()).backward()
    learnt = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learnt == {"text_projection.weight", "molecule_projection.weight"}


def test_the_scale_is_clamped_and_can_be_fixed():
    fixed = tiny_model(logit_scale_max=20.0, learn_logit_scale=False)
    assert not fixed.logit_scale.log_scale.requires_grad
    for model in (fixed, tiny_model(logit_scale_max=20.0)):
        with torch.no_grad():
            model.logit_scale.log_scale.fill_(10.0)
        assert model.logit_scale().item() == pytest.approx(20.0)
    model.logit_scale().backward()
    assert model.logit_scale.log_scale.grad > 0  # the scale can decrease


def test_sentences_of_a_bert_caption():
    _, processor = make("bert+fingerprint")
    blob = processor.encode_text(["The molecule is an acid. It has an acid."])[0]
    prefix, sentences, suffix = CaptionTokens.unpack(blob)
    decode = processor.tokenizer.convert_ids_to_tokens
    assert decode(prefix.tolist()) == ["[CLS]"] and decode(suffix.tolist()) == ["[SEP]"]
    assert [" ".join(decode(part.tolist())) for part in sentences] == ["the molecule is an acid .", "it has an acid ."]


def test_a_truncated_caption_keeps_its_length():
    model, processor = make("bert+fingerprint")
    processor.max_text_length = 8
    batch = processor(text=["The molecule is an acid. It has an acid.", "An acid."])
    assert batch["text_offsets"].tolist() == [0, 8, 13] and batch["input_ids"].shape == (13,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "caption 1 of the batch is ''; expected a non-empty text"),
        (None, "caption 1 of the batch is None; expected a non-empty text"),
        ("a" * 20_001, "caption 1 of the batch, .* has 20,001 characters; the limit is 20,000"),
        ("acid " * 5_000, "has 25,000 characters"),
    ],
)
def test_bad_captions_are_refused_by_every_processor(kind, text, message):
    _, processor = make(kind)
    with pytest.raises(ValueError, match=message):
        processor.encode_text([TEXTS[0], text])


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_captions_of_chebi_20_pass(kind):
    _, processor = make(kind)
    assert len(processor.encode_text(["The molecule is an acid. " * 400])) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smiles", ["CC\u041e", "CCO ethanol", "c1cccc1", "", "C" * 2_001])
def test_bad_smiles_are_refused_by_every_processor(kind, smiles):
    _, processor = make(kind)
    with pytest.raises(ValueError, match="the SMILES"):
        processor.encode_molecules(["CCO", smiles])


@pytest.mark.parametrize("name", ["max_text_length", "max_smiles_length"])
@pytest.mark.parametrize("value", [2, -1, "long", 1e3, None])
def test_lengths_are_checked(name, value):
    with pytest.raises(ValueError, match=f"`{name}` is {value!r}; expected an integer of at least 3"):
        TextSmilesProcessor(bert_tokenizer(WORDS), bert_tokenizer(SYMBOLS), **{name: value})


def test_a_tower_of_smiles_texts_reads_extensions():
    _, processor = make("bert+bert")
    with_extension, plain = processor.encode_molecules(["C=CO |$;;R$|", "C=CO"])
    assert with_extension == plain == processor.encode_molecules([" C=CO\n"])[0]


@pytest.mark.parametrize("side", ["text", "smiles"])
def test_texts_beyond_the_positions_of_a_tower_are_refused(side):
    model, processor = make("bert+bert")
    batch = processor(**{side: {"text": "acid " * 80, "smiles": "C" * 80}[side]})
    with pytest.raises(ValueError, match=r"has 8\d tokens, but BertModel has 64 positions. Set max_text_length"):
        model(**batch)
    processor.max_text_length = processor.max_smiles_length = 64
    model(**processor(**{side: {"text": "acid " * 80, "smiles": "C" * 80}[side]}))


def test_padding_does_not_change_a_caption():
    model, processor = make("bert+fingerprint")
    model.eval()
    together = model(**processor(text=TEXTS)).text_embeds
    alone = torch.cat([model(**processor(text=text)).text_embeds for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"projection_dim": 0}, "`projection_dim` is 0"),
        ({"projection_dropout": 1.5}, "`projection_dropout` is 1.5"),
        ({"logit_scale_max": 0}, "`logit_scale_max` is 0"),
        ({"logit_scale_init_value": 5}, "`logit_scale_init_value` is 5; expected at most 4.6052"),
        ({"logit_scale_init_value": float("nan")}, "`logit_scale_init_value` is nan"),
        ({"logit_scale_max": float("inf")}, "`logit_scale_max` is inf; expected a finite number above 0"),
        ({"projection_dropout": float("nan")}, "`projection_dropout` is nan"),
        ({"initializer_range": -1.0}, "`initializer_range` is -1.0"),
        ({"tower_chunk_size": 0}, "`tower_chunk_size` is 0; expected an integer of at least 1"),
        ({"text_config": {"model_type": "lexical", "hidden_size": 0}}, "`hidden_size` is 0"),
        ({"text_config": {"model_type": "lexical", "num_buckets": -5}}, "`num_buckets` is -5"),
        ({"text_config": {"hidden_size": 4}}, "`text_config` has no `model_type`"),
    ],
)
def test_bad_configs(kwargs, message):
    with pytest.raises(Exception, match=message):
        TextMoleculeDualEncoderConfig(**kwargs)


def test_config_survives_json(tmp_path):
    model, _ = make("bert+graph")
    model.save_pretrained(tmp_path)
    config = TextMoleculeDualEncoderConfig.from_pretrained(tmp_path)
    assert config.text_config.to_dict() == model.config.text_config.to_dict()
    assert json.loads((tmp_path / "config.json").read_text())["molecule_config"]["model_type"] == "molecule_graph"


def blob(*sentences):
    return CaptionTokens.pack(np.array([101]), [np.array(sentence, int) for sentence in sentences], np.array([102]))


BLOBS = [blob([1, 2], [3], [4, 5]), blob([6]), blob([], [7, 8]), blob([9], [10], [11], [12, 13, 14])]


def test_joined_captions_hold_every_token_in_order():
    ids, offsets = CaptionTokens.join(BLOBS)
    expected = [np.concatenate([part[0], *part[1], part[2]]) for part in map(CaptionTokens.unpack, BLOBS)]
    assert [ids[start:end].tolist() for start, end in zip(offsets, offsets[1:], strict=False)] == [
        caption.tolist() for caption in expected
    ]


def test_sentence_dropout_keeps_the_first_sentence():
    seen = set()
    for seed in range(200):
        ids, offsets = CaptionTokens.join(BLOBS, 0.5, np.random.default_rng(seed))
        rows = [tuple(ids[start:end]) for start, end in zip(offsets, offsets[1:], strict=False)]
        assert rows[1] == (101, 6, 102)
        seen.add(rows[0])
        repeated, _ = CaptionTokens.join(BLOBS, 0.5, np.random.default_rng(seed))
        assert np.array_equal(ids, repeated)
    all_sentences, first = (101, 1, 2, 3, 4, 5, 102), (101, 1, 2, 102)
    assert seen == {all_sentences, first, (101, 1, 2, 3, 102), (101, 1, 2, 4, 5, 102)}
