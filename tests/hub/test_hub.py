"""Pushes to a local server with the Hub's API. The pushed models load with this package, and without it."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from hub_server import CUT, TOKEN, HubServer, client_environment, client_here, client_of
from huggingface_hub import CommitOperationAdd, HfApi
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
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    TextSmilesProcessor,
)
from class_hf.hub.contents import check_secrets
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
    """An output folder like that of a run."""
    path = tmp_path_factory.mktemp("run") / "out"
    model = tiny_model()
    model.save_pretrained(path)
    processor.save_pretrained(path)
    (path / "README.md").write_text(model_card(model, folder=path))
    (path / "metrics.json").write_text("{}")
    (path / "plots").mkdir()
    (path / "plots" / "plan.png").write_bytes(b"a picture")
    # Files that a push must not upload.
    (path / "training_args.bin").write_bytes(b"a pickle")
    (path / "checkpoint-1").mkdir()
    (path / "checkpoint-1" / "optimizer.pt").write_bytes(b"a pickle")
    return path


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


# Failures -------------------------------------------------------------------------------------------------------

FAULTS = {
    "no access": ("POST", "/preupload/", 404, 1, "There is no such repository for this login"),
    "read-only token": ("POST", "/commit/", 403, 1, "This login may not write there"),
    "server error": ("POST", "/commit/", 500, 1, "may be temporarily unavailable"),
    "busy for long": ("POST", "/preupload/", 503, 99, "may be temporarily unavailable"),
    "cut in mid-upload": ("PUT", "/large/", CUT, 99, "may be temporarily unavailable"),
    "cut at the commit": ("POST", "/commit/", CUT, 1, "may be temporarily unavailable"),
    "refused card": ("POST", "/validate-yaml", 400, 1, "correct README.md"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_failed_push_changes_nothing_and_names_the_command(case, folder):
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
        command = f"push --model {folder} --repo_id org/failing --private --trust_remote_code_export"
        assert message.endswith(f"Run again: class-hf {command}") and "\n" not in message
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


SECRETS = {
    "a token of the Hugging Face Hub": TOKEN,
    "a token of GitHub": "ghp_" + "a1B2" * 9,
    "a key of an API": "sk-proj-" + "a1B2" * 8,
    "a key of AWS": "AKIA" + "A1B2" * 4,
    "a token of Slack": "xoxb-" + "1234567890-abc",
    "a key of Google": "AIza" + "aB3_-" * 7,
    "a token of npm": "npm_" + "a1B2" * 9,
    "a private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "a password in a URL": "postgresql://me:" + "secret@db.example/x",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_in_a_file_is_not_pushed(kind, folder, tmp_path):
    path = tmp_path / "out"
    shutil.copytree(folder, path)
    (path / "train_summary.json").write_text(json.dumps({"note": f"see {SECRETS[kind]} there"}))
    export_model(path, tmp_path / "exported")
    with pytest.raises(ValueError, match=f"train_summary.json holds what looks like {kind}") as error:
        check_secrets(tmp_path / "exported")
    assert SECRETS[kind] not in str(error.value)


def test_a_secret_stops_the_push(folder, tmp_path):
    hub, path = HubServer(), tmp_path / "out"
    shutil.copytree(folder, path)
    (path / "metrics.json").write_text(json.dumps({"token": TOKEN}))
    with client_here(hub), pytest.raises(ValueError, match="metrics.json holds what looks like a token"):
        push_model(path, "org/leak")
    assert len(hub.repositories["models/org/leak"].commits) == 1


def test_ordinary_words_are_no_secrets(tmp_path):
    text = "task-specific risk-averse sk-learn, hf_models, xoxo, https://hf.co/a/b:main@x, AKIA, ghp_x, npm_config"
    (tmp_path / "README.md").write_text(text)
    check_secrets(tmp_path)
    (tmp_path / "README.md").write_text(f"{text} {TOKEN}")
    with pytest.raises(ValueError, match="README.md holds what looks like a token"):
        check_secrets(tmp_path)


def test_only_files_of_the_list_are_pushed_without_links_out_of_the_folder(folder, tmp_path):
    path, secret = tmp_path / "out", tmp_path / "secret.json"
    shutil.copytree(folder, path)
    secret.write_text('{"password": "x"}')
    (path / "notes.json").write_text("{}")
    (path / "aws_credentials.json").write_text("{}")
    (path / "plots" / "private.png").write_bytes(b"a picture")
    (path / "plan.json").symlink_to(secret)
    (path / "load_report.json").symlink_to(path / "metrics.json")  # a link inside the folder
    export_model(path, tmp_path / "exported", remote_code=True)
    names = {file.relative_to(tmp_path / "exported").as_posix() for file in (tmp_path / "exported").rglob("*")}
    assert {"metrics.json", "load_report.json", "plots/plan.png", "README.md", "modeling_bag.py"} <= names
    assert not names & {"notes.json", "aws_credentials.json", "plots/private.png", "plan.json", "training_args.bin"}
    assert "password" not in "".join(file.read_text() for file in (tmp_path / "exported").glob("*.json"))


def test_no_local_path_is_pushed(folder, tmp_path):
    path = tmp_path / "out of me"
    shutil.copytree(folder, path)
    command = f"class-hf train --data_dir /home/me/my_data --output_dir '{path}' # see https://hf.co/home/me"
    (path / "README.md").write_text(
        model_card(tiny_model(), command=command) + f"\n{path}/x ~/runs/7 C:\\Users\\me\\z\n"
    )
    (path / "metrics.json").write_text(
        json.dumps({"model": str(path), "smiles": "/C=C/C", "pool": ["/mnt/data/pool"]})
    )
    (path / "training_args.json").write_text(json.dumps({"output_dir": str(path), "logging_dir": "/tmp/me/logs"}))
    config = json.loads((path / "config.json").read_text())
    config["text_config"]["_name_or_path"] = "/home/me/bert"
    (path / "config.json").write_text(json.dumps(config))
    export_model(path, tmp_path / "exported")
    text = "".join(file.read_text() for file in (tmp_path / "exported").rglob("*") if file.suffix in (".json", ".md"))
    for part in ("/home/me/my", "/home/me/bert", "/tmp", "/mnt", "~/", "Users", str(tmp_path)):
        assert part not in text, part
    metrics = json.loads((tmp_path / "exported" / "metrics.json").read_text())
    assert metrics == {"model": "out of me", "smiles": "/C=C/C", "pool": ["pool"]}
    assert "--data_dir my_data" in text and "https://hf.co/home/me" in text


def test_of_two_pushes_at_once_one_wins_and_the_other_says_so(folder):
    hub = HubServer()
    with client_here(hub):
        push_model(folder, "org/race", commit_message="first")

        def push_in_between():
            HfApi().create_commit(
                "org/race", [CommitOperationAdd("winner.json", b"{}")], commit_message="the other push"
            )

        # The other push commits after this one has read the repository, and before it commits.
        hub.fail("POST", "/preupload/", push_in_between)
        with pytest.raises(PushError, match="Another push changed the repository while this one ran") as error:
            push_model(folder, "org/race", remote_code=True, commit_message="second")
        assert "Run again: class-hf push" in str(error.value)
        repository = hub.repositories["models/org/race"]
        assert "winner.json" in repository.commits[-1][1] and "modeling_bag.py" not in repository.commits[-1][1]
        push_model(folder, "org/race", remote_code=True, commit_message="again")
        assert "modeling_bag.py" in repository.commits[-1][1]


def test_a_folder_without_a_model(hub, tmp_path):
    with client_here(hub), pytest.raises(ValueError, match="holds no model"):
        push_model(tmp_path, "org/nothing")
