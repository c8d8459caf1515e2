"""Chemical names in captions: how they are found, spelled, read and used by a model."""

import importlib.util
import shutil
import sys
import zlib

import pytest
import torch
from conftest import tiny_bert
from transformers import AutoModel, AutoProcessor, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPooling

from class_hf import (
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderConfig,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.backbones.registry import build_model
from class_hf.config.arguments import ModelArguments
from class_hf.models import chemical_names
from class_hf.models.caption_blobs import CaptionStructures
from class_hf.models.chemical_names import OpsinError, name_spans, read_names, spellings, surroundings
from class_hf.models.modeling_bag import embed_bags
from class_hf.models.trivial_names import look_up

KNOWN = {
    "ethanol": "CCO",
    "acetic acid": "CC(=O)O",
    "acetic": "C",
    "hydroxy": "*O",
    "broken": "C1CC(",
    "hexane": "CCCCCC",
}
needs_opsin = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("py2opsin", "chemicals"))) or shutil.which("java") is None,
    reason="needs py2opsin, chemicals and Java",
)


@pytest.fixture
def opsin_names(monkeypatch) -> list[str]:
    """The names that OPSIN receives; it knows those of KNOWN."""
    names: list[str] = []

    def ask(unknown):
        names.extend(unknown)
        return [KNOWN.get(name, "") for name in unknown]

    monkeypatch.setattr(chemical_names, "_ask_opsin", ask)
    monkeypatch.setattr(chemical_names, "_CACHE", {})
    monkeypatch.setattr(chemical_names, "look_up", lambda names: {})
    return names


def names_in(text: str) -> list[str]:
    return [name for _, _, name in name_spans(text)]


def test_prose_and_clauses_end_a_name():
    assert names_in("It is an ester of acetic acid, hexane; and β-alanine.") == [
        "ester", "acetic", "acetic acid", "acid", "hexane", "beta-alanine",
    ]  # fmt: skip


def test_brackets_of_the_sentence_are_no_part():
    assert names_in("(stearic acid), (2R)-butan-2-ol") == ["stearic", "stearic acid", "acid", "(2R)-butan-2-ol"]


def test_a_name_has_four_words_at_most():
    assert max(len(name.split()) for name in names_in("sodium hydrogen methyl ethyl propyl phosphate ion")) == 4


@pytest.mark.parametrize(
    "name, best",
    [
        ("(9Z)-octadecenoate(1-)", "(9Z)-octadec-9-enoate"),
        ("(5Z,8Z)-icosadienoic acid", "(5Z,8Z)-icosa-5,8-dienoic acid"),
        ("(3R,11Z)-3-hydroxyicosenoyl-CoA(4-)", "(3R,11Z)-3-hydroxyicos-11-enoyl-CoA"),
        ("(9Z)-octadec-9-enoic acid", "(9Z)-octadec-9-enoic acid"),
        ("(5Z)-icosadienoic acid", "(5Z)-icosadienoic acid"),  # a bond without a mark: its place is not known
        ("(5Z,8Z)-icosa-5,8-dienoic acid", "(5Z,8Z)-icosa-5,8-dienoic acid"),
        ("iron(2+)", "iron(2+)"),  # OPSIN knows the charges of elements
        ("ethanol", "ethanol"),
    ],
)
def test_spellings_begin_with_the_best(name, best):
    assert spellings(name)[0] == best and name in spellings(name)


def test_the_carrier_goes_last():
    assert spellings("hexanoyl-CoA(4-)") == ["hexanoyl-CoA(4-)", "hexanoyl-CoA", "hexanoyl"]


def test_the_longest_name_counts_and_order_is_the_text_s(opsin_names):
    texts = ["It has hydroxy groups. It derives from acetic acid and ethanol.", "Nothing here."]
    actual, nothing = read_names(texts)
    assert [structure.smiles for structure in actual] == ["*O", "CC(=O)O", "CCO"] and nothing == []
    assert [structure.surroundings for structure in actual] == [
        surroundings("It has hydroxy groups.".split(), 2, 3),
        surroundings("It derives from acetic acid and ethanol.".split(), 3, 5),
        surroundings("It derives from acetic acid and ethanol.".split(), 6, 7),
    ]


def test_surroundings_are_the_words_next_to_a_name():
    words = "It is (in which) the Hydrogen at position 2, replaced by a hydroxy group; thrice.".split()
    assert sorted(surroundings(words, 12, 13)) == sorted([
        "-1:a", "-2:by", "-3:replaced", "-4:2", "-5:position", "-:a", "-:by", "-:replaced", "-:2", "-:position",
        "-:by a", "-:replaced by a", "+1:group", "+2:thrice",
    ])  # fmt: skip
    assert surroundings(["Ethanol"], 0, 1) == ["first"]
    assert surroundings(["An", "ethanol", "ester"], 1, 2) == ["-1:an", "-:an", "+1:ester"]


