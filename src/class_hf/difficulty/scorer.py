"""How hard each pair is to retrieve: ranks in [0, 1], in both modalities and combined."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from class_hf.difficulty.alignment import MIN_PAIRS, Alignment
from class_hf.difficulty.complexity import Complexity
from class_hf.difficulty.confusability import TEXT_SIMILARITIES, Confusability
from class_hf.difficulty.measures import load_faiss
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.difficulty.ranks import rank_among

DEFINITIONS = ("complexity", "confusability", "alignment")
COLUMNS = ("id", "smiles", "description")
# The columns that scoring adds.
DIFFICULTY_COLUMNS = ("text_difficulty", "molecule_difficulty", "difficulty")

# Each takes text (B,), molecule (B,) and the weight of the text.
_COMBINATIONS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "mean": lambda text, molecule, weight: weight * text + (1 - weight) * molecule,
    "max": lambda text, molecule, weight: np.maximum(text, molecule),
    "product": lambda text, molecule, weight: text * molecule,
    "text": lambda text, molecule, weight: text,
    "molecule": lambda text, molecule, weight: molecule,
}


class DifficultyScorer:
    """Scores pairs by how hard they are, among the training pairs it was fitted on.

    That difficulty is measured in both modalities is the idea of CLASS (arXiv 2502.11633, abstract); the
    three definitions are ours, each documented with its class:

    - ``"complexity"``: how much there is to read ([`~class_hf.difficulty.complexity.Complexity`]);
    - ``"confusability"``: how alike the nearest other pairs are
      ([`~class_hf.difficulty.confusability.Confusability`]);
    - ``"alignment"``: how far down a cheap reference model ranks the true partner
      ([`~class_hf.difficulty.alignment.Alignment`]; trains for some ten seconds on two cores, the others
      take less).

    In each modality a raw score becomes its rank among the training pairs,
    (number below + half the number equal) / N: 1 is the hardest, equal pairs get equal scores, and the mean
    over the training pairs is 1/2. The ranks of several definitions are averaged and ranked again; so is the
    combination of the two modalities. Ties are left as ties, for whoever orders the pairs to break.

    A fitted scorer is a callable for ``Dataset.map(scorer, batched=True)``. It finds training pairs by their
    id, where their own pair is no neighbour of theirs, and scores every other pair (a validation split)
    against the training pairs. Scores depend neither on the order of the rows nor on the batch size or the
    number of processes. The state is plain arrays that do not change after ``fit``, so ``map`` caches.

    Args:
        definition: one name or several of the above. Default: alignment.
        combination: of the two modalities into ``difficulty``: ``"mean"`` (weighted by ``text_weight``),
            ``"max"``, ``"product"``, ``"text"`` or ``"molecule"`` (that modality alone).
        text_weight: weight of the text in the mean, in [0, 1]. Unused by the other combinations.
        neighbours: of confusability: k >= 1, how many of the nearest pairs it averages over, smaller than the
            number of pairs; or ``"all"``, the mean over all other pairs, in linear time. The two rank pairs
            quite differently.
        seed: of the reference model of alignment; the other definitions draw nothing at random.
        reference_steps: optimiser steps of each of alignment's two reference models. On ChEBI-20 they rank held-out
            pairs best after 150; more of them overfit.
        text_similarity: what confusability compares captions by: ``"tfidf"``, their terms, or ``"hashed"``, the
            terms added up in 1,024 components, which is faster the more pairs there are and ranks them almost
            alike.
        exact_up_to: up to so many training pairs confusability compares all with all; above, an index of faiss
            (which must be installed) finds the nearest ones, or most of them.

    Raises:
        ValueError: if an argument is out of range; the message names it and what is allowed.

    Example:

    ```python
    scorer = DifficultyScorer(["confusability", "complexity"]).fit(ds["train"])
    ds["train"] = ds["train"].map(scorer, batched=True)
    ds["validation"] = ds["validation"].map(scorer, batched=True)
    ```
    """

    def __init__(
        self,
        definition: str | Sequence[str] = ("alignment",),
        combination: str = "mean",
        text_weight: float = 0.5,
        neighbours: int | Literal["all"] = 8,
        seed: int = 0,
        reference_steps: int = 150,
        text_similarity: str = "tfidf",
        exact_up_to: int = 100_000,
    ) -> None:
        self.definition = (definition,) if isinstance(definition, str) else tuple(definition)
        self.combination = combination
        self.text_weight = text_weight
        self.neighbours = neighbours
        self.seed = seed
        self.reference_steps = reference_steps
        self.text_similarity = text_similarity
        self.exact_up_to = exact_up_to
        unknown = [name for name in self.definition if name not in DEFINITIONS]
        if unknown or not self.definition or len(set(self.definition)) < len(self.definition):
            raise ValueError(
                f"definition={list(self.definition)}: expected one or several of {', '.join(DEFINITIONS)}, "
                "each at most once."
            )
        if combination not in _COMBINATIONS:
            raise ValueError(f"combination={combination!r}: expected one of {', '.join(_COMBINATIONS)}.")
        if not 0 <= text_weight <= 1:
            raise ValueError(f"text_weight={text_weight}: expected a number in [0, 1].")
        if neighbours != "all" and (isinstance(neighbours, str) or neighbours < 1):
            raise ValueError(f'neighbours={neighbours!r}: expected at least 1, or "all".')
        if reference_steps < 1:
            raise ValueError(f"reference_steps={reference_steps}: expected at least 1.")
        if text_similarity not in TEXT_SIMILARITIES:
            raise ValueError(f"text_similarity={text_similarity!r}: expected one of {', '.join(TEXT_SIMILARITIES)}.")
        if exact_up_to < 0:
            raise ValueError(f"exact_up_to={exact_up_to}: expected 0 or more.")
        self._ids: np.ndarray | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether ``fit`` was called."""
        return self._ids is not None

    def fit(self, ds: Any) -> "DifficultyScorer":
        """Fit on the training pairs: neighbours and ranks need the whole set.

        Args:
            ds: N rows with string columns ``id``, ``smiles``, ``description``: a `datasets.Dataset`, or a
                mapping of columns.

        Returns:
            The scorer itself.

        Raises:
            ValueError: if a column is missing, the data set is empty or too small for the definition, an id
                occurs twice, a value is no string, a caption is empty or a SMILES cannot be parsed. The
                message names the row and its id.
            ImportError: if there are more pairs than ``exact_up_to`` and faiss is not installed.
        """
        names = getattr(ds, "column_names", None) or list(ds)
        ids, smiles, descriptions = _columns(ds, names)
        _check_unique(ids)
        self._check_size(len(ids))
        # In the order of their ids, so that shuffled rows give the same state, bit for bit.
        order = sorted(range(len(ids)), key=ids.__getitem__)
        ids, smiles, descriptions = ([column[i] for i in order] for column in (ids, smiles, descriptions))
        pairs = PairFeatures(ids, descriptions, smiles, order)
        self._measures: dict[str, Complexity | Confusability | Alignment] = {}
        self._raw: dict[str, np.ndarray] = {}
        for name in self.definition:
            self._measures[name], self._raw[name] = self._fit(name, pairs)
        self._ascending = {name: np.sort(raw, axis=0) for name, raw in self._raw.items()}
        means = self._mean_ranks(self._raw)
        self._ascending_means = np.sort(means, axis=0)
        self._ascending_difficulty = np.sort(self._combine(self._rank_modalities(means)))
        self._contents = _digests(pairs.smiles, pairs.descriptions)
        self._ids = np.array(pairs.ids)
        return self

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
        """Score a batch of rows.

        Args:
            batch: lists of B strings, ``id``, ``smiles``, ``description``; further columns are ignored.

        Returns:
            ``text_difficulty``, ``molecule_difficulty`` and ``difficulty``: B floats in [0, 1] each,
            1 = hardest.

        Raises:
            RuntimeError: if the scorer is not fitted.
            ValueError: as for ``fit``, and if a row has the id of a training pair but another caption or
                molecule.
        """
        modalities = self._rank_modalities(self._mean_ranks(self._raw_scores(batch)))
        difficulty = rank_among(self._combine(modalities), self._ascending_difficulty)
        return {
            "text_difficulty": modalities[:, 0].tolist(),
            "molecule_difficulty": modalities[:, 1].tolist(),
            "difficulty": difficulty.tolist(),
        }

    def raw_scores(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
        """The scores behind the ranks, in each definition's own unit: ``text_<definition>`` and
        ``molecule_<definition>``, B floats each. Arguments and errors as for a call."""
        raw = self._raw_scores(batch)
        return {
            f"{modality}_{name}": raw[name][:, column].tolist()
            for name in self.definition
            for column, modality in enumerate(("text", "molecule"))
        }

    def _check_size(self, size: int) -> None:
        if size == 0:
            raise ValueError("The data set is empty: fit the scorer on the training pairs.")
        if "confusability" in self.definition:
            if self.neighbours == "all":
                if size < 2:
                    raise ValueError("confusability needs at least 2 training pairs, got 1.")
            elif self.neighbours >= size:
                raise ValueError(
                    f"neighbours={self.neighbours}: expected fewer than the {size} training pairs. Lower it."
                )
            elif size > self.exact_up_to:
                load_faiss()
        if "alignment" in self.definition and size < MIN_PAIRS:
            raise ValueError(f"alignment needs at least {MIN_PAIRS} training pairs, got {size}.")

    def _fit(self, name: str, pairs: PairFeatures) -> tuple[Complexity | Confusability | Alignment, np.ndarray]:
        if name == "complexity":
            return Complexity.fit(pairs)
        if name == "confusability":
            return Confusability.fit(pairs, self.neighbours, self.text_similarity, self.exact_up_to)
        return Alignment.fit(pairs, seed=self.seed, steps=self.reference_steps)

    def _raw_scores(self, batch: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """(B, 2) raw scores of text and molecule, by definition."""
        if self._ids is None:
            raise RuntimeError("The scorer is not fitted: call scorer.fit(training_pairs) first.")
        ids, smiles, descriptions = _columns(batch, list(batch))
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1) if ids else np.zeros(0, int)
        seen = np.array([self._ids[place] == name for place, name in zip(places, ids, strict=True)], bool)
        changed = seen & (self._contents[places] != _digests(smiles, descriptions))
        if changed.any():
            name = ids[int(changed.argmax())]
            raise ValueError(
                f"id {name}: the scorer was fitted on another caption or SMILES under this id. Fit it again, "
                "or give new pairs ids of their own."
            )
        new = np.flatnonzero(~seen)
        if len(new):
            pairs = PairFeatures([ids[i] for i in new], [descriptions[i] for i in new], [smiles[i] for i in new])
        scores = {}
        for name in self.definition:
            scores[name] = self._raw[name][places]
            if len(new):
                scores[name][new] = self._measures[name].score(pairs)
        return scores

    def _mean_ranks(self, raw: dict[str, np.ndarray]) -> np.ndarray:
        """(B, 2) ranks of text and molecule, averaged over the definitions."""
        ranks = [_rank_columns(raw[name], self._ascending[name]) for name in self.definition]
        return np.mean(ranks, axis=0)

    def _rank_modalities(self, means: np.ndarray) -> np.ndarray:
        return _rank_columns(means, self._ascending_means)

    def _combine(self, modalities: np.ndarray) -> np.ndarray:
        return _COMBINATIONS[self.combination](modalities[:, 0], modalities[:, 1], self.text_weight)


def score_dataset(
    ds: Any, scorer: DifficultyScorer | None = None, num_proc: int | None = None, **scorer_kwargs: Any
) -> Any:
    """Add ``text_difficulty``, ``molecule_difficulty`` and ``difficulty`` to a pairs data set.

    Args:
        ds: a `datasets.Dataset` with string columns ``id``, ``smiles``, ``description``.
        scorer: a fitted scorer is used as it is (for a validation split, say); one that is not fitted is
            fitted on ``ds`` first. Default: a new one, made from ``scorer_kwargs`` and fitted on ``ds``.
        num_proc: processes of ``Dataset.map``. Default: this one.
        scorer_kwargs: arguments of [`DifficultyScorer`], when no scorer is given.

    Returns:
        The data set with the three float64 columns, cached as ``Dataset.map`` caches.

    Raises:
        ValueError: as for [`DifficultyScorer`] and its ``fit``; if both a scorer and arguments are given.

    Example:

    ```python
    train = score_dataset(ds["train"], definition=["confusability", "complexity"])
    easiest = train.sort("difficulty").select(range(10))
    ```
    """
    if scorer is None:
        scorer = DifficultyScorer(**scorer_kwargs)
    elif scorer_kwargs:
        raise ValueError(f"Give either a scorer or its arguments ({', '.join(scorer_kwargs)}), not both.")
    if not scorer.is_fitted:
        scorer.fit(ds)
    return ds.map(scorer, batched=True, num_proc=num_proc, desc="Scoring difficulty")


def _rank_columns(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    return np.stack([rank_among(values[:, c], ascending[:, c]) for c in range(2)], axis=1)


def _columns(rows: Any, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise ValueError(
            f"missing columns: {', '.join(missing)}. A pairs data set has {', '.join(COLUMNS)}; "
            f"this one has {', '.join(names)}. Rename its columns with rename_columns."
        )
    columns = [rows[column] for column in COLUMNS]
    if any(isinstance(values, str) for values in columns):
        raise ValueError("A single row was given: the scorer takes batches, as in ds.map(scorer, batched=True).")
    ids, smiles, descriptions = (list(values[:]) for values in columns)
    for column, values in zip(COLUMNS, (ids, smiles, descriptions), strict=True):
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(
                    f"row {row} (id {ids[row]}): {column} is {value!r}, expected text. Cast the column to "
                    "string, or mend the row."
                )
    return ids, smiles, descriptions


def _check_unique(ids: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name in first:
            raise ValueError(
                f"rows {first[name]} and {row} share the id {name!r}. Ids tell pairs apart: make them unique."
            )
        first[name] = row


def _digests(smiles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
    """(N,) 64-bit digests of the pairs' contents."""
    texts = (f"{molecule}\0{description}" for molecule, description in zip(smiles, descriptions, strict=True))
    digests = (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") for text in texts)
    return np.fromiter(digests, np.uint64, count=len(smiles))
