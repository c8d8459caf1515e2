"""Models and scored data sets on the Hub: a folder is made whole, then pushed as one commit.

The client's own login serves (`hf auth login`, or `HF_TOKEN` in the environment); nothing here takes a token.
"""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from class_hf.data.scored import POOL

if TYPE_CHECKING:
    from datasets import DatasetDict

TOWERS = {"text": "text_encoder", "molecule": "molecule_encoder"}
# What a run leaves beside its weights and is worth sharing.
_RECORDS = (
    *("README.md", "LICENSE*", "*.json", "ranks.npz", "plots/*.png"),
    *(f"adapter/**/*{ending}" for ending in (".json", ".safetensors", ".txt", ".md")),
)
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

    check_model_folder(folder)
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
        from class_hf.hub.model_card import model_card

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

    from class_hf.hub.dataset_card import dataset_card

    check_scored_folder(folder)
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


def check_model_folder(folder: str | Path) -> None:
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{str(folder)!r} holds no model (no config.json). Give the output folder of a training.")


def check_scored_folder(folder: str | Path) -> None:
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
