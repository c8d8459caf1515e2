"""What the curriculum does at the events of the Trainer."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from class_hf.curriculum.intensity import Intensity, IntensitySchedule
from class_hf.curriculum.plan import CurriculumPlan
from class_hf.training.costs import TrainingCosts
from class_hf.utils.distributed import rank

logger = logging.getLogger(__name__)

# In-batch accuracies of so many steps that are all equal are no training.
_STEPS_TO_MOVE = 50


class CurriculumCallback(TrainerCallback):
    """Keeps epochs, intensity and learning rate in step with the plan.

    For the Trainer the run is one pass over the plan. This callback gives epochs their meaning: `state.epoch` counts
    curriculum epochs, and evaluation, saving and logging by `epoch` happen at their ends.

    Args:
        plan: the plan of the run.
        intensity: the intensity schedule of the run.
    """

    def __init__(self, plan: CurriculumPlan, intensity: IntensitySchedule):
        self.plan = plan
        self.intensity = intensity
        self.losses: list[torch.Tensor] = []  # of the micro-batches of the current step
        self.accuracies: list[torch.Tensor] = []  # likewise
        self.step_means: dict[str, torch.Tensor] = {}  # `loss` and `in_batch_accuracy` of the last step
        self.step_accuracies: list[torch.Tensor] = []  # of the steps since the last log
        self._learning_rates: list[float] = []
        self.costs = TrainingCosts()

    def see(self, loss: torch.Tensor, accuracy: torch.Tensor) -> None:
        """Takes in the loss and the in-batch accuracy of a micro-batch, scalars."""
        self.losses.append(loss.detach())
        self.accuracies.append(accuracy)

    def at(self, step: int) -> Intensity:
        """The intensity of step `step`, counted from 0, times the factors of its stage."""
        end = self.plan.end  # the intensity is complete when all pairs are admitted that ever are
        epoch = self.plan.epoch_at(step)
        own = self.intensity.at(self.plan.competence(epoch) / end, self.plan.competence(0) / end)
        stage = self.plan.stage(epoch)
        return own._replace(sharpness=own.sharpness * stage.sharpness, step_size=own.step_size * stage.learning_rate)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        state.num_train_epochs = self.plan.epochs
        # A checkpoint's state holds the intervals of the earlier start; those of the arguments are applied.
        state.compute_steps(args, state.max_steps)
        self.losses, self.accuracies, self.step_accuracies = [], [], []
        if rank():
            # The Trainer gives all processes the same seed, so they would drop the same units in each batch. A resume
            # restores the state of each process after this.
            torch.manual_seed(args.seed + rank())
        self.costs.start()

    @property
    def wall_seconds(self) -> float:
        """Wall time of the training so far in seconds, with the time before a resume."""
        return self.costs.wall_seconds

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        metrics: dict[str, float] = kwargs["metrics"]  # type: ignore[assignment]
        self.costs.evaluation_cpu_seconds += sum(
            value for name, value in metrics.items() if name.endswith("_cpu_seconds")
        )

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        optimizer: torch.optim.Optimizer = kwargs["optimizer"]  # type: ignore[assignment]
        factor = self.at(state.global_step).step_size
        # Restored after the step, so that neither the schedule nor a checkpoint sees the scaled rate.
        self._learning_rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        optimizer: torch.optim.Optimizer = kwargs["optimizer"]  # type: ignore[assignment]
        for group, learning_rate in zip(optimizer.param_groups, self._learning_rates, strict=True):
            group["lr"] = learning_rate

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        accuracy = torch.stack(self.accuracies).mean()
        self.step_means = {"loss": torch.stack(self.losses).mean(), "in_batch_accuracy": accuracy}
        self.losses, self.accuracies = [], []
        self.step_accuracies.append(accuracy)
        if self.intensity.mode == "adaptive":
            self.intensity.update(accuracy.item())
        state.epoch = self.plan.progress_at(state.global_step)
        # The end of the last epoch is the end of the Trainer's only pass, where the Trainer acts itself.
        if self.plan.ends_epoch(state.global_step) and state.global_step < self.plan.total_steps:
            if args.logging_strategy == IntervalStrategy.EPOCH:
                control.should_log = True
            if args.eval_strategy == IntervalStrategy.EPOCH and args.eval_delay <= state.epoch:
                control.should_evaluate = True
            if args.save_strategy == SaveStrategy.EPOCH:
                control.should_save = True

    def log_values(self, step: int) -> dict[str, float]:
        """The curriculum's part of the logs of step `step`, counted from 0.

        Returns:
            `curriculum_epoch`, `competence`, `pool_size` (pairs), `intensity`, and `in_batch_accuracy`, the mean over
            the steps since the last log.
        """
        epoch = self.plan.epoch_at(step)
        kappa = self.intensity.kappa(self.plan.competence(epoch), self.plan.competence(0))
        if not self.intensity.actions:
            kappa = 1.0  # nothing follows the intensity
        values: dict[str, float] = {
            "curriculum_epoch": epoch,
            "competence": self.plan.competence(epoch),
            "pool_size": self.plan.pool_sizes[epoch],
            "intensity": kappa,
        }
        if self.plan.has_stages:
            values["stage"] = self.plan.stage(epoch).number
        if self.step_accuracies:
            values["in_batch_accuracy"] = torch.stack(self.step_accuracies).mean().item()
            self.step_accuracies = []
        return values


class NoProgressWarning:
    """Warns once if a run learns nothing: its loss is 0 from the start, or its in-batch accuracy never changes.

    >>> warning = NoProgressWarning()
    >>> warning.see(step=1, loss=0.0, accuracy=1.0)
    'the loss is 0 from the first step: no pair has a negative in its batch. Are all captions or molecules equal?'
    >>> warning.see(step=2, loss=0.0, accuracy=1.0) is None
    True

    One log is not enough to see that the accuracy does not change:

    >>> warning = NoProgressWarning()
    >>> warning.see(step=100, loss=3.0, accuracy=0.2) is None
    True
    >>> warning.see(step=200, loss=2.0, accuracy=0.2).partition(":")[0]
    'the in-batch accuracy is 0.200 since the first step'
    """

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None  # loss and accuracy of the first log
        self._done = False

    def see(self, step: int, loss: float, accuracy: float | None) -> str | None:
        """Takes in a log of the training, and returns the warning if it is due.

        Args:
            step: the optimizer step, from 1.
            loss: mean loss since the last log.
            accuracy: mean in-batch accuracy since the last log, if known.
        """
        if self._done or accuracy is None:
            return None
        if self._first is None:
            self._first = (loss, accuracy)
            if abs(loss) < 1e-9:
                self._done = True
                return (
                    "the loss is 0 from the first step: no pair has a negative in its batch. Are all captions or "
                    "molecules equal?"
                )
            return None
        if accuracy != self._first[1]:
            self._done = True  # it moves
        elif step >= _STEPS_TO_MOVE:
            self._done = True
            return (
                f"the in-batch accuracy is {accuracy:.3f} since the first step: the model learns nothing. Check the "
                "learning rate, and whether captions and molecules belong together."
            )
        return None


class InterruptCallback(TrainerCallback):
    """Turns the first Ctrl-C into a checkpoint at the end of the step. The second Ctrl-C stops at once.

    Use it as a context manager around the training. With several processes, Ctrl-C stops at once: the processes
    receive it at different steps.
    """

    def __init__(self) -> None:
        self.requested = False
        self._earlier: Any = None
        self._installed = False

    def __enter__(self) -> "InterruptCallback":
        self.requested = False
        # Only the main thread may set handlers. A handler that is not Python's own belongs to the user.
        self._installed = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._installed:
            self._earlier = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._earlier)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.requested:
            if args.world_size > 1:
                raise KeyboardInterrupt
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        if self.requested:
            raise KeyboardInterrupt(f"a checkpoint of step {state.global_step} is in {args.output_dir}")
