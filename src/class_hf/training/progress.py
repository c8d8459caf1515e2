"""The progress of a training on the terminal: a table with one line per evaluation, or JSON lines."""

import logging
from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerControl, TrainerState
from transformers.trainer_utils import IntervalStrategy

from class_hf.training.callbacks import CurriculumCallback

logger = logging.getLogger(__name__)

# Titles and widths of the columns.
_COLUMNS = {
    "epoch": 6,
    "step": 7,
    "loss": 8,
    "accuracy": 9,
    "pool": 9,
    "MRR": 7,
    "Hits@1": 7,
    "Hits@10": 8,
    "time": 8,
    "left": 8,
}


def duration(seconds: float) -> str:
    """Formats a time.

    >>> duration(8.04), duration(75), duration(3_725)
    ('8.0 s', '1:15', '1:02:05')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class TrainingTable(ProgressCallback):
    """Prints one line per evaluation, below a line of titles. Without evaluations, one line per log entry.

    `loss` and `accuracy` (in the batch) are means over the steps since the last line, of the first process. `pool` is
    the number of pairs that the curriculum admits. On a terminal there is a progress bar too. With JSON, each log
    entry becomes a line of the logger of this module, with all values.

    Args:
        curriculum ([`CurriculumCallback`]): the curriculum of the run. Its clock continues after a resume.
        as_json (`bool`, *optional*, defaults to `False`): log JSON lines, and print no table.
    """

    def __init__(self, curriculum: CurriculumCallback, as_json: bool = False):
        super().__init__()
        self.curriculum, self.as_json = curriculum, as_json
        self._sums: dict[str, Any] = {}
        self._steps = 0
        self._has_titles = False

    @classmethod
    def use_in(cls, trainer: Trainer, curriculum: CurriculumCallback, as_json: bool = False) -> "TrainingTable":
        """Puts a table in the place of what the Trainer prints.

        Args:
            trainer ([`CurriculumTrainer`]): the trainer.
            curriculum, as_json: As for the class.

        Returns:
            The table.
        """
        for printer in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printer)
        table = cls(curriculum, as_json)
        trainer.add_callback(table)
        return table

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._sums, self._steps, self._has_titles = {}, 0, False
        if not args.disable_tqdm:
            super().on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # Sums stay on the device: reading them would wait for it in each step.
        for name, value in self.curriculum.step_means.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        if self.training_bar is not None:
            super().on_step_end(args, state, control, **kwargs)

    def on_prediction_step(self, args: Any, *further: Any, **kwargs: Any) -> None:
        if not args.disable_tqdm:
            super().on_prediction_step(args, *further, **kwargs)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.training_bar is not None:
            super().on_train_end(args, state, control, **kwargs)

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        if self.as_json:
            logger.info("training", extra={"step": state.global_step, **logs})
        if "loss" in logs and args.eval_strategy == IntervalStrategy.NO:
            self._print_line(state, {})

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().on_evaluate(args, state, control, **kwargs)
        # An evaluation before or after the training is no line of the table.
        if state.is_world_process_zero and 0 < state.global_step and state.max_steps > 0:
            self._print_line(state, metrics or {})

    def _print_line(self, state: TrainerState, metrics: dict[str, float]) -> None:
        if self.as_json:
            return
        plan, seconds = self.curriculum.plan, self.curriculum.wall_seconds
        remaining = seconds / state.global_step * (plan.total_steps - state.global_step)
        means = {name: float(total) / self._steps for name, total in self._sums.items()}
        cells = [
            f"{state.epoch or 0:.2f}",
            f"{state.global_step:,}",
            _number(means.get("loss"), 4),
            _number(means.get("in_batch_accuracy"), 3),
            f"{plan.pool_sizes[plan.epoch_at(state.global_step - 1)]:,}",
            *(_number(metrics.get(f"eval_{name}"), 3) for name in ("mrr", "hits@1", "hits@10")),
            duration(seconds),
            duration(remaining) if remaining else "-",
        ]
        self._sums, self._steps = {}, 0
        if not self._has_titles:
            self._has_titles = True
            self._write("".join(f"{title:>{width}}" for title, width in _COLUMNS.items()))
        self._write("".join(f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True)))

    def _write(self, line: str) -> None:
        if self.training_bar is not None:
            self.training_bar.write(line)
        else:
            print(line, flush=True)


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
