"""Writes the text tower as a folder of sentence-transformers."""

import copy
import inspect
import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors.torch import save_file
from torch import nn

from class_hf.hub.contents import remove_local_paths
from class_hf.models.configuration_text_molecule import TOWER_CONFIGS
from class_hf.models.modeling_text_molecule import TextMoleculeDualEncoderModel
from class_hf.utils.files import atomic_folder, write_json


def save_sentence_transformer(model: Any, processor: Any, folder: str | Path) -> None:
    """Writes transformer, mean pooling, projection and normalisation, so that `encode` equals `get_text_features`.

    The files are those of sentence-transformers 2 to 5. sentence-transformers 6 saves other module names, which
    text-embeddings-inference does not know. It would skip the projection with only a warning.

    Args:
        model ([`TextMoleculeDualEncoderModel`]): a dual encoder with a transformer as text tower.
        processor ([`TextMoleculeProcessor`]): its processor. Captions are truncated to its `max_text_length`.
        folder (`str` or `Path`): a new or empty folder. It is written completely or not at all.

    Raises:
        ValueError: if the text tower is no transformer, or the model does more to captions than these four steps.
        FileExistsError: if the folder is not empty.

    Example:

    ```python
    save_sentence_transformer(model, processor, "exported")
    SentenceTransformer("exported").encode(["The molecule is a primary alcohol."])  # (1, D), L2-normalised
    ```
    """
    _check_exportable(model)
    with atomic_folder(folder) as unfinished:
        _write(model, processor, unfinished)
        remove_local_paths(unfinished)


def _check_exportable(model: Any) -> None:
    """Refuses a model whose text encoding is not transformer, mean pooling, projection and normalisation."""
    tower = model.text_model.config.model_type
    if tower in TOWER_CONFIGS:
        raise ValueError(
            f"the text tower is {tower!r}, a bag of hashed n-grams; sentence-transformers and "
            "text-embeddings-inference run transformers only. Use class_hf.Encoder, or train with a transformer as "
            "text_model."
        )
    if model.config.read_names:
        raise ValueError(
            "the model reads the structures that a caption names, which sentence-transformers cannot run. Train it "
            "without read_names to export its text tower."
        )
    if type(model).get_text_features is not TextMoleculeDualEncoderModel.get_text_features:
        raise ValueError(
            f"{type(model).__name__} does more to a caption than mean pooling, projection and normalisation, which "
            "sentence-transformers cannot run. Only the plain dual encoder can be exported."
        )


def _write(model: Any, processor: Any, folder: Path) -> None:
    """Writes all files of the export into a folder."""
    weight = model.text_projection.weight.detach().float().cpu().contiguous()
    width, hidden = weight.shape
    model.text_model.save_pretrained(folder)
    # A copy without the truncation and padding of the last batch, which the tokenizer object keeps.
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.model_max_length = processor.max_text_length
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    # A tokenizer that was loaded with its processor names the processor, which would then be loaded in its place.
    described = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    described.pop("processor_class", None)
    write_json(folder / "tokenizer_config.json", described)
    steps = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense", "Normalize": "3_Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"}
        for place, (name, path) in enumerate(steps.items())
    ]
    write_json(folder / "modules.json", modules)
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": processor.max_text_length, "do_lower_case": False}
    )
    write_json(folder / "config_sentence_transformers.json", {"prompts": {}, "similarity_fn_name": "cosine"})
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    activation = f"{nn.Identity.__module__}.{nn.Identity.__name__}"
    dense = {"in_features": hidden, "out_features": width, "bias": False, "activation_function": activation}
    write_json(folder / "2_Dense" / "config.json", dense)
    save_file({"linear.weight": weight}, folder / "2_Dense" / "model.safetensors", metadata={"format": "pt"})
    (folder / "3_Normalize").mkdir()
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["chemistry", "class_hf", "molecules", "sentence-transformers", "text-molecule-retrieval"],
    )
    has_pooler = "add_pooling_layer" in inspect.signature(type(model.text_model)).parameters
    values = {"width": width, "length": processor.max_text_length, "note": _NO_POOLER if has_pooler else ""}
    ModelCard(_CARD.format(data=data.to_yaml(), **values)).save(folder / "README.md")


_CARD = """---
{data}
---

# Text tower of a text-molecule dual encoder

Encodes descriptions of molecules as L2-normalised vectors of {width} numbers. Captions are truncated to {length}
tokens. The vector of a description is close to the vector of its molecule, which the molecule tower of the same
`class_hf` model computes.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")  # or the id of this repository
vectors = model.encode(["The molecule is a primary alcohol."])
```

```bash
text-embeddings-router --model-id . --dtype float32 --auto-truncate
```
{note}"""

_NO_POOLER = """
transformers reports that the weights of a `pooler` are missing. Mean pooling does not use them.
"""
