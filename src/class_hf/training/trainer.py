"""A `transformers` Trainer that follows a curriculum plan."""

import copy
import inspect
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from class_hf.curriculum.intensity import IntensitySchedule
from class_hf.curriculum.plan import CurriculumPlan
from class_hf.curriculum.sampler import CurriculumSampler
from class_hf.data.collator import ChunkedCollator, TextMoleculeCollator
from class_hf.evaluation.retrieval_evaluator import RetrievalEvaluator
from class_hf.hub.matching import check_parts
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.losses.grad_cache import cached_gradient_loss
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.training.callbacks import CurriculumCallback, InterruptCallback, NoProgressWarning
from class_hf.training.costs import count_tokens
from class_hf.training.gradient_compression import compress_gradients
from class_hf.training.loaders import staged_loader
from class_hf.training.optimizers import split_text_rate, unwrapped_optimizer
from class_hf.training.output_folder import run_lock
from class_hf.training.passed_parts import check_passed, check_precision, refuse_divergence, training_rows, weigh_pairs
from class_hf.training.planning import plan_from_arguments
from class_hf.training.ranking import processor_of
from class_hf.training.resuming import ResumingTrainer
from class_hf.training.streams import PlannedStream, is_stream
from class_hf.training.trainer_checks import (
    FIXED_ARGUMENTS,
    check_chunks,
    check_inputs,
    check_label_smoothing,
    check_plan,
    check_resume_argument,
    check_selection,
    plan_key,
    warn_of_plan,
)
from class_hf.utils.model_output import model_inputs, output_fields

logger = logging.getLogger(__name__)

_CONTRACT = ("text_embeds", "molecule_embeds", "logit_scale")


