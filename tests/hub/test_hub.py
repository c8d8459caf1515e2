"""Pushes to a local server with the Hub's API. The pushed models load with this package, and without it."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

# ruff: noqa: F811 (fixtures)
import pytest
import torch
from conftest import tiny_model
from hub_server import TOKEN, HubServer, client_environment, client_here, client_of
from huggingface_hub import HfApi
from run_folder import folder  # noqa: F401
from run_forked import Forked
from tiny_orma import tiny_orma, tiny_processor
from transformers import AutoModel, BertConfig, BertTokenizerFast

from class_hf import (
    AmanModel,
    LexicalTokenizer,
    MoleculeFusedFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    Text2MolFeatureExtractor,
    Text2MolModel,
    Text2MolMoleculeModel,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    TextSmilesProcessor,
)
from class_hf.hub.export import export_model
from class_hf.hub.push import push_model

# The client's own way of sending large files without Xet is deprecated by its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
TEXTS, SMILES = ["The molecule is a primary alcohol."], ["CCO", "c1ccccc1O"]
TINY = {"embedding_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_buckets": 512}


def lexical_with(extractor) -> TextMoleculeProcessor:
    return TextMoleculeProcessor(LexicalTokenizer(num_buckets=512), extractor)


def bert_parts() -> tuple[BertConfig, BertTokenizerFast]:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "molecule", "is", "a", "cc", "##o"]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes), tokenizer


def graph():
    model = TextMoleculeDualEncoderModel.from_towers(
        text="lexical",
        molecule="graph",
        text_kwargs=TINY,
        molecule_kwargs={"hidden_size": 16, "num_layers": 1},
        projection_dim=8,
    )
    return model, lexical_with(MoleculeGraphFeatureExtractor())


def fused():
    parts = {"fingerprint_config": TINY, "graph_config": {"hidden_size": 16, "num_layers": 1}}
    model = TextMoleculeDualEncoderModel.from_towers(
        text="lexical", molecule="fused", text_kwargs=TINY, molecule_kwargs=parts, projection_dim=8
    )
    return model, lexical_with(MoleculeFusedFeatureExtractor(fingerprint={"num_buckets": TINY["num_buckets"]}))


def smiles_transformer():
    config, tokenizer = bert_parts()
    model = TextMoleculeDualEncoderModel.from_towers(text=config, molecule=config, projection_dim=8)
    return model, TextSmilesProcessor(tokenizer, bert_parts()[1])


def aman():
    model = AmanModel.from_towers(
        text="lexical",
        molecule="graph",
        text_kwargs=TINY,
        molecule_kwargs={"hidden_size": 16, "num_layers": 1},
        projection_dim=16,
    )
    return model, lexical_with(MoleculeGraphFeatureExtractor())


def text2mol():
    model = Text2MolModel.from_towers(text="lexical", molecule="gcn", text_kwargs=TINY, projection_dim=8)
    return model, lexical_with(Text2MolFeatureExtractor(num_buckets=model.config.molecule_config.num_buckets))


def text2mol_published():
    """With fixed vectors of a few substructures, as of a file of mol2vec."""
    molecule = Text2MolMoleculeModel.from_vectors(torch.randn(3, 6), molecule_type="gcn", hidden_size=8)
    model = Text2MolModel.from_towers(text="lexical", molecule=molecule, text_kwargs=TINY, projection_dim=8)
    vocabulary = ["864662311", "UNK", "2246728737"]
    return model, lexical_with(Text2MolFeatureExtractor(vocabulary=vocabulary, largest_only=True))


BACKBONES = {
    "graph": graph,
    "fused": fused,
    "smiles": smiles_transformer,
    "aman": aman,
    "text2mol": text2mol,
    "text2mol_published": text2mol_published,
    "orma": lambda: (tiny_orma(), tiny_processor()),
}


def embeddings_of(model, processor) -> list[list[float]]:
    with torch.no_grad():
        outputs = model.eval()(**processor(text=TEXTS, smiles=SMILES))
    return [*outputs.text_embeds.tolist(), *outputs.molecule_embeds.tolist()]


@pytest.fixture(scope="module")
def hub() -> HubServer:
    return HubServer()


@pytest.fixture(scope="module")
def pushed(hub, folder, tmp_path_factory) -> dict[str, list[list[float]]]:
    """The embeddings of each pushed model, by repository."""
    expected = {}
    with client_here(hub):
        push_model(folder, "org/plain", private=True, remote_code=True)
        for name, build in BACKBONES.items():
            model, processor = build()
            path = tmp_path_factory.mktemp("backbone") / name
            model.save_pretrained(path)
            processor.save_pretrained(path)
            push_model(path, f"org/{name}", remote_code=True)
            expected[f"org/{name}"] = embeddings_of(model, processor)
    expected["org/plain"] = embeddings_of(tiny_model(), TextMoleculeProcessor.from_pretrained(folder))
    return expected


def python(code: str, environment: dict[str, str], *options: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env=environment, cwd=cwd, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# -S reads no `.pth` file and -I no PYTHONPATH. If the package is embeddings anyway, its import fails.
WITHOUT_PACKAGE = f"""
import sys
sys.path += {[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]!r}

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "class_hf":
            raise ModuleNotFoundError("class_hf is hidden", name="class_hf")

sys.meta_path.insert(0, Hidden())
"""
EMBED = f"""
import json, torch

