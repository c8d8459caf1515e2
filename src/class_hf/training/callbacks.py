"""What the curriculum does at the Trainer's events."""

import time

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from class_hf.curriculum.intensity import Intensity, IntensitySchedule
from class_hf.curriculum.plan import CurriculumPlan


class CurriculumCallback(TrainerCallback):
    """Keeps epochs, intensity and learning rate in step with the plan.

    The Trainer sees the run as one pass, so this callback gives epochs their meaning: `state.epoch` counts
    curriculum epochs, and the strategies `epoch` of evaluation, saving and logging fire at their ends.

    Args:
        plan: of the run.
        intensity: schedule of the run.
    """

    def __init__(self, plan: CurriculumPlan, intensity: IntensitySchedule):
        self.plan = plan
        self.intensity = intensity
        self.accuracies: list[torch.Tensor] = []  # of the micro-batches of the running step
        self.step_accuracies: list[torch.Tensor] = []  # of the steps since the last log
        self._learning_rates: list[float] = []
        self._started = time.perf_counter()

    def at(self, step: int) -> Intensity:
        """The intensity of step `step`, counted from 0."""
        return self.intensity.at(self.plan.competence(self.plan.epoch_at(step)), self.plan.competence(0))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        state.num_train_epochs = self.plan.epochs
        self.accuracies, self.step_accuracies = [], []
        earlier = [entry["wall_seconds"] for entry in state.log_history if "wall_seconds" in entry]
        self._started = time.perf_counter() - (earlier[-1] if earlier else 0.0)

    @property
    def wall_seconds(self) -> float:
        """Wall time of the training so far, the time before a resume included."""
        return time.perf_counter() - self._started

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        optimizer: torch.optim.Optimizer = kwargs["optimizer"]  # type: ignore[assignment]
        factor = self.at(state.global_step).step_size
        # Put back after the step, so that neither the schedule nor a checkpoint ever sees the scaled rate.
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
        self.accuracies = []
        self.step_accuracies.append(accuracy)
        if self.intensity.mode == "adaptive":
            self.intensity.update(accuracy.item())
        state.epoch = self.plan.progress_at(state.global_step)
        # The end of the last epoch is the end of the Trainer's only pass, at which it acts by itself.
        if self.plan.ends_epoch(state.global_step) and state.global_step < self.plan.total_steps:
            if args.logging_strategy == IntervalStrategy.EPOCH:
                control.should_log = True
            if args.eval_strategy == IntervalStrategy.EPOCH and args.eval_delay <= state.epoch:
                control.should_evaluate = True
            if args.save_strategy == SaveStrategy.EPOCH:
                control.should_save = True

    def log_values(self, step: int) -> dict[str, float]:
        """What the logs of step `step` (counted from 0) say of the curriculum."""
        epoch = self.plan.epoch_at(step)
        kappa = self.intensity.kappa(self.plan.competence(epoch), self.plan.competence(0))
        if not self.intensity.actions:
            kappa = 1.0  # nothing follows it
        values: dict[str, float] = {
            "curriculum_epoch": epoch,
            "competence": self.plan.competence(epoch),
            "pool_size": self.plan.pool_sizes[epoch],
            "intensity": kappa,
        }
        if self.step_accuracies:
            values["in_batch_accuracy"] = torch.stack(self.step_accuracies).mean().item()
            self.step_accuracies = []
        return values
