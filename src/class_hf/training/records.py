"""The final evaluation of a run, and the records that it leaves in the output folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.data.validation import LoadReport
from class_hf.evaluation.embedding import captions_of_other_splits
from class_hf.evaluation.retrieval_evaluator import Ranks, RetrievalEvaluator
from class_hf.training.scoring import DIFFICULTY_FILE, difficulty_arrays
from class_hf.training.trainer import CurriculumTrainer
from class_hf.utils.column_names import WRONG_PROBABILITY
from class_hf.utils.environment import environment, peak_memory_bytes
from class_hf.utils.files import write_arrays, write_json, write_text
from class_hf.utils.protocols import Processor
from class_hf.utils.spreadsheets import format_csv

LEFT_OUT_FILE = "left_out.csv"


def write_plan(
    folder: Path, plan: CurriculumPlan, prepared: Mapping[str, Dataset], load_report: LoadReport | None
) -> None:
    """Writes what a run records before it trains.

    `plan.json` is always written. `load_report.json` is written if the loader made a report, `difficulty.npz` if the
    pairs are scored, and `left_out.csv` if the plan leaves pairs out.

    Args:
        folder: the output folder.
        plan: the plan of the run.
        prepared: prepared pairs by split.
        load_report: report of the loader, if there is one.
    """
    write_json(folder / "plan.json", plan.to_dict())
    if load_report is not None:
        write_text(folder / "load_report.json", load_report.to_json() + "\n")
    if difficulty_arrays(prepared):
        # A resumed run must read the same numbers, also on another machine.
        write_arrays(folder / DIFFICULTY_FILE, **difficulty_arrays(prepared))
    if plan.num_left_out:
        write_text(folder / LEFT_OUT_FILE, left_out_csv(plan, prepared["train"]))


def left_out_csv(plan: CurriculumPlan, pairs: Dataset) -> str:
    """The pairs that `curriculum_end` leaves out, as CSV, the most suspect first.

    Args:
        plan: the plan of the run.
        pairs: the training pairs.

    Returns:
        The columns `id`, `difficulty` and `wrong_probability`, as far as the pairs have them.

    >>> pairs = Dataset.from_dict({"id": ["a", "b", "c"], "difficulty": [0.9, 0.1, 0.5]})
    >>> print(left_out_csv(CurriculumPlan(pairs["difficulty"][:], epochs=1, batch_size=1, end=0.4), pairs), end="")
    id,difficulty
    a,0.9
    """
    columns = [name for name in ("id", "difficulty", WRONG_PROBABILITY) if name in pairs.column_names]
    rows = pairs.select_columns(columns).select(plan.left_out[::-1].tolist())
    return format_csv(columns, zip(*(rows[name][:] for name in columns), strict=True))


def evaluate_run(
    trainer: CurriculumTrainer, prepared: Mapping[str, Dataset], pool: Dataset, processor: Processor
) -> tuple[dict[str, torch.Tensor], Ranks, RetrievalEvaluator]:
    """Ranks all validation pairs over both complete pools; the evaluation during training ranks a sample.

    The model runs in the precision of its weights, also after a training in bf16, so that `class-hf evaluate` gives
    the same metrics. A model that FSDP2 or DeepSpeed have sharded stays in the precision of the training.

    Args:
        trainer: with the trained model.
        prepared: prepared pairs by split. The captions of the other splits are candidates, too.
        pool: prepared candidate molecules.
        processor: the model's processor.

    Returns:
        The embeddings, (ranks, candidates) by pool and direction, and the evaluator that computed them.
    """
    evaluator = RetrievalEvaluator(
        prepared["validation"],
        pool,
        captions=captions_of_other_splits(prepared, "validation"),
        processor=processor,
        batch_size=trainer.args.per_device_eval_batch_size,
    )
    assert trainer.model is not None
    # accelerate wraps the forward pass in autocast, for good. DDP unwraps to the same model.
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    model = trainer.model if sharded else trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    embeddings = evaluator.embeddings(model)
    return embeddings, evaluator.ranks(embeddings), evaluator


def write_records(
    folder: Path,
    trainer: CurriculumTrainer,
    metrics: dict[str, Any],
    ranks: Ranks,
    *,
    ids: Sequence[str],
    untrained: Mapping[str, Any],
    **costs: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes `metrics.json`, `ranks.npz` and `log_history.json`.

    Args:
        folder: the output folder.
        trainer: of the finished training.
        metrics: report of the evaluator.
        ranks: (ranks, candidates) by pool and direction.
        ids: of the queries.
        untrained: metrics of the model before training, text to molecule, on a sample of the split.
        **costs: of [`run_summary`].

    Returns:
        The metrics as written, and the summary of [`run_summary`], which is not written yet.
    """
    metrics = {**metrics, "untrained": {"pool": "split", "sample": True, "text_to_molecule": dict(untrained)}}
    write_json(folder / "metrics.json", metrics)
    arrays = {
        f"{pool}.{direction}": values
        for pool, directions in ranks.items()
        for direction, (values, _) in directions.items()
    }
    write_arrays(folder / "ranks.npz", id=np.array(ids), **arrays)
    write_json(folder / "log_history.json", trainer.state.log_history)
    return metrics, run_summary(trainer, **costs)


def run_summary(
    trainer: CurriculumTrainer, *, preparation_seconds: float, parameters: tuple[int, int], resumed: bool
) -> dict[str, Any]:
    """What a run cost, for `train_summary.json` and the model card.

    Args:
        trainer: of the finished training.
        preparation_seconds: seconds that encoding took.
        parameters: numbers of trained parameters and of all parameters.
        resumed: whether the run was resumed from a checkpoint.

    Returns:
        Times in seconds (`cpu_seconds`: all threads, processes and ended data workers), `peak_memory_bytes`, steps,
        pairs and text tokens seen, parameters, processes and the environment.
    """
    plan, curriculum, args = trainer.plan, trainer.curriculum, trainer.args
    assert plan is not None and curriculum is not None
    costs = trainer.train_costs
    evaluations = [entry.get("eval_runtime", 0.0) for entry in trainer.state.log_history]
    return {
        **costs,
        "evaluation_seconds": round(sum(evaluations), 3),
        "steps": trainer.state.global_step,
        "pairs_per_second": round(costs["pairs_seen"] / costs["wall_seconds"], 1),
        "peak_memory_bytes": peak_memory_bytes(args.device),
        "preparation_seconds": round(preparation_seconds, 3),
        "steps_without_curriculum": plan.full_steps,
        "parameters": parameters[1],
        "trainable_parameters": parameters[0],
        "processes": args.world_size,
        "resumed": resumed,
        "environment": environment(),
    }
