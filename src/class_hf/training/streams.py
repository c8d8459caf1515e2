"""Training on rows that come as a stream, without random access."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
from torch.utils.data import IterableDataset

from class_hf.curriculum.plan import CurriculumPlan

logger = logging.getLogger(__name__)


def is_stream(rows: object) -> bool:
    """Whether rows can only be read from front to back.

    >>> is_stream([1, 2]), is_stream(datasets.IterableDataset.from_generator(lambda: iter([{"id": "a"}])))
    (False, True)
    """
    return isinstance(rows, (IterableDataset, datasets.IterableDataset))


class PlannedStream(IterableDataset):
    """Reads a stream once for each epoch of a plan, in complete global batches.

    Epoch e yields the first `plan.steps_per_epoch[e] * plan.batch_size` rows of the stream: the order is that of the
    stream. Shuffle the stream (`dataset.shuffle(buffer_size=...)`); its `set_epoch` is called before each epoch, so
    that each epoch has another order.

    Args:
        rows: the stream; it can be read again for each epoch.
        plan: a plan of the order `none` or `random`.

    Raises:
        ValueError: for another order, or (while reading) if the stream has fewer rows than the plan.

    >>> plan = CurriculumPlan(num_pairs=4, epochs=2, batch_size=2, order="random", start=0.5, span=0.5)
    >>> list(PlannedStream("abcd", plan))
    ['a', 'b', 'a', 'b', 'c', 'd']
    """

    def __init__(self, rows: Iterable[Any], plan: CurriculumPlan):
        order = plan.settings["order"]
        if order not in ("none", "random"):
            raise ValueError(
                f"curriculum_order is {order!r}, which needs random access to the pairs; the training set is a "
                "stream. Use the order `none` or `random`, or a Dataset."
            )
        self.rows = rows
        self.plan = plan
        self._has_warned = False

    def __len__(self) -> int:
        return self.plan.total_pairs

    def __iter__(self) -> Iterator[Any]:
        for epoch, steps in enumerate(self.plan.steps_per_epoch):
            if hasattr(self.rows, "set_epoch"):
                self.rows.set_epoch(epoch)
            expected, count = steps * self.plan.batch_size, 0
            # An epoch of all pairs leaves out less than a batch. These rows are counted.
            end = self.plan.num_pairs if self.plan.pool_sizes[epoch] == self.plan.num_pairs else expected
            for row in self.rows:
                if count == end:
                    self._warn_of_more(end)
                    break
                if count < expected:
                    yield row
                count += 1
            if count < expected:
                raise ValueError(
                    f"the stream ended after {count:,} rows in epoch {epoch}; the plan has {expected:,}. Make the "
                    "plan with the true number of pairs (num_pairs)."
                )

    def _warn_of_more(self, count: int) -> None:
        """Warns once of rows beyond the number of pairs of the plan. They are never read."""
        if count == self.plan.num_pairs and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The stream has more than the %s pairs of the plan; its other rows are not trained on. Make the plan "
                "with the true number of pairs (num_pairs).",
                f"{count:,}",
            )
