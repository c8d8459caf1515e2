"""The registry of difficulty definitions. To add one, write a class with `fit` and `score` and name it here.

A definition that is not part of the package is named as `package.module:Name` instead, see [`Measure`].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from class_hf.difficulty.alignment import MIN_PAIRS, Alignment
from class_hf.difficulty.complexity import Complexity
from class_hf.difficulty.confusability import TEXT_SIMILARITIES, Confusability
from class_hf.difficulty.density import Density, DensitySettings
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.difficulty.similarities import load_faiss
from class_hf.utils.numbers import non_negative_integer, positive_integer
from class_hf.utils.plugins import is_object_path, load_object
from class_hf.utils.suggestions import check_choice, did_you_mean


class FittedMeasure(Protocol):
    """A fitted difficulty definition."""

    def score(self, pairs: PairFeatures) -> np.ndarray:
        """Scores B pairs that were not fitted.

        Returns:
            (B, 2) raw scores, text and molecule. The score of a pair must not depend on the other pairs of the batch.
        """


class Measure(FittedMeasure, Protocol):
    """A difficulty definition: it measures how hard pairs are, in text and in molecule.

    Any class with these two methods works; it does not inherit from this one. Higher raw scores are harder. Their unit
    does not matter, because [`DifficultyScorer`][class_hf.DifficultyScorer] turns them into ranks. The fitted object
    should hold plain values and arrays, because `datasets` caches scored data under a hash of its pickle.

    A complete definition, here in the module that runs the example. In a file `lengths.py` of the current folder it is
    named `"lengths:Length"`, in `DifficultyScorer(definition=...)`, in `class-hf score --definition lengths:Length`,
    or as `difficulty_definition` in a recipe or a study:

    >>> class Length:
    ...     '''The number of words of a caption, and the number of heavy atoms of a molecule.'''
    ...
    ...     @classmethod
    ...     def fit(cls, pairs):
    ...         fitted = cls()
    ...         return fitted, fitted.score(pairs)
    ...
    ...     def score(self, pairs):
    ...         words = [len(caption.split()) for caption in pairs.descriptions]
    ...         return np.stack([words, pairs.sizes[:, 0]], axis=1)
    >>> pairs = PairFeatures(["a", "b"], ["An alcohol.", "A small organic acid."], ["CCO", "CC(=O)O"])
    >>> _, raw = Length.fit(pairs)
    >>> raw.tolist()
    [[2, 3], [4, 4]]
    """

    @classmethod
    def fit(cls, pairs: PairFeatures) -> tuple[FittedMeasure, np.ndarray]:
        """Fits on the training pairs.

        Args:
            pairs: N training pairs, in the order of their ids. `pairs.descriptions` and `pairs.smiles` are lists of
                strings. `pairs.words`, `pairs.fragments` and `pairs.sizes` are computed when they are used.

        Returns:
            The fitted definition, and (N, 2) raw scores of the training pairs, text and molecule. A training pair must
            not be compared with itself.
        """


@dataclass(frozen=True)
class DifficultySettings:
    """Settings of the package's definitions. Each definition reads those that it needs.

    Args:
        neighbours: of confusability, k nearest pairs or `"all"`.
        seed: of alignment's reference models.
        reference_steps: optimizer steps of each of alignment's reference models.
        text_similarity: of confusability, `"tfidf"` or `"hashed"`.
        exact_up_to: of confusability, number of training pairs above which faiss finds the neighbours. Of density,
            number above which pairs are compared with a sample of this size.
        density: of density.

    Raises:
        ValueError: if a setting is out of range.

    >>> DifficultySettings(neighbours=0)
    Traceback (most recent call last):
    ValueError: neighbours is 0; expected an integer of at least 1, or "all".
    """

    neighbours: int | Literal["all"] = 8
    seed: int = 0
    reference_steps: int = 150
    text_similarity: str = "tfidf"
    exact_up_to: int = 100_000
    density: DensitySettings = field(default_factory=DensitySettings)

    def __post_init__(self) -> None:
        if self.neighbours != "all" and not positive_integer.accepts(self.neighbours):
            raise ValueError(f'neighbours is {self.neighbours!r}; expected an integer of at least 1, or "all".')
        positive_integer.check("reference_steps", self.reference_steps)
        check_choice("text_similarity", self.text_similarity, TEXT_SIMILARITIES)
        non_negative_integer.check("exact_up_to", self.exact_up_to)


Fit = Callable[[PairFeatures, DifficultySettings], tuple[FittedMeasure, np.ndarray]]

# One line per definition: its name, and how it is fitted.
_FITS: dict[str, Fit] = {
    "complexity": lambda pairs, settings: Complexity.fit(pairs),
    "confusability": lambda pairs, settings: Confusability.fit(
        pairs, settings.neighbours, settings.text_similarity, settings.exact_up_to
    ),
    "density": lambda pairs, settings: Density.fit(pairs, settings.density, settings.exact_up_to),
    "alignment": lambda pairs, settings: Alignment.fit(pairs, seed=settings.seed, steps=settings.reference_steps),
}

DEFINITIONS = tuple(_FITS)


def check_definition(name: str) -> None:
    """Checks that a definition exists. One that is named as `package.module:Name` is imported.

    Raises:
        ValueError: if the name is neither in the registry nor an object with `fit` and `score`.
        ImportError: if the module cannot be imported.

    >>> check_definition("alignment")
    >>> check_definition("alignement")
    Traceback (most recent call last):
    ValueError: the difficulty definition 'alignement' is not known; did you mean 'alignment'?
    """
    if name in _FITS:
        return
    if not is_object_path(name):
        advice = did_you_mean(
            name, DEFINITIONS, otherwise=f"expected {', '.join(DEFINITIONS)}, or your own as package.module:Name."
        )
        raise ValueError(f"the difficulty definition {name!r} is not known; {advice}")
    loaded = load_object(name)
    missing = [method for method in ("fit", "score") if not callable(getattr(loaded, method, None))]
    if missing:
        raise ValueError(f"{name!r} is no difficulty definition: it has no method {missing[0]!r}. See Measure.")


def check_definitions(names: Sequence[str]) -> None:
    """Checks a list of definitions.

    Raises:
        ValueError: if the list is empty or a name occurs twice, and as for [`check_definition`].

    >>> check_definitions(["alignment", "alignment"])
    Traceback (most recent call last):
    ValueError: definition is ['alignment', 'alignment']; expected one or several definitions, each once.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"definition is {list(names)}; expected one or several definitions, each once.")
    for name in names:
        check_definition(name)


