"""Retrieval as an evaluator of the `evaluate` library: a model or pipeline, a data set and a metric in one call."""

from time import perf_counter
from typing import Any, Literal

import torch
from datasets import Dataset
from evaluate import EvaluationModule, Evaluator
from transformers import PreTrainedModel, pipeline

from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import MOLECULE_FEATURES, TEXT_FEATURES
from class_hf.evaluation.embedding import embed
from class_hf.evaluation.evaluate_metric import TextMoleculeRetrieval

_COLUMNS = {"text": "description", "molecule": "smiles"}


class TextMoleculeRetrievalEvaluator(Evaluator):
    """Embeds queries and candidates by a `molecule-feature-extraction` pipeline and computes a metric.

    The metrics equal those of [`RetrievalEvaluator`] and `class-hf evaluate`. These embed each side once for both
    directions and both pools, so use them if you need more than one direction or pool.

    Args:
        direction (`str`, *optional*, defaults to `"text_to_molecule"`): `"text_to_molecule"` or
            `"molecule_to_text"`.

    Raises:
        ValueError: if the direction is unknown.

    Example:

    ```python
    data = load_demo()
    TextMoleculeRetrievalEvaluator().compute("outputs/demo", data["validation"], pool=data["pool"])
    # {'hits@1': ..., 'mrr': ..., 'candidates': 4892, 'total_time_in_seconds': ..., ...}
    ```
    """

    def __init__(self, direction: Literal["text_to_molecule", "molecule_to_text"] = "text_to_molecule"):
        super().__init__(task="molecule-feature-extraction")
        if direction not in ("text_to_molecule", "molecule_to_text"):
            raise ValueError(f"direction is {direction!r}; expected 'text_to_molecule' or 'molecule_to_text'.")
        self.query_side, self.candidate_side = direction.split("_to_")

    def compute(
        self,
        model_or_pipeline: Any = None,
        data: str | Dataset | None = None,
        pool: Dataset | None = None,
        subset: str | None = None,
        split: str | None = None,
        metric: str | EvaluationModule | None = None,
        processor: Any = None,
        strategy: Literal["simple", "bootstrap"] = "simple",
        n_resamples: int = 1000,
        device: int | str | None = None,
    ) -> dict[str, Any]:
        """Computes the metrics of one direction in one pool, and the time of embedding.

        Args:
            model_or_pipeline (`str`, `PreTrainedModel` or `Pipeline`): a folder, a Hub id, a model, or a
                `molecule-feature-extraction` pipeline.
            data (`Dataset` or `str`): the query pairs, with `id`, `smiles` and `description`, or their id on the Hub.
            pool (`Dataset`, *optional*): the candidates, with `id` and `smiles` (text to molecule) or `description`
                (molecule to text). Default: the pairs, which is the pool `split` of this package. The pool `full`
                is all molecules, or the captions of all splits.
            subset (`str`, *optional*): configuration of `data` on the Hub.
            split (`str`, *optional*): split of `data` on the Hub.
            metric (`EvaluationModule` or `str`, *optional*): a metric with the arguments of
                [`TextMoleculeRetrieval`], or its name. Default: [`TextMoleculeRetrieval`].
            processor ([`TextMoleculeProcessor`], *optional*): the processor, if a model is given.
            strategy (`str`, *optional*, defaults to `"simple"`): `"bootstrap"` adds `interval_95`, percentile
                intervals over the queries.
            n_resamples (`int`, *optional*, defaults to 1000): number of bootstrap resamples.
            device (`int` or `str`, *optional*): device of a new pipeline. Default: the accelerator if there is one.

        Returns:
            The metrics, `total_time_in_seconds`, `samples_per_second` and `latency_in_seconds`.

        Raises:
            ValueError: if a column is missing, or the pool does not hold each query's candidate exactly once.
        """
        if model_or_pipeline is None:
            raise ValueError("model_or_pipeline is not given; pass the folder or Hub id of a model.")
        if strategy not in ("simple", "bootstrap"):
            raise ValueError(f"strategy is {strategy!r}; expected 'simple' or 'bootstrap'.")
        pairs = self.load_data(data, subset, split)
        references, queries, candidates = self.prepare_data(pairs, pairs if pool is None else pool)
        pipe = self.prepare_pipeline(model_or_pipeline, processor, device)
        module = TextMoleculeRetrieval(keep_in_memory=True) if metric is None else self.prepare_metric(metric)
        started = perf_counter()
        query_embeds = self.call_pipeline(pipe, queries, self.query_side)
        candidate_embeds = self.call_pipeline(pipe, candidates, self.candidate_side)
        times = self._compute_time_perf(started, perf_counter(), len(queries) + len(candidates))
        result = module.compute(
            predictions=query_embeds.numpy(),
            references=references,
            candidates=candidate_embeds.numpy(),
            bootstrap_samples=n_resamples if strategy == "bootstrap" else 0,
        )
        return {**result, **times}

    def prepare_data(self, data: Dataset, pool: Dataset) -> tuple[list[int], list[str], list[str]]:
        """Returns the row of each query's true candidate, the queries and the candidates."""
        self.check_required_columns(data, {"id": "id", "queries": _COLUMNS[self.query_side]})
        self.check_required_columns(pool, {"id": "id", "candidates": _COLUMNS[self.candidate_side]})
        ids = pool["id"][:]
        row_of = {identifier: row for row, identifier in enumerate(ids)}
        if len(row_of) < len(ids):
            raise ValueError(f"the pool has {len(ids)} rows but {len(row_of)} different ids; expected each id once.")
        missing = [identifier for identifier in data["id"][:] if identifier not in row_of]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(data)} queries are not in the pool of {len(ids)}, for instance id "
                f"{missing[0]!r}. Every query's partner must be a candidate."
            )
        references = [row_of[identifier] for identifier in data["id"][:]]
        return references, data[_COLUMNS[self.query_side]][:], pool[_COLUMNS[self.candidate_side]][:]

    def prepare_pipeline(self, model_or_pipeline: Any, processor: Any = None, device: Any = None) -> Any:
        """Returns a pipeline of a model, or the given pipeline after a check of its task."""
        # The base class needs TFPreTrainedModel, which transformers 5 removed, and it knows no processors.
        pipe = model_or_pipeline
        if isinstance(pipe, str | PreTrainedModel):
            pipe = pipeline(self.task, model=pipe, processor=processor, device=device)
        if getattr(pipe, "task", None) != self.task:
            raise ValueError(f"the pipeline's task is {getattr(pipe, 'task', None)!r}; expected {self.task!r}.")
        return pipe

    def call_pipeline(self, pipe: Any, inputs: list[str], side: str) -> torch.Tensor:
        """Embeds captions or SMILES, (N, D), by the model and the processor of a pipeline."""
        # The batches are those of RetrievalEvaluator, so the embeddings are equal in every bit.
        encode, name = {
            "text": (pipe.processor.encode_text, TEXT_FEATURES),
            "molecule": (pipe.processor.encode_molecules, MOLECULE_FEATURES),
        }[side]
        rows = Dataset.from_dict({name: encode(inputs)})
        return embed(pipe.model, rows, TextMoleculeCollator(pipe.processor), side, pipe._batch_size or 256)

    def predictions_processor(self, predictions: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Passes the output of the pipeline to the metric unchanged."""
        return {"predictions": predictions}
