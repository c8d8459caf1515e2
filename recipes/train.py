"""Train a text-molecule retrieval model by a curriculum.

    accelerate launch recipes/train.py recipes/demo.yaml [--data_dir D] [--output_dir O] [--any_argument value]

The recipe comes first, the command line wins over it, `--help` lists every argument, `--dry_run` shows the plan and
trains nothing. The output folder holds the model and its processor (with an adapter: the model merged with it, and the
adapter alone in adapter/), metrics.json, ranks.npz (one rank a query), plan.json, train_summary.json, plots/ and a
README.md.
"""

import copy
import os
import shlex
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import torch
import torch.distributed as dist
import transformers
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from transformers import EarlyStoppingCallback, set_seed

from class_hf import CurriculumPlan, CurriculumTrainer, CurriculumTrainingArguments, RetrievalEvaluator
from class_hf.backbones.adapters import check_same_adapter, merge_adapter, save_adapter, trainable_parameters
from class_hf.backbones.registry import build_loss, build_model
from class_hf.config.arguments import DataArguments, ModelArguments
from class_hf.config.parsing import parse_recipe, run_script
from class_hf.config.recipe_files import program
from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.demo.dataset import DEMO_DESCRIPTION
from class_hf.data.frozen_towers import cache_frozen
from class_hf.data.prepare import prepare_molecules, prepare_pairs
from class_hf.data.source import load_data
from class_hf.difficulty.scorer import DIFFICULTY_COLUMNS, DifficultyScorer
from class_hf.evaluation.retrieval_evaluator import captions_of_other_splits
from class_hf.plots.retrieval import plot_retrievals
from class_hf.plots.run import plot_loss, plot_plan, plot_ranks, plot_validation
from class_hf.plots.tables import metrics_line, plan_table, summary_table
from class_hf.training.planning import plan_from_arguments
from class_hf.utils.distributed import world_size
from class_hf.utils.environment import environment
from class_hf.utils.files import write_arrays, write_json


@dataclass
class RunArguments:
    """What to do with the recipe."""

    dry_run: bool = field(default=False, metadata={"help": "Show the plan, and train nothing."})
    license: str | None = field(
        default=None, metadata={"help": "Licence of the model for its card, as the Hub spells it; that of known data."}
    )