def check_size(name: str, size: int, settings: DifficultySettings) -> None:
    """Checks that a definition can be fitted on so many training pairs.

    Raises:
        ValueError: if there are too few.
        ImportError: if faiss is needed and not installed.
    """
    if name == "confusability":
        if settings.neighbours == "all":
            if size < 2:
                raise ValueError("confusability needs at least 2 training pairs, got 1.")
        elif settings.neighbours >= size:
            raise ValueError(
                f"neighbours is {settings.neighbours}; expected fewer than the {size} training pairs. Lower it."
            )
        elif size > settings.exact_up_to:
            load_faiss()
    if name == "density" and size < 2:
        raise ValueError("density needs at least 2 training pairs, got 1.")
    if name == "density" and settings.exact_up_to < 2:
        raise ValueError(f"exact_up_to is {settings.exact_up_to}; density needs a sample of at least 2 pairs.")
    if name == "alignment" and size < MIN_PAIRS:
        raise ValueError(f"alignment needs at least {MIN_PAIRS} training pairs, got {size}.")


def fit_definition(name: str, pairs: PairFeatures, settings: DifficultySettings) -> tuple[FittedMeasure, np.ndarray]:
    """Fits a definition on the training pairs.

    Args:
        name: of the registry, or `package.module:Name`.
        pairs: N training pairs.
        settings: for the package's definitions.

    Returns:
        The fitted definition, and (N, 2) float64 raw scores.

    Raises:
        ValueError: if the definition returns something else.
    """
    if name in _FITS:
        return _FITS[name](pairs, settings)
    result = load_object(name).fit(pairs)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(getattr(result[0], "score", None))):
        raise ValueError(
            f"{name}: fit returned {type(result).__name__}, expected the fitted definition and its (N, 2) raw scores."
        )
    return result[0], check_scores(name, result[1], pairs)


def check_scores(name: str, raw: Any, pairs: PairFeatures) -> np.ndarray:
    """The raw scores of a user's definition as (B, 2) float64.

    Raises:
        ValueError: if they have another shape, or one is not a finite number; names the pair.
    """
    scores = np.array(raw, np.float64)
    if scores.shape != (len(pairs), 2):
        raise ValueError(
            f"{name}: the raw scores of {len(pairs)} pairs have shape {scores.shape}, expected ({len(pairs)}, 2): "
            "a column for the text and one for the molecule."
        )
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        row, column = wrong[0]
        modality = ("text", "molecule")[column]
        raise ValueError(
            f"{pairs.place(row)}: the definition {name} gave the {modality} score {scores[row, column]}, "
            "expected a finite number."
        )
    return scores


def short_name(name: str, names: Sequence[str]) -> str:
    """A definition's name in columns and plots: without its module, if no other definition has the same name.

    >>> short_name("my_package.lengths:Length", ["alignment", "my_package.lengths:Length"])
    'Length'
    """
    short = name.rpartition(":")[2]
    return name if sum(other.rpartition(":")[2] == short for other in names) > 1 else short
