"""The old place of [`class_hf.evaluation.explain`]; goes in 0.3."""

from class_hf.evaluation.explain import MAX_ATOMS, atom_contributions
from class_hf.utils.deprecation import warn_moved

__all__ = ["MAX_ATOMS", "atom_contributions"]

warn_moved("class_hf.explain", "class_hf.evaluation.explain")
