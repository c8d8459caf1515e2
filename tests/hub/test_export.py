"""sentence-transformers encodes captions as the model does, from the exported text tower."""

import json

import numpy as np
import pytest
import torch
from conftest import tiny_bert, tiny_model
from transformers import AutoTokenizer

from class_hf import (
    AmanModel,
    MoleculeFingerprintFeatureExtractor,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
)
from class_hf.hub.sentence_transformers import save_sentence_transformer
from class_hf.utils.files import atomic_folder

CAPTIONS = [
    "The molecule is a primary alcohol.",
    "It has a role as a metabolite.",
    "The molecule is a primary amine, ethanamine. It has a role as a metabolite. " * 8,  # longer than the limit
    "An acid",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def model(bert):
    torch.manual_seed(1)
    kwargs = {"num_buckets": 64, "embedding_size": 8, "hidden_size": 8, "intermediate_size": 8}
    return TextMoleculeDualEncoderModel.from_towers(
        text=str(bert), molecule="fingerprint", molecule_kwargs=kwargs, projection_dim=12
    ).eval()


@pytest.fixture(scope="module")
def processor(bert):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    return TextMoleculeProcessor(tokenizer, MoleculeFingerprintFeatureExtractor(num_buckets=64), max_text_length=20)


@pytest.fixture(scope="module")
def exported(model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "text"
    processor(text=CAPTIONS)  # changes the truncation of the tokenizer
    save_sentence_transformer(model, processor, folder)
    return folder


@pytest.fixture(scope="module")
def expected(model, processor):
    with torch.no_grad():
        return model.get_text_features(**processor(text=CAPTIONS)).numpy()


def test_encode_equals_the_model(exported, expected, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra `test`")
    loaded = sentence_transformers.SentenceTransformer(str(exported), device="cpu")
    assert loaded.max_seq_length == 20
    assert np.abs(loaded.encode(CAPTIONS) - expected).max() < 1e-5
    # Without padding, and from the folder that sentence-transformers saves.
    assert np.abs(loaded.encode(CAPTIONS, batch_size=1) - expected).max() < 1e-5
    loaded.save(str(tmp_path), create_model_card=False)
    reloaded = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    assert np.abs(reloaded.encode(CAPTIONS) - expected).max() < 1e-5


def test_the_files_are_what_servers_read(exported, model):
    """text-embeddings-inference needs these names. sentence-transformers 6 writes others."""
    modules = json.loads((exported / "modules.json").read_text())
    assert [module["type"].removeprefix("sentence_transformers.models.") for module in modules] == [
        "Transformer", "Pooling", "Dense", "Normalize",
    ]  # fmt: skip
    assert all((exported / module["path"]).is_dir() for module in modules)
    assert json.loads((exported / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True
    dense = json.loads((exported / "2_Dense" / "config.json").read_text())
    assert dense["activation_function"] == "torch.nn.modules.linear.Identity"
    assert (dense["in_features"], dense["out_features"], dense["bias"]) == (16, 12, False)
    tokenizer = json.loads((exported / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None and tokenizer["padding"] is None
    assert json.loads((exported / "config.json").read_text())["dtype"] == "float32"


def test_other_models_are_refused(model, processor, tmp_path):
    with pytest.raises(ValueError, match="the text tower is 'lexical'"):
        save_sentence_transformer(tiny_model(), processor, tmp_path / "a")
    aman = AmanModel.from_towers(text=model.text_model, molecule=model.molecule_model, projection_dim=12)
    with pytest.raises(ValueError, match="AmanModel does more to a caption"):
        save_sentence_transformer(aman, processor, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        save_sentence_transformer(model, processor, tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_a_folder_is_written_completely_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), atomic_folder(tmp_path / "new" / "folder") as aside:
        (aside / "half").touch()
        raise KeyError
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "new" / "folder").mkdir()  # empty: may be filled
    with atomic_folder(tmp_path / "new" / "folder") as aside:
        (aside / "file").touch()
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["file"]
