"""Train a text-molecule retrieval model by a curriculum.

    accelerate launch recipes/train.py recipes/demo.yaml [--data_dir D] [--output_dir O] [--any_argument value]

The recipe comes first, the command line wins over it, `--help` lists every argument, `--dry_run` shows the plan and
trains nothing. The output folder holds the model and its processor, metrics.json, plan.json, train_summary.json,
plots/ and a README.md.
"""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.distributed as dist
import transformers
from accelerate.utils import broadcast_object_list
from transformers import EarlyStoppingCallback, set_seed

from class_hf import CurriculumTrainer, CurriculumTrainingArguments, RetrievalEvaluator
from class_hf.build import build_model, load_data
from class_hf.curriculum.difficulty import DifficultyScorer
from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import prepare_molecules, prepare_pairs
from class_hf.distributed import world_size
from class_hf.evaluation.retrieval import captions_besides
from class_hf.files import write_json
from class_hf.plots import plot_loss, plot_plan, plot_ranks, plot_validation
from class_hf.recipe import DataArguments, ModelArguments, exit_with, parse_recipe
from class_hf.report import metrics_line, plan_table, summary_table
from class_hf.trainer import plan_of

DIFFICULTY = ("text_difficulty", "molecule_difficulty", "difficulty")


@dataclass
class RunArguments:
    """What to do with the recipe."""

    dry_run: bool = field(default=False, metadata={"help": "Show the plan, and train nothing."})


def main(argv: list[str]) -> None:
    classes = (DataArguments, ModelArguments, RunArguments, CurriculumTrainingArguments)
    recipe, data_args, model_args, run_args, args = parse_recipe(argv, classes, prog="recipes/train.py")
    if args.output_dir in (None, "trainer_output"):  # the latter is transformers' own default
        args.output_dir = str(Path("outputs") / recipe.stem)
    output = Path(args.output_dir)
    refuse_lost_processes(args)
    if args.device.type == "cpu" and torch.get_num_threads() == 1 and (os.cpu_count() or 1) > args.world_size:
        say(args, "running on one thread (accelerate's default on a CPU): --config_file recipes/accelerate/cpu.yaml "
            "right after `accelerate launch` uses all cores")  # fmt: skip
    quiet = not sys.stderr.isatty() or not args.should_log
    if quiet:
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
        args.disable_tqdm = True

    with args.main_process_first(desc="loading the data"):
        data = load_data(data_args.data_dir, data_args.dataset_name, data_args.demo, data_args.on_error)
    missing = [name for name in ("train", "validation", "pool") if name not in data]
    if missing:
        raise ValueError(f"the data has no {missing}; it has {sorted(data)}. Training needs train and validation.")
    if data_args.max_train_pairs is not None:
        data["train"] = data["train"].select(range(min(data_args.max_train_pairs, len(data["train"]))))
    say(args, f"{len(data['train']):,} training pairs, {len(data['validation']):,} validation pairs, "
        f"{len(data['pool']):,} candidates")  # fmt: skip

    if run_args.dry_run:
        # The sizes of the pools do not depend on which pairs are easy, so nothing has to be scored.
        pairs = data["train"].select_columns(["id"])
        plan = plan_of(args, pairs.add_column("difficulty", np.zeros(len(pairs))))
        if args.should_save:
            print(plan_table(plan))
            print(f"drawn in {plot_plan(plan, output / 'plots' / 'plan.png')}")
        return
    if not args.resume_from_checkpoint and (output / "train_summary.json").exists():
        raise ValueError(f"{output} already holds a finished run. Choose another --output_dir, or remove it.")

    needs_difficulty = args.curriculum_order in ("easy_first", "hard_first")
    if needs_difficulty and "difficulty" not in data["train"].column_names:
        data = score(data, data_args, args)

    set_seed(args.seed)
    model, processor = build_model(model_args)
    with args.main_process_first(desc="preparing the data"):
        started = time.perf_counter()
        prepared = {
            split: prepare_pairs(data[split], processor, data_args.num_proc) for split in data if split != "pool"
        }
        pool = prepare_molecules(data["pool"], processor, data_args.num_proc)
        preparation_seconds = time.perf_counter() - started
    say(args, f"prepared in {preparation_seconds:.1f} s; {sum(p.numel() for p in model.parameters()):,} parameters")

    trainer = CurriculumTrainer(
        model=model,
        args=args,
        train_dataset=prepared["train"],
        data_collator=TextMoleculeCollator(processor, data_args.sentence_dropout, seed=args.seed),
        processing_class=processor,
        evaluator=sample_evaluator(prepared["validation"], pool, processor, data_args, args),
    )
    if model_args.early_stopping_patience is not None:
        trainer.args.restore_callback_states_from_checkpoint = True  # or a resumed run would count from zero
        trainer.add_callback(EarlyStoppingCallback(model_args.early_stopping_patience))
    assert trainer.plan is not None
    say(args, f"{trainer.plan}")
    if args.should_save:
        write_json(output / "plan.json", trainer.plan.to_dict())
        plot_plan(trainer.plan, output / "plots" / "plan.png")

    trainer.model.eval()
    untrained = trainer.evaluator(trainer.model)["pools"]["split"]["text_to_molecule"]
    started = time.perf_counter()
    resume = args.resume_from_checkpoint
    trainer.train(True if str(resume).lower() == "true" else resume)
    wall_seconds = time.perf_counter() - started
    trainer.save_model()

    # In full, in both pools; the sample above was for watching.
    evaluator = RetrievalEvaluator(
        prepared["validation"],
        pool,
        captions=captions_besides(prepared, "validation"),
        processor=processor,
        batch_size=args.per_device_eval_batch_size,
    )
    embeddings = evaluator.embeddings(trainer.model)
    if args.should_save:
        ranks = evaluator.ranks(embeddings)
        metrics = evaluator.report(ranks)
        metrics["untrained"] = {"pool": "split", "sample": True, "text_to_molecule": untrained}
        write_json(output / "metrics.json", metrics)
        steps = trainer.state.global_step
        write_json(
            output / "train_summary.json",
            {
                "wall_seconds": round(wall_seconds, 3),
                "steps": steps,
                "pairs_seen": steps * trainer.plan.batch_size,
                "pairs_per_second": round(steps * trainer.plan.batch_size / wall_seconds, 1),
                "peak_memory_bytes": peak_memory_bytes(),
                "preparation_seconds": round(preparation_seconds, 3),
                "steps_without_curriculum": trainer.plan.full_steps,
                "parameters": sum(p.numel() for p in model.parameters()),
                "processes": args.world_size,
                "resumed": bool(resume),
            },
        )
        watched = (len(trainer.evaluator.pool), len(trainer.evaluator.pairs))
        plot_loss(trainer.state.log_history, output / "plots" / "loss.png")
        plot_validation(trainer.state.log_history, output / "plots" / "validation.png", *watched)
        plot_ranks(ranks, output / "plots" / "ranks.png", "validation")
        trainer.create_model_card(
            dataset=data_args.dataset_name or ("demo" if data_args.demo else "ChEBI-20"),
            metrics=metrics,
            command=f"accelerate launch recipes/train.py {' '.join(argv)}",
        )
        print(summary_table(metrics))
        print(metrics_line(f"untrained, split sample ({untrained['candidates']:,})", untrained))
        print(f"everything is in {output}")
    if dist.is_initialized():
        # gloo can abort when one process leaves while another still talks to it.
        dist.barrier()
        dist.destroy_process_group()


