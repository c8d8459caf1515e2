"""Pipelines of transformers: molecules or captions to vectors, and descriptions to molecules.

`import class_hf` is enough for `transformers.pipeline` to know both tasks (see `_register.py`).
"""

import types
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from transformers.pipelines.base import GenericTensor, Pipeline

_BATCH_SIZE = 256


class _BatchPipeline(Pipeline):
    """A pipeline whose `preprocess` gets a whole batch of strings.

    The base joins single inputs by code that pads tensors of a few known names, and cannot join graphs.
    """

    model: Any
    processor: Any
    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_feature_extractor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False

    def __call__(self, inputs: str | Iterable[str], *, batch_size: int | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """
        Args:
            inputs: a string, a list or column of them, or a generator, which is read as it is needed.
            batch_size: inputs that go through the model at once; by default the pipeline's own, or else 256.
            kwargs: as the pipeline's class says.

        Returns:
            the result of a string; a list of results; or of a generator an iterator over them.
        """
        size = batch_size or self._batch_size or _BATCH_SIZE
        if isinstance(inputs, str):
            return super().__call__([[inputs]], batch_size=1, **kwargs)[0][0]
        results = chain.from_iterable(super().__call__(_batches(inputs, size), batch_size=1, **kwargs))
        return results if isinstance(inputs, types.GeneratorType) else list(results)

    def get_inference_context(self) -> Any:
        """Without gradients and dropout; a model in training goes on in training afterwards."""
        from class_hf.evaluation.embedding import evaluating

        return lambda: evaluating(self.model)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves model and processor, which load again as any folder of this package's."""
        # The base would save the processor's parts without it, and mark the model as one that needs remote code.
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class MoleculeFeatureExtractionPipeline(_BatchPipeline):
    """SMILES to unit vectors; captions to vectors of the same space.

    Args of a call, or of `pipeline(...)` for all calls:
        side: `"molecule"` (default), the inputs are SMILES; `"text"`, they are descriptions.
        return_tensors: give tensors (D,) in place of lists of D floats.

    Raises:
        ValueError: if a SMILES cannot be read, a text is empty, or `side` is neither.

    Example:

    ```python
    import class_hf
    from transformers import pipeline

    embed = pipeline("molecule-feature-extraction", model="outputs/demo")
    vectors = embed(["CCO", "CC(=O)O"])  # two lists of D floats
    query = embed("a carboxylic acid", side="text")
    ```
    """

    def _sanitize_parameters(
        self, side: str | None = None, return_tensors: bool | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        _refuse(unknown, "side, return_tensors, batch_size")
        if side not in (None, "molecule", "text"):
            raise ValueError(f"side is {side!r}; expected 'molecule' (SMILES) or 'text' (descriptions).")
        chosen = {} if side is None else {"side": side}
        return chosen, chosen, {} if return_tensors is None else {"return_tensors": return_tensors}

    def preprocess(self, inputs: list[str], side: str = "molecule") -> dict[str, GenericTensor]:  # type: ignore[override]
        return dict(self.processor(text=inputs) if side == "text" else self.processor(smiles=inputs))

    def _forward(self, inputs: dict[str, GenericTensor], side: str = "molecule") -> torch.Tensor:  # type: ignore[override]
        return self.model(**inputs)[f"{side}_embeds"]

    def postprocess(self, vectors: torch.Tensor, return_tensors: bool = False) -> list[Any]:  # type: ignore[override]
        return list(vectors.float()) if return_tensors else vectors.float().tolist()


class TextMoleculeRetrievalPipeline(_BatchPipeline):
    """Descriptions to the molecules of an index.

    Args of `pipeline(...)`:
        index: a [`MoleculeIndex`], or the folder or URL of one that the model made.

    Args of a call, or of `pipeline(...)` for all calls:
        k: how many molecules, 10 by default.
        filters: a [`MoleculeFilter`], or a dict of its arguments.
        query_bank: as of [`MoleculeIndex.search`].

    A text gives a list of dicts with `rank`, `score`, `id`, `smiles` and `fields`, the nearest first.

    Raises:
        ValueError: if there is no index, or it is another model's; and as [`MoleculeIndex.search`].

    Example:

    ```python
    import class_hf
    from transformers import pipeline

    find = pipeline("text-molecule-retrieval", model="outputs/demo", index="outputs/index")
    for hit in find("a steroid ester", k=5, filters={"max_weight": 400}):
        print(hit["rank"], hit["score"], hit["smiles"])
    ```
    """

    def __init__(self, *args: Any, index: Any = None, **kwargs: Any):
        from class_hf.search.index import MoleculeIndex

        super().__init__(*args, **kwargs)
        if index is None:
            raise ValueError("index is not given; pass index=, a MoleculeIndex or the folder of one.")
        store = MoleculeIndex.load(index).store if isinstance(index, str | Path) else index.store
        # With this pipeline's model in place of another copy of it; the index checks that it is the same.
        self.index = MoleculeIndex(store, self.model, self.processor)

    def _sanitize_parameters(
        self, k: int | None = None, filters: Any = None, query_bank: bool | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        from class_hf.search.query import MoleculeFilter

        _refuse(unknown, "k, filters, query_bank, batch_size")
        if isinstance(filters, dict):
            try:
                filters = MoleculeFilter(**filters)
            except TypeError as error:
                raise ValueError(f"filters are {filters!r}, but {str(error).split('() ')[-1]}.") from error
        given = {"k": k, "filters": filters, "query_bank": query_bank}
        return {}, {name: value for name, value in given.items() if value is not None}, {}

    def preprocess(self, inputs: list[str]) -> dict[str, Any]:  # type: ignore[override]
        return {"text": inputs}

    def _forward(self, inputs: dict[str, Any], **search: Any) -> Any:  # type: ignore[override]
        return {"hits": self.index.search(inputs["text"], **search)}

    def postprocess(self, outputs: dict[str, Any]) -> list[list[dict[str, Any]]]:  # type: ignore[override]
        return [[asdict(hit) for hit in hits] for hits in outputs["hits"]]


def _batches(inputs: Iterable[str], size: int) -> Iterator[list[str]]:
    rows = iter(inputs)
    while batch := list(islice(rows, size)):
        yield batch


def _refuse(unknown: dict[str, Any], known: str) -> None:
    if unknown:
        raise ValueError(f"unknown argument {next(iter(unknown))!r}; expected one of {known}.")
