"""Pushes to a stand-in for the Hub, and what loads from there: with this package, and where it is kept away."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from hub_server import CUT, TOKEN, HubServer, client_environment, client_here
from huggingface_hub import HfApi
from tiny_orma import tiny_orma, tiny_processor
from transformers import BertConfig, BertTokenizerFast

from class_hf import (
    AmanModel,
    LexicalTokenizer,
    MoleculeFusedFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    Text2MolFeatureExtractor,
    Text2MolModel,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    TextSmilesProcessor,
)
from class_hf.hub.export import export_model
from class_hf.hub.model_card import model_card
from class_hf.hub.push import PushError, push_model

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


BACKBONES = {
    "graph": graph,
    "fused": fused,
    "smiles": smiles_transformer,
    "aman": aman,
    "text2mol": text2mol,
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
def folder(tmp_path_factory, processor) -> Path:
    """A run's output folder, by hand."""
    path = tmp_path_factory.mktemp("run") / "out"
    model = tiny_model()
    model.save_pretrained(path)
    processor.save_pretrained(path)
    (path / "README.md").write_text(model_card(model, folder=path))
    (path / "metrics.json").write_text("{}")
    (path / "plots").mkdir()
    (path / "plots" / "plan.png").write_bytes(b"a picture")
    # What a push leaves behind.
    (path / "training_args.bin").write_bytes(b"a pickle")
    (path / "checkpoint-1").mkdir()
    (path / "checkpoint-1" / "optimizer.pt").write_bytes(b"a pickle")
    return path


@pytest.fixture(scope="module")
def pushed(hub, folder, tmp_path_factory) -> dict[str, list[list[float]]]:
    """The embeddings of what was pushed, by repository: the plain backbone as `org/plain`, then all others."""
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


# No `.pth` file is read (-S) and no PYTHONPATH (-I), and should the package still be found, importing it fails.
WITHOUT_PACKAGE = f"""
import sys
sys.path += {[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]!r}

class Away:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "class_hf":
            raise ModuleNotFoundError("class_hf is kept away", name="class_hf")

sys.meta_path.insert(0, Away())
"""
EMBED = f"""
import json, torch

def embeddings_of(model, processor):
    with torch.no_grad():
        outputs = model.eval()(**processor(text={TEXTS!r}, smiles={SMILES!r}))
    return [*outputs.text_embeds.tolist(), *outputs.molecule_embeds.tolist()]
"""


def test_every_backbone_loads_without_the_package(hub, pushed, folder, tmp_path):
    """By `trust_remote_code`, from the Hub and from a local folder, the processor and each tower too."""
    export_model(folder, tmp_path / "local", remote_code=True)
    names = [*pushed, str(tmp_path / "local")]
    code = f"""{WITHOUT_PACKAGE}{EMBED}
from transformers import AutoModel, AutoProcessor, AutoTokenizer

found = {{}}
for name in {names!r}:
    model = AutoModel.from_pretrained(name, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    found[name] = embeddings_of(model, processor)
    for side, subfolder in (("text", "text_encoder"), ("molecule", "molecule_encoder")):
        alone = AutoModel.from_pretrained(name, subfolder=subfolder, trust_remote_code=True).state_dict()
        inside = getattr(model, f"{{side}}_model").state_dict()
        assert inside and all(torch.equal(alone[key], value) for key, value in inside.items()), (name, side)
    alone = AutoTokenizer.from_pretrained(name, subfolder="text_encoder", trust_remote_code=True)
    assert alone({TEXTS[0]!r})["input_ids"] == processor.tokenizer({TEXTS[0]!r})["input_ids"]
assert not [name for name in sys.modules if name.split(".")[0] == "class_hf"]
print(json.dumps(found))
"""
    found = json.loads(python(code, client_environment(hub, tmp_path / "home"), "-I", "-S").splitlines()[-1])
    found["org/plain, local"] = found.pop(str(tmp_path / "local"))
    assert_close(found, {**pushed, "org/plain, local": pushed["org/plain"]})
    assert hub.unknown == []


def assert_close(found, expected) -> None:
    """Up to the last bits, in which processes differ."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def snippets(card: str) -> list[str]:
    return [block.split("```")[0] for block in card.split("```python\n")[1:]]


def test_loading_with_the_package_and_the_card_s_own_snippets(hub, pushed, tmp_path):
    """By the class, by AutoModel, and as the card says; the second snippet of the card needs the code it names."""
    first, second = snippets(hub.repositories["models/org/plain"].commits[-1][1]["README.md"].decode())
    code = f"""{EMBED}
{first}
from class_hf import TextMoleculeDualEncoderModel

