"""The old place of [`class_hf.backbones.adapters`]; goes in 0.3."""

from class_hf.backbones.adapters import add_adapters, load_adapter, merge_adapter, save_adapter
from class_hf.utils.deprecation import warn_moved

__all__ = ["add_adapters", "load_adapter", "merge_adapter", "save_adapter"]

warn_moved("class_hf.adapters", "class_hf.backbones.adapters")
