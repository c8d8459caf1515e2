"""The plan: which pairs each step of a run trains on, known before the run starts."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from class_hf.curriculum.grouping import group_similar
from class_hf.curriculum.pacing import competence, rule_name
from class_hf.curriculum.settings import Order, PlanSettings
from class_hf.curriculum.stages import STAGE_SETTINGS, Stage, stage_at
from class_hf.utils.column_names import WRONG_PROBABILITY
from class_hf.utils.json_text import JsonValue


def rank_pairs(
    order: Order, num_pairs: int, difficulty: np.ndarray | None, ids: Sequence[str] | None, seed: int
) -> np.ndarray:
    """Sorts the rows in the order in which the curriculum admits them.

    Equal difficulties are sorted by id, so that the ranking does not depend on the order of the rows.

    Args:
        order: see [`PlanSettings`][class_hf.curriculum.settings.PlanSettings].
        num_pairs: N.
        difficulty: (N,) in [0, 1]. May be None for the orders `random` and `none`.
        ids: N names. Default: the row numbers.
        seed: of the orders `random` and `none`.

    Returns:
        (N,) int64 row numbers.

    Raises:
        ValueError: if the order needs a difficulty and there is none.

    >>> rank_pairs("easy_first", 3, np.array([0.5, 0.9, 0.5]), ["b", "c", "a"], seed=0).tolist()
    [2, 0, 1]
    """
    if order in ("random", "none"):
        # Sorted by id before shuffling, so that a permuted data set has the same pairs in the same order.
        base = np.arange(num_pairs) if ids is None else np.argsort(np.asarray(ids), kind="stable")
        return np.random.default_rng([seed, 0x52414E44]).permutation(base)
    if difficulty is None:
        raise ValueError(
            f"order {order!r} needs the difficulty of each pair. Score the data set first (`score_dataset`, or "
            "`class-hf score`), or choose order 'random' or 'none'."
        )
    keys = np.arange(num_pairs) if ids is None else np.asarray(ids)
    return np.lexsort((keys, difficulty if order == "easy_first" else -difficulty)).astype(np.int64)


def move_suspects_last(ranking: np.ndarray, wrong_probability: np.ndarray, count: int) -> np.ndarray:
    """Moves the pairs that are most likely wrong to the end of a ranking.

    Args:
        ranking: (N,) row numbers.
        wrong_probability: (N,) probability that each row is a wrong pair.
        count: number of pairs to move. Among equal probabilities, the last ones of the ranking are moved.

    Returns:
        (N,) int64. The other pairs keep their order; the moved pairs are sorted by their probability.

    >>> move_suspects_last(np.array([2, 0, 1]), np.array([0.1, 0.2, 0.9]), count=1).tolist()
    [0, 1, 2]
    """
    order = ranking[np.argsort(wrong_probability[ranking], kind="stable")]
    moved = order[len(order) - count :]
    return np.concatenate([ranking[~np.isin(ranking, moved)], moved])


def check_shares(
    name: str, values: Sequence[float] | np.ndarray, ids: Sequence[str] | None = None, advice: str = ""
) -> np.ndarray:
    """Checks that each pair has a number in [0, 1].

    Args:
        name: what the numbers are, for the error.
        values: N numbers.
        ids: N names of the pairs, for the error.
        advice: what to do; the end of the error.

    Returns:
        (N,) float64.

    Raises:
        ValueError: if a value is NaN or outside [0, 1]; names the row, its id and the value.

    >>> check_shares("difficulty", [0.5, 1.5], ids=["a", "b"], advice="Score the data set again.")
    Traceback (most recent call last):
    ValueError: row 1 (id b): difficulty 1.5 is no number in [0, 1]. Wrong rows: 1. Score the data set again.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no number in each row: {error}. {advice}".rstrip()) from error
    if numbers.ndim != 1:
        raise ValueError(f"{name} has the shape {numbers.shape}; expected one number for each pair, (N,).")
    wrong = np.flatnonzero(~((numbers >= 0.0) & (numbers <= 1.0)))
    if wrong.size:
        row = int(wrong[0])
        label = f" (id {ids[row]})" if ids is not None else ""
        message = f"row {row}{label}: {name} {numbers[row]} is no number in [0, 1]. Wrong rows: {wrong.size}. {advice}"
        raise ValueError(message.rstrip())
    return numbers


