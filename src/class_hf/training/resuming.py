"""Checkpoints of a trainer: complete or not there, and resumed only by the settings they were made with."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from class_hf.data.prepare import PAIR_KEYS
from class_hf.training.callbacks import CurriculumCallback
from class_hf.training.checkpoints import (
    CURRICULUM_STATE_NAME,
    LOSS_STATE_NAME,
    choose_checkpoint,
    fault_of,
    write_manifest,
)
from class_hf.training.ranking import RankingTrainer
from class_hf.utils.distributed import world_size
from class_hf.utils.files import report_full_disk, write_json
from class_hf.utils.json_text import JsonValue

# A resumed run keeps these: the Trainer would take some from the checkpoint and others from the arguments.
_KEPT_ARGUMENTS = (
    "learning_rate",
    "text_learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "optim",
    "optim_args",
    "optim_target_modules",
    "seed",
    "data_seed",
    "bf16",
    "fp16",
    "tf32",
    "full_determinism",
    "contrastive_label_smoothing",
    "suspect_weights",
    "gradient_accumulation_steps",
    "ddp_gradient_compression",
)
_PAIRS = "training pairs (hash)"
# Fields of a model's configuration that do not change what it computes.
_VOLATILE = {"transformers_version", "_name_or_path", "name_or_path", "architectures", "dtype", "torch_dtype"}
_VOLATILE |= {"use_cache", "auto_map"}


class ResumingTrainer(RankingTrainer):
    """The checkpoints of a [`CurriculumTrainer`].

    A checkpoint is complete if all files of its `manifest.json` are there and unchanged; the manifest is written last.
    A run is resumed only with the settings of its checkpoint, so that it ends with the weights of an uninterrupted
    run. Intervals of logging, evaluation and saving, and the number of workers, may change.
    """

    loss: Any
    curriculum: CurriculumCallback | None
    # Further settings that a resumed run must keep, by name, with values that JSON can hold.
    resume_settings: dict[str, Any]

    def kept_settings(self) -> dict[str, Any]:
        """The settings that a resumed run must keep, by name."""
        assert self.plan is not None
        args = self.args
        settings: dict[str, Any] = {name: getattr(args, name, None) for name in _KEPT_ARGUMENTS}
        settings["micro_batch_size"] = args.per_device_train_batch_size * args.world_size
        settings["sharding"] = "FSDP" if self.is_fsdp_enabled else "DeepSpeed" if self.is_deepspeed_enabled else "none"
        settings |= {**self.plan.settings, **self.intensity_settings()}
        settings["loss"] = type(self.loss).__name__
        settings |= {f"loss.{name}": value for name, value in _numbers(self.loss).items()}
        collator = getattr(self.data_collator, "collator", self.data_collator)  # of a chunked one, its own
        settings |= {f"collator.{name}": value for name, value in _numbers(collator).items()}
        config: Any = getattr(self.model, "config", None)
        if hasattr(config, "to_dict"):
            settings |= _flat(config.to_dict(), "config")
        processor: Any = self.processing_class
        if hasattr(processor, "content_key"):
            settings["features"] = processor.content_key()
        settings |= self.resume_settings
        settings[_PAIRS] = self._pairs_digest
        return json.loads(json.dumps(settings, default=str, sort_keys=True))

    @cached_property
    def _pairs_digest(self) -> str | None:
        """Hash of the captions and molecules of the training set. None if its rows have no keys."""
        rows = self.train_dataset
        if not isinstance(rows, Dataset) or not set(PAIR_KEYS) <= set(rows.column_names):
            return None
        keys = np.array([rows[name][:] for name in PAIR_KEYS], "<i8")
        return hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()

    def intensity_settings(self) -> dict[str, JsonValue]:
        """The settings of the intensity schedule."""
        assert self.curriculum is not None
        return self.curriculum.intensity.settings()

    def check_resume(self, checkpoint: str | Path, *, is_outline: bool = False) -> dict[str, Any]:
        """Checks that a checkpoint belongs to this run. Nothing is changed.

        Args:
            checkpoint: its folder.
            is_outline: *optional*, defaults to False; True if the trainer has the outline of a plan, as in a dry run
                ([`~class_hf.training.planning.outline_plan`]). Then the pairs, their difficulties and the share that
                `curriculum_end: auto` leaves out are not compared.

        Returns:
            What it holds: `intensity`, the state of the intensity, and `costs`, what the training had spent.

        Raises:
            ValueError: if the checkpoint is not complete, or was made with another plan or other settings (names
                them), or lacks what is needed to resume.
        """
        assert self.plan is not None
        checkpoint = Path(checkpoint)
        path = checkpoint / CURRICULUM_STATE_NAME
        if not path.is_file():
            raise ValueError(f"{checkpoint} has no {CURRICULUM_STATE_NAME}: it is no checkpoint of this trainer.")
        if hasattr(self.loss, "load_checkpoint_state") and not (checkpoint / LOSS_STATE_NAME).is_file():
            raise ValueError(
                f"{checkpoint} has no {LOSS_STATE_NAME}, which {type(self.loss).__name__} needs to resume. Resume "
                "with the loss of its run, or start a new run in another output_dir."
            )
        state = json.loads(path.read_text(encoding="utf-8"))
        if not state.get("resumable", True):
            raise ValueError(
                f"{checkpoint} has no optimizer state (save_only_model was set): it cannot be resumed from. Load its "
                "model, and start a new run in another output_dir."
            )
        current, saved = self.kept_settings(), state["settings"]
        if None in (saved.get(_PAIRS), current[_PAIRS]):  # of an earlier version, or of rows without keys
            current.pop(_PAIRS), saved.pop(_PAIRS, None)
        if is_outline:
            current["group_size"] = self.args.curriculum_group_size
            current["end"] = current.get("end") if self.args.end_share is not None else saved.get("end")
        names = sorted(name for name in {*current, *saved} if current.get(name) != saved.get(name))
        if names or not (is_outline or state["plan_fingerprint"] == self.plan.fingerprint()):
            changes = [f"{name} {saved.get(name)!r} -> {current.get(name)!r}" for name in names[:5]]
            changes += [f"and {len(names) - 5} more"] if len(names) > 5 else []
            raise ValueError(
                f"{checkpoint} was made with other settings ({', '.join(changes) or 'other pairs or difficulties'}). "
                "Resume with the settings and the data of its run, or start a new run in another output_dir."
            )
        return state

    def restore(self, resume: str | bool | None) -> tuple[str | None, dict[str, Any]]:
        """Chooses and checks the checkpoint to resume from, and loads the state of a loss that learns.

        Args:
            resume: True for the newest complete checkpoint of the output folder, a checkpoint's folder, or None.

        Returns:
            The checkpoint's folder and what it holds (see [`check_resume`]); None and an empty state for a start from
            the beginning.

        Raises:
            ValueError: see [`check_resume`].
        """
        checkpoint = choose_checkpoint(resume, str(self.args.output_dir))
        if checkpoint is None:
            return None, {}
        state = self.check_resume(checkpoint)
        if hasattr(self.loss, "load_checkpoint_state"):
            self.loss.load_checkpoint_state(load_file(Path(checkpoint) / LOSS_STATE_NAME))
        return checkpoint, state

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        assert self.plan is not None
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # Old checkpoints are removed only after this one is complete.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        costs = self.training_costs()
        try:
            with report_full_disk(folder):
                if self.args.should_save:
                    if folder.exists():
                        shutil.rmtree(folder)  # incomplete, or of a run that was resumed from an earlier checkpoint
                    folder.mkdir(parents=True)
                    self._write_state(folder, costs)
                _wait_for_all()
                super()._save_checkpoint(model, trial)
                _wait_for_all()
                if self.args.should_save:
                    write_manifest(folder)
        except OSError:
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)  # make room
            raise
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(folder.parent),
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _write_state(self, folder: Path, costs: Mapping[str, float]) -> None:
        """Writes what a checkpoint of this trainer holds in addition to that of transformers."""
        assert self.plan is not None
        if hasattr(self.loss, "checkpoint_state"):
            save_file(self.loss.checkpoint_state(), folder / LOSS_STATE_NAME)
        state = {
            "plan_fingerprint": self.plan.fingerprint(),
            "settings": self.kept_settings(),
            "intensity": self.intensity_state(),
            "costs": dict(costs),
            "processes": self.args.world_size,
            "resumable": not self.args.save_only_model,
        }
        write_json(folder / CURRICULUM_STATE_NAME, state)

    def intensity_state(self) -> dict[str, float]:
        """The state of the intensity schedule."""
        assert self.curriculum is not None
        return self.curriculum.intensity.state_dict()

    def training_costs(self) -> dict[str, float]:
        """What the training has spent so far, summed over all processes. Every process has to call it."""
        assert self.curriculum is not None
        return self.curriculum.costs.totals(self.args.device)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Saves as the Trainer does, with the arguments as JSON: a pickle is neither safe to load nor to publish."""
        folder = Path(output_dir if output_dir is not None else str(self.args.output_dir))
        with report_full_disk(folder):
            super()._save(output_dir, state_dict)
            pickled = folder / TRAINING_ARGS_NAME
            if pickled.is_file():
                pickled.unlink()
                (folder / "training_args.json").write_text(self.args.to_json_string(), encoding="utf-8")

    def _load_best_model(self) -> None:
        """Loads the best model as the Trainer does, from a complete checkpoint only."""
        checkpoint = str(self.state.best_model_checkpoint)
        fault = fault_of(checkpoint)
        if fault is not None:
            raise ValueError(f"the best model is in {checkpoint}, which is damaged: {fault}.")
        super()._load_best_model()


def _wait_for_all() -> None:
    if world_size() > 1:
        dist.barrier()


def _numbers(instance: object) -> dict[str, Any]:
    """The public attributes of an object that are numbers: its settings."""
    values = getattr(instance, "__dict__", {})
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("_") and name != "training" and isinstance(value, (bool, int, float))
    }


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in _VOLATILE:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}.{name}")
        else:
            flat[f"{prefix}.{name}"] = value
    return flat
