"""What a repository of this package may hold: an allow-list of files, without local paths and without secrets."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from class_hf.data.scored import POOL

# Subfolder of each tower in an exported model.
TOWERS = {"text": "text_encoder", "molecule": "molecule_encoder"}

_PROCESSOR_FILES = (
    *("processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model"),
)
_ADAPTER_FILES = (
    *("README.md", "adapter_config.json", "adapter_model.safetensors", "dual_encoder.json", *_PROCESSOR_FILES),
    *(f"molecule_tokenizer/{name}" for name in _PROCESSOR_FILES),
)
# What `export_model` copies from a run, in addition to the model that it saves. Other JSON files are never copied.
MODEL_RECORDS = (
    *("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "ranks.npz"),
    *("metrics.json", "plan.json", "train_summary.json", "training_args.json", "log_history.json", "load_report.json"),
    *(f"plots/{name}.png" for name in ("plan", "loss", "validation", "ranks", "retrievals")),
    *(f"adapter/{name}" for name in _ADAPTER_FILES),
)
DATASET_RECORDS = (
    "summary.json",
    *(f"plots/{name}.png" for name in ("raw_scores", "difficulty", "text_against_molecule", "easiest", "hardest")),
)
# What a push may have written. The next push deletes files of these patterns that it does not hold.
PUSHED = {
    "model": (
        *("*.json", "*.py", "*.safetensors", "ranks.npz", "plots/*", "adapter/*", "molecule_tokenizer/*"),
        *(f"{name}/*" for name in TOWERS.values()),
    ),
    "dataset": ("data/*", f"{POOL}/*", "plots/*", "summary.json"),
}

# Files whose text is content, such as a vocabulary, or binary. Local paths are not removed from them.
_CONTENT = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")

# Folders at the root of a file system, on the machines where models are trained.
_ROOTS = (
    "home root Users tmp var mnt media data opt srv work workspace scratch project projects nfs gpfs lustre private "
    "Volumes content kaggle dev run usr etc"
).split()
_ROOT = rf"/(?:{'|'.join(_ROOTS)})"
_PATHS = (
    re.compile(rf"(?<=[\"'`]){_ROOT}(?:/[^/\n\"'`]+)*/?(?=[\"'`])"),  # in quotes, where spaces belong to the path
    re.compile(rf"(?<![\w:/.~]){_ROOT}(?:/[^/\s\"'`,;)\]]+)*/?"),
    re.compile(r"(?<![\w/])~(?:/[^/\s\"'`,;)\]]+)+/?"),
    re.compile(r"(?<!\w)[A-Za-z]:[\\/]{1,2}(?:Users|home|data|work|temp|tmp)(?:[\\/]{1,2}[^\\/\s\"'`,;)\]]+)*"),
)

_SECRETS = {
    "a token of the Hugging Face Hub": rb"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}",
    "a token of GitHub": rb"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})",
    "a token of GitLab": rb"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,}",
    "a key of an API (sk-)": rb"(?<![A-Za-z0-9_-])sk-(?:proj-|svcacct-|ant-[a-z0-9]+-)?[A-Za-z0-9_]{20,}",
    "a key of AWS": rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])",
    "a token of Slack": rb"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a key of Google": rb"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{35}",
    "a token of npm or PyPI": rb"(?<![A-Za-z0-9])(?:npm_[A-Za-z0-9]{36}|pypi-AgEI[A-Za-z0-9_-]{20,})",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "a password in a URL": rb"[a-z][a-z0-9+.-]*://[^\s/:@\"']+:[^\s/:@\"']+@",
}
_SECRET = {name: re.compile(pattern) for name, pattern in _SECRETS.items()}


def copy_allowed(folder: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copies those files of a folder that an allow-list names.

    A link that leads out of the folder is not copied. In a snapshot of the Hub's cache, links to its blobs are.

    Args:
        folder (`Path`): the source.
        target (`Path`): the destination.
        names (`tuple[str, ...]`): paths relative to the folder.
    """
    root = folder.resolve().parents[1] if folder.resolve().parent.name == "snapshots" else folder.resolve()
    for name in names:
        path = folder / name
        if path.is_file() and path.resolve().is_relative_to(root):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def without_local_paths(text: str) -> str:
    """Replaces each absolute local path in a text by its last component.

    Args:
        text (`str`): any text, such as a command.

    >>> without_local_paths("train --data_dir /home/me/data/chebi20 --output_dir ~/runs/one # https://hf.co/home/a/b")
    'train --data_dir chebi20 --output_dir one # https://hf.co/home/a/b'
    >>> without_local_paths("F/C=C/F")  # a SMILES
    'F/C=C/F'
    """
    for pattern in _PATHS:
        text = pattern.sub(lambda match: re.split(r"[\\/]+", match[0].rstrip("\\/"))[-1] or ".", text)
    return text


def remove_local_paths(folder: Path) -> None:
    """Replaces each absolute local path in the JSON and Markdown files of a folder by its last component.

    Args:
        folder (`Path`): an export. Vocabularies are left as they are.
    """
    for path in _text_files(folder):
        if path.name in _CONTENT:
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            value = json.loads(text)
            cleaned = _clean(value)
            if cleaned != value:
                path.write_text(json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            path.write_text(without_local_paths(text), encoding="utf-8")


def check_secrets(folder: Path) -> None:
    """Refuses a folder that holds what looks like a token, a key or a password.

    Args:
        folder (`Path`): what is pushed.

    Raises:
        ValueError: if a file holds one. The message names the file, not the secret.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".safetensors", ".png", ".npz"):
            content = path.read_bytes()
            for name, pattern in _SECRET.items():
                if pattern.search(content):
                    raise ValueError(
                        f"{path.relative_to(folder).as_posix()} holds what looks like {name}; nothing was pushed. "
                        "Remove it, and run the same command again."
                    )


def _clean(value: Any) -> Any:
    """A JSON value without local paths in its strings."""
    if isinstance(value, str):
        # A value that is a path as a whole can contain spaces.
        return without_local_paths(f'"{value}"')[1:-1] if " -" not in value else without_local_paths(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return value


def _text_files(folder: Path) -> Iterator[Path]:
    """The JSON and Markdown files of a folder."""
    yield from sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".md") and path.is_file())