class CurriculumTrainer(ResumingTrainer):
    """Trains any dual encoder by a [`CurriculumPlan`], with intensity.

    The model may be any module whose `forward(**batch)` returns an output with `text_embeds (B, D)`,
    `molecule_embeds (B, D)` and `logit_scale ()`. The trainer does not ask which towers are inside. A further field of
    the output goes to the loss if the loss has an argument of that name.

    The arguments are those of `transformers.Trainer` and the ones below. `train_dataset` is a data set, a list of
    rows, a torch data set, or a stream (orders `random` and `none`). It needs `difficulty` for the orders `easy_first`
    and `hard_first`, and should have `id`. `compute_metrics` receives an `EvalPrediction`: its `predictions` are the
    embeddings of [`RetrievalEvaluator.embeddings`] as arrays, its `label_ids` (Q,) the rows of the true molecules.

    Changes of `trainer.args` before another `train()` are followed, or refused by name.

    Args:
        loss (`Callable`, *optional*): called as `loss(text_embeds=, molecule_embeds=, logit_scale=, intensity=,
            pair_keys=)`. A loss that learns has `checkpoint_state() -> dict[str, Tensor]`, which goes into each
            checkpoint, and `load_checkpoint_state(state)`. Its `log_values() -> dict[str, float]`, if there is one,
            goes into the training logs. A module is moved to the model's device. Default: [`ContrastiveLoss`].
        evaluator ([`RetrievalEvaluator`], *optional*): used by `evaluate()` and by the evaluation during training.
        plan ([`CurriculumPlan`], *optional*): the plan of the run. Default: made from `args` and `train_dataset`.
        intensity ([`IntensitySchedule`], *optional*): the intensity of the run. Default: made from `args`.

    Raises:
        ValueError: if the plan does not fit the data set or the batch, one process sees several GPUs, or an argument
            has no effect in this trainer.

    Example:

    ```python
    trainer = CurriculumTrainer(
        model=model,
        args=CurriculumTrainingArguments("out", per_device_train_batch_size=256, num_train_epochs=12),
        train_dataset=prepare_pairs(score_dataset(data["train"]), processor),
        data_collator=TextMoleculeCollator(processor, sentence_dropout=0.3),
        processing_class=processor,
        evaluator=evaluator,
    )
    trainer.train()
    ```
    """

    args: CurriculumTrainingArguments
    # The loss is the mean of a micro-batch; the Trainer divides by the accumulation steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: nn.Module | None = None,
        args: CurriculumTrainingArguments | None = None,
        data_collator: Callable[..., Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        loss: Callable[..., Any] | None = None,
        evaluator: RetrievalEvaluator | None = None,
        plan: CurriculumPlan | None = None,
        intensity: IntensitySchedule | None = None,
        **kwargs: Any,
    ):
        args = copy.copy(args) if args is not None else CurriculumTrainingArguments(output_dir="tmp_trainer")
        check_inputs(args, train_dataset, eval_dataset, evaluator, kwargs)
        if data_collator is None and hasattr(processing_class, "collate_text"):
            data_collator = TextMoleculeCollator(processing_class)
        train_dataset = training_rows(train_dataset, processing_class, data_collator)
        check_passed(args, plan, intensity)
        if is_stream(train_dataset):
            dispatch: Any = copy.copy(args.accelerator_config)
            dispatch.dispatch_batches = False  # it would cut ragged tensors
            args.accelerator_config = dispatch
        self.resume_settings = {}
        self.train_costs: dict[str, float] = {}
        self._rows, self._passed_plan, self._passed_intensity = train_dataset, plan, intensity
        self._default_loss = loss is None
        self.plan: CurriculumPlan | None = None
        self._plan_key: tuple[Any, ...] = ()
        self._requested_max_steps = args.max_steps  # while a training runs, args.max_steps is that of the plan
        self._made_optimizer: torch.optim.Optimizer | None = None
        self._no_progress = NoProgressWarning()
        if train_dataset is not None:
            self.plan = self._make_plan(args)
            if is_stream(train_dataset):
                train_dataset = PlannedStream(train_dataset, self.plan)
        self.loss: Any = loss if loss is not None else ContrastiveLoss(args.contrastive_label_smoothing)
        check_label_smoothing(self.loss, args)
        forward = self.loss.forward if isinstance(self.loss, nn.Module) else self.loss
        self._loss_arguments = set(inspect.signature(forward).parameters)
        self.evaluator = evaluator
        if evaluator is not None:
            eval_dataset = evaluator.pairs  # the Trainer needs one if an evaluation strategy is set
        elif eval_dataset is not None and not hasattr(processor_of(processing_class, data_collator), "collate_text"):
            raise ValueError(
                "eval_dataset is ranked with the processor of one of this package's models (processing_class=), and "
                "there is none. Pass evaluator=RetrievalEvaluator(pairs, collator=..., columns=...) instead."
            )
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.args.device)
        if args.forward_chunk_size is not None:
            check_chunks(args.forward_chunk_size, self.model, uses_deepspeed=self.is_deepspeed_enabled)
            self.data_collator = ChunkedCollator(self.data_collator, args.forward_chunk_size)
        self._fixed = {name: getattr(args, name) for name in FIXED_ARGUMENTS}
        self.curriculum: CurriculumCallback | None = None
        self._interrupt = InterruptCallback()
        if self.plan is not None:
            self.curriculum = CurriculumCallback(self.plan, self._make_intensity())
            self.add_callback(self.curriculum)
            self.add_callback(self._interrupt)

    def create_accelerator_and_postprocess(self) -> None:
        """As the Trainer's, with `ddp_gradient_compression`."""
        super().create_accelerator_and_postprocess()
        compress_gradients(self.accelerator, self.args.ddp_gradient_compression)

    # -- what follows from the arguments ----------------------------------------------------------------------

    def _make_plan(self, args: CurriculumTrainingArguments) -> CurriculumPlan:
        """The plan of the arguments; the same object as before if no argument changed."""
        key = plan_key(args)
        if self.plan is not None and key == self._plan_key:
            return self.plan
        if self._passed_plan is not None and self._plan_key:
            raise ValueError(
                "arguments of the plan were changed, but the trainer was made with plan=. Make a new trainer."
            )
        plan = self._passed_plan if self._passed_plan is not None else plan_from_arguments(args, self._rows)
        check_plan(plan, args, self._rows)
        self._plan_key = key
        return plan

    def _make_intensity(self) -> IntensitySchedule:
        """A schedule at its start."""
        passed = self._passed_intensity
        return self.args.intensity_schedule() if passed is None else copy.deepcopy(passed)

    def _follow_arguments(self) -> None:
        """Makes everything again that depends on arguments which may have changed since the last training."""
        args = self.args
        assert self.curriculum is not None
        args.check()
        for name, value in self._fixed.items():
            if getattr(args, name) != value:
                raise ValueError(
                    f"{name} was changed from {value!r} to {getattr(args, name)!r} after the trainer was made, which "
                    "has no effect. Make a new trainer."
                )
        if self._default_loss:
            self.loss.label_smoothing = args.contrastive_label_smoothing
        check_label_smoothing(self.loss, args)
        self._train_batch_size = args.train_batch_size
        self.plan = self.curriculum.plan = self._make_plan(args)
        self.curriculum.intensity = self._make_intensity()
        if isinstance(self.train_dataset, PlannedStream):
            self.train_dataset = PlannedStream(self._rows, self.plan)
        if self._made_optimizer is not None and self._made_optimizer is unwrapped_optimizer(self.optimizer):
            self.optimizer = self._made_optimizer = None  # its rates are those of earlier arguments
        check_selection(args, self.callback_handler.callbacks, own_metrics=self.compute_metrics is not None)
        # The whole plan is one pass of the Trainer: its length is known, and resuming only skips batches.
        args.max_steps = self.plan.total_steps

    def _hp_search_setup(self, trial: Any) -> None:
        if trial is not None:
            self.args.max_steps = self._requested_max_steps
        super()._hp_search_setup(trial)  # sets the arguments of a trial
        if trial is not None:
            self._requested_max_steps = self.args.max_steps
            self._follow_arguments()

    def hyperparameter_search(
        self,
        hp_space: Callable[..., Any] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "maximize",
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Searches as the Trainer does; arguments of the curriculum may be in the space.

        Args:
            hp_space, n_trials, *args, **kwargs: see `transformers.Trainer.hyperparameter_search`.
            compute_objective: *optional*. Default: the metric `metric_for_best_model`.
            direction: *optional*, defaults to `"maximize"`.

        Returns:
            The best run, or the best runs.
        """
        name = f"eval_{(self.args.metric_for_best_model or 'mrr').removeprefix('eval_')}"
        objective = compute_objective if compute_objective is not None else lambda metrics: metrics[name]
        return super().hyperparameter_search(hp_space, objective, n_trials, direction, *args, **kwargs)

    # -- training ---------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains as the Trainer does. No other process can train into the same output folder meanwhile.

        Args:
            resume_from_checkpoint: *optional*; a checkpoint's folder, or True for the newest complete checkpoint of
                the output folder. With True and no complete checkpoint the run starts from the beginning.
            *args, **kwargs: see `transformers.Trainer.train`.

        Returns:
            The output of the Trainer.

        Raises:
            ValueError: if the checkpoint is damaged, or was made with another plan or other settings.
            OutputFolderError: if another process writes to the output folder.
        """
        if self.plan is None or self.curriculum is None:
            raise ValueError("there is nothing to train on: pass `train_dataset=` to the trainer.")
        check_resume_argument(self.args, resume_from_checkpoint)
        lock = run_lock(Path(str(self.args.output_dir))) if self.is_world_process_zero() else nullcontext()
        self._requested_max_steps = self.args.max_steps
        try:
            with lock, self._interrupt:
                self._follow_arguments()
                check_precision(self.model, uses_deepspeed=self.is_deepspeed_enabled)
                check_parts(self.model, self.processing_class)
                checkpoint, state = self.restore(resume_from_checkpoint or None)
                if checkpoint is not None:
                    self.curriculum.intensity.load_state_dict(state["intensity"])
                self.curriculum.costs.earlier = state.get("costs", {})
                self._no_progress = NoProgressWarning()
                if self.is_world_process_zero():
                    warn_of_plan(self.plan, self._rows, self.args)
                output = super().train(checkpoint, *args, **kwargs)
                refuse_divergence(self.curriculum.step_means.get("loss"), self.model, self.state.global_step)
                self.train_costs = self.training_costs()
                return output
        finally:
            self.use_dense_gradients()
            self.is_in_train = False
            self.args.max_steps = self._requested_max_steps

    def _get_train_sampler(self, train_dataset: Any = None) -> CurriculumSampler:
        assert self.plan is not None  # made from the training set in __init__
        return CurriculumSampler(self.plan)

    def get_train_dataloader(self) -> DataLoader:
        """As the Trainer's. If the batch differs between stages, the plan yields the batches."""
        if self.plan is None or len(set(self.plan.batch_sizes)) == 1:
            return super().get_train_dataloader()
        return self.accelerator.prepare(staged_loader(self.train_dataset, self.plan, self.data_collator, self.args))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Runs the model, then the loss at the intensity of the step. A batch of chunks is run chunk by chunk."""
        if "chunks" not in inputs:
            outputs = model(**model_inputs(inputs))
            result = self._loss_of(self._fields(outputs), inputs.get("pair_keys"), inputs.get("pair_weights"))
            loss = result.loss
        else:
            chunks = inputs["chunks"]
            keys = [chunk["pair_keys"] for chunk in chunks if "pair_keys" in chunk]
            pair_keys = torch.cat(keys) if keys else None
            weights = [chunk["pair_weights"] for chunk in chunks if "pair_weights" in chunk]
            pair_weights = torch.cat(weights) if weights else None
            outputs = None
            result, loss = cached_gradient_loss(
                lambda chunk: self._fields(model(**model_inputs(chunk))),
                chunks,
                lambda fields: self._loss_of(fields, pair_keys, pair_weights),
                backward=lambda part: self.accelerator.backward(part / self.current_gradient_accumulation_steps),
                no_sync=lambda: self.accelerator.no_sync(model),
            )
        if self.curriculum is not None and model.training:
            self.curriculum.see(result.loss, result.accuracy)
            self.curriculum.costs.add(tokens=count_tokens(inputs))
        return (loss, outputs) if return_outputs else loss

    def _fields(self, outputs: Any) -> dict[str, Any]:
        """The fields of the model's output that the loss takes.

        Raises:
            ValueError: if the output lacks one of the three required fields.
        """
        fields = output_fields(outputs)
        missing = [name for name in _CONTRACT if fields.get(name) is None]
        if missing:
            raise ValueError(
                f"the model's output lacks {missing}: forward(**batch) must return text_embeds (B, D), "
                "molecule_embeds (B, D) and logit_scale ()."
            )
        further = self._loss_arguments - {*_CONTRACT, "intensity", "pair_keys", "pair_weights"}
        return {name: value for name, value in fields.items() if name in _CONTRACT or name in further}

    def _loss_of(self, fields: dict[str, Any], pair_keys: Any, pair_weights: Any) -> Any:
        """The loss at the intensity of the step."""
        intensity = self.curriculum.at(self.state.global_step) if self.curriculum is not None else None
        if self.is_in_train and self.curriculum is not None:
            self.curriculum.costs.add(pairs=len(fields["text_embeds"]))
        if self.args.suspect_weights:
            fields = {**fields, **weigh_pairs(self.loss, "pair_weights" in self._loss_arguments, pair_weights)}
        return self.loss(**fields, intensity=intensity, pair_keys=pair_keys)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """As the Trainer's, without the logit scale: weight decay would flatten all similarities."""
        return [name for name in super().get_decay_parameter_names(model) if "logit_scale" not in name]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As the Trainer's. With `text_learning_rate`, the parameters of `text_model` are in groups of their own.

        Raises:
            ValueError: if `text_learning_rate` is set and no parameters of `text_model` are trained.
        """
        exists = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if not exists:
            self._made_optimizer = unwrapped_optimizer(optimizer)
        if exists or self.args.text_learning_rate is None:
            return optimizer
        trained: Any = self.model if model is None else model
        split_text_rate(optimizer, trained, self.args.text_learning_rate)
        return optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the curriculum's values to training logs, and the values of a loss with `log_values()`.

        They are `curriculum_epoch`, `competence`, `pool_size`, `intensity` and `in_batch_accuracy`. All logs during
        training have the costs so far: `wall_seconds`, `cpu_seconds`, `pairs_seen` and `tokens_seen`.
        """
        if "loss" in logs and self.curriculum is not None and self.state.global_step > 0:
            refuse_divergence(self.curriculum.step_means.get("loss"), self.model, self.state.global_step)
            logs.update(self.curriculum.log_values(self.state.global_step - 1))
            if hasattr(self.loss, "log_values"):
                logs.update(self.loss.log_values())
            warning = self._no_progress.see(self.state.global_step, logs["loss"], logs.get("in_batch_accuracy"))
            if warning is not None and self.is_world_process_zero():
                logger.warning("%s", warning)
        if self.is_in_train and self.curriculum is not None:
            logs.update(self.curriculum.costs.log_values())
        super().log(logs, start_time)
