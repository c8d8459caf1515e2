"""The plan: which pairs every step of a run trains on, known before the run starts."""

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from class_hf.curriculum.grouping import deal_in_groups
from class_hf.curriculum.pacing import Pacing, check_pacing, competence

Order = Literal["easy_first", "hard_first", "random", "none"]


def rank_pairs(
    order: Order, num_pairs: int, difficulty: np.ndarray | None, ids: Sequence[str] | None, seed: int
) -> np.ndarray:
    """Rows in the order in which the curriculum admits them: (N,) int64.

    Equal difficulties go by id, so that the ranking does not depend on the order of the rows.
    """
    if order in ("random", "none"):
        # By id, then shuffled: a permuted data set gets the same pairs in the same order.
        base = np.arange(num_pairs) if ids is None else np.argsort(np.asarray(ids), kind="stable")
        return np.random.default_rng([seed, 0x52414E44]).permutation(base)
    if difficulty is None:
        raise ValueError(
            f"order {order!r} needs the difficulty of every pair. Score the data set first "
            "(`score_dataset` or recipes/score.py), or choose order 'random' or 'none'."
        )
    keys = np.arange(num_pairs) if ids is None else np.asarray(ids)
    return np.lexsort((keys, difficulty if order == "easy_first" else -difficulty)).astype(np.int64)


def check_difficulty(difficulty: Sequence[float] | np.ndarray, ids: Sequence[str] | None = None) -> np.ndarray:
    """Difficulty as (N,) float64, checked.

    Raises:
        ValueError: if a value is NaN or outside [0, 1]; names the row, its id and the value.
    """
    values = np.asarray(difficulty, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"difficulty has the shape {values.shape}; expected one number a pair, (N,).")
    wrong = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
    if wrong.size:
        row = int(wrong[0])
        name = f" (id {ids[row]})" if ids is not None else ""
        raise ValueError(
            f"row {row}{name}: difficulty {values[row]} is not a number in [0, 1]; {wrong.size} row(s) are wrong. "
            "Score the data set again with `score_dataset`."
        )
    return values


