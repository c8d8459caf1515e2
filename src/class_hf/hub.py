"""Models and scored data sets on the Hub: a folder is made whole, then pushed as one commit.

The client's own login serves (`hf auth login`, or `HF_TOKEN` in the environment); nothing here takes a token.
"""

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import filter_repo_objects

if TYPE_CHECKING:
    from datasets import DatasetDict

TOWERS = {"text": "text_encoder", "molecule": "molecule_encoder"}
POOL = "pool"  # the configuration of a scored data set that holds the candidate molecules
# What a run leaves beside its weights and is worth sharing.
_RECORDS = (
    *("README.md", "LICENSE*", "*.json", "ranks.npz", "plots/*.png"),
    *(f"adapter/**/*{ending}" for ending in (".json", ".safetensors", ".txt", ".md")),
)
# What a push writes, and so what the next one takes away if it is no longer there.
_PUSHED = {
    "model": ("*.json", "*.py", "*.safetensors", "ranks.npz", "plots/*", "adapter/*", "molecule_tokenizer/*")
    + tuple(f"{name}/*" for name in TOWERS.values()),
    "dataset": ("data/*", f"{POOL}/*", "plots/*", "summary.json"),
}
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")
_HUB_MARK = "<!-- hub -->"
_WITHOUT_PACKAGE = """\
Without `class_hf`, by the code that this repository carries (`pip install torch transformers rdkit`):

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{repo_id}", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("{repo_id}", trust_remote_code=True)
```
"""


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
    _check_model(folder)
    go_on = ["python", "recipes/push.py", "--model", str(folder), "--repo_id", repo_id]
    go_on += ["--private"] if private else []
    go_on += ["--trust_remote_code_export"] if remote_code else []
    with tempfile.TemporaryDirectory(prefix="class_hf_push_") as scratch, naming_failures(repo_id, shlex.join(go_on)):
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
    _check_dataset(folder)
    go_on = ["python", "recipes/push.py", "--dataset", str(folder), "--repo_id", repo_id]
    go_on += ["--private"] if private else []
    with tempfile.TemporaryDirectory(prefix="class_hf_push_") as scratch, naming_failures(repo_id, shlex.join(go_on)):
        repo_id = HfApi().create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
        export_dataset(folder, scratch, repo_id=repo_id)
        return _commit(Path(scratch), repo_id, "dataset", revision, commit_message)


def export_model(
    folder: str | Path, target: str | Path, *, remote_code: bool = False, repo_id: str | None = None
) -> None:
    """Writes into an empty folder what a push of a model uploads.

    That is the model as safetensors, the processor, each tower with its own part of the processor in a subfolder
    (`text_encoder/`, `molecule_encoder/`; `AutoModel.from_pretrained(..., subfolder=)` loads it alone), the adapter
    if there is one, the card, the plots, and the run's records as JSON. No file is a pickle.

    Args:
        folder: with the model and its processor.
        target: an empty folder.
        remote_code: carry the code of the model too; a folder that carries code already keeps it.
        repo_id: what the card's snippets load; None leaves them with `"."`.

    Raises:
        ValueError: if the folder holds no model.
    """
    from transformers import AutoModel, AutoProcessor

    import class_hf  # noqa: F401  # makes the auto classes know the models

    _check_model(folder)
    folder, target = Path(folder), Path(target)
    remote_code = remote_code or any(folder.glob("modeling_*.py"))
    model = AutoModel.from_pretrained(str(folder))
    processor = AutoProcessor.from_pretrained(str(folder))
    # First, so that what is saved below wins.
    for path in _chosen(folder, _RECORDS):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, target / path)
    for side, name in TOWERS.items():
        tower = getattr(model, f"{side}_model", None)
        if tower is None:
            continue
        for part in (tower, *_parts_of(processor, side)):
            if remote_code:
                _carry_code(target, part)
            part.save_pretrained(target / name)
    if remote_code:
        _carry_code(target, model, processor)
    model.save_pretrained(target)
    processor.save_pretrained(target)
    card = target / "README.md"
    if not card.is_file():
        from class_hf.model_card import model_card

        card.write_text(model_card(model), encoding="utf-8")
    text = _naming_repository(card.read_text(encoding="utf-8"), repo_id)
    note = _WITHOUT_PACKAGE.format(repo_id=repo_id or ".") if remote_code else ""
    card.write_text(text.replace(_HUB_MARK + "\n", note), encoding="utf-8")