def main(argv: list[str]) -> None:
    classes = (DataArguments, ModelArguments, RunArguments, CurriculumTrainingArguments)
    recipe, data_args, model_args, run_args, args = parse_recipe(argv, classes, prog=program("train"))
    if args.output_dir in (None, "trainer_output"):  # the latter is transformers' own default
        args.output_dir = str(Path("outputs") / recipe.stem)
    output = Path(args.output_dir)
    resume = resume_argument(args.resume_from_checkpoint)
    start_lost_processes(args)
    if resume is None and not run_args.dry_run:
        refuse_started(output)
    if args.device.type == "cpu" and torch.get_num_threads() == 1 and (os.cpu_count() or 1) > args.world_size:
        print_once(
            args,
            "running on one thread (accelerate's default on a CPU): --config_file recipes/accelerate/cpu.yaml "
            "right after `accelerate launch` uses all cores",
        )
    if not sys.stderr.isatty() or not args.should_log:
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
        args.disable_tqdm = True

    with args.main_process_first(desc="loading the data"):
        data, load_report = load_data(data_args.data_dir, data_args.dataset_name, data_args.demo, data_args.on_error)
    missing = [name for name in ("train", "validation", "pool") if name not in data]
    if missing:
        raise ValueError(f"the data has no {missing}; it has {sorted(data)}. Training needs train and validation.")
    if data_args.max_train_pairs is not None:
        data["train"] = data["train"].select(range(min(data_args.max_train_pairs, len(data["train"]))))
    print_once(
        args,
        f"{len(data['train']):,} training pairs, {len(data['validation']):,} validation pairs, "
        f"{len(data['pool']):,} candidates",
    )
    if load_report is not None:
        print_once(args, str(load_report))
    if "synthetic" in data_card(data["train"], data_args):
        print_once(args, DEMO_DESCRIPTION)
    # Wrong settings fail here, in the first seconds: the sizes of a plan do not depend on which pairs are easy.
    outline = plan_without_difficulty(args, data["train"])
    if run_args.dry_run:
        if args.should_save:
            print(plan_table(outline))
            print(f"drawn in {plot_plan(outline, output / 'plots' / 'dry_run_plan.png')}")
        return

    set_seed(args.seed)
    model, processor = build_model(model_args)
    with args.main_process_first(desc="preparing the data"):
        started = time.perf_counter()
        prepared = {
            split: prepare_pairs(data[split], processor, data_args.num_proc) for split in data if split != "pool"
        }
        pool = prepare_molecules(data["pool"], processor, data_args.num_proc)
        preparation_seconds = time.perf_counter() - started
    for side in ("text", "molecule"):
        if not getattr(model.config, f"freeze_{side}", False):
            continue
        if side == "text" and data_args.sentence_dropout > 0.0:
            print_once(args, "the frozen text tower runs in every step, since sentence_dropout changes its captions")
            continue
        with args.main_process_first(desc=f"encoding {side}s once"):
            started = time.perf_counter()
            encode = partial(cache_frozen, model=model, processor=processor, side=side, device=args.device)
            prepared = {split: encode(pairs) for split, pairs in prepared.items()}
            if side == "molecule":
                pool = encode(pool)
            seconds = time.perf_counter() - started
            print_once(args, f"the frozen {side} tower ran once over all {side}s, in {seconds:.1f} s")
    learning, parameters = trainable_parameters(model)
    print_once(args, f"prepared in {preparation_seconds:.1f} s; {parameters:,} parameters, {learning:,} of them learn")
    difficulty_file = output / "difficulty.npz"
    if args.curriculum_order in ("easy_first", "hard_first") and "difficulty" not in prepared["train"].column_names:
        prepared |= score(prepared, data_args, args, difficulty_file if resume is not None else None)

    trainer = CurriculumTrainer(
        model=model,
        args=args,
        train_dataset=prepared["train"],
        data_collator=TextMoleculeCollator(processor, data_args.sentence_dropout, seed=args.seed),
        processing_class=processor,
        loss=build_loss(model_args, label_smoothing=args.contrastive_label_smoothing, seed=args.seed),
        evaluator=RetrievalEvaluator.sample(
            prepared["validation"],
            pool,
            num_pairs=data_args.eval_pairs,
            num_candidates=data_args.eval_pool,
            processor=processor,
            batch_size=args.per_device_eval_batch_size,
            bootstrap_samples=0,
        ),
    )
    if model_args.early_stopping_patience is not None:
        trainer.args.restore_callback_states_from_checkpoint = True  # or a resumed run would count from zero
        trainer.add_callback(EarlyStoppingCallback(model_args.early_stopping_patience))
    plan = trainer.plan
    assert plan is not None
    if isinstance(model, PeftModel) and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError(
            "adapters were not tried with FSDP or DeepSpeed. Use recipes/accelerate/several_gpus.yaml: beside an "
            "adapter there is little to split."
        )
    if resume is not None:
        checkpoint, _ = trainer.check_resume(resume)
        if isinstance(model, PeftModel):
            check_same_adapter(model, checkpoint)
    print_once(args, f"{plan}")
    if args.should_save:
        write_json(output / "plan.json", plan.to_dict())
        plot_plan(plan, output / "plots" / "plan.png")
        if load_report is not None:
            (output / "load_report.json").write_text(load_report.to_json() + "\n", encoding="utf-8")
        if "difficulty" in prepared["train"].column_names:
            # A resumed run must find the very same numbers, also on another machine.
            write_arrays(difficulty_file, **difficulty_arrays(prepared))

    trainer.model.to(args.device)  # FSDP and DeepSpeed leave it on the host until training begins
    untrained = trainer.evaluator(trainer.model)["pools"]["split"]["text_to_molecule"]
    trainer.train(resume)
    wall_seconds = trainer.curriculum.wall_seconds
    if isinstance(model, PeftModel):
        if args.should_save:
            base = model_args.model_name_or_path or model_args.towers()
            save_adapter(model, output / "adapter", base=base, processor=processor)
        # What follows, the numbers of the card included, is of the model that most will load.
        trainer.model = merge_adapter(model)
    trainer.save_model(_internal_call=True)  # a push waits for the card

    # In full, in both pools; the sample above was for watching.
    evaluator = RetrievalEvaluator(
        prepared["validation"],
        pool,
        captions=captions_of_other_splits(prepared, "validation"),
        processor=processor,
        batch_size=args.per_device_eval_batch_size,
    )
    embeddings = evaluator.embeddings(trainer.model)
    if args.should_save:
        ranks = evaluator.ranks(embeddings)
        metrics = evaluator.report(ranks)
        metrics["untrained"] = {"pool": "split", "sample": True, "text_to_molecule": untrained}
        write_json(output / "metrics.json", metrics)
        # Of every query, for paired comparisons between runs.
        write_arrays(
            output / "ranks.npz",
            id=np.array(prepared["validation"]["id"][:]),
            **{
                f"{pool}.{direction}": values
                for pool, both in ranks.items()
                for direction, (values, _) in both.items()
            },
        )
        history = trainer.state.log_history
        write_json(output / "log_history.json", history)
        steps = trainer.state.global_step
        summary = {
            "wall_seconds": round(wall_seconds, 3),
            "evaluation_seconds": round(sum(entry.get("eval_runtime", 0.0) for entry in history), 3),
            "steps": steps,
            "pairs_seen": steps * plan.batch_size,
            "pairs_per_second": round(steps * plan.batch_size / wall_seconds, 1),
            "peak_memory_bytes": peak_memory_bytes(args.device),
            "preparation_seconds": round(preparation_seconds, 3),
            "steps_without_curriculum": plan.full_steps,
            "parameters": parameters,
            "trainable_parameters": learning,
            "processes": args.world_size,
            "resumed": resume is not None,
            "environment": environment(),
        }
        write_json(output / "train_summary.json", summary)
        plot_loss(history, output / "plots" / "loss.png")
        watched = (len(trainer.evaluator.pool), len(trainer.evaluator.pairs))
        plot_validation(history, output / "plots" / "validation.png", *watched)
        plot_ranks(ranks, output / "plots" / "ranks.png", "validation")
        plot_retrievals(embeddings, ranks, evaluator.pairs, evaluator.pool, output / "plots" / "retrievals.png")
        trainer.create_model_card(
            **data_card(data["train"], data_args),
            finetuned_from=base_models(model_args),
            license=run_args.license,
            metrics=metrics,
            summary=summary,
            command=f"accelerate launch recipes/train.py {shlex.join(argv)}",
        )
        print(summary_table(metrics))
        print(metrics_line(f"untrained, split sample ({untrained['candidates']:,})", untrained))
        print(f"everything is in {output}")
    if args.push_to_hub:
        trainer.push_to_hub()
    if dist.is_initialized():
        # gloo can abort when one process leaves while another still talks to it.
        dist.barrier()
        dist.destroy_process_group()