assert scores.shape == (1, 2) and type(model) is TextMoleculeDualEncoderModel
by_class = TextMoleculeDualEncoderModel.from_pretrained("org/plain")
tower = AutoModel.from_pretrained("org/plain", subfolder="text_encoder")
assert type(tower).__module__ == "class_hf.models.modeling_bag"
print(json.dumps([embeddings_of(model, processor), embeddings_of(by_class, processor)]))
"""
    environment = client_environment(hub, tmp_path / "home")
    assert_close(json.loads(python(code, environment).splitlines()[-1]), [pushed["org/plain"]] * 2)
    python(f"{WITHOUT_PACKAGE}{EMBED}{second}\nembeddings_of(model, processor)", environment, "-I", "-S")


def test_what_is_pushed(hub, pushed, folder):
    repository = hub.repositories["models/org/plain"]
    files = repository.commits[-1][1]
    assert repository.private and len(repository.commits) == 2  # the repository's own, and ours
    assert {"README.md", "config.json", "model.safetensors", "metrics.json", "plots/plan.png"} <= set(files)
    assert {"text_encoder/model.safetensors", "molecule_encoder/preprocessor_config.json"} <= set(files)
    assert not hub.repositories["models/org/graph"].private
    for name in (f"models/{name}" for name in pushed):
        files = hub.repositories[name].commits[-1][1]
        assert {Path(path).suffix for path in files} <= {".json", ".md", ".py", ".safetensors", ".png", ""}
        assert not any(TOKEN.encode() in data for data in files.values())


def test_the_same_push_is_no_second_commit_and_what_is_gone_goes(hub, folder):
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


# -- failures -------------------------------------------------------------------------------------------------------

FAULTS = {
    "no access": ("POST", "/preupload/", 404, 1, "There is no such repository for this login"),
    "read-only token": ("POST", "/commit/", 403, 1, "The login may not write there"),
    "server error": ("POST", "/commit/", 500, 1, "try again"),
    "busy for long": ("POST", "/preupload/", 503, 99, "try again"),
    "cut in mid-upload": ("PUT", "/large/", CUT, 99, "try again"),
    "cut at the commit": ("POST", "/commit/", CUT, 1, "try again"),
    "refused card": ("POST", "/validate-yaml", 400, 1, "mend README.md"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_failed_push_leaves_no_revision_and_says_how_to_go_on(case, folder):
    hub = HubServer()
    method, path, action, times, advice = FAULTS[case]
    hub.fail(method, path, action, times)
    with client_here(hub):
        with pytest.raises(PushError) as error:
            push_model(folder, "org/failing", private=True, remote_code=True)
        repository = hub.repositories["models/org/failing"]
        assert [set(files) for _, files in repository.commits] == [{".gitattributes"}]
        message = str(error.value)
        assert message.startswith("the push to org/failing failed (") and advice in message
        command = f"recipes/push.py --model {folder} --repo_id org/failing --private --trust_remote_code_export"
        assert message.endswith(f"To go on: python {command}")
        # The very same command goes on.
        hub.faults.clear()
        push_model(folder, "org/failing", private=True, remote_code=True)
    assert len(repository.commits) == 2 and "model.safetensors" in repository.commits[-1][1]


def test_files_that_arrived_before_a_cut_are_not_sent_again(folder):
    hub = HubServer()
    hub.fail("POST", "/commit/", CUT)
    with client_here(hub):
        with pytest.raises(PushError):
            push_model(folder, "org/cut")
        sent = [line for line in hub.log if line.startswith("PUT")]
        push_model(folder, "org/cut")
    assert sent and [line for line in hub.log if line.startswith("PUT")] == sent


def test_a_short_cut_is_tried_again(folder):
    hub = HubServer()
    hub.fail("PUT", "/large/", CUT, 2)
    with client_here(hub):
        push_model(folder, "org/bumpy")
    assert "model.safetensors" in hub.repositories["models/org/bumpy"].commits[-1][1]


def test_without_a_login_nothing_is_made(folder):
    hub = HubServer()
    with client_here(hub, token="hf_unknown"):
        with pytest.raises(PushError, match="hf auth login"):
            push_model(folder, "org/nobody")
    assert hub.repositories == {}


def test_a_token_in_a_file_is_not_pushed(folder, tmp_path):
    hub = HubServer()
    path = tmp_path / "out"
    tiny_model().save_pretrained(path)
    TextMoleculeProcessor.from_pretrained(folder).save_pretrained(path)
    (path / "notes.json").write_text(json.dumps({"token": TOKEN}))
    with client_here(hub), pytest.raises(ValueError, match="notes.json holds what looks like a token"):
        push_model(path, "org/leak")
    assert len(hub.repositories["models/org/leak"].commits) == 1


def test_a_folder_without_a_model(hub, tmp_path):
    with client_here(hub), pytest.raises(ValueError, match="holds no model"):
        push_model(tmp_path, "org/nothing")
