"""Makes the trainer of a run, and tries it on a few pairs, so that a dry run finds what the run would refuse."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from peft import PeftModel
from torch import nn

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.data.collator import TextMoleculeCollator
from class_hf.difficulty.definitions import check_size
from class_hf.difficulty.scorer import DifficultyScorer
from class_hf.difficulty.suspects import MIN_PAIRS
from class_hf.evaluation.retrieval_evaluator import RetrievalEvaluator
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.training.trainer import CurriculumTrainer
from class_hf.utils.column_names import WRONG_PROBABILITY
from class_hf.utils.protocols import Processor

logger = logging.getLogger(__name__)

# Of each split. Batch normalisation and in-batch negatives need several pairs.
FEW = 8


def make_trainer(
    args: CurriculumTrainingArguments,
    model: Any,
    processor: Processor,
    loss: nn.Module,
    pairs: Mapping[str, Dataset],
    pool: Dataset,
    *,
    eval_pairs: int = 1000,
    eval_pool: int | None = None,
    sentence_dropout: float = 0.0,
    plan: CurriculumPlan | None = None,
) -> CurriculumTrainer:
    """Makes the trainer of `class-hf train`.

    Args:
        args: the arguments of the run.
        model: the model, with its adapters if there are any.
        processor: its processor.
        loss: the loss of its backbone.
        pairs: prepared pairs, `train` and `validation`.
        pool: prepared candidates.
        eval_pairs: *optional*, defaults to 1,000; validation pairs ranked in each evaluation during training.
        eval_pool: *optional*; candidates ranked in each evaluation during training. Default: all.
        sentence_dropout: *optional*, defaults to 0; probability of dropping a sentence of a caption, in [0, 1).
        plan: *optional*. Default: made from the arguments and the difficulty of the pairs.

    Returns:
        The trainer.

    Raises:
        ValueError: as for [`CurriculumTrainer`], and for adapters with FSDP or DeepSpeed.
    """
    trainer = CurriculumTrainer(
        model=model,
        args=args,
        train_dataset=pairs["train"],
        data_collator=TextMoleculeCollator(processor, sentence_dropout, seed=args.seed),
        processing_class=processor,
        loss=loss,
        evaluator=RetrievalEvaluator.sample(
            pairs["validation"],
            pool,
            num_pairs=eval_pairs,
            num_candidates=eval_pool,
            processor=processor,
            batch_size=args.per_device_eval_batch_size,
            bootstrap_samples=0,
        ),
        plan=plan,
    )
    if isinstance(model, PeftModel) and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError("adapters are not tested with FSDP or DeepSpeed. Use recipes/accelerate/several_gpus.yaml.")
    return trainer


def first_pairs(data: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The first pairs of each split, and their candidates.

    Args:
        data: pairs by split, and the candidate molecules as `pool`.

    Returns:
        At most [`FEW`] pairs of each split. The pool has the molecules of these validation pairs.

    >>> ids = Dataset.from_dict({"id": [str(number) for number in range(20)]})
    >>> few = first_pairs({"train": ids, "validation": ids.select([17, 19]), "pool": ids})
    >>> len(few["train"]), few["pool"]["id"][:]
    (8, ['17', '19'])
    """
    few = {split: rows.select(range(min(FEW, len(rows)))) for split, rows in data.items() if split != "pool"}
    wanted = set(few["validation"]["id"][:])
    rows = [row for row, molecule_id in enumerate(data["pool"]["id"][:]) if molecule_id in wanted]
    return {**few, "pool": data["pool"].select(rows)}


def check_scoring(
    args: CurriculumTrainingArguments,
    pairs: Dataset,
    *,
    definition: Sequence[str],
    combination: str = "mean",
    text_weight: float = 0.5,
    data_dir: str | None = None,
) -> None:
    """Checks that there are enough pairs for what the run computes from them: difficulty and suspects.

    Warns if the pairs are scored already, and the run asks for another difficulty than the default.

    Args:
        args: the arguments of the run.
        pairs: the training pairs.
        definition: the difficulty definitions.
        combination: *optional*, defaults to `"mean"`; how the two modalities are combined.
        text_weight: *optional*, defaults to 0.5; weight of the text in the mean, in [0, 1].
        data_dir: *optional*; folder of the pairs. `class-hf score` writes there how it scored them.

    Raises:
        ValueError: if there are too few.
        ImportError: if faiss is needed and not installed.
    """
    if args.curriculum_order in ("easy_first", "hard_first"):
        scorer = DifficultyScorer(definition, combination, text_weight, seed=args.seed)
        if "difficulty" in pairs.column_names:
            _warn_of_scores(scorer.describe(), data_dir)
        else:
            for name in scorer.definition:
                check_size(name, len(pairs), scorer.settings)
    if args.needs_suspects and WRONG_PROBABILITY not in pairs.column_names and len(pairs) < MIN_PAIRS:
        raise ValueError(f"finding suspects needs at least {MIN_PAIRS} pairs, got {len(pairs)}.")


def _read_summary(file: Path) -> dict[str, Any]:
    """What `class-hf score` wrote about its scores; empty if the file is missing or of another program."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _warn_of_scores(asked: Mapping[str, Any], data_dir: str | None) -> None:
    """Warns of settings of the difficulty that are neither the defaults nor those of the pairs' scores."""
    scored = _read_summary(Path(data_dir) / "summary.json") if data_dir else {}
    default = DifficultyScorer().describe()
    unused = [
        f"difficulty_{name} {asked[name]}"
        for name in ("definition", "combination", "text_weight")
        if asked[name] not in (default[name], scored.get(name))
    ]
    if unused:
        logger.warning(
            "The run reads the column 'difficulty' of the training pairs, so %s %s no effect. Remove the column, or "
            "score the pairs so with class-hf score.",
            ", ".join(unused),
            "has" if len(unused) == 1 else "have",
        )


def rehearse(
    trainer: CurriculumTrainer, collator: Callable[[list[Any]], Any], pairs: Dataset, total_steps: int
) -> None:
    """Runs the model and the loss of a trainer once, on a few pairs, and makes the optimizer. No weight changes.

    Args:
        trainer: of the run.
        collator: makes a batch of the pairs.
        pairs: prepared pairs.
        total_steps: optimizer steps of the run.

    Raises:
        ValueError: if the output of the model lacks a field that the loss needs, or an argument of the optimizer has
            no effect on this model.
    """
    model: Any = trainer.model
    model.to(trainer.args.device).train()
    if trainer.args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    batch = send_to_device(collator(list(pairs)), trainer.args.device)
    with torch.no_grad():
        trainer.compute_loss(model, batch)
    if not trainer.is_deepspeed_enabled:  # it makes its own
        trainer.create_optimizer_and_scheduler(total_steps)
