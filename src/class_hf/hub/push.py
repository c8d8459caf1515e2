"""Push models and scored data sets to the Hub, each as one commit."""

import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import filter_repo_objects

from class_hf.data.scored import POOL
from class_hf.hub.export import TOWERS, check_model_folder, check_scored_folder, export_dataset, export_model

if TYPE_CHECKING:
    pass

# What a push writes, and so what the next one takes away if it is no longer there.
_PUSHED = {
    "model": ("*.json", "*.py", "*.safetensors", "ranks.npz", "plots/*", "adapter/*", "molecule_tokenizer/*")
    + tuple(f"{name}/*" for name in TOWERS.values()),
    "dataset": ("data/*", f"{POOL}/*", "plots/*", "summary.json"),
}
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")


class PushError(OSError):
    """A push that did not happen; says what to do."""


def push_model(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    remote_code: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload model",
) -> CommitInfo:
    """Pushes a trained model as one commit: see [`export_model`] for what it holds.

    Args:
        folder: what `recipes/train.py` or `save_pretrained` wrote: model and processor.
        repo_id: `NAME` or `ORG/NAME`; the repository is made if there is none.
        private: whether a new repository is private; None is the account's default.
        remote_code: carry the code too, so that `trust_remote_code=True` loads it without this package.
        revision: branch; None is `main`.
        commit_message: of the commit.

    Returns:
        the commit, with `commit_url` and `oid`.

    Raises:
        PushError: if the Hub or the network fails; the repository's revision is then as it was.
        ValueError: if the folder holds no model, or a file holds a token.

    Example:

    ```python
    push_model("outputs/demo", "me/demo", private=True, remote_code=True)
    ```
    """
    check_model_folder(folder)
    go_on = ["python", "recipes/push.py", "--model", str(folder), "--repo_id", repo_id]
    go_on += ["--private"] if private else []
    go_on += ["--trust_remote_code_export"] if remote_code else []
    with tempfile.TemporaryDirectory(prefix="class_hf_push_") as scratch, push_errors(repo_id, shlex.join(go_on)):
        # Asked first, for a wrong login or name should not wait for the export.
        repo_id = HfApi().create_repo(repo_id, private=private, exist_ok=True).repo_id
        export_model(folder, scratch, remote_code=remote_code, repo_id=repo_id)
        return _commit(Path(scratch), repo_id, "model", revision, commit_message)


def push_dataset(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload scored pairs",
) -> CommitInfo:
    """Pushes a scored data set as one commit: `load_dataset(repo_id)` gives the pairs, `load_dataset(repo_id, "pool")`
    the candidate molecules.

    Args:
        folder: what `recipes/score.py` wrote.
        repo_id, private, revision, commit_message: as of [`push_model`].

    Returns:
        the commit; errors are those of [`push_model`].
    """
    check_scored_folder(folder)
    go_on = ["python", "recipes/push.py", "--dataset", str(folder), "--repo_id", repo_id]
    go_on += ["--private"] if private else []
    with tempfile.TemporaryDirectory(prefix="class_hf_push_") as scratch, push_errors(repo_id, shlex.join(go_on)):
        repo_id = HfApi().create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
        export_dataset(folder, scratch, repo_id=repo_id)
        return _commit(Path(scratch), repo_id, "dataset", revision, commit_message)


def _commit(folder: Path, repo_id: str, repo_type: str, revision: str | None, message: str) -> CommitInfo:
    """One commit that makes the repository hold the folder; what an earlier push left and this one lacks goes.

    Not `upload_folder`, which commits in parts when it uploads by Xet.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        if path.suffix != ".safetensors" and _TOKEN.search(path.read_bytes()):
            raise ValueError(
                f"{path.relative_to(folder)} holds what looks like a token of the Hub; nothing was pushed."
            )
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    api = HfApi()
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
    there = api.list_repo_files(repo_id, repo_type=repo_type, revision=revision)
    left = set(filter_repo_objects(there, allow_patterns=list(_PUSHED[repo_type]))) - set(names)
    return api.create_commit(
        repo_id,
        [CommitOperationDelete(path_in_repo=name) for name in sorted(left)]
        + [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in names.items()],
        commit_message=message,
        repo_type=repo_type,
        revision=revision,
    )


_REASONS = {
    400: "The Hub does not accept what was sent; if it is the card, mend README.md of the folder.",
    401: "The Hub does not know you: log in with `hf auth login`, or set HF_TOKEN.",
    403: "The login may not write there: check the name, and that the token may write.",
    404: "There is no such repository for this login: check the name, and that the token may write.",
}


@contextmanager
def push_errors(repo_id: str, go_on: str) -> Iterator[None]:
    """Failures of the client as a [`PushError`] that names the repository, what happened, and how to go on."""
    try:
        yield
    except Exception as error:
        status = _status(error)
        if status is None and not _from_client(error):
            raise  # a fault of the folder, which has its own message
        reason = _REASONS.get(status or 0, "Nothing may be wrong on this side: try again.")
        raise PushError(
            f"the push to {repo_id} failed ({_what(error)}). {reason} The repository has no half-made "
            f"revision, and files that were uploaded are not sent again. To go on: {go_on}"
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error, if one is."""
    statuses = (getattr(getattr(one, "response", None), "status_code", None) for one in _chain(error))
    return next((status for status in statuses if status is not None), None)


def _from_client(error: BaseException) -> bool:
    """Whether the client or its HTTP library raised it, whichever that is in the installed version."""
    return any(type(one).__module__.split(".")[0] in ("huggingface_hub", "httpx", "httpx2") for one in _chain(error))


def _what(error: BaseException) -> str:
    """The error's message on one line; of the one behind it, if it has none."""
    # Without the HTTP library's advice to read about status codes.
    texts = [" ".join(str(one).split("For more information check:")[0].split()) for one in _chain(error)]
    return next(filter(None, texts), type(error).__name__)[:400]
