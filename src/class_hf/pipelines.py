"""Two pipelines of transformers: molecules or captions to vectors, and descriptions to molecules.

After `import class_hf`, `transformers.pipeline` knows both tasks (see `_register.py`).
"""

import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from transformers.pipelines.base import GenericTensor, Pipeline

from class_hf.utils.suggestions import did_you_mean

_BATCH_SIZE = 256


class _BatchPipeline(Pipeline):
    """A pipeline whose `preprocess` gets a batch of strings.

    The base class joins single inputs by padding tensors of a few known names, which does not work for graphs.
    """

    model: Any
    processor: Any
    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_feature_extractor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False

    def __call__(self, inputs: str | Iterable[str], *, batch_size: int | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Runs the pipeline.

        Args:
            inputs (`str`, list, column or generator): one or several strings. A generator is read lazily.
            batch_size (`int`, *optional*): inputs that go through the model at a time. Default: the `batch_size` of
                the pipeline, or 256.
            kwargs: the arguments of a call. See the class.

        Returns:
            The result for a string, a list of results, or for a generator an iterator over results.
        """
        size = batch_size or self._batch_size or _BATCH_SIZE
        if isinstance(inputs, str):
            return super().__call__([[inputs]], batch_size=1, **kwargs)[0][0]
        results = chain.from_iterable(super().__call__(_batches(inputs, size), batch_size=1, **kwargs))
        return results if isinstance(inputs, types.GeneratorType) else list(results)

    def get_inference_context(self) -> Any:
        """Switches gradients and dropout off. The mode of the model is restored afterwards."""
        from class_hf.evaluation.embedding import evaluating

        return lambda: evaluating(self.model)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves model and processor in the format of this package."""
        # The base class would save the parts of the processor only, and mark the model as one that needs remote code.
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class MoleculeFeatureExtractionPipeline(_BatchPipeline):
    """Embeds SMILES, or captions in the same space, as L2-normalised vectors.

    Arguments are passed when the pipeline is called, or to `pipeline(...)`, and then hold for all its calls.

    Args:
        side (`str`, defaults to `"molecule"`): `"molecule"` if the inputs are SMILES, `"text"` if they are captions.
        return_tensors (`bool`, defaults to `False`): return tensors (D,) in place of lists of D floats.

    Raises:
        ValueError: If RDKit cannot parse a SMILES, a text is empty, or `side` is unknown.

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
        _refuse(unknown, ("side", "return_tensors", "batch_size"))
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
    """Finds the molecules of an index that are nearest to a description.

    `index` is an argument of `pipeline(...)`. The others are given in a call, or in `pipeline(...)` for all calls. The
    result for a text is a list of dicts with `rank`, `score`, `id`, `smiles` and `fields`, the best first.

    Args:
        index (`MoleculeIndex` or `str`): an index that the model made, or its folder or URL.
        k (`int`, defaults to 10): number of molecules.
        filters ([`MoleculeFilter`] or `dict`, *optional*): conditions on the molecules, or their arguments.
        query_bank (`bool`, *optional*): as in [`MoleculeIndex.search`].

    Raises:
        ValueError: If there is no index, if another model made it, or as for [`MoleculeIndex.search`].

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
        # The index uses the model of the pipeline, and checks that it is the one that made the index.
        self.index = MoleculeIndex(store, self.model, self.processor)

    def _sanitize_parameters(
        self, k: int | None = None, filters: Any = None, query_bank: bool | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        from class_hf.search.query import MoleculeFilter

        _refuse(unknown, ("k", "filters", "query_bank", "batch_size"))
        if isinstance(filters, dict):
            try:
                filters = MoleculeFilter(**filters)
            except TypeError as error:
                raise ValueError(f"filters are {filters!r}, but {str(error).split('() ')[-1]}.") from error
        arguments = {"k": k, "filters": filters, "query_bank": query_bank}
        return {}, {name: value for name, value in arguments.items() if value is not None}, {}

    def preprocess(self, inputs: list[str]) -> dict[str, Any]:  # type: ignore[override]
        return {"text": inputs}

    def _forward(self, inputs: dict[str, Any], **search: Any) -> Any:  # type: ignore[override]
        return {"hits": self.index.search(inputs["text"], **search)}

    def postprocess(self, outputs: dict[str, Any]) -> list[list[dict[str, Any]]]:  # type: ignore[override]
        return [[asdict(hit) for hit in hits] for hits in outputs["hits"]]


def _batches(inputs: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of up to `size` inputs."""
    rows = iter(inputs)
    while batch := list(islice(rows, size)):
        yield batch


def _refuse(unknown: dict[str, Any], known: Sequence[str]) -> None:
    """Raises `ValueError` for the first unknown argument."""
    for name in unknown:
        raise ValueError(f"unknown argument {name!r}; {did_you_mean(name, known)}")
