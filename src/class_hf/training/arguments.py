"""The trainer's arguments: transformers' own, and the curriculum's."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy
from transformers.utils import is_torch_bf16_gpu_available

from class_hf.curriculum.intensity import IntensitySchedule
from class_hf.curriculum.pacing import check_pacing


@dataclass
class CurriculumTrainingArguments(TrainingArguments):
    """Arguments of [`CurriculumTrainer`]: all of `transformers.TrainingArguments`, and those below.

    Defaults that differ from `TrainingArguments`: `dataloader_drop_last=True` (the plan deals whole global
    batches), `remove_unused_columns=False` (the collator picks what it needs), `metric_for_best_model="mrr"`
    (text to molecule, full pool), `label_names=[]` (there are no labels).

    `num_train_epochs` counts curriculum epochs, early ones being shorter; `max_steps` fixes the length of the run
    in steps instead, whatever the order, which is how arms are compared at equal steps.

    Args:
        curriculum_order: which pairs come first: `easy_first`; the controls `random` (the same growing pool) and
            `hard_first`; `none` is training without a curriculum.
        curriculum_pacing: growth of the pool: `root`, `linear`, `geometric` or `stages`.
        curriculum_start: share of the pairs in the first epoch, in (0, 1].
        curriculum_power: exponent of `root` pacing, 1 or more.
        curriculum_stages: number of stages of `stages` pacing.
        curriculum_span: share of the run after which all pairs are in, in (0, 1].
        curriculum_group_size: pairs that a batch holds together because they are alike; 1 deals at random.
        curriculum_group_from: share of the run, in [0, 1], after which groups are dealt.
        intensity_mode: `constant`, `scheduled` (follows the competence) or `adaptive` (follows the accuracy).
        intensity_actions: what the intensity acts on: any of `sharpness`, `focus`, `step_size`; `none` for none.
        intensity_start: intensity at the start, in (0, 1].
        intensity_gamma: exponent of the focus weights at full intensity.
        intensity_momentum: memory of the running accuracy of `adaptive`, in [0, 1).
        contrastive_label_smoothing: share of the contrastive target spread over the batch, in [0, 1).
        forward_chunk_size: pairs that go through the towers at once (on average), with cached gradients: memory
            follows the chunk while the negatives stay the whole batch's. None runs the batch of a process at once.
        text_learning_rate: learning rate of the model's `text_model`, whose pretrained weights want a smaller one than
            what begins at random; None is `learning_rate`. Both follow one schedule; the logs show `learning_rate`.
        bf16_if_fast: train in bf16 where the device has instructions for it, in float32 elsewhere; `bf16` forces it.
        hub_remote_code: a push carries the model's code, so that `trust_remote_code=True` loads it without class_hf.

    Example:

    >>> args = CurriculumTrainingArguments(output_dir="out", curriculum_order="random", use_cpu=True)
    >>> args.curriculum_start, args.dataloader_drop_last
    (0.3, True)
    """

    curriculum_order: Literal["easy_first", "hard_first", "random", "none"] = field(
        default="easy_first", metadata={"help": "Which pairs come first; `none` trains without a curriculum."}
    )
    curriculum_pacing: Literal["root", "linear", "geometric", "stages"] = field(
        default="root", metadata={"help": "How the pool of admitted pairs grows."}
    )
    curriculum_start: float = field(default=0.3, metadata={"help": "Share of the pairs in the first epoch, (0, 1]."})
    curriculum_power: float = field(default=2.0, metadata={"help": "Exponent of `root` pacing, 1 or more."})
    curriculum_stages: int = field(default=4, metadata={"help": "Number of stages of `stages` pacing."})
    curriculum_span: float = field(
        default=0.75, metadata={"help": "Share of the run after which all pairs are in, (0, 1]."}
    )
    curriculum_group_size: int = field(
        default=1, metadata={"help": "Alike pairs dealt together, for harder negatives; 1 deals at random."}
    )
    curriculum_group_from: float = field(
        default=0.0, metadata={"help": "Share of the run after which groups are dealt, [0, 1]."}
    )
    intensity_mode: Literal["constant", "scheduled", "adaptive"] = field(
        default="scheduled", metadata={"help": "How the intensity rises."}
    )
    intensity_actions: list[str] = field(
        default_factory=list,
        metadata={"help": "What the intensity acts on: sharpness, focus, step_size (several allowed); none for none."},
    )
    intensity_start: float = field(default=0.5, metadata={"help": "Intensity at the start, (0, 1]."})
    intensity_gamma: float = field(default=1.0, metadata={"help": "Exponent of the focus weights, 0 or more."})
    intensity_momentum: float = field(default=0.95, metadata={"help": "Memory of the running accuracy, [0, 1)."})
    contrastive_label_smoothing: float = field(
        default=0.0, metadata={"help": "Share of the contrastive target spread over the batch, [0, 1)."}
    )
    forward_chunk_size: int | None = field(
        default=None,
        metadata={"help": "Pairs that go through the towers at once (cached gradients); none for the whole batch."},
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the text tower; learning_rate if not given."}
    )
    bf16_if_fast: bool = field(
        default=False, metadata={"help": "bf16 where the device has instructions for it, float32 elsewhere."}
    )
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Must stay true: whole global batches."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator picks the columns."})
    metric_for_best_model: str | None = field(default="mrr", metadata={"help": "Metric that selects the model."})
    hub_strategy: HubStrategy | str = field(
        default="end", metadata={"help": "Must stay `end`: a push is one commit of a finished run, with its card."}
    )
    hub_remote_code: bool = field(
        default=False, metadata={"help": "A push carries the code, for loading by trust_remote_code without class_hf."}
    )
    label_names: list[str] | None = field(default_factory=list, metadata={"help": "There are no labels."})

    def __post_init__(self) -> None:
        if self.hub_token is not None:
            raise ValueError(
                "hub_token is given; it would be saved in clear with the arguments. Log in with `hf auth login`, or "
                "set HF_TOKEN in the environment."
            )
        # `none` lets a command line switch off what a recipe switched on.
        self.intensity_actions = [action for action in self.intensity_actions if action != "none"]
        # Where there is no accelerator the CPU is used anyway; without the word, transformers refuses bf16 there.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        self.bf16 = self.bf16 or (self.bf16_if_fast and _has_fast_bf16(self.use_cpu))
        super().__post_init__()
        # Pinning serves copies to an accelerator; without one torch only warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type != "cpu"
        check_pacing(self.curriculum_pacing, self.curriculum_start, self.curriculum_power, self.curriculum_stages)
        if not 0.0 < self.curriculum_span <= 1.0:
            raise ValueError(f"curriculum_span is {self.curriculum_span}; expected a share of the run in (0, 1].")
        if self.curriculum_group_size < 1:
            raise ValueError(f"curriculum_group_size is {self.curriculum_group_size}; expected at least 1 pair.")
        if not 0.0 <= self.curriculum_group_from <= 1.0:
            raise ValueError(f"curriculum_group_from is {self.curriculum_group_from}; expected a share in [0, 1].")
        if not 0.0 <= self.contrastive_label_smoothing < 1.0:
            raise ValueError(
                f"contrastive_label_smoothing is {self.contrastive_label_smoothing}; expected a share in [0, 1)."
            )
        if self.forward_chunk_size is not None and self.forward_chunk_size < 1:
            raise ValueError(f"forward_chunk_size is {self.forward_chunk_size}; expected at least 1 pair, or nothing.")
        if self.text_learning_rate is not None and not self.text_learning_rate > 0.0:
            raise ValueError(f"text_learning_rate is {self.text_learning_rate}; expected a positive rate, or nothing.")
        self.intensity_schedule()
        self._refuse(
            "dataloader_drop_last", not self.dataloader_drop_last, "leave it true: a plan deals whole global batches"
        )
        self._refuse("auto_find_batch_size", self.auto_find_batch_size, "the plan needs a fixed batch")
        self._refuse("ignore_data_skip", self.ignore_data_skip, "a resumed run would begin the plan anew")
        self._refuse("train_sampling_strategy", self.train_sampling_strategy != "random", "the plan is the order")
        if self.hub_strategy != HubStrategy.END:
            raise ValueError(
                f"hub_strategy is {self.hub_strategy}; only `end` is supported: a push is one commit of a "
                "finished run, with its card and its results."
            )
        for name in ("dispatch_batches", "split_batches"):
            self._refuse(
                f"accelerator_config.{name}", getattr(self.accelerator_config, name), "it reorders the plan's batches"
            )

    @staticmethod
    def _refuse(name: str, wrong: Any, reason: str) -> None:
        if wrong:
            raise ValueError(f"{name} cannot be used with a curriculum: {reason}.")

    @property
    def global_batch_size(self) -> int:
        """Pairs per optimizer step, over all processes and accumulation steps."""
        return self.per_device_train_batch_size * self.world_size * self.gradient_accumulation_steps

    def intensity_schedule(self) -> IntensitySchedule:
        """The [`IntensitySchedule`] that the arguments describe."""
        return IntensitySchedule(
            self.intensity_mode,
            actions=self.intensity_actions,  # type: ignore[arg-type]  # checked by the schedule itself
            start=self.intensity_start,
            gamma=self.intensity_gamma,
            momentum=self.intensity_momentum,
        )


def _has_fast_bf16(use_cpu: bool) -> bool:
    """Whether the device multiplies bf16 itself; other CPUs emulate it, slower than float32."""
    if not use_cpu:
        return is_torch_bf16_gpu_available()
    # torch has no public question for it.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
