"""How hard each pair is to retrieve: ranks in [0, 1], in both modalities and combined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from class_hf.difficulty.definitions import (
    DEFINITIONS,
    DifficultySettings,
    FittedMeasure,
    check_definitions,
    check_scores,
    check_size,
    fit_definition,
    short_name,
)
from class_hf.difficulty.density import DensitySettings
from class_hf.difficulty.pair_columns import COLUMNS, content_digests, name_pairs, pair_columns, repeated_ids
from class_hf.difficulty.pair_features import PairFeatures
from class_hf.difficulty.ranks import rank_among
from class_hf.difficulty.suspects import Suspects, find_suspects
from class_hf.utils.json_text import JsonValue
from class_hf.utils.numbers import share
from class_hf.utils.plugins import code_digest
from class_hf.utils.suggestions import check_choice

__all__ = ["COLUMNS", "DEFINITIONS", "DIFFICULTY_COLUMNS", "DifficultyScorer", "score_dataset"]
# The columns that scoring adds.
DIFFICULTY_COLUMNS = ("text_difficulty", "molecule_difficulty", "difficulty")

# Each takes (B,) ranks of the text, (B,) ranks of the molecule, and the weight of the text.
_COMBINATIONS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "mean": lambda text, molecule, weight: weight * text + (1 - weight) * molecule,
    "max": lambda text, molecule, weight: np.maximum(text, molecule),
    "product": lambda text, molecule, weight: text * molecule,
    "text": lambda text, molecule, weight: text,
    "molecule": lambda text, molecule, weight: molecule,
}


class DifficultyScorer:
    """Scores how hard pairs are, relative to the training pairs that it was fitted on.

    CLASS (arXiv 2502.11633, abstract) measures difficulty in both modalities. Its formulas are not published; each
    definition here is described with its class:

    - `"complexity"`: how long and how rare the caption and the molecule are
      ([`~class_hf.difficulty.complexity.Complexity`]);
    - `"confusability"`: how similar the nearest other pairs are
      ([`~class_hf.difficulty.confusability.Confusability`]);
    - `"density"`: how many other pairs are similar ([`~class_hf.difficulty.density.Density`]);
    - `"alignment"`: how far down a small reference model ranks the true partner
      ([`~class_hf.difficulty.alignment.Alignment`]; it trains for about ten seconds on two cores);
    - `"package.module:Name"`: a definition of your own, see [`~class_hf.difficulty.definitions.Measure`].

    In each modality the raw scores become ranks among the training pairs: (number below + half the number equal) / N.
    The hardest pair has rank 1, equal pairs have equal ranks, and the mean over the training pairs is 1/2. With
    several definitions their ranks are averaged and ranked again. The combination of the two modalities is ranked too.
    Ties remain ties; [`CurriculumPlan`][class_hf.CurriculumPlan] breaks them by id.

    A fitted scorer is a callable for `Dataset.map(scorer, batched=True)`. It recognises training pairs by their id,
    and scores all other pairs (a validation split) against the training pairs. Scores do not depend on the order of
    the rows, the batch size or the number of processes. The state does not change after `fit`, so `map` caches.

    Args:
        definition: one name or several of the above. Default: alignment.
        combination: how `difficulty` combines the two modalities: `"mean"` (weighted by `text_weight`), `"max"`,
            `"product"`, `"text"` or `"molecule"` (that modality alone).
        text_weight: weight of the text in the mean, in [0, 1]. The other combinations do not use it.
        neighbours: of confusability. k >= 1: it averages over the k nearest pairs; k must be smaller than the number
            of pairs. `"all"`: it averages over all other pairs, in linear time. The two rank pairs differently.
        seed: of alignment's reference models. The other definitions draw nothing at random.
        reference_steps: optimizer steps of each of alignment's two reference models. On ChEBI-20, reference models
            rank held-out pairs best after 150 steps and overfit after more.
        text_similarity: how confusability compares captions: `"tfidf"`, by their terms, or `"hashed"`, by their terms
            hashed to 1,024 components. With many pairs the second is faster and ranks them almost equally.
        exact_up_to: of confusability. With more training pairs, an index of faiss, which must be installed, finds most
            of the nearest pairs. With fewer, all pairs are compared. Density compares each pair with a sample of at
            most this size.
        density: of density: threshold and vectors, see [`~class_hf.difficulty.density.DensitySettings`].

    Raises:
        ValueError: if an argument is out of range; the message names it and what is allowed.
        ImportError: if the module of a definition of your own cannot be imported.

    Example:

    >>> pairs = {
    ...     "id": ["a", "b", "c"],
    ...     "smiles": ["C", "CCO", "C[C@H](N)C(=O)O"],
    ...     "description": ["An alkane.", "An alcohol.", "An amino acid isolated from silk."],
    ... }
    >>> scorer = DifficultyScorer("complexity").fit(pairs)
    >>> [round(score, 2) for score in scorer(pairs)["difficulty"]]
    [0.5, 0.17, 0.83]

    With a `datasets.DatasetDict` of two splits:

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
        density: DensitySettings | None = None,
    ) -> None:
        self.definition = (definition,) if isinstance(definition, str) else tuple(definition)
        self.combination = combination
        self.text_weight = text_weight
        self.neighbours = neighbours
        self.seed = seed
        self.reference_steps = reference_steps
        self.text_similarity = text_similarity
        self.exact_up_to = exact_up_to
        self.density = density or DensitySettings()
        _ = self.settings  # checks them
        check_definitions(self.definition)
        check_choice("combination", combination, _COMBINATIONS)
        share.check("text_weight", text_weight)
        if combination != "mean" and text_weight != 0.5:
            raise ValueError(
                f"text_weight is {text_weight}, which has no effect with combination {combination!r}: it weights the "
                "mean. Leave it out."
            )
        self._ids: np.ndarray | None = None
        self._repeated: list[str] = []

    @property
    def settings(self) -> DifficultySettings:
        """The arguments that the definitions read."""
        return DifficultySettings(
            self.neighbours,
            self.seed,
            self.reference_steps,
            self.text_similarity,
            self.exact_up_to,
            self.density,
        )

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` was called."""
        return self._ids is not None

    def describe(self) -> dict[str, JsonValue]:
        """The arguments of the scorer, ready for JSON.

        >>> DifficultyScorer("complexity").describe()["definition"]
        ['complexity']
        """
        return {
            "definition": list(self.definition),
            "combination": self.combination,
            "text_weight": self.text_weight,
            **asdict(self.settings),
        }

    def fit(self, ds: Any) -> "DifficultyScorer":
        """Fits on the training pairs. Neighbours and ranks need all of them.

        Args:
            ds: N rows with string columns `id`, `smiles`, `description`: a `datasets.Dataset`, or a mapping of
                columns.

        Returns:
            The scorer.

        Raises:
            ValueError: if a column is missing, the data set is empty or too small for the definition, an id has two
                molecules, a pair occurs twice, a value is no string, a caption has no word or a SMILES cannot be
                parsed. The message names the row and its id.
            ImportError: if there are more pairs than `exact_up_to` and faiss is not installed.
        """
        names = getattr(ds, "column_names", None) or list(ds)
        ids, smiles, descriptions = pair_columns(ds, names)
        if not ids:
            raise ValueError("The data set is empty. Fit the scorer on the training pairs.")
        self._repeated = repeated_ids(ids, smiles, descriptions)
        ids = name_pairs(ids, smiles, descriptions, self._repeated)
        for name in self.definition:
            check_size(name, len(ids), self.settings)
        # `datasets` caches scores by the pickle of this object, which names the user's own classes and not their code.
        self._code = code_digest(self.definition)
        # In the order of their ids, so that shuffled rows give the same state, bit for bit.
        order = sorted(range(len(ids)), key=ids.__getitem__)
        ids, smiles, descriptions = ([column[row] for row in order] for column in (ids, smiles, descriptions))
        pairs = PairFeatures(ids, descriptions, smiles, order)
        self._measures: dict[str, FittedMeasure] = {}
        self._raw: dict[str, np.ndarray] = {}
        for name in self.definition:
            self._measures[name], self._raw[name] = fit_definition(name, pairs, self.settings)
        self._ascending = {name: np.sort(raw, axis=0) for name, raw in self._raw.items()}
        means = self._mean_ranks(self._raw)
        self._ascending_means = np.sort(means, axis=0)
        self._ascending_difficulty = np.sort(self._combine(self._rank_modalities(means)))
        self._contents = content_digests(pairs.smiles, pairs.descriptions)
        self._ids = np.array(pairs.ids)
        return self

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
        """Scores a batch of rows.

        Args:
            batch: lists of B strings, `id`, `smiles`, `description`. Other columns are ignored.

        Returns:
            `text_difficulty`, `molecule_difficulty` and `difficulty`: B floats in [0, 1] each, 1 for the hardest.

        Raises:
            RuntimeError: if the scorer is not fitted.
            ValueError: as for `fit`, and if a row has the id of a training pair but another caption or molecule.
        """
        modalities = self._rank_modalities(self._mean_ranks(self._raw_scores(batch)))
        difficulty = rank_among(self._combine(modalities), self._ascending_difficulty)
        return {
            "text_difficulty": modalities[:, 0].tolist(),
            "molecule_difficulty": modalities[:, 1].tolist(),
            "difficulty": difficulty.tolist(),
        }

    def raw_scores(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
        """The scores before ranking, in the unit of each definition.

        Args:
            batch: as for a call.

        Returns:
            `text_<definition>` and `molecule_<definition>`: B floats each.

        Raises:
            RuntimeError, ValueError: as for a call.
        """
        raw = self._raw_scores(batch)
        return {
            f"{modality}_{short_name(name, self.definition)}": raw[name][:, column].tolist()
            for name in self.definition
            for column, modality in enumerate(("text", "molecule"))
        }

    def suspects(self, ds: Any, **options: Any) -> Suspects:
        """Finds the pairs of a data set that are most likely wrong. The scorer need not be fitted.

        Args:
            ds: N rows with string columns `id`, `smiles`, `description`, at least 50.
            options: arguments of [`~class_hf.difficulty.suspects.find_suspects`]: `cross_fits`, `rounds`,
                `max_listed`.

        Returns:
            [`~class_hf.difficulty.suspects.Suspects`], in the order of the rows.

        Raises:
            ValueError: as for `fit`, and if there are fewer than 50 pairs.

        Example:

        ```python
        suspects = DifficultyScorer().suspects(ds["train"])
        print(suspects)  # how many, and the estimated share of wrong pairs
        ds["train"] = ds["train"].add_column("wrong_probability", suspects.wrong_probability.tolist())
        ```
        """
        ids, smiles, descriptions = pair_columns(ds, getattr(ds, "column_names", None) or list(ds))
        order = np.array(sorted(range(len(ids)), key=lambda row: (ids[row], descriptions[row])), np.int64)
        ids, smiles, descriptions = ([column[row] for row in order] for column in (ids, smiles, descriptions))
        pairs = PairFeatures(ids, descriptions, smiles, order.tolist())
        options = {"seed": self.seed, "reference_steps": self.reference_steps, **options}
        return find_suspects(pairs, **options).reorder(order)

    def _raw_scores(self, batch: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
        """(B, 2) raw scores of text and molecule, by definition."""
        if self._ids is None:
            raise RuntimeError("The scorer is not fitted: call scorer.fit(training_pairs) first.")
        ids, smiles, descriptions = pair_columns(batch, list(batch))
        ids = name_pairs(ids, smiles, descriptions, self._repeated)
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1) if ids else np.zeros(0, int)
        seen = np.array([self._ids[place] == name for place, name in zip(places, ids, strict=True)], bool)
        changed = seen & (self._contents[places] != content_digests(smiles, descriptions))
        if changed.any():
            name = ids[int(changed.argmax())]
            raise ValueError(
                f"id {name}: the scorer was fitted on another caption or SMILES with this id. Fit it again, or give "
                "new pairs other ids."
            )
        new = np.flatnonzero(~seen)
        if len(new):
            pairs = PairFeatures(
                ids=[ids[row] for row in new],
                descriptions=[descriptions[row] for row in new],
                smiles=[smiles[row] for row in new],
            )
        scores = {}
        for name in self.definition:
            scores[name] = self._raw[name][places]
            if len(new):
                scores[name][new] = check_scores(name, self._measures[name].score(pairs), pairs)
        return scores

    def _mean_ranks(self, raw: dict[str, np.ndarray]) -> np.ndarray:
        """(B, 2) ranks of text and molecule, averaged over the definitions."""
        ranks = [_rank_columns(raw[name], self._ascending[name]) for name in self.definition]
        return np.mean(ranks, axis=0)

    def _rank_modalities(self, means: np.ndarray) -> np.ndarray:
        """(B, 2) ranks of the averaged ranks."""
        return _rank_columns(means, self._ascending_means)

    def _combine(self, modalities: np.ndarray) -> np.ndarray:
        """(B,) combination of the ranks of the two modalities."""
        return _COMBINATIONS[self.combination](modalities[:, 0], modalities[:, 1], self.text_weight)


def score_dataset(
    ds: Any, scorer: DifficultyScorer | None = None, num_proc: int | None = None, **scorer_kwargs: Any
) -> Any:
    """Adds `text_difficulty`, `molecule_difficulty` and `difficulty` to a data set of pairs.

    Args:
        ds: a `datasets.Dataset` or a pandas `DataFrame` with string columns `id`, `smiles`, `description`.
        scorer: a fitted scorer is used without fitting it again, for instance for a validation split. A scorer that is
            not fitted is fitted on `ds`. Default: a new scorer with `scorer_kwargs`, fitted on `ds`.
        num_proc: processes of `Dataset.map`. Default: this process only.
        scorer_kwargs: arguments of [`DifficultyScorer`], if no scorer is passed.

    Returns:
        The data set with the three float64 columns, cached as `Dataset.map` caches.

    Raises:
        ValueError: as for [`DifficultyScorer`] and its `fit`; if a scorer and its arguments are passed.

    Example:

    ```python
    train = score_dataset(ds["train"], definition=["confusability", "complexity"])
    easiest = train.select(np.argsort(train["difficulty"][:])[:10])
    ```
    """
    from datasets import DatasetDict

    from class_hf.utils.in_memory import as_table

    if scorer is None:
        scorer = DifficultyScorer(**scorer_kwargs)
    elif scorer_kwargs:
        raise ValueError(f"Pass either a scorer or its arguments ({', '.join(scorer_kwargs)}), not both.")
    if not isinstance(ds, DatasetDict):
        ds = as_table(ds, "the pairs")
    if not scorer.is_fitted:
        scorer.fit(ds)
    return ds.map(scorer, batched=True, num_proc=num_proc, desc="Scoring difficulty")


def _rank_columns(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """(B, 2) rank of each value in its column of the training pairs."""
    columns = zip(values.T, ascending.T, strict=True)
    return np.stack([rank_among(*column) for column in columns], axis=1)
