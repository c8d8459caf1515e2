"""Retrieval in the manner of `evaluate`'s evaluators: a model or pipeline, a data set, a metric, one call."""

from time import perf_counter
from typing import Any, Literal

from datasets import Dataset
from evaluate import EvaluationModule, Evaluator
from transformers import PreTrainedModel, pipeline

from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import MOLECULE_FEATURES, TEXT_FEATURES
from class_hf.evaluation.embedding import embed
from class_hf.evaluation.evaluate_metric import TextMoleculeRetrieval

_COLUMNS = {"text": "description", "molecule": "smiles"}


class TextMoleculeRetrievalEvaluator(Evaluator):
    """Embeds queries and candidates by the model of a pipeline `molecule-feature-extraction`, and gives a metric.

    The numbers are those of [`RetrievalEvaluator`] and recipes/evaluate.py, which embed each side once for both
    directions and pools; take those for more than one of them.

    Args:
        direction: `"text_to_molecule"` or `"molecule_to_text"`.

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
        """Metrics of one direction in one pool, with the time that embedding took.

        Args:
            model_or_pipeline: a folder or Hub id, a model, or a `molecule-feature-extraction` pipeline.
            data: the query pairs, with `id`, `smiles` and `description`; or their name on the Hub.
            pool: the candidates, with `id` and `smiles` (text to molecule) or `description` (molecule to text); the
                pairs' own if None, which is the package's pool `split`. Its pool `full` is all molecules, or the
                captions of all splits.
            subset, split: of `data` on the Hub.
            metric: in place of [`TextMoleculeRetrieval`], one that takes the same arguments, or its name.
            processor: the model's, if the model itself is given.
            strategy: `"bootstrap"` adds `interval_95`, the package's percentile intervals over the queries.
            n_resamples: their number of resamples.
            device: where a pipeline is made; the accelerator, if there is one.

        Returns:
            the metric's numbers, `total_time_in_seconds`, `samples_per_second`, `latency_in_seconds`.

        Raises:
            ValueError: if columns are missing, or a query's pair is not in the pool exactly once.
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
        """The row of each query's true candidate, the queries, the candidates."""
        self.check_required_columns(data, {"id": "id", "queries": _COLUMNS[self.query_side]})
        self.check_required_columns(pool, {"id": "id", "candidates": _COLUMNS[self.candidate_side]})
        ids = pool["id"][:]
        row_of = {one: row for row, one in enumerate(ids)}
        if len(row_of) < len(ids):
            raise ValueError(f"the pool has {len(ids)} rows but {len(row_of)} different ids; each must be there once.")
        missing = [one for one in data["id"][:] if one not in row_of]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(data)} queries are not in the pool of {len(ids)}, for instance id "
                f"{missing[0]!r}. Every query's partner must be a candidate."
            )
        references = [row_of[one] for one in data["id"][:]]
        return references, data[_COLUMNS[self.query_side]][:], pool[_COLUMNS[self.candidate_side]][:]

    def prepare_pipeline(self, model_or_pipeline: Any, processor: Any = None, device: Any = None) -> Any:
        """A pipeline of a model; a pipeline as it is."""
        # The base asks for TFPreTrainedModel, which transformers 5 has no more, and knows no processors.
        pipe = model_or_pipeline
        if isinstance(pipe, str | PreTrainedModel):
            pipe = pipeline(self.task, model=pipe, processor=processor, device=device)
        if getattr(pipe, "task", None) != self.task:
            raise ValueError(f"the pipeline's task is {getattr(pipe, 'task', None)!r}; expected {self.task!r}.")
        return pipe

    def call_pipeline(self, pipe: Any, inputs: list[str], side: str) -> Any:
        """(N, D) of one side, by the pipeline's model and processor."""
        # In the batches of RetrievalEvaluator, not the pipeline's: last bits depend on them, and ties on last bits.
        encode, name = {
            "text": (pipe.processor.encode_text, TEXT_FEATURES),
            "molecule": (pipe.processor.encode_molecules, MOLECULE_FEATURES),
        }[side]
        rows = Dataset.from_dict({name: encode(inputs)})
        return embed(pipe.model, rows, TextMoleculeCollator(pipe.processor), side, pipe._batch_size or 256)

    def predictions_processor(self, predictions: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What the pipeline gives is what the metric takes."""
        return {"predictions": predictions}
