"""What a training spends: time, pairs and text tokens, counted while it runs."""

import os
import time
from collections.abc import Mapping
from typing import Any

import torch

from class_hf.utils.distributed import global_sum, world_size

# Summed over the processes of a run.
_SUMMED = ("cpu_seconds", "evaluation_cpu_seconds", "pairs_seen", "tokens_seen")


def cpu_seconds() -> float:
    """CPU time of this process in seconds: all its threads, and its child processes that have ended.

    >>> cpu_seconds() > 0
    True
    """
    times = os.times()  # its own time has a resolution of 10 ms only
    return time.process_time() + times.children_user + times.children_system


def count_tokens(batch: Mapping[str, Any]) -> torch.Tensor | int:
    """Text tokens of a batch, without padding, as the text tower reads them.

    Args:
        batch: inputs of the model, or `{"chunks": [inputs, ...]}`.

    Returns:
        The number, as a tensor () of the device if the batch is padded. 0 for cached outputs of the text tower.

    >>> count_tokens({"input_ids": torch.ones(5), "text_offsets": torch.tensor([0, 2, 5])})
    5
    """
    if "chunks" in batch:
        return sum(count_tokens(chunk) for chunk in batch["chunks"])
    if "attention_mask" in batch:
        return batch["attention_mask"].sum()
    return batch["input_ids"].numel() if "input_ids" in batch else 0


class TrainingCosts:
    """Counts what a training spends. A resumed training continues the counts of its checkpoint.

    Attributes:
        earlier: the totals before a resume; empty for a run from the beginning.
        evaluation_cpu_seconds: CPU time of the evaluations of this process since the start.

    Example:

    >>> costs = TrainingCosts()
    >>> costs.add(pairs=2, tokens=torch.tensor(7))
    >>> totals = costs.totals()
    >>> totals["pairs_seen"], totals["tokens_seen"]
    (2, 7)
    """

    def __init__(self) -> None:
        self.earlier: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        """Starts the clocks. Call it when the first step is about to begin."""
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()
        self._pairs = 0
        self._tokens: torch.Tensor | int = 0  # on the device, so that counting does not wait for it
        self.evaluation_cpu_seconds = 0.0

    def add(self, *, pairs: int = 0, tokens: torch.Tensor | int = 0) -> None:
        """Counts pairs and text tokens of a micro-batch of this process."""
        self._pairs += pairs
        self._tokens = self._tokens + tokens

    @property
    def wall_seconds(self) -> float:
        """Wall time of the training so far, with the evaluations and the time before a resume."""
        return self.earlier.get("wall_seconds", 0.0) + time.perf_counter() - self._wall

    def log_values(self) -> dict[str, float]:
        """The totals so far for the logs. With W processes they are W times the counts of this process."""
        values = self._rounded([value * world_size() for value in self._own()])
        del values["evaluation_cpu_seconds"]  # each evaluation logs its own
        return values

    def totals(self, device: torch.device | str = "cpu") -> dict[str, float]:
        """The counts so far, summed over all processes. Every process has to call it.

        Args:
            device: a device of this process on which processes can communicate.

        Returns:
            `wall_seconds`, `cpu_seconds` (both with the evaluations), `evaluation_cpu_seconds`, `pairs_seen` and
            `tokens_seen`.
        """
        values = torch.tensor(self._own(), dtype=torch.float64, device=device if world_size() > 1 else "cpu")
        return self._rounded(global_sum(values).tolist())

    def _own(self) -> list[float]:
        """The counts of this process since the start, in the order of `_SUMMED`."""
        return [cpu_seconds() - self._cpu, self.evaluation_cpu_seconds, self._pairs, int(self._tokens)]

    def _rounded(self, values: list[float]) -> dict[str, float]:
        totals = {name: self.earlier.get(name, 0) + value for name, value in zip(_SUMMED, values, strict=True)}
        return {
            "wall_seconds": round(self.wall_seconds, 3),
            **{name: round(value, 3) if name.endswith("seconds") else int(value) for name, value in totals.items()},
        }
