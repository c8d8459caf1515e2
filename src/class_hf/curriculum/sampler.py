"""The sampler: yields the rows of a plan from front to back."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from class_hf.curriculum.plan import CurriculumPlan


class CurriculumSampler(Sampler[int]):
    """Yields the rows of the complete run, epoch after epoch, as one sequence.

    The Trainer sees one pass of known length. Total steps and the learning rate schedule are exact, `set_epoch` is not
    needed, and resuming only skips batches already seen, for any number of processes, workers and accumulation steps.
    Consecutive batches of the sequence go to the processes 0 .. W - 1 of the same step, so a global batch is one block
    of `plan.batch_size` rows:

    ```
    N = 8 pairs, easiest first: a b c d e f g h     global batch 2, start 0.5, 3 epochs
    epoch 0  pool a-d   |c a|d b|                   2 steps
    epoch 1  pool a-f   |f b|a e|c d|               3 steps
    epoch 2  pool a-h   |g a|h d|b f|e c|           4 steps     9 steps in total, 12 without the curriculum
    two processes: rank 0 sees c, d, f, a, ...      rank 1 sees a, b, b, e, ...
    ```

    The sequence depends only on the plan, not on a global random state or on the trainer.

    Args:
        plan: the plan of the run.

    Example:

    >>> plan = CurriculumPlan(num_pairs=4, epochs=2, batch_size=2, order="none")
    >>> len(CurriculumSampler(plan))
    8
    """

    def __init__(self, plan: CurriculumPlan):
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.total_pairs

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self.plan.epochs):
            yield from self.plan.epoch_order(epoch).tolist()


class CurriculumBatchSampler:
    """Yields the rows of the complete run in micro-batches, for plans whose stages have batches of different sizes.

    A global batch of B rows is divided into `parts` micro-batches of B / parts rows, in the order of the plan.

    Args:
        plan: the plan of the run.
        parts: micro-batches of a step: processes times accumulation steps. It divides each batch size.

    Example:

    >>> plan = CurriculumPlan(
    ...     num_pairs=8, epochs=2, batch_size=4, order="none", pacing="stages", stages=1, stage_epochs=(1, 1),
    ...     stage_batch_sizes=(0.5, 1),
    ... )
    >>> [len(batch) for batch in CurriculumBatchSampler(plan, parts=1)]
    [2, 2, 2, 2, 4, 4]
    """

    # Read by accelerate: batches of any size, and no incomplete one.
    batch_size = None
    drop_last = True

    def __init__(self, plan: CurriculumPlan, parts: int):
        self.plan, self.parts = plan, parts

    def __len__(self) -> int:
        return self.plan.total_steps * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        for epoch, size in enumerate(self.plan.batch_sizes):
            rows = self.plan.epoch_order(epoch).reshape(-1, size // self.parts)
            yield from rows.tolist()
