"""A push that fails changes nothing and names the command; of two pushes at once, one wins."""

# ruff: noqa: F811 (fixtures)
import pytest
from hub_server import CUT, HubServer, client_here
from huggingface_hub import CommitOperationAdd, HfApi
from run_folder import folder  # noqa: F401

from class_hf.hub.push import PushError, push_model

# The client's own way of sending large files without Xet is deprecated by its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

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


def test_a_folder_without_a_model(tmp_path):
    with client_here(HubServer()), pytest.raises(ValueError, match="holds no model"):
        push_model(tmp_path, "org/nothing")