def test_a_name_is_asked_for_once(opsin_names):
    first = read_names(["It is ethanol.", "It is ethanol."])
    assert read_names(["Now it is ethanol."])[0][0].smiles == first[0][0].smiles == "CCO"
    assert opsin_names.count("ethanol") == 1


def test_no_text_asks_nothing(opsin_names):
    assert read_names([]) == [] and opsin_names == []


def test_what_opsin_does_not_read_is_looked_up(opsin_names, monkeypatch):
    table = {"aspirin": "CC(=O)Oc1ccccc1C(=O)O", "ethanol": "never", "acetic acid ethanol": "CC(=O)OCC"}
    looked_up: list[str] = []

    def find(names):
        looked_up.extend(names)
        return {name: table[name] for name in names if name in table}

    monkeypatch.setattr(chemical_names, "look_up", find)
    actual, longer = read_names(["It is aspirin(1-) in ethanol.", "It is acetic acid ethanol."])
    assert [structure.smiles for structure in actual] == [table["aspirin"], "CCO"]
    # The longest name is used, whichever reader finds it.
    assert [structure.smiles for structure in longer] == [table["acetic acid ethanol"]]
    assert "ethanol" not in looked_up  # OPSIN reads it


def test_a_trivial_name_is_one_of_a_compound_s_main_names():
    pytest.importorskip("chemicals", reason="needs the extra `names`")
    actual = look_up(["Melatonin", "levobupivacaine", "control", "alcohol", "salt", "no such compound", "EDT"])
    assert actual == {
        "Melatonin": "CC(=O)NCCC1=CNC2=C1C=C(C=C2)OC",
        "levobupivacaine": "CCCCN1CCCC[C@H]1C(=O)NC2=C(C=CC=C2C)C",
    }


def test_without_the_table_of_trivial_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "chemicals.identifiers", None)  # an import of it fails
    assert look_up([]) == look_up(["alcohol"]) == {}  # the table is not needed
    with pytest.raises(ImportError, match="pip install chemicals"):
        look_up(["melatonin"])


def test_without_py2opsin_or_java(monkeypatch):
    monkeypatch.setattr(chemical_names, "_CACHE", {})
    monkeypatch.setattr(chemical_names, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install py2opsin"):
        read_names(["It is ethanol."])


@needs_opsin
def test_without_java(monkeypatch):
    monkeypatch.setattr(chemical_names, "_CACHE", {})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="needs Java"):
        read_names(["It is ethanol."])


