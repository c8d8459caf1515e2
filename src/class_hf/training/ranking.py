"""Evaluation of a trainer: candidates are ranked, and no in-batch loss is computed."""

import time
from collections.abc import Mapping
from typing import Any

from transformers import EvalPrediction
from transformers.trainer_utils import denumpify_detensorize

from class_hf.evaluation.retrieval_evaluator import RetrievalEvaluator
from class_hf.training.argument_checks import METRICS
from class_hf.training.costs import cpu_seconds
from class_hf.training.publishing import PublishingTrainer
from class_hf.utils.in_memory import as_table
from class_hf.utils.messages import one_line


class RankingTrainer(PublishingTrainer):
    """The evaluation of a [`CurriculumTrainer`], in place of the Trainer's."""

    evaluator: RetrievalEvaluator | None

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Retrieval metrics over complete pools, not an in-batch loss.

        Args:
            eval_dataset: *optional*; prepared pairs, which are ranked among each other, the name of one of the
                trainer's data sets, or several data sets by name. Of several the keys have the names, and `eval_mrr`
                and its like are means over the data sets. Default: the evaluator of the trainer.
            ignore_keys: not used; part of the Trainer's signature.
            metric_key_prefix: *optional*, defaults to `"eval"`; start of each key.

        Returns:
            `eval_mrr`, `eval_hits@1`, `eval_hits@10`, `eval_mean_rank` (text to molecule, in the evaluator's pool),
            and `eval_POOL_DIRECTION_mrr`. A POOL is `full` (all candidates), `split` (the split's own), or `sample`
            and `split_sample`, if the evaluator ranks a sample of them.

        Raises:
            ValueError: if there is neither an evaluator nor an `eval_dataset`.
        """
        evaluator = self.evaluator
        if eval_dataset is None and evaluator is None:
            eval_dataset = self.eval_dataset
        if isinstance(eval_dataset, str):
            named = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else {}
            if eval_dataset not in named:
                names = ", ".join(map(repr, named)) or "none with a name"
                raise ValueError(f"eval_dataset is {eval_dataset!r}; the trainer has {names}.")
            eval_dataset = named[eval_dataset]
        if isinstance(eval_dataset, Mapping):
            metrics: dict[str, float] = {}
            for name, pairs in eval_dataset.items():
                metrics |= self.evaluate(pairs, ignore_keys, f"{metric_key_prefix}_{name}")
            for metric in METRICS:
                values = [metrics[f"{metric_key_prefix}_{name}_{metric}"] for name in eval_dataset]
                metrics[f"{metric_key_prefix}_{metric}"] = sum(values) / len(values)
            return metrics
        if eval_dataset is not None:
            evaluator = RetrievalEvaluator(
                as_table(eval_dataset, "the pairs to evaluate"),
                processor=processor_of(self.processing_class, self.data_collator),
                name=metric_key_prefix,
                batch_size=self.args.per_device_eval_batch_size,
                bootstrap_samples=0,
            )
        if evaluator is None:
            raise ValueError("nothing to evaluate on: pass `evaluator=` to the trainer, or prepared pairs.")
        started, cpu_started = time.perf_counter(), cpu_seconds()
        assert self.model is not None
        pools = evaluator(self.model)["pools"]
        main = pools[evaluator.pool_name]["text_to_molecule"]
        metrics = {f"{metric_key_prefix}_{name}": main[name] for name in METRICS}
        for pool, directions in pools.items():
            label = "split_sample" if pool == "split" and evaluator.sampled else pool
            for direction, values in directions.items():
                if direction == "molecule_to_text" and pool != "split" and evaluator.captions is None:
                    continue  # without further captions it is the split's number
                metrics[f"{metric_key_prefix}_{label}_{direction}_mrr"] = values["mrr"]
        if self.compute_metrics is not None:
            metrics |= self._own_metrics(evaluator, metric_key_prefix)
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - started, 3)
        metrics[f"{metric_key_prefix}_cpu_seconds"] = round(cpu_seconds() - cpu_started, 3)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As the Trainer does, with one line about a metric that no evaluation computes."""
        try:
            return super()._determine_best_metric(metrics, trial)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from error

    def predict(self, test_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuses. The Trainer's method returns the outputs of batches, which have no meaning for retrieval.

        Args:
            test_dataset, *args, **kwargs: part of the Trainer's signature.

        Raises:
            NotImplementedError: always; says what to use.
        """
        raise NotImplementedError(
            "a CurriculumTrainer has no predict: pass the pairs to evaluate() for metrics, or use class_hf.Encoder "
            "for embeddings."
        )

    def _own_metrics(self, evaluator: RetrievalEvaluator, prefix: str) -> dict[str, float]:
        """The metrics of `compute_metrics`, with the prefix. Raises ValueError if it returns no metrics by name."""
        assert self.model is not None
        arrays = {name: tensor.float().cpu().numpy() for name, tensor in evaluator.embeddings(self.model).items()}
        labels = arrays.pop("gold").astype(int)
        assert self.compute_metrics is not None
        prediction = EvalPrediction(predictions=arrays, label_ids=labels)  # type: ignore[arg-type]  # a mapping
        values = self.compute_metrics(prediction)
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise ValueError(
                f"compute_metrics returned {one_line(repr(values), 60)}, a {type(values).__name__}; expected a dict "
                'of names and numbers, such as {"accuracy": 0.5}.'
            )
        values = denumpify_detensorize(values)  # numbers that JSON can hold, as the Trainer does
        return {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value for name, value in values.items()}


def processor_of(processing_class: Any, collator: Any) -> Any:
    """The processor of the trainer, or of its collator."""
    if processing_class is not None:
        return processing_class
    return getattr(getattr(collator, "collator", collator), "processor", None)
