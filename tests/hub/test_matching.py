"""A processor of another kind than its model is refused in one line: at loading, in training, and by the model."""

from itertools import permutations
from types import SimpleNamespace

import pytest
from transformers import BertConfig, BertTokenizerFast

from class_hf import (
    Encoder,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeFusedFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    OrmaFeatureExtractor,
    OrmaModel,
    Text2MolFeatureExtractor,
    Text2MolModel,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    TextSmilesProcessor,
)
from class_hf.hub.matching import check_parts

WORDS = {
    word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "an", "acid", "c", "##o", "o"))
}
BERT = BertConfig(
    vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=16,
)  # fmt: skip
BUCKETS = {"num_buckets": 64}
FEATURIZERS = {
    "fingerprint": MoleculeFingerprintFeatureExtractor(**BUCKETS),
    "graph": MoleculeGraphFeatureExtractor(),
    "fused": MoleculeFusedFeatureExtractor(fingerprint=BUCKETS),
    "text2mol": Text2MolFeatureExtractor(**BUCKETS),
    "orma": OrmaFeatureExtractor(),
}
KINDS = (*FEATURIZERS, "smiles")


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizerFast(vocab=WORDS)


@pytest.fixture(scope="module")
def models():
    small = {"hidden_size": 8}
    lexical = {"text": "lexical", "text_kwargs": {**BUCKETS, **small}, "projection_dim": 4}
    fused = {"fingerprint_config": {**BUCKETS, **small}, "graph_config": small}
    towers = {
        "fingerprint": ("fingerprint", {**BUCKETS, **small}),
        "graph": ("graph", small),
        "fused": ("fused", fused),
        "smiles": (BERT, None),
    }
    made = {
        kind: TextMoleculeDualEncoderModel.from_towers(**lexical, molecule=tower, molecule_kwargs=kwargs)
        for kind, (tower, kwargs) in towers.items()
    }
    made["text2mol"] = Text2MolModel.from_towers(**lexical, molecule_kwargs={**BUCKETS, **small})
    made["orma"] = OrmaModel.from_towers(BERT, small, projection_dim=4)
    return made


def processor_of(kind, tokenizer, text="lexical"):
    text_tokenizer = LexicalTokenizer(**BUCKETS) if text == "lexical" else tokenizer
    if kind == "smiles":
        return TextSmilesProcessor(text_tokenizer, tokenizer)
    return TextMoleculeProcessor(text_tokenizer, FEATURIZERS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_takes_its_own_processor(kind, models, tokenizer):
    processor = processor_of(kind, tokenizer, text="bert" if kind == "orma" else "lexical")
    check_parts(models[kind], processor)
    output = models[kind](**processor(text=["an acid"], smiles=["CO"]))
    assert len(output.text_embeds) == len(output.molecule_embeds) == 1


@pytest.mark.parametrize(("tower", "features"), [*permutations(KINDS, 2)])
def test_features_of_another_kind_are_refused(tower, features, models, tokenizer):
    model, processor = models[tower], processor_of(features, tokenizer)
    with pytest.raises(ValueError, match=r"^the molecule tower \w+ reads .*, but \w+ makes .* made with this model.$"):
        check_parts(model, processor)
    if (tower, features) == ("fused", "fingerprint"):
        return  # a fused tower reads the structures that captions name as fingerprints only
    with pytest.raises(ValueError, match=r"^\w+ reads .*, but the batch has .* with the model's own processor.$"):
        model(**processor(smiles=["CO"]))


def test_captions_of_another_kind_are_refused(models, tokenizer):
    with pytest.raises(ValueError, match="LexicalModel reads hashed n-grams, and Bert.* makes none"):
        check_parts(models["graph"], processor_of("graph", tokenizer, text="bert"))
    with pytest.raises(ValueError, match="BertModel reads tokens of a vocabulary, and LexicalTokenizer makes none"):
        check_parts(models["orma"], processor_of("orma", tokenizer))
    with pytest.raises(ValueError, match="LexicalModel reads input_ids, text_offsets, but the batch has .*attention"):
        models["graph"](**tokenizer(["an acid"], return_tensors="pt"))


def test_a_saved_folder_with_another_processor(models, tokenizer, tmp_path):
    models["graph"].save_pretrained(tmp_path), processor_of("fingerprint", tokenizer).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="cannot be loaded: the molecule tower MoleculeGraphModel reads atom_features"
    ):
        Encoder.from_pretrained(str(tmp_path))


def test_models_and_processors_of_others_pass(models, tokenizer):
    for model, processor in ((object(), processor_of("graph", tokenizer)), (models["graph"], tokenizer)):
        check_parts(model, processor)
    check_parts(models["graph"], None)
    with pytest.raises(ValueError, match="num_buckets"):  # what is refused is a part that both have
        check_parts(models["graph"], SimpleNamespace(tokenizer=LexicalTokenizer(num_buckets=7)))
