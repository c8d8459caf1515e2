"""Pushes models and scored data sets to the Hub, each as one commit.

The login of the Hub's client is used (`hf auth login`, or `HF_TOKEN` in the environment). No function takes a token.
"""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import filter_repo_objects

from class_hf.hub.contents import PUSHED, check_secrets
from class_hf.hub.export import check_model_folder, check_scored_folder, export_dataset, export_model
from class_hf.hub.loading import short_message


class PushError(OSError):
    """A push that failed. The message says why, and which command to run."""


def push_model(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    remote_code: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload model",
) -> CommitInfo:
    """Pushes a trained model as one commit. [`~class_hf.hub.export.export_model`] describes its files.

    Args:
        folder (`str` or `Path`): folder of the model and its processor, written by `class-hf train` or
            `save_pretrained`.
        repo_id (`str`): `NAME` or `ORG/NAME`. A missing repository is created.
        private (`bool`, *optional*): whether a new repository is private. Default: the setting of the account.
        remote_code (`bool`, *optional*, defaults to `False`): also push the code of the model, so that
            `trust_remote_code=True` loads it without this package.
        revision (`str`, *optional*): branch. A missing branch is created. Default: `main`.
        commit_message (`str`, *optional*): message of the commit.

    Returns:
        The commit, with `commit_url` and `oid`.

    Raises:
        PushError: if the Hub or the network fails, or another push changed the repository meanwhile. The repository
            is then unchanged by this push.
        ValueError: if the folder holds no model, the model is damaged, or a file holds a secret.

    Example:

    ```python
    push_model("outputs/demo", "me/demo", private=True, remote_code=True)
    ```
    """
    check_model_folder(folder)
    command = ["class-hf", "push", "--model", str(folder), "--repo_id", repo_id]
    command += ["--private"] if private else []
    command += ["--revision", revision] if revision else []
    command += ["--trust_remote_code_export"] if remote_code else []
    with tempfile.TemporaryDirectory(prefix="class_hf_push_") as scratch, push_errors(repo_id, shlex.join(command)):
        # Created before the export, so that a wrong login or name fails at once.
        repo_id, parent = _open_repository(repo_id, "model", private, revision)
        export_model(folder, scratch, remote_code=remote_code, repo_id=repo_id)
        return _commit(Path(scratch), repo_id, "model", revision, parent, commit_message)


def push_dataset(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload scored pairs",
) -> CommitInfo:
    """Pushes a scored data set as one commit.

    `load_dataset(repo_id)` then loads the pairs, and `load_dataset(repo_id, "pool")` the candidate molecules.

    Args:
        folder (`str` or `Path`): the output of `class-hf score`.
        repo_id (`str`): as for [`push_model`].
        private (`bool`, *optional*): as for [`push_model`].
        revision (`str`, *optional*): as for [`push_model`].
        commit_message (`str`, *optional*): message of the commit.

    Returns:
        The commit.

    Raises:
        PushError: as for [`push_model`].
        ValueError: if the folder holds no scored data set, or a file holds a secret.
    """
    check_scored_folder(folder)
    command = ["class-hf", "push", "--dataset", str(folder), "--repo_id", repo_id]
    command += ["--private"] if private else []
    command += ["--revision", revision] if revision else []
    with tempfile.TemporaryDirectory(prefix="class_hf_push_") as scratch, push_errors(repo_id, shlex.join(command)):
        repo_id, parent = _open_repository(repo_id, "dataset", private, revision)
        export_dataset(folder, scratch, repo_id=repo_id)
        return _commit(Path(scratch), repo_id, "dataset", revision, parent, commit_message)


def _open_repository(repo_id: str, repo_type: str, private: bool | None, revision: str | None) -> tuple[str, str]:
    """The full name of the repository, which is created if it is missing, and the last commit of the branch."""
    api = HfApi()
    repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
    parent = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
    assert parent is not None
    return repo_id, parent


def _commit(folder: Path, repo_id: str, repo_type: str, revision: str | None, parent: str, message: str) -> CommitInfo:
    """One commit after which the repository holds the folder. Files of an earlier push that it lacks are deleted.

    `upload_folder` makes several commits if it uploads by Xet. With `parent`, the Hub refuses the commit if another
    push came first.
    """
    check_secrets(folder)
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    api = HfApi()
    existing = api.list_repo_files(repo_id, repo_type=repo_type, revision=parent)
    stale = set(filter_repo_objects(existing, allow_patterns=list(PUSHED[repo_type]))) - set(names)
    return api.create_commit(
        repo_id,
        [CommitOperationDelete(path_in_repo=name) for name in sorted(stale)]
        + [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in names.items()],
        commit_message=message,
        repo_type=repo_type,
        revision=revision,
        parent_commit=parent,
    )


_REASONS = {
    400: "The Hub refused the files. If the card is named, correct README.md in the folder.",
    401: "The Hub does not know this login. Log in with `hf auth login`, or set HF_TOKEN.",
    403: "This login may not write there. Check the name, and that the token may write.",
    404: "There is no such repository for this login. Check the name, and that the token may write.",
    409: "Another push wrote to the repository at the same time.",
    412: "Another push changed the repository while this one ran.",
}


@contextmanager
def push_errors(repo_id: str, command: str) -> Iterator[None]:
    """Turns failures of the Hub's client into a [`PushError`] of one line.

    Args:
        repo_id (`str`): the repository, for the message.
        command (`str`): the command to run again, for the message.

    Raises:
        PushError: if the client or the network fails.
    """
    try:
        yield
    except Exception as error:
        status = _status(error)
        if status is None and not _is_from_client(error):
            raise  # a fault of the folder, which has its own message
        reason = _REASONS.get(status or 0, "The Hub or the network may be temporarily unavailable.")
        raise PushError(
            f"the push to {repo_id} failed ({_message(error)}). {reason} This push changed nothing in the repository; "
            f"files that were uploaded are not sent again. Run again: {command}"
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """The HTTP status that caused an error, if there is one."""
    statuses = (getattr(getattr(cause, "response", None), "status_code", None) for cause in _chain(error))
    return next((status for status in statuses if status is not None), None)


def _is_from_client(error: BaseException) -> bool:
    """Whether the client or its HTTP library raised the error. The library depends on the version of the client."""
    libraries = ("huggingface_hub", "httpx", "httpx2")
    return any(type(cause).__module__.split(".")[0] in libraries for cause in _chain(error))


def _message(error: BaseException) -> str:
    """The first message of an error and its causes, on one line."""
    # The HTTP library adds a link to a page on status codes.
    texts = [str(cause).split("For more information check:")[0] for cause in _chain(error)]
    return next((short_message(text) for text in texts if text.strip()), type(error).__name__)
