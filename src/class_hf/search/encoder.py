"""Embeds queries and tables for an index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset

from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import TEXT_FEATURES, prepare_molecules
from class_hf.evaluation.embedding import embed, evaluating, logit_scale
from class_hf.hub.loading import load_model
from class_hf.utils.model_output import output_fields
from class_hf.utils.protocols import Processor, RetrievalModel

QUERIES_AT_ONCE = 256


class IndexEncoder:
    """A model with its processor, which turns queries and tables into L2-normalised vectors.

    Args:
        model (`RetrievalModel`): a dual encoder. It is used in evaluation mode, and its mode is restored.
        processor (`Processor`): the processor of the model.
        name (`str`, *optional*): name of the model, for errors.
    """

    def __init__(self, model: RetrievalModel, processor: Processor, name: str | None = None):
        self.model, self.processor = model, processor
        self.name = name or type(model).__name__

    @classmethod
    def open(
        cls, model: RetrievalModel | str, processor: Processor | None = None, revision: str | None = None
    ) -> "IndexEncoder":
        """Loads a model by its name, or takes a loaded one.

        Args:
            model: the model, or its folder or Hub id.
            processor: the processor of a loaded model.
            revision (`str`, *optional*): revision of a model on the Hub.

        Raises:
            ValueError: If the model cannot be loaded, or a loaded one comes without its processor.
        """
        name = model if isinstance(model, str) else None
        if isinstance(model, str):
            loaded, processor = load_model(model, revision)
        else:
            loaded = model
        if processor is None:
            raise ValueError("the processor is not given; pass it with the model, or pass the model's name alone.")
        return cls(loaded, processor, name)

    def embed_queries(self, side: str, queries: Sequence[str]) -> np.ndarray:
        """Embeds descriptions (`side="text"`) or SMILES (`side="molecule"`): (B, D) `float32`."""
        parts = [queries[start : start + QUERIES_AT_ONCE] for start in range(0, len(queries), QUERIES_AT_ONCE)]
        return np.concatenate([self._batch(side, list(part)) for part in parts])

    def _batch(self, side: str, queries: list[str]) -> np.ndarray:
        device = next(self.model.parameters()).device
        processor: Any = self.processor  # a call is more than the protocol asks for
        batch = processor(text=queries) if side == "text" else processor(smiles=queries)
        with evaluating(self.model):
            output = self.model(**{name: value.to(device) for name, value in batch.items()})
        return _normalise(output_fields(output)[f"{side}_embeds"]).cpu().numpy()

    def embed_captions(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        """Embeds any number of captions: (N, D) `float32`."""
        rows = self._text_rows(texts)
        collator = TextMoleculeCollator(self.processor)
        return _normalise(embed(self.model, rows, collator, "text", batch_size)).numpy()

    def prepare(self, table: Dataset, num_proc: int | None) -> Dataset:
        """The features of a table's molecules, from its column `smiles`."""
        return prepare_molecules(table.select_columns(["smiles"]), self.processor, num_proc)

    def embed_molecules(self, prepared: Dataset, batch_size: int) -> torch.Tensor:
        """Embeds prepared molecules: (N, D) `float32`."""
        return _normalise(embed(self.model, prepared, TextMoleculeCollator(self.processor), "molecule", batch_size))

    def embed_features(self, side: str, features: Sequence[bytes], batch_size: int) -> np.ndarray:
        """Embeds encoded rows of a side, results of the processor: (N, D) `float32`.

        The batches are those of [`~class_hf.evaluation.embedding.embed`], so the vectors are equal. A `Dataset` and a
        data loader would take longer than a light tower.
        """
        distinct = list(dict.fromkeys(features))  # equal rows have equal vectors
        distinct.sort(key=len, reverse=True)
        collate = {"text": self.processor.collate_text, "molecule": self.processor.collate_molecules}[side]
        device = next(self.model.parameters()).device
        vectors = []
        with evaluating(self.model):
            for start in range(0, len(distinct), batch_size):
                batch = collate(distinct[start : start + batch_size])
                output = self.model(**{name: value.to(device) for name, value in batch.items()})
                vectors.append(output_fields(output)[f"{side}_embeds"].float())
        rows = {feature: row for row, feature in enumerate(distinct)}
        return _normalise(torch.cat(vectors)).cpu().numpy()[[rows[feature] for feature in features]]

    def logit_scale(self, text: str) -> float:
        """The factor of the model's logits."""
        return float(logit_scale(self.model, self._text_rows([text]), TextMoleculeCollator(self.processor)))

    def _text_rows(self, texts: Sequence[str]) -> Dataset:
        return Dataset.from_dict({TEXT_FEATURES: self.processor.encode_text(list(texts))})


def _normalise(vectors: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(vectors).all():
        raise ValueError(
            "the model's vectors are not all finite, because its training diverged. Train it again with a smaller "
            "learning rate, or use another checkpoint."
        )
    return F.normalize(vectors.float(), dim=-1)