def resume_argument(value: str | bool | None) -> str | bool | None:
    """`true` is True, `false` and nothing are None, the rest is a path."""
    named: dict[str, str | bool | None] = {"true": True, "false": None, "none": None, "": None}
    return named.get(str(value if value is not None else "").lower(), value)


def refuse_started(output: Path) -> None:
    """A second run in the same folder would mix its checkpoints with the first one's."""
    if (output / "train_summary.json").exists():
        raise ValueError(f"{output} already holds a finished run. Choose another --output_dir, or remove it.")
    if any(output.glob("checkpoint-*")):
        raise ValueError(
            f"{output} holds a run that was begun. Go on with it by --resume_from_checkpoint true, choose another "
            "--output_dir, or remove it."
        )


def plan_without_difficulty(args: CurriculumTrainingArguments, pairs: datasets.Dataset) -> CurriculumPlan:
    """The plan's sizes, before any pair is scored or compared."""
    args = copy.copy(args)
    args.curriculum_group_size = 1
    return plan_from_arguments(args, pairs.select_columns(["id"]).add_column("difficulty", np.zeros(len(pairs))))


def difficulty_arrays(prepared: dict[str, datasets.Dataset]) -> dict[str, np.ndarray]:
    """The difficulty columns of all splits that have them, as `split.column`."""
    return {
        f"{split}.{name}": np.asarray(pairs[name][:])
        for split, pairs in prepared.items()
        for name in DIFFICULTY_COLUMNS
        if name in pairs.column_names
    }


