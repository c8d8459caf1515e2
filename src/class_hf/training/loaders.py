"""The data loader of a training whose batch size changes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.utils.data import DataLoader
from transformers.trainer_utils import seed_worker

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.curriculum.sampler import CurriculumBatchSampler
from class_hf.training.arguments import CurriculumTrainingArguments


def staged_loader(
    rows: Any, plan: CurriculumPlan, collate: Callable[..., Any], args: CurriculumTrainingArguments
) -> DataLoader[Any]:
    """Loads the batches of a plan, with the settings that the Trainer gives its own loader.

    Args:
        rows: the training set.
        plan: the plan of the run.
        collate: joins rows into a batch.
        args: the training arguments.

    Returns:
        The loader, before accelerate prepares it.
    """
    batches = CurriculumBatchSampler(plan, args.world_size * args.gradient_accumulation_steps)
    workers = args.dataloader_num_workers
    return DataLoader(
        rows,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        multiprocessing_context=args.dataloader_multiprocessing_context,
        prefetch_factor=args.dataloader_prefetch_factor,
        worker_init_fn=partial(seed_worker, num_workers=workers, rank=args.process_index),
    )
