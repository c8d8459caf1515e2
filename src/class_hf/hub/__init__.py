"""Loads, exports and pushes models and data sets, and writes their cards."""

from class_hf.hub.export import export_model
from class_hf.hub.push import PushError, push_dataset, push_model

__all__ = ["PushError", "export_model", "push_dataset", "push_model"]