def data_card(train: datasets.Dataset, data_args: DataArguments) -> dict[str, Any]:
    """What the card says of the data."""
    if DEMO_DESCRIPTION in (train.info.description or ""):
        return {"dataset": "class_hf demo", "synthetic": True}
    name = data_args.dataset_name or (Path(data_args.data_dir).resolve().name if data_args.data_dir else "ChEBI-20")
    return {"dataset": name}


def base_models(model_args: ModelArguments) -> list[str] | None:
    """The Hub ids among what training begins with."""
    if model_args.model_name_or_path is not None:
        return [model_args.model_name_or_path] if not Path(model_args.model_name_or_path).exists() else None
    towers = model_args.towers().values()
    own = ("lexical", "fingerprint", "graph", "fused")
    return [name for name in towers if name not in own and ":" not in name and not Path(name).exists()] or None


def start_lost_processes(args: CurriculumTrainingArguments) -> None:
    """Starts the processes that `accelerate launch --num_processes N` was asked for and, on a CPU, does not start.

    accelerate leaves several processes on a CPU to mpirun and without it starts one, saying nothing. The number is
    only on its own command line; torch's launcher then takes this process's place.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if not launched or "RANK" in os.environ or args.world_size > 1:
        return
    words = [word for part in psutil.Process(os.getppid()).cmdline() for word in part.split("=")]
    number = words[words.index("--num_processes") + 1] if "--num_processes" in words[:-1] else ""
    if not number.isdigit():
        raise ValueError(
            "accelerate was asked for several processes and started one, as it does on a CPU. Launch with "
            "`accelerate launch --config_file recipes/accelerate/cpu_2_processes.yaml --num_processes N ...`."
        )
    print(f"accelerate started 1 of {number} processes, as it does on a CPU; starting them with torchrun", flush=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={number}"]
    os.execv(sys.executable, [sys.executable, *launcher, *sys.argv])


def print_once(args: CurriculumTrainingArguments, text: str) -> None:
    """Prints once, not once a process."""
    if args.should_log:
        print(text, flush=True)


def score(
    prepared: dict[str, datasets.Dataset],
    data_args: DataArguments,
    args: CurriculumTrainingArguments,
    earlier: Path | None,
) -> dict[str, datasets.Dataset]:
    """Train and validation with the difficulty columns; the main process computes or reads them, all receive."""
    result: list[Any] = [None]
    if args.process_index == 0:
        if earlier is not None and earlier.is_file():
            with np.load(earlier) as arrays:
                result = [dict(arrays)]
        else:
            print_once(args, f"scoring difficulty: {', '.join(data_args.difficulty_definition)}")
            started = time.perf_counter()
            scorer = DifficultyScorer(
                data_args.difficulty_definition,
                combination=data_args.difficulty_combination,
                text_weight=data_args.difficulty_text_weight,
                seed=args.seed,
            ).fit(prepared["train"])
            columns = ("id", "smiles", "description")
            result = [
                {
                    f"{split}.{name}": values
                    for split in ("train", "validation")
                    for name, values in scorer(prepared[split].select_columns(columns)[:]).items()
                }
            ]
            seconds = time.perf_counter() - started
            print_once(args, f"scored in {seconds:.1f} s (recipes/score.py does it once for many runs)")
    if world_size() > 1:
        broadcast_object_list(result)
    scored = {}
    for split in ("train", "validation"):
        scored[split] = prepared[split]
        for name in DIFFICULTY_COLUMNS:
            scored[split] = scored[split].add_column(name, list(result[0][f"{split}.{name}"]))
    return scored


def peak_memory_bytes(device: torch.device) -> int | None:
    """Peak memory of this process on its accelerator, or of the process itself; None where it cannot be known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Huge pages for torch's large blocks: gradients of embedding tables are made anew at each step, and a quarter of
    # the time would go into their 4 KiB pages.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    run_script(main)