def export_dataset(folder: str | Path, target: str | Path, *, repo_id: str | None = None) -> None:
    """Writes into an empty folder what a push of a scored data set uploads: Parquet, plots, summary and card.

    Args:
        folder: what `recipes/score.py` wrote.
        target: an empty folder.
        repo_id: what the card's snippet loads; None leaves it with `"."`.

    Raises:
        ValueError: if the folder holds no scored data set.
    """
    from datasets import load_from_disk

    from class_hf.dataset_card import dataset_card

    _check_dataset(folder)
    folder, target = Path(folder), Path(target)
    data: DatasetDict = load_from_disk(str(folder / "dataset"))
    for split, rows in data.items():
        table = target / (POOL if split == POOL else "data") / f"{split}-00000-of-00001.parquet"
        table.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(table)
    for path in _chosen(folder, ("summary.json", "plots/*.png")):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, target / path)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    card = _naming_repository(dataset_card(summary), repo_id)
    (target / "README.md").write_text(card, encoding="utf-8")


def load_scored(repo_id: str) -> "DatasetDict | None":
    """A scored data set of the Hub with its pool and difficulty columns; None if the name stands for anything else."""
    from datasets import DatasetDict, get_dataset_config_names, load_dataset

    try:
        if set(get_dataset_config_names(repo_id)) != {"pairs", POOL}:
            return None
    except Exception:  # no such data set, no network: what loads it next has the clear error
        return None
    pairs, pool = load_dataset(repo_id, "pairs"), load_dataset(repo_id, POOL)
    if any("difficulty" not in rows.column_names for rows in pairs.values()):
        return None
    return DatasetDict({**pairs, **pool})


def _check_model(folder: str | Path) -> None:
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{str(folder)!r} holds no model (no config.json). Give the output folder of a training.")


def _check_dataset(folder: str | Path) -> None:
    if not (Path(folder, "summary.json").is_file() and Path(folder, "dataset", "dataset_dict.json").is_file()):
        raise ValueError(f"{str(folder)!r} holds no scored data set. Give the output folder of recipes/score.py.")


def _naming_repository(card: str, repo_id: str | None) -> str:
    """The card's snippets with the repository in place of the folder that they stand in."""
    return card if repo_id is None else re.sub(r'(from_pretrained|load_dataset)\("\."', rf'\1("{repo_id}"', card)


def _chosen(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    """Paths of the files in the folder that match; a checkpoint's never do."""
    paths = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in paths if (folder / path).is_file() and not Path(path).name.startswith("."))


def _parts_of(processor: Any, side: str) -> list[Any]:
    """The tokenizer or featurizer of one side."""
    names = ("tokenizer",) if side == "text" else ("feature_extractor", "molecule_tokenizer")
    return [getattr(processor, name) for name in names if hasattr(processor, name)]


def _carry_code(target: Path, *objects: Any) -> None:
    """Copies the code of those objects that are ours into the folder, and notes in each where its class is.

    By hand, since `register_for_auto_class` would change the classes for all that is saved later in this process.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
    from transformers.dynamic_module_utils import get_relative_import_files

    for one in objects:
        name = type(one).__module__
        if name.startswith("transformers."):
            continue
        reference = f"{name.rpartition('.')[2]}.{type(one).__name__}"
        if isinstance(one, PreTrainedModel):
            config = type(one.config)
            one.config.auto_map = {
                "AutoConfig": f"{config.__module__.rpartition('.')[2]}.{config.__name__}",
                "AutoModel": reference,
            }
        elif isinstance(one, PreTrainedTokenizerBase):
            one._auto_map = {"AutoTokenizer": (reference, None)}
        else:
            one.auto_map = {"AutoProcessor" if isinstance(one, ProcessorMixin) else "AutoFeatureExtractor": reference}
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        for file in (spec.origin, *get_relative_import_files(spec.origin)):
            shutil.copyfile(file, target / Path(file).name)


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
def naming_failures(repo_id: str, go_on: str) -> Iterator[None]:
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
