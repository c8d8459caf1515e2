"""The metric for `evaluate.load("metrics/text_molecule_retrieval")`. The package class_hf must be installed."""

from class_hf.evaluation.evaluate_metric import TextMoleculeRetrieval

__all__ = ["TextMoleculeRetrieval"]
