"""The retrieval metrics of this package as a metric of the `evaluate` library."""

from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from class_hf.evaluation.metrics import bootstrap_intervals, ranks_of_scores, retrieval_metrics
from class_hf.evaluation.ranks import rank_partners

_DESCRIPTION = """
Hits@1, Hits@10, MRR, mean and median rank of text-molecule retrieval. The true candidate of each query is ranked among
all candidates of the pool, by the cosine of embeddings or by given scores. Ties get their mean rank: cosines that
differ by at most 1e-7, or equal scores.
"""

_INPUTS = """
Args:
    predictions: Q rows. With `candidates`, the embeddings of the queries (D numbers each). Without, the scores of all
        P candidates for each query. Higher is better.
    references: Q integers, the row of the true candidate of each query, from 0.
    candidates: (P, D) embeddings of the candidates. Pass them to `compute` only, since all batches share one pool.
    bootstrap_samples: number of resamples of the queries for 95 % intervals. Default: 0, no intervals.

Returns:
    hits@1, hits@10 (fractions), mrr, mean_rank, median_rank, queries, candidates. With `bootstrap_samples` also
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
    """Computes the ranks and metrics of [`RetrievalEvaluator`] from the embeddings or the scores of any model.

    `evaluate.load("metrics/text_molecule_retrieval")` loads it. Its `inputs_description` lists the arguments. For
    large pools pass embeddings: scores are an array of queries x candidates.

    Example:

    >>> metric = TextMoleculeRetrieval(keep_in_memory=True)
    >>> queries, candidates = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.9, -0.1]]
    >>> metric.compute(predictions=queries, references=[0, 1], candidates=candidates)["mrr"]
    0.75
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
                    "of equal size, or scores of all candidates without candidates=."
                )
            queries, others, true = (torch.tensor(array) for array in (rows, pool, gold))
            ranks, count = rank_partners(queries, others, true), len(pool)
        metrics: dict[str, Any] = dict(retrieval_metrics(ranks, count))
        if bootstrap_samples:
            metrics["interval_95"] = bootstrap_intervals(ranks, count, samples=bootstrap_samples)
        return metrics


def _table(values: Any, name: str) -> np.ndarray:
    """(N, M) float32 of rows of equal length."""
    try:
        table = np.asarray(values, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{name} are rows of different lengths; expected rows of equal length.") from error
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{name} have the shape {table.shape}; expected rows of numbers, (N, M).")
    return table