@needs_opsin
def test_a_failing_java_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(chemical_names, "_CACHE", {})
    (tmp_path / "java").write_text("#!/bin/sh\necho too old >&2\nexit 3\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(OpsinError, match="status 3: too old"):
        read_names(["It is ethanol."])
    (tmp_path / "java").write_text("#!/bin/sh\necho one line\n")
    with pytest.raises(OpsinError, match="returned 1 lines for 2 names"):
        read_names(["It is ethanol or hexane."])
    (tmp_path / "java").write_text("#!/bin/sh\nexec sleep 5\n")
    monkeypatch.setattr(chemical_names, "_SECONDS", 0.1)
    with pytest.raises(OpsinError, match="within"):
        read_names(["It is ethanol."])


@needs_opsin
def test_opsin_reads_what_chebi_writes(monkeypatch):
    monkeypatch.setattr(chemical_names, "_CACHE", {})
    molecule = MoleculeFingerprintFeatureExtractor().encode
    text = "It is the ethyl ester of hexanoic acid and iron(2+). It is a base of a (9Z)-octadecenoate(1-)."
    (actual,) = read_names([text])
    expected = ["*CC", "CCCCCC(=O)O", "[Fe+2]", "CCCCCCCC/C=C\\CCCCCCCC(=O)[O-]"]
    assert [molecule(structure.smiles) for structure in actual] == list(map(molecule, expected))


# -- the processor and the model --------------------------------------------------------------------------------------

TEXTS = ["It is an ester of ethanol. It derives from ethanol and a broken hexane.", "Nothing is named here."]
SMILES = ["CCOC", "CC"]


def parts(tmp_path, text: str, molecule: str, **config):
    torch.manual_seed(0)
    fields = {"projection_dim": 8, "read_names": True, **config}
    tower = {"hidden_size": 16}
    if molecule == "fingerprint":
        extractor = MoleculeFingerprintFeatureExtractor(num_buckets=64)
        tower |= {"num_buckets": 64, "embedding_size": 8, "intermediate_size": 8}
    else:
        extractor, tower = MoleculeGraphFeatureExtractor(), {**tower, "num_layers": 2}
    if text == "lexical":
        tokenizer = LexicalTokenizer(num_buckets=128)
        text_kwargs = {"num_buckets": 128, "embedding_size": 8, "hidden_size": 16, "intermediate_size": 8}
    else:
        text, text_kwargs = str(tiny_bert(tmp_path / "bert")), {}
        tokenizer = AutoTokenizer.from_pretrained(text)
    model = TextMoleculeDualEncoderModel.from_towers(
        text=text, molecule=molecule, text_kwargs=text_kwargs, molecule_kwargs=tower, **fields
    )
    return model.eval(), TextMoleculeProcessor(tokenizer, extractor, read_names=True)


TOWERS = [("lexical", "fingerprint"), ("bert", "fingerprint"), ("lexical", "graph")]


def test_structures_are_packed_with_their_caption():
    structures = {b"abcd": [3, 2**31 - 1], b"": [], b"efg": [7]}
    caption, actual = CaptionStructures.unpack(CaptionStructures.pack(b"12345678", structures))
    assert caption == b"12345678" and {blob: ids.tolist() for blob, ids in actual.items()} == structures
    assert CaptionStructures.unpack(CaptionStructures.pack(b"", {})) == (b"", {})


def test_each_structure_once_and_none_that_rdkit_refuses(opsin_names, tmp_path):
    _, processor = parts(tmp_path, "lexical", "fingerprint")
    batch = processor(text=TEXTS, smiles=SMILES)
    assert batch["named_rows"].tolist() == [0, 0]  # ethanol and hexane
    assert set(batch) == set(processor.model_input_names)
    alone = processor.feature_extractor(["CCO", "CCCCCC"])
    assert torch.equal(batch["named_fragment_ids"], alone["fragment_ids"])
    # Both mentions of ethanol: "ester of _", and "derives from _ and".
    twice, _ = batch["named_context_offsets"].diff().tolist()
    expected = surroundings(TEXTS[0].split(".")[0].split(), 5, 6) + surroundings(TEXTS[0].split(". ")[1].split(), 3, 4)
    assert twice == len(expected) and batch["named_context_ids"].max() >= 2**14  # hashes: reduced by the model
    assert batch["named_context_ids"][:twice].tolist() == [
        zlib.crc32(token.encode()) & 0x7FFFFFFF for token in expected
    ]


@pytest.mark.parametrize("towers", TOWERS)
def test_a_caption_s_vector_has_its_names_added(opsin_names, tmp_path, towers):
    model, processor = parts(tmp_path, *towers)
    batch = dict(processor(text=TEXTS))
    with torch.no_grad():
        assert not model.names.scale.weight.any() and not model.names.scale.bias.any()  # the scales begin at 1
        model.names.scale.weight.normal_()
        actual = model.pooled_text(**batch)
        named = model.pooled_molecules(**processor(smiles=["CCO", "CCCCCC"]))
        context = model.names.context_norm(embed_bags(
            model.names.context, batch["named_context_ids"] % model.names.context_buckets,
            batch["named_context_offsets"], 0.0,
        ))  # fmt: skip
        added = model.names.projection(model.names.norm((named * (1 + model.names.scale(context))).sum(0)))
        nothing = model.names.projection(model.names.norm(torch.zeros(16)))
        plain = TextMoleculeProcessor(processor.tokenizer, processor.feature_extractor)
        model.names, names = None, model.names
        without = model.pooled_text(**plain(text=TEXTS))
        model.names = names
    torch.testing.assert_close(actual, without + torch.stack([added, nothing]))


def test_words_around_a_name_matter_if_they_are_read(opsin_names, tmp_path):
    texts = ["It derives from an ethanol.", "It is an ester with ethanol.", "It derives from an ethanol."]
    for buckets in (2**14, 0):
        model, processor = parts(tmp_path, "lexical", "fingerprint", name_context_buckets=buckets)
        with torch.no_grad():
            if buckets:
                model.names.scale.weight.normal_()
            batch = dict(processor(text=texts))
            model.text_model.forward = lambda **inputs: BaseModelOutputWithPooling(pooler_output=torch.zeros(3, 16))
            first, second, third = model.pooled_text(**batch)
        assert torch.equal(first, third) and torch.equal(first, second) == (buckets == 0)


def test_the_number_of_context_ids_is_checked():
    with pytest.raises(Exception, match="name_context_buckets"):
        TextMoleculeDualEncoderConfig(name_context_buckets=-1)


@pytest.mark.parametrize("towers", TOWERS)
def test_a_batch_without_names_trains_all_parameters(opsin_names, tmp_path, towers):
    model, processor = parts(tmp_path, *towers)
    output = model.train()(**processor(text=TEXTS[1:], smiles=SMILES[:1]))
    (output.text_embeds.sum() + output.molecule_embeds.sum()).backward()
    missing = [name for name, weight in model.names.named_parameters() if weight.grad is None]
    assert not missing  # DDP fails on parameters without a gradient


@pytest.mark.parametrize("towers", TOWERS)
def test_saved_equals_loaded(opsin_names, tmp_path, towers):
    model, processor = parts(tmp_path, *towers)
    model.save_pretrained(tmp_path / "m"), processor.save_pretrained(tmp_path / "m")
    loaded, loaded_processor = AutoModel.from_pretrained(tmp_path / "m"), AutoProcessor.from_pretrained(tmp_path / "m")
    assert loaded_processor.read_names and loaded_processor.content_key() == processor.content_key()
    expected, actual = model(**processor(text=TEXTS)).text_embeds, loaded(**loaded_processor(text=TEXTS)).text_embeds
    assert torch.equal(expected, actual)


def test_prepared_equals_on_the_fly_and_captions_keep_their_names(opsin_names, tmp_path, pairs):
    model, processor = parts(tmp_path, "lexical", "fingerprint")
    rows = prepare_pairs(pairs, processor)
    plain = TextMoleculeProcessor(processor.tokenizer, processor.feature_extractor)
    assert plain.content_key() != processor.content_key()
    batch = TextMoleculeCollator(processor)([rows[0], rows[5]])
    expected = processor(text=[pairs[0]["description"], pairs[5]["description"]])
    for name in expected:
        assert torch.equal(batch[name], expected[name]), name
    dropped = TextMoleculeCollator(processor, sentence_dropout=0.9)([rows[0], rows[5]])
    assert torch.equal(dropped["named_rows"], batch["named_rows"])


def test_model_and_processor_must_agree(opsin_names, tmp_path):
    model, processor = parts(tmp_path, "lexical", "fingerprint")
    plain = TextMoleculeProcessor(processor.tokenizer, processor.feature_extractor)
    with pytest.raises(ValueError, match="read_names=True"):
        model(**plain(text=TEXTS))
    model.names, model.config.read_names = None, False
    with pytest.raises(ValueError, match="read_names=False"):
        model(**processor(text=TEXTS))


def test_frozen_text_towers_read_no_names():
    with pytest.raises(Exception, match="freeze_text"):
        TextMoleculeDualEncoderConfig(read_names=True, freeze_text=True)


def test_recipes_build_both_parts():
    model, processor = build_model(ModelArguments(read_names=True))
    assert model.config.read_names and processor.read_names
    with pytest.raises(ValueError, match="text2mol"):
        build_model(ModelArguments(backbone="text2mol", read_names=True))
    with pytest.raises(ValueError, match="read_names"):
        build_model(ModelArguments(dual_encoder_config='{"read_names": true}'))


def test_training_a_saved_model_keeps_read_names(opsin_names, tmp_path):
    model, processor = parts(tmp_path, "lexical", "fingerprint")
    model.save_pretrained(tmp_path / "m"), processor.save_pretrained(tmp_path / "m")
    for field in ('{"read_names": false}', '{"freeze_text": true}'):
        with pytest.raises(Exception, match="read_names"):
            build_model(ModelArguments(model_name_or_path=str(tmp_path / "m"), dual_encoder_config=field))
    loaded_processor, _ = build_model(ModelArguments(model_name_or_path=str(tmp_path / "m")))
    assert loaded_processor.config.read_names


def test_aman_reads_names_too(opsin_names):
    towers = '{"hidden_size": 16, "num_layers": 1}'
    arguments = ModelArguments(
        backbone="aman", molecule_model="graph", molecule_config=towers, text_config='{"hidden_size": 16}',
        dual_encoder_config='{"projection_dim": 16}', read_names=True,
    )  # fmt: skip
    model, processor = build_model(arguments)
    vectors = model.eval()(**processor(text=["It derives from ethanol.", "It derives from hexane."])).text_embeds
    named = {name: value for name, value in processor(text=["It derives from hexane."]).items()}
    torch.testing.assert_close(vectors[1:], model(**named).text_embeds)
    assert not torch.equal(vectors[0], vectors[1])


def test_the_card_names_the_requirements(opsin_names, tmp_path):
    from class_hf.hub.model_card import model_card

    model, _ = parts(tmp_path, "lexical", "fingerprint")
    assert "pip install py2opsin" in model_card(model)
    plain = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint")
    assert "opsin" not in model_card(plain)