class CurriculumPlan:
    """Every step of a run, known before it starts (CLASS's sample scheduler; the definition is ours).

    Epoch e of E admits the `pool_sizes[e] = max(B, ceil(c(e / (span E)) N))` first pairs of the ranking. Each
    admitted pair is drawn once in the epoch, in an order seeded by (seed, e), in whole global batches of B; the
    at most B - 1 pairs left over wait for the next epoch. Early epochs are therefore really shorter.

    ```
    N = 8 pairs, easiest first: a b c d e f g h     global batch 2, c0 = 0.5, 3 epochs, linear, span 0.67
    epoch 0  pool a-d   |c a|d b|                   2 steps
    epoch 1  pool a-f   |f b|a e|c d|               3 steps
    epoch 2  pool a-h   |g a|h d|b f|e c|           4 steps     9 steps in all, 12 without the curriculum
    ```

    Args:
        difficulty: (N,) in [0, 1], 1 the hardest; may be None for the orders `random` and `none`.
        ids: (N,) names of the pairs, which break ties; by row if None.
        num_pairs: N, needed only without `difficulty` and `ids`.
        epochs: E, at least 1.
        batch_size: global batch B: pairs per optimizer step over all processes and accumulation steps.
        order: `easy_first`; the controls `random` (the same growing pool, random membership) and `hard_first`;
            `none` (all pairs in every epoch).
        pacing, start, power, stages: see [`competence`].
        span: share of the epochs after which all pairs are in, in (0, 1].
        seed: of the orders.
        max_steps: length of the run in steps, if not None: the plan is cut there, or goes on with full epochs.
        group_size: pairs that are dealt together because they are alike, so that a batch holds harder negatives;
            1 deals at random. A batch of B then holds some B / group_size kinds of pairs.
        group_from: share of the epochs, in [0, 1], after which groups are dealt; random batches before.
        vectors: (N, D), of [`~class_hf.curriculum.grouping.pair_vectors`]; needed for groups.

    Raises:
        ValueError: for an argument out of its range, fewer pairs than one batch, or a bad difficulty.

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
        *,
        ids: Sequence[str] | None = None,
        num_pairs: int | None = None,
        epochs: int,
        batch_size: int,
        order: Order = "easy_first",
        pacing: Pacing = "root",
        start: float = 0.3,
        power: float = 2.0,
        stages: int = 4,
        span: float = 0.75,
        seed: int = 0,
        max_steps: int | None = None,
        group_size: int = 1,
        group_from: float = 0.0,
        vectors: np.ndarray | None = None,
    ):
        if order not in get_args(Order):
            raise ValueError(f"order {order!r} is not known; choose one of {', '.join(get_args(Order))}.")
        check_pacing(pacing, start, power, stages)
        if not 0.0 < span <= 1.0:
            raise ValueError(f"the pacing span is {span}; expected a share of the run in (0, 1].")
        if epochs != int(epochs) or epochs < 1:
            raise ValueError(f"the number of epochs is {epochs}; expected a whole number from 1. Cut with max_steps.")
        if batch_size < 1:
            raise ValueError(f"the global batch is {batch_size}; expected at least 1.")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}; expected at least 1, or None.")
        sizes = {len(column) for column in (difficulty, ids) if column is not None}
        sizes |= {num_pairs} if num_pairs is not None else set()
        if len(sizes) != 1:
            raise ValueError(f"the number of pairs is unclear: found {sorted(sizes)}; pass columns of one length.")
        self.num_pairs = int(sizes.pop())
        if self.num_pairs < batch_size:
            raise ValueError(
                f"the data set has {self.num_pairs} pairs, fewer than one global batch of {batch_size}. "
                "Lower per_device_train_batch_size or gradient_accumulation_steps."
            )
        if group_size < 1:
            raise ValueError(f"the group size is {group_size}; expected at least 1 pair.")
        if not 0.0 <= group_from <= 1.0:
            raise ValueError(f"groups begin at {group_from} of the run; expected a share in [0, 1].")
        if group_size > 1 and (vectors is None or len(vectors) != self.num_pairs):
            raise ValueError(
                f"groups of {group_size} need a vector of each of the {self.num_pairs} pairs; got "
                f"{'none' if vectors is None else len(vectors)}. Make them with `pair_vectors`."
            )
        self.vectors = vectors if group_size > 1 else None
        values = None if difficulty is None else check_difficulty(difficulty, ids)
        self.ranking = rank_pairs(order, self.num_pairs, values, ids, seed)
        self.batch_size = int(batch_size)
        self.settings: dict[str, Any] = {
            "order": order,
            "pacing": pacing,
            "start": float(start),
            "power": float(power),
            "stages": int(stages),
            "span": float(span),
            "epochs": int(epochs),
            "batch_size": self.batch_size,
            "num_pairs": self.num_pairs,
            "seed": int(seed),
            "max_steps": max_steps,
            "group_size": int(group_size),
            "group_from": float(group_from),
        }
        self._lay_out()

    def _lay_out(self) -> None:
        pools: list[int] = []
        steps: list[int] = []
        limit = self.settings["max_steps"]
        # Without a limit the plan ends after its epochs; with one it ends there, after as many epochs as it takes.
        while sum(steps) < limit if limit is not None else len(pools) < self.settings["epochs"]:
            pools.append(max(self.batch_size, math.ceil(self.competence(len(pools)) * self.num_pairs)))
            steps.append(pools[-1] // self.batch_size)
        if limit is not None:
            steps[-1] -= sum(steps) - limit
        self.pool_sizes = tuple(pools)
        self.steps_per_epoch = tuple(steps)
        self._first_steps = np.concatenate(([0], np.cumsum(steps)))

    @property
    def epochs(self) -> int:
        """Number of epochs, the last of which `max_steps` may have cut."""
        return len(self.pool_sizes)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        return int(self._first_steps[-1])

    @property
    def total_pairs(self) -> int:
        """Pairs drawn in the run, repeats counted."""
        return self.total_steps * self.batch_size

    @property
    def full_steps(self) -> int:
        """Steps that the same epochs take without the curriculum."""
        return self.settings["epochs"] * (self.num_pairs // self.batch_size)

    def competence(self, epoch: int) -> float:
        """Share of the pairs that epoch `epoch` admits."""
        if self.settings["order"] == "none":
            return 1.0
        return competence(
            epoch / (self.settings["span"] * self.settings["epochs"]),
            pacing=self.settings["pacing"],
            start=self.settings["start"],
            power=self.settings["power"],
            stages=self.settings["stages"],
        )

    def epoch_at(self, step: int) -> int:
        """The epoch to which step `step` belongs, counted from 0; the last one after the end."""
        return min(int(np.searchsorted(self._first_steps, step, side="right")) - 1, self.epochs - 1)

    def progress_at(self, step: int) -> float:
        """Epochs passed after `step` steps, with a fraction: 2.5 is in the middle of the third epoch."""
        if step >= self.total_steps:
            return float(self.epochs)
        epoch = self.epoch_at(step)
        return epoch + (step - int(self._first_steps[epoch])) / self.steps_per_epoch[epoch]

    def ends_epoch(self, step: int) -> bool:
        """Whether `step` steps are just the end of an epoch."""
        return step > 0 and step in self._last_steps

    @cached_property
    def _last_steps(self) -> frozenset[int]:
        return frozenset(self._first_steps[1:].tolist())

    def epoch_order(self, epoch: int) -> np.ndarray:
        """Rows of epoch `epoch` in the order of drawing, whole global batches: (steps_per_epoch[epoch] * B,) int64."""
        if not 0 <= epoch < self.epochs:
            raise IndexError(f"epoch {epoch} is not in the plan of {self.epochs} epochs.")
        generator = np.random.default_rng([self.settings["seed"], epoch])
        drawn = generator.permutation(self.ranking[: self.pool_sizes[epoch]])
        if self.vectors is not None and epoch >= self.settings["group_from"] * self.settings["epochs"]:
            drawn = deal_in_groups(drawn, self.vectors, self.settings["group_size"], generator)
        return drawn[: self.steps_per_epoch[epoch] * self.batch_size]

    def order(self) -> np.ndarray:
        """Rows of the whole run in the order of drawing: (total_pairs,) int64.

        `dataset.select(plan.order())` read from front to back is the run; the tests take it as the oracle.
        """
        return np.concatenate([self.epoch_order(epoch) for epoch in range(self.epochs)])

    def fingerprint(self) -> str:
        """Hash of the settings and the ranking: two plans with the same one draw the same pairs at every step."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.ranking, dtype="<i8").tobytes())
        if self.vectors is not None:
            digest.update(np.ascontiguousarray(self.vectors, dtype="<f4").tobytes())
        return digest.hexdigest()[:16]

    def table(self) -> list[dict[str, Any]]:
        """One row an epoch: epoch, competence, pool_size, steps, and the steps so far."""
        return [
            {
                "epoch": epoch,
                "competence": round(self.competence(epoch), 4),
                "pool_size": self.pool_sizes[epoch],
                "steps": self.steps_per_epoch[epoch],
                "steps_so_far": int(self._first_steps[epoch + 1]),
            }
            for epoch in range(self.epochs)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The plan as it is written to `plan.json`."""
        return {
            **self.settings,
            "total_steps": self.total_steps,
            "total_pairs": self.total_pairs,
            "steps_without_curriculum": self.full_steps,
            "fingerprint": self.fingerprint(),
            "epochs_table": self.table(),
        }

    def __repr__(self) -> str:
        s = self.settings
        without = "" if s["max_steps"] is not None else f", {self.full_steps} without the curriculum"
        return (
            f"CurriculumPlan({s['order']}, {self.num_pairs} pairs, {self.epochs} epochs, global batch "
            f"{self.batch_size}: {self.total_steps} steps{without})"
        )
