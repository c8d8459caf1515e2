"""Embeds descriptions with a lexical text tower in NumPy, so that one search needs neither torch nor its start-up."""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from class_hf.utils.plugins import remembered_modules

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_TOKENIZER, _PROCESSOR = "tokenizer_config.json", "processor_config.json"
_LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors
_TOWER = "text_model.encoder"
# The weights of the tower and of its projection, by their names in LexicalModel and the dual encoder.
_TENSORS = {
    "embedding": f"{_TOWER}.embedding.weight",
    "norm": f"{_TOWER}.bag_norm.weight",
    "norm_bias": f"{_TOWER}.bag_norm.bias",
    "dense_in": f"{_TOWER}.dense_in.weight",
    "dense_in_bias": f"{_TOWER}.dense_in.bias",
    "dense_out": f"{_TOWER}.dense_out.weight",
    "dense_out_bias": f"{_TOWER}.dense_out.bias",
    "shortcut": f"{_TOWER}.shortcut.weight",
    "projection": "text_projection.weight",
}
_EPSILON = 1e-5  # of torch.nn.LayerNorm
_erf = np.vectorize(math.erf, otypes=[np.float64])


def structure_digest(name: str | None) -> str | None:
    """A hash of everything in the folder of a model but the values of its weights.

    A model with the same digest has the same settings, processor, and names, types and shapes of weights. So a model
    that was complete once needs no complete check again.

    Args:
        name: folder of the model.

    Returns:
        The hash, or None if there is no such folder, or a file is missing or damaged.
    """
    if name is None or not Path(name).is_dir():
        return None
    digest = hashlib.sha256()
    try:
        for file in (_CONFIG, _TOKENIZER, _PROCESSOR):
            content = Path(name, file).read_bytes()
            digest.update(f"{file} {len(content)} ".encode() + content)
        with Path(name, _WEIGHTS).open("rb") as weights:
            size = weights.read(8)
            header = weights.read(min(int.from_bytes(size, "little"), _LONGEST_HEADER))
            weights.seek(0, os.SEEK_END)
            digest.update(size + header + str(weights.tell()).encode())
    except OSError:
        return None
    return digest.hexdigest()


class LightTextEncoder:
    """The text side of a dual encoder with a lexical text tower, for a few descriptions.

    The vectors equal those of the model to about 1e-6. The import of torch and of transformers' models takes several
    seconds, and a command that searches once needs neither.

    Args:
        tokenizer: the tokenizer of the model.
        weights: the arrays by the names above.
    """

    def __init__(self, tokenizer: Any, weights: dict[str, np.ndarray]):
        self._tokenizer, self._weights = tokenizer, weights

    @classmethod
    def open(cls, name: str, digest: str | None) -> "LightTextEncoder | None":
        """Reads the text side of a model.

        Args:
            name: folder of the model.
            digest: [`structure_digest`] of the model when it was known to be complete.

        Returns:
            The encoder, or None if the model has another text tower, is on the Hub, cannot be read, or has another
            digest. The caller then loads the whole model, which checks all files and names what is wrong.
        """
        folder = Path(name)
        if remembered_modules() or digest is None or structure_digest(name) != digest:
            return None
        try:
            config, settings = (json.loads((folder / file).read_text("utf-8")) for file in (_CONFIG, _TOKENIZER))
            is_lexical = config["text_config"]["model_type"] == "lexical" and not config["read_names"]
            if config["architectures"] != ["TextMoleculeDualEncoderModel"] or not is_lexical:
                return None
            if settings["tokenizer_class"] != "LexicalTokenizer":
                return None
            with safe_open(folder / _WEIGHTS, "numpy") as file:
                weights = {short: file.get_tensor(tensor) for short, tensor in _TENSORS.items()}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None
        if any(array.dtype not in (np.float32, np.float16) for array in weights.values()):
            return None
        from class_hf.models.tokenization_lexical import LexicalTokenizer  # imports a part of transformers

        tokenizer = LexicalTokenizer.from_pretrained(str(folder))
        return cls(tokenizer, weights) if len(weights["embedding"]) == tokenizer.num_buckets else None

    def embed_queries(self, side: str, queries: Sequence[str]) -> np.ndarray:
        """Embeds descriptions: (B, D) `float32`, L2-normalised.

        Args:
            side: `"text"`.
            queries: the descriptions.

        Raises:
            ValueError: If the vectors are not finite.
        """
        assert side == "text", side
        weights = {name: array.astype(np.float32) for name, array in self._weights.items() if name != "embedding"}
        rows = [np.concatenate(self._tokenizer.encode_sentences(query)) for query in queries]
        table = self._weights["embedding"]
        bags = np.stack([table[ids].astype(np.float32).sum(0) / math.sqrt(max(len(ids), 1)) for ids in rows])
        centred = bags - bags.mean(1, keepdims=True)
        bags = centred / np.sqrt((centred**2).mean(1, keepdims=True) + _EPSILON)
        bags = bags * weights["norm"] + weights["norm_bias"]
        hidden = bags @ weights["dense_in"].T + weights["dense_in_bias"]
        hidden = (hidden * (1 + _erf(hidden / math.sqrt(2))) / 2).astype(np.float32)  # GELU
        pooled = bags @ weights["shortcut"].T + hidden @ weights["dense_out"].T + weights["dense_out_bias"]
        vectors = pooled @ weights["projection"].T
        if not np.isfinite(vectors).all():
            raise ValueError(
                "the model's vectors are not all finite, because its training diverged. Train it again with a smaller "
                "learning rate, or use another checkpoint."
            )
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
