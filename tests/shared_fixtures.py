"""Shared fixtures: hand-written pairs, tiny towers, no network. `conftest.py` registers them where tests run."""

import shutil
import tempfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from postgres_server import PostgresServer, missing_parts
from transformers import BertConfig, BertModel, BertTokenizerFast

from class_hf import (
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeIndex,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)

datasets.disable_progress_bars()

CHAINS = {"methan": "C", "ethan": "CC", "propan": "CCC", "butan": "CCCC", "pentan": "CCCCC", "hexan": "CCCCCC"}
GROUPS = {
    "ol": ("{}O", "a primary alcohol"),
    "amine": ("{}N", "a primary amine"),
    "oic acid": ("{}C(=O)O", "a carboxylic acid"),
    "thiol": ("{}S", "a thiol"),
}


def rows_of_pairs(count: int) -> dict[str, list]:
    """Columns of `count` <= 24 different pairs with a made-up difficulty."""
    named = [
        (chain + group, form, kind, smiles)
        for chain, smiles in CHAINS.items()
        for group, (form, kind) in GROUPS.items()
    ]
    named = named[:count]
    return {
        "id": [f"m{index:02d}" for index in range(count)],
        "smiles": [form.format(smiles) for _, form, _, smiles in named],
        "description": [
            f"The molecule is {kind}, {name}. It has a role as a metabolite." for name, _, kind, _ in named
        ],
        "difficulty": [((7 * index) % count) / count for index in range(count)],
    }


@pytest.fixture(scope="session")
def pairs() -> datasets.Dataset:
    """24 pairs with `id`, `smiles`, `description`, `difficulty`."""
    return datasets.Dataset.from_dict(rows_of_pairs(24))


@pytest.fixture(scope="session")
def processor() -> TextMoleculeProcessor:
    """Processor of the tiny dual encoder."""
    return TextMoleculeProcessor(
        LexicalTokenizer(num_buckets=512), MoleculeFingerprintFeatureExtractor(num_buckets=256, radius=1)
    )


@pytest.fixture(scope="session")
def prepared(pairs, processor) -> datasets.Dataset:
    """The pairs with their features."""
    return prepare_pairs(pairs, processor)


def tiny_model(seed: int = 0, dropout: float = 0.1, **kwargs) -> TextMoleculeDualEncoderModel:
    """A dual encoder with some ten thousand weights."""
    torch.manual_seed(seed)
    sizes = {"embedding_size": 8, "hidden_size": 16, "intermediate_size": 16, "dropout": dropout}
    return TextMoleculeDualEncoderModel.from_towers(
        text="lexical",
        molecule="fingerprint",
        text_kwargs={"num_buckets": 512, "token_dropout": dropout, **sizes},
        molecule_kwargs={"num_buckets": 256, **sizes},
        projection_dim=8,
        **kwargs,
    )


def tiny_bert(folder: Path) -> Path:
    """Writes a BERT of two layers and its tokenizer, as a pretrained text tower; gives the folder back."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ","]
    words += ["the", "molecule", "is", "a", "an", "it", "has", "role", "as", "metabolite"]
    words += ["primary", "alcohol", "amine", "carbox", "##ylic", "acid", "thiol", "meth", "eth", "prop", "but", "pent"]
    words += ["hex", "##an", "##ol", "##thiol", "##oic", "##amine"]
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    BertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture
def model() -> TextMoleculeDualEncoderModel:
    """A fresh tiny dual encoder."""
    return tiny_model()


@pytest.fixture
def blank_pictures(request, monkeypatch):
    """Figures are made but not drawn, except in tests with the mark `pictures`.

    A training draws five figures, which takes half of the time of a tiny one.
    """
    if request.node.get_closest_marker("pictures"):
        return

    def write_blank(canvas, path, **kwargs):
        Path(path).write_bytes(b"")

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", write_blank)
    monkeypatch.setattr("class_hf.plots.style.draw_molecule", lambda smiles, name: np.zeros((2, 2, 3)))


# A molecule in which a pattern can be searched for years.
C60 = (
    "c12c3c4c5c1c1c6c7c2c2c8c3c3c9c4c4c%10c5c5c1c1c6c6c%11c7c2c2c7c8c3c3c8c9c4c4c9c%10c5c5c1c1c6c6c%11c2c2c7c3c3c8c4"
    "c4c9c5c1c1c6c2c3c41"
)


@pytest.fixture(scope="module")
def browser():
    """A real browser. Playwright runs an event loop in this thread, in which no other test could run its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def indexed_model():
    return tiny_model(dropout=0.0).eval()


@pytest.fixture(scope="session")
def molecules(pairs):
    """28 molecules: 24 with captions, one of them without; one caption twice; a further column."""
    more = datasets.Dataset.from_dict(
        {
            "id": ["salt", "cage", "chloride", "twin"],
            "smiles": ["[Na+].[Cl-]", C60, "CCCl", "OCC"],
            "description": ["", None, "A chloride of ethane.", pairs[1]["description"]],
        }
    )
    table = datasets.concatenate_datasets([pairs.remove_columns("difficulty"), more])
    return table.add_column("number", list(range(len(table))))


@pytest.fixture(scope="session")
def index_folder(molecules, indexed_model, processor, pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "index"
    bank = pairs["description"][:12]
    MoleculeIndex.build(molecules, indexed_model, processor, path, query_bank=bank).close()
    return path


@pytest.fixture(scope="session")
def saved_model(indexed_model, processor, tmp_path_factory):
    """The model of the index as a folder."""
    folder = tmp_path_factory.mktemp("saved_model")
    indexed_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def index(index_folder, indexed_model, processor):
    return MoleculeIndex.load(index_folder, indexed_model, processor)


@pytest.fixture(scope="session")
def qdrant_index(molecules, indexed_model, processor, pairs):
    pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")
    bank = pairs["description"][:12]
    store = "qdrant+memory:tiny"
    return MoleculeIndex.build(molecules, indexed_model, processor, store=store, query_bank=bank)


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server of this session."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    pytest.importorskip("pgvector", reason="needs the extra `postgres`")
    if reason := missing_parts():
        pytest.skip(reason)
    # Not below the folder of pytest: the path of a socket is short, and the server's user must reach it.
    folder = Path(tempfile.mkdtemp(prefix="pg_", dir="/tmp"))
    server = PostgresServer(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)
