"""The package's retrieval metrics as a metric of `evaluate`, for those who report with it."""

from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from class_hf.evaluation.metrics import bootstrap_intervals, ranks_of_scores, retrieval_metrics
from class_hf.evaluation.ranks import rank_partners

_DESCRIPTION = """
Hits@1, Hits@10, MRR, mean and median rank of text-molecule retrieval. Each query's true candidate is ranked among all
candidates of the pool, by cosine of embeddings or by given scores; ties get their mean rank.
"""

_INPUTS = """
Args:
    predictions: Q rows. With `candidates`, the queries' embeddings (D numbers each). Without, the queries' scores of
        all P candidates, higher is better.
    references: Q whole numbers, the row of each query's true candidate, from 0.
    candidates: (P, D) embeddings of the candidates; an argument of `compute` only, since there is one pool for all
        batches.
    bootstrap_samples: resamples of the queries for 95 % intervals; 0, the default, leaves them out.

Returns:
    hits@1, hits@10 (fractions), mrr, mean_rank, median_rank, queries, candidates; with `bootstrap_samples` also
    interval_95, [low, high] for hits@1, hits@10, mrr and mean_rank.

Example:

    >>> metric = evaluate.load("metrics/text_molecule_retrieval")
    >>> queries, candidates = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.9, -0.1]]
    >>> metric.compute(predictions=queries, references=[0, 1], candidates=candidates)["mrr"]
    0.75
"""

_CITATION = """
@inproceedings{edwards2021text2mol,
  title = {Text2Mol: Cross-Modal Molecule Retrieval with Natural Language Queries},
  author = {Edwards, Carl and Zhai, ChengXiang and Ji, Heng},
  booktitle = {Proceedings of EMNLP},
  year = {2021}
}
"""


class TextMoleculeRetrieval(evaluate.Metric):
    """Ranks and metrics of [`RetrievalEvaluator`], from embeddings or scores of any model.

    `metrics/text_molecule_retrieval` makes it loadable by `evaluate.load`; its `inputs_description` has arguments and
    an example. Embeddings are what to give for large pools: scores are queries x pool numbers.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
            reference_urls=["https://aclanthology.org/2021.emnlp-main.47/"],
        )

    def _compute(
        self, predictions: Any, references: Any, candidates: Any = None, bootstrap_samples: int = 0
    ) -> dict[str, Any]:
        rows, gold = _table(predictions, "predictions"), np.asarray(references)
        if candidates is None:
            ranks, count = ranks_of_scores(rows, gold), rows.shape[1]
        else:
            pool = _table(candidates, "candidates")
            if pool.shape[1] != rows.shape[1]:
                raise ValueError(
                    f"predictions have {rows.shape[1]} numbers each, candidates {pool.shape[1]}; expected embeddings "
                    "of one size, or scores of all candidates and no candidates=."
                )
            queries, others, true = (torch.tensor(array) for array in (rows, pool, gold))
            ranks, count = rank_partners(queries, others, true), len(pool)
        metrics: dict[str, Any] = dict(retrieval_metrics(ranks, count))
        if bootstrap_samples:
            metrics["interval_95"] = bootstrap_intervals(ranks, count, samples=bootstrap_samples)
        return metrics


def _table(values: Any, name: str) -> np.ndarray:
    """(N, M) float32 of rows that are equally long."""
    try:
        table = np.asarray(values, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{name} are rows of different lengths; expected as many numbers in each.") from error
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{name} have the shape {table.shape}; expected rows of numbers, (N, M).")
    return table
