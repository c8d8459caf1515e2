"""A `transformers` Trainer that follows a curriculum plan."""

import copy
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.curriculum.sampler import CurriculumSampler
from class_hf.data.collator import ChunkedCollator
from class_hf.evaluation.retrieval_evaluator import RetrievalEvaluator
from class_hf.losses.contrastive import ContrastiveLoss
from class_hf.losses.grad_cache import cached_gradient_loss
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.training.callbacks import CurriculumCallback
from class_hf.training.checkpoints import CURRICULUM_STATE_NAME, LOSS_STATE_NAME, last_complete_checkpoint
from class_hf.training.planning import plan_from_arguments
from class_hf.training.publishing import PublishingTrainer
from class_hf.utils.model_output import output_fields

_CONTRACT = ("text_embeds", "molecule_embeds", "logit_scale")


class CurriculumTrainer(PublishingTrainer):
    """Trains any dual encoder by a [`CurriculumPlan`], with intensity.

    The model may be anything whose `forward(**batch)` returns an output with `text_embeds (B, D)`,
    `molecule_embeds (B, D)` and `logit_scale ()`; which towers are inside is never asked. Further fields of the
    output go to the loss if it has an argument of that name.

    The arguments are those of `transformers.Trainer` and three more. `train_dataset` needs `difficulty` (unless the
    order is `random` or `none`) and should have `id`.

    Args:
        loss: called as `loss(text_embeds=, molecule_embeds=, logit_scale=, intensity=, pair_keys=)`; a
            [`ContrastiveLoss`] if None. A loss that learns has `checkpoint_state() -> dict[str, Tensor]`, which goes
            into each checkpoint, and `load_checkpoint_state(state)`; `log_values() -> dict[str, float]`, if there,
            goes into the training logs. A module is moved to the model's device.
        evaluator: a [`RetrievalEvaluator`]; `evaluate()` and the evaluation during training use it.
        plan: a plan made beforehand; None makes it from `args` and `train_dataset`.

    Raises:
        ValueError: if the plan does not fit the data set or the batch, several GPUs are seen by one process, or a
            checkpoint belongs to another plan.

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
        **kwargs: Any,
    ):
        args = copy.copy(args) if args is not None else CurriculumTrainingArguments(output_dir="tmp_trainer")
        if args.n_gpu > 1:
            raise ValueError(
                f"one process sees {args.n_gpu} GPUs, which would split ragged batches wrongly. Start it with "
                "`accelerate launch`, one process a GPU, or hide all but one with CUDA_VISIBLE_DEVICES."
            )
        if plan is None and train_dataset is not None:
            plan = plan_from_arguments(args, train_dataset)
        if plan is not None:
            self._check_plan(plan, args, train_dataset)
            # The whole plan is one pass of the Trainer: its length is known, and resuming only skips batches.
            args.max_steps = plan.total_steps
        self.plan = plan
        self.loss: Any = loss if loss is not None else ContrastiveLoss(args.contrastive_label_smoothing)
        forward = self.loss.forward if isinstance(self.loss, nn.Module) else self.loss
        self._loss_arguments = set(inspect.signature(forward).parameters)
        self.evaluator = evaluator
        if evaluator is not None and eval_dataset is None:
            eval_dataset = evaluator.pairs  # the Trainer insists on one when an evaluation strategy is set
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
            if getattr(model, "uses_batch_statistics", False):
                raise ValueError(
                    f"forward_chunk_size is {args.forward_chunk_size}, but {type(model).__name__} normalises over the "
                    "batch, and a chunk's statistics are not the batch's. Leave it out."
                )
            if self.is_deepspeed_enabled:
                raise ValueError(
                    f"forward_chunk_size is {args.forward_chunk_size}, which takes several backward passes a step; "
                    "DeepSpeed allows one. Use DDP or FSDP2, or leave it out."
                )
            self.data_collator = ChunkedCollator(self.data_collator, args.forward_chunk_size)
        self.curriculum: CurriculumCallback | None = None
        if plan is not None:
            self.curriculum = CurriculumCallback(plan, args.intensity_schedule())
            self.add_callback(self.curriculum)

    @staticmethod
    def _check_plan(plan: CurriculumPlan, args: CurriculumTrainingArguments, train_dataset: Any) -> None:
        if train_dataset is not None and plan.num_pairs != len(train_dataset):
            raise ValueError(
                f"the plan is for {plan.num_pairs} pairs, the training set has {len(train_dataset)}. Make it anew."
            )
        if plan.batch_size != args.global_batch_size:
            raise ValueError(
                f"the plan has a global batch of {plan.batch_size}, the arguments one of {args.global_batch_size} "
                "(per_device_train_batch_size x processes x gradient_accumulation_steps). Make them equal."
            )

    # -- the order of the pairs -------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> CurriculumSampler:
        assert self.plan is not None  # made from the training set in __init__
        return CurriculumSampler(self.plan)

    # -- the loss ---------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Runs the model, then the loss at the step's intensity; chunk by chunk if the batch comes in chunks."""
        if "chunks" not in inputs:
            outputs = model(**_without_keys(inputs))
            result = self._loss_of(self._fields(outputs), inputs.get("pair_keys"))
            loss = result.loss
        else:
            chunks = inputs["chunks"]
            keys = [chunk["pair_keys"] for chunk in chunks if "pair_keys" in chunk]
            pair_keys = torch.cat(keys) if keys else None
            outputs = None
            result, loss = cached_gradient_loss(
                lambda chunk: self._fields(model(**_without_keys(chunk))),
                chunks,
                lambda fields: self._loss_of(fields, pair_keys),
                backward=lambda part: self.accelerator.backward(part / self.current_gradient_accumulation_steps),
                no_sync=lambda: self.accelerator.no_sync(model),
            )
        if self.curriculum is not None and model.training:
            self.curriculum.accuracies.append(result.accuracy)
        return (loss, outputs) if return_outputs else loss

    def _fields(self, outputs: Any) -> dict[str, Any]:
        """What of the model's output the loss takes.

        Raises:
            ValueError: if the output lacks a field of the contract.
        """
        fields = output_fields(outputs)
        missing = [name for name in _CONTRACT if fields.get(name) is None]
        if missing:
            raise ValueError(
                f"the model's output lacks {missing}: forward(**batch) must return text_embeds (B, D), "
                "molecule_embeds (B, D) and logit_scale ()."
            )
        further = self._loss_arguments - {*_CONTRACT, "intensity", "pair_keys"}
        return {name: value for name, value in fields.items() if name in _CONTRACT or name in further}

    def _loss_of(self, fields: dict[str, Any], pair_keys: Any) -> Any:
        """The loss at the step's intensity."""
        intensity = self.curriculum.at(self.state.global_step) if self.curriculum is not None else None
        return self.loss(**fields, intensity=intensity, pair_keys=pair_keys)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """As the Trainer's, without the factor of the logits: decay would flatten every similarity."""
        return [name for name in super().get_decay_parameter_names(model) if "logit_scale" not in name]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As the Trainer's; the parameters of `text_model` in groups of their own if they have a rate of their own.

        Raises:
            ValueError: if there is a `text_learning_rate` and no `text_model` that learns.
        """
        given = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if given or self.args.text_learning_rate is None:
            return optimizer
        learning: Any = self.model if model is None else model
        named = learning.named_parameters()
        text = {id(parameter) for name, parameter in named if "text_model" in name.split(".")}
        groups = list(optimizer.param_groups)
        for group in groups:
            own = [parameter for parameter in group["params"] if id(parameter) in text]
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in text]
            if own:
                optimizer.add_param_group({**group, "params": own, "lr": self.args.text_learning_rate})
        if len(optimizer.param_groups) == len(groups):
            raise ValueError(
                f"text_learning_rate is {self.args.text_learning_rate}, but the model has no parameters under "
                "`text_model` that learn. Leave it out, or do not freeze the text tower."
            )
        return optimizer

    # -- logs and evaluation ----------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds `curriculum_epoch`, `competence`, `pool_size`, `intensity` and `in_batch_accuracy` to training logs.

        The loss's own `log_values()` too, if it has any. All logs made while training carry `wall_seconds`.
        """
        if "loss" in logs and self.curriculum is not None and self.state.global_step > 0:
            logs.update(self.curriculum.log_values(self.state.global_step - 1))
            if hasattr(self.loss, "log_values"):
                logs.update(self.loss.log_values())
        if self.is_in_train and self.curriculum is not None:
            logs["wall_seconds"] = round(self.curriculum.wall_seconds, 3)
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Retrieval metrics over whole pools, not an in-batch loss.

        Args:
            eval_dataset: prepared pairs to rank among themselves; None takes the trainer's evaluator.
            ignore_keys: unused, kept for the Trainer's signature.
            metric_key_prefix: before every key.

        Returns:
            `eval_mrr`, `eval_hits@1`, `eval_hits@10`, `eval_mean_rank` (text to molecule, the evaluator's pool), and
            the MRR of both pools and directions.

        Raises:
            ValueError: if there is neither an evaluator nor an `eval_dataset`.
        """
        evaluator = self.evaluator
        if eval_dataset is None and evaluator is None:
            eval_dataset = self.eval_dataset
        if eval_dataset is not None:
            evaluator = RetrievalEvaluator(
                eval_dataset,
                processor=self.processing_class,
                name=metric_key_prefix,
                batch_size=self.args.per_device_eval_batch_size,
                bootstrap_samples=0,
            )
        if evaluator is None:
            raise ValueError("nothing to evaluate on: pass `evaluator=` to the trainer, or prepared pairs.")
        started = time.perf_counter()
        pools = evaluator(self.model)["pools"]
        main = pools[evaluator.pool_name]["text_to_molecule"]
        metrics = {f"{metric_key_prefix}_{name}": main[name] for name in ("mrr", "hits@1", "hits@10", "mean_rank")}
        for pool, directions in pools.items():
            for direction, values in directions.items():
                metrics[f"{metric_key_prefix}_{pool}_{direction}_mrr"] = values["mrr"]
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - started, 3)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # -- checkpoints ------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's. `True` takes the last checkpoint that was written whole.

        Raises:
            ValueError: if the checkpoint was made by another plan; says in which settings they differ.
        """
        if self.plan is None or self.curriculum is None:
            raise ValueError("there is nothing to train on: pass `train_dataset=` to the trainer.")
        self.curriculum.intensity = self.args.intensity_schedule()
        if resume_from_checkpoint:
            resume_from_checkpoint, state = self.check_resume(resume_from_checkpoint)
            self.curriculum.intensity.load_state_dict(state)
            if hasattr(self.loss, "load_checkpoint_state"):
                self.loss.load_checkpoint_state(load_file(Path(resume_from_checkpoint) / LOSS_STATE_NAME))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def check_resume(self, checkpoint_or_true: str | bool) -> tuple[str, dict[str, Any]]:
        """The checkpoint to resume from and the state of its intensity, before anything is changed.

        Args:
            checkpoint_or_true: a checkpoint's folder, or True for the last whole one in the output folder.

        Raises:
            ValueError: if there is none, or it was made by another plan or intensity (says in which settings), or it
                lacks the state of a loss that has one.
        """
        assert self.plan is not None and self.curriculum is not None
        checkpoint = Path(
            last_complete_checkpoint(str(self.args.output_dir))
            if checkpoint_or_true is True
            else str(checkpoint_or_true)
        )
        path = checkpoint / CURRICULUM_STATE_NAME
        if not path.is_file():
            raise ValueError(f"{checkpoint} has no {CURRICULUM_STATE_NAME}: it is no checkpoint of this trainer.")
        state = json.loads(path.read_text())
        now = {**self.plan.settings, **self.curriculum.intensity.settings()}
        then = state["settings"]
        if state["plan_fingerprint"] != self.plan.fingerprint() or now != then:
            differences = [f"{key} {then.get(key)!r} -> {now[key]!r}" for key in now if then.get(key) != now[key]]
            raise ValueError(
                f"{checkpoint} was made by another plan ({', '.join(differences) or 'other pairs or difficulties'}). "
                "Resume with the settings and the data it began with, or start anew in another output_dir."
            )
        if hasattr(self.loss, "load_checkpoint_state") and not (checkpoint / LOSS_STATE_NAME).is_file():
            raise ValueError(
                f"{checkpoint} has no {LOSS_STATE_NAME}, which {type(self.loss).__name__} needs to go on. Resume with "
                "the loss it began with, or start anew in another output_dir."
            )
        return str(checkpoint), state["intensity"]

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        assert self.plan is not None and self.curriculum is not None
        if self.args.should_save:
            # First of all files: `trainer_state.json`, which comes last, then marks a checkpoint as whole.
            folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            loss_learns = hasattr(self.loss, "checkpoint_state")
            if loss_learns:
                save_file(self.loss.checkpoint_state(), folder / LOSS_STATE_NAME)
            state = {
                "plan_fingerprint": self.plan.fingerprint(),
                "settings": {**self.plan.settings, **self.curriculum.intensity.settings()},
                "intensity": self.curriculum.intensity.state_dict(),
                "processes": self.args.world_size,
                "loss_state": loss_learns,
            }
            (folder / CURRICULUM_STATE_NAME).write_text(json.dumps(state, indent=2))
        super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """As the Trainer's, with the arguments as JSON: a pickle is neither safe to load nor to publish."""
        super()._save(output_dir, state_dict)
        folder = Path(output_dir if output_dir is not None else str(self.args.output_dir))
        pickled = folder / TRAINING_ARGS_NAME
        if pickled.is_file():
            pickled.unlink()
            (folder / "training_args.json").write_text(self.args.to_json_string())


def _without_keys(batch: dict[str, Any]) -> dict[str, Any]:
    """The model's part of a batch."""
    return {name: value for name, value in batch.items() if name != "pair_keys"}