def embeddings_of(model, processor):
    with torch.no_grad():
        outputs = model.eval()(**processor(text={TEXTS!r}, smiles={SMILES!r}))
    return [*outputs.text_embeds.tolist(), *outputs.molecule_embeds.tolist()]
"""


def snippets(card: str) -> list[str]:
    return [block.split("```")[0] for block in card.split("```python\n")[1:]]


@pytest.fixture
def card_snippets(hub, pushed) -> list[str]:
    """The snippets of a pushed model's card: with the package and without it."""
    return snippets(hub.repositories["models/org/plain"].commits[-1][1]["README.md"].decode())


def test_every_backbone_loads_without_the_package(hub, pushed, folder, card_snippets, tmp_path):
    """The model, its processor and each tower load by `trust_remote_code`, from the Hub and from a local folder."""
    export_model(folder, tmp_path / "local", remote_code=True)
    names = [*pushed, str(tmp_path / "local")]
    code = f"""{WITHOUT_PACKAGE}{EMBED}
from transformers import AutoModel, AutoProcessor, AutoTokenizer

embeddings = {{}}
for name in {names!r}:
    model = AutoModel.from_pretrained(name, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    embeddings[name] = embeddings_of(model, processor)
    for side, subfolder in (("text", "text_encoder"), ("molecule", "molecule_encoder")):
        alone = AutoModel.from_pretrained(name, subfolder=subfolder, trust_remote_code=True).state_dict()
        inside = getattr(model, f"{{side}}_model").state_dict()
        assert inside and all(torch.equal(alone[key], value) for key, value in inside.items()), (name, side)
    alone = AutoTokenizer.from_pretrained(name, subfolder="text_encoder", trust_remote_code=True)
    assert alone({TEXTS[0]!r})["input_ids"] == processor.tokenizer({TEXTS[0]!r})["input_ids"]
{card_snippets[1]}
embeddings["by the card"] = embeddings_of(model, processor)
assert not [name for name in sys.modules if name.split(".")[0] == "class_hf"]
print(json.dumps(embeddings))
"""
    embeddings = json.loads(python(code, client_environment(hub, tmp_path / "home"), "-I", "-S").splitlines()[-1])
    embeddings["org/plain, local"] = embeddings.pop(str(tmp_path / "local"))
    plain = pushed["org/plain"]
    assert_close(embeddings, {**pushed, "org/plain, local": plain, "by the card": plain})
    assert hub.unknown == []


def assert_close(embeddings, expected) -> None:
    """Equal up to the rounding in which processes differ."""
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-6)


def load_with_the_package(url: str, home: Path, snippet: str) -> None:
    """Loads by the snippet of the card, by its class and by AutoModel, and prints the embeddings."""
    client_of(url, home)
    names: dict = {}
    exec(snippet, names)
    assert names["scores"].shape == (1, 2) and type(names["model"]) is TextMoleculeDualEncoderModel
    by_class = TextMoleculeDualEncoderModel.from_pretrained("org/plain")
    tower = AutoModel.from_pretrained("org/plain", subfolder="text_encoder")
    assert type(tower).__module__ == "class_hf.models.modeling_bag"
    print(json.dumps([embeddings_of(model, names["processor"]) for model in (names["model"], by_class)]))


def test_loading_with_the_package(hub, pushed, card_snippets, tmp_path):
    done = Forked(load_with_the_package, hub.url, tmp_path / "home", card_snippets[0]).end()
    assert done.returncode == 0, done.stderr
    assert_close(json.loads(done.stdout.splitlines()[-1]), [pushed["org/plain"]] * 2)


def test_what_is_pushed(hub, pushed, folder):
    repository = hub.repositories["models/org/plain"]
    files = repository.commits[-1][1]
    assert repository.private and len(repository.commits) == 2  # the first commit of a repository, and this one
    assert {"README.md", "config.json", "model.safetensors", "metrics.json", "plots/plan.png"} <= set(files)
    assert {"text_encoder/model.safetensors", "molecule_encoder/preprocessor_config.json"} <= set(files)
    assert not hub.repositories["models/org/graph"].private
    for name in (f"models/{name}" for name in pushed):
        files = hub.repositories[name].commits[-1][1]
        assert {Path(path).suffix for path in files} <= {".json", ".md", ".py", ".safetensors", ".png", ""}
        assert not any(TOKEN.encode() in data for data in files.values())


def test_the_same_push_is_no_second_commit_and_stale_files_are_deleted(hub, folder):
    with client_here(hub):
        push_model(folder, "org/again", remote_code=True)
        first = push_model(folder, "org/again", remote_code=True)
        repository = hub.repositories["models/org/again"]
        assert len(repository.commits) == 2 and first.oid == repository.commits[-1][0]
        assert "modeling_bag.py" in repository.commits[-1][1]
        push_model(folder, "org/again")
    files = repository.commits[-1][1]
    assert len(repository.commits) == 3 and not [path for path in files if path.endswith(".py")]
    assert "auto_map" not in files["config.json"].decode() and ".gitattributes" in files
    assert "trust_remote_code" not in files["README.md"].decode()


def test_a_branch(hub, folder):
    with client_here(hub):
        push_model(folder, "org/branches", revision="second")
        assert "config.json" in HfApi().list_repo_files("org/branches", revision="second")
        assert "config.json" not in HfApi().list_repo_files("org/branches")
