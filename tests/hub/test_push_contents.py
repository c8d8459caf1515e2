"""What an export or a push holds: files of a list, no secret, no local path."""

import json
import shutil

# ruff: noqa: F811 (fixtures)
import pytest
from conftest import tiny_model
from hub_server import TOKEN, HubServer, client_here
from run_folder import folder  # noqa: F401

from class_hf.hub.contents import check_secrets
from class_hf.hub.export import export_model
from class_hf.hub.model_card import model_card
from class_hf.hub.push import push_model

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
