"""Arguments of the trainer: those of transformers, and those of the curriculum."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy
from transformers.utils import is_torch_bf16_gpu_available

from class_hf.curriculum.intensity import IntensitySchedule
from class_hf.curriculum.pacing import check_pacing
from class_hf.training.argument_checks import check_libraries, check_numbers, check_unused
from class_hf.training.gradient_compression import check_compression


@dataclass
class CurriculumTrainingArguments(TrainingArguments):
    """Arguments of [`CurriculumTrainer`]: all of `transformers.TrainingArguments`, and those below.

    Defaults that differ from `TrainingArguments`: `dataloader_drop_last=True` (the plan consists of complete global
    batches), `remove_unused_columns=False` (the collator picks the columns), `metric_for_best_model="mrr"` (text to
    molecule), `label_names=[]` (pairs have no labels), `hub_strategy="end"` (one push, of the finished run).

    `num_train_epochs` counts curriculum epochs, and early ones are shorter. `max_steps` sets the length of the run in
    steps instead, for any order. Use it to compare orders at equal steps.

    Args:
        curriculum_order (`str`, *optional*, defaults to `"easy_first"`): which pairs are admitted first: `easy_first`;
            the controls `random` (the same growing pool) and `hard_first`; `none` (training without a curriculum,
            which does not read pacing, start, power and span; it reads stages that have settings of their own).
        curriculum_pacing (`str`, *optional*, defaults to `"root"`): growth of the pool: `root`, `linear`, `geometric`
            or `stages`, see [`~class_hf.curriculum.pacing.competence`].
        curriculum_start (`float`, *optional*, defaults to 0.3): share of the pairs in the first epoch, in (0, 1].
        curriculum_power (`float`, *optional*, defaults to 2.0): exponent of `root` pacing, 1 or more. Another pacing
            refuses it.
        curriculum_stages (`int`, *optional*, defaults to 4): number of stages of `stages` pacing. Another pacing
            refuses it.
        curriculum_span (`float`, *optional*): share of the run after which all pairs are admitted, in (0, 1]. Default:
            0.75, and with 2 or 3 epochs 0.5 or 2/3, so that the last epoch admits all pairs.
        curriculum_end (`str`, *optional*, defaults to `"1"`): share of the pairs that is admitted at the end, a number
            in (0, 1], or `"auto"`. The other pairs are never trained on: those with the largest `wrong_probability` if
            the training set has that column (`class-hf train` computes it), else the last ones of the order. `"auto"`
            leaves out the pairs whose probability of being wrong is above 1/4; with clean data it leaves out almost
            none.
        suspect_weights (`bool`, *optional*, defaults to `False`): weight each pair in the loss by the probability that
            it is right, 1 - `wrong_probability`. An alternative to `curriculum_end`.
        curriculum_group_size (`int`, *optional*, defaults to 1): similar pairs that a batch holds together, as harder
            negatives. 1 draws all pairs at random.
        curriculum_group_from (`float`, *optional*, defaults to 0.0): share of the run after which similar pairs are
            grouped, in [0, 1].
        curriculum_stage_epochs (`list[int]`, *optional*): epochs of each stage of `stages` pacing. k stages have k + 1
            values: the last stage admits all pairs. They sum to `num_train_epochs`, and replace `curriculum_span`.
        curriculum_stage_batch_sizes (`list[float]`, *optional*): batch size of each stage, as a share of the batch in
            (0, 1].
        curriculum_stage_learning_rates (`list[float]`, *optional*): factor of the learning rates in each stage, above
            0. It multiplies the learning rate schedule.
        curriculum_stage_sharpness (`list[float]`, *optional*): factor of the logits in each stage, above 0.
        intensity_mode (`str`, *optional*, defaults to `"scheduled"`): `constant`, `scheduled` (follows the competence)
            or `adaptive` (follows the in-batch accuracy).
        intensity_actions (`list[str]`, *optional*, defaults to none): what the intensity acts on: any of `sharpness`,
            `focus`, `step_size`. `none` switches all of them off.
        intensity_start (`float`, *optional*, defaults to 0.5): intensity at the start, in (0, 1].
        intensity_gamma (`float`, *optional*, defaults to 1.0): exponent of the focus weights at full intensity, 0 or
            more.
        intensity_momentum (`float`, *optional*, defaults to 0.95): momentum of the running accuracy of `adaptive`, in
            [0, 1).
        contrastive_label_smoothing (`float`, *optional*, defaults to 0.0): share of the contrastive target that is
            spread over the batch, in [0, 1).
        forward_chunk_size (`int`, *optional*): pairs that go through the towers at once (on average), with cached
            gradients. Memory then follows the chunk, and the negatives are still those of the complete batch. Default:
            the complete batch of a process.
        text_learning_rate (`float`, *optional*): learning rate of the model's `text_model`. Pretrained weights usually
            need a smaller one than randomly initialised weights. Both follow one schedule; the logs show
            `learning_rate`. Default: `learning_rate`.
        ddp_gradient_compression (`str`, *optional*): exchange gradients between processes in 16 bits, by DDP's own
            hook: `fp16`, or `bf16` (GPUs only). It halves the bytes of each step. Default: as they are, in float32.
        bf16_if_fast (`bool`, *optional*, defaults to `False`): train in bf16 if the device has instructions for it, in
            float32 otherwise. `bf16` forces bf16.
        hub_remote_code (`bool`, *optional*, defaults to `False`): a push includes the model's code, so that
            `trust_remote_code=True` loads the model without class_hf.

    Raises:
        ValueError: for a number out of its range, or an argument that cannot be used with a curriculum.

    Example:

    >>> args = CurriculumTrainingArguments(output_dir="out", curriculum_order="random", use_cpu=True)
    >>> args.curriculum_start, args.dataloader_drop_last
    (0.3, True)
    """

    curriculum_order: Literal["easy_first", "hard_first", "random", "none"] = field(
        default="easy_first", metadata={"help": "Which pairs are admitted first; `none` trains without a curriculum."}
    )
    curriculum_pacing: Literal["root", "linear", "geometric", "stages"] = field(
        default="root", metadata={"help": "How the pool of admitted pairs grows."}
    )
    curriculum_start: float = field(default=0.3, metadata={"help": "Share of the pairs in the first epoch, (0, 1]."})
    curriculum_power: float = field(default=2.0, metadata={"help": "Exponent of `root` pacing, 1 or more."})
    curriculum_stages: int = field(default=4, metadata={"help": "Number of stages of `stages` pacing."})
    curriculum_span: float | None = field(
        default=None,
        metadata={
            "help": "Share of the run after which all pairs are admitted, (0, 1]. Default: 0.75; with few epochs less."
        },
    )
    curriculum_end: str = field(
        default="1",
        metadata={"help": "Share of the pairs ever admitted, (0, 1]: the most suspect are left out; or auto."},
    )
    suspect_weights: bool = field(
        default=False, metadata={"help": "Weight each pair in the loss by the probability that it is right."}
    )
    curriculum_group_size: int = field(
        default=1, metadata={"help": "Similar pairs that a batch holds together, as harder negatives; 1 for none."}
    )
    curriculum_group_from: float = field(
        default=0.0, metadata={"help": "Share of the run after which similar pairs are grouped, [0, 1]."}
    )
    curriculum_stage_epochs: list[int] = field(
        default_factory=list, metadata={"help": "Epochs of each stage of `stages` pacing; k stages have k + 1 values."}
    )
    curriculum_stage_batch_sizes: list[float] = field(
        default_factory=list, metadata={"help": "Batch size of each stage, as a share of the batch, (0, 1]."}
    )
    curriculum_stage_learning_rates: list[float] = field(
        default_factory=list, metadata={"help": "Factor of the learning rates in each stage."}
    )
    curriculum_stage_sharpness: list[float] = field(
        default_factory=list, metadata={"help": "Factor of the logits in each stage."}
    )
    intensity_mode: Literal["constant", "scheduled", "adaptive"] = field(
        default="scheduled", metadata={"help": "How the intensity rises."}
    )
    intensity_actions: list[str] = field(
        default_factory=list,
        metadata={"help": "What the intensity acts on: any of sharpness, focus, step_size; or none."},
    )
    intensity_start: float = field(default=0.5, metadata={"help": "Intensity at the start, (0, 1]."})
    intensity_gamma: float = field(default=1.0, metadata={"help": "Exponent of the focus weights, 0 or more."})
    intensity_momentum: float = field(default=0.95, metadata={"help": "Momentum of the running accuracy, [0, 1)."})
    contrastive_label_smoothing: float = field(
        default=0.0, metadata={"help": "Share of the contrastive target spread over the batch, [0, 1)."}
    )
    forward_chunk_size: int | None = field(
        default=None,
        metadata={"help": "Pairs that go through the towers at once (cached gradients). Default: the complete batch."},
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the text tower. Default: learning_rate."}
    )
    ddp_gradient_compression: Literal["fp16", "bf16"] | None = field(
        default=None,
        metadata={"help": "Exchange gradients between processes in 16 bits (DDP); bf16 needs GPUs. Default: float32."},
    )
    bf16_if_fast: bool = field(
        default=False, metadata={"help": "bf16 if the device has instructions for it, float32 otherwise."}
    )
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "Must be true: the plan has complete global batches."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must be false: the collator picks the columns."}
    )
    metric_for_best_model: str | None = field(default="mrr", metadata={"help": "Metric that selects the model."})
    hub_strategy: HubStrategy | str = field(
        default="end", metadata={"help": "Must be `end`: a push is one commit of a finished run, with its card."}
    )
    hub_remote_code: bool = field(
        default=False,
        metadata={"help": "A push includes the code, for loading by trust_remote_code without class_hf."},
    )
    label_names: list[str] | None = field(
        default_factory=list, metadata={"help": "Must be empty: pairs have no labels."}
    )

    def __post_init__(self) -> None:
        if self.hub_token is not None:
            raise ValueError(
                "hub_token is set, and would be saved in plain text with the arguments. Log in with `hf auth login`, "
                "or set HF_TOKEN in the environment."
            )
        check_numbers(self)
        check_unused(self)
        # `none` lets a command line switch off what a recipe switched on.
        self.intensity_actions = [action for action in self.intensity_actions if action != "none"]
        # Without an accelerator the CPU is used anyway. transformers refuses bf16 there unless use_cpu is set.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.fp16 and self.use_cpu:
            raise ValueError(
                "fp16 is True, but needs a GPU, and this run uses the CPU. Use bf16_if_fast, or leave it out."
            )
        self.bf16 = self.bf16 or (self.bf16_if_fast and _has_fast_bf16(self.use_cpu))
        if self.greater_is_better is None and (self.metric_for_best_model or "").endswith("rank"):
            self.greater_is_better = False
        if isinstance(self.deepspeed, dict) and not self.deepspeed:
            raise ValueError("deepspeed is {}, which switches nothing on. Pass a configuration, or leave it out.")
        try:
            super().__post_init__()
        except TypeError as error:  # of an unknown field
            raise ValueError(f"accelerator_config is {self.accelerator_config!r}: {error}.") from error
        # Pinned memory serves copies to an accelerator. Without one, torch only warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type != "cpu"
        self.check()
        check_libraries(self)

    def check(self) -> None:
        """Checks all arguments that the curriculum restricts. The trainer calls it again before each training.

        Raises:
            ValueError: for a number out of its range, or an argument that cannot be used with a curriculum.
        """
        check_numbers(self)
        check_unused(self)
        if callable(self.curriculum_pacing):
            raise ValueError(
                "curriculum_pacing is a function, which cannot be saved with the arguments. Pass "
                "plan=CurriculumPlan(..., pacing=function) to the trainer."
            )
        check_pacing(self.curriculum_pacing, self.curriculum_start, self.curriculum_power, self.curriculum_stages)
        _ = self.end_share
        self.intensity_schedule()
        check_compression(self, self.ddp_gradient_compression)
        for stage, action in (("learning_rates", "step_size"), ("sharpness", "sharpness")):
            if getattr(self, f"curriculum_stage_{stage}") and action in self.intensity_actions:
                raise ValueError(
                    f"curriculum_stage_{stage} and the intensity action {action} both set it in each step. "
                    "Remove one of them."
                )
        self._refuse("dataloader_drop_last", not self.dataloader_drop_last, "the plan has complete global batches")
        self._refuse("auto_find_batch_size", self.auto_find_batch_size, "the plan needs a fixed batch")
        self._refuse("ignore_data_skip", self.ignore_data_skip, "a resumed run would start the plan again")
        self._refuse(
            "dataloader_persistent_workers",
            self.dataloader_persistent_workers and not self.dataloader_num_workers,
            "there are no workers; set dataloader_num_workers",
        )
        self._refuse("dataloader_in_order", not self.dataloader_in_order, "the plan is the order of the batches")
        self._refuse("train_sampling_strategy", self.train_sampling_strategy != "random", "the plan is the order")
        if self.hub_strategy != HubStrategy.END:
            raise ValueError(
                f"hub_strategy is {self.hub_strategy}; only `end` is supported: a push is one commit of a finished "
                "run, with its card and its results."
            )
        accumulation: Any = getattr(self.accelerator_config, "gradient_accumulation_kwargs", None) or {}
        self._refuse(
            "accelerator_config.gradient_accumulation_kwargs.num_steps",
            "num_steps" in accumulation,
            "the plan would have another batch; set gradient_accumulation_steps",
        )
        for name in ("dispatch_batches", "split_batches"):
            # None and False leave the batches as the plan has them.
            self._refuse(
                f"accelerator_config.{name}", getattr(self.accelerator_config, name), "it reorders the plan's batches"
            )

    @staticmethod
    def _refuse(name: str, wrong: object, reason: str) -> None:
        if wrong:
            raise ValueError(f"{name} cannot be used with a curriculum: {reason}.")

    @property
    def global_batch_size(self) -> int:
        """Pairs per optimizer step, over all processes and accumulation steps."""
        return self.per_device_train_batch_size * self.world_size * self.gradient_accumulation_steps

    @property
    def end_share(self) -> float | None:
        """`curriculum_end` as a number; None for `auto`.

        Raises:
            ValueError: if it is neither a share in (0, 1] nor `auto`.
        """
        if str(self.curriculum_end) == "auto":
            return None
        try:
            share = float(self.curriculum_end)
        except (TypeError, ValueError):
            share = math.nan
        if not 0.0 < share <= 1.0:
            raise ValueError(f"curriculum_end is {self.curriculum_end!r}; expected a share in (0, 1], or auto.")
        return share

    @property
    def needs_suspects(self) -> bool:
        """Whether the run needs the probability that each training pair is wrong."""
        return self.suspect_weights or self.end_share != 1.0

    def intensity_schedule(self) -> IntensitySchedule:
        """The [`IntensitySchedule`] that the arguments describe.

        Raises:
            ValueError: if an argument is unknown or out of its range.
        """
        return IntensitySchedule(
            self.intensity_mode,
            actions=self.intensity_actions,  # type: ignore[arg-type]  # checked by the schedule itself
            start=self.intensity_start,
            gamma=self.intensity_gamma,
            momentum=self.intensity_momentum,
        )


def _has_fast_bf16(use_cpu: bool) -> bool:
    """Whether the device has instructions for bf16. Other CPUs emulate bf16, slower than float32."""
    if not use_cpu:
        return is_torch_bf16_gpu_available()
    # torch has no public function for it.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
