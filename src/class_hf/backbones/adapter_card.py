"""The model card of an adapter."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from peft import PeftConfig

_CARD = """---
{data}
---

# Adapter of a text-molecule dual encoder

A {kind} adapter on {base}, trained with `class_hf`. It also holds the other trained weights, such as the projections.

```python
from class_hf.backbones.adapters import load_adapter, merge_adapter
from transformers import AutoProcessor

folder = "."  # or the id of this repository
model = load_adapter(folder).eval()
processor = AutoProcessor.from_pretrained(folder)
outputs = model(**processor(text=["The molecule is a primary alcohol."], smiles=["CCO", "c1ccccc1"]))
scores = outputs["text_embeds"] @ outputs["molecule_embeds"].T  # cosines, (1, 2)
merged = merge_adapter(model)  # a plain model, to be saved and served
```
"""


def adapter_card(config: PeftConfig, bases: Mapping[str, str]) -> str:
    """Writes the model card of an adapter.

    The card of peft itself names local folders as base models, which the Hub refuses.

    Args:
        config: configuration of the adapter.
        bases: name of each part of the base: `{"dual encoder": ...}` or `{"text": ..., "molecule": ...}`.

    Returns:
        The card as Markdown.
    """
    on_hub = [name for name in bases.values() if ":" not in name and not Path(name).exists()]
    data = ModelCardData(
        library_name="peft",
        base_model=on_hub or None,
        pipeline_tag="feature-extraction",
        tags=["chemistry", "class_hf", str(config.peft_type.value).lower(), "molecules", "text-molecule-retrieval"],
    )
    base = " and ".join(f"the {side} `{name}`" for side, name in bases.items())
    return str(ModelCard(_CARD.format(data=data.to_yaml(), kind=config.peft_type.value, base=base)))