class CurriculumPlan:
    """The pairs of each step of a run, known before the run starts.

    CLASS (arXiv 2502.11633) schedules samples but does not publish how; this definition is the package's own. Epoch e
    of E admits the first `pool_sizes[e] = max(B, ceil(c(e / (span E)) N))` pairs of the ranking, where c is the
    competence. Each admitted pair is drawn once in the epoch, in an order that depends on (seed, e), in complete
    global batches of B. The remaining pairs, at most B - 1, are not drawn in this epoch. So early epochs have fewer
    steps. With `stages` pacing a stage can have its own number of epochs, batch size, learning rate and sharpness.

    With `end` below 1 the pool stops growing at that share, and the other pairs are never drawn. These are the pairs
    with the largest `wrong_probability`, if it is passed, else the last pairs of the ranking.

    ```
    N = 8 pairs, easiest first: a b c d e f g h     global batch 2, start 0.5, 3 epochs, linear, span 0.67
    epoch 0  pool a-d   |c a|d b|                   2 steps
    epoch 1  pool a-f   |f b|a e|c d|               3 steps
    epoch 2  pool a-h   |g a|h d|b f|e c|           4 steps     9 steps in total, 12 without the curriculum
    ```

    Args:
        difficulty: (N,) in [0, 1], 1 for the hardest. May be None for the orders `random` and `none`.
        settings: how pairs are admitted and drawn. Its fields may also be passed as keyword arguments instead.
        ids: N names of the pairs, which break ties. Default: the row numbers.
        num_pairs: N; needed only without `difficulty` and `ids`.
        wrong_probability: (N,) in [0, 1], the probability that each pair is wrong, see
            [`Suspects`][class_hf.difficulty.suspects.Suspects]. It only decides which pairs `end` leaves out.
        vectors: (N, D), of [`~class_hf.curriculum.grouping.pair_vectors`]; needed for groups.
        options: the fields of [`PlanSettings`][class_hf.curriculum.settings.PlanSettings], if `settings` is not
            passed.

    Raises:
        ValueError: if an argument is out of range, there are fewer pairs than one batch, or a difficulty is no number
            in [0, 1].

    Example:

    >>> plan = CurriculumPlan(np.linspace(0, 1, 8), epochs=3, batch_size=2, start=0.5, pacing="linear", span=0.67)
    >>> plan.pool_sizes, plan.steps_per_epoch, plan.total_steps
    ((4, 6, 8), (2, 3, 4), 9)
    >>> sorted(plan.epoch_order(0).tolist())
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        difficulty: Sequence[float] | np.ndarray | None = None,
        settings: PlanSettings | None = None,
        *,
        ids: Sequence[str] | None = None,
        num_pairs: int | None = None,
        wrong_probability: Sequence[float] | np.ndarray | None = None,
        vectors: np.ndarray | None = None,
        **options: Any,
    ):
        if settings is None:
            settings = PlanSettings(**options)
        elif options:
            raise ValueError(f"Pass either settings or its fields ({', '.join(options)}), not both.")
        sizes = {len(column) for column in (difficulty, ids, wrong_probability) if column is not None}
        sizes |= {num_pairs} if num_pairs is not None else set()
        if len(sizes) != 1:
            raise ValueError(
                f"the number of pairs is unclear: {sorted(sizes)}. Pass difficulty, ids and num_pairs of one length."
            )
        self.num_pairs = int(sizes.pop())
        if self.num_pairs < settings.batch_size:
            raise ValueError(
                f"the data set has {self.num_pairs} pairs, fewer than one global batch of {settings.batch_size}. "
                "Lower per_device_train_batch_size, or its product with processes and gradient_accumulation_steps, to "
                f"at most {self.num_pairs}."
            )
        if settings.group_size > 1 and (vectors is None or len(vectors) != self.num_pairs):
            raise ValueError(
                f"groups of {settings.group_size} need a vector of each of the {self.num_pairs} pairs; got "
                f"{'none' if vectors is None else len(vectors)}. Make them with `pair_vectors`."
            )
        self.vectors = vectors if settings.group_size > 1 else None
        values = None
        if difficulty is not None:
            values = check_shares("difficulty", difficulty, ids, "Score the data set again.")
        self.ranking = rank_pairs(settings.order, self.num_pairs, values, ids, settings.seed)
        self.num_left_out = self.num_pairs - math.ceil(settings.end * self.num_pairs)
        if self.num_left_out and wrong_probability is not None:
            probabilities = check_shares(WRONG_PROBABILITY, wrong_probability, ids, "Find the suspects again.")
            self.ranking = move_suspects_last(self.ranking, probabilities, self.num_left_out)
        elif self.num_left_out and settings.order == "none":
            raise ValueError(
                f"the end share is {settings.end}, but order 'none' does not rank the pairs. Pass wrong_probability, "
                "choose another order, or set the end share to 1."
            )
        self.batch_size = settings.batch_size
        self._settings = settings
        self.settings: dict[str, Any] = {
            **asdict(settings),
            "pacing": rule_name(settings.pacing),
            "num_pairs": self.num_pairs,
        }
        # As before these settings existed, so that the fingerprints of older checkpoints are still valid.
        unused = [name for name in STAGE_SETTINGS if not getattr(settings, name)]
        for name in unused + (["end"] if settings.end == 1.0 else []):
            del self.settings[name]
        self._plan_epochs()

    def _plan_epochs(self) -> None:
        """Computes the pool size and the steps of each epoch."""
        pools: list[int] = []
        steps: list[int] = []
        limit = self._settings.max_steps
        # Without max_steps the plan ends after its epochs. With it the plan has as many epochs as the steps need.
        while sum(steps) < limit if limit is not None else len(pools) < self._settings.epochs:
            batch_size = self.stage(len(pools)).batch_size
            pools.append(max(batch_size, math.ceil(self.competence(len(pools)) * self.num_pairs)))
            steps.append(pools[-1] // batch_size)
        if limit is not None:
            steps[-1] -= sum(steps) - limit
        self.pool_sizes = tuple(pools)
        self.steps_per_epoch = tuple(steps)
        self.batch_sizes = tuple(self.stage(epoch).batch_size for epoch in range(len(pools)))
        self._first_steps = np.concatenate(([0], np.cumsum(steps)))

    @property
    def epochs(self) -> int:
        """Number of epochs. `max_steps` may cut the last one."""
        return len(self.pool_sizes)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        return int(self._first_steps[-1])

    @property
    def total_pairs(self) -> int:
        """Pairs drawn in the run, with repetitions."""
        return sum(steps * size for steps, size in zip(self.steps_per_epoch, self.batch_sizes, strict=True))

    @property
    def full_steps(self) -> int:
        """Steps of the same number of epochs without the curriculum."""
        return self._settings.epochs * (self.num_pairs // self.batch_size)

    def stage(self, epoch: int) -> Stage:
        """The stage of an epoch, with its batch size and its factors."""
        return stage_at(epoch, self._settings)

    def competence(self, epoch: int) -> float:
        """Share of the pairs that an epoch admits."""
        settings = self._settings
        if settings.order == "none":
            return settings.end
        progress = epoch / (settings.span * settings.epochs)
        if settings.stage_epochs:
            stage = self.stage(epoch).number
            progress = 1.0 if stage == settings.stages else (stage + 0.5) / settings.stages
        return competence(
            progress,
            pacing=settings.pacing,
            start=settings.start,
            power=settings.power,
            stages=settings.stages,
            end=settings.end,
        )

    @property
    def end(self) -> float:
        """Share of the pairs that is admitted at the end."""
        return self._settings.end

    @property
    def left_out(self) -> np.ndarray:
        """Rows that `end` leaves out, the least suspect first: (num_left_out,) int64. They are never drawn."""
        return self.ranking[self.num_pairs - self.num_left_out :]

    @property
    def has_stages(self) -> bool:
        """Whether a stage has settings of its own."""
        return any(name in self.settings for name in STAGE_SETTINGS)

    def epoch_at(self, step: int) -> int:
        """The epoch of a step, counted from 0. After the end it is the last epoch."""
        return min(int(np.searchsorted(self._first_steps, step, side="right")) - 1, self.epochs - 1)

    def progress_at(self, step: int) -> float:
        """Epochs that are complete after so many steps, with a fraction: 2.5 is the middle of the third epoch."""
        if step >= self.total_steps:
            return float(self.epochs)
        epoch = self.epoch_at(step)
        return epoch + (step - int(self._first_steps[epoch])) / self.steps_per_epoch[epoch]

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch is complete after exactly so many steps."""
        return step > 0 and step in self._last_steps

    @cached_property
    def _last_steps(self) -> frozenset[int]:
        return frozenset(self._first_steps[1:].tolist())

    def epoch_order(self, epoch: int) -> np.ndarray:
        """Rows of an epoch in the order of drawing, in complete global batches.

        Returns:
            (steps_per_epoch[epoch] * batch_sizes[epoch],) int64.

        Raises:
            IndexError: if the plan has no such epoch.
        """
        if not 0 <= epoch < self.epochs:
            raise IndexError(f"epoch {epoch} is not in the plan of {self.epochs} epochs.")
        settings = self._settings
        generator = np.random.default_rng([settings.seed, epoch])
        drawn = generator.permutation(self.ranking[: self.pool_sizes[epoch]])
        if self.vectors is not None and epoch >= settings.group_from * settings.epochs:
            drawn = group_similar(drawn, self.vectors, settings.group_size, generator)
        return drawn[: self.steps_per_epoch[epoch] * self.batch_sizes[epoch]]

    def order(self) -> np.ndarray:
        """Rows of the run in the order of drawing.

        Returns:
            (total_pairs,) int64. `dataset.select(plan.order())`, read from front to back, is the run.
        """
        return np.concatenate([self.epoch_order(epoch) for epoch in range(self.epochs)])

    def fingerprint(self) -> str:
        """Hash of the settings, the ranking and the vectors. Two plans with one fingerprint draw the same pairs."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.ranking, dtype="<i8").tobytes())
        if self.vectors is not None:
            digest.update(np.ascontiguousarray(self.vectors, dtype="<f4").tobytes())
        if callable(self._settings.pacing):
            digest.update(json.dumps(self.pool_sizes).encode())  # its name does not tell what it computes
        return digest.hexdigest()[:16]

    def table(self) -> list[dict[str, float]]:
        """One row for each epoch: epoch, competence, pool_size, steps, steps_so_far, and its stage if they differ."""
        return [
            {
                "epoch": epoch,
                "competence": round(self.competence(epoch), 4),
                "pool_size": self.pool_sizes[epoch],
                "steps": self.steps_per_epoch[epoch],
                "steps_so_far": int(self._first_steps[epoch + 1]),
                **(self._stage_columns(epoch) if self.has_stages else {}),
            }
            for epoch in range(self.epochs)
        ]

    def _stage_columns(self, epoch: int) -> dict[str, float]:
        columns = self.stage(epoch)._asdict()
        return {"stage": columns.pop("number"), **columns}

    def to_dict(self) -> dict[str, JsonValue]:
        """The plan as it is written to `plan.json`."""
        return {
            **self.settings,
            "left_out": self.num_left_out,
            "total_steps": self.total_steps,
            "total_pairs": self.total_pairs,
            "steps_without_curriculum": self.full_steps,
            "fingerprint": self.fingerprint(),
            "epochs_table": self.table(),
        }

    def __repr__(self) -> str:
        settings = self._settings
        without = "" if settings.max_steps is not None else f", {self.full_steps} without the curriculum"
        left_out = f", {self.num_left_out} pairs left out" if self.num_left_out else ""
        return (
            f"CurriculumPlan({settings.order}, {self.num_pairs} pairs, {self.epochs} epochs, global batch "
            f"{self.batch_size}: {self.total_steps} steps{without}{left_out})"
        )
