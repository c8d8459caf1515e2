"""Writes a model or a scored data set as the files that a push uploads."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from class_hf.data.scored import POOL
from class_hf.hub.card_text import plain
from class_hf.hub.contents import DATASET_RECORDS, MODEL_RECORDS, TOWERS, copy_allowed, remove_local_paths

if TYPE_CHECKING:
    from datasets import DatasetDict

_HUB_MARK = "<!-- hub -->"
_WITHOUT_PACKAGE = """\
Without `class_hf`, by the code that this repository carries (`pip install torch transformers rdkit`):

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{repo_id}", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("{repo_id}", trust_remote_code=True)
```
"""


def export_model(
    folder: str | Path, target: str | Path, *, remote_code: bool = False, repo_id: str | None = None
) -> None:
    """Writes what a push of a model uploads into an empty folder.

    The target holds the model as safetensors, the processor, and each tower with its part of the processor in a
    subfolder (`text_encoder/`, `molecule_encoder/`), which `AutoModel.from_pretrained(..., subfolder=)` loads. It also
    holds the adapter if there is one, the card, the plots, and the records of the run. Only files of a fixed list are
    copied. No file is a pickle, and no file holds an absolute local path.

    Args:
        folder (`str` or `Path`): folder of the model and its processor.
        target (`str` or `Path`): an empty folder.
        remote_code (`bool`, *optional*, defaults to `False`): also write the code of the model. If `folder` holds
            such code, it is always written.
        repo_id (`str`, *optional*): repository that the snippets of the card load. Default: `"."`.

    Raises:
        ValueError: if the folder holds no model, or the model is damaged.
    """
    from class_hf.hub.loading import load_pretrained

    check_model_folder(folder)
    folder, target = Path(folder), Path(target)
    remote_code = remote_code or any(folder.glob("modeling_*.py"))
    model, processor = load_pretrained(str(folder))
    # Copied first, so that the files saved below replace them.
    copy_allowed(folder, target, MODEL_RECORDS)
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
        from class_hf.hub.model_card import model_card

        card.write_text(model_card(model), encoding="utf-8")
    text = _with_repository(card.read_text(encoding="utf-8"), repo_id)
    if repo_id is not None:
        text = _with_title(text, folder.absolute().name, repo_id.rpartition("/")[2])
    note = _WITHOUT_PACKAGE.format(repo_id=repo_id or ".") if remote_code else ""
    card.write_text(text.replace(_HUB_MARK + "\n", note), encoding="utf-8")
    remove_local_paths(target)


def export_dataset(folder: str | Path, target: str | Path, *, repo_id: str | None = None) -> None:
    """Writes what a push of a scored data set uploads into an empty folder: Parquet, plots, summary and card.

    Args:
        folder (`str` or `Path`): the output of `class-hf score`.
        target (`str` or `Path`): an empty folder.
        repo_id (`str`, *optional*): repository that the snippet of the card loads. Default: `"."`.

    Raises:
        ValueError: if the folder holds no scored data set.
    """
    from datasets import load_from_disk

    from class_hf.hub.dataset_card import dataset_card

    check_scored_folder(folder)
    folder, target = Path(folder), Path(target)
    data: DatasetDict = load_from_disk(str(folder / "dataset"))
    for split, rows in data.items():
        table = target / (POOL if split == POOL else "data") / f"{split}-00000-of-00001.parquet"
        table.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(table)
    copy_allowed(folder, target, DATASET_RECORDS)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    card = _with_repository(dataset_card(summary), repo_id)
    (target / "README.md").write_text(card, encoding="utf-8")
    remove_local_paths(target)


def check_model_folder(folder: str | Path) -> None:
    """Refuses a folder without a model.

    Args:
        folder (`str` or `Path`): the folder.

    Raises:
        ValueError: if it has no `config.json`.
    """
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{str(folder)!r} holds no model (no config.json). Give the output folder of a training.")


def check_scored_folder(folder: str | Path) -> None:
    """Refuses a folder without a scored data set.

    Args:
        folder (`str` or `Path`): the folder.

    Raises:
        ValueError: if it has no `summary.json` or no data set.
    """
    if not (Path(folder, "summary.json").is_file() and Path(folder, "dataset", "dataset_dict.json").is_file()):
        raise ValueError(f"{str(folder)!r} holds no scored data set. Give the output folder of class-hf score.")


def _with_repository(card: str, repo_id: str | None) -> str:
    """The card with the repository in its snippets, in place of the folder `"."`."""
    return card if repo_id is None else re.sub(r'(from_pretrained|load_dataset)\("\."', rf'\1("{repo_id}"', card)


def _with_title(card: str, folder: str, name: str) -> str:
    """The card with the name of the repository, in place of a title and a `model-index` that name the folder.

    >>> print(_with_title("model-index:\\n- name: first\\n---\\n\\n# first\\n\\nA model.", "first", "chebi"))
    model-index:
    - name: chebi
    ---
    <BLANKLINE>
    # chebi
    <BLANKLINE>
    A model.
    """
    card = re.sub(rf"^- name: {re.escape(folder)}$", f"- name: {name}", card, count=1, flags=re.M)
    return card.replace(f"\n# {plain(folder)}\n", f"\n# {plain(name)}\n", 1)


def _parts_of(processor: Any, side: str) -> list[Any]:
    """The tokenizer or the featurizer of one side."""
    names = ("tokenizer",) if side == "text" else ("feature_extractor", "molecule_tokenizer")
    return [getattr(processor, name) for name in names if hasattr(processor, name)]


def _carry_code(target: Path, *objects: Any) -> None:
    """Copies the code of this package's objects into the folder, and records in each object where its class is.

    `register_for_auto_class` would change the classes for everything that this process saves later.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
    from transformers.dynamic_module_utils import get_relative_import_files

    for part in objects:
        name = type(part).__module__
        if name.startswith("transformers."):
            continue
        reference = f"{name.rpartition('.')[2]}.{type(part).__name__}"
        if isinstance(part, PreTrainedModel):
            config = type(part.config)
            part.config.auto_map = {
                "AutoConfig": f"{config.__module__.rpartition('.')[2]}.{config.__name__}",
                "AutoModel": reference,
            }
        elif isinstance(part, PreTrainedTokenizerBase):
            part._auto_map = {"AutoTokenizer": (reference, None)}
        else:
            part.auto_map = {
                "AutoProcessor" if isinstance(part, ProcessorMixin) else "AutoFeatureExtractor": reference
            }
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        for file in (spec.origin, *get_relative_import_files(spec.origin)):
            shutil.copyfile(file, target / Path(file).name)