def refuse_lost_processes(args: CurriculumTrainingArguments) -> None:
    """`accelerate launch --num_processes 2` on a CPU starts one process without a word; say so."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if launched and "RANK" not in os.environ and args.world_size == 1:
        raise ValueError(
            "accelerate was asked for several processes and started one, as it does on a CPU. Launch with "
            "`accelerate launch --config_file recipes/accelerate/cpu_2_processes.yaml --num_processes N ...`."
        )


def say(args: CurriculumTrainingArguments, text: str) -> None:
    """Prints once, not once a process."""
    if args.should_log:
        print(text, flush=True)


def score(
    data: datasets.DatasetDict, data_args: DataArguments, args: CurriculumTrainingArguments
) -> datasets.DatasetDict:
    """Adds the difficulty columns to train and validation; the main process computes, all receive."""
    result: list[Any] = [None]
    if args.process_index == 0:
        say(args, f"scoring difficulty: {', '.join(data_args.difficulty_definition)}")
        started = time.perf_counter()
        scorer = DifficultyScorer(
            data_args.difficulty_definition,
            combination=data_args.difficulty_combination,
            text_weight=data_args.difficulty_text_weight,
            seed=args.seed,
        ).fit(data["train"])
        result = [{split: scorer(data[split][:]) for split in ("train", "validation")}]
        say(args, f"scored in {time.perf_counter() - started:.1f} s (recipes/score.py does it once for many runs)")
    if world_size() > 1:
        broadcast_object_list(result)
    scored = datasets.DatasetDict(data)
    for split, columns in result[0].items():
        for name in DIFFICULTY:
            scored[split] = scored[split].add_column(name, columns[name])
    return scored


def sample_evaluator(
    validation: datasets.Dataset,
    pool: datasets.Dataset,
    processor: Any,
    data_args: DataArguments,
    args: CurriculumTrainingArguments,
) -> RetrievalEvaluator:
    """An evaluator over a fixed sample of the validation pairs and of the pool, to watch training cheaply."""
    generator = np.random.default_rng(0)
    pairs = validation.select(np.sort(generator.permutation(len(validation))[: data_args.eval_pairs]))
    wanted, ids = set(pairs["id"][:]), pool["id"][:]
    own = [row for row, one in enumerate(ids) if one in wanted]
    others = [row for row in generator.permutation(len(ids)).tolist() if ids[row] not in wanted]
    taken = len(others) if data_args.eval_pool is None else max(0, data_args.eval_pool - len(own))
    rows = sorted(own + others[:taken])
    return RetrievalEvaluator(
        pairs,
        pool.select(rows),
        processor=processor,
        pool_name="full" if len(rows) == len(pool) else "sample",
        batch_size=args.per_device_eval_batch_size,
        bootstrap_samples=0,
    )


def peak_memory_bytes() -> int:
    """Peak memory of this process on its accelerator, or of the process itself where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        main(sys.argv[1:])
    except (ValueError, json.JSONDecodeError) as error:
        exit_with(error)
