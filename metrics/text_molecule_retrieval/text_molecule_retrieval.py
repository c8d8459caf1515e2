"""`evaluate.load("metrics/text_molecule_retrieval")`: the metric of class_hf, which must be installed."""

from class_hf.evaluation.evaluate_metric import TextMoleculeRetrieval

__all__ = ["TextMoleculeRetrieval"]
